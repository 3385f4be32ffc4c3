//! `upload --watch`: every save becomes a version.
//!
//! ```text
//! notices (the system's events) ─▶ changes (at rest for 75 ms?) ─▶ a look at what was touched ─▶ publish ─▶ a line
//!                                        ▲                             │ more than files changed
//!                                        └──────── wait: git works ────┴──▶ a look at everything
//! ```
//!
//! Events only say where to look. What is published is what a whole upload would have published; a look at everything comes after
//! anything that a look at single files can't tell, after missed events, and now and then.

mod changes;
mod motion;
mod notices;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::cache::Cache;
use crate::format::Hash;
use crate::names::WorkspaceName;
use crate::output::with_causes;
use crate::publish::{Look, Outcome, Publication, PublishError, Publisher, Report, Session};
use crate::source::{Provenance, SourceEntry, SourceError, SourceKind, files_with_rules, repository_folder_of};

use changes::Taken;
use motion::in_motion;
use notices::Notices;

pub use notices::NoticeError;

/// Between two looks at everything where no events come.
const POLL: Duration = Duration::from_secs(1);
/// Between two looks at everything where they do: some may have been missed.
const RESCAN: Duration = Duration::from_mins(5);
/// How long a tree in motion is waited for.
const MOTION: Duration = Duration::from_mins(1);
/// After so long it is said that it is waited for.
const SAID_AFTER: Duration = Duration::from_secs(2);
/// Between two looks whether it still moves.
const MOTION_LOOK: Duration = Duration::from_millis(50);
/// A file that is gone is looked for once more after this long: many programs save by removing and making anew.
const VANISHED: Duration = Duration::from_millis(300);
/// After so long without a version, small packs may be put together.
const QUIET: Duration = Duration::from_mins(1);
/// After so long without a change, what was learned is kept on disk.
const KEEP: Duration = Duration::from_secs(5);
/// Between two tries at a store that is away, at first and at most.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// Who hears of what a watch does.
pub trait Teller {
    /// The folder was published for the first time, or was found to be published already.
    fn began(&self, report: &Report, after: Duration);
    /// A version was published; which paths made it, and how long after the first change.
    fn published(&self, report: &Report, changed: &Changed, after: Duration);
    /// Something worth a line.
    fn note(&self, text: &str);
    /// Something that ought to be looked at, and what can be done about it.
    fn warn(&self, text: &str, hint: Option<&str>);
    /// Somebody else has published: replace it with this folder?
    fn replaces(&self, question: &str) -> bool;
}

/// What made a version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    /// Some of the paths that were changed, made or removed.
    pub some: Vec<String>,
    /// How many there are.
    pub count: usize,
}

/// Why a watch ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// Nothing more can be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// Somebody else publishes the same workspace.
    #[error(
        "`{name}` is at version {found}, which was published by somebody else; this folder was last version {last}"
    )]
    Overtaken {
        /// The workspace.
        name: WorkspaceName,
        /// What is current.
        found: u64,
        /// What this watch published last.
        last: u64,
    },
}

/// A watch on one folder.
pub struct Watch<'a> {
    /// Publishes.
    pub publisher: &'a Publisher<'a>,
    /// What, and under which conditions.
    pub publication: Publication,
    /// Where what was learned is kept.
    pub cache: &'a Cache,
    /// Who hears of it.
    pub teller: &'a dyn Teller,
    /// Where a version comes from, asked anew whenever the repository has moved.
    pub provenance: &'a dyn Fn() -> Provenance,
}

/// What the watch knows.
struct State {
    session: Session,
    notices: Notices,
    git: Option<PathBuf>,
    /// What was published last: path and digest.
    published: Vec<(String, Option<Hash>, bool)>,
    last: Instant,
    looked: Instant,
    /// What was learned since it was kept.
    unsaved: bool,
    /// The repository's motion that is no longer waited for.
    given_up: Option<&'static str>,
    retry: Option<Duration>,
    /// The store is away, and that was said.
    away: bool,
    /// What ignore files and configuration outside of the folder looked like.
    rules: Vec<(PathBuf, Option<SystemTime>)>,
    /// Since when git's motion is waited for, once that was said.
    waits: bool,
    provenance: Option<Provenance>,
    told: Option<String>,
}

/// What is to be done after a publication failed.
enum After {
    Again(Duration),
    WhenSomethingChanges,
    End(WatchError),
}

