//! The walk: looks at every folder that may hold source, and at nothing else.
//!
//! A folder that is left out is never opened (`node_modules/` costs one look), except to find out whether it is empty.

mod blocks;
mod crew;
mod fate;
mod listed;
mod questions;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::mem::take;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::explain::name_git_rules;
use super::git_files::{is_top, is_torn_off};
use super::guard::{self, some_of};
use super::listing::Listing;
use super::rules::{Defaults, GIT_IGNORE, IgnoreStack, Verdict, WORKSPACE_IGNORE};
use super::{
    Admission, Excluded, Line, Rule, Selection, SourceEntry, SourceError, SourceKind, SourceOptions, git, is_gone,
};
use crate::format::TreePath;

use blocks::Block;
use fate::{Around, Fate, Item};
use listed::Listed;
use questions::Questions;

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
    let walk = Walk { root, options, asked, defaults: Defaults::new(), folders: AtomicUsize::new(0) };
    let mut found = Found::default();
    let inherited = walk.at_the_root(&mut found)?;
    let (number, prefix) = (walk.next_number(), String::new());
    let folder = Folder { number, path: root.to_owned(), prefix, inherited, within: None };
    crew::walk(&walk, vec![folder], &mut found)?;
    walk.ask_git(&mut found)?;
    let answer = found.answer.take();
    Ok((walk.finish(found)?, answer))
}

/// Why the path that is asked for goes.
pub(super) struct Answer {
    pub(super) because: Admission,
    /// Whether it lies in a work tree that git has listed.
    pub(super) listed: bool,
}

/// Who says what is ignored.
#[derive(Debug, Clone)]
enum Authority {
    /// git, which has listed the repository.
    Git(Arc<Listed>),
    /// Ignore files, where git can't be asked.
    IgnoreFiles(IgnoreStack),
}

/// What a folder passes on to what is in it.
#[derive(Debug, Clone)]
struct Inherited {
    /// `.workspaceignore` takes the folder back by this line, whatever other rules say.
    taken_back: Option<Line>,
    /// The folder is left out but for tracked files.
    tracked_only: Option<Rule>,
    authority: Authority,
    /// Our own ignore files.
    own: IgnoreStack,
}

impl Inherited {
    /// What git tracks, where it is not known what of the rest is ignored.
    fn tracked_alone(&self) -> Option<&Arc<Listed>> {
        match &self.authority {
            Authority::Git(listed) if !listed.is_whole() => Some(listed),
            _ => None,
        }
    }
}

/// A folder that may hold source.
#[derive(Debug)]
struct Folder {
    /// In the order in which they were met; that of the root is 0.
    number: usize,
    path: PathBuf,
    /// Its path below the root, empty or ending with `/`.
    prefix: String,
    inherited: Inherited,
    /// Where what lies in it is in git's listing, if that is known.
    within: Option<Range<usize>>,
}

/// What every folder is looked at with.
struct Walk<'a> {
    root: &'a Path,
    options: &'a SourceOptions,
    /// What is asked for.
    asked: Option<&'a str>,
    defaults: Defaults,
    /// How many folders were met.
    folders: AtomicUsize,
}

/// What was found in some folders.
#[derive(Default)]
struct Found {
    /// For what was asked for.
    answer: Option<Answer>,
    blocks: Vec<Block>,
    /// Folders with nothing in them.
    empty: Vec<SourceEntry>,
    excluded: Vec<Excluded>,
    /// With the path that each is about, for their order.
    warnings: Vec<(String, String)>,
    /// Folders in which git tracks nothing.
    unknown_to_git: Vec<Folder>,
    /// Files and links that it doesn't track.
    questions: Vec<Questions>,
    folders: Vec<String>,
    /// Lock files that a rule leaves out.
    locks: HashSet<String>,
    /// What goes and looks like credentials.
    credentials: Vec<String>,
    /// What git has listed.
    listed: Vec<Arc<Listed>>,
    /// Submodules that are not checked out.
    empty_submodules: Vec<String>,
}

