//! Recovery: a ref that was lost is made again from what lies below its root.
//!
//! Each manifest is one version: its first line says when, by whom and from which commit. Numbers, ids and messages of
//! versions that hosts run are taken from the hosts' records, so that nothing is started anew; the other numbers follow from
//! the order. Tags, routes and locks were in the ref alone and are lost.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use futures::stream::{self, StreamExt};
use jiff::Timestamp;
use serde::Serialize;
use ulid::Ulid;

use super::inventory::Inventory;
use super::needs::rows_of_hosts;
use super::orphans::roots;
use crate::cache::Cache;
use crate::format::collection::List;
use crate::format::keys::{self, Item};
use crate::format::manifest::Header;
use crate::format::reference::cut_message;
use crate::format::retention::thin;
use crate::format::{FormatError, Keys, Reference, Row};
use crate::hosts::Hosts;
use crate::names::WorkspaceName;
use crate::output::count;
use crate::publish::{Swapped, swap};
use crate::store::{ETag, Store, StoreError};
use crate::version::{self, VersionError};

/// Manifests read at once.
const AT_ONCE: usize = 8;

/// A version that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Its number from now on.
    pub number: u64,
    /// When it was published.
    pub created: Timestamp,
    /// Files, links and empty folders.
    pub files: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// What its author said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Whether a host runs it, so that its number is the one it had.
    pub confirmed: bool,
}

/// What was, or would be, recovered.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The workspace.
    pub workspace: WorkspaceName,
    /// Its root.
    pub root: Ulid,
    /// The versions, oldest first.
    pub versions: Vec<Found>,
    /// Manifests that no version could be made of: key and reason.
    pub left_out: Vec<(String, String)>,
}

/// Why nothing was recovered. The bucket is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The store failed.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// There is nothing to recover.
    #[error("the ref of `{name}` is there, with {}: there is nothing to recover", count(*versions as u64, "version"))]
    There {
        /// The workspace.
        name: WorkspaceName,
        /// How many it keeps.
        versions: usize,
    },
    /// It was deleted on purpose.
    #[error("`{name}` was deleted, and its data with it")]
    Deleted {
        /// The workspace.
        name: WorkspaceName,
    },
    /// There is no data of that name.
    #[error("there is no data of a workspace `{name}` in {location}")]
    NoData {
        /// The workspace.
        name: WorkspaceName,
        /// The bucket.
        location: String,
    },
    /// There is data, and no version can be made of it.
    #[error("none of the {manifests} manifests of `{name}` gives a whole version (the first: {reason})")]
    NothingWhole {
        /// The workspace.
        name: WorkspaceName,
        /// How many there are.
        manifests: usize,
        /// What is wrong with the first.
        reason: String,
    },
    /// Somebody made the workspace anew in between.
    #[error("`{name}` was written by somebody else meanwhile; nothing was recovered")]
    Overtaken {
        /// The workspace.
        name: WorkspaceName,
    },
}

impl From<StoreError> for RecoverError {
    fn from(error: StoreError) -> Self {
        Self::Version(error.into())
    }
}

