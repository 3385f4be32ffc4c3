//! Targets where several spellings are one name, as on most Macs.
//!
//! A version with paths that would be one file there is refused as a whole. What an earlier version spelled another way is
//! still what we put there: it is looked at as it was spelled, spelled anew, and never removed as something that is no
//! longer wanted. Some file systems answer from what they remember of a name (NTFS by FUSE), so a name that seems to be
//! missing proves nothing.

use std::collections::{BTreeSet, HashMap, HashSet};

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::CheckoutError;
use super::target::{Target, is_same};
use crate::format::Manifest;
use crate::format::spelling::{collisions, fold};

/// How paths, and the folders on the way to them, are spelled, by what they are where spelling counts less.
#[derive(Debug, Default)]
pub struct Spellings(HashMap<String, String>);

impl Spellings {
    /// Of a version; refused where not everything of it would be left in such a target.
    pub fn of(manifest: &Manifest) -> Result<Self, CheckoutError> {
        if let Some(found) = collisions(manifest.entries.iter().map(|entry| entry.path.as_str())) {
            return Err(CheckoutError::OneName {
                one: found.first.0.to_owned(),
                other: found.first.1.to_owned(),
                more: found.more,
            });
        }
        let mut spellings = Self::default();
        for entry in &manifest.entries {
            spellings.add(entry.path.as_str());
        }
        Ok(spellings)
    }

    /// Adds a path and the folders on the way to it, unless they are known by another spelling.
    pub fn add(&mut self, path: &str) {
        for end in path.match_indices('/').map(|(slash, _)| slash).chain([path.len()]) {
            self.0.entry(fold(&path[..end]).into_owned()).or_insert_with(|| path[..end].to_owned());
        }
    }

    /// The spelling of what may be the same path.
    pub fn get(&self, path: &str) -> Option<&str> {
        self.0.get(&*fold(path)).map(String::as_str)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, in order.
    pub fn all(&self) -> BTreeSet<&str> {
        self.0.values().map(String::as_str).collect()
    }
}

/// Spells what is there, and the folders on the way to it, as the version does. Of each pair the former spelling is first.
/// Gives the former paths that are something else to this file system.
pub fn apply<'p>(target: &Target, pairs: &'p [(String, String)]) -> Result<Vec<&'p str>, CheckoutError> {
    let (mut done, mut others) = (HashSet::new(), Vec::new());
    for (former, wanted) in pairs {
        let mut end = 0;
        for (before, now) in former.split('/').zip(wanted.split('/')) {
            end += now.len() + 1;
            let path = &wanted[..end - 1];
            if before == now || !done.insert(path) {
                continue;
            }
            match spell(target, before, path) {
                Ok(true) | Err(Errno::NOENT | Errno::NOTDIR) => {}
                Ok(false) => others.push(former.as_str()),
                Err(error) => return Err(target.error("rename", path)(error)),
            }
        }
    }
    Ok(others)
}

/// Renames what is called `before` to the last part of `path`, unless something else has that name.
fn spell(target: &Target, before: &str, path: &str) -> Result<bool, Errno> {
    let (parent, name) = target.parent(path)?;
    let there = rustix::fs::statat(&parent, before, AtFlags::SYMLINK_NOFOLLOW)?;
    match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(other) if !is_same(&there, &other) => Ok(false),
        Ok(_) | Err(Errno::NOENT) => rustix::fs::renameat(&parent, before, &parent, name).map(|()| true),
        Err(error) => Err(error),
    }
}
