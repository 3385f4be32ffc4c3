//! Making a version: sending what is missing, and the manifest that says where everything lies.

use std::collections::BTreeMap;
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
use crate::format::{FormatError, Keys, Kind, Manifest, Row};
use crate::output::Phase;
use crate::source::{SourceKind, many_new};
use crate::store::Condition;
use crate::version::{Loaded, VersionError};

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

    /// Packs and sends what is missing. The inner error names a file that moved.
    pub(super) async fn send(
        &self,
        publication: &Publication,
        look: &mut Look,
        contents: Arc<ContentIndex>,
        state: &mut State,
    ) -> Result<Result<Uploads, String>, PublishError> {
        let sizes = look.selection.entries.iter().map(|entry| match entry.kind {
            SourceKind::File(stat) => (entry.path.as_str(), stat.size),
            SourceKind::Link(_) | SourceKind::Directory => (entry.path.as_str(), 0),
        });
        manifest::may_fit(sizes)
            .map_err(|source| PublishError::TooMuch { folder: publication.folder.clone(), source })?;
        let mut wanted = Vec::new();
        for (at, (entry, hash)) in look.selection.entries.iter().zip(&look.hashes).enumerate() {
            let SourceKind::File(stat) = entry.kind else { continue };
            let known = stat.size == 0 || hash.is_some_and(|hash| contents.has_file(&hash));
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

    /// Writes the manifest that is drafted while packs are on their way, and waits for all of them.
    pub(super) async fn write_manifest(
        &self,
        keys: &Keys,
        draft: impl Future<Output = Result<(Row, Ulid, Bytes), PublishError>>,
        uploads: Uploads,
    ) -> Result<(Row, Ulid), PublishError> {
        let drafted = draft.await;
        let put = async {
            let (row, id, bytes) = drafted?;
            self.store.put(&keys.manifest(id), bytes, Condition::None).await?;
            Ok::<_, PublishError>((row, id))
        };
        // What is on its way arrives before anything is cleaned up, or it would stay for good.
        if uploads.are_small() {
            uploads.finish().await?;
            return put.await;
        }
        let (put, sent) = futures::future::join(put, uploads.finish()).await;
        let written = put?;
        sent?;
        Ok(written)
    }

    /// The row and the manifest of what lies there now.
    pub(super) async fn draft(
        &self,
        publication: &Publication,
        look: &Look,
        contents: &ContentIndex,
        loaded: Option<&Loaded>,
        plan: Option<Plan>,
        state: &mut State,
    ) -> Result<(Row, Ulid, Bytes), PublishError> {
        let moved = || PublishError::Moving { folder: publication.folder.clone(), path: String::new() };
        // The manifest of a large tree is no small thing itself: it waits until enough packs are gone.
        let room = (look.selection.entries.len() as u64 * DRAFTED).min(BYTES_IN_FLIGHT * 3 / 8);
        let _room = self.budget.take(room).await;
        let mut entries = look.entries().ok_or_else(moved)?;
        let current = state.read.reference.current_row();
        let base = loaded.map(|loaded| loaded.base.as_ref().unwrap_or(&loaded.manifest));
        let mut builder = ManifestBuilder::on(base);
        let header = Header {
            tool: Some(concat!("workspace ", env!("CARGO_PKG_VERSION")).to_owned()),
            message: publication.message.clone(),
            author: publication.author.clone(),
            commit: publication.commit.clone(),
            branch: publication.branch.clone(),
            run: publication.run.clone(),
            plan,
            ..Header::of(&entries, now())
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
        let id = Ulid::generate();
        let encoded = encode(builder.finish(header), current.zip(loaded).zip(base));
        let Encoded { manifest, bytes, base: base_id } = match encoded {
            Ok(Some(encoded)) => encoded,
            Ok(None) => return Err(VersionError::BadMemory { what: "the manifest" }.into()),
            Err(source) => return Err(PublishError::TooMuch { folder: publication.folder.clone(), source }),
        };
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
            commit: publication.commit.as_deref().map(cut_message),
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
        Ok((row, id, bytes))
    }
}

/// A manifest as it is stored.
struct Encoded {
    /// With its packs and frames in the order in which a reader has them: what comes next is a delta against that.
    manifest: Manifest,
    bytes: Vec<u8>,
    /// What it is a delta against.
    base: Option<Ulid>,
}

/// Whether a plan says how to start it, in an image that there is.
pub(super) fn is_runnable(plan: &Plan) -> bool {
    plan.start.is_some() && (plan.image.is_some() || plan.runtime.has_image())
}

/// The smaller of a delta against the current base and a new base, by the rule of the format. It is read again before it
/// is sent: nothing when it is not what it was made of, an error when no reader would take it.
fn encode(manifest: Manifest, current: Option<((&Row, &Loaded), &Manifest)>) -> Result<Option<Encoded>, FormatError> {
    if let Some(((row, loaded), base)) = current {
        let mut delta = manifest::encode_delta(row.base, base, &manifest);
        if delta.len() as u64 <= DELTA.max(loaded.base_size / 16) {
            bad_memory::flips(Stage::Manifest, &mut delta);
            match manifest::delta_holds(&delta, row.base, base, &manifest) {
                Ok(holds) => return Ok(holds.then_some(Encoded { manifest, bytes: delta, base: Some(row.base) })),
                // Without what only the base still knows, it may be within the limits.
                Err(FormatError::OverLimit { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
    let manifest = manifest.compacted();
    let mut bytes = manifest::encode(&manifest);
    bad_memory::flips(Stage::Manifest, &mut bytes);
    Ok(manifest::holds(&bytes, &manifest)?.then_some(Encoded { manifest, bytes, base: None }))
}
