//! Versions that no upload makes, put into the bucket by somebody who may write to it.

#![allow(dead_code, reason = "no test file uses everything")]

use std::io::Write;

use jiff::Timestamp;
use serde_json::{Value, json};
use ulid::Ulid;
use workspace::format::manifest::{self, Header};
use workspace::format::{Entry, FORMAT, Hash, Manifest, Reference, keys, tree};
use workspace::format::{Keys, pack};

use super::bucket::Bucket;

/// The root of every forged workspace.
pub const ROOT: Ulid = Ulid::from_parts(1, 1);
/// Its manifest, its pack, its row.
pub const MANIFEST: Ulid = Ulid::from_parts(2, 2);
pub const PACK: Ulid = Ulid::from_parts(3, 3);
pub const ROW: Ulid = Ulid::from_parts(4, 4);

/// A version in the making: lines of a manifest, and one pack.
pub struct Forged {
    /// The first line.
    pub header: Value,
    /// What follows it.
    pub lines: Vec<String>,
    /// The pack.
    pub pack: Vec<u8>,
    /// The ref.
    pub reference: Value,
}

impl Forged {
    /// A version of these files, honest in all that this says nothing of: a pack of one frame, and a manifest that fits it. Paths
    /// are taken as they are.
    pub fn of(files: &[(&str, &str)]) -> Self {
        let mut builder = pack::FrameBuilder::default();
        for (_, content) in files {
            builder.add("x", false, 0, Hash::of(content.as_bytes()), content.as_bytes()).unwrap();
        }
        let frame = builder.finish().unwrap();
        let mut lines = vec![
            json!({"pack": PACK, "size": frame.bytes.len()}).to_string(),
            json!({"frame": [0, 0, frame.bytes.len(), frame.raw]}).to_string(),
        ];
        for ((path, content), stored) in files.iter().zip(&frame.contents) {
            lines.push(file_line(path, content, 0, stored.offset));
        }
        Self::with(lines, frame.bytes, files.len())
    }

    /// A version of these lines.
    pub fn with(lines: Vec<String>, pack: Vec<u8>, entries: usize) -> Self {
        let zero = "0".repeat(64);
        let header = json!({"format": 1, "reader": 1, "created": "2026-01-01T00:00:00Z", "tree": zero, "files": entries, "bytes": 0});
        let reference = json!({
            "format": 1, "root": ROOT, "current": 1,
            "rows": [{"id": ROW, "number": 1, "base": MANIFEST, "tree": zero, "files": entries, "bytes": 0,
                "created": "2026-01-01T00:00:00Z"}],
        });
        let mut forged = Self { header, lines, pack, reference };
        let packs = forged.lines.iter().filter(|line| line.starts_with("{\"pack\"")).count();
        let frames = forged.lines.iter().filter(|line| line.starts_with("{\"frame\"")).count();
        forged.lines.push(json!({"end": [packs, frames, entries, 0]}).to_string());
        forged
    }

    /// A version of these entries, with a digest that fits: nothing is wrong with it but what it consists of.
    pub fn sound(mut entries: Vec<(&str, Node)>) -> Self {
        entries.sort_by_key(|(path, _)| (*path).to_owned());
        let contents: Vec<&str> = entries.iter().filter_map(|(_, node)| node.content()).collect();
        let mut builder = pack::FrameBuilder::default();
        for content in &contents {
            builder.add("x", false, 0, Hash::of(content.as_bytes()), content.as_bytes()).unwrap();
        }
        let frame = builder.finish().unwrap();
        let mut lines = vec![
            json!({"pack": PACK, "size": frame.bytes.len()}).to_string(),
            json!({"frame": [0, 0, frame.bytes.len(), frame.raw]}).to_string(),
        ];
        let mut stored = frame.contents.iter();
        for (path, node) in &entries {
            lines.push(match node {
                Node::File(content, executable) => {
                    let line = file_line(path, content, 0, stored.next().unwrap().offset);
                    if *executable { line.replacen("{\"", "{\"x\":true,\"", 1) } else { line }
                }
                Node::Link(target) => json!({"link": path, "to": target}).to_string(),
                Node::Folder => json!({"dir": path}).to_string(),
            });
        }
        let count = lines.len() - 2;
        Self::with(lines, frame.bytes, count).fitting()
    }

