//! Collection: what no version needs is deleted.
//!
//! The list of it is written, and the ref is swapped to name it and to count up: every upload that began earlier loses its
//! swap, finds the counter moved, and sends again what the list names. So nothing that was listed can be needed later, and
//! it makes no difference how long whoever deletes it takes, or how many do it at once. No clock decides what is right; the
//! grace only spares uploads under way the sending again, and readers the surprise.
//!
//! Whoever finds a list goes on with it. Killed anywhere, the next collection finishes.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use ulid::Ulid;

use super::inventory::{Inventory, is_older};
use super::needs::Needs;
use crate::cache::Cache;
use crate::format::collection::List;
use crate::format::keys::{self, Item};
use crate::format::retention::thin;
use crate::format::{FORMAT, Keys, Reference};
use crate::hosts::Hosts;
use crate::names::WorkspaceName;
use crate::publish::{self, PublishError, Swapped, pause, swap};
use crate::store::bucket::{Bucket, Level, PROBE};
use crate::store::{Condition, Store, StoreError};
use crate::version::{self, Read, VersionError};

/// For objects that nobody needs, before they are listed; and for what is listed, before it is deleted.
pub const GRACE: Duration = Duration::from_hours(1);
/// Rounds of one collection: lost races, and lists that are followed by further ones.
const ROUNDS: u32 = 64;
/// Longest list, in objects; what is left is the next collection's.
const LONGEST: usize = 50_000;

/// How a collection goes about it.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// See [`GRACE`].
    pub grace: Duration,
    /// Find out only.
    pub dry_run: bool,
}

/// How far a collection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// There is nothing to delete, or nothing more.
    Clean,
    /// What would be listed, without anything being written.
    Found,
    /// A list is written, and deleted once the grace is over.
    Listed,
}

/// What came of a collection.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The workspace.
    pub workspace: WorkspaceName,
    /// How far it has come.
    pub stage: Stage,
    /// Objects deleted, and their bytes.
    pub deleted: Amount,
    /// Objects listed or found, and their bytes.
    pub listed: Amount,
    /// From when on what is listed may be deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Objects that nobody needs and that are younger than the grace: an upload may be under way.
    pub young: Amount,
    /// Objects that the server keeps: they are locked.
    pub refused: Vec<String>,
    /// Objects that are only hidden: the bucket keeps versions, and they can't be removed with these keys.
    pub hidden: u64,
    /// Uploads in parts that were begun, abandoned, and taken back.
    pub aborted: u64,
    /// Objects of a kind that this release doesn't know; they are left alone.
    pub unknown: Amount,
    /// Versions that the ref's retention let go.
    pub trimmed: usize,
    /// Versions that stay because they are locked.
    pub locked: Vec<Locked>,
}

/// A version that is locked.
#[derive(Debug, Clone, Serialize)]
pub struct Locked {
    /// Its number.
    pub version: u64,
    /// Until when; nothing for a legal hold.
    pub until: Option<Timestamp>,
}

impl Report {
    fn absorb(&mut self, other: Self) {
        let sum = |one: &mut Amount, other: Amount| {
            one.objects += other.objects;
            one.bytes += other.bytes;
        };
        sum(&mut self.deleted, other.deleted);
        sum(&mut self.listed, other.listed);
        sum(&mut self.young, other.young);
        sum(&mut self.unknown, other.unknown);
        self.stage = self.stage.max(other.stage);
        self.until = self.until.max(other.until);
        self.refused.extend(other.refused);
        self.hidden += other.hidden;
        self.trimmed += other.trimmed;
    }
}

/// A number of objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// How many.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Amount {
    /// One more.
    pub fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

