//! `bucket.json`: what kind of bucket this is, found out once and kept for everybody.
//!
//! Servers differ: some ignore conditional headers and overwrite, and nothing in their answers says so. So the first
//! command that is about to write tries it out (the probe) and keeps the result in the bucket.

use bytes::Bytes;
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::{Condition, ETag, Listing, Store, StoreError};

/// The key of the record.
pub const KEY: &str = "bucket.json";
/// The format number written by this version, and the newest it reads.
pub const FORMAT: u32 = 1;
/// What the probe makes is below here, each run under a ULID of its own.
pub const PROBE: &str = "probe/";
/// Writers that race in the probe.
const RACERS: usize = 8;
/// An ETag that no content of ours has.
const WRONG_ETAG: &str = "\"00000000000000000000000000000000\"";

/// What a server does with conditions on writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Honours them, atomically: compare and swap.
    Cas,
    /// Ignores or refuses them: two writers can overwrite each other.
    None,
}

/// `bucket.json`. Fields that a later version adds are tolerated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketRecord {
    /// Format of everything in the bucket.
    pub format: u32,
    /// Names the bucket wherever it is reached from.
    pub id: Ulid,
    /// What conditional writes come to here.
    pub level: Level,
    /// Whether `If-Match` on DELETE is honoured.
    pub delete_if_match: bool,
}

impl BucketRecord {
    /// As it is kept.
    pub fn to_bytes(&self) -> Bytes {
        // Plain fields: there is nothing that could fail to serialise.
        Bytes::from(serde_json::to_vec(self).unwrap_or_default())
    }

    /// From what is kept, in the bucket or in a local copy.
    pub fn from_bytes(bytes: &[u8], location: &str) -> Result<Self, BucketError> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let damaged = |_| BucketError::Damaged { location: location.to_owned() };
        // The number first: a newer record may look different.
        let Format { format } = serde_json::from_slice(bytes).map_err(damaged)?;
        if format > FORMAT {
            return Err(BucketError::Newer { location: location.to_owned(), format });
        }
        serde_json::from_slice(bytes).map_err(damaged)
    }
}

/// Why a bucket can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Written by a newer version.
    #[error("{location} has format {format}, which is newer than this version of workspace knows")]
    Newer {
        /// The bucket.
        location: String,
        /// Its format.
        format: u32,
    },
    /// `bucket.json` doesn't parse.
    #[error("`bucket.json` in {location} is damaged")]
    Damaged {
        /// The bucket.
        location: String,
    },
    /// The bucket is in use for something else, and nobody has agreed.
    #[error("{location} holds other objects, such as `{example}`, and has never been used by workspace")]
    NotOurs {
        /// The bucket.
        location: String,
        /// One of its keys.
        example: String,
    },
    /// The server doesn't do conditional writes, and the caller doesn't promise to be alone.
    #[error("{location} does not support conditional writes: two uploads at once could overwrite each other")]
    NoConditions {
        /// The bucket.
        location: String,
    },
    /// The bucket isn't there and can't be made.
    #[error("the bucket `{bucket}` does not exist and can't be created")]
    CannotCreate {
        /// Its name.
        bucket: String,
        /// Why not.
        source: StoreError,
    },
}

/// What whoever is about to write agrees to.
pub struct WriteConsent<'a> {
    /// Use a bucket that has other objects without asking.
    pub yes: bool,
    /// Nobody else writes, so a server without conditional writes will do.
    pub single_writer: bool,
    /// Asks a person; false where there is none.
    pub ask: &'a (dyn Fn(&str) -> bool + Send + Sync),
}

/// A bucket that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// What is kept about it.
    pub record: BucketRecord,
}

