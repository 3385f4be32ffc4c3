//! The burst: everything verified is put in place, deletions last.
//!
//! One thread, so that the order is the one written here. Killed anywhere, the journal knows what may be ours.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use super::plan::Plan;
use super::stage::Stage;
use super::state::{Ours, Put, State};
use super::target::{Found, Target, look_at, remove};
use super::{CheckoutError, Placed, spelling};
use crate::cache::{PathMap, nanoseconds_now};
use crate::format::{Kind, Manifest};

/// A link in the making, on the stage.
const LINK: &str = "link";

/// Carries the plan out.
pub fn apply(
    target: &Target,
    state: &State,
    mut plan: Plan,
    stage: &Stage,
    manifest: &Manifest,
) -> Result<Placed, CheckoutError> {
    let changed = plan.write.iter().chain(&plan.links).chain(&plan.directories).map(|&at| &manifest.entries[at]);
    if changed.clone().next().is_some() {
        State::journal(target, changed)?;
    }
    let mut applying =
        Applying { target, folder: None, applied: Placed::default(), index: std::mem::take(&mut plan.index) };
    for path in &plan.obstacles {
        applying.remove_all(path)?;
    }
    let others = spelling::apply(target, &plan.respell)?;
    applying.files(stage, manifest)?;
    for &at in &plan.chmod {
        applying.chmod(&manifest.entries[at].path.to_string(), &manifest.entries[at].kind)?;
    }
    for &at in &plan.links {
        let entry = &manifest.entries[at];
        if let Kind::Link { target: text } = &entry.kind {
            applying.link(stage, entry.path.as_str(), text)?;
        }
    }
    for &at in &plan.directories {
        applying.make_folders(manifest.entries[at].path.as_str())?;
        applying.applied.written += 1;
    }
    applying.delete(&plan, manifest)?;
    let mut applied = applying.applied;
    applied.kept = plan.kept + plan.chmod.len() as u64;
    applied.left = plan.left.iter().map(String::as_str).chain(others).map(str::to_owned).collect();
    let mut ours = PathMap::default();
    for entry in &manifest.entries {
        ours.insert(entry.path.as_str(), Put::One(Ours::of(entry)));
    }
    for path in &applied.left {
        if let Some(put) = state.get(path) {
            ours.insert(path, put.clone());
        }
    }
    // The disk has it already where nothing was done, nor anything read.
    if !plan.learned && applied.written + applied.removed == 0 && state.is(&ours) {
        return Ok(applied);
    }
    State::save(target, ours, applying.index)?;
    Ok(applied)
}

struct Applying<'a> {
    target: &'a Target,
    /// The folder that was opened last.
    folder: Option<(String, OwnedFd)>,
    applied: Placed,
    index: crate::cache::Index,
}