impl Watch<'_> {
    /// Watches until something makes it impossible. To be dropped at any time; [`Session`]s leave nothing half done.
    pub async fn run(mut self) -> Result<std::convert::Infallible, WatchError> {
        let look =
            tokio::task::block_in_place(|| Look::take(&self.publication.folder, &self.publication.source, self.cache))?;
        let root = look.selection.root.clone();
        let git = repository_folder_of(&root);
        let notices = self.listen(&root, git.as_deref());
        let mut state = State {
            session: Session::new(look),
            notices,
            git,
            published: Vec::new(),
            last: Instant::now(),
            looked: Instant::now(),
            unsaved: true,
            given_up: None,
            retry: None,
            away: false,
            rules: Vec::new(),
            waits: false,
            provenance: None,
            told: None,
        };
        state.notices.changes(|changes| changes.everything(Instant::now()));
        loop {
            self.wait(&mut state).await;
            if let Some(error) = self.turn(&mut state).await {
                return Err(error);
            }
        }
    }

    /// The system's notices, or none where it has none to give.
    fn listen(&self, root: &Path, git: Option<&Path>) -> Notices {
        match Notices::new(root, git) {
            Ok(notices) => notices,
            Err(error) => self.without_notices(root, &error),
        }
    }

    fn without_notices(&self, root: &Path, error: &NoticeError) -> Notices {
        self.teller
            .warn(&format!("{error}; looking for changes every {} s instead", POLL.as_secs()), error.hint().as_deref());
        Notices::none(root)
    }

    /// Waits until there is something to look at, and it is at rest.
    async fn wait(&self, state: &mut State) {
        loop {
            let now = Instant::now();
            let rest = state.notices.changes(|changes| changes.rests_at());
            if let Some(retry) = state.retry {
                // What changes meanwhile goes with it.
                tokio::time::sleep(retry).await;
                return;
            }
            match rest {
                Some(rest) if rest <= now => match self.motion(state) {
                    None => return,
                    Some(_) => tokio::time::sleep(MOTION_LOOK).await,
                },
                Some(rest) => {
                    tokio::select! {
                        () = tokio::time::sleep(rest - now) => {}
                        () = state.notices.heard() => {}
                    }
                }
                None => self.idle(state).await,
            }
        }
    }

    /// Nothing has changed: waits for that, or until it is time to look anyway.
    async fn idle(&self, state: &mut State) {
        let every = if state.notices.are_there() { RESCAN } else { POLL };
        let look = (state.looked + every).saturating_duration_since(Instant::now());
        let keep = state.unsaved && look > KEEP;
        tokio::select! {
            () = state.notices.heard() => {}
            () = tokio::time::sleep(if keep { KEEP } else { look }) => {
                if keep {
                    tokio::task::block_in_place(|| state.session.look.save(self.cache));
                    state.unsaved = false;
                } else {
                    // At rest as far as anybody knows.
                    let past = Instant::now().checked_sub(changes::REST).unwrap_or_else(Instant::now);
                    state.notices.changes(|changes| changes.everything(past));
                }
            }
        }
    }

    /// What git is in the middle of, unless that was waited for long enough.
    fn motion(&self, state: &mut State) -> Option<&'static str> {
        let motion = state.git.as_deref().and_then(in_motion);
        let Some(reason) = motion else {
            (state.given_up, state.waits) = (None, false);
            return None;
        };
        if state.given_up == Some(reason) {
            return None;
        }
        let since = state.notices.changes(|changes| changes.since()).unwrap_or_else(Instant::now);
        if since.elapsed() >= SAID_AFTER && !state.waits {
            self.teller.note(&format!("{reason}: saves wait for it, {} s at most", MOTION.as_secs()));
            state.waits = true;
        }
        if since.elapsed() >= MOTION {
            self.teller.note(&format!("{reason} for more than {} s: publishing what is there", MOTION.as_secs()));
            state.given_up = Some(reason);
            return None;
        }
        Some(reason)
    }

    /// Looks and publishes.
    async fn turn(&mut self, state: &mut State) -> Option<WatchError> {
        let taken = state.notices.changes(changes::Changes::take);
        let since = taken.since.unwrap_or_else(Instant::now);
        let outcome = match self.look(state, taken).await {
            Ok(()) => self.publish(state, since).await,
            Err(error) => Err(error),
        };
        let Err(error) = outcome else {
            state.retry = None;
            if std::mem::take(&mut state.away) {
                self.teller.note("the store answers again");
            }
            state.told = None;
            return None;
        };
        match self.after(state, error) {
            After::Again(pause) => {
                state.retry = Some(pause);
                state.notices.changes(|changes| changes.everything(since));
            }
            After::WhenSomethingChanges => state.retry = None,
            After::End(error) => return Some(error),
        }
        None
    }

    /// Brings what is known of the folder up to date.
    async fn look(&self, state: &mut State, taken: Taken) -> Result<(), PublishError> {
        let root = state.session.look.selection.root.clone();
        let same_rules = state.rules.iter().all(|(file, time)| modified(file) == *time);
        if same_rules && let Some(paths) = single_files(&root, state.git.as_deref(), &taken) {
            let touched = tokio::task::block_in_place(|| state.session.look.touch(paths.iter().map(String::as_str)))?;
            if touched {
                return Ok(());
            }
        }
        // A folder that was removed and made anew is another one, though it bears the same name.
        if taken.everything {
            state.notices.forget(&root);
        } else {
            taken.paths.iter().for_each(|path| state.notices.forget(path));
        }
        state.provenance = None;
        let before: Vec<String> =
            state.session.look.selection.entries.iter().map(|entry| entry.path.to_string()).collect();
        if let Err(error) = self.look_at_everything(state) {
            // It may come back: some programs move a folder away for a moment.
            if !is_absent(&error) {
                return Err(error);
            }
            tokio::time::sleep(VANISHED).await;
            self.look_at_everything(state)?;
        }
        let is_there = |path: &String| root.join(path).symlink_metadata().is_ok();
        if !state.published.is_empty() && before.iter().any(|path| !is_there(path)) {
            tokio::time::sleep(VANISHED).await;
            // What was heard meanwhile is seen by this look, too.
            state.notices.changes(changes::Changes::take);
            self.look_at_everything(state)?;
        }
        Ok(())
    }

    /// Walks the folder, and watches what the walk has looked into.
    fn look_at_everything(&self, state: &mut State) -> Result<(), PublishError> {
        let options = &self.publication.source;
        loop {
            // Also where it fails: the next look comes no sooner for that.
            state.looked = Instant::now();
            let git = repository_folder_of(&state.session.look.selection.root);
            if git != state.git {
                // A repository was made, or went.
                state.notices = self.listen(&state.session.look.selection.root, git.as_deref());
                state.git = git;
            }
            // Before the walk: what changes meanwhile is seen by the next save.
            let rules = files_with_rules(&state.session.look.selection.root, &options.git);
            state.rules = rules.into_iter().map(|file| (file.clone(), modified(&file))).collect();
            tokio::task::block_in_place(|| state.session.look.again(options))?;
            let selection = &state.session.look.selection;
            let files = selection.excluded.iter().filter(|excluded| !excluded.path.ends_with('/'));
            let left_out: HashSet<PathBuf> = files.map(|excluded| selection.root.join(&excluded.path)).collect();
            state.notices.leave_out(left_out);
            let (root, folders) = (selection.root.clone(), selection.folders.clone());
            match state.notices.follow(&folders) {
                // What came into new folders before they were watched is seen by another look.
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => state.notices = self.without_notices(&root, &error),
            }
        }
    }

    async fn publish(&mut self, state: &mut State, since: Instant) -> Result<(), PublishError> {
        // Single files change nothing about it, and asking git takes its time.
        let ask = || tokio::task::block_in_place(|| (self.provenance)());
        let provenance = state.provenance.get_or_insert_with(ask).clone();
        let publication = &mut self.publication;
        (publication.commit, publication.branch, publication.author) =
            (provenance.commit, provenance.branch, provenance.author);
        let thorough = state.published.is_empty() || state.last.elapsed() >= QUIET;
        let report = self.publisher.publish_again(&self.publication, &mut state.session, thorough).await?;
        state.unsaved = true;
        let before = self.publication.expect.replace(report.number);
        if report.outcome == Outcome::Unchanged && before.is_some_and(|before| before != report.number) {
            let (name, number) = (&report.name, report.number);
            self.teller.note(&format!("{name}@{number} is this folder already, published elsewhere"));
        }
        let now = state.snapshot();
        let first = state.published.is_empty();
        let changed = difference(&state.published, &now);
        state.published = now;
        if first {
            state.last = Instant::now();
            self.teller.began(&report, since.elapsed());
        } else if report.outcome == Outcome::Published {
            state.last = Instant::now();
            self.teller.published(&report, &changed, since.elapsed());
        }
        Ok(())
    }

    /// What a failure means for what comes next.
    fn after(&mut self, state: &mut State, error: PublishError) -> After {
        let say = |state: &mut State, text: String, hint: Option<&str>| {
            if state.told.as_ref() != Some(&text) {
                self.teller.warn(&text, hint);
                state.told = Some(text);
            }
        };
        let text = with_causes(&error);
        match error {
            PublishError::Expected { found, expected, name } => {
                state.session.doubt();
                let question = format!(
                    "`{name}` is at version {found} by now, published by somebody else; this folder was version {expected}. \
                     Replace it with this folder?"
                );
                if !self.teller.replaces(&question) {
                    return After::End(WatchError::Overtaken { name, found, last: expected });
                }
                self.publication.expect = Some(found);
                After::Again(Duration::ZERO)
            }
            error if error.is_store_away() => {
                state.session.doubt();
                state.away = true;
                let pause = state.retry.map_or(FIRST_RETRY, |pause| (pause * 2).clamp(FIRST_RETRY, LONGEST_RETRY));
                say(state, format!("{text}; saves are kept for one version once the store answers"), None);
                After::Again(pause)
            }
            // Somebody is at work in the folder; what is half done will be done.
            PublishError::Restless { .. } | PublishError::Moving { .. } => {
                say(state, format!("{text}; looking again"), None);
                After::Again(FIRST_RETRY)
            }
            error if is_absent(&error) => After::End(error.into()),
            PublishError::Source(_)
            | PublishError::Application(_)
            | PublishError::Unreadable { .. }
            | PublishError::TooMuch { .. }
            | PublishError::Strict(_) => {
                say(state, format!("{text}; waiting for the next change"), None);
                After::WhenSomethingChanges
            }
            error => After::End(error.into()),
        }
    }
}