/// Makes the ref of a workspace again, of the root with the newest version unless one is named.
pub async fn recover(
    store: &Store,
    name: &WorkspaceName,
    root: Option<Ulid>,
    hosts: &Hosts,
    dry_run: bool,
) -> Result<Report, RecoverError> {
    let etag = replaceable(store, name).await?;
    let candidates = match root {
        Some(root) => vec![root],
        None => roots(store, name).await?,
    };
    let mut newest: Option<(Ulid, Ulid, Inventory)> = None;
    for root in candidates {
        let inventory = Inventory::take(store, &Keys::new(name, root)).await?;
        let last = inventory.items.keys().rev().find_map(|item| match item {
            Item::Manifest(id) => Some(*id),
            _ => None,
        });
        if let Some(last) = last
            && newest.as_ref().is_none_or(|(newest, _, _)| last > *newest)
        {
            newest = Some((last, root, inventory));
        }
    }
    let Some((_, root, inventory)) = newest else {
        return Err(RecoverError::NoData { name: name.clone(), location: store.location() });
    };
    let keys = Keys::new(name, root);
    let (headers, mut left_out) = headers(store, &keys, &inventory).await?;
    let doomed = doomed(store, &keys, &inventory).await?;
    let known = rows_of_hosts(hosts, name, root);
    let mut rows = Vec::new();
    for (id, header) in headers {
        let row = row(&known, id, &header);
        match is_whole(store, &keys, root, &row, &inventory, &doomed).await? {
            Ok(()) => rows.push(row),
            Err(reason) => left_out.push((keys.manifest(id), reason)),
        }
    }
    if rows.is_empty() {
        let reason = left_out.first().map(|(_, reason)| reason.clone()).unwrap_or_default();
        return Err(RecoverError::NothingWhole { name: name.clone(), manifests: left_out.len(), reason });
    }
    let confirmed: HashSet<Ulid> = known.keys().copied().collect();
    number(&mut rows, &confirmed);
    let mut reference = Reference::claimed(root);
    reference.current = rows.last().map_or(0, |row| row.number);
    reference.rows = rows;
    // Whoever has been uploading since before the loss must not take this counter for the one it knows.
    reference.collections = u64::try_from(Timestamp::now().as_second()).unwrap_or(1);
    thin(&mut reference, Timestamp::now());
    let versions = reference.rows.iter().map(|row| Found {
        number: row.number,
        created: row.created,
        files: row.files,
        bytes: row.bytes,
        message: row.message.clone(),
        confirmed: confirmed.contains(&row.id),
    });
    let report = Report { workspace: name.clone(), root, versions: versions.collect(), left_out };
    if !dry_run {
        match swap(store, name, etag.as_ref(), reference, None).await? {
            Swapped::Done(_) => {}
            Swapped::Lost(_) => return Err(RecoverError::Overtaken { name: name.clone() }),
        }
    }
    Ok(report)
}

