//! One publication from beginning to end, over as many looks at the folder and the ref as it takes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::task::spawn_blocking;
use ulid::Ulid;

use super::packing::{Packed, Packer, Sent, Uploads, Wanted};
use super::remove::release_claim;
use super::scan::{self, Hashed};
use super::swap::{self, Swapped};
use super::writable::{open_for_writing, open_known};
use super::{Outcome, Preview, Publication, PublishError, Report, now};
use crate::application::{self, Plan, SourceTree};
use crate::budget::Budget;
use crate::cache::{Cache, Index};
use crate::format::manifest::{self, ContentIndex, Header, Location, ManifestBuilder};
use crate::format::reference::{MAX_BYTES, cut_message};
use crate::format::tree::digest;
use crate::format::{Content, Entry, FORMAT, Hash, Keys, Kind, Manifest, Reference, Row, pack, retention};
use crate::names::WorkspaceName;
use crate::output::{Observer, Phase};
use crate::source::{self, Selection, SourceEntry, SourceKind, SourceOptions};
use crate::store::bucket::WriteConsent;
use crate::store::{Condition, Store, StoreError};
use crate::version::{self, Loaded, Read, VersionError};

/// How often the folder is looked at again because files came and went.
const LOOKS: u32 = 4;
/// How often somebody else may win the race for the ref.
const RACES: u32 = 64;
/// So many small packs with live content are suffered before they are folded.
const SMALL_PACKS: usize = 32;
/// How much is sent again for folding, in compressed bytes.
const FOLD: u64 = 16 << 20;
/// A delta may be this large before a new base is written, in bytes; or a sixteenth of its base.
const DELTA: u64 = 64 << 10;

/// What a publication needs of its surroundings.
pub struct Publisher<'a> {
    /// Where to.
    pub store: &'a Store,
    /// What this machine remembers.
    pub cache: &'a Cache,
    /// Memory.
    pub budget: &'a Budget,
    /// Who hears of it.
    pub observer: Arc<dyn Observer>,
    /// What the person agreed to, should the bucket be new to us.
    pub consent: WriteConsent<'a>,
    /// Set while the ref is being swapped: then an interruption waits for the outcome.
    pub committing: Arc<AtomicBool>,
}

/// What an upload of `folder` would take. No request is made.
pub fn preview(folder: &Path, options: SourceOptions) -> Result<Preview, PublishError> {
    let selection = source::select(folder, options)?;
    let detection = application::detect(&Tree::of(&selection))?;
    let bytes = |entry: &SourceEntry| match &entry.kind {
        SourceKind::File(stat) => stat.size,
        SourceKind::Link(_) | SourceKind::Directory => 0,
    };
    Ok(Preview {
        entries: selection.entries.iter().map(|entry| (entry.path.to_string(), bytes(entry))).collect(),
        runtime: detection.plan.as_ref().map(|plan| plan.runtime.to_string()),
        warnings: selection.warnings.iter().chain(&detection.warnings).cloned().collect(),
        excluded: selection.excluded,
    })
}

/// The folder as the publication knows it.
struct Look {
    selection: Selection,
    hashes: Vec<Option<Hash>>,
    index: Index,
}

impl Look {
    fn take(folder: &Path, options: SourceOptions, cache: &Cache) -> Result<Self, PublishError> {
        let selection = source::select(folder, options)?;
        let index = cache.index(&selection.root);
        let hashes = scan::known(&selection.entries, &index);
        Ok(Self { selection, hashes, index })
    }

    fn learn(&mut self, at: usize, hashed: &Hashed) {
        let entry = &mut self.selection.entries[at];
        entry.kind = SourceKind::File(hashed.stat);
        self.hashes[at] = Some(hashed.hash);
        self.index.insert(entry.path.as_str(), hashed.stat, hashed.began, hashed.hash);
    }

