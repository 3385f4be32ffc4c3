//! What long operations tell while they run.
//!
//! The engine knows only the small [`Observer`] trait; bars are drawn here, on a terminal, after 250 ms and at most ten
//! times a second. Elsewhere a line every ten seconds says that it goes on.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Output, size};

/// What an operation is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phase {
    /// A verb in the present: `Uploading`.
    pub verb: &'static str,
    /// Bytes to do, if known.
    pub total: Option<u64>,
}

/// Hears what an operation does. Called from several threads.
pub trait Observer: Send + Sync {
    /// A new phase begins.
    fn phase(&self, phase: Phase);
    /// So many more bytes are done.
    fn advance(&self, bytes: u64);
    /// Something the person ought to look at.
    fn warn(&self, text: &str);
    /// Something worth a line.
    fn note(&self, text: &str);
    /// The operation has ended; nothing may stay on the screen.
    fn finish(&self);
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn phase(&self, _: Phase) {}
    fn advance(&self, _: u64) {}
    fn warn(&self, _: &str) {}
    fn note(&self, _: &str) {}
    fn finish(&self) {}
}

const SHOW_AFTER: Duration = Duration::from_millis(250);
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Draws a bar on a terminal, or writes a line now and then.
#[derive(Debug)]
pub struct TerminalObserver {
    output: Output,
    draw: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    bar: Option<ProgressBar>,
    verb: &'static str,
    total: Option<u64>,
    done: u64,
    began: Instant,
    last_line: Instant,
}

impl TerminalObserver {
    /// With `draw`, a bar; without, lines.
    pub fn new(output: Output, draw: bool) -> Self {
        let now = Instant::now();
        let state = State { bar: None, verb: "Working", total: None, done: 0, began: now, last_line: now };
        Self { output, draw, state: Mutex::new(state) }
    }

    fn with(&self, act: impl FnOnce(&mut State)) {
        // A poisoned lock means that a thread panicked while drawing: the numbers are still usable.
        act(&mut self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }

    fn above_the_bar(&self, say: impl FnOnce()) {
        self.with(|state| match &state.bar {
            Some(bar) => bar.suspend(say),
            None => say(),
        });
    }
}

fn bar(total: Option<u64>, verb: &'static str, done: u64) -> ProgressBar {
    let bar = match total {
        Some(total) => ProgressBar::new(total),
        None => ProgressBar::new_spinner(),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
    let template = if total.is_some() {
        "{msg} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}"
    } else {
        "{spinner} {msg} {binary_bytes} {binary_bytes_per_sec}"
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(verb);
    bar.set_position(done);
    bar
}

impl Observer for TerminalObserver {
    fn phase(&self, phase: Phase) {
        self.with(|state| {
            if let Some(bar) = state.bar.take() {
                bar.finish_and_clear();
            }
            state.verb = phase.verb;
            state.total = phase.total;
            state.done = 0;
        });
    }

    fn advance(&self, bytes: u64) {
        self.with(|state| {
            state.done += bytes;
            if self.draw {
                if state.bar.is_none() && state.began.elapsed() > SHOW_AFTER {
                    state.bar = Some(bar(state.total, state.verb, state.done));
                }
                if let Some(bar) = &state.bar {
                    bar.set_position(state.done);
                }
            } else if state.last_line.elapsed() > LINE_EVERY {
                state.last_line = Instant::now();
                let of = state.total.map(|total| format!(" of {}", size(total))).unwrap_or_default();
                self.output.note(&format!("{}: {}{of}", state.verb, size(state.done)));
            }
        });
    }

    fn warn(&self, text: &str) {
        self.above_the_bar(|| self.output.warn(text));
    }

    fn note(&self, text: &str) {
        self.above_the_bar(|| self.output.note(text));
    }

    fn finish(&self) {
        self.with(|state| {
            if let Some(bar) = state.bar.take() {
                bar.finish_and_clear();
            }
        });
    }
}

impl Drop for TerminalObserver {
    fn drop(&mut self) {
        self.finish();
    }
}
