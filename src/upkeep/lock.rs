//! Locks: a version that nobody can delete for a while, whoever has the keys.
//!
//! The ref says so first, so that nothing lets the version go meanwhile; then every object of it is locked by version id
//! (Object Lock); the record of it comes last, and is locked itself. Killed anywhere, doing it again finishes it. What
//! several locks need stays as long as one of them is in force.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde::Serialize;

use crate::cache::Cache;
use crate::format::keys::Item;
use crate::format::lock::Lock;
use crate::format::{FORMAT, Keys, Reference, Row};
use crate::names::{Selector, WorkspaceName};
use crate::publish::{self, Changed, DecisionError, until_text};
use crate::store::versions::{Hold, LockMode};
use crate::store::{Condition, Store, StoreError};
use crate::version::{self, VersionError};

/// Objects locked at once.
const AT_ONCE: usize = 8;

/// How a version is locked.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Until when, and who may take it back before.
    pub retention: Option<(LockMode, Timestamp)>,
    /// Until somebody takes it back.
    pub legal_hold: bool,
}

impl Terms {
    fn hold(self) -> Hold {
        Hold { retention: self.retention, legal: self.legal_hold }
    }
}

/// What was locked, or let go.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The workspace.
    pub workspace: WorkspaceName,
    /// The version's number.
    pub version: u64,
    /// Objects that it consists of, with the record of the lock.
    pub objects: usize,
    /// Of them, those that other locks keep on.
    pub kept: usize,
    /// Until when it is locked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Whether it is locked until somebody takes that back.
    pub legal_hold: bool,
}

/// Why nothing was locked, or not everything.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The version isn't there, or the store failed.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// The ref can't be written.
    #[error(transparent)]
    Decision(#[from] DecisionError),
    /// Nothing can be locked there.
    #[error("the bucket `{bucket}` has no Object Lock, so nothing in it can be locked")]
    NoObjectLock {
        /// The bucket.
        bucket: String,
    },
    /// A bucket was to be made in which something can be locked.
    #[error("what answers at {location} knows no Object Lock, so no bucket was made")]
    NoObjectLockHere {
        /// The store.
        location: String,
    },
    /// A lock may become longer, and not shorter.
    #[error("`{selector}` is locked already, {}; a lock can be made longer and not shorter", until_text(*until))]
    Shorter {
        /// The version.
        selector: Selector,
        /// Until when.
        until: Option<Timestamp>,
    },
    /// It isn't locked.
    #[error("`{selector}` is not locked")]
    NotLocked {
        /// The version.
        selector: Selector,
    },
    /// Nobody can take it back.
    #[error("`{selector}` is locked in compliance mode until {until:.0}: nobody can take that back")]
    Compliance {
        /// The version.
        selector: Selector,
        /// Until when.
        until: Timestamp,
    },
    /// An object of the version has no version of its own.
    #[error("`{key}` has no version that could be locked")]
    NoVersion {
        /// The object.
        key: String,
    },
}

impl From<StoreError> for LockError {
    fn from(error: StoreError) -> Self {
        Self::Version(error.into())
    }
}

/// Locks a version, or makes its lock longer.
pub async fn lock(store: &Store, selector: &Selector, terms: Terms, now: Timestamp) -> Result<Report, LockError> {
    require_object_lock(store).await?;
    let (reference, row) = find(store, selector).await?;
    let keys = Keys::new(&selector.name, reference.root);
    let locks = records(store, &keys).await?;
    let before = locks.get(&row.id.to_string()).filter(|lock| lock.is_in_force(now));
    if let Some(before) = before
        && !is_longer(before, terms)
    {
        return Err(LockError::Shorter { selector: selector.clone(), until: before.until });
    }
    let mut hold = terms.hold();
    hold.legal |= before.is_some_and(|before| before.legal_hold);
    if hold.retention.is_none() {
        hold.retention = before.and_then(retention_of);
    }
    let until = hold.retention.map(|(_, until)| until);
    let locked_until = until.filter(|_| !hold.legal);
    set_row(store, &selector.name, &row, true, locked_until).await?;
    let locked = lock_objects(store, &keys, &reference, &row, hold).await;
    let objects = match locked {
        Ok(objects) => objects,
        Err(error) => {
            // The ref says again what it said: what is locked by now is locked, and `unlock` finds it by the next try.
            set_row(store, &selector.name, &row, row.locked, row.locked_until).await?;
            return Err(error);
        }
    };
    let record = Lock {
        format: FORMAT,
        row: Row { locked: true, locked_until, ..row.clone() },
        created: now,
        until,
        compliance: matches!(hold.retention, Some((LockMode::Compliance, _))),
        legal_hold: hold.legal,
        objects,
    };
    let key = keys.lock(row.id);
    store.put(&key, Bytes::from(record.to_bytes()), Condition::None).await?;
    let versions = store.versions(&key).await?;
    // Older ones of the same lock were locked for a shorter time.
    let newest = versions.iter().find(|version| version.key == key && version.is_latest && !version.is_marker);
    let Some(newest) = newest else { return Err(LockError::NoVersion { key }) };
    hold_all(store, &[(key, newest.id.clone())], |before| longer(before, hold)).await?;
    Ok(Report {
        workspace: selector.name.clone(),
        version: row.number,
        objects: record.objects.len() + 1,
        kept: 0,
        until,
        legal_hold: hold.legal,
    })
}

