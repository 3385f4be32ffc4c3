//! What has changed and when it is at rest. Pure: the time is an argument.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A path counts as written when nothing has happened to it for so long.
pub const REST: Duration = Duration::from_millis(75);
/// One that is written without a pause is waited for no longer than this.
const CAP: Duration = Duration::from_secs(1);
/// Above this many, single paths no longer matter: everything is looked at.
const MAX_PATHS: usize = 10_000;

/// Paths that something happened to, until they are looked at.
#[derive(Debug, Default)]
pub struct Changes {
    paths: HashMap<PathBuf, Times>,
    /// Everything has to be looked at: events may have been missed.
    everything: Option<Times>,
    /// When the first of all this happened.
    first: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Times {
    first: Instant,
    last: Instant,
}

impl Times {
    fn at(now: Instant) -> Self {
        Self { first: now, last: now }
    }

    fn rests_at(self) -> Instant {
        (self.last + REST).min(self.first + CAP)
    }
}

/// What is to be looked at.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken {
    /// These paths.
    pub paths: Vec<PathBuf>,
    /// And everything else.
    pub everything: bool,
    /// When the first change was heard of.
    pub since: Option<Instant>,
}

impl Changes {
    /// Something happened to a path.
    pub fn touched(&mut self, path: PathBuf, now: Instant) {
        self.first.get_or_insert(now);
        if self.paths.len() >= MAX_PATHS {
            self.paths.clear();
            self.everything(now);
        }
        self.paths.entry(path).or_insert_with(|| Times::at(now)).last = now;
    }

    /// Nobody knows what happened.
    pub fn everything(&mut self, now: Instant) {
        self.first.get_or_insert(now);
        self.everything.get_or_insert_with(|| Times::at(now)).last = now;
    }

    /// When all of it is at rest, if nothing more happens. Nothing: there is nothing to wait for.
    pub fn rests_at(&self) -> Option<Instant> {
        self.paths.values().chain(&self.everything).map(|times| times.rests_at()).max()
    }

    /// When the first of what is not looked at yet was heard of.
    pub fn since(&self) -> Option<Instant> {
        self.first
    }

    /// Hands out what has changed, and begins anew.
    pub fn take(&mut self) -> Taken {
        let paths = std::mem::take(&mut self.paths).into_keys().collect();
        Taken { paths, everything: self.everything.take().is_some(), since: self.first.take() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn a_save_rests_after_its_last_write() {
        let begin = Instant::now();
        let mut changes = Changes::default();
        assert_eq!(changes.rests_at(), None);
        changes.touched("a".into(), begin);
        changes.touched("a".into(), begin + milliseconds(50));
        assert_eq!(changes.rests_at(), Some(begin + milliseconds(125)));
        changes.touched("b".into(), begin + milliseconds(100));
        assert_eq!(changes.rests_at(), Some(begin + milliseconds(175)));
        let mut taken = changes.take();
        taken.paths.sort();
        assert_eq!(taken, Taken { paths: vec!["a".into(), "b".into()], everything: false, since: Some(begin) });
        assert_eq!(changes.rests_at(), None);
    }

    #[test]
    fn the_cap_bounds_only_what_is_written_without_a_pause() {
        let begin = Instant::now();
        let mut changes = Changes::default();
        for step in 0..50 {
            changes.touched("log".into(), begin + milliseconds(50 * step));
        }
        assert_eq!(changes.rests_at(), Some(begin + CAP));
        // Another path each time, for longer than the cap: a tree that is being rewritten is one change.
        let mut changes = Changes::default();
        for step in 0..50 {
            changes.touched(format!("{step}").into(), begin + milliseconds(50 * step));
        }
        assert_eq!(changes.rests_at(), Some(begin + milliseconds(50 * 49 + 75)));
    }

    #[test]
    fn very_many_paths_are_everything() {
        let begin = Instant::now();
        let mut changes = Changes::default();
        for number in 0..=MAX_PATHS {
            changes.touched(format!("{number}").into(), begin);
        }
        assert_eq!(changes.rests_at(), Some(begin + REST));
        // One that is written on and on is bounded as ever.
        for step in 0..50 {
            changes.touched("log".into(), begin + milliseconds(50 * step));
        }
        assert_eq!(changes.rests_at(), Some(begin + CAP));
        let taken = changes.take();
        assert!(taken.everything && taken.paths.len() < 10);
    }
}
