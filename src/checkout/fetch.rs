//! Fetching: ranges of packs, as many at once as the byte budget allows, decoded and staged on all cores.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, TryStreamExt};
use tokio::task::spawn_blocking;

use super::packs::{Packs, Reads};
use super::ranges::{FrameRange, ranges};
use super::stage::{Stage, StageError};
use super::{CheckoutError, Fetcher};
use crate::format::{Manifest, pack};
use crate::output::Phase;

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
    let range = Arc::new(range);
    loop {
        let bytes = reads.next(&key, range.start..range.end).await?;
        let outcome = {
            let (manifest, stage, range) = (manifest.clone(), stage.clone(), range.clone());
            spawn_blocking(move || unpack(&manifest, &stage, &range, &bytes)).await?
        };
        match outcome {
            Ok(written) => {
                fetcher.observer.advance(written);
                return Ok(());
            }
            Err(StageError::Checkout(error)) => return Err(error),
            Err(StageError::Damaged { .. }) if reads.again(&key) => {}
            Err(StageError::Damaged { entry, reason }) => {
                let path = manifest.entries[entry].path.to_string();
                return Err(CheckoutError::Damaged { key, reason, path });
            }
        }
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
