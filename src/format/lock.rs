//! The record of a lock: `data/<name>/<root>/locks/<row>.json`, written last and locked itself.
//!
//! It names each object that the version consists of with the id of the version that is locked, so that they can be found,
//! and let go, whatever was done to the keys since.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{FORMAT, FormatError, Row};

/// A lock on a version of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// Format number.
    pub format: u32,
    /// The version, as the ref had it.
    pub row: Row,
    /// When it was locked.
    pub created: Timestamp,
    /// Until when; nothing with a legal hold alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Whether nobody can take the lock back before that (`compliance`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub compliance: bool,
    /// Whether it lasts until it is taken back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub legal_hold: bool,
    /// The objects: key and version id.
    pub objects: Vec<(String, String)>,
}

impl Lock {
    /// Reads the object.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let lock: Self =
            serde_json::from_slice(bytes).map_err(|error| FormatError::damaged(format!("it is no lock: {error}")))?;
        if lock.format > FORMAT {
            return Err(FormatError::Newer { found: lock.format });
        }
        Ok(lock)
    }

    /// The object's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Texts, numbers and times: nothing here can fail to serialise.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Whether it keeps anything at a time.
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.legal_hold || self.until.is_some_and(|until| until > now)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ulid::Ulid;

    use super::*;
    use crate::format::Hash;

    fn sample() -> Lock {
        let time = Timestamp::from_second(1_700_000_000).unwrap();
        let row = Row {
            id: Ulid::from_parts(2, 2),
            number: 1,
            base: Ulid::from_parts(3, 3),
            delta: None,
            tree: Hash::of(b"tree"),
            files: 3,
            bytes: 4_096,
            created: time,
            runtime: None,
            message: None,
            author: None,
            commit: None,
            origin: None,
            tags: vec![],
            locked: true,
            locked_until: Some(time),
            other: BTreeMap::new(),
        };
        let objects = vec![("data/a/R/packs/P.tar.zst".to_owned(), "v1".to_owned())];
        Lock { format: 1, row, created: time, until: Some(time), compliance: true, legal_hold: false, objects }
    }

    #[test]
    fn golden_bytes() {
        insta::assert_snapshot!(String::from_utf8(sample().to_bytes()).unwrap(), @r#"{"format":1,"row":{"id":"00000000020000000000000002","number":1,"base":"00000000030000000000000003","tree":"6baa6c9f461fe834a9da0ebb62e0f6fb8c11988a58cbc51b8da8040aea19bc3a","files":3,"bytes":4096,"created":"2023-11-14T22:13:20Z","locked":true,"locked_until":"2023-11-14T22:13:20Z"},"created":"2023-11-14T22:13:20Z","until":"2023-11-14T22:13:20Z","compliance":true,"objects":[["data/a/R/packs/P.tar.zst","v1"]]}"#);
        assert_eq!(Lock::parse(&sample().to_bytes()), Ok(sample()));
    }

    #[test]
    fn a_hold_lasts_longer_than_any_time() {
        let (mut lock, later) = (sample(), Timestamp::from_second(1_700_000_001).unwrap());
        assert!(!lock.is_in_force(later));
        assert!(lock.is_in_force(Timestamp::from_second(1_699_999_999).unwrap()));
        lock.legal_hold = true;
        assert!(lock.is_in_force(later));
    }
}
