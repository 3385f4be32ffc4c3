//! What has to happen in a target: decided before anything is changed.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::io::Errno;

use super::spelling::Spellings;
use super::state::{Ours, State};
use super::target::{Found, Target, look_at};
use super::{CheckoutError, CheckoutOptions};
use crate::budget::threads;
use crate::cache::{Index, nanoseconds_now};
use crate::format::spelling::fold;
use crate::format::{Hash, Kind, Manifest};
use crate::output::escape;
use crate::source::Stat;

/// The steps, by position among the manifest's entries or by path.
#[derive(Debug, Default)]
pub struct Plan {
    /// Files to fetch and put in place.
    pub write: Vec<usize>,
    /// Files with the right content and the wrong executable bit.
    pub chmod: Vec<usize>,
    /// Links to make.
    pub links: Vec<usize>,
    /// Empty folders to make.
    pub directories: Vec<usize>,
    /// Entries that are right already.
    pub kept: u64,
    /// What stands where something else belongs; folders with all that is in them.
    pub obstacles: Vec<String>,
    /// What is ours and no longer wanted.
    pub delete: Vec<String>,
    /// What is ours, no longer wanted, and stays; or was edited.
    pub left: Vec<String>,
    /// What isn't ours and stands in the way.
    pub foreign: Vec<String>,
    /// Digests of files that stay.
    pub index: Index,
    /// What the version spells another way than what is there, where that is one name.
    pub respell: Vec<(String, String)>,
    /// The version's own spellings, where that matters.
    pub wanted: Option<Spellings>,
    /// What files that will be replaced or removed looked like, and where nothing stood.
    pub seen: Vec<(String, Option<Stat>)>,
}

impl Plan {
    /// Looks once more, since fetching takes time: what somebody has written meanwhile is theirs.
    pub fn look_again(&mut self, target: &Target) -> Result<(), CheckoutError> {
        for (path, before) in std::mem::take(&mut self.seen) {
            let now = target.stat(&path).map_err(target.error("look at", &path))?;
            if now.is_none() || now == before {
                continue;
            }
            match self.delete.iter().position(|going| *going == path) {
                Some(at) => {
                    self.delete.remove(at);
                    self.left.push(path);
                }
                None => self.foreign.push(path),
            }
        }
        self.refuse_if_foreign(target)
    }

    /// Refuses when something foreign stands in the way.
    pub fn refuse_if_foreign(&self, target: &Target) -> Result<(), CheckoutError> {
        if self.foreign.is_empty() {
            return Ok(());
        }
        let mut shown: Vec<String> = self.foreign.iter().take(5).map(|path| escape(path)).collect();
        if self.foreign.len() > shown.len() {
            shown.push("…".to_owned());
        }
        Err(CheckoutError::Foreign {
            target: target.path().to_owned(),
            count: self.foreign.len(),
            shown: shown.join(", "),
        })
    }
}

/// Compares the version with the target.
pub fn plan(
    manifest: &Manifest,
    target: &Target,
    state: &State,
    wanted: Option<Spellings>,
    options: CheckoutOptions,
) -> Result<Plan, CheckoutError> {
    let mut planner = Planner {
        manifest,
        target,
        state,
        options,
        plan: Plan { wanted, ..Plan::default() },
        digests: HashMap::new(),
        obstacles: HashSet::new(),
        parent: None,
    };
    let fresh = target.has_only_state().map_err(target.error("read", ""))?;
    if fresh {
        planner.everything();
    } else {
        planner.compare()?;
        planner.leftovers()?;
        planner.spellings();
    }
    Ok(planner.plan)
}

struct Planner<'a> {
    manifest: &'a Manifest,
    target: &'a Target,
    state: &'a State,
    options: CheckoutOptions,
    plan: Plan,
    /// Digest, what the file looked like, and when reading it began.
    digests: HashMap<String, (Hash, Stat, i64)>,
    obstacles: HashSet<String>,
    /// The folder that was opened last: entries are sorted, so it is mostly the next one's, too.
    parent: Option<(String, Result<OwnedFd, Errno>)>,
}

