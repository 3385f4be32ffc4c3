//! Making a version: what need not be sent, sending the rest, and the manifest that says where everything lies.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use ulid::Ulid;

use super::attempt::{Publisher, State};
use super::bad_memory::{self, Stage};
use super::look::{Look, Tree};
use super::packing::{Packed, Packer, Uploads, Wanted};
use super::{Publication, PublishError, now};
use crate::application::{self, Plan};
use crate::budget::BYTES_IN_FLIGHT;
use crate::format::manifest::{self, ContentIndex, Header, ManifestBuilder};
use crate::format::reference::cut_message;
use crate::format::tree::digest;
use crate::format::{Entry, FORMAT, Kind, Manifest, Row, TreePath, pack};
use crate::output::Phase;
use crate::source::{SourceKind, many_new};
use crate::store::Condition;
use crate::version::{self, Loaded, VersionError};

/// So many small packs with live content are suffered before they are folded.
const SMALL_PACKS: usize = 32;
/// How much is sent again for folding, in compressed bytes.
const FOLD: u64 = 16 << 20;
/// What an entry takes while a manifest is made, in bytes.
const DRAFTED: u64 = 1_024;
/// A delta may be this large before a new base is written, in bytes; or a sixteenth of its base.
const DELTA: u64 = 64 << 10;

