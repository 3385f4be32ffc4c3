//! What has to happen in a target: decided before anything is changed.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::panic::resume_unwind;
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
use crate::format::{Entry, Hash, Kind, Manifest};
use crate::output::escape;
use crate::source::Stat;

/// Fewer files than this are not worth a thread.
const SHARE: usize = 512;

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
    /// Whether any of them had to be read.
    pub learned: bool,
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
        eyes: Eyes::of(target, state),
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
    /// Of files that are not what the version wants there, or that it doesn't have.
    digests: HashMap<String, Known>,
    obstacles: HashSet<String>,
    eyes: Eyes<'a>,
}

/// What is known of a file.
#[derive(Debug, Clone, Copy)]
struct Known {
    hash: Hash,
    /// What it looked like.
    stat: Stat,
    /// When reading it began; or the looks, where it looks as it did when it was read.
    began: i64,
}

/// Looks at what stands in a target.
struct Eyes<'a> {
    target: &'a Target,
    state: &'a State,
    /// The folder that was opened last: paths mostly come in order, so it is mostly the next one's, too.
    parent: Option<(String, Result<OwnedFd, Errno>)>,
}

impl<'a> Eyes<'a> {
    fn of(target: &'a Target, state: &'a State) -> Self {
        Self { target, state, parent: None }
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

    /// What stands at the paths of these entries, and the digests of the files that look as they did when they were read.
    fn look_at_all(mut self, entries: &[Entry]) -> Result<Vec<(Found, Option<Known>)>, CheckoutError> {
        let mut index = self.state.index.in_order();
        let began = nanoseconds_now();
        let look = |entry: &Entry| {
            let found = self.look(entry.path.as_str())?;
            let known = match &found {
                Found::File(stat) => {
                    let hash = index.find(&self.state.spelling(entry.path.as_str()), stat);
                    hash.map(|hash| Known { hash, stat: *stat, began })
                }
                _ => None,
            };
            Ok((found, known))
        };
        entries.iter().map(look).collect()
    }
}

/// The same on all cores.
fn look_at_all(
    target: &Target,
    state: &State,
    entries: &[Entry],
) -> Result<Vec<(Found, Option<Known>)>, CheckoutError> {
    let share = entries.len().div_ceil(threads()).max(SHARE);
    std::thread::scope(|scope| {
        let looks = entries.chunks(share).map(|share| scope.spawn(|| Eyes::of(target, state).look_at_all(share)));
        let looks: Vec<_> = looks.collect();
        let mut all = Vec::with_capacity(entries.len());
        for look in looks {
            all.extend(look.join().unwrap_or_else(|panic| resume_unwind(panic))?);
        }
        Ok(all)
    })
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
        self.eyes.look(path)
    }

    fn compare(&mut self) -> Result<(), CheckoutError> {
        let entries = &self.manifest.entries;
        let mut looked = look_at_all(self.target, self.state, entries)?;
        let unknown: Vec<usize> = (0..entries.len())
            .filter(|&at| match (&looked[at], &entries[at].kind) {
                ((Found::File(stat), None), Kind::File { size, .. }) if *size == stat.size => true,
                ((Found::File(_), None), _) => self.state.knows(entries[at].path.as_str()),
                _ => false,
            })
            .collect();
        let paths: Vec<&str> = unknown.iter().map(|&at| entries[at].path.as_str()).collect();
        for (at, known) in unknown.into_iter().zip(read(self.target, self.state, &paths)?) {
            looked[at].1 = Some(known);
            self.plan.learned = true;
        }
        for (at, (there, known)) in looked.into_iter().enumerate() {
            self.compare_one(at, there, known)?;
        }
        Ok(())
    }

