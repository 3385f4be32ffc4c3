//! Roots that no ref names: what remains when a ref is lost, or a deletion was cut off.
//!
//! They are removed only when somebody asks for it: they are all that a lost ref can be recovered from.

use jiff::Timestamp;
use serde::Serialize;
use ulid::Ulid;

use super::collect::Amount;
use super::needs::rows_of_hosts;
use crate::format::Keys;
use crate::format::keys::{DATA, Item};
use crate::hosts::Hosts;
use crate::names::WorkspaceName;
use crate::store::{Deletion, Store, StoreError};
use crate::version::{self, VersionError};

/// A root that no ref names.
#[derive(Debug, Clone, Serialize)]
pub struct Orphan {
    /// The workspace that it belonged to.
    pub workspace: WorkspaceName,
    /// The root.
    pub root: Ulid,
    /// What lies below it.
    pub found: Amount,
    /// When the last of it was written, as far as the server says.
    pub newest: Option<Timestamp>,
    /// Whether a host still runs a version of it.
    pub in_use: bool,
    /// Whether a version of it is locked.
    pub locked: bool,
}

/// Looks for them, below one name or all. What a ref that can't be read may name is not among them.
pub async fn find(store: &Store, name: Option<&WorkspaceName>, hosts: &Hosts) -> Result<Vec<Orphan>, VersionError> {
    let names = match name {
        Some(name) => vec![name.clone()],
        None => names(store).await?,
    };
    let mut orphans = Vec::new();
    for name in names {
        for root in roots(store, &name).await? {
            if is_named(store, &name, root).await? {
                continue;
            }
            let keys = Keys::new(&name, root);
            let objects = store.list(keys.prefix()).await?;
            if objects.is_empty() {
                continue;
            }
            let mut found = Amount::default();
            for object in &objects {
                found.add(object.size);
            }
            orphans.push(Orphan {
                root,
                found,
                locked: objects.iter().any(|object| matches!(keys.item(&object.key), Some(Item::Lock(_)))),
                newest: objects.iter().filter_map(|object| object.modified).max(),
                in_use: !rows_of_hosts(hosts, &name, root).is_empty(),
                workspace: name.clone(),
            });
        }
    }
    Ok(orphans)
}

/// Removes one, unless a ref has come to name it.
pub async fn remove(store: &Store, orphan: &Orphan) -> Result<Deletion, VersionError> {
    if is_named(store, &orphan.workspace, orphan.root).await? {
        return Ok(Deletion::default());
    }
    let objects = store.list(Keys::new(&orphan.workspace, orphan.root).prefix()).await?;
    let keys: Vec<String> = objects.into_iter().map(|object| object.key).collect();
    Ok(store.delete_each(&keys).await?)
}

/// Names below which there is data.
async fn names(store: &Store) -> Result<Vec<WorkspaceName>, StoreError> {
    let folders = store.folders(DATA).await?;
    let name = |folder: &String| {
        let text = folder.strip_suffix('/')?;
        text.parse::<WorkspaceName>().ok().filter(|name| name.as_str() == text)
    };
    Ok(folders.iter().filter_map(name).collect())
}

/// The roots below a name.
pub async fn roots(store: &Store, name: &WorkspaceName) -> Result<Vec<Ulid>, StoreError> {
    let folders = store.folders(&format!("{DATA}{name}/")).await?;
    let root = |folder: &String| {
        let text = folder.strip_suffix('/')?;
        text.parse::<Ulid>().ok().filter(|root| root.to_string() == text)
    };
    Ok(folders.iter().filter_map(root).collect())
}

async fn is_named(store: &Store, name: &WorkspaceName, root: Ulid) -> Result<bool, VersionError> {
    match version::read_reference(store, name).await {
        Ok(read) => Ok(read.is_some_and(|read| read.reference.root == root)),
        // It may name anything.
        Err(VersionError::Object { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}
