//! The swap: the one conditional PUT that changes what everybody sees.
//!
//! What is sent is read again before: a bit that memory has lost must not become the truth. It runs without the client's retries, and all attempts of one swap send the same bytes. A lost reply is told from a
//! lost race by the nonce that each swap leaves in the ref.

use std::time::Duration;

use bytes::Bytes;
use ulid::Ulid;

use super::bad_memory::{self, Stage};
use crate::format::{Reference, keys};
use crate::names::WorkspaceName;
use crate::store::{Condition, ETag, Store, StoreError};
use crate::version::{self, Read, VersionError};

/// How often one swap is sent before the store counts as failing.
const ATTEMPTS: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What came of a swap.
#[derive(Debug)]
pub enum Swapped {
    /// It is in place; under this ETag, where the server's own reply told.
    Done(Option<ETag>),
    /// Somebody else changed the ref first; this is what it is now.
    Lost(Option<Box<Read>>),
}

/// Replaces the ref that was read as `etag` (or, with none, creates it) by `reference`, signed with a new nonce.
///
/// `row`: the version that this swap adds, if it adds one; later swaps may have pushed the nonce out, never the row.
pub async fn swap(
    store: &Store,
    name: &WorkspaceName,
    etag: Option<&ETag>,
    mut reference: Reference,
    row: Option<Ulid>,
) -> Result<Swapped, VersionError> {
    let nonce = Ulid::generate();
    reference.sign(nonce);
    let key = keys::reference(name);
    let mut body = Bytes::from(reference.to_bytes());
    bad_memory::flips_shared(Stage::Reference, &mut body);
    if Reference::parse(&body).as_ref() != Ok(&reference) {
        return Err(VersionError::BadMemory { what: "the ref" });
    }
    let condition = || etag.map_or(Condition::Absent, |etag| Condition::Matches(etag.clone()));
    let mut last = None;
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            tokio::time::sleep(pause(attempt)).await;
        }
        match store.put_once(&key, body.clone(), condition()).await {
            Ok(etag) => return Ok(Swapped::Done(Some(etag))),
            // On `If-Match` AWS says 404 when the object is gone, others 412.
            Err(StoreError::Precondition { .. } | StoreError::NotFound { .. }) => {}
            Err(error) if error.is_ambiguous() || error.is_retryable() => last = Some(error),
            Err(error) => return Err(error.into()),
        }
        let found = match version::read_reference(store, name).await {
            Ok(found) => found,
            Err(VersionError::Store(error)) if error.is_retryable() => {
                last = Some(error);
                continue;
            }
            Err(error) => return Err(error),
        };
        let ours = |read: &Read| {
            read.reference.bears(nonce) || row.is_some_and(|id| read.reference.rows.iter().any(|row| row.id == id))
        };
        if found.as_ref().is_some_and(ours) {
            return Ok(Swapped::Done(None));
        }
        let untouched = match (&found, etag) {
            (None, None) => true,
            (Some(read), Some(etag)) => read.etag == *etag,
            _ => false,
        };
        if !untouched {
            return Ok(Swapped::Lost(found.map(Box::new)));
        }
    }
    Err(last.unwrap_or(StoreError::Precondition { key }).into())
}

/// Exponential, with jitter, so that those who collided don't collide again.
pub fn pause(attempt: u32) -> Duration {
    let longest = FIRST_PAUSE.saturating_mul(1 << attempt.min(10)).min(LONGEST_PAUSE);
    longest.mul_f64(fastrand::f64().mul_add(0.5, 0.5))
}
