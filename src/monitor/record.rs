//! This host's record in the bucket: read once at the start, then written by nobody else.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;

use super::holder;
use crate::engine::Engine;
use crate::format::host::{self, Holder, Host, Managed};
use crate::format::{FORMAT, FormatError, keys};
use crate::names::{Pattern, WorkspaceName};
use crate::store::{Condition, ETag, Store, StoreError};

/// Why the record can't be taken or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is there can't be read.
    #[error("the host's record `{key}` can't be used")]
    Object {
        /// Its key.
        key: String,
        /// What is wrong with it.
        source: FormatError,
    },
    /// Another monitor holds this Engine.
    #[error("another monitor holds the Docker Engine of {hostname}: {who}, last heard of {beat}")]
    Held {
        /// The host.
        hostname: String,
        /// Its process or container.
        who: String,
        /// Its last beat.
        beat: Timestamp,
    },
    /// Another monitor has taken over.
    #[error("another monitor has taken over the Docker Engine of {hostname}")]
    TakenOver {
        /// The host.
        hostname: String,
    },
}

/// The record and what it takes to write it.
#[derive(Debug)]
pub struct HostRecord {
    key: String,
    host: Host,
    etag: Option<ETag>,
    conditional: bool,
    /// What another release of this program may have written.
    taken: bool,
}

impl HostRecord {
    /// Reads it, and refuses if another monitor is at work, unless this one only looks.
    pub async fn open(
        store: &Store,
        engine: &Engine,
        only: &[Pattern],
        conditional: bool,
        look_only: bool,
    ) -> Result<Self, RecordError> {
        let key = keys::host(engine.id());
        let now = Timestamp::now();
        let own = holder::this_process();
        let found = match store.get_within(&key, host::MAX_BYTES).await {
            Ok(object) => match Host::parse(&object.body) {
                Ok(host) => Some((host, object.etag)),
                Err(source) => return Err(RecordError::Object { key, source }),
            },
            Err(StoreError::NotFound { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let (mut host, etag) = if let Some((host, etag)) = found {
            if !look_only && holder::is_alive(&host, &own, engine, now).await {
                let Holder { pid, container, .. } = &host.holder;
                let who = container.as_ref().map_or_else(
                    || format!("process {pid}"),
                    |container| format!("container {}", container.get(..12).unwrap_or(container)),
                );
                return Err(RecordError::Held { hostname: host.hostname, who, beat: host.beat });
            }
            (host, Some(etag))
        } else {
            let host = Host {
                format: FORMAT,
                engine: engine.id().to_owned(),
                hostname: String::new(),
                tool: String::new(),
                holder: own.clone(),
                started: now,
                beat: now,
                ended: false,
                only: Vec::new(),
                workspaces: BTreeMap::new(),
                withheld: Vec::new(),
                other: BTreeMap::new(),
            };
            (host, None)
        };
        host.holder = own;
        host.started = now;
        engine.hostname().clone_into(&mut host.hostname);
        env!("CARGO_PKG_VERSION").clone_into(&mut host.tool);
        host.only = only.iter().map(ToString::to_string).collect();
        Ok(Self { key, host, etag, conditional, taken: false })
    }

    /// What is remembered of the workspaces.
    pub fn workspaces(&self) -> BTreeMap<WorkspaceName, Managed> {
        self.host.workspaces.clone()
    }

    /// This monitor.
    pub fn holder(&self) -> &Holder {
        &self.host.holder
    }

    /// Says that this monitor holds the Engine from now on.
    pub async fn take(&mut self, store: &Store) -> Result<(), RecordError> {
        let (workspaces, withheld) = (self.host.workspaces.clone(), self.host.withheld.clone());
        self.write(store, workspaces, withheld, false).await
    }

    /// Whether it was taken: otherwise nothing is written.
    pub fn is_taken(&self) -> bool {
        self.taken
    }

    /// Writes how things stand.
    pub async fn write(
        &mut self,
        store: &Store,
        workspaces: BTreeMap<WorkspaceName, Managed>,
        withheld: Vec<WorkspaceName>,
        ended: bool,
    ) -> Result<(), RecordError> {
        self.host.workspaces = workspaces;
        self.host.withheld = withheld;
        self.host.ended = ended;
        self.host.beat = Timestamp::now();
        let condition = match (&self.etag, self.conditional) {
            (_, false) => Condition::None,
            (None, true) => Condition::Absent,
            (Some(etag), true) => Condition::Matches(etag.clone()),
        };
        match store.put(&self.key, Bytes::from(self.host.to_bytes()), condition).await {
            Ok(etag) => self.etag = Some(etag),
            Err(StoreError::Precondition { .. } | StoreError::Conflict { .. }) => {
                // An earlier attempt of this very write, or somebody else.
                let object = match store.get_within(&self.key, host::MAX_BYTES).await {
                    Ok(object) => object,
                    // Removed by hand: written anew next time.
                    Err(StoreError::NotFound { .. }) => {
                        self.etag = None;
                        return Ok(());
                    }
                    Err(error) => return Err(error.into()),
                };
                let ours =
                    Host::parse(&object.body).is_ok_and(|host| host.holder.instance == self.host.holder.instance);
                if !ours && !self.taken {
                    // It is not the record that was read: what it says is to be looked at anew.
                    return Err(StoreError::Conflict { key: self.key.clone() }.into());
                }
                if !ours {
                    return Err(RecordError::TakenOver { hostname: self.host.hostname.clone() });
                }
                // A write of ours that was given up halfway had arrived. What is to be said now has not.
                let again = Condition::Matches(object.etag);
                let body = Bytes::from(self.host.to_bytes());
                self.etag = Some(store.put(&self.key, body, again).await?);
            }
            Err(error) => return Err(error.into()),
        }
        self.taken = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
