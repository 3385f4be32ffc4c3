//! What the bucket says: one LIST of the refs per poll; if any changed, a GET of the bucket's record and of each of them.
//!
//! A ref that is missing from a listing is not gone yet: its own GET must say so in two polls, in a bucket that is still the
//! one it was. Nor is one that is listed and can't be got. When most workspaces vanish at once, a person has to confirm.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use ulid::Ulid;

use super::situation::{Desired, Target};
use crate::format::host::Confirmation;
use crate::format::{Keys, Reference, Row, keys};

use crate::names::{Pattern, Selector, Version, WorkspaceName, chosen};
use crate::output::with_causes;
use crate::store::bucket::{Bucket, BucketError};
use crate::store::{Condition, ETag, Store, StoreError};
use crate::version::{self, VersionError};

/// Refs that are read at once.
const READS: usize = 16;
/// Polls in which a ref must be gone before that is believed.
const POLLS: u8 = 2;
/// Below this many workspaces, any number may vanish at once.
const FEW: usize = 3;

/// What is known of one workspace.
#[derive(Debug, Clone)]
pub struct Entry {
    etag: Option<ETag>,
    /// What should be.
    pub desired: Desired,
    /// The mark of the last `retry`.
    pub retry: Option<Ulid>,
    /// Where its traffic goes instead.
    pub route: Option<WorkspaceName>,
    /// In how many polls it was gone.
    absent: u8,
}

/// What the bucket says of all workspaces.
#[derive(Debug, Default)]
pub struct Catalogue {
    entries: BTreeMap<WorkspaceName, Entry>,
    /// Vanished together with many others.
    pub withheld: Vec<WorkspaceName>,
}

/// Why the bucket can't be looked at.
#[derive(Debug, thiserror::Error)]
pub enum PollError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bucket's record can't be used.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// The bucket has another id, or none.
    #[error("{location} is not the bucket that this monitor began with: nothing is changed until it is back")]
    OtherBucket {
        /// Where.
        location: String,
    },
}

/// Who polls, and what for.
pub struct Poll<'a> {
    /// The bucket.
    pub store: &'a Store,
    /// Its id.
    pub bucket: Ulid,
    /// The key of what a person confirmed for this host.
    pub confirmation: String,
    /// What to manage; empty: everything.
    pub only: &'a [Pattern],
    /// Workspaces that are on this host, or are remembered.
    pub present: Vec<WorkspaceName>,
}

impl Catalogue {
    /// What is known of a workspace.
    pub fn get(&self, name: &WorkspaceName) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// The names of all workspaces that are not gone.
    pub fn names(&self) -> impl Iterator<Item = &WorkspaceName> {
        self.entries.iter().filter(|(_, entry)| entry.desired != Desired::Gone).map(|(name, _)| name)
    }

    /// Whether a workspace was missing from the bucket, and not often enough for that to be believed.
    pub fn has_doubts(&self) -> bool {
        self.entries.values().any(|entry| entry.absent > 0 && entry.absent < POLLS)
    }

    /// Forgets a workspace. One whose ref stays, and says that it was deleted, isn't read again at each poll.
    pub fn forget(&mut self, name: &WorkspaceName) {
        if self.entries.get(name).is_some_and(|entry| entry.etag.is_none()) {
            self.entries.remove(name);
        }
    }
}

