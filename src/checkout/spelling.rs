//! Targets where several spellings are one name, as on most Macs.
//!
//! A version with paths that would be one file there is refused as a whole. What an earlier version spelled another way is
//! still what we put there: it is replaced and spelled anew, not removed as something that is no longer wanted.

use std::collections::{HashMap, HashSet};

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::CheckoutError;
use super::state::State;
use super::target::Target;
use crate::format::Manifest;
use crate::format::spelling::{collisions, fold};

/// The paths of a version, and the folders on the way to them, by what they are where spelling counts less.
#[derive(Debug)]
pub struct Wanted(HashMap<String, String>);

impl Wanted {
    /// Refuses a version of which not everything would be left in such a target.
    pub fn of(manifest: &Manifest) -> Result<Self, CheckoutError> {
        if let Some(found) = collisions(manifest.entries.iter().map(|entry| entry.path.as_str())) {
            return Err(CheckoutError::OneName {
                one: found.first.0.to_owned(),
                other: found.first.1.to_owned(),
                more: found.more,
            });
        }
        let mut wanted = HashMap::new();
        for entry in &manifest.entries {
            let path = entry.path.as_str();
            for end in path.match_indices('/').map(|(slash, _)| slash).chain([path.len()]) {
                wanted.entry(fold(&path[..end]).into_owned()).or_insert_with(|| path[..end].to_owned());
            }
        }
        Ok(Self(wanted))
    }

    /// How the version spells what may be the same path.
    pub fn spelling(&self, path: &str) -> Option<&str> {
        self.0.get(&*fold(path)).map(String::as_str)
    }

    /// Has `state` know what is there by the version's spelling. Gives the pairs, the former spelling first.
    pub fn respell(&self, state: &mut State, target: &Target) -> Result<Vec<(String, String)>, CheckoutError> {
        let mut pairs = Vec::new();
        for path in state.paths() {
            let Some(wanted) = self.spelling(path).filter(|wanted| *wanted != path) else { continue };
            // The file system has the last word on what is one name.
            let there = target.stat(path).map_err(target.error("look at", path))?;
            if there.is_some() && there == target.stat(wanted).map_err(target.error("look at", wanted))? {
                pairs.push((path.to_owned(), wanted.to_owned()));
            }
        }
        for (path, wanted) in &pairs {
            state.rename(path, wanted);
        }
        Ok(pairs)
    }
}

/// Spells what is there, and the folders on the way to it, as the version does. `pairs` as [`Wanted::respell`] gave them.
pub fn apply(target: &Target, pairs: &[(String, String)]) -> Result<(), CheckoutError> {
    let mut done = HashSet::new();
    for (former, wanted) in pairs {
        let mut end = 0;
        for (before, now) in former.split('/').zip(wanted.split('/')) {
            end += now.len() + 1;
            let path = &wanted[..end - 1];
            if before == now || !done.insert(path) {
                continue;
            }
            let spell = || -> Result<(), Errno> {
                let (parent, name) = target.parent(path)?;
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                let (one, other) =
                    (rustix::fs::statat(&parent, before, flags)?, rustix::fs::statat(&parent, name, flags)?);
                if (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino) {
                    rustix::fs::renameat(&parent, before, &parent, name)?;
                }
                Ok(())
            };
            match spell() {
                Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => return Err(target.error("rename", path)(error)),
            }
        }
    }
    Ok(())
}
