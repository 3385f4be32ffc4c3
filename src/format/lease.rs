//! The lease and the outcome of a version's release command: `data/<name>/<root>/releases/<row>.json`.
//!
//! A release command runs once per version for all hosts. Who creates the object runs the command; the outcome stays.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::{FORMAT, FormatError};

/// The object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Format number.
    pub format: u32,
    /// The engine whose monitor holds, or held, it.
    pub engine: String,
    /// That monitor's instance.
    pub instance: Ulid,
    /// Tells this attempt from others, also of the same holder.
    pub attempt: Ulid,
    /// When the attempt began.
    pub started: Timestamp,
    /// What came of it; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<LeaseOutcome>,
}

/// How a release command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseOutcome {
    /// Whether it ended with 0.
    pub succeeded: bool,
    /// What happened, in one sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Its last lines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tail: Vec<String>,
    /// When.
    pub at: Timestamp,
    /// The ref's mark of the last `retry` at that time: another one there makes a failure count no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Ulid>,
}

impl Lease {
    /// Reads the object.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let lease: Self = serde_json::from_slice(bytes)
            .map_err(|error| FormatError::Damaged(format!("it is no lease of a release command: {error}")))?;
        if lease.format > FORMAT { Err(FormatError::Newer { found: lease.format }) } else { Ok(lease) }
    }

    /// The object's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Nothing here can fail to serialise: all keys are text and all numbers are integers.
        serde_json::to_vec(self).unwrap_or_default()
    }
}