/// Looks at the bucket and gives the names of what changed.
pub async fn poll(poll: &Poll<'_>, catalogue: &std::sync::Mutex<Catalogue>) -> Result<Vec<WorkspaceName>, PollError> {
    let listed = poll.store.list(keys::REFS).await?;
    let listed: BTreeMap<WorkspaceName, ETag> = listed
        .into_iter()
        .filter_map(|object| Some((keys::name_of_reference(&object.key)?, object.etag)))
        .filter(|(name, _)| chosen(poll.only, name).is_some())
        .collect();
    let (changed, absent) = {
        let known = lock(catalogue);
        let changed: Vec<(WorkspaceName, ETag)> = listed
            .iter()
            .filter(|(name, etag)| known.get(name).and_then(|entry| entry.etag.as_ref()) != Some(etag))
            .map(|(name, etag)| (name.clone(), etag.clone()))
            .collect();
        let mut absent: Vec<WorkspaceName> =
            known.names().chain(&poll.present).filter(|name| !listed.contains_key(*name)).cloned().collect();
        absent.sort();
        absent.dedup();
        absent.retain(|name| chosen(poll.only, name).is_some());
        (changed, absent)
    };
    if !changed.is_empty() || !absent.is_empty() {
        // An emptied or exchanged bucket says nothing about anything, not even with refs of the same names in it.
        let same = Bucket::open_for_reading(poll.store).await?.is_some_and(|bucket| bucket.record.id == poll.bucket);
        if !same {
            return Err(PollError::OtherBucket { location: poll.store.location() });
        }
    }
    let read: Vec<(WorkspaceName, Result<Found, StoreError>)> = futures::stream::iter(changed)
        .map(|(name, etag)| async move {
            let entry = read(poll, &name, Some(etag)).await;
            (name, entry)
        })
        .buffer_unordered(READS)
        .collect()
        .await;
    let mut names = Vec::new();
    let mut failed: Option<PollError> = None;
    for (name, entry) in read {
        match entry {
            // Removed since, which the next listing says; or the server is not itself. The next poll tries it again.
            Ok(Found::Missing) => tracing::warn!(workspace = %name, "its ref is listed, and can't be got"),
            Ok(found) => {
                let mut catalogue = lock(catalogue);
                let etag = listed.get(&name).cloned();
                let entry = match found {
                    Found::There(entry) => *entry,
                    // Deleted, and said so in its own ref: there is nothing to doubt.
                    _ => Entry { etag, desired: Desired::Gone, retry: None, route: None, absent: POLLS },
                };
                catalogue.entries.insert(name.clone(), entry);
                catalogue.withheld.retain(|withheld| *withheld != name);
                names.push(name);
            }
            // The next poll tries it again.
            Err(error) => failed = Some(error.into()),
        }
    }
    if absent.is_empty() {
        lock(catalogue).withheld.clear();
    } else {
        match look_for(poll, catalogue, absent, listed.len()).await {
            Ok(more) => names.extend(more),
            Err(error) => failed = Some(error),
        }
    }
    match failed {
        Some(error) if names.is_empty() => Err(error),
        // What was found is acted upon; the rest is looked for again.
        Some(error) => {
            tracing::warn!("the bucket could not be read whole: {}", with_causes(&error));
            Ok(names)
        }
        None => Ok(names),
    }
}

/// Looks closer at workspaces that were not listed.
async fn look_for(
    poll: &Poll<'_>,
    catalogue: &std::sync::Mutex<Catalogue>,
    absent: Vec<WorkspaceName>,
    listed: usize,
) -> Result<Vec<WorkspaceName>, PollError> {
    let mut gone = Vec::new();
    let mut names = Vec::new();
    for name in absent {
        match read(poll, &name, None).await? {
            Found::There(entry) => {
                // The listing was behind.
                lock(catalogue).entries.insert(name.clone(), *entry);
                names.push(name);
            }
            Found::Deleted | Found::Missing => gone.push(name),
        }
    }
    let believed: Vec<WorkspaceName> = {
        let mut catalogue = lock(catalogue);
        gone.iter()
            .filter(|name| {
                let entry = catalogue.entries.entry((*name).clone()).or_insert_with(|| Entry {
                    etag: None,
                    desired: Desired::Unknown("its ref is missing from the bucket".to_owned()),
                    retry: None,
                    route: None,
                    absent: 0,
                });
                entry.etag = None;
                entry.absent = entry.absent.saturating_add(1);
                entry.absent >= POLLS && entry.desired != Desired::Gone
            })
            .cloned()
            .collect()
    };
    let many = believed.len() >= FEW && believed.len() > listed;
    let confirmed = if many { confirmed(poll).await? } else { Vec::new() };
    if many && believed.iter().all(|name| confirmed.contains(name)) {
        // Said once, for these: if they come back and vanish again, somebody is asked again.
        poll.store.delete(&poll.confirmation, Condition::None).await?;
    }
    let mut catalogue = lock(catalogue);
    catalogue.withheld.clear();
    for name in believed {
        if many && !confirmed.contains(&name) {
            if let Some(entry) = catalogue.entries.get_mut(&name) {
                entry.desired = Desired::Unknown(
                    "it vanished together with most others: `workspace confirm-removals` if that is meant".to_owned(),
                );
            }
            catalogue.withheld.push(name.clone());
        } else if let Some(entry) = catalogue.entries.get_mut(&name) {
            entry.desired = Desired::Gone;
        }
        names.push(name);
    }
    Ok(names)
}

