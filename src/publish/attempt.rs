//! One publication from beginning to end, over as many looks at the folder and the ref as it takes.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::task::AbortOnDropHandle;
use ulid::Ulid;

use super::known::{Early, Known};
use super::look::Look;
use super::packing::Sent;
use super::remove::release_claim;
use super::scan;
use super::swap::{self, Swapped};
use super::writable::{open_for_writing, open_known};
use super::{Outcome, Publication, PublishError, Report};
use crate::budget::Budget;
use crate::cache::Cache;
use crate::format::{Keys, Reference, Row, keys};
use crate::names::{Tag, WorkspaceName};
use crate::output::{Observer, Phase, with_causes};
use crate::source::{self, Newer, SourceKind};
use crate::store::bucket::WriteConsent;
use crate::store::{ETag, Store, StoreError};
use crate::version::{self, Loaded, Read, VersionError};

/// How often the folder is looked at again because files came and went.
pub(super) const LOOKS: u32 = 4;
/// How often somebody else may win the race for the ref.
pub(super) const RACES: u32 = 64;

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

/// What goes on between the looks.
pub(super) struct State {
    pub(super) read: Read,
    /// Whether this publication made the ref.
    pub(super) claimed: bool,
    /// Whether there is data of an earlier workspace of that name.
    earlier: Option<AbortOnDropHandle<bool>>,
    /// The collection counter when it began.
    pub(super) collections: u64,
    pub(super) sent: Sent,
    pub(super) sent_files: u64,
    pub(super) new_bytes: u64,
    pub(super) told: HashSet<String>,
    /// Whether the plan says how to start it, in an image that there is.
    pub(super) runnable: bool,
    /// What the ref's ETag is after the commit, where the server's reply told.
    pub(super) etag: Option<ETag>,
    /// What is known of the current version without asking, and of the one that was committed.
    pub(super) loaded: Option<(Ulid, Arc<Loaded>)>,
    /// Whether small packs may be folded, and old versions be looked through for contents: it takes its time.
    pub(super) thorough: bool,
    /// Whether another publication comes after this one.
    pub(super) goes_on: bool,
    /// What was learned of the folder is on its way into the cache.
    saving: Option<JoinHandle<()>>,
    /// What is probably the current version, begun to read as soon as there was a change.
    early: Option<Early>,
}

/// What one who publishes a folder again and again keeps in between.
///
/// What is reused is found in the current version alone, so that nothing has to be read; the ref is not read either as long as
/// nobody else writes it.
pub struct Session {
    /// The folder, as it was seen last.
    pub look: Look,
    read: Option<Read>,
    loaded: Option<(Ulid, Arc<Loaded>)>,
    told: HashSet<String>,
}

impl Session {
    /// Begins with a look at the folder.
    pub fn new(look: Look) -> Self {
        Self { look, read: None, loaded: None, told: HashSet::new() }
    }

    /// The number of the version that is current, as far as it is known.
    pub fn current(&self) -> Option<u64> {
        self.read.as_ref().map(|read| read.reference.current)
    }

    /// Forgets what is known of the ref: somebody else has changed it, or nobody knows.
    pub fn doubt(&mut self) {
        self.read = None;
    }
}

/// A ref that is there, or was made for a new name.
struct Claimed {
    read: Read,
    /// If it was made: whether there is data of an earlier workspace of that name. Nothing has to wait for that.
    earlier: Option<AbortOnDropHandle<bool>>,
}

impl State {
    fn of(Claimed { read, earlier }: Claimed) -> Self {
        Self { claimed: earlier.is_some(), earlier, ..Self::new(read) }
    }

    fn new(read: Read) -> Self {
        let collections = read.reference.collections;
        Self {
            read,
            claimed: false,
            earlier: None,
            collections,
            sent: Sent::default(),
            sent_files: 0,
            new_bytes: 0,
            told: HashSet::new(),
            runnable: false,
            etag: None,
            loaded: None,
            thorough: true,
            goes_on: false,
            saving: None,
            early: None,
        }
    }

    /// The keys of the workspace.
    pub(super) fn keys(&self, publication: &Publication) -> Keys {
        Keys::new(&publication.name, self.read.reference.root)
    }
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

