//! Verification: whether everything that the kept versions consist of is there, and whole.
//!
//! One listing tells existence and sizes; with `deep` every pack is read, and every content in it is hashed. Nothing is taken
//! from what this machine remembers: it is the bucket that is in doubt.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use serde::Serialize;
use tokio::task::spawn_blocking;
use ulid::Ulid;

use super::inventory::Inventory;
use crate::budget::Budget;
use crate::cache::Cache;
use crate::format::keys::Item;
use crate::format::{Hash, Keys, Manifest, Row, pack};
use crate::names::WorkspaceName;
use crate::output::{Observer, Phase};
use crate::store::{Store, StoreError};
use crate::version::{self, VersionError};

/// Packs read at once; the byte budget is mostly tighter.
const AT_ONCE: usize = 16;
/// How often a pack whose content is wrong is read: the network may have been at fault.
const READS: u32 = 2;
/// Most paths that a damage names.
const PATHS: usize = 10;

/// What is verified.
#[derive(Debug, Clone)]
pub struct Options {
    /// One version, by number; otherwise all that are kept.
    pub version: Option<u64>,
    /// Read and check every content.
    pub deep: bool,
}

/// Something that is missing or wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The object.
    pub key: String,
    /// What is wrong with it.
    pub reason: String,
    /// The numbers of the versions that it hurts.
    pub versions: Vec<u64>,
    /// The first paths in the newest of them that can't be read any more. Empty: none at all can.
    pub paths: Vec<String>,
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The workspace.
    pub workspace: WorkspaceName,
    /// How many versions were looked at.
    pub versions: usize,
    /// Objects that they consist of.
    pub objects: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Whether their contents were read.
    pub deep: bool,
    /// What is wrong. Empty: nothing.
    pub damage: Vec<Damage>,
}

/// The contents that versions find in a frame.
type Contents = HashSet<(u32, u32, Hash)>;
/// The frames of a pack: offset, compressed and raw length.
type Frames = BTreeMap<(u64, u32, u32), Contents>;

/// Where it is looked.
pub struct Verifier<'a> {
    /// The store.
    pub store: &'a Store,
    /// Memory.
    pub budget: &'a Budget,
    /// Who hears of it.
    pub observer: Arc<dyn Observer>,
}

