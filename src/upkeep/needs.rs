//! What versions consist of: those that a ref keeps, and those that hosts run although the ref has thinned them out.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use ulid::Ulid;

use crate::cache::Cache;
use crate::format::host::HostRelease;
use crate::format::keys::Item;
use crate::format::{Keys, Reference, Row};
use crate::hosts::Hosts;
use crate::names::WorkspaceName;
use crate::store::{Store, StoreError};
use crate::version::{self, VersionError};

/// What is needed below a root.
#[derive(Debug, Default)]
pub struct Needs {
    /// The items.
    pub items: BTreeSet<Item>,
}

impl Needs {
    /// Of everything that the ref keeps and that hosts run.
    ///
    /// What is needed is found in the manifests: one that can't be read leaves it unknown, which is an error.
    pub async fn of(
        store: &Store,
        cache: &Cache,
        name: &WorkspaceName,
        reference: &Reference,
        hosts: &Hosts,
    ) -> Result<Self, VersionError> {
        let keys = Keys::new(name, reference.root);
        let mut needs = Self::default();
        needs.items.extend(reference.collection.map(Item::Collection));
        for row in &reference.rows {
            needs.add(store, cache, &keys, reference.root, row).await?;
        }
        let kept: HashSet<Ulid> = reference.rows.iter().map(|row| row.id).collect();
        for row in rows_of_hosts(hosts, name, reference.root).values().filter(|row| !kept.contains(&row.id)) {
            match needs.add(store, cache, &keys, reference.root, row).await {
                // It is gone already: there is nothing left of it to spare.
                Err(VersionError::Store(StoreError::NotFound { .. })) | Ok(()) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(needs)
    }

    async fn add(
        &mut self,
        store: &Store,
        cache: &Cache,
        keys: &Keys,
        root: Ulid,
        row: &Row,
    ) -> Result<(), VersionError> {
        let loaded = version::load(store, cache, keys, root, row).await?;
        self.items.extend([Item::Manifest(row.base), Item::Archive(row.id), Item::Lease(row.id), Item::Lock(row.id)]);
        self.items.extend(row.delta.map(Item::Manifest));
        self.items.extend(loaded.manifest.packs_in_use().map(|pack| Item::Pack(pack.id)));
        Ok(())
    }
}

/// The rows of the releases of a workspace that hosts have or may go back to.
pub fn rows_of_hosts(hosts: &Hosts, name: &WorkspaceName, root: Ulid) -> BTreeMap<Ulid, Row> {
    let managed = hosts.iter().filter_map(|seen| seen.host.workspaces.get(name));
    let releases = managed.flat_map(|managed| {
        [&managed.live, &managed.followed, &managed.next, &managed.previous, &managed.good].into_iter().flatten()
    });
    let of_root = releases.filter(|release: &&HostRelease| release.root == root);
    of_root.map(|release| (release.row.id, release.row.clone())).collect()
}