impl Bucket {
    /// For reading: changes nothing. `None` where nothing was ever written.
    pub async fn open_for_reading(store: &Store) -> Result<Option<Self>, BucketError> {
        match store.get(KEY).await {
            Ok(object) => {
                let record = BucketRecord::from_bytes(&object.body, &store.location())?;
                Ok(Some(Self { record }))
            }
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// For writing: creates the bucket if it is missing, and finds out what its server does if nobody has yet.
    pub async fn open_for_writing(store: &Store, consent: &WriteConsent<'_>) -> Result<Self, BucketError> {
        let found = match Self::open_for_reading(store).await {
            Err(BucketError::Store(StoreError::NoBucket { bucket })) => {
                let created = store.create_bucket().await;
                created.map_err(|source| BucketError::CannotCreate { bucket, source })?;
                None
            }
            other => other?,
        };
        let bucket = match found {
            Some(bucket) => bucket,
            None => Self::begin(store, consent).await?,
        };
        bucket.allow_writer(store, consent.single_writer)?;
        Ok(bucket)
    }

    /// Whether a writer may go ahead. Asked anew by whoever keeps a copy of the record.
    pub fn allow_writer(&self, store: &Store, single_writer: bool) -> Result<(), BucketError> {
        if self.record.level == Level::None && !single_writer {
            return Err(BucketError::NoConditions { location: store.location() });
        }
        if self.record.level == Level::None {
            store.trust_single_writer();
        }
        Ok(())
    }

    async fn begin(store: &Store, consent: &WriteConsent<'_>) -> Result<Self, BucketError> {
        let objects = store.list_page("", Listing { limit: Some(10), ..Listing::default() }).await?.objects;
        let foreign = objects.into_iter().find(|object| object.key != KEY && !object.key.starts_with(PROBE));
        if let Some(object) = foreign {
            let location = store.location();
            let question = format!("{location} holds other objects, such as `{}`. Use it all the same?", object.key);
            if !consent.yes && !(consent.ask)(&question) {
                return Err(BucketError::NotOurs { location, example: object.key });
            }
        }
        let (level, delete_if_match) = probe(store).await?;
        let record = BucketRecord { format: FORMAT, id: Ulid::generate(), level, delete_if_match };
        let condition = if level == Level::Cas { Condition::Absent } else { Condition::None };
        match store.put(KEY, record.to_bytes(), condition).await {
            Ok(_) => Ok(Self { record }),
            // Somebody else was first, or an attempt of ours whose answer was lost: what lies there counts.
            Err(StoreError::Precondition { .. } | StoreError::Conflict { .. }) => {
                let there = Self::open_for_reading(store).await?;
                there.ok_or_else(|| BucketError::Damaged { location: store.location() })
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Tries out what the server does with conditions. Leaves nothing behind, unless it is cut off.
async fn probe(store: &Store) -> Result<(Level, bool), StoreError> {
    let prefix = format!("{PROBE}{}", Ulid::generate());
    let keys: Vec<String> = ["swap", "missing", "race"].iter().map(|name| format!("{prefix}/{name}")).collect();
    let result = try_out(store, &keys[0], &keys[1], &keys[2]).await;
    for key in &keys {
        // What stays is tidied with the next probe's prefix in mind: nothing reads it.
        if let Err(error) = store.delete(key, Condition::None).await {
            tracing::warn!(key, %error, "can't remove what the probe made");
        }
    }
    result
}

async fn try_out(store: &Store, swap: &str, missing: &str, race: &str) -> Result<(Level, bool), StoreError> {
    let body = |text: &'static str| Bytes::from_static(text.as_bytes());
    let wrong = || Condition::Matches(ETag::new(WRONG_ETAG));

    let first = match store.put_once(swap, body("first"), Condition::Absent).await {
        Err(StoreError::Unsupported { .. }) => return Ok((Level::None, false)),
        other => other?,
    };
    let refused = [
        store.put_once(swap, body("created twice"), Condition::Absent).await,
        store.put_once(swap, body("wrong ETag"), wrong()).await,
        store.put_once(missing, body("missing key"), wrong()).await,
    ];
    for outcome in refused {
        match outcome {
            Err(StoreError::Precondition { .. } | StoreError::Conflict { .. }) => {}
            Ok(_) | Err(StoreError::Unsupported { .. }) => return Ok((Level::None, false)),
            Err(error) => return Err(error),
        }
    }
    let second = match store.put_once(swap, body("second"), Condition::Matches(first)).await {
        // It refuses every swap, also the right one.
        Err(StoreError::Precondition { .. } | StoreError::Unsupported { .. }) => return Ok((Level::None, false)),
        other => other?,
    };

    let racers = join_all(
        (0..RACERS).map(|racer| store.put_once(race, Bytes::from(format!("racer {racer}")), Condition::Absent)),
    )
    .await;
    let mut winners = 0;
    for outcome in racers {
        match outcome {
            Ok(_) => winners += 1,
            Err(StoreError::Precondition { .. }) => {}
            // Busy is not wrong, and a lost answer proves nothing.
            Err(error) if error.is_ambiguous() => {}
            Err(error) => return Err(error),
        }
    }
    if winners > 1 {
        return Ok((Level::None, false));
    }

    let delete_if_match = match store.delete(swap, wrong()).await {
        Err(StoreError::Precondition { .. }) => {
            matches!(store.delete(swap, Condition::Matches(second)).await, Ok(())) && gone(store, swap).await?
        }
        _ => false,
    };
    Ok((Level::Cas, delete_if_match))
}

async fn gone(store: &Store, key: &str) -> Result<bool, StoreError> {
    match store.get(key).await {
        Ok(_) => Ok(false),
        Err(StoreError::NotFound { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_of_format_1_reads_for_ever() {
        let golden = br#"{"format":1,"id":"01JQ0000000000000000000000","level":"cas","delete_if_match":true}"#;
        let record = BucketRecord {
            format: 1,
            id: "01JQ0000000000000000000000".parse().unwrap(),
            level: Level::Cas,
            delete_if_match: true,
        };
        assert_eq!(record.to_bytes(), &golden[..]);
        assert_eq!(BucketRecord::from_bytes(golden, "there").unwrap(), record);
    }

    #[test]
    fn a_record_with_more_fields_reads_and_a_newer_one_is_refused() {
        let more = br#"{"format":1,"id":"01JQ0000000000000000000000","level":"none","delete_if_match":false,"new":[]}"#;
        assert_eq!(BucketRecord::from_bytes(more, "there").unwrap().level, Level::None);
        let newer = br#"{"format":2,"level":{"kind":"other"}}"#;
        assert!(matches!(BucketRecord::from_bytes(newer, "there"), Err(BucketError::Newer { format: 2, .. })));
        for text in [&b""[..], b"{}", b"<html>", br#"{"format":1}"#] {
            assert!(matches!(BucketRecord::from_bytes(text, "there"), Err(BucketError::Damaged { .. })));
        }
    }
}
