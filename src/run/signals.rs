//! The signals that a container's first process is sent.

use std::io;

use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind, signal};

/// The streams of all signals that mean something here.
pub(super) struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    quit: unix::Signal,
    hangup: unix::Signal,
    user_1: unix::Signal,
    user_2: unix::Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            user_1: signal(SignalKind::user_defined1())?,
            user_2: signal(SignalKind::user_defined2())?,
        })
    }

    /// The next signal that asks to stop.
    pub(super) async fn stop(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.quit.recv() => Signal::QUIT,
        }
    }

    /// The next signal of any kind, and whether it asks to stop. The others are the application's business.
    pub(super) async fn next(&mut self) -> (Signal, bool) {
        tokio::select! {
            _ = self.terminate.recv() => (Signal::TERM, true),
            _ = self.interrupt.recv() => (Signal::INT, true),
            _ = self.quit.recv() => (Signal::QUIT, true),
            _ = self.hangup.recv() => (Signal::HUP, false),
            _ = self.user_1.recv() => (Signal::USR1, false),
            _ = self.user_2.recv() => (Signal::USR2, false),
        }
    }
}