impl State {
    fn snapshot(&self) -> Vec<(String, Option<Hash>, bool)> {
        let look = &self.session.look;
        let one = |(entry, hash): (&SourceEntry, &Option<Hash>)| match &entry.kind {
            SourceKind::File(stat) => (entry.path.to_string(), *hash, stat.executable),
            SourceKind::Link(target) => (entry.path.to_string(), Some(Hash::of(target.as_bytes())), false),
            SourceKind::Directory => (entry.path.to_string(), None, false),
        };
        look.selection.entries.iter().zip(&look.hashes).map(one).collect()
    }
}

/// When a file was written last; nothing where there is none.
fn modified(file: &Path) -> Option<SystemTime> {
    file.metadata().and_then(|metadata| metadata.modified()).ok()
}

/// Whether the folder itself is gone.
fn is_absent(error: &PublishError) -> bool {
    matches!(error, PublishError::Source(SourceError::NoSuchDirectory(_) | SourceError::NotADirectory(_)))
}

/// The touched paths below the root, if they are all that has to be looked at: no ignore file, and nothing of git's.
fn single_files(root: &Path, git: Option<&Path>, taken: &Taken) -> Option<Vec<String>> {
    if taken.everything {
        return None;
    }
    let one = |path: &PathBuf| {
        if git.is_some_and(|git| path.starts_with(git)) {
            return None;
        }
        let below = path.strip_prefix(root).ok()?.to_str()?;
        let name = below.rsplit('/').next().unwrap_or_default();
        let decides = [".gitignore", ".workspaceignore", "composer.json", ".gitmodules"].contains(&name);
        (!decides && !below.is_empty()).then(|| below.to_owned())
    };
    taken.paths.iter().map(one).collect()
}

