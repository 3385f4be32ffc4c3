//! What the hosts say of themselves, and what follows from it: is this one there, does it serve that version?
//!
//! [`Hosts`] reads the records of `hosts/` and reads again only those that changed; the judging is pure.

use std::collections::BTreeMap;

use futures::stream::{self, StreamExt};
use jiff::Timestamp;
use ulid::Ulid;

use crate::format::host::{AWAY_AFTER_BEATS, BEAT_SECONDS, Failure, Host, HostPhase, MAX_BYTES, Managed};
use crate::format::keys;
use crate::names::{Pattern, Tag, Version, WorkspaceName, chosen};
use crate::store::{ETag, ObjectInfo, Store, StoreError};

/// How many records are read at once.
const AT_ONCE: usize = 16;
/// What is read of all records together, in bytes: thousands of hosts with a hundred workspaces each. Tests have less.
const MOST: u64 = if cfg!(test) { 64 << 10 } else { 256 << 20 };
/// Most objects among which records are looked for. Tests have fewer.
const MOST_RECORDS: usize = if cfg!(test) { 8 } else { 10_000 };

/// A host as it was read last.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Its record.
    pub host: Host,
    /// When it last gave a sign, by the clock of this machine: while it is watched, when its beat was seen to change; before
    /// that, the beat itself, but never later than now. So a clock that is wrong over there counts once at most.
    pub last_sign: Timestamp,
}

impl Seen {
    /// Seen for the first time.
    pub fn first(host: Host, now: Timestamp) -> Self {
        Self { last_sign: host.beat.min(now), host }
    }

    /// Seen again.
    #[must_use]
    pub fn again(&self, host: Host, now: Timestamp) -> Self {
        let last_sign = if host.beat == self.host.beat { self.last_sign } else { now };
        Self { host, last_sign }
    }

    /// Whether its monitor is at work.
    pub fn presence(&self, now: Timestamp) -> Presence {
        if self.host.ended {
            Presence::Ended
        } else if now.duration_since(self.last_sign).as_secs() > BEAT_SECONDS * AWAY_AFTER_BEATS {
            Presence::Away
        } else {
            Presence::There
        }
    }
}

/// Whether a host's monitor is at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// It is.
    There,
    /// It hasn't been heard of for three beats.
    Away,
    /// It ended on purpose.
    Ended,
}

/// A version that hosts shall serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Awaited {
    /// The workspace.
    pub name: WorkspaceName,
    /// Its incarnation.
    pub root: Ulid,
    /// The version's row.
    pub row: Ulid,
    /// Its number.
    pub number: u64,
    /// The tags that name it.
    pub tags: Vec<Tag>,
    /// The ref's mark of the last `retry`.
    pub retry: Option<Ulid>,
}

/// How a host stands to a version.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing<'a> {
    /// It doesn't manage the workspace, or follows another version of it.
    Elsewhere,
    /// Its monitor isn't at work.
    Absent(Presence),
    /// It serves the version, or a newer one.
    Serves(&'a Managed),
    /// The version, or a newer one, failed there and isn't tried again.
    Bad(&'a Managed, &'a Failure),
    /// The version failed there for now, and is tried again later.
    Waits(&'a Managed, &'a Failure),
    /// Stopped, or stored and not run.
    Rests(&'a Managed),
    /// Not yet; nothing where the host hasn't taken notice.
    OnTheWay(Option<&'a Managed>),
}

/// Judges one host.
pub fn judge<'a>(seen: &'a Seen, awaited: &Awaited, now: Timestamp) -> Standing<'a> {
    if !follows(&seen.host, awaited) {
        return Standing::Elsewhere;
    }
    match seen.presence(now) {
        Presence::There => {}
        absent => return Standing::Absent(absent),
    }
    let Some(managed) = seen.host.workspaces.get(&awaited.name) else { return Standing::OnTheWay(None) };
    if serves(managed, awaited) {
        return Standing::Serves(managed);
    }
    if let Some(failure) = &managed.failure
        && is_bad(managed, failure, awaited)
    {
        return Standing::Bad(managed, failure);
    }
    if let Some(failure) = &managed.failure
        && managed.phase == HostPhase::Waiting
        && (failure.row, failure.retry, failure.bad) == (awaited.row, awaited.retry, false)
    {
        return Standing::Waits(managed, failure);
    }
    match managed.phase {
        HostPhase::Stopped | HostPhase::Stored => Standing::Rests(managed),
        _ => Standing::OnTheWay(Some(managed)),
    }
}

/// Whether the host is to run this version, by what it was told to manage. What can't be read as a pattern was written by a
/// later release, and matches nothing here.
fn follows(host: &Host, awaited: &Awaited) -> bool {
    let patterns: Vec<Pattern> = host.only.iter().filter_map(|text| text.parse().ok()).collect();
    if patterns.is_empty() && !host.only.is_empty() {
        return false;
    }
    match chosen(&patterns, &awaited.name) {
        None => false,
        Some(Version::Current) => true,
        Some(Version::Number(number)) => *number == awaited.number,
        Some(Version::Tag(tag)) => awaited.tags.contains(tag),
    }
}

fn serves(managed: &Managed, awaited: &Awaited) -> bool {
    let Some(live) = managed.served() else { return false };
    if live.root != awaited.root || (live.row.id != awaited.row && live.row.number <= awaited.number) {
        return false;
    }
    match managed.phase {
        HostPhase::Drain | HostPhase::Watch | HostPhase::Live => true,
        // What has the traffic goes on serving while the next one is made ready, or has failed.
        _ => {
            let other = |row: Ulid| row != live.row.id;
            managed.next.as_ref().is_some_and(|next| other(next.row.id))
                || managed.failure.as_ref().is_some_and(|failure| other(failure.row))
        }
    }
}

