//! What strangers' bytes are read by, and what has to hold whatever they are. Shared by libFuzzer's targets in this folder and
//! by `tests/fuzz_corpus.rs`, which needs nothing but the stable compiler.
//!
//! A target gets any bytes. Beside panics it looks for: what parses and is not the same once written and parsed again; what
//! parses although it is beyond a limit; an error that repeats what it must not.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::Write;
use std::path::Path;
use std::str::FromStr;

use jiff::Timestamp;
use ulid::Ulid;
use workspace::application::{self, Plan, SourceTree};
use workspace::archive::ArchiveUrl;
use workspace::format::archive::{MAX_MANIFEST, TRAILER, Trailer};
use workspace::format::collection::List;
use workspace::format::grant::Grant;
use workspace::format::host::{Confirmation, Host};
use workspace::format::lease::Lease;
use workspace::format::lock::Lock;
use workspace::format::manifest::{self, Frame, Header, PackInfo};
use workspace::format::reference::{self, MAX_NUMBER, Reference};
use workspace::format::tree::{self, MAX_DEPTH, MAX_PART, MAX_PATH};
use workspace::format::{Entry, Keys, Kind, Manifest, keys, pack, retention};
use workspace::names::{Pattern, Selector, Tag, WorkspaceName};
use workspace::settings::EnvFile;
use workspace::source::pattern::Patterns;

/// What reads bytes, and looks at what came of it.
pub type Target = fn(&[u8]);

/// All targets, by the names of their folders in `fuzz/corpus`.
pub const ALL: [(&str, Target); 14] = [
    ("archive_footer", archive_footer),
    ("env_file", env_file),
    ("frame", frame),
    ("host", host),
    ("ignore_patterns", ignore_patterns),
    ("keys", object_keys),
    ("manifest", manifest_object),
    ("manifest_lines", manifest_lines),
    ("names", names),
    ("pack_table", pack_table),
    ("procfile", procfile),
    ("records", records),
    ("reference", reference_object),
    ("workspace_yaml", workspace_yaml),
];

/// The manifest that the deltas of [`manifest_lines`] name, which has nothing in it.
pub const BASE: Ulid = Ulid::from_parts(9, 9);

/// Of a version that consists of these entries.
pub fn header(entries: &[Entry]) -> Header {
    Header::of(entries, Timestamp::constant(1_700_000_000, 0))
}

fn nothing() -> Manifest {
    Manifest { header: header(&[]), packs: Vec::new(), frames: Vec::new(), entries: Vec::new() }
}

/// A manifest's object.
pub fn manifest_object(bytes: &[u8]) {
    let _ = manifest::read_header(bytes);
    if let Ok(read) = manifest::decode(bytes) {
        is_sound(&read);
        comes_back(&read);
        // A delta that changes nothing, and one that takes everything away.
        let same = manifest::encode_delta(BASE, &read, &read);
        assert_eq!(manifest::decode_delta(&same, BASE, &read), Ok(read.clone()));
        let emptied = Manifest { entries: Vec::new(), header: header(&[]), ..read.clone() };
        let delta = manifest::encode_delta(BASE, &read, &emptied);
        assert_eq!(manifest::decode_delta(&delta, BASE, &read), Ok(emptied));
    }
}

/// The lines of a manifest, which a mutation would hardly ever find through compression and the tree digest.
pub fn manifest_lines(lines: &[u8]) {
    let object = compressed(lines);
    manifest_object(&object);
    if let Ok((read, gone)) = manifest::decode_changes(&object, BASE, &nothing()) {
        assert!(gone.is_sorted());
        let header = Header { base: None, ..header(&read.entries) };
        let mended = Manifest { header, ..read };
        // All that was not looked at so far is whether a file is a parent of something.
        let object = manifest::encode(&mended);
        if manifest::decode(&object).is_ok() {
            is_sound(&mended);
            manifest_object(&object);
        } else {
            let paths: Vec<&str> = mended.entries.iter().map(|entry| entry.path.as_str()).collect();
            let below = |path: &&str| {
                paths.iter().any(|other| other.strip_prefix(*path).is_some_and(|rest| rest.starts_with('/')))
            };
            assert!(paths.iter().any(below), "it is refused, and nobody knows why: {paths:?}");
        }
    }
}

