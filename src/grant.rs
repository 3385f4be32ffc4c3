//! Issuing grants: what a container needs to fetch one version without the store's keys.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use ulid::Ulid;

use crate::cache::Cache;
use crate::format::grant::Grant;
use crate::format::{FORMAT, Keys, Row};
use crate::names::WorkspaceName;
use crate::store::{Store, presign};
use crate::version::{self, VersionError};

/// What issues grants.
#[derive(Debug, Clone, Copy)]
pub struct Issuer<'a> {
    /// Where manifests are read.
    pub store: &'a Store,
    /// The same store under the address that containers see; it is never asked anything.
    pub presigner: &'a Store,
    /// What this machine remembers.
    pub cache: &'a Cache,
}

impl Issuer<'_> {
    /// A grant for one version: an address for its manifest, its base, and each pack that it has content in.
    ///
    /// It lasts for `lifetime` from `now`, but at most [`presign::LONGEST`], and not longer than the keys that sign it.
    pub async fn issue(
        &self,
        name: &WorkspaceName,
        root: Ulid,
        row: &Row,
        lifetime: Duration,
        now: Timestamp,
    ) -> Result<Grant, VersionError> {
        let keys = Keys::new(name, root);
        let manifest = version::load(self.store, self.cache, &keys, root, row).await?.manifest;
        let lifetime = lifetime.min(presign::LONGEST);
        let length = SignedDuration::try_from(lifetime).unwrap_or_default();
        let mut expires = now.checked_add(length).unwrap_or(Timestamp::MAX);
        let manifests = [Some(row.base), row.delta].into_iter().flatten().map(|id| keys.manifest(id));
        let mut addresses = BTreeMap::new();
        for key in manifests.chain(manifest.packs_in_use().map(|pack| keys.pack(pack.id))) {
            let address = self.presigner.presign(&key, lifetime).await?;
            // Temporary keys may be replaced between two of them.
            if let Some(end) = self.presigner.credentials_expire().await? {
                expires = expires.min(end);
            }
            addresses.insert(key, address);
        }
        let plan = manifest.header.plan;
        Ok(Grant { format: FORMAT, name: name.clone(), root, row: row.clone(), plan, expires, addresses })
    }
}