    fn compare_one(&mut self, at: usize, there: Found, known: Option<Known>) -> Result<(), CheckoutError> {
        let Entry { path, kind } = &self.manifest.entries[at];
        let path = path.as_str();
        if let (Kind::File { hash, executable, .. }, Found::File(is), Some(Known { hash: found, stat, began })) =
            (kind, there, known)
            && found == *hash
        {
            self.plan.index.insert(path, stat, began, found);
            if is.executable == *executable {
                self.plan.kept += 1;
            } else {
                self.plan.chmod.push(at);
            }
            return Ok(());
        }
        if let Some(known) = known {
            self.digests.insert(path.to_owned(), known);
        }
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
            (Kind::File { .. }, Found::File(_)) => {
                // Replaced by one rename: no obstacle to remove first.
                if !self.is_ours(path, there)? && !self.options.force {
                    self.plan.foreign.push(path.to_owned());
                }
                if let Some(known) = known {
                    self.saw(path, Some(known.stat));
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
            Found::File(stat) => {
                if !self.digests.contains_key(path) {
                    self.learn(&[(path, stat)])?;
                }
                self.digests.get(path).is_some_and(|known| self.state.is_ours(path, &Ours::File(known.hash)))
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
        let mut wanted = self.manifest.entries.iter().map(|entry| entry.path.as_str()).peekable();
        let mut is_wanted = |path: &str| {
            while wanted.next_if(|wanted| *wanted < path).is_some() {}
            wanted.peek().is_some_and(|wanted| *wanted == path)
        };
        let mut paths: Vec<&str> = self.state.paths().filter(|path| !is_wanted(path)).collect();
        if let Some(wanted) = &self.plan.wanted {
            paths.retain(|path| wanted.get(path).is_none());
        }
        let mut files = Vec::new();
        let mut found = Vec::with_capacity(paths.len());
        for path in &paths {
            let there = self.look(path)?;
            if let Found::File(stat) = there {
                files.push((*path, stat));
            }
            found.push(there);
        }
        self.learn(&files)?;
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
                if let Some(known) = self.digests.get(path).copied() {
                    self.saw(path, Some(known.stat));
                }
                self.plan.delete.push(path.to_owned());
            } else if there != Found::Directory {
                self.plan.left.push(path.to_owned());
                if let Some(Known { hash, stat, began }) = self.digests.get(path) {
                    self.plan.index.insert(path, *stat, *began, *hash);
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

    /// Finds the digests of files that look like this.
    fn learn(&mut self, files: &[(&str, Stat)]) -> Result<(), CheckoutError> {
        let mut unknown = Vec::new();
        for (path, stat) in files {
            let began = nanoseconds_now();
            match self.state.index.find(&self.state.spelling(path), stat) {
                Some(hash) => {
                    self.digests.insert((*path).to_owned(), Known { hash, stat: *stat, began });
                }
                None => unknown.push(*path),
            }
        }
        let known = read(self.target, self.state, &unknown)?;
        self.plan.learned |= !known.is_empty();
        self.digests.extend(unknown.into_iter().map(str::to_owned).zip(known));
        Ok(())
    }
}

/// Reads files, on all cores.
fn read(target: &Target, state: &State, paths: &[&str]) -> Result<Vec<Known>, CheckoutError> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(paths.len()));
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(path) = paths.get(at) else { break };
            let result = digest(target, state, path);
            results.lock().unwrap_or_else(PoisonError::into_inner).push((at, result));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads().min(paths.len()) {
            scope.spawn(work);
        }
        work();
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_unstable_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

fn digest(target: &Target, state: &State, path: &str) -> Result<Known, CheckoutError> {
    let path = &*state.spelling(path);
    let mut file = target.open_file(path).map_err(target.error("read", path))?;
    let shown = target.shown(path);
    let io = |error| CheckoutError::io("read", &shown)(error);
    let stat = Stat::of(&file.metadata().map_err(io)?);
    let began = nanoseconds_now();
    let hash = digest_of(&mut file).map_err(CheckoutError::io("read", Path::new(&shown)))?;
    Ok(Known { hash, stat, began })
}

/// The digest of what a reader yields.
pub fn digest_of(reader: &mut impl Read) -> std::io::Result<Hash> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(reader)?;
    Ok(hasher.finalize().into())
}
