//! The walk: looks at every folder that may hold source, and at nothing else.
//!
//! A folder that is left out is never opened (`node_modules/` costs one look), except to find out whether it is empty.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::fs::{self, FileType};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::defaults::{self, Clue, LOCK_FILES, Suspicion};
use super::explain::name_git_rules;
use super::git_files::{is_top, is_torn_off};
use super::guard::{self, some_of};
use super::rules::{Defaults, GIT_IGNORE, IgnoreStack, Verdict, WORKSPACE_IGNORE};
use super::{
    Admission, Excluded, Line, Rule, Selection, SourceEntry, SourceError, SourceKind, SourceOptions, Stat, git,
};
use crate::format::tree::STATE_DIRECTORY;

/// How much of a file tells whether it is a private key or holds credentials, in bytes.
const HEAD: u64 = 4_096;

/// Finds what is source in `root`.
pub fn select(root: &Path, options: &SourceOptions) -> Result<Selection, SourceError> {
    Ok(walk(&canonical(root)?, options, None)?.0)
}

/// The folder, without links on the way to it.
pub(super) fn canonical(root: &Path) -> Result<PathBuf, SourceError> {
    let root = match fs::canonicalize(root) {
        Ok(path) => path,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(SourceError::NoSuchDirectory(root.to_owned()));
        }
        Err(error) => return Err(SourceError::unreadable(root, error)),
    };
    if root.is_dir() { Ok(root) } else { Err(SourceError::NotADirectory(root)) }
}

/// Walks `root`, and tells besides why the path that is asked for goes, if it does.
pub(super) fn walk(
    root: &Path,
    options: &SourceOptions,
    asked: Option<&str>,
) -> Result<(Selection, Option<Answer>), SourceError> {
    let mut walk = Walk::new(root, options, asked)?;
    let inherited = Inherited { listed: walk.listed_root, ..Inherited::default() };
    walk.folder(root, "", &inherited)?;
    walk.folders_unknown_to_git()?;
    let answer = walk.answer.take();
    Ok((walk.finish()?, answer))
}

/// Why the path that is asked for goes.
pub(super) struct Answer {
    pub(super) because: Admission,
    /// Whether it lies in a work tree that git has listed.
    pub(super) listed: bool,
}

/// What a folder passes on to what is in it.
#[derive(Debug, Clone, Default)]
struct Inherited {
    /// `.workspaceignore` takes the folder back by this line, whatever other rules say.
    taken_back: Option<Line>,
    /// The folder is left out but for tracked files.
    tracked_only: Option<Rule>,
    /// It lies in a work tree that git has listed; elsewhere ignore files are read.
    listed: bool,
}

struct Walk<'a> {
    root: &'a Path,
    options: &'a SourceOptions,
    /// What is asked for, and the answer.
    asked: Option<&'a str>,
    answer: Option<Answer>,
    git: Listed,
    listed_root: bool,
    own: IgnoreStack,
    /// git's ignore files, for each repository around the folder that git has not listed.
    ignore_files: Vec<IgnoreStack>,
    defaults: Defaults,
    entries: Vec<SourceEntry>,
    excluded: Vec<Excluded>,
    warnings: Vec<String>,
    unknown_to_git: Vec<(PathBuf, String)>,
    /// Lock files that a rule leaves out.
    locks: HashSet<String>,
    /// What goes and looks like credentials.
    credentials: Vec<String>,
}

/// git's listings, and the folders that follow from them.
#[derive(Default)]
struct Listed {
    files: HashMap<Vec<u8>, bool>,
    folders: HashSet<Vec<u8>>,
    folders_with_tracked: HashSet<Vec<u8>>,
    submodules: Vec<Vec<u8>>,
    skipped: Vec<Vec<u8>>,
}

