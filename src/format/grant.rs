//! A grant: what a container needs to fetch one version, instead of the store's keys.
//!
//! It names the row and carries a presigned GET for each object that the version consists of. It is never stored in the
//! bucket; a monitor writes it to a small volume beside the container and renews it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::{FORMAT, FormatError, Row};
use crate::application::Plan;
use crate::names::WorkspaceName;

/// Largest grant that is read, in bytes: some ten thousand packs.
pub const MAX_BYTES: usize = 32 << 20;

/// The right to read one version for a while.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Format number.
    pub format: u32,
    /// The workspace.
    pub name: WorkspaceName,
    /// Its incarnation.
    pub root: Ulid,
    /// The version.
    pub row: Row,
    /// How it is run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// When the addresses stop working.
    pub expires: Timestamp,
    /// A presigned GET for each key: the manifest, its base, the packs.
    pub addresses: BTreeMap<String, String>,
}

/// Addresses are as good as keys while they last.
impl std::fmt::Debug for Grant {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Grant")
            .field("name", &self.name)
            .field("row", &self.row.id)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

impl Grant {
    /// Reads the file.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        #[derive(Deserialize)]
        struct Probe {
            format: u32,
        }
        let damaged = |error: serde_json::Error| FormatError::Damaged(format!("it is no grant: {error}"));
        let probe: Probe = serde_json::from_slice(bytes).map_err(damaged)?;
        if probe.format > FORMAT {
            return Err(FormatError::Newer { found: probe.format });
        }
        serde_json::from_slice(bytes).map_err(damaged)
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Nothing here can fail to serialise: all keys are text and all numbers are integers.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::application::Runtime;
    use crate::format::host::tests::row;

    fn grant() -> Grant {
        Grant {
            format: 1,
            name: "app".parse().unwrap(),
            root: Ulid::from_parts(1, 1),
            row: row(3),
            plan: Some(Plan::new(Runtime::Node)),
            expires: Timestamp::from_second(1_700_000_000).unwrap(),
            addresses: BTreeMap::from([("data/app/R/packs/P.tar.zst".into(), "https://s3/x?signature=secret".into())]),
        }
    }

    #[test]
    fn golden_bytes() {
        insta::assert_snapshot!(String::from_utf8(grant().to_bytes()).unwrap(), @r#"{"format":1,"name":"app","root":"00000000010000000000000001","row":{"id":"00000000030000000000000003","number":3,"base":"000000002T000000000000002T","tree":"6baa6c9f461fe834a9da0ebb62e0f6fb8c11988a58cbc51b8da8040aea19bc3a","files":3,"bytes":4096,"created":"2023-11-14T22:13:20Z","runtime":"node"},"plan":{"runtime":"node","port":3000},"expires":"2023-11-14T22:13:20Z","addresses":{"data/app/R/packs/P.tar.zst":"https://s3/x?signature=secret"}}"#);
        assert_eq!(Grant::parse(&grant().to_bytes()), Ok(grant()));
    }

    #[test]
    fn refuses_a_newer_format_and_damage() {
        assert_eq!(Grant::parse(br#"{"format":2,"other":1}"#), Err(FormatError::Newer { found: 2 }));
        assert!(matches!(Grant::parse(br#"{"format":1}"#), Err(FormatError::Damaged(_))));
    }

    #[test]
    fn addresses_are_never_shown() {
        assert!(!format!("{:?}", grant()).contains("signature"));
    }
}
