//! The walk: looks at every folder that may hold source, and at nothing else.
//!
//! A folder that is left out is never opened (`node_modules/` costs one look), except to find out whether it is empty.

mod fate;
mod listed;

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::fs::{self, FileType};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::explain::name_git_rules;
use super::git_files::{is_top, is_torn_off};
use super::guard::{self, some_of};
use super::rules::{Defaults, GIT_IGNORE, IgnoreStack, Verdict, WORKSPACE_IGNORE};
use super::{
    Admission, Excluded, Line, Rule, Selection, SourceEntry, SourceError, SourceKind, SourceOptions, Stat, git,
};
use crate::format::TreePath;
use crate::format::tree::MAX_DEPTH;

use fate::Fate;
use listed::Listed;

/// Finds what is source in `root`.
pub fn select(root: &Path, options: &SourceOptions) -> Result<Selection, SourceError> {
    let root = canonical(root)?;
    match &options.all_but {
        Some(known) => super::all::select(&root, known),
        None => Ok(walk(&root, options, None)?.0),
    }
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
    folders: Vec<String>,
    /// Lock files that a rule leaves out.
    locks: HashSet<String>,
    /// What goes and looks like credentials.
    credentials: Vec<String>,
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
            folders: Vec::new(),
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
        // What lies deeper can't go, and each folder takes some of the stack.
        if prefix.matches('/').count() > MAX_DEPTH {
            let refused = prefix.trim_end_matches('/').parse::<TreePath>();
            return refused.map(|_| ()).map_err(SourceError::from);
        }
        let listing = match list(folder) {
            // Gone since its parent was read: then it isn't there.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !prefix.is_empty() => return Ok(()),
            other => other.map_err(|error| SourceError::unreadable(folder, error))?,
        };
        self.folders.push(prefix.to_owned());
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
                Ok(metadata) => {
                    self.entries.push(SourceEntry::file(name.parse()?, Stat::of(&metadata))?);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(SourceError::unreadable(path, error)),
            }
        };
        if let SourceKind::Link(target) = &kind
            && guard::leaves_the_tree(&name, target)
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
        // Whoever asks for a rule may ask just because nothing goes.
        if self.entries.is_empty() && self.asked.is_none() {
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
        self.warnings.extend(self.git.gaps(self.root));
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
            is_source: true,
            folders: self.folders,
        })
    }
}

/// The folder at or below the root whose repository a path in it belongs to.
pub(super) fn repository_of<'p>(root: &Path, path: &'p Path) -> &'p Path {
    path.ancestors().skip(1).find(|folder| is_top(folder) || *folder == root).unwrap_or(path)
}

pub(super) fn list(folder: &Path) -> io::Result<Vec<(OsString, FileType)>> {
    let mut listing = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        listing.push((entry.file_name(), entry.file_type()?));
    }
    // The order of a folder is an accident; warnings and questions shall not be.
    listing.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    Ok(listing)
}

pub(super) fn utf8(bytes: Vec<u8>) -> Result<String, SourceError> {
    String::from_utf8(bytes)
        .map_err(|error| SourceError::NotUtf8(String::from_utf8_lossy(error.as_bytes()).into_owned()))
}
