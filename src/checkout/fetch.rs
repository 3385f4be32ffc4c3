//! Fetching: ranges of packs, as many at once as the byte budget allows, decoded and staged on all cores while they come.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::stream::{self, TryStreamExt};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::packs::{Packs, Reads};
use super::ranges::{FrameRange, ranges};
use super::stage::{Stage, StageError};
use super::{CheckoutError, Fetcher};
use crate::format::{Manifest, pack};
use crate::output::{Observer, Phase};

/// Most requests at once; the byte budget is mostly tighter.
const REQUESTS: usize = 32;

/// Brings everything onto the stage that is not there yet.
pub async fn fetch(
    fetcher: &Fetcher<'_>,
    packs: &Packs<'_>,
    manifest: &Arc<Manifest>,
    stage: &Arc<Stage>,
) -> Result<(), CheckoutError> {
    fetcher.observer.phase(Phase { verb: "Downloading", total: Some(stage.missing_bytes()) });
    let ranges = ranges(manifest, &stage.frames());
    stream::iter(ranges.into_iter().map(Ok))
        .try_for_each_concurrent(REQUESTS, |range| fetch_range(fetcher, packs, manifest, stage, range))
        .await?;
    let (manifest, stage) = (manifest.clone(), stage.clone());
    spawn_blocking(move || {
        stage.make_empty_files(&manifest)?;
        match stage.lacks() {
            Some(at) => Err(CheckoutError::NotTheFile {
                path: manifest.entries[at].path.to_string(),
                reason: "not all of it came".to_owned(),
            }),
            None => Ok(()),
        }
    })
    .await?
}

async fn fetch_range(
    fetcher: &Fetcher<'_>,
    packs: &Packs<'_>,
    manifest: &Arc<Manifest>,
    stage: &Arc<Stage>,
    range: FrameRange,
) -> Result<(), CheckoutError> {
    let largest = range.frames.iter().map(|&frame| manifest.frames[frame as usize].raw).max().unwrap_or(0);
    let _held = fetcher.budget.take(range.end - range.start + u64::from(largest)).await;
    let key = packs.key(manifest.packs[range.pack as usize].id);
    let mut reads = Reads::of(fetcher.store, fetcher.observer.as_ref());
    let pieces = range.pieces(manifest);
    let ends: Vec<u64> = pieces.iter().map(|piece| piece.end).collect();
    let pieces: Arc<[FrameRange]> = pieces.into();
    // Pieces that are right and written. They don't come again where a later one has to.
    let done = Arc::new(AtomicUsize::new(0));
    loop {
        let from = done.load(Ordering::Acquire);
        let start = from.checked_sub(1).map_or(range.start, |last| ends[last]);
        let (come, coming) = mpsc::unbounded_channel();
        let unpacking = {
            let (manifest, stage, pieces, done) = (manifest.clone(), stage.clone(), pieces.clone(), done.clone());
            let observer = fetcher.observer.clone();
            spawn_blocking(move || unpack_all(&manifest, &stage, &pieces, &done, coming, observer.as_ref()))
        };
        // Whoever unpacks may have given up.
        let read = reads.next_pieces(&key, start, &ends[from..], &mut |piece| drop(come.send(piece))).await;
        drop(come);
        // Nothing is written any more once this has returned.
        let outcome = unpacking.await?;
        read?;
        match outcome {
            Ok(()) => return Ok(()),
            Err(StageError::Checkout(error)) => return Err(error),
            Err(StageError::Damaged { .. }) if reads.again(&key) => {}
            Err(StageError::Damaged { entry, reason }) => {
                let path = manifest.entries[entry].path.to_string();
                return Err(CheckoutError::Damaged { key, reason, path });
            }
        }
    }
}

/// Unpacks a range's pieces as they come: one after the other, so that no more is unpacked at once than was asked of the budget.
fn unpack_all(
    manifest: &Manifest,
    stage: &Stage,
    pieces: &[FrameRange],
    done: &AtomicUsize,
    mut coming: mpsc::UnboundedReceiver<Bytes>,
    observer: &dyn Observer,
) -> Result<(), StageError> {
    for piece in &pieces[done.load(Ordering::Acquire)..] {
        let Some(bytes) = coming.blocking_recv() else { break };
        observer.advance(unpack(manifest, stage, piece, &bytes)?);
        done.fetch_add(1, Ordering::Release);
    }
    Ok(())
}

fn unpack(manifest: &Manifest, stage: &Stage, range: &FrameRange, bytes: &Bytes) -> Result<u64, StageError> {
    let mut written = 0;
    for &number in &range.frames {
        let frame = manifest.frames[number as usize];
        // Both lie inside the range by its making, and the range has at most some MiB.
        let start = usize::try_from(frame.offset - range.start).unwrap_or(usize::MAX);
        let compressed = bytes.get(start..start.saturating_add(frame.length as usize)).unwrap_or_default();
        let raw = pack::decompress(compressed, frame.raw).map_err(|error| StageError::Damaged {
            entry: stage.entry_in(number).unwrap_or(0),
            reason: error.to_string(),
        })?;
        written += stage.take(manifest, number, &raw)?;
    }
    Ok(written)
}