impl Verifier<'_> {
    /// Verifies a workspace.
    pub async fn verify(&self, name: &WorkspaceName, options: &Options) -> Result<Report, VersionError> {
        let reference = version::existing_reference(self.store, name).await?.reference;
        let keys = Keys::new(name, reference.root);
        let chosen = |row: &&Row| options.version.is_none_or(|number| number == row.number);
        let rows: Vec<&Row> = reference.rows.iter().filter(chosen).collect();
        let inventory = Inventory::take(self.store, &keys).await?;
        let mut found = Found::default();
        let mut needed = BTreeSet::new();
        let mut packs: BTreeMap<Ulid, (u64, Frames)> = BTreeMap::new();
        for row in &rows {
            needed.extend([Some(row.base), row.delta].into_iter().flatten().map(Item::Manifest));
            let manifest = match version::load(self.store, &Cache::at(None), &keys, reference.root, row).await {
                Ok(loaded) => loaded.manifest,
                Err(VersionError::Store(StoreError::NotFound { key })) => {
                    found.add(&key, "it is missing", row.number);
                    continue;
                }
                Err(VersionError::Object { key, source, .. }) => {
                    found.add(&key, &source.to_string(), row.number);
                    continue;
                }
                Err(error) => return Err(error),
            };
            for info in manifest.packs_in_use() {
                let item = Item::Pack(info.id);
                needed.insert(item);
                match inventory.items.get(&item) {
                    None if row.locked && self.is_hidden(&keys.key(item)).await => {
                        found.add(
                            &keys.key(item),
                            "a plain DELETE has hidden it; it is locked, and still read",
                            row.number,
                        );
                    }
                    None => found.add(&keys.key(item), "it is missing", row.number),
                    Some(object) if object.size != info.size => {
                        let reason = format!("it has {} bytes instead of {}", object.size, info.size);
                        found.add(&object.key, &reason, row.number);
                    }
                    Some(object) if object.size > pack::MAX_PACK => {
                        let reason = format!("it has {} bytes, more than a pack may have", object.size);
                        found.add(&object.key, &reason, row.number);
                    }
                    Some(_) if options.deep => {
                        packs.entry(info.id).or_insert_with(|| (info.size, Frames::new()));
                    }
                    Some(_) => {}
                }
            }
            if options.deep {
                gather(&manifest, &mut packs);
            }
        }
        let bytes = needed.iter().filter_map(|item| inventory.items.get(item)).map(|object| object.size).sum();
        let wrong = if options.deep { self.read(&keys, packs).await? } else { Vec::new() };
        let mut damage = found.damage();
        // Which versions, and which of their files, is looked for only where there is something to say.
        let hurt = self.paths_hurt(&keys, reference.root, &rows, &wrong, &damage).await?;
        damage.extend(wrong.into_iter().map(|wrong| Damage {
            key: keys.pack(wrong.pack),
            reason: wrong.reason,
            versions: Vec::new(),
            paths: Vec::new(),
        }));
        for damage in &mut damage {
            if let Some((versions, paths)) = hurt.get(&damage.key) {
                damage.versions.clone_from(versions);
                damage.paths.clone_from(paths);
            }
        }
        self.observer.finish();
        Ok(Report {
            workspace: name.clone(),
            versions: rows.len(),
            objects: needed.len(),
            bytes,
            deep: options.deep,
            damage,
        })
    }

    async fn is_hidden(&self, key: &str) -> bool {
        self.store.past_deletions().get_start(key, 1).await.is_ok()
    }

    /// Reads packs and hashes what versions find in them.
    async fn read(&self, keys: &Keys, packs: BTreeMap<Ulid, (u64, Frames)>) -> Result<Vec<Wrong>, VersionError> {
        let total = packs.values().map(|(size, _)| size).sum();
        self.observer.phase(Phase { verb: "Verifying", total: Some(total) });
        let mut reads = Vec::with_capacity(packs.len());
        for (id, (size, frames)) in packs {
            reads.push(self.read_pack(keys, id, size, Arc::new(frames)));
        }
        let mut reads = stream::iter(reads).buffer_unordered(AT_ONCE);
        let mut wrong = Vec::new();
        while let Some(read) = reads.next().await {
            wrong.extend(read?);
        }
        wrong.sort_by_key(|wrong| wrong.pack);
        Ok(wrong)
    }

    async fn read_pack(
        &self,
        keys: &Keys,
        id: Ulid,
        size: u64,
        frames: Arc<Frames>,
    ) -> Result<Option<Wrong>, VersionError> {
        let largest = frames.keys().map(|(_, _, raw)| *raw).max().unwrap_or(0);
        let _held = self.budget.take(size + u64::from(largest)).await;
        let mut wrong = None;
        for _ in 0..READS {
            let bytes = match self.store.get_range(&keys.pack(id), 0..size).await {
                Ok(bytes) => bytes,
                Err(StoreError::NotFound { .. }) => {
                    return Ok(Some(Wrong { pack: id, reason: "it is missing".to_owned(), contents: None }));
                }
                Err(error) => return Err(error.into()),
            };
            let frames = frames.clone();
            let checked = spawn_blocking(move || check(&bytes, &frames)).await;
            match checked.unwrap_or_else(|error| Err((format!("checking it failed: {error}"), Contents::new()))) {
                Ok(()) => {
                    self.observer.advance(size);
                    return Ok(None);
                }
                Err((reason, contents)) => wrong = Some(Wrong { pack: id, reason, contents: Some(contents) }),
            }
        }
        Ok(wrong)
    }

    /// The versions, and paths in the newest of them, that each damaged pack hurts.
    async fn paths_hurt(
        &self,
        keys: &Keys,
        root: Ulid,
        rows: &[&Row],
        wrong: &[Wrong],
        damage: &[Damage],
    ) -> Result<BTreeMap<String, (Vec<u64>, Vec<String>)>, VersionError> {
        let mut hurt: BTreeMap<String, (Vec<u64>, Vec<String>)> = BTreeMap::new();
        if wrong.is_empty() && damage.iter().all(|damage| !damage.key.ends_with(".tar.zst")) {
            return Ok(hurt);
        }
        let whole: HashSet<&String> = damage.iter().map(|damage| &damage.key).collect();
        for row in rows.iter().rev() {
            // One that can't be read has been told already.
            let Ok(loaded) = version::load(self.store, &Cache::at(None), keys, root, row).await else { continue };
            let manifest = loaded.manifest;
            let mut paths: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for entry in &manifest.entries {
                for (part, hash) in Manifest::parts(entry) {
                    let Some(frame) = manifest.frames.get(part.frame as usize) else { continue };
                    let id = manifest.packs[frame.pack as usize].id;
                    let key = keys.pack(id);
                    let content = (part.offset, part.length, hash);
                    let is_hurt = whole.contains(&key)
                        || wrong.iter().any(|wrong| {
                            wrong.pack == id
                                && wrong.contents.as_ref().is_none_or(|contents| contents.contains(&content))
                        });
                    if is_hurt {
                        let paths = paths.entry(key).or_default();
                        if paths.len() < PATHS && paths.last().map(String::as_str) != Some(entry.path.as_str()) {
                            paths.push(entry.path.to_string());
                        }
                    }
                }
            }
            for (key, paths) in paths {
                let (versions, first) = hurt.entry(key).or_default();
                versions.insert(0, row.number);
                if first.is_empty() {
                    *first = paths;
                }
            }
        }
        Ok(hurt)
    }
}