impl Listed {
    fn add(&mut self, listing: git::Listing, prefix: &str) {
        let below = |path: Vec<u8>| [prefix.as_bytes(), &path].concat();
        self.submodules.extend(listing.submodules.into_iter().map(below));
        self.skipped.extend(listing.skipped.into_iter().map(below));
        for (path, tracked) in listing.files {
            let path = below(path);
            let mut end = path.len();
            while let Some(slash) = path[..end].iter().rposition(|byte| *byte == b'/') {
                end = slash;
                let known = !self.folders.insert(path[..end].to_vec());
                let done = if tracked { !self.folders_with_tracked.insert(path[..end].to_vec()) } else { known };
                if done {
                    break;
                }
            }
            self.files.insert(path, tracked);
        }
    }
}

/// What becomes of one thing in a folder.
enum Fate {
    Goes(Admission),
    Stays(Rule),
    Descend(Inherited),
    AskGit,
    Unseen,
}

impl<'a> Walk<'a> {
    fn new(root: &'a Path, options: &'a SourceOptions, asked: Option<&'a str>) -> Result<Self, SourceError> {
        let mut walk = Self {
            root,
            options,
            asked,
            answer: None,
            git: Listed::default(),
            listed_root: false,
            own: IgnoreStack::new(WORKSPACE_IGNORE),
            ignore_files: Vec::new(),
            defaults: Defaults::new(),
            entries: Vec::new(),
            excluded: Vec::new(),
            warnings: Vec::new(),
            unknown_to_git: Vec::new(),
            locks: HashSet::new(),
            credentials: Vec::new(),
        };
        if let Some(listing) = git::list(root)? {
            walk.git.add(listing, "");
            walk.listed_root = true;
        } else {
            let files = walk.ignore_files_above()?;
            walk.ignore_files.push(files);
        }
        Ok(walk)
    }

    /// Where git has not listed the root: the rules of the work tree around it, should git only be missing.
    fn ignore_files_above(&mut self) -> Result<IgnoreStack, SourceError> {
        let none = IgnoreStack::new(GIT_IGNORE);
        if is_torn_off(self.root) {
            self.warnings.push(
                "`.git` names a repository that is not there: ignore files alone decide, and what git tracked against \
                 them is left out"
                    .to_owned(),
            );
            return Ok(none);
        }
        let Some(top) = git::work_tree_above(self.root) else { return Ok(none) };
        if !git::is_missing() {
            return Ok(none);
        }
        let mut files = IgnoreStack::of_work_tree(&top, &self.options.git)?;
        let between: Vec<&Path> = self.root.ancestors().take_while(|folder| *folder != top).collect();
        for folder in between.into_iter().rev() {
            let above = folder.parent().unwrap_or(folder);
            files.enter(above, &format!("{}/", above.display()))?;
            if matches!(files.verdict(folder, true), Verdict::Leave(_)) {
                // Ignored itself, the folder is meant for what it is.
                return Ok(none);
            }
        }
        self.warnings.push(
            "git is not installed: files that it tracks although an ignore rule excludes them are left out".to_owned(),
        );
        Ok(files)
    }

    /// Walks one folder. `prefix` is its path below the root, empty or ending with `/`.
    fn folder(&mut self, folder: &Path, prefix: &str, inherited: &Inherited) -> Result<(), SourceError> {
        let listing = match list(folder) {
            // Gone since its parent was read: then it isn't there.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !prefix.is_empty() => return Ok(()),
            other => other.map_err(|error| SourceError::unreadable(folder, error))?,
        };
        if listing.is_empty() && !prefix.is_empty() && inherited.tracked_only.is_none() {
            let path = prefix.trim_end_matches('/').parse()?;
            self.entries.push(SourceEntry { path, kind: SourceKind::Directory });
            return Ok(());
        }
        if !prefix.is_empty() && is_top(folder) {
            return self.repository(folder, prefix, inherited, listing);
        }
        self.content(folder, prefix, inherited, listing)
    }

