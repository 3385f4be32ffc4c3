//! What git is asked about: all that it doesn't track, so that a folder without such things costs no question.
//!
//! It is asked for a list of what is untracked and not ignored. `git check-ignore` is no match for that: it takes paths for patterns, is
//! silent about one that matches anything tracked, and compares each path with the whole index. So it is asked about a few folders alone,
//! where it may be wrong in one direction only: what it is silent about is looked into, and the list decides on what is in it.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::mem::take;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FileType;

use super::blocks::Block;
use super::fate::{Fate, Item};
use super::listed::Listed;
use super::{Authority, Folder, Found, Walk, crew, leave_out, repository_of};
use crate::source::listing::{Listing, Named};
use crate::source::{Excluded, Rule, SourceError, git, is_gone};

/// So many folders are worth a question about each of them.
const FEW: usize = 64;

/// What git is to be asked about in one folder.
pub(super) struct Questions {
    pub(super) folder: PathBuf,
    pub(super) prefix: String,
    /// What git tracks.
    pub(super) listed: Arc<Listed>,
    /// Files and links, each with the number of a block of its own.
    pub(super) names: Vec<(usize, Vec<u8>, FileType)>,
}

impl Walk<'_> {
    /// Asks git about what it doesn't track.
    pub(super) fn ask_git(&self, found: &mut Found) -> Result<(), SourceError> {
        while !found.unknown_to_git.is_empty() || !found.questions.is_empty() {
            let (mut folders, mut questions) = (take(&mut found.unknown_to_git), take(&mut found.questions));
            folders.sort_unstable_by(|one, other| one.path.cmp(&other.path));
            questions.sort_unstable_by(|one, other| one.folder.cmp(&other.folder));
            if questions.is_empty() && folders.len() <= FEW {
                folders = self.without_ignored(folders, found)?;
                self.list_untracked(&mut folders, &questions, false)?;
            } else {
                let whole = self.list_untracked(&mut folders, &questions, true)?;
                for questions in questions {
                    self.settle(&questions, whole.as_deref(), found)?;
                }
                let (with_some, empty) = folders.into_iter().partition(Folder::has_listed);
                folders = with_some;
                folders.extend(self.without_ignored(empty, found)?);
            }
            crew::walk(self, folders, found)?;
        }
        Ok(())
    }

    /// The folders that git doesn't ignore.
    fn without_ignored(&self, folders: Vec<Folder>, found: &mut Found) -> Result<Vec<Folder>, SourceError> {
        // git refuses to answer for what lies in a submodule.
        let mut by_repository: BTreeMap<&Path, Vec<Vec<u8>>> = BTreeMap::new();
        for Folder { path, .. } in &folders {
            let repository = repository_of(self.root, path);
            if let Ok(name) = path.strip_prefix(repository) {
                by_repository.entry(repository).or_default().push(name.as_os_str().as_bytes().to_vec());
            }
        }
        let mut ignored = HashSet::new();
        for (repository, names) in by_repository {
            let names = git::ignored(repository, &names)?;
            ignored.extend(names.into_iter().map(|name| repository.join(OsStr::from_bytes(&name))));
        }
        let (ignored, rest): (Vec<Folder>, Vec<Folder>) =
            folders.into_iter().partition(|folder| ignored.contains(&folder.path));
        for Folder { prefix, .. } in ignored {
            if self.asked == prefix.strip_suffix('/') {
                found.answer = None;
            }
            found.excluded.push(Excluded { path: prefix, rule: Rule::Git });
        }
        Ok(rest)
    }

    /// Completes what is known of the repository at the root by what is untracked in it and not ignored: `all` of that, or what lies in
    /// these folders. Only of that one not all is known.
    fn list_untracked(
        &self,
        folders: &mut [Folder],
        questions: &[Questions],
        all: bool,
    ) -> Result<Option<Arc<Listed>>, SourceError> {
        let in_part = |folder: &Folder| folder.inherited.tracked_alone().is_some();
        let tracked = folders.iter().find_map(|folder| folder.inherited.tracked_alone());
        let Some(tracked) = tracked.or(questions.first().map(|questions| &questions.listed)).cloned() else {
            return Ok(None);
        };
        let named = folders.iter().filter(|folder| !all && in_part(folder));
        let paths: Vec<&Path> = named.filter_map(|folder| folder.path.strip_prefix(self.root).ok()).collect();
        let listed = Arc::new(tracked.untracked(git::list_untracked(self.root, &paths)?));
        for folder in folders.iter_mut().filter(|folder| in_part(folder)) {
            folder.inherited.authority = Authority::Git(Arc::clone(&listed));
        }
        Ok(Some(listed))
    }

    /// Decides on what git was asked about in one folder.
    fn settle(&self, questions: &Questions, whole: Option<&Listed>, found: &mut Found) -> Result<(), SourceError> {
        let Questions { folder, prefix, names, .. } = questions;
        let listing = match Listing::open(folder) {
            Err(error) if is_gone(&error) => return Ok(()),
            other => other.map_err(|error| SourceError::unreadable(folder, error))?,
        };
        let inside = whole.map(|listed| listed.inside(prefix.as_bytes(), None));
        for (number, name, kind) in names {
            let ignored = inside.as_ref().is_some_and(|inside| inside.file(name).is_none());
            let item = Item::of(folder, prefix, Named { name, kind: *kind });
            let fate = self.fate_as_answered(&item, ignored, found)?;
            self.answer(&item, &fate, true, found);
            match fate {
                Fate::Goes(_) => {
                    let entries = self.entry(&listing, item, prefix, found)?.into_iter().collect();
                    found.blocks.push(Block { entries, ..Block::of(*number) });
                }
                Fate::Stays(rule) => leave_out(item, rule, found),
                Fate::Unseen | Fate::Descend { .. } | Fate::AskGit => {}
            }
        }
        Ok(())
    }
}

impl Folder {
    /// Whether git has listed anything in it, or the folder itself as another repository.
    fn has_listed(&self) -> bool {
        let path = self.prefix.trim_end_matches('/');
        let (above, name) = path.rsplit_once('/').map_or(("", path), |(above, name)| (&path[..=above.len()], name));
        matches!(&self.inherited.authority, Authority::Git(listed) if listed.inside(above.as_bytes(), None).has(name.as_bytes()))
    }
}
