//! All folders, on all cores: whoever has looked into one takes the next, and hands out what lies deeper.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Scope, scope};

use super::{Folder, Found, Walk};
use crate::budget::threads;
use crate::source::SourceError;

/// So many folders must wait before another thread is worth its start.
const WAITING: usize = 8;

/// What is left to do, and what came of it.
struct Shared<'w> {
    walk: &'w Walk<'w>,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Folders that nobody has looked into.
    waiting: Vec<Folder>,
    /// How many are looking into one.
    busy: usize,
    /// How many there are.
    threads: usize,
    found: Found,
    /// The first by path, of those that happened.
    failure: Option<(String, SourceError)>,
}

impl Shared<'_> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A folder, once there is one; nothing when all is done.
    fn next(&self) -> Option<Folder> {
        let mut state = self.state();
        loop {
            if state.failure.is_some() || (state.waiting.is_empty() && state.busy == 0) {
                return None;
            }
            if let Some(folder) = state.waiting.pop() {
                state.busy += 1;
                return Some(folder);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn work<'s>(&'s self, scope: &'s Scope<'s, '_>) {
        let mut found = Found::default();
        let mut deeper = Vec::new();
        while let Some(folder) = self.next() {
            let prefix = folder.prefix.clone();
            let looked = self.walk.look_into(folder, &mut found, &mut deeper);
            let mut state = self.state();
            state.busy -= 1;
            // Whoever hands out one folder takes it up himself.
            let news = deeper.len() > 1 || looked.is_err();
            state.waiting.append(&mut deeper);
            let news = news || (state.busy == 0 && state.waiting.is_empty());
            if let Err(error) = looked
                && state.failure.as_ref().is_none_or(|(first, _)| prefix < *first)
            {
                state.failure = Some((prefix, error));
            }
            if state.waiting.len() >= WAITING && state.threads < threads() {
                state.threads += 1;
                scope.spawn(|| self.work(scope));
            }
            drop(state);
            if news {
                self.changed.notify_all();
            }
        }
        self.state().found.join(found);
    }
}

/// Looks into these folders and into what lies deeper.
pub(super) fn walk(walk: &Walk<'_>, folders: Vec<Folder>, found: &mut Found) -> Result<(), SourceError> {
    let state = State { waiting: folders, busy: 0, threads: 1, found: std::mem::take(found), failure: None };
    let shared = Shared { walk, state: Mutex::new(state), changed: Condvar::new() };
    scope(|scope| shared.work(scope));
    let state = shared.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    *found = state.found;
    match state.failure {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}