impl Publisher<'_> {
    pub(super) fn detect(
        &self,
        publication: &Publication,
        look: &Look,
        state: &mut State,
    ) -> Result<Option<Plan>, PublishError> {
        if !look.selection.is_source {
            return Ok(None);
        }
        let detection = application::detect(&Tree::of(&look.selection))?;
        for warning in look.selection.warnings(publication.source.limits).iter().chain(&detection.warnings) {
            self.warn(state, warning);
        }
        state.runnable = detection.plan.as_ref().is_some_and(is_runnable);
        Ok(detection.plan)
    }

    /// Warns, once for all looks at the folder.
    fn warn(&self, state: &mut State, warning: &str) {
        if state.told.insert(warning.to_owned()) {
            self.observer.warn(warning);
        }
    }

    /// The last guard rail, which needs the current version; then `--strict` has its say, before anything is sent.
    pub(super) fn guard(
        &self,
        publication: &Publication,
        look: &Look,
        current: Option<&Loaded>,
        state: &mut State,
    ) -> Result<(), PublishError> {
        // Both are in the order of their paths.
        let mut old = current.map_or(&[][..], |current| &current.manifest.entries).iter().peekable();
        let mut is_new = |path: &str| {
            while old.next_if(|entry| entry.path.as_str() < path).is_some() {}
            old.peek().is_none_or(|entry| entry.path.as_str() != path)
        };
        let limits = publication.source.limits;
        if look.selection.is_source
            && let Some(warning) = many_new(&look.selection.entries, &mut is_new, limits)
        {
            self.warn(state, &warning);
        }
        match state.told.len() {
            warnings if publication.strict && warnings > 0 => Err(PublishError::Strict(warnings)),
            _ => Ok(()),
        }
    }

    /// Everything that need not be sent: the contents of the current version, of kept versions whose manifest this
    /// machine has, and what this publication has sent already.
    pub(super) async fn known_contents(
        &self,
        publication: &Publication,
        state: &State,
    ) -> Result<(Arc<ContentIndex>, Option<Arc<Loaded>>), PublishError> {
        let mut contents = state.sent.contents.clone();
        let reference = &state.read.reference;
        let Some(current) = reference.current_row() else { return Ok((Arc::new(contents), None)) };
        let keys = state.keys(publication);
        let loaded = match &state.loaded {
            Some((row, loaded)) if *row == current.id => Arc::clone(loaded),
            _ => Arc::new(version::load(self.store, self.cache, &keys, reference.root, current).await?),
        };
        let mut live = ContentIndex::default();
        live.add_manifest(&loaded.manifest);
        if !state.thorough {
            contents.absorb(live);
            return Ok((Arc::new(contents), Some(loaded)));
        }
        let folded = folded(&live);
        contents.absorb(live);
        let mut older: BTreeMap<Ulid, Vec<&Row>> = BTreeMap::new();
        for row in reference.rows.iter().filter(|row| row.number != current.number) {
            older.entry(row.base).or_default().push(row);
        }
        for (base, rows) in older.into_iter().rev() {
            // Most versions share the base of the current one, which has been read.
            let known = (base == current.base).then(|| loaded.base.as_ref().unwrap_or(&loaded.manifest));
            contents.absorb(self.older_contents(reference.root, base, known, &rows).unwrap_or_default());
        }
        contents.retain(|_, location| !folded.contains(&location.pack.id));
        Ok((Arc::new(contents), Some(loaded)))
    }

    /// The contents of those versions on one base whose manifests this machine has. The base is read once for all of them,
    /// since a workspace keeps a hundred versions.
    fn older_contents(
        &self,
        root: Ulid,
        base_id: Ulid,
        known: Option<&Manifest>,
        rows: &[&Row],
    ) -> Option<ContentIndex> {
        let read;
        let base = if let Some(base) = known {
            base
        } else {
            read = manifest::decode(&self.cache.manifest(root, base_id)?).ok()?;
            &read
        };
        let mut contents = ContentIndex::default();
        // What every version on this base has replaced or removed is in none of them, and may be collected.
        let mut replaced: Option<HashSet<TreePath>> = None;
        for row in rows {
            let mut other = HashSet::new();
            if let Some(delta) = row.delta {
                let Some(bytes) = self.cache.manifest(root, delta) else { continue };
                let Ok((changes, gone)) = manifest::decode_changes(&bytes, base_id, base) else { continue };
                if changes.header.tree != row.tree {
                    continue;
                }
                contents.add_manifest(&changes);
                other.extend(changes.entries.into_iter().map(|entry| entry.path).chain(gone));
            }
            replaced = Some(match replaced {
                None => other,
                Some(replaced) => replaced.intersection(&other).cloned().collect(),
            });
        }
        let replaced = replaced?;
        contents.add_entries(base, |entry| !replaced.contains(&entry.path));
        Some(contents)
    }

    /// Packs and sends what is missing. The inner error names a file that moved.
    pub(super) async fn send(
        &self,
        publication: &Publication,
        look: &mut Look,
        contents: Arc<ContentIndex>,
        state: &mut State,
    ) -> Result<Result<Uploads, String>, PublishError> {
        let mut wanted = Vec::new();
        for (at, (entry, hash)) in look.selection.entries.iter().zip(&look.hashes).enumerate() {
            let SourceKind::File(stat) = entry.kind else { continue };
            let known =
                stat.size == 0 || hash.is_some_and(|hash| ContentIndex::find_file(&[&contents], &hash).is_some());
            if !known {
                wanted.push(Wanted { at, path: entry.path.to_string(), stat });
            }
        }
        let total = wanted.iter().map(|file| file.stat.size).sum();
        self.observer.phase(Phase { verb: "Uploading", total: Some(total) });
        let keys = state.keys(publication);
        let packer = Packer { store: self.store, keys: &keys, budget: self.budget, observer: &self.observer };
        let (outcome, uploads) = packer.pack(&look.selection.root, wanted, contents, &mut state.sent).await?;
        for Packed { at, hashed, cut, new } in outcome.files {
            look.learn(at, &hashed);
            if let Some(parts) = cut {
                state.sent.contents.add_cut(hashed.hash, parts);
            }
            state.sent_files += u64::from(new);
        }
        state.new_bytes += outcome.new_bytes;
        match outcome.moved {
            None => Ok(Ok(uploads)),
            Some(path) => {
                uploads.finish().await?;
                Ok(Err(path))
            }
        }
    }

    /// Writes the manifest beside the last packs, and waits for all of them.
    #[expect(clippy::too_many_arguments, reason = "the steps of a publication share little else")]
    pub(super) async fn write_manifest(
        &self,
        publication: &Publication,
        look: &Look,
        contents: &ContentIndex,
        loaded: Option<&Loaded>,
        plan: Option<Plan>,
        state: &mut State,
        uploads: Uploads,
    ) -> Result<(Row, Ulid), PublishError> {
        let moved = || PublishError::Moving { folder: publication.folder.clone(), path: String::new() };
        // The manifest of a large tree is no small thing itself: it waits until enough packs are gone.
        let room = (look.selection.entries.len() as u64 * DRAFTED).min(BYTES_IN_FLIGHT * 3 / 8);
        let _room = self.budget.take(room).await;
        let mut entries = look.entries().ok_or_else(moved)?;
        let current = state.read.reference.current_row();
        let base = loaded.map(|loaded| loaded.base.as_ref().unwrap_or(&loaded.manifest));
        let mut builder = ManifestBuilder::on(base);
        let header = Header {
            format: FORMAT,
            reader: FORMAT,
            base: None,
            created: now(),
            tree: digest(&entries),
            files: entries.len() as u64,
            bytes: entries.iter().map(Entry::size).sum(),
            tool: Some(concat!("workspace ", env!("CARGO_PKG_VERSION")).to_owned()),
            message: publication.message.clone(),
            author: publication.author.clone(),
            commit: publication.commit.clone(),
            branch: publication.branch.clone(),
            run: publication.run.clone(),
            plan,
        };
        // Both are in the order of their paths.
        let mut before = loaded.map_or(&[][..], |loaded| &loaded.manifest.entries).iter().peekable();
        for mut entry in entries.drain(..) {
            if let Kind::File { size, hash, content, .. } = &mut entry.kind
                && *size > 0
            {
                while before.next_if(|old| old.path < entry.path).is_some() {}
                let same = before.peek().filter(|old| old.path == entry.path).and_then(|old| old.content_of(hash));
                // What was sent now comes first: after folding, the same content also lies in an older pack.
                let same = same.filter(|same| builder.numbers(same) && !state.sent.contents.knows(hash));
                *content = if let Some(same) = same {
                    same.clone()
                } else {
                    let indexes = [&state.sent.contents, contents];
                    let (parts, cut) = ContentIndex::find_file(&indexes, hash).ok_or_else(moved)?;
                    builder.content(&parts, cut)
                };
            }
            builder.push(entry);
        }
        let manifest = builder.finish(header);
        let id = Ulid::generate();
        let (bytes, base_id) =
            encode(&manifest, current.zip(loaded).zip(base)).ok_or(VersionError::BadMemory { what: "the manifest" })?;
        let row = Row {
            id: Ulid::generate(),
            number: state.read.reference.current + 1,
            base: base_id.unwrap_or(id),
            delta: base_id.map(|_| id),
            tree: manifest.header.tree,
            files: manifest.header.files,
            bytes: manifest.header.bytes,
            created: manifest.header.created,
            runtime: manifest.header.plan.as_ref().map(|plan| plan.runtime.to_string()),
            message: publication.message.as_deref().map(cut_message).filter(|message| !message.is_empty()),
            author: publication.author.as_deref().map(cut_message),
            commit: publication.commit.clone(),
            origin: None,
            tags: Vec::new(),
            locked: false,
            locked_until: None,
            other: BTreeMap::new(),
        };
        let base_size = base_id.and(loaded).map_or(bytes.len() as u64, |loaded| loaded.base_size);
        if state.goes_on {
            let base = base_id.and(base).cloned();
            state.loaded = Some((row.id, Arc::new(Loaded { manifest, base, base_size })));
        }
        let bytes = Bytes::from(bytes);
        self.cache.save_manifest(state.read.reference.root, id, &bytes);
        state.sent.manifests.push(id);
        let key = state.keys(publication).manifest(id);
        let put = async { self.store.put(&key, bytes, Condition::None).await.map_err(PublishError::from) };
        // What is on its way arrives before anything is cleaned up, or it would stay for good.
        let (put, sent) = futures::future::join(put, uploads.finish()).await;
        put?;
        sent?;
        Ok((row, id))
    }
}