/// Numbers in the places of a manifest: packs, frames, and where contents lie.
pub fn pack_table(bytes: &[u8]) {
    let mut lines = format!(
        "{{\"format\":1,\"reader\":1,\"base\":\"{BASE}\",\"created\":\"2023-11-14T22:13:20Z\",\"tree\":\"{0}\",\"files\":0,\"bytes\":0}}\n",
        "0".repeat(64)
    );
    let (mut packs, mut frames, mut files) = (0, 0, 0);
    for record in bytes.chunks_exact(25).take(1_000) {
        let number = |at: usize| u64::from_le_bytes(record[1 + 8 * at..9 + 8 * at].try_into().unwrap_or_default());
        let (one, two, three) = (number(0), number(1), number(2));
        match record[0] % 4 {
            0 => {
                lines += &format!("{{\"pack\":\"{}\",\"size\":{one}}}\n", Ulid::from_parts(packs, 1));
                packs += 1;
            }
            1 => {
                lines += &format!("{{\"frame\":[{},{one},{two},{three}]}}\n", u64::from(record[0]) / 4);
                frames += 1;
            }
            kind => {
                let hash = "1".repeat(64);
                let place = match kind {
                    2 => format!("\"at\":[{two},{three}]"),
                    _ => format!("\"parts\":[[0,{two},{three},\"{hash}\"],[{two},{three},1,\"{hash}\"]]"),
                };
                lines += &format!(
                    "{{\"file\":\"{files:09}\",\"size\":{one},\"mtime\":{},\"hash\":\"{hash}\",{place}}}\n",
                    two.cast_signed()
                );
                files += 1;
            }
        }
    }
    lines += &format!("{{\"end\":[{packs},{frames},{files},0]}}\n");
    manifest_lines(lines.as_bytes());
}

/// The checks of the reader, once more and in other words.
fn is_sound(manifest: &Manifest) {
    let Manifest { packs, frames, entries, .. } = manifest;
    for Frame { pack, offset, length, raw } in frames {
        let PackInfo { size, .. } = packs[*pack as usize];
        assert!(u128::from(*offset) + u128::from(*length) <= u128::from(size) && *raw <= pack::MAX_FRAME);
    }
    let mut sum = 0_u128;
    for (at, entry) in entries.iter().enumerate() {
        let path = entry.path.as_str();
        assert!(at == 0 || entries[at - 1].path.as_str() < path);
        assert!(path.len() <= MAX_PATH && path.split('/').count() <= MAX_DEPTH && !path.contains('\0'));
        assert!(path.split('/').all(|part| !matches!(part, "" | "." | "..") && part.len() <= MAX_PART));
        assert!(!path.split('/').next().is_some_and(|first| first.eq_ignore_ascii_case(".workspace")));
        let parts = Manifest::parts(entry);
        let bytes: u128 = parts.iter().map(|(part, _)| u128::from(part.length)).sum();
        assert!(parts.iter().all(|(part, _)| {
            u64::from(part.offset) + u64::from(part.length) <= u64::from(frames[part.frame as usize].raw)
        }));
        assert!(bytes == u128::from(entry.size()));
        sum += bytes;
        if let Kind::Link { target } = &entry.kind {
            assert!(!target.is_empty() && !target.contains('\0') && target.len() <= MAX_PATH);
        }
        // What is above it is no file.
        for (slash, _) in path.match_indices('/') {
            assert!(manifest.entry(&path[..slash]).is_none_or(|above| above.kind == Kind::Directory));
        }
    }
    assert_eq!((sum, entries.len() as u64), (u128::from(manifest.header.bytes), manifest.header.files));
}

fn comes_back(manifest: &Manifest) {
    let object = manifest::encode(manifest);
    assert_eq!(manifest::decode(&object).as_ref(), Ok(manifest));
    assert_eq!(manifest::read_header(&object).as_ref(), Ok(&manifest.header));
}

fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).expect("memory");
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// A frame of a pack: four bytes that say how much it has, and the frame.
pub fn frame(bytes: &[u8]) {
    let Some((said, frame)) = bytes.split_first_chunk::<4>() else { return };
    let raw = u32::from_le_bytes(*said);
    if let Ok(content) = pack::decompress(frame, raw) {
        assert!(content.len() == raw as usize && raw <= pack::MAX_FRAME);
    }
    // The bytes as a content: it comes back out of the frame that is made of it.
    let hash = workspace::format::Hash::of(frame);
    let mut builder = pack::FrameBuilder::with_capacity(frame.len());
    if builder.add("a", raw % 2 == 1, i64::from(raw), hash, frame).is_ok() {
        let built = builder.finish().expect("it survives");
        let content = pack::decompress(&built.bytes, built.raw).expect("it is whole");
        let stored = built.contents[0];
        assert_eq!(&content[stored.offset as usize..][..stored.length as usize], frame);
        assert!(pack::decompress(&built.bytes, built.raw.wrapping_add(1)).is_err());
    }
}