/// Locks what a version consists of. First what other locks keep already: whatever the server refuses is refused before anything
/// is locked that nobody could take back.
async fn lock_objects(
    store: &Store,
    keys: &Keys,
    reference: &Reference,
    row: &Row,
    hold: Hold,
) -> Result<Vec<(String, String)>, LockError> {
    // What a collection deletes from now on, it had listed before: whatever of this version is gone by now is damage.
    let manifest = version::load(store, &Cache::at(None), keys, reference.root, row).await?.manifest;
    let mut items = vec![Item::Manifest(row.base)];
    items.extend(row.delta.map(Item::Manifest));
    items.extend(manifest.packs_in_use().map(|pack| Item::Pack(pack.id)));
    let versions = current_versions(store, keys).await?;
    let (mut shared, mut own) = (Vec::new(), Vec::new());
    for item in items {
        let key = keys.key(item);
        let Some(version) = versions.get(&key) else { return Err(LockError::NoVersion { key }) };
        let before = store.hold(&key, version).await?;
        let group = if before == Hold::default() { &mut own } else { &mut shared };
        group.push((key, version.clone()));
    }
    for object in &shared {
        hold_all(store, std::slice::from_ref(object), |before| longer(before, hold)).await?;
    }
    hold_all(store, &own, |before| longer(before, hold)).await?;
    shared.extend(own);
    Ok(shared)
}

/// Takes a lock back. What another lock needs stays locked for as long as that says.
pub async fn unlock(store: &Store, selector: &Selector, now: Timestamp) -> Result<Report, LockError> {
    require_object_lock(store).await?;
    let (reference, row) = find(store, selector).await?;
    let keys = Keys::new(&selector.name, reference.root);
    let mut locks = records(store, &keys).await?;
    let Some(ours) = locks.remove(&row.id.to_string()) else {
        // A lock that was cut off before its record was written: the ref says so, and some objects may be locked.
        if !row.locked {
            return Err(LockError::NotLocked { selector: selector.clone() });
        }
        let versions = current_versions(store, &keys).await?;
        let manifest = version::load(store, &Cache::at(None), &keys, reference.root, &row).await?.manifest;
        let packs = manifest.packs_in_use().map(|pack| keys.pack(pack.id));
        let manifests = [Some(row.base), row.delta].into_iter().flatten().map(|id| keys.manifest(id));
        let objects = packs.chain(manifests).filter_map(|key| Some((key.clone(), versions.get(&key)?.clone())));
        return release(store, selector, &row, objects.collect(), &locks, now).await;
    };
    if let Some((LockMode::Compliance, until)) = retention_of(&ours)
        && until > now
    {
        return Err(LockError::Compliance { selector: selector.clone(), until });
    }
    let mut report = release(store, selector, &row, ours.objects, &locks, now).await?;
    let key = keys.lock(row.id);
    let records: Vec<(String, String)> = store
        .versions(&key)
        .await?
        .into_iter()
        .filter(|version| version.key == key && !version.is_marker)
        .map(|version| (version.key, version.id))
        .collect();
    pass(hold_all(store, &records, |_| Hold::default()).await?).await;
    store.delete(&key, Condition::None).await?;
    report.objects += 1;
    Ok(report)
}

async fn release(
    store: &Store,
    selector: &Selector,
    row: &Row,
    objects: Vec<(String, String)>,
    others: &BTreeMap<String, Lock>,
    now: Timestamp,
) -> Result<Report, LockError> {
    let mut needed: HashMap<(String, String), Hold> = HashMap::new();
    for other in others.values().filter(|lock| lock.is_in_force(now) && lock.row.id != row.id) {
        for object in &other.objects {
            let hold = needed.entry(object.clone()).or_default();
            *hold = longer(*hold, Hold { retention: retention_of(other), legal: other.legal_hold });
        }
    }
    let (kept, free): (Vec<_>, Vec<_>) = objects.into_iter().partition(|object| needed.contains_key(object));
    let mut over = hold_all(store, &free, |_| Hold::default()).await?;
    for object in &kept {
        let hold = needed.get(object).copied().unwrap_or_default();
        over = over.max(hold_all(store, std::slice::from_ref(object), |_| hold).await?);
    }
    pass(over).await;
    set_row(store, &selector.name, row, false, None).await?;
    Ok(Report {
        workspace: selector.name.clone(),
        version: row.number,
        objects: free.len() + kept.len(),
        kept: kept.len(),
        until: None,
        legal_hold: false,
    })
}

async fn require_object_lock(store: &Store) -> Result<(), LockError> {
    if store.has_object_lock().await? {
        Ok(())
    } else {
        Err(LockError::NoObjectLock { bucket: store.bucket().to_owned() })
    }
}

