//! Ctrl-C: says at once that it is stopping; a second one ends the process.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cli::Context;
use crate::failure::Exit;

/// The outcome of `work`, or nothing when it was interrupted.
///
/// While `committing` is set, the outcome is waited for: what was sent may already be in force.
pub async fn unless<T>(context: &Context, committing: &AtomicBool, work: impl Future<Output = T>) -> Option<T> {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        outcome = &mut work => return Some(outcome),
        () = signal() => {}
    }
    if !committing.load(Ordering::SeqCst) {
        context.output.note("Stopping");
        return None;
    }
    context.output.note("Stopping, once it is known whether the last step took effect; Ctrl-C again ends at once");
    tokio::select! {
        outcome = &mut work => Some(outcome),
        () = signal() => std::process::exit(i32::from(Exit::Interrupted as u8)),
    }
}

/// SIGINT or SIGTERM. Where neither can be listened to, never.
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
