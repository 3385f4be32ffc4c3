//! The release command runs once per version for all hosts: who creates the lease runs it, and its outcome stays.

use bytes::Bytes;
use jiff::Timestamp;
use ulid::Ulid;

use crate::format::host::{self, Holder, Host};
use crate::format::lease::{Lease, LeaseOutcome};
use crate::format::{FORMAT, FormatError, keys};
use crate::store::{Condition, ETag, Store, StoreError};

/// Who asks for a lease.
pub struct Asking<'a> {
    /// The store.
    pub store: &'a Store,
    /// The lease's key.
    pub key: String,
    /// This host's engine.
    pub engine: &'a str,
    /// This monitor.
    pub holder: &'a Holder,
    /// The ref's mark of the last `retry`.
    pub retry: Option<Ulid>,
    /// The time.
    pub now: Timestamp,
}

/// How a release command stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It has succeeded.
    Succeeded,
    /// It has failed, and nobody has asked for another try.
    Failed(LeaseOutcome),
    /// This monitor has the lease.
    Mine,
    /// Another host has it.
    Elsewhere(String),
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The lease can't be read.
    #[error("the lease `{key}` can't be used")]
    Object {
        /// Its key.
        key: String,
        /// What is wrong with it.
        source: FormatError,
    },
}

impl Asking<'_> {
    /// Gets the lease, or says who has it and what came of it.
    pub async fn acquire(&self) -> Result<Standing, LeaseError> {
        let (lease, condition) = match self.read().await? {
            None => (None, Condition::Absent),
            Some((lease, etag)) => (Some(lease), Condition::Matches(etag)),
        };
        if let Some(lease) = lease {
            match &lease.outcome {
                Some(outcome) if outcome.succeeded => return Ok(Standing::Succeeded),
                Some(outcome) if outcome.retry == self.retry => return Ok(Standing::Failed(outcome.clone())),
                Some(_) => {}
                None if lease.engine == self.engine && lease.instance == self.holder.instance => {
                    return Ok(Standing::Mine);
                }
                // An earlier monitor of this host: its work is ours.
                None if lease.engine == self.engine => {}
                None => {
                    if let Some(host) = self.living(&lease).await? {
                        return Ok(Standing::Elsewhere(host));
                    }
                }
            }
        }
        let mine = Lease {
            format: FORMAT,
            engine: self.engine.to_owned(),
            instance: self.holder.instance,
            attempt: Ulid::generate(),
            started: self.now,
            outcome: None,
        };
        match self.store.put(&self.key, Bytes::from(mine.to_bytes()), condition).await {
            Ok(_) => Ok(Standing::Mine),
            // Somebody was quicker, or an earlier attempt of this very write was: the next look tells.
            Err(StoreError::Precondition { .. } | StoreError::NotFound { .. }) => match self.read().await? {
                Some((lease, _)) if lease.attempt == mine.attempt => Ok(Standing::Mine),
                _ => Ok(Standing::Elsewhere("another host".to_owned())),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Records what came of it.
    pub async fn finish(&self, succeeded: bool, reason: String, tail: Vec<String>) -> Result<(), LeaseError> {
        let Some((mut lease, etag)) = self.read().await? else { return Ok(()) };
        if lease.engine != self.engine || lease.outcome.is_some() {
            return Ok(());
        }
        lease.outcome = Some(LeaseOutcome { succeeded, reason, tail, at: self.now, retry: self.retry });
        match self.store.put(&self.key, Bytes::from(lease.to_bytes()), Condition::Matches(etag)).await {
            Ok(_) | Err(StoreError::Precondition { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn read(&self) -> Result<Option<(Lease, ETag)>, LeaseError> {
        match self.store.get(&self.key).await {
            Ok(object) => match Lease::parse(&object.body) {
                Ok(lease) => Ok(Some((lease, object.etag))),
                Err(source) => Err(LeaseError::Object { key: self.key.clone(), source }),
            },
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The holder's host name, if its monitor is at work and is still the one that took the lease.
    async fn living(&self, lease: &Lease) -> Result<Option<String>, LeaseError> {
        match self.store.get_within(&keys::host(&lease.engine), host::MAX_BYTES).await {
            Ok(object) => Ok(Host::parse(&object.body)
                .ok()
                .filter(|host| host.is_alive(self.now) && host.holder.instance == lease.instance)
                .map(|host| host.hostname)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests;
