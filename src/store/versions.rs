//! Buckets that keep versions, and lock them: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html>.
//!
//! In such a bucket a DELETE only hides an object behind a delete marker. To free its space each version has to be deleted by
//! its id, and a locked one can't be.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{
    Delete, ObjectIdentifier, ObjectLockEnabled, ObjectLockLegalHold, ObjectLockLegalHoldStatus, ObjectLockRetention,
    ObjectLockRetentionMode,
};
use jiff::Timestamp;

use super::{DELETE_BATCH, Deletion, MAX_PAGES, Store, StoreError, configuration, timestamp};

/// Who may take a retention back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockMode {
    /// Whoever has the right to (`s3:BypassGovernanceRetention`).
    Governance,
    /// Nobody, before its time is over; not even the account's owner.
    Compliance,
}

/// A version of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectVersion {
    /// The object.
    pub key: String,
    /// The version's id.
    pub id: String,
    /// Whether it is what a read without a version finds.
    pub is_latest: bool,
    /// Whether it only says that the object was deleted.
    pub is_marker: bool,
    /// When it was written.
    pub modified: Option<Timestamp>,
}

/// What keeps a version from being deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hold {
    /// Until then, and who may take it back.
    pub retention: Option<(LockMode, Timestamp)>,
    /// Until somebody takes it back.
    pub legal: bool,
}

impl Store {
    /// The same bucket, in which reads also find what a plain DELETE has hidden.
    #[must_use]
    pub fn past_deletions(&self) -> Self {
        Self { past_deletions: true, ..self.clone() }
    }

    /// The newest version of an object that a delete marker hides. A server that keeps none, or doesn't tell, has none.
    pub(super) async fn deleted_version(&self, key: &str) -> Option<String> {
        let versions = self.versions(key).await.ok()?;
        let of_key = versions.into_iter().filter(|version| version.key == key && !version.is_marker);
        of_key.max_by_key(|version| version.modified).map(|version| version.id)
    }

    /// Whether versions can be locked in this bucket. Servers that don't know of locks say so in many ways.
    pub async fn has_object_lock(&self) -> Result<bool, StoreError> {
        let request = self.request("GetObjectLockConfiguration", None);
        let sent = self.shared.client.get_object_lock_configuration().bucket(&self.shared.bucket).send().await;
        match sent {
            Ok(output) => Ok(output
                .object_lock_configuration()
                .and_then(aws_sdk_s3::types::ObjectLockConfiguration::object_lock_enabled)
                == Some(&ObjectLockEnabled::Enabled)),
            Err(error) => match request.explain(&error) {
                error if error.is_retryable() => Err(error),
                error @ (StoreError::NoBucket { .. } | StoreError::AccessDenied { .. }) => Err(error),
                _ => Ok(false),
            },
        }
    }

    /// All versions of the objects whose keys begin with `prefix`, delete markers too.
    pub async fn versions(&self, prefix: &str) -> Result<Vec<ObjectVersion>, StoreError> {
        let request = self.request("ListObjectVersions", Some(prefix));
        let (mut found, mut key, mut id) = (Vec::new(), None, None);
        for _ in 0..MAX_PAGES {
            let output = self
                .shared
                .client
                .list_object_versions()
                .bucket(&self.shared.bucket)
                .prefix(self.at(prefix))
                .set_key_marker(key)
                .set_version_id_marker(id)
                .send()
                .await
                .map_err(|error| request.explain(&error))?;
            found.extend(output.versions().iter().filter_map(|version| {
                Some(ObjectVersion {
                    key: self.called(version.key()?),
                    id: version.version_id()?.to_owned(),
                    is_latest: version.is_latest() == Some(true),
                    is_marker: false,
                    modified: version.last_modified().and_then(timestamp),
                })
            }));
            found.extend(output.delete_markers().iter().filter_map(|marker| {
                Some(ObjectVersion {
                    key: self.called(marker.key()?),
                    id: marker.version_id()?.to_owned(),
                    is_latest: marker.is_latest() == Some(true),
                    is_marker: true,
                    modified: marker.last_modified().and_then(timestamp),
                })
            }));
            if output.is_truncated() != Some(true) {
                return Ok(found);
            }
            key = output.next_key_marker().map(str::to_owned);
            id = output.next_version_id_marker().map(str::to_owned);
        }
        Err(self.endless())
    }

