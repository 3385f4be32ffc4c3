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
