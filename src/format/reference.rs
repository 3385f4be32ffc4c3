//! The ref: one small JSON object that is the whole truth of a workspace.
//!
//! It changes by conditional PUT alone; each change leaves a nonce, by which a writer whose reply got lost finds out that
//! it had succeeded. Fields that a later release of the same format adds are carried along by this one. The last field is a
//! checksum of all others, by which a reader notices a bit that was lost on the way or where it is kept.

mod sum;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use ulid::Ulid;

use super::retention::Retention;
use super::{FORMAT, FormatError, Hash};
use crate::names::{Tag, Version, WorkspaceName};

/// Largest ref, in bytes.
pub const MAX_BYTES: usize = 60 << 10;
/// Largest ref that is read, in bytes: room for what a later release may add.
pub const MAX_READ: u64 = 16 * MAX_BYTES as u64;
/// Largest number of a version or a collection, and of files and bytes in a row: JSON's numbers end here for many programs
/// (2^53 - 1).
pub const MAX_NUMBER: u64 = (1 << 53) - 1;
/// How many nonces of past swaps are kept.
pub const NONCES: usize = 16;
/// Longest message kept in a row, in bytes.
pub const MAX_MESSAGE: usize = 200;

/// A workspace: its current version, its kept versions, and what was decided about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Format number.
    pub format: u32,
    /// The incarnation: a ULID made when the workspace was created, part of all its keys.
    pub root: Ulid,
    /// Whether the workspace is being, or was, deleted.
    #[serde(default, skip_serializing_if = "is_false")]
    pub deleted: bool,
    /// Number of the current version; 0 while a new name is only claimed.
    #[serde(default)]
    pub current: u64,
    /// The nonces of the last swaps, newest last.
    #[serde(default)]
    pub nonces: Vec<Ulid>,
    /// How many collections have begun.
    #[serde(default)]
    pub collections: u64,
    /// The list of the collection in progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collection: Option<Ulid>,
    /// Send this workspace's traffic to another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<WorkspaceName>,
    /// Whether it shall not run.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stopped: bool,
    /// The mark of the last `retry`: what a host remembers as bad from before another mark is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Ulid>,
    /// How many versions are kept; absent: as many as there is room for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// The kept versions, by number, oldest first.
    #[serde(default)]
    pub rows: Vec<Row>,
    /// What a later release added.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// A kept version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The version's own id: one for each publication, never reused.
    pub id: Ulid,
    /// 1, 2, 3…
    pub number: u64,
    /// The manifest, or the one that `delta` applies to.
    pub base: Ulid,
    /// The delta against `base`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta: Option<Ulid>,
    /// Digest of the tree ([`super::tree::digest`]).
    pub tree: Hash,
    /// Files, links and empty folders.
    pub files: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// When it was published.
    pub created: Timestamp,
    /// The runtime that the plan chose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// What the author said, cut at 200 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Who published it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The commit it was published from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The number of the version that this one brings back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<u64>,
    /// Names for this version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
    /// Whether it is locked: thinning keeps it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub locked: bool,
    /// Until when it is locked; absent in a locked row: until somebody takes the lock back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked_until: Option<Timestamp>,
    /// What a later release added.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

impl Row {
    /// Whether it is locked at a time.
    pub fn is_locked(&self, now: Timestamp) -> bool {
        self.locked && self.locked_until.is_none_or(|until| until > now)
    }
}

impl Reference {
    /// A name that is claimed and has no version yet.
    pub fn claimed(root: Ulid) -> Self {
        Self {
            format: FORMAT,
            root,
            deleted: false,
            current: 0,
            nonces: Vec::new(),
            collections: 0,
            collection: None,
            route: None,
            stopped: false,
            retry: None,
            retention: None,
            rows: Vec::new(),
            other: BTreeMap::new(),
        }
    }

    /// What remains of a workspace while its data is deleted.
    pub fn tombstone(root: Ulid, nonces: Vec<Ulid>) -> Self {
        Self { deleted: true, nonces, ..Self::claimed(root) }
    }

