//! What git is asked about: all that it doesn't track, so that a folder without such things costs no question.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::mem::take;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FileType;

use super::blocks::Block;
use super::fate::{Fate, Item};
use super::{Authority, Folder, Found, Walk, crew, leave_out, repository_of};
use crate::source::listing::{Listing, Named};
use crate::source::{Excluded, Rule, SourceError, git, is_gone};

/// What git is to be asked about in one folder.
pub(super) struct Questions {
    pub(super) folder: PathBuf,
    pub(super) prefix: String,
    /// Files and links, each with the number of a block of its own.
    pub(super) names: Vec<(usize, Vec<u8>, FileType)>,
}

impl Walk<'_> {
    /// Asks git about what it doesn't track: all at once, so that a folder without such things costs no question.
    pub(super) fn ask_git(&self, found: &mut Found) -> Result<(), SourceError> {
        while !found.unknown_to_git.is_empty() || !found.questions.is_empty() {
            let (mut folders, mut questions) = (take(&mut found.unknown_to_git), take(&mut found.questions));
            folders.sort_unstable_by(|one, other| one.path.cmp(&other.path));
            questions.sort_unstable_by(|one, other| one.folder.cmp(&other.folder));
            let files = questions.iter().flat_map(|Questions { folder, names, .. }| {
                names.iter().map(move |(_, name, _)| folder.join(OsStr::from_bytes(name)))
            });
            let ignored = self.ignored(folders.iter().map(|folder| folder.path.clone()).chain(files))?;
            for questions in questions {
                self.settle(&questions, &ignored, found)?;
            }
            let (ignored, folders): (Vec<Folder>, Vec<Folder>) =
                folders.into_iter().partition(|folder| ignored.contains(&folder.path));
            for Folder { prefix, .. } in ignored {
                if self.asked == prefix.strip_suffix('/') {
                    found.answer = None;
                }
                found.excluded.push(Excluded { path: prefix, rule: Rule::Git });
            }
            crew::walk(self, self.list_untracked(folders)?, found)?;
        }
        Ok(())
    }

    /// Which of these git ignores.
    fn ignored(&self, paths: impl Iterator<Item = PathBuf>) -> Result<HashSet<PathBuf>, SourceError> {
        // git refuses to answer for what lies in a submodule.
        let mut by_repository: BTreeMap<PathBuf, Vec<Vec<u8>>> = BTreeMap::new();
        for path in paths {
            let repository = repository_of(self.root, &path);
            if let Ok(name) = path.strip_prefix(repository) {
                let name = name.as_os_str().as_bytes().to_vec();
                by_repository.entry(repository.to_owned()).or_default().push(name);
            }
        }
        let mut ignored = HashSet::new();
        for (repository, names) in by_repository {
            let names = git::ignored(&repository, &names)?;
            ignored.extend(names.into_iter().map(|name| repository.join(OsStr::from_bytes(&name))));
        }
        Ok(ignored)
    }

    /// Decides on what git was asked about in one folder.
    fn settle(&self, questions: &Questions, ignored: &HashSet<PathBuf>, found: &mut Found) -> Result<(), SourceError> {
        let Questions { folder, prefix, names } = questions;
        let listing = match Listing::open(folder) {
            Err(error) if is_gone(&error) => return Ok(()),
            other => other.map_err(|error| SourceError::unreadable(folder, error))?,
        };
        for (number, name, kind) in names {
            let item = Item::of(folder, prefix, Named { name, kind: *kind });
            let fate = self.fate_as_answered(&item, ignored.contains(&item.path()), found)?;
            self.answer(&item, &fate, true, found);
            match fate {
                Fate::Goes(_) => {
                    let entries = Self::entry(&listing, item, prefix, found)?.into_iter().collect();
                    found.blocks.push(Block { entries, ..Block::of(*number) });
                }
                Fate::Stays(rule) => leave_out(item, rule, found),
                Fate::Unseen | Fate::Descend { .. } | Fate::AskGit => {}
            }
        }
        Ok(())
    }

    /// Folders in which nothing is tracked, with a listing of what in them is not ignored.
    fn list_untracked(&self, mut folders: Vec<Folder>) -> Result<Vec<Folder>, SourceError> {
        let mut by_repository: BTreeMap<PathBuf, Vec<usize>> = BTreeMap::new();
        for (at, folder) in folders.iter().enumerate() {
            if matches!(&folder.inherited.authority, Authority::Git(listed) if !listed.is_whole()) {
                let repository = repository_of(self.root, &folder.path).to_owned();
                by_repository.entry(repository).or_default().push(at);
            }
        }
        for (repository, positions) in by_repository {
            let path = |at: &usize| folders[*at].path.strip_prefix(&repository).unwrap_or(Path::new("."));
            let listing = git::list_untracked(&repository, &positions.iter().map(path).collect::<Vec<_>>())?;
            let Authority::Git(tracked) = &folders[positions[0]].inherited.authority else { continue };
            let listed = Arc::new(tracked.untracked(listing));
            for at in positions {
                folders[at].inherited.authority = Authority::Git(Arc::clone(&listed));
            }
        }
        Ok(folders)
    }
}
