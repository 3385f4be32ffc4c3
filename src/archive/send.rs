//! Sending an object while it is made: by one PUT if it is small, else in parts.
//!
//! What the store has of an object that was never completed takes room there and is seen by nobody. [`Unfinished`] knows of it
//! from the moment it is asked for, so that whoever gives up, at whatever moment, can take it back.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, JoinSet};

use super::ArchiveError;
use crate::budget::{Budget, Taken};
use crate::format::Manifest;
use crate::store::multipart::{MOST_PARTS, Multipart, SentPart};
use crate::store::{Store, StoreError};

/// The least that a part has, in bytes, and the most.
const PART: u64 = 16 << 20;
const LARGEST_PART: u64 = 32 << 20;
/// Parts in memory, together with the one that is being filled: at most half of the process's budget, since what fills them
/// needs some, too.
const HELD: u64 = 64 << 20;
/// Of a tar beside its contents, at most, for each entry: headers and padding. With what an incompressible frame grows by.
const BESIDE: u64 = 12 << 10;

/// An upload in parts that was begun and not completed.
#[derive(Debug, Clone, Default)]
pub struct Unfinished(Arc<Mutex<Under>>);

#[derive(Debug, Default)]
struct Under {
    /// Waits for the answer to the request that begins one: a task of its own, which goes on when whoever asked is dropped.
    asked: Option<JoinHandle<Result<Multipart, StoreError>>>,
    begun: Option<Multipart>,
}

impl Unfinished {
    /// Takes back what was begun. False: the store may still have parts of it.
    pub async fn take_back(&self) -> bool {
        let Under { asked, mut begun } = std::mem::take(&mut *self.0.lock().await);
        if let Some(asked) = asked {
            match asked.await {
                Ok(Ok(multipart)) => begun = Some(multipart),
                Ok(Err(error)) => return !error.is_ambiguous(),
                Err(_) => return false,
            }
        }
        let Some(multipart) = begun else { return true };
        let aborted = multipart.abort().await;
        if let Err(error) = &aborted {
            tracing::debug!(%error, "an upload was not taken back");
        }
        aborted.is_ok()
    }

    async fn begin(&self, store: &Store, key: &str) -> Result<Multipart, ArchiveError> {
        let mut under = self.0.lock().await;
        let (store, key) = (store.clone(), key.to_owned());
        let asked = under.asked.insert(tokio::spawn(async move { store.begin_parts(&key).await }));
        let answer = asked.await;
        under.asked = None;
        let multipart = answer??;
        under.begun = Some(multipart.clone());
        Ok(multipart)
    }

    async fn completed(&self) {
        *self.0.lock().await = Under::default();
    }
}

/// Sends one object.
pub struct Sender<'a> {
    store: &'a Store,
    key: &'a str,
    unfinished: &'a Unfinished,
    part: usize,
    at_once: usize,
    buffer: BytesMut,
    multipart: Option<Multipart>,
    sending: JoinSet<Result<SentPart, StoreError>>,
    sent: Vec<SentPart>,
    next: i32,
    _held: Taken,
}

impl<'a> Sender<'a> {
    /// Takes all the memory that it will need at once: what waits for more while others wait for it would wait forever.
    pub async fn new(
        store: &'a Store,
        key: &'a str,
        manifest: &Manifest,
        budget: &Budget,
        unfinished: &'a Unfinished,
    ) -> Result<Self, ArchiveError> {
        let entries = manifest.entries.len() as u64;
        let most = manifest.header.bytes.saturating_add(entries.saturating_mul(BESIDE));
        let part = part_size(most).ok_or(ArchiveError::TooLarge { bytes: manifest.header.bytes })?;
        let held = budget.take(HELD.min(most.max(1 << 20))).await;
        Ok(Self {
            store,
            key,
            unfinished,
            part: usize::try_from(part).unwrap_or(usize::MAX),
            at_once: usize::try_from(HELD / part - 1).unwrap_or(1),
            buffer: BytesMut::new(),
            multipart: None,
            sending: JoinSet::new(),
            sent: Vec::new(),
            next: 1,
            _held: held,
        })
    }

    /// Takes more of the object.
    pub async fn send(&mut self, bytes: Bytes) -> Result<(), ArchiveError> {
        self.buffer.extend_from_slice(&bytes);
        while self.buffer.len() > self.part {
            let part = self.buffer.split_to(self.part).freeze();
            self.send_part(part).await?;
        }
        Ok(())
    }

    async fn send_part(&mut self, part: Bytes) -> Result<(), ArchiveError> {
        let multipart = match &self.multipart {
            Some(multipart) => multipart.clone(),
            None => self.multipart.insert(self.unfinished.begin(self.store, self.key).await?).clone(),
        };
        while self.sending.len() >= self.at_once {
            self.wait().await?;
        }
        let number = self.next;
        self.next += 1;
        self.sending.spawn(async move { multipart.send(number, part).await });
        Ok(())
    }

    async fn wait(&mut self) -> Result<(), ArchiveError> {
        if let Some(sent) = self.sending.join_next().await {
            self.sent.push(sent??);
        }
        Ok(())
    }

    /// Sends the last bytes; then the object is there.
    pub async fn finish(mut self, last: Bytes) -> Result<(), ArchiveError> {
        let outcome = self.finish_it(last).await;
        if outcome.is_err() {
            self.stop().await;
        }
        outcome
    }

    async fn finish_it(&mut self, last: Bytes) -> Result<(), ArchiveError> {
        self.send(last).await?;
        let rest = self.buffer.split().freeze();
        if self.multipart.is_none() {
            self.store.put_immutable(self.key, rest).await?;
            return Ok(());
        }
        self.send_part(rest).await?;
        while !self.sending.is_empty() {
            self.wait().await?;
        }
        if let Some(multipart) = self.multipart.take() {
            multipart.complete(std::mem::take(&mut self.sent)).await?;
            self.unfinished.completed().await;
        }
        Ok(())
    }

    /// Ends what is being sent, so that nothing arrives after the whole is taken back.
    pub async fn stop(mut self) {
        self.sending.shutdown().await;
    }
}

/// How large parts have to be for an object of at most so many bytes; nothing when none is large enough.
fn part_size(most: u64) -> Option<u64> {
    // Some parts to spare: what doesn't compress grows a little.
    let parts = u64::from(MOST_PARTS.unsigned_abs()) - 200;
    Some(PART.max(most.div_ceil(parts))).filter(|part| *part <= LARGEST_PART)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_as_large_as_they_have_to_be() {
        assert_eq!(part_size(0), Some(PART));
        assert_eq!(part_size(100 << 30), Some(PART));
        let large = part_size(250 << 30).unwrap();
        assert!(large > PART && large * 9_800 >= 250 << 30, "{large}");
        assert_eq!(part_size(400 << 30), None);
    }
}