    /// Publishes what the session has seen. `thorough`: there is time to put small packs together.
    pub async fn publish_again(
        &self,
        publication: &Publication,
        session: &mut Session,
        thorough: bool,
    ) -> Result<Report, PublishError> {
        let before = self.store.counts();
        self.committing.store(false, Ordering::SeqCst);
        let mut state = match session.read.take() {
            Some(read) => State::new(read),
            None => State::of(self.claim(&publication.name).await?),
        };
        state.loaded = session.loaded.take();
        // Whoever is strict counts what is wrong now; others hear of each thing once.
        state.told = if publication.strict { HashSet::new() } else { std::mem::take(&mut session.told) };
        (state.thorough, state.goes_on) = (thorough, true);
        let outcome = self.attempts(publication, &mut session.look, &mut state).await;
        session.told = std::mem::take(&mut state.told);
        session.loaded = state.loaded.take();
        let committing = self.committing.load(Ordering::SeqCst);
        if outcome.is_ok() {
            self.committing.store(false, Ordering::SeqCst);
        }
        match &outcome {
            Ok(report) if report.outcome == Outcome::Published => {
                session.read = state.etag.map(|etag| Read { reference: state.read.reference, etag });
            }
            Ok(_) => session.read = Some(state.read),
            Err(_) if committing => {}
            Err(_) => self.clean_up(publication, &state).await,
        }
        self.observer.finish();
        let mut report = outcome?;
        report.requests = self.store.counts() - before;
        Ok(report)
    }

    async fn run(&self, publication: &Publication) -> Result<Report, PublishError> {
        let (changed, was_changed) = oneshot::channel();
        let early = self.early(publication, was_changed);
        let look = self.look(publication, Some(changed));
        let (look, claimed) = futures::future::join(look, self.claim(&publication.name)).await;
        // The folder's fault is told first: it is the person's own, and nearer.
        let mut look = match look {
            Ok(look) => look,
            Err(error) => {
                if let Ok(Claimed { read, earlier: Some(_) }) = &claimed {
                    self.release(&publication.name, read).await;
                }
                return Err(error);
            }
        };
        let mut state = State { early, ..State::of(claimed?) };
        let outcome = self.attempts(publication, &mut look, &mut state).await;
        if let Some(saving) = state.saving.take() {
            saving.await?;
        }
        if outcome.is_ok() {
            look.save(self.cache);
        }
        if outcome.is_err() && !self.committing.load(Ordering::SeqCst) {
            self.clean_up(publication, &state).await;
        }
        outcome
    }

    /// Looks at the folder. `changed` hears of a change meanwhile.
    async fn look(
        &self,
        publication: &Publication,
        changed: Option<oneshot::Sender<()>>,
    ) -> Result<Look, PublishError> {
        let (folder, mut options, cache) = (publication.folder.clone(), publication.source.clone(), self.cache.clone());
        let look = move || {
            let kept = folder.canonicalize().ok().and_then(|root| cache.index_kept(&root));
            options.newer = kept.zip(changed).map(|(kept, changed)| {
                let tell = move || {
                    // Whoever doesn't listen any more needs it no more.
                    let _ = changed.send(());
                };
                Arc::new(Newer::than(kept, tell))
            });
            Look::take(&folder, &options, &cache)
        };
        spawn_blocking(look).await?
    }

    /// Reads what this machine believes to be the current version while the folder is still looked through and the ref is on
    /// its way, once there is a change: a large manifest takes as long as both. Without a change nobody needs it.
    fn early(&self, publication: &Publication, changed: oneshot::Receiver<()>) -> Option<Early> {
        let (root, row) =
            self.cache.newest(&self.store.identity(), &self.store.at(&keys::reference(&publication.name)))?;
        let (cache, keys, told) = (self.cache.clone(), Keys::new(&publication.name, root), row.clone());
        let reading = AbortOnDropHandle::new(tokio::spawn(async move {
            changed.await.ok()?;
            let read = move || version::load_kept(&cache, &keys, root, &told).map(Arc::new);
            spawn_blocking(read).await.ok()?
        }));
        Some(Early { root, row, reading })
    }