/// The ETag of what stands in the ref's place and may be replaced: nothing, a mere claim, or what can't be read.
async fn replaceable(store: &Store, name: &WorkspaceName) -> Result<Option<ETag>, RecoverError> {
    let object = match store.get(&keys::reference(name)).await {
        Ok(object) => object,
        Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let etag = object.etag.clone();
    let (etag, parsed) = match version::parse_reference(store, keys::reference(name), object).await {
        Ok(read) => (read.etag, Ok(read.reference)),
        Err(VersionError::Object { source, .. }) => (etag, Err(source)),
        Err(error) => return Err(error.into()),
    };
    match parsed {
        Ok(reference) if reference.deleted => Err(RecoverError::Deleted { name: name.clone() }),
        Ok(reference) if reference.is_visible() => {
            Err(RecoverError::There { name: name.clone(), versions: reference.rows.len() })
        }
        Ok(_) | Err(FormatError::Damaged(_) | FormatError::OverLimit { .. }) => Ok(Some(etag)),
        // Whole, only not for us.
        Err(source) => Err(VersionError::Object { what: "ref", key: keys::reference(name), source }.into()),
    }
}

/// The first lines of all manifests, oldest first, and the manifests without a readable one.
async fn headers(
    store: &Store,
    keys: &Keys,
    inventory: &Inventory,
) -> Result<(BTreeMap<Ulid, Header>, Vec<(String, String)>), RecoverError> {
    let ids = inventory.items.keys().filter_map(|item| match item {
        Item::Manifest(id) => Some(*id),
        _ => None,
    });
    let mut reads = Vec::new();
    for id in ids {
        reads.push(async move {
            let header = version::header_at(store, &keys.manifest(id)).await?;
            Ok::<_, StoreError>((id, header))
        });
    }
    let (mut headers, mut left_out) = (BTreeMap::new(), Vec::new());
    let mut reads = stream::iter(reads).buffer_unordered(AT_ONCE);
    while let Some(read) = reads.next().await {
        match read? {
            (id, Ok(header)) => {
                headers.insert(id, header);
            }
            (id, Err(error)) => left_out.push((keys.manifest(id), error.to_string())),
        }
    }
    left_out.sort();
    Ok((headers, left_out))
}

/// What unfinished collections are about to delete: whoever is at it may go on at any time.
async fn doomed(store: &Store, keys: &Keys, inventory: &Inventory) -> Result<BTreeSet<Item>, RecoverError> {
    let mut doomed = BTreeSet::new();
    for item in inventory.items.keys().filter(|item| matches!(item, Item::Collection(_))) {
        match store.get(&keys.key(*item)).await {
            Ok(object) => {
                let list = serde_json::from_slice::<List>(&object.body).map(|list| list.keys).unwrap_or_default();
                doomed.extend(list.iter().filter_map(|key| keys.item(key)));
            }
            Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(doomed)
}

/// The row of a version: a host's copy where there is one, else what the manifest says. Numbers come later.
fn row(known: &BTreeMap<Ulid, Row>, id: Ulid, header: &Header) -> Row {
    let (base, delta) = header.base.map_or((id, None), |base| (base, Some(id)));
    if let Some(row) = known.values().find(|row| row.base == base && row.delta == delta) {
        // What a tag names may have changed since the host read the row.
        return Row { tags: Vec::new(), ..row.clone() };
    }
    Row {
        id: Ulid::generate(),
        number: 0,
        base,
        delta,
        tree: header.tree,
        files: header.files,
        bytes: header.bytes,
        created: header.created,
        runtime: header.plan.as_ref().map(|plan| plan.runtime.to_string()),
        message: header.message.as_deref().map(cut_message).filter(|message| !message.is_empty()),
        author: header.author.as_deref().map(cut_message),
        commit: header.commit.clone(),
        origin: None,
        tags: Vec::new(),
        locked: false,
        locked_until: None,
        other: BTreeMap::new(),
    }
}

/// Whether everything that a version consists of is there, and stays.
async fn is_whole(
    store: &Store,
    keys: &Keys,
    root: Ulid,
    row: &Row,
    inventory: &Inventory,
    doomed: &BTreeSet<Item>,
) -> Result<Result<(), String>, RecoverError> {
    let loaded = match version::load(store, &Cache::at(None), keys, root, row).await {
        Ok(loaded) => loaded,
        Err(VersionError::Store(StoreError::NotFound { key })) => return Ok(Err(format!("`{key}` is missing"))),
        Err(VersionError::Object { source, .. }) => return Ok(Err(source.to_string())),
        Err(error) => return Err(error.into()),
    };
    let manifests = [Some(row.base), row.delta].into_iter().flatten().map(Item::Manifest);
    if let Some(item) = manifests.clone().find(|item| doomed.contains(item)) {
        return Ok(Err(format!("`{}` is being collected", keys.key(item))));
    }
    for info in loaded.manifest.packs_in_use() {
        let item = Item::Pack(info.id);
        let reason = match inventory.items.get(&item) {
            None => "is missing",
            Some(object) if object.size != info.size => "has another size",
            Some(_) if doomed.contains(&item) => "is being collected",
            Some(_) => continue,
        };
        return Ok(Err(format!("`{}` {reason}", keys.key(item))));
    }
    Ok(Ok(()))
}

/// Gives numbers, ascending: those that hosts know stay; the others follow the one before, or lead up to the first.
fn number(rows: &mut Vec<Row>, confirmed: &HashSet<Ulid>) {
    let is_confirmed = |row: &Row| confirmed.contains(&row.id);
    // A host's number that others don't leave room for can't be right for this order.
    let first = rows.iter().position(is_confirmed);
    let lead = first.and_then(|at| rows[at].number.checked_sub(at as u64 + 1)).unwrap_or(0);
    let mut last = lead;
    for row in rows {
        let fits = is_confirmed(row) && row.number > last;
        if !fits {
            row.number = last + 1;
        }
        last = row.number;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header::bare(&[])
    }

    fn rows(numbers: &[u64]) -> (Vec<Row>, HashSet<Ulid>) {
        let rows: Vec<Row> = numbers
            .iter()
            .map(|&number| Row { number, ..row(&BTreeMap::new(), Ulid::generate(), &header()) })
            .collect();
        let confirmed = rows.iter().filter(|row| row.number > 0).map(|row| row.id).collect();
        (rows, confirmed)
    }

    #[test]
    fn numbers_that_hosts_know_stay_and_the_others_follow() {
        for (found, expected) in [
            (vec![0, 0, 0], vec![1, 2, 3]),
            (vec![0, 0, 41, 0, 45, 0], vec![39, 40, 41, 42, 45, 46]),
            (vec![0, 0, 1, 0], vec![1, 2, 3, 4]),
            (vec![7, 3, 0], vec![7, 8, 9]),
        ] {
            let (mut rows, confirmed) = rows(&found);
            number(&mut rows, &confirmed);
            assert_eq!(rows.iter().map(|row| row.number).collect::<Vec<_>>(), expected, "{found:?}");
        }
    }

    #[test]
    fn a_row_that_a_host_has_is_taken_as_it_is() {
        let id = Ulid::generate();
        let mut host = row(&BTreeMap::new(), id, &header());
        (host.number, host.tags) = (7, vec!["live".parse().unwrap()]);
        let known = BTreeMap::from([(host.id, host.clone())]);
        let found = row(&known, id, &header());
        assert_eq!(found, Row { tags: vec![], ..host });
    }
}
