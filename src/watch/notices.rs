//! Hearing of changes: the system's own notices of the folders that hold source, or a look now and then where there are none.
//!
//! Folders that are left out are not watched, so 200,000 ignored files cost nothing. An event only means "look there": what
//! is missed or made up costs a look and nothing else.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use notify::event::{AccessKind, AccessMode};
use notify::{ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use super::changes::Changes;
use crate::format::tree::is_state;

/// `ENOSPC` and `EMFILE`, by which Linux says that one of the limits of inotify is reached.
const LIMITS: [i32; 2] = [28, 24];

/// Why folders can't be watched.
#[derive(Debug, thiserror::Error)]
pub enum NoticeError {
    /// A limit of the system is reached.
    #[error("the system does not watch that many folders: {setting} is {value}")]
    Limit {
        /// The name of the limit.
        setting: &'static str,
        /// What it is.
        value: String,
    },
    /// Anything else.
    #[error("the system can't watch `{}`", path.display())]
    System {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: notify::Error,
    },
}

impl NoticeError {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Limit { setting, .. } => {
                Some(format!("`sudo sysctl {setting}=524288` raises it until the next start"))
            }
            Self::System { .. } => None,
        }
    }
}

/// What the system's thread writes and the watch reads.
#[derive(Debug, Default)]
struct Heard {
    changes: Changes,
    /// Files that are left out: what happens to them is nobody's business.
    left_out: HashSet<PathBuf>,
}

#[derive(Debug, Default)]
struct Shared {
    heard: Mutex<Heard>,
    wake: Notify,
}

impl Shared {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The notices of one tree.
pub struct Notices {
    root: PathBuf,
    /// The folder of the repository around it.
    git: Option<PathBuf>,
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    shared: Arc<Shared>,
}

impl Notices {
    /// Of the tree at `root`, and of what `git`, the folder of its repository, has to say about it. Nothing is watched yet.
    pub fn new(root: &Path, git: Option<&Path>) -> Result<Self, NoticeError> {
        let shared = Arc::new(Shared::default());
        let (told, tree, repository) = (Arc::clone(&shared), root.to_owned(), git.map(Path::to_owned));
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            hear(&told, &tree, repository.as_deref(), event);
        });
        let watcher = watcher.map_err(|error| explained(root, error))?;
        Ok(Self {
            root: root.to_owned(),
            git: git.map(Path::to_owned),
            watcher: Some(watcher),
            watched: BTreeSet::new(),
            shared,
        })
    }

    /// None: changes have to be looked for.
    pub fn none(root: &Path) -> Self {
        let shared = Arc::default();
        Self { root: root.to_owned(), git: None, watcher: None, watched: BTreeSet::new(), shared }
    }

    /// Whether the system tells of changes.
    pub fn are_there(&self) -> bool {
        self.watcher.is_some()
    }

    /// Watches these folders of the tree, as [`crate::source::Selection::folders`] has them, and no others. True: some are new, and what happened in them before
    /// this moment was not heard of.
    pub fn follow(&mut self, folders: &[String]) -> Result<bool, NoticeError> {
        let Some(watcher) = &mut self.watcher else { return Ok(false) };
        let mut wanted: BTreeSet<PathBuf> = self.git.iter().flat_map(|git| [git.clone(), git.join("info")]).collect();
        let mode = if cfg!(target_os = "linux") {
            wanted.extend(folders.iter().map(|folder| self.root.join(folder)));
            RecursiveMode::NonRecursive
        } else {
            // One watch for all: these systems charge nothing for what lies below.
            wanted.insert(self.root.clone());
            RecursiveMode::Recursive
        };
        for gone in self.watched.difference(&wanted) {
            // The system forgets what is gone by itself.
            let _ = watcher.unwatch(gone);
        }
        self.watched.retain(|folder| wanted.contains(folder));
        let mut new = false;
        for folder in &wanted {
            if self.watched.contains(folder) {
                continue;
            }
            match watcher.watch(folder, mode) {
                Ok(()) => new |= self.watched.insert(folder.clone()),
                // Gone since it was looked at, which its parent tells.
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(explained(folder, error)),
            }
        }
        Ok(new)
    }

    /// What is left out of the folders that are watched.
    pub fn leave_out(&self, files: HashSet<PathBuf>) {
        self.shared.heard().left_out = files;
    }

    /// Forgets that a folder is watched, with all below it: what was made anew in its place isn't.
    pub fn forget(&mut self, folder: &Path) {
        if self.watched.contains(folder) {
            self.watched.retain(|watched| !watched.starts_with(folder));
        }
    }

    /// Waits until something is heard.
    pub async fn heard(&self) {
        self.shared.wake.notified().await;
    }

    /// Reads or changes what was heard.
    pub fn changes<T>(&self, act: impl FnOnce(&mut Changes) -> T) -> T {
        act(&mut self.shared.heard().changes)
    }
}

fn hear(shared: &Shared, root: &Path, git: Option<&Path>, event: notify::Result<Event>) {
    let now = Instant::now();
    let mut heard = shared.heard();
    match event {
        Ok(event) => {
            if event.need_rescan() {
                heard.changes.everything(now);
            } else if !is_news(event.kind) {
                return;
            }
            let paths: Vec<PathBuf> = event
                .paths
                .into_iter()
                .filter(|path| matters(path, root, git) && !heard.left_out.contains(path))
                .collect();
            if paths.is_empty() && !event.attrs.flag().is_some_and(|flag| flag == notify::event::Flag::Rescan) {
                return;
            }
            for path in paths {
                heard.changes.touched(path, now);
            }
        }
        // Whatever it was, something may have been missed.
        Err(_) => heard.changes.everything(now),
    }
    drop(heard);
    shared.wake.notify_one();
}

/// Reading is no change.
fn is_news(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

/// Of git's own files only those that say what is source; none of what downloads keep.
fn matters(path: &Path, root: &Path, git: Option<&Path>) -> bool {
    if let Some(below) = git.and_then(|git| path.strip_prefix(git).ok()) {
        return ["index", "HEAD", "config", "info/exclude"].iter().any(|file| below == Path::new(file));
    }
    let Ok(below) = path.strip_prefix(root) else { return false };
    if below == Path::new(".git") {
        return true;
    }
    !below.components().any(|part| part.as_os_str() == ".git" || part.as_os_str().to_str().is_some_and(is_state))
}

fn is_absent(error: &notify::Error) -> bool {
    match &error.kind {
        ErrorKind::PathNotFound => true,
        ErrorKind::Io(error) => {
            matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
        }
        _ => false,
    }
}

fn explained(path: &Path, error: notify::Error) -> NoticeError {
    let limit = |setting: &'static str, file: &str| {
        let value = std::fs::read_to_string(file).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned());
        NoticeError::Limit { setting, value }
    };
    let code = match &error.kind {
        ErrorKind::Io(error) => error.raw_os_error(),
        ErrorKind::MaxFilesWatch => Some(LIMITS[0]),
        _ => None,
    };
    match code {
        Some(code) if code == LIMITS[0] => {
            limit("fs.inotify.max_user_watches", "/proc/sys/fs/inotify/max_user_watches")
        }
        Some(code) if code == LIMITS[1] => {
            limit("fs.inotify.max_user_instances", "/proc/sys/fs/inotify/max_user_instances")
        }
        _ => NoticeError::System { path: path.to_owned(), source: error },
    }
}