/// Why nothing was deleted, or not everything.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// What is needed can't be found out.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// A deletion that was cut off can't be finished.
    #[error(transparent)]
    Remove(#[from] PublishError),
    /// Uploads couldn't be kept from using what is deleted.
    #[error("{location} does not support conditional writes: a collection could delete what an upload uses")]
    NoConditions {
        /// The bucket.
        location: String,
    },
    /// What a host still runs is unknown.
    #[error("the record of a host, `{key}`, can't be read, so what that host still needs is unknown: {reason}")]
    Host {
        /// Its key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A version can't be read, so what it needs is unknown.
    #[error("what `{name}` needs is unknown, so nothing was deleted")]
    Damaged {
        /// The workspace.
        name: WorkspaceName,
        /// What is wrong.
        source: Box<VersionError>,
    },
    /// The ref changes faster than we can swap it.
    #[error("`{name}` changes so fast that {attempts} attempts lost against others; nothing was deleted")]
    Contended {
        /// The workspace.
        name: WorkspaceName,
        /// How often it was tried.
        attempts: u32,
    },
}

impl From<StoreError> for CollectError {
    fn from(error: StoreError) -> Self {
        Self::Version(error.into())
    }
}

/// What collections have in common: where, and what the hosts there still need.
pub struct Collector<'a> {
    /// The store.
    pub store: &'a Store,
    /// What this machine remembers.
    pub cache: &'a Cache,
    /// The bucket.
    pub bucket: &'a Bucket,
    /// The hosts, as they were read just now.
    pub hosts: &'a Hosts,
}