async fn confirmed(poll: &Poll<'_>) -> Result<Vec<WorkspaceName>, PollError> {
    match poll.store.get(&poll.confirmation).await {
        Ok(object) => Ok(Confirmation::parse(&object.body).map(|confirmation| confirmation.names).unwrap_or_default()),
        Err(StoreError::NotFound { .. }) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// What the GET of a ref says.
enum Found {
    /// What it holds.
    There(Box<Entry>),
    /// That the workspace is deleted.
    Deleted,
    /// That it is not there.
    Missing,
}

/// Reads a ref and what it takes to run its version.
async fn read(poll: &Poll<'_>, name: &WorkspaceName, etag: Option<ETag>) -> Result<Found, StoreError> {
    let there = |entry| Ok(Found::There(Box::new(entry)));
    let unknown =
        |etag, why: String| there(Entry { etag, desired: Desired::Unknown(why), retry: None, route: None, absent: 0 });
    let found = match version::read_reference(poll.store, name).await {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(Found::Missing),
        Err(VersionError::Store(error)) => return Err(error),
        Err(error) => {
            let why = with_causes(&error);
            tracing::warn!(workspace = %name, "{why}");
            return unknown(etag, why);
        }
    };
    let reference = &found.reference;
    if reference.deleted {
        return Ok(Found::Deleted);
    }
    let etag = Some(found.etag);
    let version = chosen(poll.only, name).cloned().unwrap_or(Version::Current);
    let desired = if reference.stopped {
        Desired::Stopped
    } else if let Some(row) = reference.select(&version) {
        match target(poll.store, name, reference.root, row).await {
            Ok(target) => Desired::Run(target),
            Err(VersionError::Store(error)) if error.is_retryable() => return Err(error),
            Err(error) => return unknown(None, with_causes(&error)),
        }
    } else if reference.rows.is_empty() {
        return unknown(etag, "it has no version yet".to_owned());
    } else {
        let selector = Selector { name: name.clone(), version };
        return unknown(etag, format!("there is no `{selector}`"));
    };
    there(Entry { etag, desired, retry: reference.retry, route: effective_route(reference, name), absent: 0 })
}

fn effective_route(reference: &Reference, name: &WorkspaceName) -> Option<WorkspaceName> {
    reference.route.clone().filter(|route| route != name)
}

/// What it takes to run a version: one small request for its plan.
pub async fn target(store: &Store, name: &WorkspaceName, root: Ulid, row: &Row) -> Result<Target, VersionError> {
    let header = version::load_header(store, &Keys::new(name, root), row).await?;
    // A tree of which nothing is known is stored, not run.
    let plan = header.plan.unwrap_or_else(|| crate::application::Plan::new(crate::application::Runtime::Custom));
    Ok(Target { root, row: row.clone(), plan: Arc::new(plan) })
}

fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    super::lock(mutex)
}

#[cfg(test)]
pub(super) mod faulty;
#[cfg(test)]
mod tests;