    /// The entries, without saying where contents lie. Nothing while a digest is missing.
    fn entries(&self) -> Option<Vec<Entry>> {
        let entry = |(entry, hash): (&SourceEntry, &Option<Hash>)| {
            let kind = match &entry.kind {
                SourceKind::Directory => Kind::Directory,
                SourceKind::Link(target) => Kind::Link { target: target.as_str().into() },
                SourceKind::File(stat) => Kind::File {
                    executable: stat.executable,
                    size: stat.size,
                    mtime: stat.mtime.div_euclid(1_000_000_000),
                    hash: (*hash)?,
                    content: Content::Empty,
                },
            };
            Some(Entry { path: entry.path.clone(), kind })
        };
        self.selection.entries.iter().zip(&self.hashes).map(entry).collect()
    }

    fn save(&self, cache: &Cache) {
        let mut index = Index::default();
        for entry in &self.selection.entries {
            index.copy_from(&self.index, entry.path.as_str());
        }
        cache.save_index(&self.selection.root, &index);
    }
}

/// What detection may see: the files that will be uploaded.
struct Tree<'a> {
    selection: &'a Selection,
    paths: HashSet<&'a str>,
}

impl<'a> Tree<'a> {
    fn of(selection: &'a Selection) -> Self {
        Self { selection, paths: selection.entries.iter().map(|entry| entry.path.as_str()).collect() }
    }
}

impl SourceTree for Tree<'_> {
    fn contains(&self, path: &str) -> bool {
        self.paths.contains(path)
    }

    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        if !self.contains(path) {
            return Ok(None);
        }
        match std::fs::read(self.selection.root.join(path)) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn paths(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.selection.entries.iter().map(|entry| entry.path.as_str()))
    }
}

/// What goes on between the looks.
struct State {
    read: Read,
    /// Whether this publication made the ref.
    claimed: bool,
    /// The collection counter when it began.
    collections: u64,
    sent: Sent,
    sent_files: HashSet<String>,
    new_bytes: u64,
    told: HashSet<String>,
}