    /// Walks a repository inside the tree: a submodule, or one that lies there by itself. It has rules of its own, and
    /// those around it don't count in it.
    fn repository(
        &mut self,
        folder: &Path,
        prefix: &str,
        inherited: &Inherited,
        listing: Vec<(OsString, FileType)>,
    ) -> Result<(), SourceError> {
        match git::list(folder) {
            Ok(Some(found)) => {
                self.git.add(found, prefix);
                self.git.folders.insert(prefix.trim_end_matches('/').into());
                return self.content(folder, prefix, &Inherited { listed: true, ..inherited.clone() }, listing);
            }
            Ok(None) => {}
            // A submodule's `.git` names a folder of the repository around it, which need not have come along.
            Err(error) => self.warnings.push(format!("ignore files alone decide in `{prefix}`: {error}")),
        }
        self.ignore_files.push(IgnoreStack::of_work_tree(folder, &self.options.git)?);
        self.content(folder, prefix, &Inherited { listed: false, ..inherited.clone() }, listing)?;
        self.ignore_files.pop();
        Ok(())
    }

    fn content(
        &mut self,
        folder: &Path,
        prefix: &str,
        inherited: &Inherited,
        listing: Vec<(OsString, FileType)>,
    ) -> Result<(), SourceError> {
        self.own.enter(folder, prefix)?;
        if let Some(files) = self.ignore_files.last_mut().filter(|_| !inherited.listed) {
            files.enter(folder, prefix)?;
        }
        let composer = listing.iter().any(|(name, _)| name == "composer.json");
        for (name, kind) in listing {
            let path = folder.join(&name);
            let bytes = [prefix.as_bytes(), name.as_bytes()].concat();
            let fate = self.fate(&path, &bytes, kind, inherited, composer)?;
            if self.asked.is_some_and(|asked| asked.as_bytes() == bytes) {
                let listed = inherited.listed;
                self.answer = fate.admission().map(|because| Answer { because, listed });
            }
            match fate {
                Fate::Unseen => {}
                Fate::Goes(_) => self.take(&path, bytes, kind)?,
                Fate::Stays(rule) => self.leave_out(&bytes, kind, rule),
                Fate::Descend(inherited) => self.folder(&path, &format!("{}/", utf8(bytes)?), &inherited)?,
                Fate::AskGit => self.unknown_to_git.push((path, utf8(bytes)?)),
            }
        }
        self.own.leave();
        if let Some(files) = self.ignore_files.last_mut().filter(|_| !inherited.listed) {
            files.leave();
        }
        Ok(())
    }

    fn fate(
        &mut self,
        path: &Path,
        bytes: &[u8],
        kind: FileType,
        inherited: &Inherited,
        composer: bool,
    ) -> Result<Fate, SourceError> {
        let name = path.file_name().unwrap_or_default();
        if name == ".git" || bytes.eq_ignore_ascii_case(STATE_DIRECTORY.as_bytes()) {
            return Ok(Fate::Unseen);
        }
        // A `!` for a folder is no `!` for the secrets in it: the pattern must name the file.
        let (mut taken_back, mut named) = (inherited.taken_back.clone(), false);
        match self.own.verdict(path, kind.is_dir()) {
            Verdict::Leave(rule) => return Ok(Fate::Stays(rule)),
            Verdict::Take { line, by_name } => (taken_back, named) = (Some(line), by_name),
            Verdict::Silent => {}
        }
        if kind.is_dir() {
            return Ok(self.fate_of_folder(path, bytes, taken_back, inherited, composer));
        }
        let tracked = inherited.listed.then(|| self.git.files.get(bytes).copied()).flatten();
        let secret = if named || !kind.is_file() { Ok(false) } else { is_secret(path) };
        let shown = String::from_utf8_lossy(bytes);
        if matches!(secret, Ok(true)) {
            if tracked == Some(true) {
                self.warnings.push(format!(
                    "`{shown}` is tracked by git and looks like a secret: it is left out (`!/{shown}` in {WORKSPACE_IGNORE} takes it)"
                ));
            }
            return Ok(Fate::Stays(Rule::Secret));
        }
        if !kind.is_file() && !kind.is_symlink() {
            return Ok(Fate::Stays(Rule::Special));
        }
        let fate = self.fate_by_rules(path, &shown, tracked, taken_back, inherited);
        // One that can't be read is in nobody's way when it doesn't go.
        if matches!(fate, Fate::Goes(_)) {
            secret?;
            if !named && kind.is_file() && holds_credentials(path, &shown)? {
                self.credentials.push(shown.into_owned());
            }
        }
        Ok(fate)
    }

