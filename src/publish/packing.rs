//! Packing and sending: contents go into frames, frames into packs, packs into the bucket, all at the same time.
//!
//! Files are grouped by extension, then path, since like compresses well with like. Whoever reads a file hashes it in the
//! same pass and drops what some version already has. Frames are built on all cores and put into packs in their order; a
//! closed pack is checked, then sent, while the next one fills. The byte budget bounds all of it.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use futures::stream::{self, StreamExt};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinSet, spawn_blocking};
use ulid::Ulid;

use crate::budget::{BYTES_IN_FLIGHT, Budget, Taken, threads};
use crate::format::chunking::{self, CUT_ABOVE};
use crate::format::manifest::ContentIndex;
use crate::format::pack::{BuiltFrame, CLOSE_AT, FRAME_TARGET, FrameBuilder, Pack, PackBuilder, PackError, Part};
use crate::format::{Hash, Keys};
use crate::output::Observer;
use crate::source::Stat;
use crate::store::Store;

use super::PublishError;
use super::bad_memory::{self, Stage};
use super::scan::{self, Hashed, ReadFailure};

/// Files of at least this size get a frame of their own.
const OWN_FRAME: u64 = 1 << 20;
/// What a file takes in the lists that go along with it, in bytes, at half the budget at most.
const LISTED: u64 = 768;
/// Buffers of sent packs that are kept: while one is sent, the next one fills. Beside the budget, as are the pages of the one
/// that fills and held more before: 24 MiB each at most.
const KEPT: usize = 1;
/// Packs checked at once: each holds a decompressed frame, of 8 MiB mostly at most, beside the budget.
const CHECKED_AT_ONCE: usize = 2;
/// The first pack of an upload is closed at this size, in bytes, so that the link has work while the rest is compressed.
const FIRST_PACK: usize = 1 << 20;
/// Each next one may be that many times as large, up to [`CLOSE_AT`].
const RAMP: usize = 4;
/// Packs of so many bytes take about as long to send as another connection takes to open, with its handshakes.
const SMALL: u64 = 64 << 10;
/// How often a large file that changes while it is read is read again.
const LARGE_READS: u32 = 3;

/// A file that shall be read, and packed unless its content is known.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its position among the entries.
    pub at: usize,
    /// Its path in the tree.
    pub path: String,
    /// What it looked like.
    pub stat: Stat,
}

/// What came of a file.
#[derive(Debug)]
pub struct Packed {
    /// Its position among the entries.
    pub at: usize,
    /// Its digest.
    pub hashed: Hashed,
    /// How it was cut, if it was.
    pub cut: Option<Vec<Hash>>,
    /// Whether any of its content was new.
    pub new: bool,
}

/// What came of all of them.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The files.
    pub files: Vec<Packed>,
    /// One that was gone.
    pub moved: Option<String>,
    /// Bytes of content packed.
    pub new_bytes: u64,
}

/// Sends packs below one root.
pub struct Packer<'a> {
    /// Where to.
    pub store: &'a Store,
    /// Under which keys.
    pub keys: &'a Keys,
    /// Memory.
    pub budget: &'a Budget,
    /// Who hears of it.
    pub observer: &'a Arc<dyn Observer>,
}

/// What this uploader has sent so far, over all attempts.
#[derive(Debug, Default)]
pub struct Sent {
    /// Contents, and where they lie.
    pub contents: ContentIndex,
    /// The packs.
    pub packs: Vec<Ulid>,
    /// The manifests.
    pub manifests: Vec<Ulid>,
}

/// Contents that need not be packed: known before, or packed by somebody in this run.
struct Claims {
    known: Arc<ContentIndex>,
    claimed: Mutex<HashSet<Hash>>,
}

impl Claims {
    /// Whether the caller must pack the content.
    fn claim(&self, hash: Hash) -> bool {
        self.known.find(&hash).is_none() && self.claimed.lock().unwrap_or_else(PoisonError::into_inner).insert(hash)
    }
}