/// A ref, and what is done with one that was read.
pub fn reference_object(bytes: &[u8]) {
    let Ok(read) = Reference::parse(bytes) else { return };
    assert!(bytes.len() as u64 <= reference::MAX_READ);
    // No release writes a fraction; one that a later release added may lose its last digit.
    if !has_fractions(&serde_json::json!([read.other, read.rows.iter().map(|row| &row.other).collect::<Vec<_>>()])) {
        stays(&read, Reference::parse(&read.to_bytes()));
    }
    assert!(read.rows.windows(2).all(|pair| pair[0].number < pair[1].number));
    assert!(
        read.current <= MAX_NUMBER && read.rows.iter().all(|row| row.number <= read.current && row.bytes <= MAX_NUMBER)
    );
    let now = Timestamp::constant(1_800_000_000, 0);
    let mut thinned = read.clone();
    retention::thin(&mut thinned, now);
    assert!(thinned.rows.iter().all(|row| read.row(row.number) == Some(row)));
    let spared =
        |row: &&workspace::format::Row| row.number == read.current || row.is_locked(now) || !row.tags.is_empty();
    assert!(read.rows.iter().filter(spared).all(|row| thinned.row(row.number).is_some()));
    let mut tagged = read.clone();
    let tag: Tag = "fuzz".parse().expect("a tag");
    tagged.tag(&tag, read.current);
    assert_eq!(tagged.tagged(&tag), tagged.current_row());
    for row in &read.rows {
        let cut = reference::cut_message(row.message.as_deref().unwrap_or_default());
        assert!(cut.len() <= reference::MAX_MESSAGE);
    }
}

/// A host's record, and what a person confirmed to it.
pub fn host(bytes: &[u8]) {
    if let Ok(read) = Host::parse(bytes)
        && serde_json::to_value(&read).is_ok_and(|value| !has_fractions(&value))
    {
        let _ = read.is_alive(Timestamp::constant(1_800_000_000, 0));
        stays(&read, Host::parse(&read.to_bytes()));
    }
    if let Ok(read) = Confirmation::parse(bytes) {
        stays(&read, Confirmation::parse(&read.to_bytes()));
    }
}

/// Leases, locks, grants, lists of collections, plans.
pub fn records(bytes: &[u8]) {
    if let Ok(read) = Lease::parse(bytes) {
        stays(&read, Lease::parse(&read.to_bytes()));
    }
    if serde_json::from_slice(bytes).is_ok_and(|value| has_fractions(&value)) {
        return;
    }
    if let Ok(read) = Lock::parse(bytes) {
        stays(&read, Lock::parse(&read.to_bytes()));
    }
    if let Ok(read) = Grant::parse(bytes) {
        stays(&read, Grant::parse(&read.to_bytes()));
    }
    if let Ok(read) = serde_json::from_slice::<List>(bytes) {
        let keys = Keys::new(&"a".parse().expect("a name"), BASE);
        assert!(
            read.keys.iter().filter_map(|key| keys.item(key)).all(|item| keys.key(item).starts_with(keys.prefix()))
        );
    }
    if let Ok(read) = serde_json::from_slice::<Plan>(bytes) {
        plan_stays(&read);
    }
}

/// The end of an archive, as the end of objects of several sizes.
pub fn archive_footer(bytes: &[u8]) {
    let long = |at: usize| bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
    let tail = bytes.len().saturating_sub(TRAILER);
    let said = long(tail).wrapping_add(long(tail + 8)).wrapping_add(8 + TRAILER as u64);
    for size in [bytes.len() as u64, said, u64::MAX] {
        let Ok(trailer) = Trailer::parse(bytes, size) else { continue };
        let frame = trailer.frame();
        assert!(frame.start == trailer.data && frame.end == size && trailer.manifest <= MAX_MANIFEST);
        let start = usize::try_from(frame.start).unwrap_or(usize::MAX);
        if let Ok(read) = trailer.read(bytes.get(start..).unwrap_or(bytes)) {
            assert!(read.header.tree == trailer.tree && read.packs.iter().all(|pack| pack.size == trailer.data));
            is_sound(&read);
        }
    }
}

/// `.env`.
pub fn env_file(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let path = Path::new(".env");
    if let Err(reason) = EnvFile::parse(path, text) {
        // It may hold a secret.
        let plain =
            |reason: &str| reason == "it is not a list of `NAME=value`" || reason == "a line is not `NAME=value`";
        let numbered = reason.strip_prefix("line ").and_then(|rest| rest.strip_suffix(" is not `NAME=value`"));
        assert!(plain(&reason) || numbered.is_some_and(|number| number.parse::<usize>().is_ok()), "{reason}");
    }
}

