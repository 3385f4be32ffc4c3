//! How far the containers of a release have come: a stream from `workspace status --follow` in each of them.
//!
//! It is followed only while a release is on its way; what is settled is left to Docker's own health checks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use tokio::task::JoinHandle;
use ulid::Ulid;

use super::lock;
use super::situation::{Inside, InsidePhase};
use crate::engine::Engine;

/// What is asked inside.
const COMMAND: [&str; 4] = ["workspace", "status", "--follow", "--json"];
/// Before asking again where the stream broke off.
const PAUSE: Duration = Duration::from_millis(300);

/// Part of what `workspace status --json` prints.
#[derive(Debug, Deserialize)]
struct Line {
    phase: String,
    since: Timestamp,
    #[serde(default)]
    released: bool,
    #[serde(default)]
    row: Option<Ulid>,
    #[serde(default)]
    error: Option<String>,
}

impl Line {
    fn inside(&self) -> Inside {
        let phase = match self.phase.as_str() {
            "install" => InsidePhase::Install,
            "build" => InsidePhase::Build,
            "held" => InsidePhase::Held,
            "release" => InsidePhase::Release,
            "start" => InsidePhase::Start,
            "ready" => InsidePhase::Ready,
            "stopping" | "failed" => InsidePhase::Ending,
            _ => InsidePhase::Fetch,
        };
        let (row, error) = (self.row, self.error.clone());
        Inside { phase, since: self.since, released: self.released, row, error }
    }
}

/// Streams by container.
#[derive(Debug, Default)]
pub struct Follows {
    tasks: Mutex<BTreeMap<String, JoinHandle<()>>>,
    seen: Arc<Mutex<BTreeMap<String, Inside>>>,
}

impl Follows {
    /// How far a container has come, if it is followed.
    pub fn inside(&self, id: &str) -> Option<Inside> {
        lock(&self.seen).get(id).cloned()
    }

    /// Follows a container, unless it is followed already. `wake` is called at each change.
    pub fn follow(&self, engine: &Engine, id: &str, wake: impl Fn() + Send + 'static) {
        let mut tasks = lock(&self.tasks);
        if tasks.get(id).is_some_and(|task| !task.is_finished()) {
            return;
        }
        let (engine, seen, container) = (engine.clone(), Arc::clone(&self.seen), id.to_owned());
        let task = tokio::spawn(async move {
            loop {
                if let Ok(mut lines) = engine.follow(&container, &COMMAND).await {
                    while let Some(line) = lines.next().await {
                        let Ok(line) = serde_json::from_str::<Line>(&line) else { continue };
                        let inside = line.inside();
                        let earlier = lock(&seen).insert(container.clone(), inside.clone());
                        if earlier.as_ref() != Some(&inside) {
                            wake();
                        }
                    }
                }
                // Ended with the container, or broken off.
                if engine
                    .inspect(&container)
                    .await
                    .is_ok_and(|detail| detail.state == crate::engine::ContainerState::Running)
                {
                    tokio::time::sleep(PAUSE).await;
                } else {
                    break;
                }
            }
            lock(&seen).remove(&container);
            wake();
        });
        tasks.insert(id.to_owned(), task);
    }

    /// Ends the streams of containers that are not to be followed any more.
    pub fn keep(&self, wanted: impl Fn(&str) -> bool) {
        let mut ended = BTreeSet::new();
        lock(&self.tasks).retain(|id, task| {
            let keep = wanted(id) && !task.is_finished();
            if !keep {
                task.abort();
                ended.insert(id.clone());
            }
            keep
        });
        lock(&self.seen).retain(|id, _| !ended.contains(id));
    }

    /// Ends one stream.
    pub fn end(&self, id: &str) {
        self.keep(|followed| followed != id);
    }
}

impl Drop for Follows {
    fn drop(&mut self) {
        self.keep(|_| false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_later_releases_are_understood() {
        let line = r#"{"selector":"a@1","phase":"held","since":"2026-01-01T00:00:00Z","released":true,"new":[1]}"#;
        let inside = serde_json::from_str::<Line>(line).unwrap().inside();
        assert_eq!((inside.phase, inside.released), (InsidePhase::Held, true));
    }
}