    /// What keeps a version from being deleted.
    pub async fn hold(&self, key: &str, version: &str) -> Result<Hold, StoreError> {
        let client = &self.shared.client;
        let retention = {
            let request = self.request("GetObjectRetention", Some(key));
            let asked = client.get_object_retention().bucket(&self.shared.bucket).key(self.at(key)).version_id(version);
            match asked.send().await.map_err(|error| (is_unlocked(&error), request.explain(&error))) {
                Ok(output) => output.retention().and_then(|retention| {
                    let mode = match retention.mode()? {
                        ObjectLockRetentionMode::Compliance => LockMode::Compliance,
                        _ => LockMode::Governance,
                    };
                    Some((mode, timestamp(retention.retain_until_date()?)?))
                }),
                Err((true, _)) => None,
                Err((false, error)) => return Err(error),
            }
        };
        let request = self.request("GetObjectLegalHold", Some(key));
        let asked = client.get_object_legal_hold().bucket(&self.shared.bucket).key(self.at(key)).version_id(version);
        let legal = match asked.send().await.map_err(|error| (is_unlocked(&error), request.explain(&error))) {
            Ok(output) => {
                output.legal_hold().and_then(ObjectLockLegalHold::status) == Some(&ObjectLockLegalHoldStatus::On)
            }
            Err((true, _)) => false,
            Err((false, error)) => return Err(error),
        };
        Ok(Hold { retention, legal })
    }

    /// Keeps a version from being deleted, as `hold` says from now on. Taking back, or shortening, what somebody else may not
    /// needs the right to bypass governance, and is never possible under compliance.
    ///
    /// Some servers take no retention back and only make it shorter: then it is over at the time that this gives.
    pub async fn set_hold(
        &self,
        key: &str,
        version: &str,
        before: Hold,
        hold: Hold,
    ) -> Result<Option<Timestamp>, StoreError> {
        let client = &self.shared.client;
        let mut over = None;
        if hold.retention != before.retention {
            // Another mode, too, is more than a longer time.
            let governed = matches!(before.retention, Some((LockMode::Governance, _)));
            let other_mode = hold.retention.map(|(mode, _)| mode) != before.retention.map(|(mode, _)| mode);
            let loosens = governed && (other_mode || hold.retention < before.retention);
            match self.retain(key, version, hold.retention, loosens).await {
                Err(StoreError::Server { status: 400, .. }) if hold.retention.is_none() => {
                    let soon = Timestamp::from_second(Timestamp::now().as_second() + 2).unwrap_or(Timestamp::MAX);
                    self.retain(key, version, Some((LockMode::Governance, soon)), true).await?;
                    over = Some(soon);
                }
                other => other?,
            }
        }
        if hold.legal != before.legal {
            let request = self.request("PutObjectLegalHold", Some(key));
            let status = if hold.legal { ObjectLockLegalHoldStatus::On } else { ObjectLockLegalHoldStatus::Off };
            let legal = ObjectLockLegalHold::builder().status(status).build();
            let sent = client
                .put_object_legal_hold()
                .bucket(&self.shared.bucket)
                .key(self.at(key))
                .version_id(version)
                .legal_hold(legal);
            sent.send().await.map_err(|error| request.explain(&error))?;
        }
        Ok(over)
    }

    async fn retain(
        &self,
        key: &str,
        version: &str,
        retention: Option<(LockMode, Timestamp)>,
        loosens: bool,
    ) -> Result<(), StoreError> {
        let request = self.request("PutObjectRetention", Some(key));
        let mut wanted = ObjectLockRetention::builder();
        if let Some((mode, until)) = retention {
            let mode = match mode {
                LockMode::Governance => ObjectLockRetentionMode::Governance,
                LockMode::Compliance => ObjectLockRetentionMode::Compliance,
            };
            wanted = wanted.mode(mode).retain_until_date(DateTime::from_secs(until.as_second()));
        }
        let operation = self.shared.client.put_object_retention().bucket(&self.shared.bucket);
        let operation = operation.key(self.at(key)).version_id(version).retention(wanted.build());
        let sent = operation.set_bypass_governance_retention(loosens.then_some(true)).send().await;
        sent.map(drop).map_err(|error| request.explain(&error))
    }