struct Tree(BTreeMap<&'static str, Vec<u8>>);

impl SourceTree for Tree {
    fn contains(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }
    fn read(&self, path: &str) -> std::io::Result<Option<Vec<u8>>> {
        Ok(self.0.get(path).cloned())
    }
    fn paths(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.0.keys().copied())
    }
}

fn plan_of(path: &'static str, bytes: &[u8]) {
    let around = [("index.js", Vec::new()), ("package.json", br#"{"scripts":{"start":"node index.js"}}"#.to_vec())];
    for tree in [BTreeMap::new(), BTreeMap::from(around)] {
        let mut tree = Tree(tree);
        tree.0.insert(path, bytes.to_vec());
        match application::detect(&tree) {
            Ok(application::Detection { plan: Some(plan), .. }) => plan_stays(&plan),
            Ok(_) => {}
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

fn plan_stays(plan: &Plan) {
    let text = serde_json::to_string(plan).expect("a plan can be written");
    stays(plan, serde_json::from_str(&text));
}

/// `workspace.yaml`, alone and beside a Node application.
pub fn workspace_yaml(bytes: &[u8]) {
    plan_of("workspace.yaml", bytes);
}

/// `Procfile`, in the same way.
pub fn procfile(bytes: &[u8]) {
    plan_of("Procfile", bytes);
}

/// What a person types: names, tags, versions, patterns, URLs.
pub fn names(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    same_again::<WorkspaceName>(text);
    same_again::<Tag>(text);
    same_again::<Selector>(text);
    if let Ok(pattern) = text.parse::<Pattern>() {
        let again: Pattern = pattern.to_string().parse().expect("a pattern reads as it is written");
        for name in ["a", "shop", "shop-green", "0"] {
            let name: WorkspaceName = name.parse().expect("a name");
            assert_eq!(pattern.matches(&name), again.matches(&name));
        }
    }
    if let Ok(name) = text.parse::<WorkspaceName>() {
        let key = keys::reference(&name);
        assert_eq!(keys::name_of_reference(&key), Some(name));
        assert!(key.split('/').all(|part| !matches!(part, "" | "." | "..")));
    }
    if let Ok(url) = text.parse::<ArchiveUrl>() {
        // What signs it is never shown.
        assert!(!format!("{url:?}").contains("X-Amz-Signature"));
        let _ = (url.endpoint(), url.expires());
    }
}

/// Keys of objects, as a listing has them.
pub fn object_keys(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Some(name) = keys::name_of_reference(text) {
        assert_eq!(keys::reference(&name), text);
    }
    if let Some(engine) = keys::engine_of_host(text) {
        assert_eq!(keys::host(engine), text);
    }
    let host = keys::host(text);
    assert_eq!(host.matches('/').count(), 1);
    let keys = Keys::new(&"a".parse().expect("a name"), BASE);
    for key in [text.to_owned(), format!("{}{text}", keys.prefix())] {
        if let Some(item) = keys.item(&key) {
            assert_eq!(keys.key(item), key);
        }
    }
    if let Ok(path) = text.parse::<tree::TreePath>() {
        same_again::<tree::TreePath>(path.as_str());
        let plain = Path::new(path.as_str());
        assert!(plain.is_relative() && plain.components().all(|part| matches!(part, std::path::Component::Normal(_))));
    }
    let _ = tree::is_repository(text);
}

/// An ignore file, and paths made of its own lines.
pub fn ignore_patterns(bytes: &[u8]) {
    for ignore_case in [false, true] {
        let Ok(patterns) = Patterns::parse(bytes, ignore_case) else { continue };
        let lines = bytes.split(|byte| *byte == b'\n').count();
        let own = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
        for path in own.take(20).chain([&b"a"[..], b"src/a.js", b"a/b/c", b"\xff\xfe/x", b"Build/x.O"]) {
            for is_directory in [false, true] {
                if let Some(pattern) = patterns.find(path, is_directory) {
                    assert!((1..=lines).contains(&pattern.line));
                }
            }
        }
    }
}

fn same_again<T: FromStr<Err: Debug> + std::fmt::Display + PartialEq + Debug>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string().parse::<T>().expect("it reads as it is written"), value);
    }
}

fn has_fractions(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Number(number) => number.is_f64(),
        serde_json::Value::Array(values) => values.iter().any(has_fractions),
        serde_json::Value::Object(values) => values.values().any(has_fractions),
        _ => false,
    }
}

#[track_caller]
fn stays<T: PartialEq + Debug, E: Debug>(value: &T, again: Result<T, E>) {
    assert_eq!(&again.expect("what is written can be read"), value);
}