    /// What the rules say of a file or link that is no secret.
    fn fate_by_rules(
        &mut self,
        path: &Path,
        shown: &str,
        tracked: Option<bool>,
        taken_back: Option<Line>,
        inherited: &Inherited,
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
        let ignored = match self.ignore_files.last() {
            Some(files) if !inherited.listed => files.verdict(path, false),
            _ if tracked.is_none() => Verdict::Leave(Rule::Git),
            _ => Verdict::Silent,
        };
        let admission = match ignored {
            Verdict::Leave(rule) => {
                let lock =
                    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| LOCK_FILES.contains(&name));
                if lock && self.options.include_lock {
                    return Fate::Goes(Admission::Lock(rule));
                }
                if lock {
                    self.locks.insert(shown.to_owned());
                }
                return Fate::Stays(rule);
            }
            Verdict::Take { line, .. } => Admission::TakenBack(line),
            Verdict::Silent => Admission::Unruled,
        };
        self.defaults.find(path, false, false).map_or(Fate::Goes(admission), Fate::Stays)
    }

    fn fate_of_folder(
        &mut self,
        path: &Path,
        bytes: &[u8],
        taken_back: Option<Line>,
        inherited: &Inherited,
        composer: bool,
    ) -> Fate {
        let into =
            |taken_back, tracked_only| Fate::Descend(Inherited { taken_back, tracked_only, listed: inherited.listed });
        if taken_back.is_some() {
            return into(taken_back, None);
        }
        let default = self.defaults.find(path, true, composer);
        let rule = inherited.tracked_only.clone().or(default);
        if let Some(files) = self.ignore_files.last().filter(|_| !inherited.listed) {
            return match (rule, files.verdict(path, true)) {
                (Some(rule), _) | (None, Verdict::Leave(rule)) => Fate::Stays(rule),
                _ => into(None, None),
            };
        }
        let tracked = self.git.folders_with_tracked.contains(bytes) || self.git.files.get(bytes) == Some(&true);
        match rule {
            Some(rule) if tracked => into(None, Some(rule)),
            Some(rule) => Fate::Stays(rule),
            None if self.git.folders.contains(bytes) || self.git.files.contains_key(bytes) => into(None, None),
            None => Fate::AskGit,
        }
    }

    /// Folders in which git lists nothing: ignored, or empty, or full of what is ignored.
    fn folders_unknown_to_git(&mut self) -> Result<(), SourceError> {
        while !self.unknown_to_git.is_empty() {
            let asked = std::mem::take(&mut self.unknown_to_git);
            // git refuses to answer for what lies in a submodule.
            let mut by_repository: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
            for (path, _) in &asked {
                let repository = repository_of(self.root, path);
                if let Some(name) = path.strip_prefix(repository).ok().and_then(Path::to_str) {
                    by_repository.entry(repository.to_owned()).or_default().push(name.to_owned());
                }
            }
            let mut ignored = HashSet::new();
            for (repository, names) in by_repository {
                ignored.extend(git::ignored(&repository, &names)?.into_iter().map(|name| repository.join(name)));
            }
            for (path, name) in asked {
                if ignored.contains(&path) {
                    if self.asked == Some(name.as_str()) {
                        self.answer = None;
                    }
                    self.excluded.push(Excluded { path: format!("{name}/"), rule: Rule::Git });
                } else {
                    self.folder_again(&path, &name)?;
                }
            }
        }
        Ok(())
    }

    /// Walks a folder after the walk has left it, under the ignore files above it.
    fn folder_again(&mut self, path: &Path, name: &str) -> Result<(), SourceError> {
        let above: Vec<usize> = name.match_indices('/').map(|(slash, _)| slash + 1).collect();
        for end in std::iter::once(0).chain(above.iter().copied()) {
            self.own.enter(&self.root.join(&name[..end]), &name[..end])?;
        }
        self.folder(path, &format!("{name}/"), &Inherited { listed: true, ..Inherited::default() })?;
        for _ in 0..=above.len() {
            self.own.leave();
        }
        Ok(())
    }

    fn take(&mut self, path: &Path, bytes: Vec<u8>, kind: FileType) -> Result<(), SourceError> {
        let name = utf8(bytes)?;
        let kind = if kind.is_symlink() {
            match fs::read_link(path) {
                Ok(target) => {
                    let text = target.to_str().ok_or_else(|| SourceError::NotUtf8(format!("{name} -> …")))?;
                    SourceKind::Link(text.to_owned())
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(SourceError::unreadable(path, error)),
            }
        } else {
            match fs::symlink_metadata(path) {
                Ok(metadata) => SourceKind::File(Stat::of(&metadata)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(SourceError::unreadable(path, error)),
            }
        };
        if let SourceKind::Link(target) = &kind
            && leaves_the_tree(&name, target)
        {
            self.warnings.push(format!(
                "the link `{name}` points out of the tree (`{target}`): a download refuses it unless told `--allow-external-links`, a container does not start with it"
            ));
        }
        self.entries.push(SourceEntry { path: name.parse()?, kind });
        Ok(())
    }

    fn leave_out(&mut self, bytes: &[u8], kind: FileType, rule: Rule) {
        let slash = if kind.is_dir() { "/" } else { "" };
        self.excluded.push(Excluded { path: format!("{}{slash}", String::from_utf8_lossy(bytes)), rule });
    }

    fn finish(mut self) -> Result<Selection, SourceError> {
        if self.entries.is_empty() {
            let rules: std::collections::BTreeSet<String> =
                self.excluded.iter().map(|excluded| excluded.rule.to_string()).collect();
            return Err(SourceError::Empty {
                path: self.root.to_owned(),
                excluded: self.excluded.len(),
                rules: rules.into_iter().take(3).collect::<Vec<_>>().join("; "),
            });
        }
        self.entries.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        self.excluded.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        let locks = std::mem::take(&mut self.locks);
        name_git_rules(self.root, &mut self.excluded, |excluded| locks.contains(&excluded.path))?;
        for Excluded { path, rule } in self.excluded.iter().filter(|excluded| locks.contains(&excluded.path)) {
            self.warnings.push(format!("the lock file `{path}` is left out ({rule}); `--include-lock` takes it"));
        }
        self.warn_of_gaps();
        if !self.credentials.is_empty() {
            let (some, first) = (some_of(&self.credentials), &self.credentials[0]);
            self.warnings.push(format!(
                "{some} will be uploaded and mostly hold credentials: `/{first}` in {WORKSPACE_IGNORE} leaves that out, \
                 `!/{first}` says that it is meant"
            ));
        }
        self.warnings.extend(guard::case_collisions(&self.entries));
        self.warnings.extend(guard::large_files(&self.entries, self.options.limits));
        Ok(Selection {
            root: self.root.to_owned(),
            entries: self.entries,
            excluded: self.excluded,
            warnings: self.warnings,
        })
    }

    /// What git tracks and has not checked out, so that the version goes without it.
    fn warn_of_gaps(&mut self) {
        let shown = |paths: &[Vec<u8>], missing: &dyn Fn(&Path) -> bool| {
            let missing = paths.iter().filter(|path| missing(&self.root.join(std::ffi::OsStr::from_bytes(path))));
            let mut paths: Vec<String> = missing.map(|path| String::from_utf8_lossy(path).into_owned()).collect();
            paths.sort_unstable();
            paths
        };
        let skipped = shown(&self.git.skipped, &|path| path.symlink_metadata().is_err());
        let empty = shown(&self.git.submodules, &|path| !is_top(path));
        if !skipped.is_empty() {
            self.warnings.push(format!(
                "this is a sparse checkout: the version goes without {}, which git tracks and has not checked out here \
                 (`git sparse-checkout disable` fetches all)",
                some_of(&skipped)
            ));
        }
        if !empty.is_empty() {
            self.warnings.push(format!(
                "the version goes without the content of {}: not checked out here (`git submodule update --init \
                 --recursive`)",
                some_of(&empty)
            ));
        }
    }
}

impl Fate {
    /// Why it goes, if it does or may.
    fn admission(&self) -> Option<Admission> {
        match self {
            Self::Goes(admission) => Some(admission.clone()),
            Self::Descend(Inherited { taken_back: Some(line), .. }) => Some(Admission::TakenBack(line.clone())),
            Self::Descend(Inherited { tracked_only: Some(rule), .. }) => Some(Admission::TrackedOnly(rule.clone())),
            Self::Descend(_) | Self::AskGit => Some(Admission::Unruled),
            Self::Stays(_) | Self::Unseen => None,
        }
    }
}

/// The folder at or below the root whose repository a path in it belongs to.
pub(super) fn repository_of<'p>(root: &Path, path: &'p Path) -> &'p Path {
    path.ancestors().skip(1).find(|folder| is_top(folder) || *folder == root).unwrap_or(path)
}