    /// Reads the ref, or makes one for a new name: from then on every step is fenced by it.
    async fn claim(&self, name: &WorkspaceName) -> Result<Claimed, PublishError> {
        for attempt in 0..RACES {
            let found = match version::read_reference(self.store, name).await {
                Ok(found) => found,
                Err(VersionError::Store(StoreError::NoBucket { .. })) => None,
                Err(error) => return Err(error.into()),
            };
            let etag = match found {
                Some(read) if !read.reference.deleted => return Ok(Claimed { read, earlier: None }),
                Some(read) => Some(read.etag),
                None => None,
            };
            open_for_writing(self.store, self.cache, &self.consent).await?;
            let root = Ulid::generate();
            let reference = Reference::claimed(root);
            let read = match swap::swap(self.store, name, etag.as_ref(), reference.clone(), None).await? {
                Swapped::Done(Some(etag)) => Some(Read { reference, etag }),
                Swapped::Done(None) => {
                    let read = version::read_reference(self.store, name).await?;
                    read.filter(|read| read.reference.root == root)
                }
                Swapped::Lost(_) => {
                    tokio::time::sleep(swap::pause(attempt)).await;
                    None
                }
            };
            if let Some(read) = read {
                let (store, name, is_new) = (self.store.clone(), name.clone(), etag.is_none());
                let earlier = async move { is_new && version::has_versions(&store, &name, Some(root)).await };
                return Ok(Claimed { read, earlier: Some(AbortOnDropHandle::new(tokio::spawn(earlier))) });
            }
        }
        Err(PublishError::Contended { name: name.clone(), attempts: RACES })
    }

    async fn attempts(
        &self,
        publication: &Publication,
        look: &mut Look,
        state: &mut State,
    ) -> Result<Report, PublishError> {
        let mut looks = 1;
        for race in 0..RACES {
            if let Some(report) = self.nothing_to_do(publication, look, state).await? {
                return Ok(report);
            }
            // A large manifest takes as long to read as the tree takes to be looked through; and a machine that is new here
            // reads the bucket's record beside it.
            let known = tokio::spawn(self.known(publication, state).contents(state.sent.contents.clone()));
            let known = AbortOnDropHandle::new(known);
            open_known(self.store, self.cache, &self.consent).await?;
            let plan = self.detect(publication, look, state)?;
            let (contents, loaded) = match known.await? {
                Err(error @ (VersionError::Store(StoreError::NotFound { .. }) | VersionError::Object { .. })) => {
                    let read = version::read_reference(self.store, &publication.name).await?;
                    if read.as_ref().is_none_or(|read| read.etag != state.read.etag) {
                        // The version was let go and collected since the ref was read.
                        self.lost_race(publication, state, read).await?;
                        continue;
                    }
                    let number = state.read.reference.current;
                    self.observer.warn(&format!(
                        "nothing of version {number} can be reused, so everything is sent again: {}",
                        with_causes(&error)
                    ));
                    (Arc::new(state.sent.contents.clone()), None)
                }
                other => other?,
            };
            self.guard(publication, look, loaded.as_deref(), state)?;
            let uploads = match self.send(publication, look, contents.clone(), state).await? {
                Ok(uploads) => uploads,
                Err(path) if looks == LOOKS => {
                    return Err(PublishError::Moving { folder: publication.folder.clone(), path });
                }
                Err(_) => {
                    // Files moved: what was sent stays known, so the next look costs little.
                    looks += 1;
                    *look = self.look(publication, None).await?;
                    continue;
                }
            };
            // Whoever goes on saves what he has learned when there is time.
            if !state.goes_on {
                state.saving = look.save_beside(self.cache);
            }
            let keys = state.keys(publication);
            let draft = self.draft(publication, look, &contents, loaded.as_deref(), plan, state);
            let (row, manifest_id) = self.write_manifest(&keys, draft, uploads).await?;
            if let Some(earlier) = state.earlier.take()
                && earlier.await?
            {
                let name = &publication.name;
                self.observer.warn(&format!(
                    "there is data of an earlier `{name}` whose ref is gone: this begins anew with version 1. To have \
                     it back: `workspace delete {name}`, then `workspace recover {name}`"
                ));
            }
            match self.commit(publication, state, &row).await? {
                None => {
                    self.remember(&publication.name, state, &row);
                    return Ok(self.report(Outcome::Published, publication, look, state, &row));
                }
                Some(read) => {
                    self.store.delete_many(&[state.keys(publication).manifest(manifest_id)]).await.ok();
                    self.lost_race(publication, state, read).await?;
                    tokio::time::sleep(swap::pause(race.min(4))).await;
                }
            }
        }
        Err(PublishError::Contended { name: publication.name.clone(), attempts: RACES })
    }

    /// Where to look for what need not be sent.
    fn known(&self, publication: &Publication, state: &mut State) -> Known {
        let reference = state.read.reference.clone();
        let current = reference.current_row().map(|row| row.id);
        let loaded = state.loaded.as_ref().filter(|(row, _)| Some(*row) == current);
        Known {
            store: self.store.clone(),
            cache: self.cache.clone(),
            keys: state.keys(publication),
            loaded: loaded.map(|(_, loaded)| Arc::clone(loaded)),
            early: state.early.take().filter(|early| early.is_current(&reference)),
            reference,
            thorough: state.thorough,
        }
    }