impl Planner<'_> {
    fn everything(&mut self) {
        for (at, entry) in self.manifest.entries.iter().enumerate() {
            self.step(at, &entry.kind);
            let top = entry.path.as_str().split('/').next().unwrap_or_default();
            if self.plan.seen.last().is_none_or(|(last, _)| last != top) {
                self.saw(top, None);
            }
        }
    }

    /// Keeps what [`Plan::look_again`] compares with; force takes whatever is there.
    fn saw(&mut self, path: &str, stat: Option<Stat>) {
        if !self.options.force {
            self.plan.seen.push((self.state.spelling(path).into_owned(), stat));
        }
    }

    fn step(&mut self, at: usize, kind: &Kind) {
        match kind {
            Kind::File { .. } => self.plan.write.push(at),
            Kind::Link { .. } => self.plan.links.push(at),
            Kind::Directory => self.plan.directories.push(at),
        }
    }

    fn look(&mut self, path: &str) -> Result<Found, CheckoutError> {
        let path = &*self.state.spelling(path);
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        if self.parent.as_ref().is_none_or(|(open, _)| open != folder) {
            self.parent = Some((folder.to_owned(), self.target.folder(folder)));
        }
        let answer = match &self.parent {
            Some((_, Ok(open))) => look_at(open, name),
            None | Some((_, Err(Errno::NOENT))) => Ok(Found::Nothing),
            Some((_, Err(Errno::NOTDIR | Errno::LOOP | Errno::XDEV))) => Ok(Found::Obstructed),
            Some((_, Err(error))) => Err(*error),
        };
        answer.map_err(self.target.error("look at", path))
    }

    fn compare(&mut self) -> Result<(), CheckoutError> {
        let manifest = self.manifest;
        let mut found = Vec::with_capacity(manifest.entries.len());
        let mut to_hash = Vec::new();
        for entry in &manifest.entries {
            let path = entry.path.as_str();
            let there = self.look(path)?;
            if let Found::File { size, .. } = there {
                let may_be_right = matches!(entry.kind, Kind::File { size: wanted, .. } if wanted == size);
                if may_be_right || self.state.knows(path) {
                    to_hash.push(path.to_owned());
                }
            }
            found.push(there);
        }
        self.hash(&to_hash)?;
        for (at, (entry, there)) in manifest.entries.iter().zip(found).enumerate() {
            self.compare_one(at, entry.path.as_str(), &entry.kind, there)?;
        }
        Ok(())
    }

    fn compare_one(&mut self, at: usize, path: &str, kind: &Kind, there: Found) -> Result<(), CheckoutError> {
        match (kind, there) {
            (_, Found::Nothing) => {
                if *kind != Kind::Directory {
                    self.saw(path, None);
                }
                self.step(at, kind);
                return Ok(());
            }
            (_, Found::Obstructed) => {
                self.clear_parents(path)?;
                self.step(at, kind);
                return Ok(());
            }
            (Kind::Directory, Found::Directory) => {
                self.plan.kept += 1;
                return Ok(());
            }
            (Kind::Link { target }, Found::Link) => {
                let text =
                    self.target.read_link(&self.state.spelling(path)).map_err(self.target.error("read", path))?;
                if text.as_bytes() == target.as_bytes() {
                    self.plan.kept += 1;
                    return Ok(());
                }
            }
            (Kind::File { hash, executable, .. }, Found::File { executable: is, .. }) => {
                if let Some((digest, stat, began)) = self.digests.get(path)
                    && digest == hash
                {
                    self.plan.index.insert(path, *stat, *began, *digest);
                    if is == *executable {
                        self.plan.kept += 1;
                    } else {
                        self.plan.chmod.push(at);
                    }
                    return Ok(());
                }
                // Replaced by one rename: no obstacle to remove first.
                if !self.is_ours(path, there)? && !self.options.force {
                    self.plan.foreign.push(path.to_owned());
                }
                if let Some((_, stat, _)) = self.digests.get(path).copied() {
                    self.saw(path, Some(stat));
                }
                self.plan.write.push(at);
                return Ok(());
            }
            _ => {}
        }
        self.clear(path, there)?;
        self.step(at, kind);
        Ok(())
    }

    /// Whether what stands at a path is what we put there.
    fn is_ours(&mut self, path: &str, there: Found) -> Result<bool, CheckoutError> {
        if !self.state.knows(path) {
            return Ok(false);
        }
        Ok(match there {
            Found::File { .. } => {
                if !self.digests.contains_key(path) {
                    self.hash(&[path.to_owned()])?;
                }
                self.digests.get(path).is_some_and(|(digest, ..)| self.state.is_ours(path, &Ours::File(*digest)))
            }
            Found::Link => {
                let text =
                    self.target.read_link(&self.state.spelling(path)).map_err(self.target.error("read", path))?;
                text.to_str().is_ok_and(|text| self.state.is_ours(path, &Ours::Link(text.to_owned())))
            }
            Found::Directory => self.state.is_ours(path, &Ours::Directory),
            Found::Nothing | Found::Special | Found::Obstructed => false,
        })
    }

    /// Plans to remove what stands at a path, with all that is in it.
    fn clear(&mut self, path: &str, there: Found) -> Result<(), CheckoutError> {
        if !self.obstacles.insert(self.name(path).into_owned()) {
            return Ok(());
        }
        self.plan.obstacles.push(self.state.spelling(path).into_owned());
        if self.options.force {
            return Ok(());
        }
        if there != Found::Directory {
            if !self.is_ours(path, there)? {
                self.plan.foreign.push(path.to_owned());
            }
            return Ok(());
        }
        let mut folders = vec![path.to_owned()];
        while let Some(folder) = folders.pop() {
            for (name, inside) in self.target.list(&folder).map_err(self.target.error("read", &folder))? {
                // A name that isn't UTF-8 can't be ours.
                let Ok(name) = String::from_utf8(name.clone()) else {
                    self.plan.foreign.push(format!("{folder}/{}", String::from_utf8_lossy(&name)));
                    continue;
                };
                let path = format!("{folder}/{name}");
                if inside == Found::Directory {
                    folders.push(path);
                } else if !self.is_ours(&path, inside)? {
                    self.plan.foreign.push(path);
                }
            }
        }
        Ok(())
    }

    /// Plans to remove the parent that is no folder.
    fn clear_parents(&mut self, path: &str) -> Result<(), CheckoutError> {
        for (slash, _) in path.match_indices('/') {
            let parent = &path[..slash];
            let there = self.look(parent)?;
            if there != Found::Directory {
                return self.clear(parent, there);
            }
        }
        Ok(())
    }

    /// What we put there earlier and the version doesn't have.
    fn leftovers(&mut self) -> Result<(), CheckoutError> {
        let state = self.state;
        let mut paths: Vec<&str> =
            state.paths().into_iter().filter(|path| self.manifest.entry(path).is_none()).collect();
        if let Some(wanted) = &self.plan.wanted {
            paths.retain(|path| wanted.get(path).is_none());
        }
        let mut to_hash = Vec::new();
        let mut found = Vec::with_capacity(paths.len());
        for path in &paths {
            let there = self.look(path)?;
            if matches!(there, Found::File { .. }) {
                to_hash.push((*path).to_owned());
            }
            found.push(there);
        }
        self.hash(&to_hash)?;
        for (path, there) in paths.into_iter().zip(found) {
            let goes_anyway =
                self.is_obstacle(path) || path.match_indices('/').any(|(slash, _)| self.is_obstacle(&path[..slash]));
            if there == Found::Nothing && self.options.delete {
                // Its folders may be left over from a checkout that was killed between them.
                self.plan.delete.push(path.to_owned());
                continue;
            }
            if goes_anyway || matches!(there, Found::Nothing | Found::Obstructed) {
                continue;
            }
            if there == Found::Directory && self.becomes_a_parent(path) {
                continue;
            }
            let may_go = self.options.force || self.is_ours(path, there)?;
            if self.options.delete && may_go {
                if let Some((_, stat, _)) = self.digests.get(path).copied() {
                    self.saw(path, Some(stat));
                }
                self.plan.delete.push(path.to_owned());
            } else if there != Found::Directory {
                self.plan.left.push(path.to_owned());
                if let Some((digest, stat, began)) = self.digests.get(path) {
                    self.plan.index.insert(path, *stat, *began, *digest);
                }
            }
        }
        Ok(())
    }

    /// What we put there earlier and the version spells another way.
    fn spellings(&mut self) {
        let Some(wanted) = &self.plan.wanted else { return };
        for path in self.state.spelled.all() {
            if let Some(other) = wanted.get(path).filter(|other| *other != path) {
                self.plan.respell.push((path.to_owned(), other.to_owned()));
            }
        }
    }

    /// The path, or what it is where spelling counts less.
    fn name<'p>(&self, path: &'p str) -> Cow<'p, str> {
        if self.plan.wanted.is_some() { fold(path) } else { path.into() }
    }

    fn is_obstacle(&self, path: &str) -> bool {
        !self.obstacles.is_empty() && self.obstacles.contains(&*self.name(path))
    }

    fn becomes_a_parent(&self, path: &str) -> bool {
        let prefix = format!("{path}/");
        let at = self.manifest.entries.partition_point(|entry| entry.path.as_str() < prefix.as_str());
        self.manifest.entries.get(at).is_some_and(|entry| entry.path.as_str().starts_with(&prefix))
    }

    /// Finds the digests of files, on all cores where they must be read.
    fn hash(&mut self, paths: &[String]) -> Result<(), CheckoutError> {
        let next = AtomicUsize::new(0);
        let results = Mutex::new(Vec::with_capacity(paths.len()));
        let (target, state) = (self.target, self.state);
        let work = || {
            while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
                let result = digest(target, state, path);
                results.lock().unwrap_or_else(PoisonError::into_inner).push((path.clone(), result));
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads().min(paths.len()) {
                scope.spawn(work);
            }
            work();
        });
        for (path, result) in results.into_inner().unwrap_or_else(PoisonError::into_inner) {
            self.digests.insert(path, result?);
        }
        Ok(())
    }
}

fn digest(target: &Target, state: &State, path: &str) -> Result<(Hash, Stat, i64), CheckoutError> {
    let path = &*state.spelling(path);
    let mut file = target.open_file(path).map_err(target.error("read", path))?;
    let shown = target.shown(path);
    let io = |error| CheckoutError::io("read", &shown)(error);
    let stat = Stat::of(&file.metadata().map_err(io)?);
    let began = nanoseconds_now();
    if let Some(hash) = state.index.find(path, &stat) {
        return Ok((hash, stat, began));
    }
    let hash = digest_of(&mut file).map_err(CheckoutError::io("read", Path::new(&shown)))?;
    Ok((hash, stat, began))
}

/// The digest of what a reader yields.
pub fn digest_of(reader: &mut impl Read) -> std::io::Result<Hash> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(reader)?;
    Ok(hasher.finalize().into())
}