/// What a task on a thread hands back.
#[derive(Default)]
struct Built {
    frame: Option<BuiltFrame>,
    files: Vec<Packed>,
    moved: Option<String>,
    new_bytes: u64,
}

/// Packs being sent. Ended by [`Uploads::finish`]; dropping it aborts them.
pub struct Uploads {
    tasks: JoinSet<Result<(), PublishError>>,
    /// Bytes in them.
    bytes: u64,
    /// What the lists of files take, until the publication is done with them.
    _lists: Taken,
}

impl Uploads {
    /// Whether they have arrived before another connection would be open.
    pub fn are_small(&self) -> bool {
        self.bytes <= SMALL
    }

    /// Waits for all, also after one has failed: what arrives later would not be cleaned up.
    pub async fn finish(mut self) -> Result<(), PublishError> {
        let mut failed = None;
        while let Some(sent) = self.tasks.join_next().await {
            let error = match sent {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error,
                Err(error) => PublishError::from(error),
            };
            failed.get_or_insert(error);
        }
        failed.map_or(Ok(()), Err)
    }
}

impl Packer<'_> {
    /// Reads `wanted`, packs what is not in `known`, and begins to send. What was packed is added to `sent` at once; it
    /// may be relied on once the uploads are finished.
    pub async fn pack(
        &self,
        root: &Path,
        mut wanted: Vec<Wanted>,
        known: Arc<ContentIndex>,
        sent: &mut Sent,
    ) -> Result<(Outcome, Uploads), PublishError> {
        let extension = |file: &Wanted| {
            let name = file.path.rsplit('/').next().unwrap_or_default();
            name.rsplit_once('.').map(|(_, extension)| extension.to_owned()).unwrap_or_default()
        };
        let lists = self.budget.take((wanted.len() as u64 * LISTED).min(BYTES_IN_FLIGHT / 2)).await;
        wanted.sort_by_cached_key(|file| (extension(file), file.path.clone()));
        let (large, small): (Vec<Wanted>, Vec<Wanted>) =
            wanted.into_iter().partition(|file| file.stat.size > CUT_ABOVE);
        let claims = Arc::new(Claims { known, claimed: Mutex::default() });
        let root: Arc<Path> = root.into();
        let mut assembler = Assembler::new(self, sent);
        let mut outcome = Outcome::default();
        let mut built = stream::iter(groups(small))
            .map(|group| {
                let (claims, root) = (claims.clone(), root.clone());
                async move {
                    let bytes: u64 = group.iter().map(|file| file.stat.size + 1_024).sum();
                    // Read once, framed once, compressed once.
                    let mut taken = self.budget.take(3 * bytes).await;
                    let built = spawn_blocking(move || build(&root, group, &claims)).await??;
                    taken.shrink(built.frame.as_ref().map_or(0, |frame| frame.bytes.len() as u64));
                    self.observer.advance(bytes);
                    Ok::<_, PublishError>((built, taken))
                }
            })
            .buffered(threads() + 2);
        while let Some(next) = built.next().await {
            let (built, taken) = next?;
            assembler.take(built, taken, &mut outcome)?;
            assembler.check().await?;
        }
        drop(built);
        for file in large {
            self.pack_large(&root, file, &claims, &mut assembler, &mut outcome).await?;
        }
        assembler.close()?;
        Ok((outcome, Uploads { tasks: assembler.uploads, bytes: assembler.bytes, _lists: lists }))
    }

    async fn pack_large(
        &self,
        root: &Path,
        file: Wanted,
        claims: &Arc<Claims>,
        assembler: &mut Assembler<'_, '_>,
        outcome: &mut Outcome,
    ) -> Result<(), PublishError> {
        let path = root.join(&file.path);
        for _ in 0..LARGE_READS {
            // Two parts wait while others are being compressed.
            let (sender, receiver) = mpsc::channel(2);
            let reader = spawn_blocking({
                let path = path.clone();
                move || read_in_parts(&path, &sender)
            });
            let parts = stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
            let mut built = Box::pin(
                parts
                    .map(|part: Part| {
                        let claims = claims.clone();
                        async move {
                            let length = part.content().len() as u64;
                            let mut taken = self.budget.take(3 * length).await;
                            let (hash, built) = spawn_blocking(move || build_part(part, &claims)).await??;
                            taken.shrink(built.frame.as_ref().map_or(0, |frame| frame.bytes.len() as u64));
                            self.observer.advance(length);
                            Ok::<_, PublishError>((hash, built, taken))
                        }
                    })
                    .buffered(threads() + 1),
            );
            let mut hashes = Vec::new();
            let mut new = false;
            while let Some(next) = built.next().await {
                let (hash, part, taken) = next?;
                hashes.push(hash);
                new |= part.frame.is_some();
                assembler.take(part, taken, outcome)?;
                assembler.check().await?;
            }
            drop(built);
            match reader.await? {
                Ok(Some(hashed)) => {
                    outcome.files.push(Packed { at: file.at, hashed, cut: Some(hashes), new });
                    return Ok(());
                }
                // It changed: what was packed of it stays useful, most of it will be found again.
                Ok(None) => {}
                Err(error) => {
                    if let Some(error) = error.into_error(&file.path) {
                        return Err(error);
                    }
                    outcome.moved = Some(file.path);
                    return Ok(());
                }
            }
        }
        Err(PublishError::Restless { path: file.path })
    }
}