impl Applying<'_> {
    fn parent<'p>(&mut self, path: &'p str) -> Result<(&OwnedFd, &'p str), CheckoutError> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        if self.folder.as_ref().is_none_or(|(open, _)| open != parent) {
            let open = match self.target.folder(parent) {
                Err(Errno::NOENT) => {
                    self.make_folders(parent)?;
                    self.target.folder(parent)
                }
                other => other,
            };
            self.folder = Some((parent.to_owned(), open.map_err(self.target.error("open", parent))?));
        }
        match &self.folder {
            Some((_, open)) => Ok((open, name)),
            None => Err(self.target.error("open", parent)(Errno::NOENT)),
        }
    }

    fn make_folders(&self, path: &str) -> Result<(), CheckoutError> {
        self.target.make_folders(path).map_err(self.target.error("create", path))
    }

    fn files(&mut self, stage: &Stage, manifest: &Manifest) -> Result<(), CheckoutError> {
        let target = self.target;
        let mut placed = Vec::new();
        for path in stage.new_folders() {
            let (parent, last) = self.parent(path)?;
            placed.push(stage.put_folder(path, parent, last));
        }
        for staged in stage.files() {
            let entry = &manifest.entries[staged.entry];
            let path = entry.path.as_str();
            let seen = if staged.folder.is_some_and(|folder| placed[folder]) {
                staged.seen()
            } else {
                let (parent, last) = self.parent(path)?;
                let stat = stage.put(staged, parent, last).map_err(target.error("replace", path))?;
                Some((stat, nanoseconds_now()))
            };
            if let (Kind::File { hash, .. }, Some((stat, when))) = (&entry.kind, seen) {
                self.index.insert(path, stat, when, *hash);
            }
            self.applied.written += 1;
            self.applied.written_bytes += entry.size();
        }
        Ok(())
    }

    fn chmod(&mut self, path: &str, kind: &Kind) -> Result<(), CheckoutError> {
        let Kind::File { executable, .. } = kind else { return Ok(()) };
        let mode = Mode::from_raw_mode(if *executable { 0o755 } else { 0o644 });
        let file = self.target.open_file(path).map_err(self.target.error("open", path))?;
        rustix::fs::fchmod(&file, mode).map_err(self.target.error("change the mode of", path))
    }

    fn link(&mut self, stage: &Stage, path: &str, text: &str) -> Result<(), CheckoutError> {
        let target = self.target;
        let make = || -> std::io::Result<()> {
            remove(stage.folder(), LINK)?;
            Ok(rustix::fs::symlinkat(text, stage.folder(), LINK)?)
        };
        make().map_err(CheckoutError::io("create", stage.shown(LINK)))?;
        let (parent, last) = self.parent(path)?;
        rustix::fs::renameat(stage.folder(), LINK, parent, last).map_err(target.error("replace", path))?;
        self.applied.written += 1;
        Ok(())
    }

    /// Removes a file or link, or a folder with everything in it.
    fn remove_all(&mut self, path: &str) -> Result<(), CheckoutError> {
        self.folder = None;
        let target = self.target;
        let error = |path: &str| target.error("remove", path);
        let (parent, name) = match target.parent(path) {
            Ok(parent) => parent,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(problem) => return Err(error(path)(problem)),
        };
        match look_at(&parent, name).map_err(error(path))? {
            Found::Nothing | Found::Obstructed => return Ok(()),
            Found::Directory => {}
            Found::File(_) | Found::Link | Found::Special => {
                rustix::fs::unlinkat(&parent, name, AtFlags::empty()).map_err(error(path))?;
                self.applied.removed += 1;
                return Ok(());
            }
        }
        for (name, _) in target.list(path).map_err(error(path))? {
            // With force, a foreign name need not be UTF-8.
            match String::from_utf8(name) {
                Ok(name) => self.remove_all(&format!("{path}/{name}"))?,
                Err(name) => {
                    let folder = target.folder(path).map_err(error(path))?;
                    rustix::fs::unlinkat(&folder, name.as_bytes(), AtFlags::empty()).map_err(error(path))?;
                }
            }
        }
        rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR).map_err(error(path))
    }

    /// Removes what is no longer wanted, then the folders that this left empty.
    fn delete(&mut self, plan: &Plan, manifest: &Manifest) -> Result<(), CheckoutError> {
        let target = self.target;
        let mut folders = BTreeSet::new();
        for path in &plan.delete {
            folders.extend(path.match_indices('/').map(|(slash, _)| path[..slash].to_owned()));
            let (parent, name) = match target.parent(path) {
                Ok(parent) => parent,
                // Gone with its folder, in whose place something else may stand.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => continue,
                Err(error) => return Err(target.error("remove", path)(error)),
            };
            match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
                Ok(()) => self.applied.removed += 1,
                Err(Errno::NOENT) => {}
                // An empty folder of ours; macOS says EPERM.
                Err(Errno::ISDIR | Errno::PERM) => {
                    folders.insert(path.clone());
                }
                Err(error) => return Err(target.error("remove", path)(error)),
            }
        }
        // Deepest first: a folder sorts before what is in it.
        for folder in folders.iter().rev() {
            // The version may want the folder, and nothing in it.
            let spelled = plan.wanted.as_ref().and_then(|wanted| wanted.get(folder));
            if manifest.entry(spelled.unwrap_or(folder)).is_some() {
                continue;
            }
            if let Ok((parent, name)) = target.parent(folder) {
                // Not empty: somebody else's, or still needed.
                let _ = rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR);
            }
        }
        Ok(())
    }
}