    /// The ways to end without a new version: expectation not met, superseded, unchanged.
    async fn nothing_to_do(
        &self,
        publication: &Publication,
        look: &mut Look,
        state: &mut State,
    ) -> Result<Option<Report>, PublishError> {
        if let Some(expected) = publication.expect
            && expected != state.read.reference.current
            // Whoever watches is content where somebody else has published just this.
            && !(state.goes_on && self.equals_current(look, state).await?)
        {
            let reference = &state.read.reference;
            let (name, found) = (publication.name.clone(), reference.current);
            return Err(PublishError::Expected { name, expected, found });
        }
        let Some(current) = state.read.reference.current_row().cloned() else { return Ok(None) };
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
        if look.digest() != Some(current.tree) {
            return Ok(None);
        }
        if let Some(tag) = &publication.tag
            && !current.tags.contains(tag)
        {
            open_known(self.store, self.cache, &self.consent).await?;
            self.move_tag(publication, state, current.id).await?;
        }
        self.cache.save_seen(state.read.reference.root, current.id);
        Ok(Some(self.report(Outcome::Unchanged, publication, look, state, &current)))
    }

    async fn equals_current(&self, look: &mut Look, state: &State) -> Result<bool, PublishError> {
        let hashed = self.hash(look).await?;
        let current = state.read.reference.current_row();
        Ok(hashed && current.is_some_and(|current| look.digest() == Some(current.tree)))
    }

    /// Hashes what is not known. False when a file moved.
    async fn hash(&self, look: &mut Look) -> Result<bool, PublishError> {
        let unknown =
            look.selection.entries.iter().zip(&look.hashes).filter_map(|(entry, hash)| match (&entry.kind, hash) {
                (SourceKind::File(stat), None) => Some(stat.size),
                _ => None,
            });
        let (files, todo) = unknown.fold((0_usize, 0), |(files, bytes), size| (files + 1, bytes + size));
        if files == 0 {
            return Ok(true);
        }
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

    fn remember(&self, name: &WorkspaceName, state: &State, row: &Row) {
        let reference = &state.read.reference;
        self.cache.save_seen(reference.root, row.id);
        let key = self.store.at(&keys::reference(name));
        self.cache.save_newest(&self.store.identity(), &key, reference.root, row);
        let needed: HashSet<Ulid> =
            reference.rows.iter().flat_map(|row| [Some(row.base), row.delta]).flatten().collect();
        self.cache.keep_manifests(reference.root, |id| needed.contains(&id));
    }

    fn report(&self, outcome: Outcome, publication: &Publication, look: &Look, state: &State, row: &Row) -> Report {
        let tagged = |tag: &&Tag| state.read.reference.tagged(tag).is_some_and(|tagged| tagged.id == row.id);
        Report {
            outcome,
            name: publication.name.clone(),
            number: row.number,
            id: row.id,
            files: row.files,
            bytes: row.bytes,
            sent_files: state.sent_files,
            new_bytes: state.new_bytes,
            excluded: look.selection.excluded.clone(),
            runtime: row.runtime.clone(),
            runnable: state.runnable,
            tag: publication.tag.as_ref().filter(tagged).cloned(),
            requests: self.store.counts(),
        }
    }

    /// Takes back what was sent, as far as that is possible. What stays is found by the next collection.
    async fn clean_up(&self, publication: &Publication, state: &State) {
        let keys = state.keys(publication);
        let mut own: Vec<String> = state.sent.packs.iter().map(|id| keys.pack(*id)).collect();
        own.extend(state.sent.manifests.iter().map(|id| keys.manifest(*id)));
        if let Err(error) = self.store.delete_many(&own).await {
            tracing::debug!(%error, "some objects stay until the next collection");
        }
        if state.claimed {
            self.release(&publication.name, &state.read).await;
        }
    }

    /// Takes back the claim, but only where DELETE honours its condition: elsewhere it would take whatever stands there by
    /// now, and that may be a version that somebody else has published under the claimed name.
    async fn release(&self, name: &WorkspaceName, claimed: &Read) {
        if let Ok(bucket) = open_known(self.store, self.cache, &self.consent).await
            && bucket.record.delete_if_match
        {
            release_claim(self.store, name, claimed).await;
        }
    }
}
