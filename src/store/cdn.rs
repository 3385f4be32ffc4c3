//! A CDN in front of the bucket, for reading packs: they never change, so a copy of one is as good as itself.
//!
//! Whoever reads verifies what comes, wherever from. The bucket is what is asked when the CDN fails or lies; after a failure
//! that would only repeat itself the CDN isn't asked any more by this process.

use std::collections::VecDeque;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::granted::Addresses;
use super::{Learned, Shared, Store, StoreError, connect, granted};
use crate::settings::{CdnUrl, Limits, Settings, StoreSettings};

/// For a connection and for an answer to begin; the settings may say less.
const CONNECT: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(10);
/// A body that comes more slowly than so many bytes a second is fetched from the bucket.
const SLOWEST: u64 = 128 << 10;
/// So many packs may be missing there before it is left alone.
const MISSES: u32 = 8;
/// For how long an address that a CDN passes on to the bucket is signed.
const SIGNED_FOR: Duration = Duration::from_hours(1);
/// Signed addresses that are kept, far more than there are requests at once.
const KEPT: usize = 1024;

/// The CDN of a store.
pub struct Cdn {
    /// What reads from it.
    store: Store,
    below: Arc<Below>,
    patience: Duration,
    off: AtomicBool,
    misses: AtomicU32,
    said: AtomicBool,
}

impl fmt::Debug for Cdn {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Cdn").field("base", &self.below.base).finish_non_exhaustive()
    }
}

/// Addresses below a URL, some with a query.
pub(super) struct Below {
    base: String,
    /// Whether a key without a query can't be read.
    signed: bool,
    queries: Mutex<VecDeque<(String, String)>>,
}

impl Below {
    /// Keys consist of letters, digits, `.`, `_`, `-` and `/`: nothing of them is escaped in a URL.
    pub(super) fn address(&self, key: &str) -> Option<String> {
        let Self { base, .. } = self;
        if !self.signed {
            return Some(format!("{base}/{key}"));
        }
        let queries = self.queries.lock().unwrap_or_else(PoisonError::into_inner);
        queries.iter().rev().find(|(of, _)| of == key).map(|(_, query)| format!("{base}/{key}?{query}"))
    }

    fn remember(&self, key: &str, query: &str) {
        let mut queries = self.queries.lock().unwrap_or_else(PoisonError::into_inner);
        queries.retain(|(of, _)| of != key);
        if queries.len() == KEPT {
            queries.pop_front();
        }
        queries.push_back((key.to_owned(), query.to_owned()));
    }
}

impl Store {
    /// The store that the settings name, with its CDN if it has one. No request is made to either.
    pub async fn open(settings: &Settings) -> Result<Self, StoreError> {
        let StoreSettings { limits, ca_bundle, .. } = &settings.store;
        Self::connect(&settings.store).await?.with_cdn(settings.cdn.as_ref(), limits, ca_bundle.as_deref())
    }

    /// The same store, with a CDN in front of it for packs if there is one.
    pub fn with_cdn(
        mut self,
        url: Option<&CdnUrl>,
        limits: &Limits,
        ca_bundle: Option<&Path>,
    ) -> Result<Self, StoreError> {
        let Some(url) = url else { return Ok(self) };
        let base = url.base.clone();
        let below = Arc::new(Below { base: base.clone(), signed: url.presigned, queries: Mutex::default() });
        let patience = limits.attempt.min(PATIENCE);
        // One attempt: the bucket is the next one.
        let limits = Limits {
            connect: limits.connect.min(CONNECT),
            attempt: patience,
            stall: limits.stall.min(patience),
            attempts: 1,
        };
        let http = connect::http_client(ca_bundle, base.starts_with("https://"))?;
        let counters = self.shared.counters.clone();
        let shared = Shared {
            client: connect::addressed(Addresses::Below(below.clone()), http, &limits, &counters),
            bucket: granted::BUCKET.to_owned(),
            location: base.clone(),
            endpoint: base,
            region: None,
            custom: true,
            counters,
            credentials: None,
            expires: None,
            addresses: None,
            private: false,
            learned: Learned::default(),
        };
        let store = Self::of(shared);
        let (off, misses, said) = (AtomicBool::new(false), AtomicU32::new(0), AtomicBool::new(false));
        self.cdn = Some(Arc::new(Cdn { store, below, patience, off, misses, said }));
        Ok(self)
    }

