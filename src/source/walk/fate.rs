//! What becomes of one entry of a folder: the order in which the rules count.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::listed::Inside;
use super::{Authority, Found, Inherited, Walk};
use crate::format::PathError;
use crate::format::tree::{is_repository, is_state};
use crate::source::defaults::{self, Clue, LOCK_FILES, Suspicion};
use crate::source::listing::Named;
use crate::source::rules::{Verdict, WORKSPACE_IGNORE};
use crate::source::{Admission, Line, Rule, SourceError};

/// How much of a file tells whether it is a private key or holds credentials, in bytes.
const HEAD: u64 = 4_096;

/// Something in a folder.
pub(super) struct Item<'a> {
    folder: &'a Path,
    /// Its name, and what it is.
    pub(super) named: Named<'a>,
    /// The name, if it is UTF-8.
    pub(super) text: Option<&'a str>,
    /// Its path in the tree, for messages where the name isn't UTF-8.
    pub(super) shown: String,
}

impl<'a> Item<'a> {
    /// In this folder, whose path in the tree is empty or ends with `/`.
    pub(super) fn of(folder: &'a Path, prefix: &str, named: Named<'a>) -> Self {
        let text = std::str::from_utf8(named.name).ok();
        let shown = match text {
            Some(text) => [prefix, text].concat(),
            None => [prefix, &*String::from_utf8_lossy(named.name)].concat(),
        };
        Self { folder, named, text, shown }
    }

    /// Where it is.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.join(OsStr::from_bytes(self.named.name))
    }

    /// Its path in the tree.
    pub(super) fn into_text(self) -> Result<String, SourceError> {
        match self.text {
            Some(_) => Ok(self.shown),
            None => Err(SourceError::NotUtf8(self.shown)),
        }
    }
}

/// What becomes of one thing in a folder.
pub(super) enum Fate {
    Goes(Admission),
    Stays(Rule),
    Descend { taken_back: Option<Line>, tracked_only: Option<Rule> },
    AskGit,
    Unseen,
}

/// What bears on each entry of a folder.
pub(super) struct Around<'a> {
    pub(super) folder: &'a Path,
    /// The folder's path in the tree, empty or ending with `/`.
    pub(super) prefix: &'a str,
    pub(super) inherited: &'a Inherited,
    /// What git lists in the folder, where git decides.
    pub(super) inside: Option<Inside<'a>>,
    /// Whether there is a `composer.json` beside it.
    pub(super) composer: bool,
}

impl Fate {
    /// Why it goes, if it does or may.
    pub(super) fn admission(&self) -> Option<Admission> {
        match self {
            Self::Goes(admission) => Some(admission.clone()),
            Self::Descend { taken_back: Some(line), .. } => Some(Admission::TakenBack(line.clone())),
            Self::Descend { tracked_only: Some(rule), .. } => Some(Admission::TrackedOnly(rule.clone())),
            Self::Descend { .. } | Self::AskGit => Some(Admission::Unruled),
            Self::Stays(_) | Self::Unseen => None,
        }
    }
}

