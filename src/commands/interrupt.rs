//! Ctrl-C: says at once that it is stopping; a second one ends the process.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::Context;
use crate::failure::Exit;

/// The outcome of `work`, or nothing when it was interrupted.
///
/// While `committing` is set, the outcome is waited for: what was sent may already be in force.
pub async fn unless<T>(context: &Context, committing: &AtomicBool, work: impl Future<Output = T>) -> Option<T> {
    // Before the work begins, so that no signal ends the process without a word.
    let mut signals = Signals::listen();
    let mut work = std::pin::pin!(work);
    tokio::select! {
        outcome = &mut work => return Some(outcome),
        () = signals.next() => {}
    }
    if !committing.load(Ordering::SeqCst) {
        context.output.note("Stopping");
        return None;
    }
    context.output.note("Stopping, once it is known whether the last step took effect; Ctrl-C again ends at once");
    tokio::select! {
        outcome = &mut work => Some(outcome),
        () = signals.next() => std::process::exit(i32::from(Exit::Interrupted as u8)),
    }
}

/// The same for work that commits again and again and never ends by itself: only the commit under way is waited for.
pub async fn between<T>(context: &Context, committing: &AtomicBool, work: impl Future<Output = T>) -> Option<T> {
    const LOOK: Duration = Duration::from_millis(20);
    let mut signals = Signals::listen();
    let mut work = std::pin::pin!(work);
    tokio::select! {
        outcome = &mut work => return Some(outcome),
        () = signals.next() => context.output.note("Stopping"),
    }
    while committing.load(Ordering::SeqCst) {
        tokio::select! {
            outcome = &mut work => return Some(outcome),
            () = signals.next() => std::process::exit(i32::from(Exit::Interrupted as u8)),
            () = tokio::time::sleep(LOOK) => {}
        }
    }
    None
}

/// SIGINT and SIGTERM, as far as they can be listened to.
struct Signals(Vec<Signal>);

impl Signals {
    fn listen() -> Self {
        Self(
            [SignalKind::interrupt(), SignalKind::terminate()]
                .into_iter()
                .filter_map(|kind| signal(kind).ok())
                .collect(),
        )
    }

    async fn next(&mut self) {
        if self.0.is_empty() {
            return std::future::pending().await;
        }
        futures::future::select_all(self.0.iter_mut().map(|signal| Box::pin(signal.recv()))).await;
    }
}