    /// The CDN, while it is worth asking.
    pub fn cdn(&self) -> Option<&Cdn> {
        self.cdn.as_deref().filter(|cdn| !cdn.off.load(Ordering::Relaxed))
    }

    /// The query of an address that reads the object.
    async fn query(&self, key: &str) -> Result<String, StoreError> {
        let address = match &self.shared.addresses {
            Some(addresses) => addresses.get(&self.at(key)).cloned(),
            None => Some(self.presign(key, SIGNED_FOR).await?),
        };
        let query = address.as_deref().and_then(|address| address.split_once('?')).map(|(_, query)| query.to_owned());
        query.ok_or_else(|| StoreError::NotGranted { key: key.to_owned() })
    }
}

impl Cdn {
    /// Some bytes of a pack of `origin`, in pieces, as [`Store::get_pieces`] does it. They are what somebody else kept: to be
    /// verified.
    pub async fn get_pieces(
        &self,
        origin: &Store,
        key: &str,
        start: u64,
        ends: &[u64],
        take: &mut (dyn FnMut(Bytes) + Send),
    ) -> Result<(), StoreError> {
        let length = ends.last().map_or(0, |end| end.saturating_sub(start));
        let limit = self.patience + Duration::from_secs(length / SLOWEST);
        let work = async {
            let address = origin.at(key);
            if self.below.signed {
                self.below.remember(&address, &origin.query(key).await?);
            }
            self.store.get_pieces(&address, start, ends, take).await
        };
        match tokio::time::timeout(limit, work).await {
            Ok(outcome) => outcome,
            Err(_) => Err(StoreError::Timeout { endpoint: self.below.base.clone() }),
        }
    }

    /// Takes note of a failure, and gives what is to be said of it, the first time.
    pub fn failed(&self, error: &StoreError) -> Option<String> {
        let reason = match error {
            StoreError::NotFound { key } => {
                if self.misses.fetch_add(1, Ordering::Relaxed) + 1 < MISSES {
                    return self.say(&format!("it does not have `{key}`"));
                }
                "too many packs are missing there".to_owned()
            }
            StoreError::Unreachable { reason, .. } => format!("it can't be reached ({reason})"),
            StoreError::Timeout { .. } => "it did not answer in time".to_owned(),
            StoreError::NotS3 { reason, .. } => format!("it answered with something else ({reason})"),
            StoreError::NoRanges { .. } => "it does not serve parts of an object".to_owned(),
            StoreError::Truncated { .. } | StoreError::Interrupted { .. } => "the connection broke".to_owned(),
            StoreError::AccessDenied { .. } => "it refuses the request (AccessDenied)".to_owned(),
            StoreError::BadCredentials { code, .. } => format!("it refuses the request ({code})"),
            other => other.to_string(),
        };
        self.off.store(true, Ordering::Relaxed);
        self.say(&reason)
    }

    /// The same for content that is not what the manifest says.
    pub fn lied(&self, key: &str) -> Option<String> {
        self.off.store(true, Ordering::Relaxed);
        self.say(&format!("what it has as `{key}` is something else"))
    }

    fn say(&self, reason: &str) -> Option<String> {
        let first = !self.said.swap(true, Ordering::Relaxed);
        let base = &self.below.base;
        first.then(|| format!("Fetching from the bucket instead of the CDN at {base}: {reason}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn below(signed: bool) -> Below {
        Below { base: "https://cdn.test/b".to_owned(), signed, queries: Mutex::default() }
    }

    #[test]
    fn keys_lie_below_the_url() {
        let key = "data/my.app/01J/packs/01K.tar.zst";
        assert_eq!(below(false).address(key).unwrap(), format!("https://cdn.test/b/{key}"));
        let signed = below(true);
        assert_eq!(signed.address(key), None);
        signed.remember(key, "X-Amz-Signature=1");
        signed.remember(key, "X-Amz-Signature=2");
        assert_eq!(signed.address(key).unwrap(), format!("https://cdn.test/b/{key}?X-Amz-Signature=2"));
    }

    #[test]
    fn signed_addresses_are_not_kept_for_ever() {
        let signed = below(true);
        for number in 0..=KEPT {
            signed.remember(&number.to_string(), "q");
        }
        assert_eq!(signed.address("0"), None);
        assert!(signed.address(&KEPT.to_string()).is_some() && signed.address("1").is_some());
    }
}