/// A pack that was read and is not what it should be.
struct Wrong {
    pack: Ulid,
    reason: String,
    /// The contents that are not there; nothing where none is.
    contents: Option<Contents>,
}

/// What was found missing, by object.
#[derive(Default)]
struct Found(BTreeMap<String, (String, Vec<u64>)>);

impl Found {
    fn add(&mut self, key: &str, reason: &str, version: u64) {
        self.0.entry(key.to_owned()).or_insert_with(|| (reason.to_owned(), Vec::new())).1.push(version);
    }

    fn damage(self) -> Vec<Damage> {
        let damage = |(key, (reason, versions))| Damage { key, reason, versions, paths: Vec::new() };
        self.0.into_iter().map(damage).collect()
    }
}

fn gather(manifest: &Manifest, packs: &mut BTreeMap<Ulid, (u64, Frames)>) {
    for entry in &manifest.entries {
        for (part, hash) in Manifest::parts(entry) {
            let Some(frame) = manifest.frames.get(part.frame as usize) else { continue };
            if let Some((_, frames)) = packs.get_mut(&manifest.packs[frame.pack as usize].id) {
                let frame = frames.entry((frame.offset, frame.length, frame.raw)).or_default();
                frame.insert((part.offset, part.length, hash));
            }
        }
    }
}

/// Whether all contents are in a pack; otherwise what is wrong, and which are not.
fn check(bytes: &Bytes, frames: &Frames) -> Result<(), (String, Contents)> {
    let mut wrong: Option<(String, Contents)> = None;
    for (&(offset, length, raw), contents) in frames {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let compressed = bytes.get(start..start.saturating_add(length as usize)).unwrap_or_default();
        let (reason, lost) = match pack::decompress(compressed, raw) {
            Err(error) => (error.to_string(), contents.clone()),
            Ok(content) => {
                let is_whole = |&(from, length, hash): &(u32, u32, Hash)| {
                    let to = from as usize + length as usize;
                    content.get(from as usize..to).is_some_and(|content| Hash::of(content) == hash)
                };
                let lost: Contents = contents.iter().filter(|content| !is_whole(content)).copied().collect();
                ("a content is not what its digest says".to_owned(), lost)
            }
        };
        if !lost.is_empty() {
            wrong.get_or_insert_with(|| (reason, Contents::new())).1.extend(lost);
        }
    }
    wrong.map_or(Ok(()), Err)
}