impl Publisher<'_> {
    /// Publishes.
    pub async fn publish(&self, publication: &Publication) -> Result<Report, PublishError> {
        let before = self.store.counts();
        let outcome = self.run(publication).await;
        self.observer.finish();
        let mut report = outcome?;
        report.requests = self.store.counts() - before;
        Ok(report)
    }

    async fn run(&self, publication: &Publication) -> Result<Report, PublishError> {
        let look = self.look(publication);
        let (look, read) = futures::future::join(look, self.claim(&publication.name)).await;
        // The folder's fault is told first: it is the person's own, and nearer.
        let look = match look {
            Ok(look) => look,
            Err(error) => {
                if let Ok((read, true)) = &read {
                    release_claim(self.store, &publication.name, read).await;
                }
                return Err(error);
            }
        };
        let (read, claimed) = read?;
        let collections = read.reference.collections;
        let mut state = State {
            read,
            claimed,
            collections,
            sent: Sent::default(),
            sent_files: HashSet::new(),
            new_bytes: 0,
            told: HashSet::new(),
        };
        let outcome = self.attempts(publication, look, &mut state).await;
        if outcome.is_err() && !self.committing.load(Ordering::SeqCst) {
            self.clean_up(publication, &state).await;
        }
        outcome
    }

    async fn look(&self, publication: &Publication) -> Result<Look, PublishError> {
        let (folder, options, cache) = (publication.folder.clone(), publication.source, self.cache.clone());
        spawn_blocking(move || Look::take(&folder, options, &cache)).await?
    }

    /// Reads the ref, or makes one for a new name: from then on every step is fenced by it.
    async fn claim(&self, name: &WorkspaceName) -> Result<(Read, bool), PublishError> {
        for attempt in 0..RACES {
            let found = match version::read_reference(self.store, name).await {
                Ok(found) => found,
                Err(VersionError::Store(StoreError::NoBucket { .. })) => None,
                Err(error) => return Err(error.into()),
            };
            let etag = match found {
                Some(read) if !read.reference.deleted => return Ok((read, false)),
                Some(read) => Some(read.etag),
                None => None,
            };
            open_for_writing(self.store, self.cache, &self.consent).await?;
            let root = Ulid::generate();
            match swap::swap(self.store, name, etag.as_ref(), Reference::claimed(root), None).await? {
                Swapped::Done => {
                    if let Some(read) = version::read_reference(self.store, name).await?
                        && read.reference.root == root
                    {
                        return Ok((read, true));
                    }
                }
                Swapped::Lost(_) => tokio::time::sleep(swap::pause(attempt)).await,
            }
        }
        Err(PublishError::Contended { name: name.clone(), attempts: RACES })
    }

    async fn attempts(
        &self,
        publication: &Publication,
        mut look: Look,
        state: &mut State,
    ) -> Result<Report, PublishError> {
        let mut looks = 1;
        for race in 0..RACES {
            if let Some(report) = self.nothing_to_do(publication, &mut look, state).await? {
                return Ok(report);
            }
            open_known(self.store, self.cache, &self.consent).await?;
            let plan = self.detect(&look, state)?;
            let (contents, loaded) = self.known_contents(publication, state).await?;
            let uploads = match self.send(publication, &mut look, contents.clone(), state).await? {
                Ok(uploads) => uploads,
                Err(path) if looks == LOOKS => {
                    return Err(PublishError::Moving { folder: publication.folder.clone(), path });
                }
                Err(_) => {
                    // Files moved: what was sent stays known, so the next look costs little.
                    looks += 1;
                    look = self.look(publication).await?;
                    continue;
                }
            };
            let (row, manifest_id) =
                self.write_manifest(publication, &look, &contents, loaded.as_ref(), plan, state, uploads).await?;
            match self.commit(publication, state, &row).await? {
                None => {
                    self.remember(&look, state, &row);
                    return Ok(self.report(Outcome::Published, publication, &look, state, &row));
                }
                Some(read) => {
                    self.store.delete_many(&[self.keys(publication, state).manifest(manifest_id)]).await.ok();
                    self.lost_race(publication, state, read).await?;
                    tokio::time::sleep(swap::pause(race.min(4))).await;
                }
            }
        }
        Err(PublishError::Contended { name: publication.name.clone(), attempts: RACES })
    }

    fn keys(&self, publication: &Publication, state: &State) -> Keys {
        Keys::new(&publication.name, state.read.reference.root)
    }

    /// The ways to end without a new version: expectation not met, superseded, unchanged.
    async fn nothing_to_do(
        &self,
        publication: &Publication,
        look: &mut Look,
        state: &mut State,
    ) -> Result<Option<Report>, PublishError> {
        let reference = &state.read.reference;
        if let Some(expected) = publication.expect
            && expected != reference.current
        {
            let (name, found) = (publication.name.clone(), reference.current);
            return Err(PublishError::Expected { name, expected, found });
        }
        let Some(current) = reference.current_row().cloned() else { return Ok(None) };
        if publication.supersede
            && let (Some(ours), Some(theirs)) = (&publication.commit, &current.commit)
            && source::is_ancestor(&look.selection.root, ours, theirs) == Some(true)
        {
            return Ok(Some(self.report(Outcome::Superseded, publication, look, state, &current)));
        }
        if !self.hash(look).await? {
            // A file moved while it was hashed: packing will meet the same and look again.
            return Ok(None);
        }
        let Some(entries) = look.entries() else { return Ok(None) };
        if digest(&entries) != current.tree {
            return Ok(None);
        }
        look.save(self.cache);
        if let Some(tag) = &publication.tag
            && !current.tags.contains(tag)
        {
            open_known(self.store, self.cache, &self.consent).await?;
            self.move_tag(publication, state, current.id).await?;
        }
        self.cache.save_seen(state.read.reference.root, current.id);
        Ok(Some(self.report(Outcome::Unchanged, publication, look, state, &current)))
    }

    /// Hashes what is not known. False when a file moved.
    async fn hash(&self, look: &mut Look) -> Result<bool, PublishError> {
        let todo: u64 = look
            .selection
            .entries
            .iter()
            .zip(&look.hashes)
            .filter_map(|(entry, hash)| match (&entry.kind, hash) {
                (SourceKind::File(stat), None) => Some(stat.size),
                _ => None,
            })
            .sum();
        self.observer.phase(Phase { verb: "Reading", total: Some(todo) });
        let (root, entries, hashes) =
            (look.selection.root.clone(), look.selection.entries.clone(), look.hashes.clone());
        let observer = self.observer.clone();
        let (found, moved) =
            spawn_blocking(move || scan::hash_unknown(&root, &entries, &hashes, &|bytes| observer.advance(bytes)))
                .await??;
        for (at, hashed) in &found {
            look.learn(*at, hashed);
        }
        Ok(moved.is_none())
    }

    async fn move_tag(&self, publication: &Publication, state: &mut State, version: Ulid) -> Result<(), PublishError> {
        let Some(tag) = &publication.tag else { return Ok(()) };
        for attempt in 0..RACES {
            let mut reference = state.read.reference.clone();
            let Some(number) = reference.rows.iter().find(|row| row.id == version).map(|row| row.number) else {
                return Err(PublishError::DeletedMeanwhile { name: publication.name.clone() });
            };
            reference.tag(tag, number);
            if reference.to_bytes().len() > MAX_BYTES {
                return Err(PublishError::TagsFull { name: publication.name.clone() });
            }
            match swap::swap(self.store, &publication.name, Some(&state.read.etag), reference.clone(), None).await? {
                Swapped::Done => {
                    state.read.reference = reference;
                    return Ok(());
                }
                Swapped::Lost(read) => state.read = self.still_ours(publication, state, read)?,
            }
            tokio::time::sleep(swap::pause(attempt.min(4))).await;
        }
        Err(PublishError::Contended { name: publication.name.clone(), attempts: RACES })
    }

    fn detect(&self, look: &Look, state: &mut State) -> Result<Option<Plan>, PublishError> {
        let detection = application::detect(&Tree::of(&look.selection))?;
        for warning in look.selection.warnings.iter().chain(&detection.warnings) {
            if state.told.insert(warning.clone()) {
                self.observer.warn(warning);
            }
        }
        Ok(detection.plan)
    }

    /// Everything that need not be sent: the contents of the current version, of kept versions whose manifest this
    /// machine has, and what this publication has sent already.
    async fn known_contents(
        &self,
        publication: &Publication,
        state: &State,
    ) -> Result<(Arc<ContentIndex>, Option<Loaded>), PublishError> {
        let mut contents = state.sent.contents.clone();
        let reference = &state.read.reference;
        let Some(current) = reference.current_row() else { return Ok((Arc::new(contents), None)) };
        let keys = self.keys(publication, state);
        let loaded = version::load(self.store, self.cache, &keys, reference.root, current).await?;
        let mut live = ContentIndex::default();
        live.add_manifest(&loaded.manifest);
        let folded = folded(&live);
        contents.absorb(live);
        for row in reference.rows.iter().rev().filter(|row| row.number != current.number) {
            let known = |id| self.cache.manifest(reference.root, id).is_some();
            if known(row.base)
                && row.delta.is_none_or(known)
                && let Ok(older) = version::load(self.store, self.cache, &keys, reference.root, row).await
            {
                let mut other = ContentIndex::default();
                other.add_manifest(&older.manifest);
                contents.absorb(other);
            }
        }
        contents.retain(|_, location| !folded.contains(&location.pack.id));
        Ok((Arc::new(contents), Some(loaded)))
    }

    /// Packs and sends what is missing. The inner error names a file that moved.
    async fn send(
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
        let keys = self.keys(publication, state);
        let packer = Packer { store: self.store, keys: &keys, budget: self.budget, observer: &self.observer };
        let (outcome, uploads) = packer.pack(&look.selection.root, wanted, contents, &mut state.sent).await?;
        for Packed { at, hashed, cut, new } in outcome.files {
            look.learn(at, &hashed);
            if let Some(parts) = cut {
                state.sent.contents.add_cut(hashed.hash, parts);
            }
            if new {
                state.sent_files.insert(look.selection.entries[at].path.to_string());
            }
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
    async fn write_manifest(
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
        for mut entry in entries.drain(..) {
            if let Kind::File { size, hash, content, .. } = &mut entry.kind
                && *size > 0
            {
                // What was sent now comes first: after folding, the same content also lies in an older pack.
                let indexes = [&state.sent.contents, contents];
                let (parts, cut) = ContentIndex::find_file(&indexes, hash).ok_or_else(moved)?;
                *content = builder.content(&parts, cut);
            }
            builder.push(entry);
        }
        let manifest = builder.finish(header);
        let id = Ulid::generate();
        let (bytes, base_id) = encode(&manifest, current.zip(loaded).zip(base));
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
            other: BTreeMap::new(),
        };
        let bytes = Bytes::from(bytes);
        self.cache.save_manifest(state.read.reference.root, id, &bytes);
        state.sent.manifests.push(id);
        let key = self.keys(publication, state).manifest(id);
        let put = async { self.store.put(&key, bytes, Condition::None).await.map_err(PublishError::from) };
        futures::future::try_join(put, uploads.finish()).await?;
        Ok((row, id))
    }

    /// Swaps the ref. Nothing when it is done; what the ref is now when somebody else was faster.
    async fn commit(
        &self,
        publication: &Publication,
        state: &mut State,
        row: &Row,
    ) -> Result<Option<Option<Read>>, PublishError> {
        let mut reference = state.read.reference.clone();
        if let (Some(current), Some(author)) = (reference.current_row(), &publication.author)
            && !publication.supersede
            && current.author.as_ref().is_some_and(|other| *other != cut_message(author))
            && self.cache.seen(reference.root) != Some(current.id)
        {
            self.observer.warn(&format!(
                "this replaces version {} by {}, which this machine has not seen; it stays available as `{}@{}`",
                current.number,
                current.author.as_deref().unwrap_or_default(),
                publication.name,
                current.number
            ));
        }
        reference.current = row.number;
        reference.rows.push(row.clone());
        if let Some(tag) = &publication.tag {
            reference.tag(tag, row.number);
        }
        retention::thin(&mut reference, row.created);
        if reference.to_bytes().len() > MAX_BYTES {
            return Err(PublishError::TagsFull { name: publication.name.clone() });
        }
        self.committing.store(true, Ordering::SeqCst);
        let etag = state.read.etag.clone();
        // An error here leaves open whether the swap happened, so nothing is cleaned up: `committing` stays set.
        match swap::swap(self.store, &publication.name, Some(&etag), reference.clone(), Some(row.id)).await? {
            Swapped::Done => {
                state.read.reference = reference;
                Ok(None)
            }
            Swapped::Lost(read) => {
                self.committing.store(false, Ordering::SeqCst);
                Ok(Some(read))
            }
        }
    }

    /// The ref after a lost race, if the workspace is still the one this publication began with.
    fn still_ours(&self, publication: &Publication, state: &State, read: Option<Read>) -> Result<Read, PublishError> {
        read.filter(|read| !read.reference.deleted && read.reference.root == state.read.reference.root)
            .ok_or_else(|| PublishError::DeletedMeanwhile { name: publication.name.clone() })
    }

    /// After a lost race: is the workspace still there, and is what was sent?
    async fn lost_race(
        &self,
        publication: &Publication,
        state: &mut State,
        read: Option<Read>,
    ) -> Result<(), PublishError> {
        let read = self.still_ours(publication, state, read)?;
        if read.reference.collections != state.collections {
            let lost = self.lost_to_a_collection(publication, state, &read.reference).await?;
            state.sent.contents.retain(|_, location: &Location| !lost.contains(&location.pack.id));
            state.sent.packs.retain(|id| !lost.contains(id));
            state.collections = read.reference.collections;
        }
        state.read = read;
        Ok(())
    }

    /// Own packs that the collection in progress lists, or that are gone already. The HEADs come after the ref was read:
    /// what a collection that began later deletes, it deletes only after this upload has lost its next swap.
    async fn lost_to_a_collection(
        &self,
        publication: &Publication,
        state: &State,
        reference: &Reference,
    ) -> Result<HashSet<Ulid>, PublishError> {
        let keys = self.keys(publication, state);
        let listed: HashSet<String> = match reference.collection {
            None => HashSet::new(),
            Some(id) => match self.store.get(&keys.collection(id)).await {
                // A list that can't be read may name anything: then everything is sent again.
                Ok(object) => match serde_json::from_slice::<crate::format::collection::List>(&object.body) {
                    Ok(list) => list.keys.into_iter().collect(),
                    Err(_) => state.sent.packs.iter().map(|id| keys.pack(*id)).collect(),
                },
                Err(StoreError::NotFound { .. }) => HashSet::new(),
                Err(error) => return Err(error.into()),
            },
        };
        let mut lost = HashSet::new();
        for id in &state.sent.packs {
            let key = keys.pack(*id);
            if listed.contains(&key) {
                lost.insert(*id);
                continue;
            }
            match self.store.head(&key).await {
                Ok(_) => {}
                Err(StoreError::NotFound { .. }) => {
                    lost.insert(*id);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(lost)
    }

    fn remember(&self, look: &Look, state: &State, row: &Row) {
        look.save(self.cache);
        let reference = &state.read.reference;
        self.cache.save_seen(reference.root, row.id);
        let needed: HashSet<Ulid> =
            reference.rows.iter().flat_map(|row| [Some(row.base), row.delta]).flatten().collect();
        self.cache.keep_manifests(reference.root, |id| needed.contains(&id));
    }

    fn report(&self, outcome: Outcome, publication: &Publication, look: &Look, state: &State, row: &Row) -> Report {
        let tagged =
            |tag: &&crate::names::Tag| state.read.reference.tagged(tag).is_some_and(|tagged| tagged.id == row.id);
        Report {
            outcome,
            name: publication.name.clone(),
            number: row.number,
            id: row.id,
            files: row.files,
            bytes: row.bytes,
            sent_files: state.sent_files.len() as u64,
            new_bytes: state.new_bytes,
            excluded: look.selection.excluded.clone(),
            runtime: row.runtime.clone(),
            runnable: row.runtime.is_some(),
            tag: publication.tag.as_ref().filter(tagged).cloned(),
            requests: self.store.counts(),
        }
    }

    /// Takes back what was sent, as far as that is possible. What stays is found by the next collection.
    async fn clean_up(&self, publication: &Publication, state: &State) {
        let keys = self.keys(publication, state);
        let mut own: Vec<String> = state.sent.packs.iter().map(|id| keys.pack(*id)).collect();
        own.extend(state.sent.manifests.iter().map(|id| keys.manifest(*id)));
        if let Err(error) = self.store.delete_many(&own).await {
            tracing::debug!(%error, "some objects stay until the next collection");
        }
        if state.claimed {
            release_claim(self.store, &publication.name, &state.read).await;
        }
    }
}

/// The smaller of a delta against the current base and a new base, by the rule of the format.
fn encode(manifest: &Manifest, current: Option<((&Row, &Loaded), &Manifest)>) -> (Vec<u8>, Option<Ulid>) {
    if let Some(((row, loaded), base)) = current {
        let delta = manifest::encode_delta(row.base, base, manifest);
        if delta.len() as u64 <= DELTA.max(loaded.base_size / 16) {
            return (delta, Some(row.base));
        }
    }
    (manifest::encode(&manifest.compacted()), None)
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