fn is_bad(managed: &Managed, failure: &Failure, awaited: &Awaited) -> bool {
    // Once a newer version has failed for good, nobody goes back to the one that it replaced before it was ever served.
    let concerned = failure.row == awaited.row || failure.number > awaited.number;
    let cleared = |bad: &crate::format::host::Bad| bad.row == failure.row && bad.retry != awaited.retry;
    failure.bad && concerned && !managed.bad.iter().any(cleared)
}

/// All hosts, as they were read last.
#[derive(Debug, Default)]
pub struct Hosts {
    seen: BTreeMap<String, (ETag, Seen)>,
    skipped: BTreeMap<String, (ETag, String)>,
}

impl Hosts {
    /// Reads all of them.
    pub async fn read(store: &Store, now: Timestamp) -> Result<Self, StoreError> {
        let mut hosts = Self::default();
        hosts.refresh(store, now).await?;
        Ok(hosts)
    }

    /// Reads what changed: one LIST, and a GET of each record with another ETag. A bucket that isn't there has no hosts.
    pub async fn refresh(&mut self, store: &Store, now: Timestamp) -> Result<(), StoreError> {
        let mut objects = match store.list_most(keys::HOSTS, MOST_RECORDS).await {
            Err(StoreError::NoBucket { .. }) => Vec::new(),
            other => other?,
        };
        let are_more = objects.len() > MOST_RECORDS;
        objects.truncate(MOST_RECORDS);
        let mut bytes = 0_u64;
        let (listed, beyond): (Vec<ObjectInfo>, Vec<ObjectInfo>) =
            objects.into_iter().filter(|object| keys::engine_of_host(&object.key).is_some()).partition(|object| {
                // One that is too large by itself isn't read, and takes no other's room.
                if object.size <= MAX_BYTES {
                    bytes += object.size;
                }
                object.size > MAX_BYTES || bytes <= MOST
            });
        let listed: BTreeMap<String, ETag> = listed.into_iter().map(|object| (object.key, object.etag)).collect();
        self.seen.retain(|key, _| listed.contains_key(key));
        self.skipped.retain(|key, _| listed.contains_key(key));
        // No record has this ETag: it is read once there is room.
        let reason = format!("the records of all hosts have more than {} together", crate::output::size(MOST));
        self.skipped.extend(beyond.into_iter().map(|object| (object.key, (ETag::new(""), reason.clone()))));
        if are_more {
            let reason = format!("there are more than {MOST_RECORDS} objects, and those after them aren't looked at");
            self.skipped.insert(keys::HOSTS.to_owned(), (ETag::new(""), reason));
        }
        let known = |key: &String, etag: &ETag| {
            self.seen.get(key).is_some_and(|(known, _)| known == etag)
                || self.skipped.get(key).is_some_and(|(known, _)| known == etag)
        };
        let changed: Vec<String> =
            listed.into_iter().filter(|(key, etag)| !known(key, etag)).map(|(key, _)| key).collect();
        let mut reads = stream::iter(changed.into_iter().map(|key| async move {
            let object = store.get_within(&key, MAX_BYTES).await;
            (key, object)
        }))
        .buffer_unordered(AT_ONCE);
        while let Some((key, object)) = reads.next().await {
            let object = match object {
                Err(StoreError::NotFound { .. }) => {
                    // Removed since, or the server is not itself: whoever has to know what it runs waits. It is asked again,
                    // as no record has this ETag.
                    self.seen.remove(&key);
                    self.skipped.insert(key, (ETag::new(""), "it is listed, and can't be got".to_owned()));
                    continue;
                }
                // Whatever it is, it must not hide the other hosts.
                Err(error @ StoreError::TooLarge { .. }) => {
                    self.seen.remove(&key);
                    self.skipped.insert(key, (ETag::new(""), error.to_string()));
                    continue;
                }
                other => other?,
            };
            match Host::parse(&object.body) {
                Ok(host) => {
                    self.skipped.remove(&key);
                    let seen = match self.seen.get(&key) {
                        Some((_, seen)) => seen.again(host, now),
                        None => Seen::first(host, now),
                    };
                    self.seen.insert(key, (object.etag, seen));
                }
                Err(error) => {
                    self.seen.remove(&key);
                    self.skipped.insert(key, (object.etag, error.to_string()));
                }
            }
        }
        Ok(())
    }

    /// The hosts, by key.
    pub fn iter(&self) -> impl Iterator<Item = &Seen> {
        self.seen.values().map(|(_, seen)| seen)
    }

    /// Workspaces whose traffic goes to this one, on any host.
    pub fn routed_to(&self, name: &WorkspaceName) -> Vec<WorkspaceName> {
        let workspaces = self.iter().flat_map(|seen| &seen.host.workspaces);
        let mut routed: Vec<WorkspaceName> = workspaces
            .filter(|(_, managed)| managed.answering.as_ref() == Some(name))
            .map(|(routed, _)| routed.clone())
            .collect();
        routed.sort();
        routed.dedup();
        routed
    }

    /// Records that can't be read: key and reason.
    pub fn skipped(&self) -> impl Iterator<Item = (&str, &str)> {
        self.skipped.iter().map(|(key, (_, reason))| (key.as_str(), reason.as_str()))
    }
}

#[cfg(test)]
mod tests;