impl Collector<'_> {
    /// Collects what a workspace and its dependency snapshots left behind, as far as the grace allows by now.
    pub async fn collect(&self, name: &WorkspaceName, options: Options) -> Result<Report, CollectError> {
        self.check()?;
        let mut report = self.collect_one(name, options).await?;
        if !options.dry_run {
            // An hour at least: whoever writes an archive of some size is at it for a while.
            let before = Timestamp::now().saturating_sub(signed(options.grace.max(GRACE))).unwrap_or(Timestamp::MIN);
            match self.store.abort_abandoned(&format!("{}{name}/", keys::DATA), before).await {
                Ok(aborted) => report.aborted = aborted,
                // Few servers lack it, and few keys may.
                Err(error) => tracing::debug!(%error, "uploads in parts that were abandoned can't be looked for"),
            }
        }
        let store = self.store.nested(keys::dependencies(name));
        if version::read_reference(&store, name).await?.is_some() {
            // Hosts run none of them.
            let collector = Collector { store: &store, hosts: &Hosts::default(), ..*self };
            report.absorb(collector.collect_one(name, options).await?);
        }
        Ok(report)
    }

    async fn collect_one(&self, name: &WorkspaceName, options: Options) -> Result<Report, CollectError> {
        let mut report = Report {
            workspace: name.clone(),
            stage: Stage::Clean,
            deleted: Amount::default(),
            listed: Amount::default(),
            until: None,
            young: Amount::default(),
            refused: Vec::new(),
            hidden: 0,
            aborted: 0,
            unknown: Amount::default(),
            trimmed: 0,
            locked: Vec::new(),
        };
        for round in 0..ROUNDS {
            let Some(read) = version::read_reference(self.store, name).await? else {
                // Deleted meanwhile, which is as clean as can be.
                if round > 0 {
                    return Ok(report);
                }
                return Err(version::missing(self.store, name).await.into());
            };
            if read.reference.deleted || self.is_abandoned(name, &read, options).await? {
                if !options.dry_run {
                    // Somebody may take the name up this very moment.
                    let (root, delete_if_match) = (read.reference.root, self.bucket.record.delete_if_match);
                    let removed = publish::remove_remains(self.store, name, root, delete_if_match).await?;
                    report.deleted.objects += removed.objects as u64;
                    report.deleted.bytes += removed.bytes;
                }
                return Ok(report);
            }
            let etag = read.etag.clone();
            let goes_on = match read.reference.collection {
                Some(list) if !options.dry_run => self.go_on(name, read, list, options, &mut report).await,
                _ => self.begin(name, read, options, &mut report).await,
            };
            match goes_on {
                Ok(true) => tokio::time::sleep(if round == 0 { Duration::ZERO } else { pause(round.min(4)) }).await,
                Ok(false) => return Ok(report),
                Err(error @ CollectError::Damaged { .. }) => {
                    // What is missing may be missing because the workspace was deleted, or made anew.
                    let now = version::read_reference(self.store, name).await?;
                    if now.is_some_and(|now| now.etag == etag) {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(CollectError::Contended { name: name.clone(), attempts: ROUNDS })
    }

    /// Removes what probes of the bucket left that were cut off: their names are never used again.
    pub async fn collect_probes(&self, options: Options) -> Result<Amount, CollectError> {
        let (now, grace) = (Timestamp::now(), signed(options.grace.max(GRACE)));
        let (mut removed, mut keys) = (Amount::default(), Vec::new());
        for object in self.store.list(PROBE).await?.into_iter().filter(|object| is_older(object, grace, now)) {
            removed.add(object.size);
            keys.push(object.key);
        }
        if !options.dry_run {
            self.store.delete_many(&keys).await?;
        }
        Ok(removed)
    }

    /// Whether collections are safe here at all.
    pub fn check(&self) -> Result<(), CollectError> {
        if self.bucket.record.level == Level::None {
            return Err(CollectError::NoConditions { location: self.store.location() });
        }
        match self.hosts.skipped().next() {
            Some((key, reason)) => Err(CollectError::Host { key: key.to_owned(), reason: reason.to_owned() }),
            None => Ok(()),
        }
    }

    /// Whether a name was claimed and nothing came of it: a first upload that was killed.
    async fn is_abandoned(&self, name: &WorkspaceName, read: &Read, options: Options) -> Result<bool, CollectError> {
        // Whatever the grace: who has claimed a name has no version to lose yet, and would lose the whole upload.
        let (now, grace) = (Timestamp::now(), signed(options.grace.max(GRACE)));
        if read.reference.is_visible() || now.duration_since(time_of(read.reference.root)) < grace {
            return Ok(false);
        }
        // The root's time is by the clock of whoever made the claim, which may be days behind.
        match self.store.head(&keys::reference(name)).await {
            Ok(claim) if !is_older(&claim, grace, now) => return Ok(false),
            Ok(_) | Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let objects = self.store.list(Keys::new(name, read.reference.root).prefix()).await?;
        Ok(objects.iter().all(|object| is_older(object, grace, now)))
    }

    /// Lists what nobody needs, and announces it. True: there is more to do now.
    async fn begin(
        &self,
        name: &WorkspaceName,
        read: Read,
        options: Options,
        report: &mut Report,
    ) -> Result<bool, CollectError> {
        let (now, grace) = (Timestamp::now(), signed(options.grace));
        let mut reference = read.reference;
        let keys = Keys::new(name, reference.root);
        let locked = reference.rows.iter().filter(|row| row.is_locked(now));
        report.locked = locked.map(|row| Locked { version: row.number, until: row.locked_until }).collect();
        if reference.retention.is_some() {
            let before = reference.rows.len();
            thin(&mut reference, now);
            let trimmed = before - reference.rows.len();
            if trimmed > 0 && !options.dry_run {
                publish::may_delete(self.store, &keys).await?;
                if let Swapped::Done(_) = swap(self.store, name, Some(&read.etag), reference, None).await? {
                    report.trimmed += trimmed;
                }
                return Ok(true);
            }
            report.trimmed += trimmed;
        }
        let inventory = Inventory::take(self.store, &keys).await?;
        let needs = self.needs(name, &reference).await?;
        (report.young, report.unknown) = (Amount::default(), Amount::default());
        for object in &inventory.unknown {
            report.unknown.add(object.size);
        }
        let mut listed = Amount::default();
        let mut victims = Vec::new();
        for (item, object) in &inventory.items {
            if needs.items.contains(item) || report.refused.contains(&object.key) {
                continue;
            }
            if !is_older(object, grace, now) {
                report.young.add(object.size);
            } else if victims.len() < LONGEST {
                listed.add(object.size);
                victims.push(object.key.clone());
            }
        }
        if victims.is_empty() {
            report.stage = Stage::Clean;
            return Ok(false);
        }
        if options.dry_run {
            (report.stage, report.listed) = (Stage::Found, listed);
            return Ok(false);
        }
        let id = Ulid::generate();
        let key = keys.collection(id);
        // A list that nobody may work off would hold up every upload.
        self.store.may_delete(&key).await?;
        let list = List { format: FORMAT, keys: victims };
        // Plain texts and a number: there is nothing that could fail to serialise.
        let body = Bytes::from(serde_json::to_vec(&list).unwrap_or_default());
        self.store.put(&key, body, Condition::None).await?;
        reference.collection = Some(id);
        reference.collections += 1;
        match swap(self.store, name, Some(&read.etag), reference, None).await? {
            Swapped::Done(_) => {
                (report.stage, report.listed) = (Stage::Listed, listed);
                report.until = time_of(id).checked_add(grace).ok();
                Ok(options.grace.is_zero())
            }
            Swapped::Lost(_) => {
                self.store.delete_many(&[key]).await?;
                Ok(true)
            }
        }
    }

    /// Goes on with a list that the ref names, whoever wrote it. True: there is more to do now.
    async fn go_on(
        &self,
        name: &WorkspaceName,
        read: Read,
        id: Ulid,
        options: Options,
        report: &mut Report,
    ) -> Result<bool, CollectError> {
        let mut reference = read.reference;
        let keys = Keys::new(name, reference.root);
        let list_key = keys.collection(id);
        let listed = match self.store.get(&list_key).await {
            // One that can't be read names nothing that may be deleted.
            Ok(object) => serde_json::from_slice::<List>(&object.body).map(|list| list.keys).unwrap_or_default(),
            Err(StoreError::NotFound { .. }) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let inventory = Inventory::take(self.store, &keys).await?;
        // What the list says is not trusted: it may name nothing but items of this root, and none that is needed.
        let listed: BTreeSet<Item> = listed.iter().filter_map(|key| keys.item(key)).collect();
        // By the clock of whoever wrote the list, which may be days ahead, or by the server's.
        let written = inventory.items.get(&Item::Collection(id)).and_then(|list| list.modified);
        let begun = written.map_or(time_of(id), |written| written.min(time_of(id)));
        let until = begun.saturating_add(signed(options.grace)).unwrap_or(Timestamp::MAX);
        if Timestamp::now() < until {
            (report.stage, report.until, report.listed) = (Stage::Listed, Some(until), Amount::default());
            for (_, object) in inventory.items.iter().filter(|(item, _)| listed.contains(item)) {
                report.listed.add(object.size);
            }
            return Ok(false);
        }
        let needs = self.needs(name, &reference).await?;
        let victims: Vec<(&String, u64)> = inventory
            .items
            .iter()
            .filter(|(item, _)| listed.contains(item) && !needs.items.contains(item))
            .map(|(_, object)| (&object.key, object.size))
            .collect();
        let names: Vec<String> = victims.iter().map(|(key, _)| (*key).clone()).collect();
        let deletion = self.store.delete_each(&names).await?;
        report.hidden += deletion.hidden;
        let kept: BTreeSet<&String> = deletion.refused.iter().map(|(key, _)| key).collect();
        for (key, bytes) in victims {
            if kept.contains(key) {
                report.refused.push(key.clone());
            } else {
                report.deleted.add(bytes);
            }
        }
        self.store.delete_many(&[list_key]).await?;
        reference.collection = None;
        // Lost: somebody published, or finished this before us. The next look tells.
        swap(self.store, name, Some(&read.etag), reference, None).await?;
        (report.stage, report.listed, report.until) = (Stage::Clean, Amount::default(), None);
        Ok(true)
    }

    async fn needs(&self, name: &WorkspaceName, reference: &Reference) -> Result<Needs, CollectError> {
        let needs = Needs::of(self.store, self.cache, name, reference, self.hosts).await;
        needs.map_err(|error| match error {
            VersionError::Store(StoreError::NotFound { .. }) | VersionError::Object { .. } => {
                CollectError::Damaged { name: name.clone(), source: Box::new(error) }
            }
            other => other.into(),
        })
    }
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

/// When an id was made, by the clock of whoever made it.
fn time_of(id: Ulid) -> Timestamp {
    i64::try_from(id.timestamp_ms()).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(Timestamp::MIN)
}