impl Found {
    fn join(&mut self, other: Self) {
        self.answer = self.answer.take().or(other.answer);
        self.blocks.extend(other.blocks);
        self.empty.extend(other.empty);
        self.excluded.extend(other.excluded);
        self.warnings.extend(other.warnings);
        self.unknown_to_git.extend(other.unknown_to_git);
        self.questions.extend(other.questions);
        self.folders.extend(other.folders);
        self.locks.extend(other.locks);
        self.credentials.extend(other.credentials);
        self.listed.extend(other.listed);
        self.empty_submodules.extend(other.empty_submodules);
    }

    fn warn(&mut self, path: &str, warning: String) {
        self.warnings.push((path.to_owned(), warning));
    }
}

impl Walk<'_> {
    fn next_number(&self) -> usize {
        self.folders.fetch_add(1, Ordering::Relaxed)
    }

    fn at_the_root(&self, found: &mut Found) -> Result<Inherited, SourceError> {
        let authority = if let Some(listing) = git::list_tracked(self.root)? {
            let listed = Arc::new(Listed::new(listing, false, "", None));
            found.listed.push(Arc::clone(&listed));
            Authority::Git(listed)
        } else {
            Authority::IgnoreFiles(self.ignore_files_above(found)?)
        };
        Ok(Inherited { taken_back: None, tracked_only: None, authority, own: IgnoreStack::new(WORKSPACE_IGNORE) })
    }

    /// Where git has not listed the root: the rules of the work tree around it, should git only be missing.
    fn ignore_files_above(&self, found: &mut Found) -> Result<IgnoreStack, SourceError> {
        let none = IgnoreStack::new(GIT_IGNORE);
        if is_torn_off(self.root) {
            let warning = "`.git` names a repository that is not there: ignore files alone decide, and what git tracked against \
                 them is left out";
            found.warn("", warning.to_owned());
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
        let warning = "git is not installed: files that it tracks although an ignore rule excludes them are left out";
        found.warn("", warning.to_owned());
        Ok(files)
    }

    /// Looks into one folder; what lies deeper is handed out.
    fn look_into(&self, folder: Folder, found: &mut Found, deeper: &mut Vec<Folder>) -> Result<(), SourceError> {
        let Folder { number, path, prefix, mut inherited, mut within } = folder;
        // What lies in a folder that no path can have can't go.
        let own: Option<TreePath> = prefix.strip_suffix('/').map(str::parse).transpose()?;
        let listing = match Listing::read(&path) {
            // Gone, or replaced, since its parent was read: then it isn't there.
            Err(error) if is_gone(&error) && !prefix.is_empty() => return Ok(()),
            other => other.map_err(|error| SourceError::unreadable(&path, error))?,
        };
        found.folders.push(prefix.clone());
        let goes_empty = matches!(inherited.tracked_only, None | Some(Rule::Submodule));
        if let Some(path) = own.filter(|_| listing.is_empty() && goes_empty) {
            found.empty.push(SourceEntry { path, kind: SourceKind::Directory });
            return Ok(());
        }
        if !prefix.is_empty() && listing.has(".git") && is_top(&path) {
            inherited.authority = self.repository(&path, &prefix, &inherited.authority, found)?;
            within = None;
        }
        if listing.has(WORKSPACE_IGNORE) {
            inherited.own.enter(&path, &prefix)?;
        }
        if let Authority::IgnoreFiles(files) = &mut inherited.authority
            && listing.has(GIT_IGNORE)
        {
            files.enter(&path, &prefix)?;
        }
        let inside = match &inherited.authority {
            Authority::Git(listed) => Some(listed.inside(prefix.as_bytes(), within)),
            Authority::IgnoreFiles(_) => None,
        };
        let composer = listing.has("composer.json");
        let around = Around { folder: &path, prefix: &prefix, inherited: &inherited, inside, composer };
        let mut block = Block::of(number);
        self.content(&around, &listing, &mut block, found, deeper)?;
        found.blocks.push(block);
        Ok(())
    }

    /// Who decides in a repository inside the tree: a submodule, or one that lies there by itself. It has rules of its own,
    /// and those around it don't count in it.
    fn repository(
        &self,
        folder: &Path,
        prefix: &str,
        around: &Authority,
        found: &mut Found,
    ) -> Result<Authority, SourceError> {
        match git::list(folder) {
            Ok(Some(listing)) => {
                let outer = match around {
                    Authority::Git(outer) => Some(Arc::clone(outer)),
                    Authority::IgnoreFiles(_) => None,
                };
                let listed = Arc::new(Listed::new(listing, true, prefix, outer));
                found.listed.push(Arc::clone(&listed));
                return Ok(Authority::Git(listed));
            }
            Ok(None) => {}
            // A submodule's `.git` names a folder of the repository around it, which need not have come along.
            Err(error) => found.warn(prefix, format!("ignore files alone decide in `{prefix}`: {error}")),
        }
        Ok(Authority::IgnoreFiles(IgnoreStack::of_work_tree(folder, &self.options.git)?))
    }

    fn content(
        &self,
        around: &Around<'_>,
        listing: &Listing,
        block: &mut Block,
        found: &mut Found,
        deeper: &mut Vec<Folder>,
    ) -> Result<(), SourceError> {
        let Around { folder, prefix, inside, .. } = around;
        let inside = inside.as_ref();
        let mut questions = Vec::new();
        for named in listing.names() {
            let item = Item::of(folder, prefix, named);
            let fate = self.fate(&item, around, found)?;
            self.answer(&item, &fate, inside.is_some(), found);
            let (known, taken_back, tracked_only) = match fate {
                Fate::Unseen => continue,
                Fate::Goes(_) => {
                    block.entries.extend(self.entry(listing, item, prefix, found)?);
                    continue;
                }
                Fate::Stays(rule) => {
                    leave_out(item, rule, found);
                    continue;
                }
                Fate::Descend { taken_back, tracked_only } => (true, taken_back, tracked_only),
                Fate::AskGit => (false, None, None),
            };
            let number = self.next_number();
            block.folders.push((block.entries.len(), number));
            if !named.kind.is_dir() {
                questions.push((number, named.name.to_vec(), named.kind));
                continue;
            }
            let (path, prefix) = (item.path(), item.into_text()? + "/");
            let mut inherited = Inherited { taken_back, tracked_only, ..around.inherited.clone() };
            let within = inside.filter(|_| known).map(|inside| inside.within(named.name));
            let listed = known && inside.is_some_and(|inside| inside.file(named.name) == Some(true));
            // Or it is a folder in the place of a file that was tracked.
            if listed && !is_top(&path) && git::is_submodule(repository_of(self.root, &path), &path)? {
                found.empty_submodules.push(prefix.trim_end_matches('/').to_owned());
                inherited.tracked_only.get_or_insert(Rule::Submodule);
            }
            let folder = Folder { number, path, prefix, inherited, within };
            if known { deeper.push(folder) } else { found.unknown_to_git.push(folder) }
        }
        if let Some(listed) = around.inherited.tracked_alone().filter(|_| !questions.is_empty()) {
            let (folder, prefix, listed) = ((*folder).to_owned(), (*prefix).to_owned(), Arc::clone(listed));
            found.questions.push(Questions { folder, prefix, listed, names: questions });
        }
        Ok(())
    }

    /// Keeps what becomes of an item if it is the one that is asked for.
    fn answer(&self, item: &Item<'_>, fate: &Fate, listed: bool, found: &mut Found) {
        if item.text.is_some() && self.asked.is_some_and(|asked| asked == item.shown) {
            found.answer = fate.admission().map(|because| Answer { because, listed });
        }
    }

    /// What goes, unless it is gone.
    fn entry(
        &self,
        listing: &Listing,
        item: Item<'_>,
        prefix: &str,
        found: &mut Found,
    ) -> Result<Option<SourceEntry>, SourceError> {
        let (name, path) = (item.named.name, || item.path());
        if !item.named.kind.is_symlink() {
            return match listing.stat(name) {
                Ok(stat) => {
                    if let Some(newer) = &self.options.newer
                        && stat.size > 0
                    {
                        newer.saw(&stat);
                    }
                    let path = TreePath::in_folder(item.into_text()?, prefix.len())?;
                    Ok(Some(SourceEntry::file(path, stat)?))
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(SourceError::unreadable(path(), error)),
            };
        }
        let target = match listing.link(name) {
            Ok(target) => target,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(SourceError::unreadable(path(), error)),
        };
        let shown = item.into_text()?;
        let target = String::from_utf8(target).map_err(|_| SourceError::NotUtf8(format!("{shown} -> …")))?;
        if guard::leaves_the_tree(&shown, &target) {
            found.warn(&shown, format!(
                "the link `{shown}` points out of the tree (`{target}`): a download refuses it unless told `--allow-external-links`, a container does not start with it"
            ));
        }
        let path = TreePath::in_folder(shown, prefix.len())?;
        Ok(Some(SourceEntry { path, kind: SourceKind::Link(target) }))
    }

    fn finish(&self, mut found: Found) -> Result<Selection, SourceError> {
        // Whoever asks for a rule may ask just because nothing goes.
        let entries = blocks::in_order(take(&mut found.blocks), take(&mut found.empty));
        if entries.is_empty() && self.asked.is_none() {
            let rules: std::collections::BTreeSet<String> =
                found.excluded.iter().map(|excluded| excluded.rule.to_string()).collect();
            return Err(SourceError::Empty {
                path: self.root.to_owned(),
                excluded: found.excluded.len(),
                rules: rules.into_iter().take(3).collect::<Vec<_>>().join("; "),
            });
        }
        found.excluded.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        found.warnings.sort();
        found.folders.sort_unstable();
        found.credentials.sort_unstable();
        found.empty_submodules.sort_unstable();
        let Found { mut excluded, locks, credentials, folders, .. } = found;
        let mut noticed: Vec<String> = found.warnings.into_iter().map(|(_, warning)| warning).collect();
        name_git_rules(self.root, &mut excluded, |excluded| locks.contains(&excluded.path))?;
        for Excluded { path, rule } in excluded.iter().filter(|excluded| locks.contains(&excluded.path)) {
            noticed.push(format!("the lock file `{path}` is left out ({rule}); `--include-lock` takes it"));
        }
        noticed.extend(listed::gaps(&found.listed, &found.empty_submodules, self.root));
        if !credentials.is_empty() {
            let (some, first) = (some_of(&credentials), &credentials[0]);
            noticed.push(format!(
                "{some} will be uploaded and mostly hold credentials: `/{first}` in {WORKSPACE_IGNORE} leaves that out, \
                 `!/{first}` says that it is meant"
            ));
        }
        Ok(Selection { root: self.root.to_owned(), entries, excluded, noticed, is_source: true, folders })
    }
}

fn leave_out(item: Item<'_>, rule: Rule, found: &mut Found) {
    let mut path = item.shown;
    if item.named.kind.is_dir() {
        path.push('/');
    }
    found.excluded.push(Excluded { path, rule });
}

/// The folder at or below the root whose repository a path in it belongs to.
pub(super) fn repository_of<'p>(root: &Path, path: &'p Path) -> &'p Path {
    path.ancestors().skip(1).find(|folder| is_top(folder) || *folder == root).unwrap_or(path)
}

pub(super) fn utf8(bytes: Vec<u8>) -> Result<String, SourceError> {
    String::from_utf8(bytes)
        .map_err(|error| SourceError::NotUtf8(String::from_utf8_lossy(error.as_bytes()).into_owned()))
}
