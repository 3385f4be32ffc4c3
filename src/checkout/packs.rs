//! Reading packs: under which key, and from where. A CDN is asked first if there is one, then the bucket, twice if what
//! comes is wrong: the network may have been at fault.

use std::ops::Range;

use bytes::Bytes;
use ulid::Ulid;

use crate::format::Keys;
use crate::output::Observer;
use crate::store::cdn::Cdn;
use crate::store::{Store, StoreError};

/// How often a range whose content is wrong is read from the bucket.
const READS: u32 = 2;

/// Where the packs of a manifest lie.
#[derive(Debug, Clone, Copy)]
pub enum Packs<'a> {
    /// Below a root.
    Below(&'a Keys),
    /// There is one, and this is its key: an archive that was read by its URL.
    One(&'a str),
}

impl Packs<'_> {
    /// The key of a pack.
    pub fn key(&self, id: Ulid) -> String {
        match self {
            Self::Below(keys) => keys.pack(id),
            Self::One(key) => (*key).to_owned(),
        }
    }
}

/// The reads of one range, until its content is right.
pub struct Reads<'a> {
    store: &'a Store,
    /// Until it has failed.
    cdn: Option<&'a Cdn>,
    observer: &'a dyn Observer,
    left: u32,
}

impl<'a> Reads<'a> {
    /// None yet.
    pub fn of(store: &'a Store, observer: &'a dyn Observer) -> Self {
        Self { store, cdn: store.cdn(), observer, left: READS }
    }

    /// The bytes, from the next place to ask. They are to be verified.
    pub async fn next(&mut self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let mut whole = Bytes::new();
        self.next_pieces(key, range.start, &[range.end], &mut |piece| whole = piece).await?;
        Ok(whole)
    }

    /// The same in pieces, as [`Store::get_pieces`] does it: each is given away as soon as it has come.
    pub async fn next_pieces(
        &mut self,
        key: &str,
        mut start: u64,
        mut ends: &[u64],
        take: &mut (dyn FnMut(Bytes) + Send),
    ) -> Result<(), StoreError> {
        if let Some(cdn) = self.cdn {
            let mut given = 0_usize;
            let mut count = |piece| {
                given += 1;
                take(piece);
            };
            match cdn.get_pieces(self.store, key, start, ends, &mut count).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::debug!(key, %error, "not from the CDN");
                    self.cdn = None;
                    self.say(cdn.failed(&error));
                }
            }
            // What it gave is verified like the rest.
            if let Some(last) = given.checked_sub(1) {
                (start, ends) = (ends[last], &ends[given..]);
            }
        }
        self.left = self.left.saturating_sub(1);
        self.store.get_pieces(key, start, ends, take).await
    }

    /// The content was wrong: whether it may be read again.
    pub fn again(&mut self, key: &str) -> bool {
        if let Some(cdn) = self.cdn.take() {
            self.say(cdn.lied(key));
            return true;
        }
        self.left > 0
    }

    fn say(&self, text: Option<String>) {
        if let Some(text) = text {
            self.observer.warn(&text);
        }
    }
}