    /// Deletes one batch: keys, or versions of them. Gives the keys that are only hidden now, and those that stay.
    pub(super) async fn delete_batch(
        &self,
        batch: &[(String, Option<String>)],
    ) -> Result<(Vec<String>, Vec<(String, String)>), StoreError> {
        let request = self.request("DeleteObjects", None);
        // Not quiet: a marker is told only so.
        let mut delete = Delete::builder().quiet(false);
        for (key, version) in batch {
            let object = ObjectIdentifier::builder().key(self.at(key)).set_version_id(version.clone()).build();
            delete = delete.objects(object.map_err(|error| configuration(&error))?);
        }
        let output = self
            .shared
            .client
            .delete_objects()
            .bucket(&self.shared.bucket)
            .delete(delete.build().map_err(|error| configuration(&error))?)
            .send()
            .await
            .map_err(|error| request.explain(&error))?;
        let marked = output.deleted().iter().filter(|deleted| deleted.delete_marker() == Some(true));
        let gone = |code: Option<&str>| matches!(code, Some("NoSuchKey" | "NoSuchVersion"));
        let refused = output.errors().iter().filter(|error| !gone(error.code())).map(|error| {
            (self.called(error.key().unwrap_or_default()), error.code().unwrap_or("no reason given").to_owned())
        });
        Ok((marked.filter_map(|deleted| deleted.key().map(|key| self.called(key))).collect(), refused.collect()))
    }

    /// Deletes every version of objects that are hidden by a delete marker. What is locked becomes visible again.
    ///
    /// A version that is the latest and no marker is somebody's new object under the same key, and stays.
    pub(super) async fn purge(&self, keys: &[String]) -> Deletion {
        let wanted: BTreeSet<&str> = keys.iter().map(String::as_str).collect();
        let hidden = Deletion { refused: Vec::new(), hidden: keys.len() as u64 };
        let versions = match self.versions(common_prefix(keys)).await {
            Ok(versions) => versions,
            Err(error) => {
                tracing::debug!(%error, "versions can't be listed, so nothing is freed");
                return hidden;
            }
        };
        let mut markers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut contents = Vec::new();
        for version in versions.into_iter().filter(|version| wanted.contains(version.key.as_str())) {
            if version.is_marker {
                markers.entry(version.key).or_default().push(version.id);
            } else if !version.is_latest {
                contents.push((version.key, Some(version.id)));
            }
        }
        let mut kept = BTreeMap::new();
        for batch in contents.chunks(DELETE_BATCH) {
            match self.delete_batch(batch).await {
                Ok((_, refused)) => kept.extend(refused),
                Err(error) => {
                    tracing::debug!(%error, "versions can't be deleted, so nothing is freed");
                    return hidden;
                }
            }
        }
        // Only now: as long as a version was left, its marker hid it. Where one stays because it is locked, it isn't hidden.
        let markers: Vec<(String, Option<String>)> =
            markers.into_iter().flat_map(|(key, ids)| ids.into_iter().map(move |id| (key.clone(), Some(id)))).collect();
        for batch in markers.chunks(DELETE_BATCH) {
            if let Err(error) = self.delete_batch(batch).await {
                tracing::debug!(%error, "delete markers stay");
            }
        }
        Deletion { refused: kept.into_iter().collect(), hidden: 0 }
    }
}

/// Whether the answer says that there is no lock, rather than that it can't be told.
fn is_unlocked<E>(error: &aws_sdk_s3::error::SdkError<E>) -> bool
where
    aws_sdk_s3::error::SdkError<E>: aws_sdk_s3::error::ProvideErrorMetadata,
{
    use aws_sdk_s3::error::ProvideErrorMetadata as _;
    matches!(
        error.code(),
        Some("NoSuchObjectLockConfiguration" | "ObjectLockConfigurationNotFoundError" | "NoSuchObjectLegalHold")
    )
}

/// What all keys begin with.
fn common_prefix(keys: &[String]) -> &str {
    let Some((first, others)) = keys.split_first() else { return "" };
    let shared = |other: &String| first.bytes().zip(other.bytes()).take_while(|(one, two)| one == two).count();
    // Keys of ours are ASCII, so that any cut is at a character.
    let length = others.iter().map(shared).min().unwrap_or(first.len());
    first.get(..length).unwrap_or("")
}