/// What differs between two trees, both sorted by path.
fn difference(before: &[(String, Option<Hash>, bool)], now: &[(String, Option<Hash>, bool)]) -> Changed {
    const SHOWN: usize = 3;
    let mut changed = Changed::default();
    let mut note = |path: &str| {
        changed.count += 1;
        if changed.some.len() < SHOWN {
            changed.some.push(path.to_owned());
        }
    };
    let (mut old, mut new) = (before.iter().peekable(), now.iter().peekable());
    loop {
        match (old.peek(), new.peek()) {
            (Some(one), Some(other)) if one.0 == other.0 => {
                if one != other {
                    note(&other.0);
                }
                old.next();
                new.next();
            }
            (Some(one), Some(other)) if one.0 < other.0 => {
                note(&one.0);
                old.next();
            }
            (_, Some(other)) => {
                note(&other.0);
                new.next();
            }
            (Some(one), None) => {
                note(&one.0);
                old.next();
            }
            (None, None) => return changed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_counted_and_named() {
        let file = |path: &str, content: &str| (path.to_owned(), Some(Hash::of(content.as_bytes())), false);
        let before = [file("a", "1"), file("b", "1"), file("c", "1")];
        let now = [file("a", "1"), file("b", "2"), file("d", "1")];
        let changed = difference(&before, &now);
        assert_eq!((changed.count, changed.some), (3, vec!["b".to_owned(), "c".to_owned(), "d".to_owned()]));
        assert_eq!(difference(&now, &now), Changed::default());
    }

    #[test]
    fn ignore_files_and_git_are_no_single_files() {
        let taken = |path: &str| Taken { paths: vec![path.into()], everything: false, since: None };
        let (root, git) = (Path::new("/r"), Some(Path::new("/r/.git")));
        let single = |path: &str| single_files(root, git, &taken(path));
        assert_eq!(single("/r/a/b.js"), Some(vec!["a/b.js".to_owned()]));
        for path in ["/r/.gitignore", "/r/a/.workspaceignore", "/r/.git/index", "/r", "/elsewhere"] {
            assert_eq!(single(path), None, "{path}");
        }
    }
}
