//! Fetching: ranges of packs, as many at once as the byte budget allows, decoded and staged on all cores while they come.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, TryStreamExt};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio_util::task::TaskTracker;

use super::packs::{Packs, Reads};
use super::ranges::{FrameRange, ranges};
use super::stage::{Stage, StageError};
use super::{CheckoutError, Fetcher};
use crate::format::{Manifest, pack};
use crate::output::Phase;

/// Most requests at once; the byte budget is mostly tighter.
const REQUESTS: usize = 32;

/// Brings everything onto the stage that is not there yet. Once this has returned, nothing is written there any more.
pub async fn fetch(
    fetcher: &Fetcher<'_>,
    packs: &Packs<'_>,
    manifest: &Arc<Manifest>,
    stage: &Arc<Stage>,
) -> Result<(), CheckoutError> {
    fetcher.observer.phase(Phase { verb: "Downloading", total: Some(stage.missing_bytes()) });
    let ranges = ranges(manifest, &stage.frames());
    let unpacking = TaskTracker::new();
    let fetching = Fetching { fetcher, packs, manifest, stage, unpacking: &unpacking };
    let fetched =
        stream::iter(ranges.into_iter().map(Ok)).try_for_each_concurrent(REQUESTS, |range| fetching.range(range)).await;
    // Where one range has failed, pieces of others are still being written.
    unpacking.close();
    unpacking.wait().await;
    fetched?;
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

struct Fetching<'a> {
    fetcher: &'a Fetcher<'a>,
    packs: &'a Packs<'a>,
    manifest: &'a Arc<Manifest>,
    stage: &'a Arc<Stage>,
    unpacking: &'a TaskTracker,
}

impl Fetching<'_> {
    async fn range(&self, range: FrameRange) -> Result<(), CheckoutError> {
        let largest = range.frames.iter().map(|&frame| self.manifest.frames[frame as usize].raw).max().unwrap_or(0);
        let _held = self.fetcher.budget.take(range.end - range.start + u64::from(largest)).await;
        let key = self.packs.key(self.manifest.packs[range.pack as usize].id);
        let mut reads = Reads::of(self.fetcher.store, self.fetcher.observer.as_ref());
        let pieces: Vec<_> = range.pieces(self.manifest).into_iter().map(Arc::new).collect();
        let ends: Vec<u64> = pieces.iter().map(|piece| piece.end).collect();
        // Pieces that are right and written don't come again where a later one has to.
        let mut done = 0;
        loop {
            let (start, missing) = (pieces[done].start, &ends[done..]);
            let (come, mut coming) = mpsc::unbounded_channel();
            let (broken, outcome) = {
                let reading = async {
                    // Whoever unpacks may have given up.
                    let read = reads.next_pieces(&key, start, missing, &mut |piece| drop(come.send(piece))).await;
                    drop(come);
                    read.err()
                };
                let unpacking = self.unpack_all(&pieces, &mut done, &mut coming);
                tokio::pin!(reading, unpacking);
                tokio::select! {
                    // Either all is there, or the rest is of no use.
                    outcome = &mut unpacking => (None, outcome),
                    broken = &mut reading => (broken, unpacking.await),
                }
            };
            match outcome {
                Ok(()) if done == pieces.len() => return Ok(()),
                // What is missing is told once all ranges are read.
                Ok(()) => return broken.map_or(Ok(()), |error| Err(error.into())),
                Err(StageError::Checkout(error)) => return Err(error),
                Err(StageError::Damaged { .. }) if reads.again(&key) => {}
                Err(StageError::Damaged { entry, reason }) => {
                    let path = self.manifest.entries[entry].path.to_string();
                    return Err(CheckoutError::Damaged { key, reason, path });
                }
            }
        }
    }

    /// Unpacks pieces as they come: one after the other, so that no more is unpacked at once than was asked of the budget. No
    /// thread waits for the network meanwhile.
    async fn unpack_all(
        &self,
        pieces: &[Arc<FrameRange>],
        done: &mut usize,
        coming: &mut mpsc::UnboundedReceiver<Bytes>,
    ) -> Result<(), StageError> {
        while *done < pieces.len() {
            let Some(bytes) = coming.recv().await else { break };
            let (manifest, stage, piece) = (self.manifest.clone(), self.stage.clone(), pieces[*done].clone());
            let unpacked = self.unpacking.spawn_blocking(move || unpack(&manifest, &stage, &piece, &bytes));
            let written = unpacked.await.map_err(|error| StageError::Checkout(error.into()))??;
            self.fetcher.observer.advance(written);
            *done += 1;
        }
        Ok(())
    }
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