    /// With the digest and the sums that the lines have, as far as they can be read.
    pub fn fitting(mut self) -> Self {
        let base = Ulid::from_parts(9, 9);
        let empty = Manifest { header: bare(&[]), packs: vec![], frames: vec![], entries: vec![] };
        self.header["base"] = json!(base);
        let (read, _) = manifest::decode_changes(&self.manifest(), base, &empty).unwrap();
        self.header.as_object_mut().unwrap().remove("base");
        let bytes: u64 = read.entries.iter().map(Entry::size).sum();
        for place in [&mut self.header, &mut self.reference["rows"][0]] {
            place["tree"] = json!(tree::digest(&read.entries));
            place["files"] = json!(read.entries.len());
            place["bytes"] = json!(bytes);
        }
        self
    }

    /// The manifest's object.
    pub fn manifest(&self) -> Vec<u8> {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
        writeln!(encoder, "{}", self.header).unwrap();
        for line in &self.lines {
            writeln!(encoder, "{line}").unwrap();
        }
        encoder.finish().unwrap()
    }

    /// Puts it there.
    pub fn publish(&self, bucket: &Bucket, name: &str) {
        self.publish_as(bucket, name, self.manifest());
    }

    /// The same, with another object for a manifest.
    pub fn publish_as(&self, bucket: &Bucket, name: &str, manifest: Vec<u8>) {
        let name = name.parse().unwrap();
        let keys = Keys::new(&name, ROOT);
        bucket.put(&keys.pack(PACK), self.pack.clone());
        bucket.put(&keys.manifest(MANIFEST), manifest);
        bucket.put(&keys::reference(&name), self.reference.to_string().into_bytes());
    }

    /// Adds what a version says of itself, to the manifest and to the row.
    pub fn saying(mut self, field: &str, value: Value) -> Self {
        self.header[field] = value.clone();
        self.reference["rows"][0][field] = value;
        self
    }

    /// The ref, as it is read.
    pub fn parsed(&self) -> Reference {
        Reference::parse(self.reference.to_string().as_bytes()).unwrap()
    }
}

/// What stands at a path.
#[derive(Debug, Clone, Copy)]
pub enum Node<'a> {
    /// A file, and whether it can be executed.
    File(&'a str, bool),
    /// A link.
    Link(&'a str),
    /// A folder with nothing in it.
    Folder,
}

impl<'a> Node<'a> {
    fn content(&self) -> Option<&'a str> {
        match self {
            Self::File(content, _) => Some(*content),
            _ => None,
        }
    }
}

/// The line of a file in a frame.
pub fn file_line(path: &str, content: &str, frame: u32, offset: u32) -> String {
    let hash = Hash::of(content.as_bytes());
    json!({"file": path, "size": content.len(), "mtime": 1_700_000_000, "hash": hash, "at": [frame, offset]})
        .to_string()
}

fn bare(entries: &[Entry]) -> Header {
    let header = json!({"format": FORMAT, "reader": FORMAT, "created": Timestamp::UNIX_EPOCH, "tree": tree::digest(entries),
        "files": 0, "bytes": 0});
    serde_json::from_value(header).unwrap()
}

/// A zstd frame of so many equal bytes, in blocks of 128 KiB that say one byte each
/// (<https://github.com/facebook/zstd/blob/dev/doc/zstd_compression_format.md#blocks>): 10 GiB have 320 KiB.
pub fn run_of(byte: u8, length: u64) -> Vec<u8> {
    const BLOCK: u64 = 128 << 10;
    // The magic number; no size, no checksum; a window of 128 KiB.
    let mut bytes = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3];
    let mut left = length;
    loop {
        let size = left.min(BLOCK);
        left -= size;
        let header = u32::try_from(size << 3).unwrap() | 1 << 1 | u32::from(left == 0);
        bytes.extend_from_slice(&header.to_le_bytes()[..3]);
        bytes.push(byte);
        if left == 0 {
            return bytes;
        }
    }
}