fn list(folder: &Path) -> io::Result<Vec<(OsString, FileType)>> {
    let mut listing = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        listing.push((entry.file_name(), entry.file_type()?));
    }
    // The order of a folder is an accident; warnings and questions shall not be.
    listing.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    Ok(listing)
}

fn utf8(bytes: Vec<u8>) -> Result<String, SourceError> {
    String::from_utf8(bytes)
        .map_err(|error| SourceError::NotUtf8(String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

fn is_secret(path: &Path) -> Result<bool, SourceError> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(false) };
    match defaults::suspicion(name) {
        Suspicion::None => Ok(false),
        Suspicion::Certain => Ok(true),
        Suspicion::LookInside => Ok(defaults::is_private_key(&head(path)?)),
    }
}

/// Whether a file, named so in the tree, looks like one that holds credentials.
fn holds_credentials(path: &Path, shown: &str) -> Result<bool, SourceError> {
    match defaults::clue(shown) {
        Clue::None => Ok(false),
        Clue::Name => Ok(true),
        Clue::Content => Ok(defaults::has_credentials(&head(path)?)),
    }
}

fn head(path: &Path) -> Result<Vec<u8>, SourceError> {
    let mut head = Vec::new();
    let file = fs::File::open(path).map_err(|error| SourceError::unreadable(path, error))?;
    file.take(HEAD).read_to_end(&mut head).map_err(|error| SourceError::unreadable(path, error))?;
    Ok(head)
}

/// Whether a link at `path` with this target points outside of the tree it lies in, judged by its text.
pub fn leaves_the_tree(path: &str, target: &str) -> bool {
    if target.starts_with('/') {
        return true;
    }
    let mut depth = path.matches('/').count();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if depth == 0 => return true,
            ".." => depth -= 1,
            _ => depth += 1,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_leave() {
        assert!(leaves_the_tree("a", "/etc/passwd"));
        assert!(leaves_the_tree("a", ".."));
        assert!(leaves_the_tree("d/a", "../../x"));
        assert!(leaves_the_tree("d/a", "x/../../../y"));
        assert!(!leaves_the_tree("d/a", "../x"));
        assert!(!leaves_the_tree("a", "b/../c"));
        assert!(!leaves_the_tree("d/e/a", "../../x"));
    }
}