async fn find(store: &Store, selector: &Selector) -> Result<(Reference, Row), VersionError> {
    let reference = version::existing_reference(store, &selector.name).await?.reference;
    let row = version::select(&reference, selector)?.clone();
    Ok((reference, row))
}

/// The locks below a root, by row. One that a plain DELETE has hidden counts like any other.
async fn records(store: &Store, keys: &Keys) -> Result<BTreeMap<String, Lock>, LockError> {
    let store = store.past_deletions();
    let mut locks = BTreeMap::new();
    let mut found: Vec<String> =
        store.versions(&keys.locks()).await?.into_iter().filter(|version| !version.is_marker).map(|v| v.key).collect();
    found.dedup();
    for key in found {
        if !matches!(keys.item(&key), Some(Item::Lock(_))) {
            continue;
        }
        let object = match store.get(&key).await {
            Err(StoreError::NotFound { .. }) => continue,
            other => other?,
        };
        let lock = Lock::parse(&object.body).map_err(|source| VersionError::Object { what: "lock", key, source })?;
        locks.insert(lock.row.id.to_string(), lock);
    }
    Ok(locks)
}

/// The version of each object below a root that a plain read finds; below a delete marker, the newest.
async fn current_versions(store: &Store, keys: &Keys) -> Result<HashMap<String, String>, StoreError> {
    let mut versions: HashMap<String, (bool, Option<Timestamp>, String)> = HashMap::new();
    for version in store.versions(keys.prefix()).await?.into_iter().filter(|version| !version.is_marker) {
        let rank = (version.is_latest, version.modified, version.id);
        let known = versions.entry(version.key).or_insert_with(|| rank.clone());
        if (rank.0, rank.1) > (known.0, known.1) {
            *known = rank;
        }
    }
    Ok(versions.into_iter().map(|(key, (_, _, id))| (key, id)).collect())
}

async fn hold_all(
    store: &Store,
    objects: &[(String, String)],
    wanted: impl Fn(Hold) -> Hold,
) -> Result<Option<Timestamp>, StoreError> {
    let wanted = &wanted;
    let mut holds = Vec::with_capacity(objects.len());
    for (key, version) in objects {
        holds.push(async move {
            let before = store.hold(key, version).await?;
            store.set_hold(key, version, before, wanted(before)).await
        });
    }
    let over: Vec<Option<Timestamp>> = stream::iter(holds).buffer_unordered(AT_ONCE).try_collect().await?;
    Ok(over.into_iter().flatten().max())
}

/// Waits for what could only be made shorter.
async fn pass(over: Option<Timestamp>) {
    if let Some(over) = over {
        let left = over.duration_since(Timestamp::now()) + jiff::SignedDuration::from_millis(500);
        tokio::time::sleep(std::time::Duration::try_from(left).unwrap_or_default()).await;
    }
}

/// Changes what the ref says of a row: whether it is locked, and until when.
async fn set_row(
    store: &Store,
    name: &WorkspaceName,
    row: &Row,
    locked: bool,
    until: Option<Timestamp>,
) -> Result<(), LockError> {
    publish::decide(store, name, |reference| {
        let Some(found) = reference.rows.iter_mut().find(|found| found.id == row.id) else {
            let version = crate::names::Version::Number(row.number);
            let selector = Selector { name: name.clone(), version };
            return Err(VersionError::NoVersion { selector, reason: "it was let go meanwhile".to_owned() }.into());
        };
        let wanted = (locked, until);
        if (found.locked, found.locked_until) == wanted {
            return Ok(Changed::No);
        }
        (found.locked, found.locked_until) = wanted;
        Ok(Changed::Yes)
    })
    .await?;
    Ok(())
}

fn retention_of(lock: &Lock) -> Option<(LockMode, Timestamp)> {
    let mode = if lock.compliance { LockMode::Compliance } else { LockMode::Governance };
    lock.until.map(|until| (mode, until))
}

/// Whichever keeps longer, part by part.
fn longer(one: Hold, other: Hold) -> Hold {
    let retention = match (one.retention, other.retention) {
        (Some((mode, until)), Some((other_mode, other_until))) => Some((mode.max(other_mode), until.max(other_until))),
        (one, other) => one.or(other),
    };
    Hold { retention, legal: one.legal || other.legal }
}

/// Whether new terms take nothing away from a lock.
fn is_longer(before: &Lock, terms: Terms) -> bool {
    match (retention_of(before), terms.retention) {
        (Some((mode, until)), Some((new_mode, new_until))) => new_mode >= mode && new_until >= until,
        (Some(_), None) => terms.legal_hold,
        (None, _) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_holds_the_longer_counts() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let governance = Hold { retention: Some((LockMode::Governance, at(20))), legal: false };
        let compliance = Hold { retention: Some((LockMode::Compliance, at(10))), legal: false };
        let both = Hold { retention: Some((LockMode::Compliance, at(20))), legal: false };
        assert_eq!(longer(governance, compliance), both);
        let legal = Hold { retention: None, legal: true };
        assert_eq!(longer(legal, governance), Hold { legal: true, ..governance });
        assert_eq!(longer(Hold::default(), Hold::default()), Hold::default());
    }
}