/// Cuts a file and hands its parts out. Nothing when it changed meanwhile.
fn read_in_parts(path: &Path, parts: &mpsc::Sender<Part>) -> Result<Option<Hashed>, ReadFailure> {
    let Some((file, before, began)) = scan::open_settled(path)? else { return Ok(None) };
    let mut hasher = blake3::Hasher::new();
    for part in chunking::cut(&file, Part::of) {
        let part = part?;
        hasher.update(part.content());
        if parts.blocking_send(part).is_err() {
            // Nobody listens any more: the upload has failed elsewhere.
            return Ok(None);
        }
    }
    let steady = Stat::of(&file.metadata()?) == before && hasher.count() == before.size;
    Ok(steady.then(|| Hashed { hash: hasher.finalize().into(), stat: before, began }))
}

/// Small files by the frame; larger ones alone.
fn groups(files: Vec<Wanted>) -> Vec<Vec<Wanted>> {
    let mut groups = Vec::new();
    let mut open: Vec<Wanted> = Vec::new();
    let mut bytes = 0;
    for file in files {
        if file.stat.size >= OWN_FRAME {
            groups.push(vec![file]);
            continue;
        }
        bytes += file.stat.size + 512;
        open.push(file);
        if bytes >= FRAME_TARGET {
            groups.push(std::mem::take(&mut open));
            bytes = 0;
        }
    }
    if !open.is_empty() {
        groups.push(open);
    }
    groups
}

fn build(root: &Path, group: Vec<Wanted>, claims: &Claims) -> Result<Built, PublishError> {
    // Content, header and padding; long names take two blocks more, which then grow the buffer.
    let bytes: u64 = group.iter().map(|file| file.stat.size + 1_024).sum();
    let mut frame = FrameBuilder::with_capacity(usize::try_from(bytes).unwrap_or(0));
    let mut built = Built::default();
    for file in group {
        let (mut content, hashed) = match scan::content(&root.join(&file.path)) {
            Ok(read) => read,
            Err(error) => {
                if let Some(error) = error.into_error(&file.path) {
                    return Err(error);
                }
                built.moved = Some(file.path);
                continue;
            }
        };
        let new = !content.is_empty() && claims.claim(hashed.hash);
        if new {
            bad_memory::flips(Stage::Content, &mut content);
            let seconds = hashed.stat.mtime.div_euclid(1_000_000_000);
            frame.add(&file.path, hashed.stat.executable, seconds, hashed.hash, &content)?;
            built.new_bytes += content.len() as u64;
        }
        built.files.push(Packed { at: file.at, hashed, cut: None, new });
    }
    if !frame.is_empty() {
        built.frame = Some(frame.finish()?);
    }
    Ok(built)
}