/// Whether a plan says how to start it, in an image that there is.
pub(super) fn is_runnable(plan: &Plan) -> bool {
    plan.start.is_some() && (plan.image.is_some() || plan.runtime.has_image())
}

/// The smaller of a delta against the current base and a new base, by the rule of the format. It is read again before it
/// is sent: nothing when it is not what it was made of.
fn encode(manifest: &Manifest, current: Option<((&Row, &Loaded), &Manifest)>) -> Option<(Vec<u8>, Option<Ulid>)> {
    if let Some(((row, loaded), base)) = current {
        let mut delta = manifest::encode_delta(row.base, base, manifest);
        if delta.len() as u64 <= DELTA.max(loaded.base_size / 16) {
            bad_memory::flips(Stage::Manifest, &mut delta);
            return manifest::delta_holds(&delta, row.base, base, manifest).then_some((delta, Some(row.base)));
        }
    }
    let whole = manifest.compacted();
    let mut bytes = manifest::encode(&whole);
    bad_memory::flips(Stage::Manifest, &mut bytes);
    manifest::holds(&bytes, &whole).then_some((bytes, None))
}

/// When many small packs hold live content: those whose content shall ride along in the next pack.
fn folded(live: &ContentIndex) -> HashSet<Ulid> {
    let mut small: HashMap<Ulid, (u64, HashSet<u64>)> = HashMap::new();
    for (_, location) in live.iter().filter(|(_, location)| location.pack.size < pack::SMALL) {
        let (bytes, frames) = small.entry(location.pack.id).or_default();
        if frames.insert(location.frame_offset) {
            *bytes += u64::from(location.frame_length);
        }
    }
    if small.len() <= SMALL_PACKS {
        return HashSet::new();
    }
    let mut smallest: Vec<(u64, Ulid)> = small.into_iter().map(|(id, (bytes, _))| (bytes, id)).collect();
    smallest.sort_unstable();
    let mut budget = FOLD;
    let fits = |(bytes, id): (u64, Ulid)| {
        budget = budget.checked_sub(bytes)?;
        Some(id)
    };
    smallest.into_iter().map_while(fits).collect()
}
