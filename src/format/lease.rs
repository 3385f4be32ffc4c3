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

#[cfg(test)]
mod tests {
    use super::*;

    fn lease() -> Lease {
        let at = |second| Timestamp::from_second(second).unwrap();
        Lease {
            format: 1,
            engine: "ABCD:EFGH".into(),
            instance: Ulid::from_parts(1, 1),
            attempt: Ulid::from_parts(2, 2),
            started: at(1_700_000_000),
            outcome: Some(LeaseOutcome {
                succeeded: false,
                reason: "it ended with 1".into(),
                tail: vec!["no table".into()],
                at: at(1_700_000_009),
                retry: Some(Ulid::from_parts(3, 3)),
            }),
        }
    }

    #[test]
    fn golden_bytes() {
        insta::assert_snapshot!(String::from_utf8(lease().to_bytes()).unwrap(), @r#"{"format":1,"engine":"ABCD:EFGH","instance":"00000000010000000000000001","attempt":"00000000020000000000000002","started":"2023-11-14T22:13:20Z","outcome":{"succeeded":false,"reason":"it ended with 1","tail":["no table"],"at":"2023-11-14T22:13:29Z","retry":"00000000030000000000000003"}}"#);
        let running = Lease { outcome: None, ..lease() };
        insta::assert_snapshot!(String::from_utf8(running.to_bytes()).unwrap(), @r#"{"format":1,"engine":"ABCD:EFGH","instance":"00000000010000000000000001","attempt":"00000000020000000000000002","started":"2023-11-14T22:13:20Z"}"#);
        assert_eq!(Lease::parse(&running.to_bytes()), Ok(running));
        assert_eq!(Lease::parse(&lease().to_bytes()), Ok(lease()));
    }

    #[test]
    fn refuses_a_newer_format_and_damage() {
        let newer = Lease { format: 2, ..lease() };
        assert_eq!(Lease::parse(&newer.to_bytes()), Err(FormatError::Newer { found: 2 }));
        assert!(matches!(Lease::parse(br#"{"format":1}"#), Err(FormatError::Damaged(_))));
    }
}
