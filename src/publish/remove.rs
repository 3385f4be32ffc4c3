//! Deleting a workspace: first the ref says so, then the data goes, then the ref.

use ulid::Ulid;

use crate::format::{Keys, Reference, keys};
use crate::names::WorkspaceName;
use crate::store::{Condition, ETag, Store, StoreError};
use crate::version::{self, Read, VersionError};

use super::PublishError;
use super::swap::{Swapped, swap};

/// How often somebody else may change the ref in between.
const ATTEMPTS: u32 = 32;

/// What was deleted.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Removed {
    /// The workspace.
    pub name: WorkspaceName,
    /// How many versions it had.
    pub versions: usize,
    /// How many objects went.
    pub objects: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that are only hidden: the bucket keeps versions, and they can't be removed with these keys.
    pub hidden: u64,
    /// Objects that the server keeps although they are deleted: locked, or not allowed.
    pub refused: Vec<String>,
}

/// Deletes a workspace, all its versions and its dependency snapshots. Killed anywhere, doing it again finishes it.
///
/// `conditional_delete`: whether the store honours `If-Match` on DELETE. Elsewhere a small ref that says `deleted` stays,
/// hidden, and the next upload of that name takes its place.
pub async fn remove(store: &Store, name: &WorkspaceName, conditional_delete: bool) -> Result<Removed, PublishError> {
    let removed = remove_one(store, name, conditional_delete, None).await?;
    with_dependencies(store, name, conditional_delete, removed).await
}

/// Finishes a deletion that was cut off, or removes a claim that nothing came of. `root` is what was seen: should the name
/// have been taken up again since, or have got a version, nothing is removed.
pub async fn remove_remains(
    store: &Store,
    name: &WorkspaceName,
    root: Ulid,
    conditional_delete: bool,
) -> Result<Removed, PublishError> {
    let removed = remove_one(store, name, conditional_delete, Some(root)).await?;
    match version::read_reference(store, name).await? {
        Some(read) if read.reference.root != root || read.reference.is_visible() => Ok(removed),
        _ => with_dependencies(store, name, conditional_delete, removed).await,
    }
}

async fn with_dependencies(
    store: &Store,
    name: &WorkspaceName,
    conditional_delete: bool,
    mut removed: Removed,
) -> Result<Removed, PublishError> {
    let dependencies = store.nested(keys::dependencies(name));
    if version::read_reference(&dependencies, name).await?.is_some() {
        let snapshots = remove_one(&dependencies, name, conditional_delete, None).await?;
        removed.objects += snapshots.objects;
        removed.bytes += snapshots.bytes;
        removed.hidden += snapshots.hidden;
        removed.refused.extend(snapshots.refused);
    }
    Ok(removed)
}

/// `remains`: only if this is still the root, and has no version.
async fn remove_one(
    store: &Store,
    name: &WorkspaceName,
    conditional_delete: bool,
    remains: Option<Ulid>,
) -> Result<Removed, PublishError> {
    let is_meant = |reference: &Reference| remains.is_none_or(|root| reference.root == root && !reference.is_visible());
    let nothing = || Removed { name: name.clone(), versions: 0, objects: 0, bytes: 0, hidden: 0, refused: Vec::new() };
    // One that a killed deletion left behind is finished without a word; a claimed name is removed.
    let mut found = match version::read_reference(store, name).await? {
        Some(found) if is_meant(&found.reference) => found,
        None if remains.is_none() => return Err(version::missing(store, name).await.into()),
        _ => return Ok(nothing()),
    };
    let versions = found.reference.rows.len();
    let root = found.reference.root;
    let mut attempts = 0;
    if !found.reference.deleted {
        // Whoever may write the ref and not delete would hide a workspace, and free nothing.
        may_delete(store, &Keys::new(name, root)).await?;
    }
    while !found.reference.deleted {
        if let Some(row) = found.reference.rows.iter().find(|row| row.is_locked(super::now())) {
            return Err(PublishError::Locked { name: name.clone(), number: row.number, until: row.locked_until });
        }
        let tombstone = Reference::tombstone(root, found.reference.nonces.clone());
        match swap(store, name, Some(&found.etag), tombstone, None).await? {
            // Or somebody else deleted it, or made it anew since: what is left below the old root may go.
            Swapped::Done(_) | Swapped::Lost(None) => break,
            Swapped::Lost(Some(read)) if read.reference.root != root => break,
            Swapped::Lost(Some(read)) if !is_meant(&read.reference) => return Ok(nothing()),
            Swapped::Lost(Some(read)) => found = *read,
        }
        attempts += 1;
        if attempts == ATTEMPTS {
            return Err(PublishError::Contended { name: name.clone(), attempts });
        }
    }
    // Uploads that began before lose their swap from now on, but may still be sending: what they send after this listing
    // they remove themselves when they find the ref deleted.
    let objects = store.list(Keys::new(name, root).prefix()).await?;
    let object_keys: Vec<String> = objects.iter().map(|object| object.key.clone()).collect();
    let deletion = store.delete_each(&object_keys).await?;
    if conditional_delete
        && let Some(read) = version::read_reference(store, name).await?
        && read.reference.deleted
        && read.reference.root == root
    {
        remove_reference(store, name, &read.etag).await?;
    }
    Ok(Removed {
        name: name.clone(),
        versions,
        objects: objects.len(),
        bytes: objects.iter().map(|object| object.size).sum(),
        hidden: deletion.hidden,
        refused: deletion.refused.into_iter().map(|(key, _)| key).collect(),
    })
}

/// Fails where these keys may not delete the data of a workspace. Asked before its ref is changed.
pub async fn may_delete(store: &Store, keys: &Keys) -> Result<(), StoreError> {
    store.may_delete(&keys.collection(Ulid::generate())).await
}

async fn remove_reference(store: &Store, name: &WorkspaceName, etag: &ETag) -> Result<(), VersionError> {
    match store.delete(&keys::reference(name), Condition::Matches(etag.clone())).await {
        // Somebody made the workspace anew: that one stays.
        Ok(()) | Err(StoreError::Precondition { .. } | StoreError::NotFound { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Takes back the claim on a name when nothing came of it. Only a courtesy: a claimed name is hidden.
pub async fn release_claim(store: &Store, name: &WorkspaceName, claimed: &Read) {
    if claimed.reference.rows.is_empty()
        && let Err(error) = remove_reference(store, name, &claimed.etag).await
    {
        tracing::debug!(%error, "the claim stays");
    }
}