    /// Reads the object.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        #[derive(Deserialize)]
        struct Probe {
            format: u32,
        }
        if bytes.len() as u64 > MAX_READ {
            return Err(FormatError::OverLimit { what: "the ref", limit: MAX_READ });
        }
        let not_a_ref = |error: serde_json::Error| FormatError::damaged(format!("it is no ref: {error}"));
        // The number first: a newer format may not fit the rest.
        let probe: Probe = serde_json::from_slice(bytes).map_err(not_a_ref)?;
        if probe.format > FORMAT {
            return Err(FormatError::Newer { found: probe.format });
        }
        let mut reference: Self = serde_json::from_slice(bytes).map_err(not_a_ref)?;
        let found = reference.other.remove(sum::FIELD);
        sum::verify(bytes, found.as_ref(), &reference.nonces)?;
        let ascending = reference.rows.windows(2).all(|pair| pair[0].number < pair[1].number);
        if !ascending || reference.rows.last().is_some_and(|row| row.number > reference.current) {
            return Err(FormatError::damaged("its versions are not in order"));
        }
        let numbers = reference.rows.iter().flat_map(|row| [row.files, row.bytes, row.origin.unwrap_or(0)]);
        if numbers.chain([reference.current, reference.collections]).any(|number| number > MAX_NUMBER) {
            return Err(FormatError::OverLimit { what: "a number in the ref", limit: MAX_NUMBER });
        }
        Ok(reference)
    }

    /// The object's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Nothing here can fail to serialise: all keys are text and all numbers are integers.
        let mut object = serde_json::to_vec(self).unwrap_or_default();
        if let Some(nonce) = self.nonces.last() {
            sum::append(&mut object, *nonce);
        }
        object
    }

    /// Whether there is anything to see: neither deleted nor merely claimed.
    pub fn is_visible(&self) -> bool {
        !self.deleted && !self.rows.is_empty()
    }

    /// The current version.
    pub fn current_row(&self) -> Option<&Row> {
        self.row(self.current)
    }

    /// The version with this number, if it is kept.
    pub fn row(&self, number: u64) -> Option<&Row> {
        self.rows.iter().find(|row| row.number == number)
    }

    /// The version that bears a tag.
    pub fn tagged(&self, tag: &Tag) -> Option<&Row> {
        self.rows.iter().find(|row| row.tags.contains(tag))
    }

    /// The version that is meant.
    pub fn select(&self, version: &Version) -> Option<&Row> {
        match version {
            Version::Current => self.current_row(),
            Version::Number(number) => self.row(*number),
            Version::Tag(tag) => self.tagged(tag),
        }
    }

    /// Takes a tag away from whichever version bears it.
    pub fn untag(&mut self, tag: &Tag) {
        for row in &mut self.rows {
            row.tags.retain(|present| present != tag);
        }
    }

    /// Moves a tag to the version with this number.
    pub fn tag(&mut self, tag: &Tag, number: u64) {
        self.untag(tag);
        for row in &mut self.rows {
            if row.number == number {
                row.tags.push(tag.clone());
                row.tags.sort();
            }
        }
    }

    /// Leaves the mark of a swap.
    pub fn sign(&mut self, nonce: Ulid) {
        self.nonces.push(nonce);
        let surplus = self.nonces.len().saturating_sub(NONCES);
        self.nonces.drain(..surplus);
    }

    /// Whether a swap with this nonce is among the last ones.
    pub fn bears(&self, nonce: Ulid) -> bool {
        self.nonces.contains(&nonce)
    }
}