fn build_part(part: Part, claims: &Claims) -> Result<(Hash, Built), PackError> {
    let hash = Hash::of(part.content());
    let mut built = Built::default();
    if claims.claim(hash) {
        built.new_bytes = part.content().len() as u64;
        built.frame = Some(part.into_frame(hash)?);
    }
    Ok((hash, built))
}

/// Puts frames into packs, and sends packs.
struct Assembler<'p, 's> {
    packer: &'p Packer<'p>,
    sent: &'s mut Sent,
    open: PackBuilder,
    held: Taken,
    uploads: JoinSet<Result<(), PublishError>>,
    /// Bytes in those.
    bytes: u64,
    checking: Arc<Semaphore>,
    buffers: Arc<Buffers>,
    /// Where the open pack is closed, in bytes.
    close_at: usize,
}

impl<'p, 's> Assembler<'p, 's> {
    fn new(packer: &'p Packer<'p>, sent: &'s mut Sent) -> Self {
        Self {
            packer,
            sent,
            open: PackBuilder::new(Ulid::generate()),
            held: Taken::nothing(),
            uploads: JoinSet::new(),
            bytes: 0,
            checking: Arc::new(Semaphore::new(CHECKED_AT_ONCE)),
            buffers: Arc::default(),
            close_at: FIRST_PACK,
        }
    }

    fn take(&mut self, built: Built, taken: Taken, outcome: &mut Outcome) -> Result<(), PublishError> {
        outcome.files.extend(built.files);
        outcome.new_bytes += built.new_bytes;
        if built.moved.is_some() {
            outcome.moved = built.moved;
        }
        if let Some(frame) = built.frame {
            self.held.join(taken);
            self.open.add(frame);
            if self.open.len() >= self.close_at {
                self.close()?;
                self.close_at = (self.close_at * RAMP).min(CLOSE_AT);
            }
        }
        Ok(())
    }

    /// Fails as soon as an upload has failed.
    async fn check(&mut self) -> Result<(), PublishError> {
        while let Some(sent) = self.uploads.try_join_next() {
            sent??;
        }
        // Lets uploads begin while frames are being built without a pause.
        tokio::task::yield_now().await;
        Ok(())
    }

    fn close(&mut self) -> Result<(), PublishError> {
        if self.open.is_empty() {
            return Ok(());
        }
        let next = PackBuilder::within(self.buffers.take(), Ulid::generate());
        let open = std::mem::replace(&mut self.open, next);
        let pack = open.finish()?;
        self.sent.contents.add_pack(&pack);
        self.sent.packs.push(pack.id);
        self.bytes += pack.bytes.len() as u64;
        let held = std::mem::replace(&mut self.held, Taken::nothing());
        let (store, key) = (self.packer.store.clone(), self.packer.keys.pack(pack.id));
        let (checking, buffers) = (self.checking.clone(), self.buffers.clone());
        self.uploads.spawn(async move {
            let turn = checking.acquire().await;
            let bytes = spawn_blocking(move || checked(pack)).await??;
            drop(turn);
            store.put_immutable(&key, bytes.clone()).await?;
            buffers.keep(bytes);
            drop(held);
            Ok(())
        });
        Ok(())
    }
}

/// Buffers of packs that have been sent. Those of a 1 GiB file would be mapped, and its pages found, 64 times otherwise: a
/// tenth of all the work.
#[derive(Default)]
struct Buffers {
    idle: Mutex<Vec<BytesMut>>,
}

impl Buffers {
    /// One that was used before, if there is any.
    fn take(&self) -> BytesMut {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Keeps one that nobody reads any more.
    fn keep(&self, sent: Bytes) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Ok(buffer), true) = (sent.try_into_mut(), idle.len() < KEPT) {
            idle.push(buffer);
        }
    }
}

/// The object, once it has been found to hold what it should.
fn checked(mut pack: Pack) -> Result<Bytes, PackError> {
    bad_memory::flips_shared(Stage::Pack, &mut pack.bytes);
    pack.check()?;
    Ok(pack.bytes)
}