impl Walk<'_> {
    /// Decides, in the order of `docs/source.md`.
    pub(super) fn fate(&self, item: &Item<'_>, around: &Around<'_>, found: &mut Found) -> Result<Fate, SourceError> {
        let inherited = around.inherited;
        let Item { named: Named { name, kind }, text, shown, .. } = item;
        let (name, text) = (*name, *text);
        if name == b".git" {
            return Ok(Fate::Unseen);
        }
        if text.is_some_and(is_state) {
            return Ok(Fate::Stays(Rule::Own));
        }
        // A `!` for a folder is no `!` for the secrets in it: the pattern must name the file.
        let (mut taken_back, mut named) = (inherited.taken_back.clone(), false);
        if !inherited.own.is_empty() {
            match inherited.own.verdict(&item.path(), kind.is_dir()) {
                Verdict::Leave(rule) => return Ok(Fate::Stays(rule)),
                Verdict::Take { line, by_name } => (taken_back, named) = (Some(line), by_name),
                Verdict::Silent => {}
            }
        }
        if text.is_some_and(is_repository) {
            let reason = "some file systems take it for `.git`; a line in .workspaceignore leaves it out";
            return Err(PathError { path: shown.clone(), reason }.into());
        }
        if kind.is_dir() {
            return Ok(self.fate_of_folder(item, taken_back, around));
        }
        let tracked = around.inside.as_ref().and_then(|inside| inside.file(name));
        let secret = if named || !kind.is_file() { Ok(false) } else { is_secret(item) };
        if matches!(secret, Ok(true)) {
            if tracked == Some(true) {
                found.warn(shown, format!(
                    "`{shown}` is tracked by git and looks like a secret: it is left out (`!/{shown}` in {WORKSPACE_IGNORE} takes it)"
                ));
            }
            return Ok(Fate::Stays(Rule::Secret));
        }
        if !kind.is_file() && !kind.is_symlink() {
            return Ok(Fate::Stays(Rule::Special));
        }
        let fate = self.fate_by_rules(item, tracked, taken_back, inherited, found);
        // One that can't be read is in nobody's way when it doesn't go.
        if matches!(fate, Fate::Goes(_)) {
            secret?;
            if !named {
                note_credentials(item, found)?;
            }
        }
        Ok(fate)
    }

    /// The same of a file or link that git was asked about.
    pub(super) fn fate_as_answered(
        &self,
        item: &Item<'_>,
        ignored: bool,
        found: &mut Found,
    ) -> Result<Fate, SourceError> {
        let verdict = if ignored { Verdict::Leave(Rule::Git) } else { Verdict::Silent };
        let fate = self.fate_by_verdict(item, verdict, found);
        if matches!(fate, Fate::Goes(_)) && item.named.kind.is_file() {
            is_secret(item)?;
            note_credentials(item, found)?;
        }
        Ok(fate)
    }

    /// What the rules say of a file or link that is no secret.
    fn fate_by_rules(
        &self,
        item: &Item<'_>,
        tracked: Option<bool>,
        taken_back: Option<Line>,
        inherited: &Inherited,
        found: &mut Found,
    ) -> Fate {
        if let Some(line) = taken_back {
            return Fate::Goes(Admission::TakenBack(line));
        }
        if tracked == Some(true) {
            return Fate::Goes(Admission::Tracked);
        }
        if let Some(rule) = &inherited.tracked_only {
            return Fate::Stays(rule.clone());
        }
        let ignored = match &inherited.authority {
            Authority::IgnoreFiles(files) => files.verdict(&item.path(), false),
            Authority::Git(listed) if tracked.is_none() && !listed.is_whole() => return Fate::AskGit,
            Authority::Git(_) if tracked.is_none() => Verdict::Leave(Rule::Git),
            Authority::Git(_) => Verdict::Silent,
        };
        self.fate_by_verdict(item, ignored, found)
    }

    /// What becomes of one that is not tracked, by what git's rules say of it.
    fn fate_by_verdict(&self, item: &Item<'_>, ignored: Verdict, found: &mut Found) -> Fate {
        let admission = match ignored {
            Verdict::Leave(rule) => {
                let lock = item.text.is_some_and(|name| LOCK_FILES.contains(&name));
                if lock && self.options.include_lock {
                    return Fate::Goes(Admission::Lock(rule));
                }
                if lock {
                    found.locks.insert(item.shown.clone());
                }
                return Fate::Stays(rule);
            }
            Verdict::Take { line, .. } => Admission::TakenBack(line),
            Verdict::Silent => Admission::Unruled,
        };
        self.defaults.find(item.named.name, false, false).map_or(Fate::Goes(admission), Fate::Stays)
    }

    fn fate_of_folder(&self, item: &Item<'_>, taken_back: Option<Line>, around: &Around<'_>) -> Fate {
        let Around { inherited, inside, composer, .. } = around;
        let name = item.named.name;
        let into = |taken_back, tracked_only| Fate::Descend { taken_back, tracked_only };
        if taken_back.is_some() {
            return into(taken_back, None);
        }
        let default = self.defaults.find(name, true, *composer);
        let rule = inherited.tracked_only.clone().or(default);
        if let Authority::IgnoreFiles(files) = &inherited.authority {
            return match (rule, files.verdict(&item.path(), true)) {
                (Some(rule), _) | (None, Verdict::Leave(rule)) => Fate::Stays(rule),
                _ => into(None, None),
            };
        }
        match rule {
            Some(rule) if inside.as_ref().is_some_and(|inside| inside.has_tracked(name)) => into(None, Some(rule)),
            Some(rule) => Fate::Stays(rule),
            None if inside.as_ref().is_some_and(|inside| inside.has(name)) => into(None, None),
            None => Fate::AskGit,
        }
    }
}

/// Whether a file is secret-looking. Names that are not UTF-8 are refused elsewhere.
fn is_secret(item: &Item<'_>) -> Result<bool, SourceError> {
    match item.text.map_or(Suspicion::None, defaults::suspicion) {
        Suspicion::None => Ok(false),
        Suspicion::Certain => Ok(true),
        Suspicion::LookInside => Ok(defaults::is_private_key(&head(&item.path())?)),
    }
}

/// Notes a file that goes and looks like one that holds credentials.
fn note_credentials(item: &Item<'_>, found: &mut Found) -> Result<(), SourceError> {
    if item.named.kind.is_file() && holds_credentials(item)? {
        found.credentials.push(item.shown.clone());
    }
    Ok(())
}

fn holds_credentials(item: &Item<'_>) -> Result<bool, SourceError> {
    match defaults::clue(&item.shown) {
        Clue::None => Ok(false),
        Clue::Name => Ok(true),
        Clue::Content => Ok(defaults::has_credentials(&head(&item.path())?)),
    }
}

fn head(path: &Path) -> Result<Vec<u8>, SourceError> {
    let mut head = Vec::new();
    let file = fs::File::open(path).map_err(|error| SourceError::unreadable(path, error))?;
    file.take(HEAD).read_to_end(&mut head).map_err(|error| SourceError::unreadable(path, error))?;
    Ok(head)
}