/// Cuts a message to what a row keeps, at a character's edge.
pub fn cut_message(message: &str) -> String {
    let line = message.trim();
    let mut end = line.len().min(MAX_MESSAGE);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line[..end].to_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub fn sample() -> Reference {
        let mut reference = Reference::claimed(Ulid::from_parts(1, 1));
        reference.current = 2;
        reference.rows = vec![
            Row {
                id: Ulid::from_parts(2, 2),
                number: 1,
                base: Ulid::from_parts(3, 3),
                delta: None,
                tree: Hash::of(b"tree"),
                files: 3,
                bytes: 4_096,
                created: Timestamp::from_second(1_700_000_000).unwrap(),
                runtime: None,
                message: None,
                author: None,
                commit: None,
                origin: None,
                tags: vec![],
                locked: false,
                locked_until: None,
                other: BTreeMap::new(),
            },
            Row {
                id: Ulid::from_parts(4, 4),
                number: 2,
                base: Ulid::from_parts(3, 3),
                delta: Some(Ulid::from_parts(5, 5)),
                tree: Hash::of(b"tree2"),
                files: 4,
                bytes: 4_097,
                created: Timestamp::from_second(1_700_000_100).unwrap(),
                runtime: Some("node".into()),
                message: Some("second".into()),
                author: Some("Ada <ada@example.org>".into()),
                commit: Some("0123456789abcdef0123456789abcdef01234567".into()),
                origin: None,
                tags: vec!["v2.0".parse().unwrap()],
                locked: false,
                locked_until: None,
                other: BTreeMap::new(),
            },
        ];
        reference.sign(Ulid::from_parts(6, 6));
        reference
    }

    #[test]
    fn golden_bytes() {
        insta::assert_snapshot!(String::from_utf8(sample().to_bytes()).unwrap(), @r#"{"format":1,"root":"00000000010000000000000001","current":2,"nonces":["00000000060000000000000006"],"collections":0,"rows":[{"id":"00000000020000000000000002","number":1,"base":"00000000030000000000000003","tree":"6baa6c9f461fe834a9da0ebb62e0f6fb8c11988a58cbc51b8da8040aea19bc3a","files":3,"bytes":4096,"created":"2023-11-14T22:13:20Z"},{"id":"00000000040000000000000004","number":2,"base":"00000000030000000000000003","delta":"00000000050000000000000005","tree":"3cd216f8f275915a68a25b70eaaa532e9be2ea4e2db33d1748330516803a4474","files":4,"bytes":4097,"created":"2023-11-14T22:15:00Z","runtime":"node","message":"second","author":"Ada <ada@example.org>","commit":"0123456789abcdef0123456789abcdef01234567","tags":["v2.0"]}],"sum":{"swap":"00000000060000000000000006","blake3":"b3ac51e171a0b2ccd40d06d0eda2e2e33662eda8524c0fd5c05c3751b3a8637a"}}"#);
    }

    /// Before there were sums.
    #[test]
    fn golden_bytes_of_the_first_release() {
        let bytes = br#"{"format":1,"root":"00000000010000000000000001","current":2,"nonces":["00000000060000000000000006"],"collections":0,"rows":[{"id":"00000000020000000000000002","number":1,"base":"00000000030000000000000003","tree":"6baa6c9f461fe834a9da0ebb62e0f6fb8c11988a58cbc51b8da8040aea19bc3a","files":3,"bytes":4096,"created":"2023-11-14T22:13:20Z"},{"id":"00000000040000000000000004","number":2,"base":"00000000030000000000000003","delta":"00000000050000000000000005","tree":"3cd216f8f275915a68a25b70eaaa532e9be2ea4e2db33d1748330516803a4474","files":4,"bytes":4097,"created":"2023-11-14T22:15:00Z","runtime":"node","message":"second","author":"Ada <ada@example.org>","commit":"0123456789abcdef0123456789abcdef01234567","tags":["v2.0"]}]}"#;
        assert_eq!(Reference::parse(bytes), Ok(sample()));
    }

    #[test]
    fn reads_what_it_writes() {
        assert_eq!(Reference::parse(&sample().to_bytes()), Ok(sample()));
    }

    #[test]
    fn carries_along_what_a_later_release_added() {
        let mut json: Value = serde_json::from_slice(&sample().to_bytes()).unwrap();
        json["later"] = Value::from(7);
        json["rows"][0]["later"] = Value::from("x");
        json.as_object_mut().unwrap().remove("sum");
        let read = Reference::parse(json.to_string().as_bytes()).unwrap();
        let mut again: Value = serde_json::from_slice(&read.to_bytes()).unwrap();
        again.as_object_mut().unwrap().remove("sum");
        assert_eq!(again, json);
    }

    proptest! {
        /// Read and written again and again, a number must not wander off.
        #[test]
        fn carries_along_numbers_as_they_are(number in any::<f64>().prop_filter("JSON has no others", |number| number.is_finite())) {
            let text = number.to_string();
            let later = format!(r#"{{"later":{text},"format""#);
            let object = String::from_utf8(sample().to_bytes()).unwrap().replacen(r#"{"format""#, &later, 1);
            let unsummed = object.split(r#","sum""#).next().unwrap().to_owned() + "}";
            let read = Reference::parse(unsummed.as_bytes()).unwrap();
            let again = Reference::parse(&read.to_bytes()).unwrap();
            prop_assert_eq!(again.other["later"].as_f64(), Some(number));
        }
    }

    /// What fits into 64 bits stays to the digit; what does not, a later release has to write as text.
    #[test]
    fn carries_along_whole_numbers_to_the_digit() {
        for number in ["18446744073709551615", "-9223372036854775808", "9007199254740993", "0", "-1"] {
            let mut read = sample();
            read.other.insert("later".to_owned(), serde_json::from_str(number).unwrap());
            let again = Reference::parse(&read.to_bytes()).unwrap();
            assert_eq!(again.other["later"].to_string(), number);
        }
    }

    #[test]
    fn refuses_a_newer_format_and_damage() {
        assert_eq!(Reference::parse(br#"{"format":2,"anything":[]}"#), Err(FormatError::Newer { found: 2 }));
        assert!(matches!(Reference::parse(b""), Err(FormatError::Damaged(_))));
        assert!(matches!(Reference::parse(br#"{"format":1}"#), Err(FormatError::Damaged(_))));
        let whole = sample().to_bytes();
        assert!(Reference::parse(&whole[..whole.len() - 1]).is_err());
    }

    #[test]
    fn tags_move() {
        let mut reference = sample();
        let tag: Tag = "v2.0".parse().unwrap();
        reference.tag(&tag, 1);
        assert_eq!(reference.tagged(&tag).unwrap().number, 1);
        assert_eq!(reference.rows.iter().filter(|row| row.tags.contains(&tag)).count(), 1);
        reference.untag(&tag);
        assert_eq!(reference.tagged(&tag), None);
    }

    #[test]
    fn messages_are_cut_at_characters() {
        assert_eq!(cut_message(&"ä".repeat(150)).len(), 200);
        assert_eq!(cut_message(&format!("x{}", "ä".repeat(150))).len(), 199);
    }
}
