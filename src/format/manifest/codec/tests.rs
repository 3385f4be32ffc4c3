//! Golden bytes, composition of deltas, and manifests made by an enemy.

use proptest::prelude::*;

use super::*;
use crate::format::manifest::{Location, ManifestBuilder};

fn path(text: &str) -> TreePath {
    text.parse().unwrap()
}

fn location(pack: u64, frame: u64, offset: u32, length: u32) -> Location {
    Location {
        pack: PackInfo { id: Ulid::from_parts(pack, 1), size: 1 << 20 },
        frame_offset: frame,
        frame_length: 1_000,
        frame_raw: 1 << 20,
        offset,
        length,
    }
}

fn file(builder: &mut ManifestBuilder, name: &str, content: &[u8], place: Location) {
    let hash = Hash::of(content);
    let kind = Kind::File {
        executable: name.ends_with("sh"),
        size: content.len() as u64,
        mtime: 1_700_000_000,
        hash,
        content: if content.is_empty() { Content::Empty } else { builder.content(&[(hash, place)], false) },
    };
    builder.push(Entry { path: path(name), kind });
}

fn sample() -> Manifest {
    let mut builder = ManifestBuilder::default();
    file(&mut builder, "run.sh", b"#!/bin/sh\n", location(1, 0, 512, 10));
    file(&mut builder, "empty", b"", location(1, 0, 0, 0));
    file(&mut builder, "n\u{e4}me\n\u{1f980}", b"x", location(1, 0, 2_048, 1));
    let parts: Vec<(Hash, Location)> =
        [&b"one"[..], b"two"].iter().map(|part| (Hash::of(part), location(2, 7, 512, 3))).collect();
    let content = builder.content(&parts, true);
    builder.push(Entry {
        path: path("large.bin"),
        kind: Kind::File { executable: false, size: 6, mtime: -5, hash: Hash::of(b"onetwo"), content },
    });
    builder.push(Entry { path: path("latest"), kind: Kind::Link { target: "v2".into() } });
    builder.push(Entry { path: path("void/of"), kind: Kind::Directory });
    let mut manifest = builder.finish(Header::bare(&[]));
    manifest.header = Header::bare(&manifest.entries);
    manifest
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(zstd::stream::decode_all(bytes).unwrap()).unwrap()
}

fn packed(lines: &str) -> Vec<u8> {
    zstd::stream::encode_all(lines.as_bytes(), 3).unwrap()
}

#[test]
fn golden_lines() {
    insta::assert_snapshot!(text(&encode(&sample())), @r#"
    {"format":1,"reader":1,"created":"2023-11-14T22:13:20Z","tree":"ebd3efbc844eb6a2e80711b23b0ee5654ff7cc2181f51f4eeecc01acbc5589ca","files":6,"bytes":17}
    {"pack":"00000000010000000000000001","size":1048576}
    {"pack":"00000000020000000000000001","size":1048576}
    {"frame":[0,0,1000,1048576]}
    {"frame":[1,7,1000,1048576]}
    {"file":"empty","size":0,"mtime":1700000000,"hash":"af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"}
    {"file":"large.bin","size":6,"mtime":-5,"hash":"e40f1b7ca51a482112d1c87474ae9695b272ddcb4f2c78af9c4aea21e5a960e5","parts":[[1,512,3,"d33fb48ab5adff269ae172b29a6913ff04f6f266207a7a8e976f2ecd571d4492"],[1,512,3,"dc770fff53f50835f8cc957e01c0d5731d3c2ed544c375493a28c09be5e09763"]]}
    {"link":"latest","to":"v2"}
    {"file":"näme\n🦀","size":1,"mtime":1700000000,"hash":"3ae7d805f6789a6402acb70ad4096a85a56bf6804eaf25c0493ac697548d30b5","at":[0,2048]}
    {"file":"run.sh","x":true,"size":10,"mtime":1700000000,"hash":"bc1f407a11c9377c8b9b13f956b279c8462775105eb958fc9ae3c40de87cc96e","at":[0,512]}
    {"dir":"void/of"}
    {"end":[2,2,6,0]}
    "#);
}

#[test]
fn golden_tree_digest() {
    insta::assert_snapshot!(sample().header.tree.to_string(), @"ebd3efbc844eb6a2e80711b23b0ee5654ff7cc2181f51f4eeecc01acbc5589ca");
}

#[test]
fn golden_delta() {
    let base = sample();
    let mut builder = ManifestBuilder::on(Some(&base));
    for entry in &base.entries {
        if entry.path.as_str() != "run.sh" && entry.path.as_str() != "latest" {
            builder.push(entry.clone());
        }
    }
    file(&mut builder, "run.sh", b"#!/bin/bash\n", location(3, 0, 512, 12));
    let mut new = builder.finish(Header::bare(&[]));
    new.header = Header::bare(&new.entries);
    let bytes = encode_delta(Ulid::from_parts(9, 9), &base, &new);
    insta::assert_snapshot!(text(&bytes), @r#"
    {"format":1,"reader":1,"base":"00000000090000000000000009","created":"2023-11-14T22:13:20Z","tree":"024e62239348977be014d49ac421393282c151aa2bf2ff7c71eefb6996de22c8","files":5,"bytes":19}
    {"pack":"00000000030000000000000001","size":1048576}
    {"frame":[2,0,1000,1048576]}
    {"file":"run.sh","x":true,"size":12,"mtime":1700000000,"hash":"923681effa64bcf17f7bd1473792e13d675de4452545a54d292703bc90f52f6e","at":[2,512]}
    {"gone":"latest"}
    {"end":[1,1,1,1]}
    "#);
    assert_eq!(decode_delta(&bytes, Ulid::from_parts(9, 9), &base), Ok(new));
    assert!(decode_delta(&bytes, Ulid::from_parts(9, 8), &base).is_err());
    assert!(decode(&bytes).is_err());
}

#[test]
fn reads_what_it_writes() {
    assert_eq!(decode(&encode(&sample())), Ok(sample()));
}

#[test]
fn the_header_is_read_from_the_first_bytes() {
    let bytes = encode(&sample());
    assert_eq!(read_header(&bytes), Ok(sample().header));
    let cut = text(&bytes).find('\n').unwrap();
    assert!(cut < 1_000);
    // The first frame alone is enough.
    let mut first = Vec::new();
    frame(&mut first, |out| line(out, &sample().header));
    assert!(bytes.starts_with(&first));
    assert_eq!(read_header(&first), Ok(sample().header));
}

#[test]
fn truncation_anywhere_is_noticed() {
    let bytes = encode(&sample());
    for end in 0..bytes.len() {
        assert!(decode(&bytes[..end]).is_err(), "{end} of {}", bytes.len());
    }
}

#[test]
fn compaction_drops_what_nothing_needs() {
    let mut manifest = sample();
    manifest.entries.retain(|entry| entry.path.as_str() == "large.bin");
    manifest.header = Header::bare(&manifest.entries);
    let compacted = manifest.compacted();
    assert_eq!((compacted.packs.len(), compacted.frames.len()), (1, 1));
    assert_eq!(decode(&encode(&compacted)), Ok(compacted));
}

/// Each line of the sample replaced by something hostile.
#[test]
fn hostile_manifests_are_refused() {
    let honest = text(&encode(&sample()));
    let swap = |from: &str, to: &str| {
        assert!(honest.contains(from), "{from} is not in\n{honest}");
        decode(&packed(&honest.replacen(from, to, 1)))
    };
    let reason = |result: Result<Manifest, FormatError>| result.unwrap_err().to_string();
    assert!(swap("\"file\":\"run.sh\"", "\"file\":\"../run.sh\"").is_err());
    assert!(swap("\"file\":\"run.sh\"", "\"file\":\"/run.sh\"").is_err());
    assert!(swap("\"file\":\"run.sh\"", "\"file\":\"a//b\"").is_err());
    assert!(swap("\"file\":\"run.sh\"", "\"file\":\".workspace/x\"").is_err());
    assert!(swap("\"file\":\"run.sh\"", "\"file\":\"empty\"").is_err());
    assert!(reason(swap("\"file\":\"run.sh\"", "\"file\":\"latest/run.sh\"")).contains("out of order"));
    assert!(reason(swap("\"dir\":\"void/of\"", "\"dir\":\"run.sh/of\"")).contains("below something"));
    assert!(swap("\"at\":[0,512]", "\"at\":[0,4294967295]").is_err());
    assert!(swap("\"at\":[0,512]", "\"at\":[99,512]").is_err());
    assert!(swap("\"size\":10", "\"size\":18446744073709551615").is_err());
    assert!(swap("\"size\":6", "\"size\":7").is_err());
    assert!(swap("\"frame\":[0,0,1000,1048576]", "\"frame\":[0,18446744073709551615,1000,1048576]").is_err());
    assert!(swap("\"frame\":[0,0,1000,1048576]", "\"frame\":[0,0,1000,4294967295]").is_err());
    assert!(swap("\"frame\":[0,0,1000,1048576]", "\"frame\":[7,0,1000,1048576]").is_err());
    assert!(reason(swap("\"to\":\"v2\"", "\"to\":\"v3\"")).contains("tree digest"));
    assert!(reason(swap("\"x\":true,", "")).contains("tree digest"));
    assert!(reason(swap("\"end\":[2,", "\"end\":[3,")).contains("counts"));
    assert_eq!(swap("\"reader\":1", "\"reader\":2"), Err(FormatError::Newer { found: 2 }));
}

/// One range request brings a whole frame into memory.
#[test]
fn a_frame_could_be_as_long_as_its_pack_claimed_to_be() {
    let honest = text(&encode(&sample()));
    let with = |length: u64| {
        let text = honest.replace("\"size\":1048576", "\"size\":8589934592");
        decode(&packed(&text.replacen("[0,0,1000,1048576]", &format!("[0,0,{length},1048576]"), 1)))
    };
    assert!(with(2 << 20).is_ok());
    assert!(with(u64::from(u32::MAX)).is_err());
}

#[test]
fn a_bomb_is_refused_before_it_fills_the_memory() {
    let bomb = zstd::stream::encode_all(std::io::repeat(b'x').take(64 << 20), 3).unwrap();
    assert!(bomb.len() < 64 << 10);
    assert!(matches!(decode(&bomb), Err(FormatError::OverLimit { .. })));
}

/// Trees over few names, so that two of them share much and differ in kind at the same place.
fn arbitrary_tree() -> impl Strategy<Value = Vec<(String, u8)>> {
    let name = prop::sample::select(vec!["a", "b", "a/b", "a/c", "a/b/c", "a b", "a-b", "a.b", "\u{e4}", "z/\n"]);
    prop::collection::btree_map(name.prop_map(str::to_owned), 0_u8..6, 0..8).prop_map(|map| {
        let all: Vec<(String, u8)> = map.into_iter().collect();
        let is_parent = |path: &str| {
            all.iter().any(|(other, _)| other.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')))
        };
        all.iter().filter(|(path, _)| !is_parent(path)).cloned().collect()
    })
}

fn build(tree: &[(String, u8)], base: Option<&Manifest>) -> Manifest {
    let mut builder = ManifestBuilder::on(base);
    for (name, kind) in tree {
        match kind {
            0 => builder.push(Entry { path: path(name), kind: Kind::Directory }),
            1 => builder.push(Entry { path: path(name), kind: Kind::Link { target: "t".into() } }),
            n => file(
                &mut builder,
                name,
                &vec![*n; usize::from(*n) - 2],
                location(u64::from(*n), 0, 512, u32::from(*n) - 2),
            ),
        }
    }
    let mut manifest = builder.finish(Header::bare(&[]));
    manifest.header = Header::bare(&manifest.entries);
    manifest
}

#[test]
fn what_no_reader_would_take_is_told_from_what_memory_has_damaged() {
    let folders = |count: usize| {
        let mut builder = ManifestBuilder::default();
        for number in 0..count {
            builder.push(Entry { path: path(&format!("d{number}")), kind: Kind::Directory });
        }
        let mut manifest = builder.finish(Header::bare(&[]));
        manifest.header = Header::bare(&manifest.entries);
        manifest
    };
    let (most, more) = (folders(MAX_COUNT), folders(MAX_COUNT + 1));
    let over = FormatError::OverLimit { what: "the number of entries", limit: MAX_COUNT as u64 };
    assert_eq!(holds(&encode(&most), &most), Ok(true));
    assert_eq!(holds(&encode(&more), &more), Err(over.clone()));
    // A delta with few lines makes a version with too many entries.
    let id = Ulid::from_parts(1, 2);
    assert_eq!(delta_holds(&encode_delta(id, &most, &more), id, &most, &more), Err(over));
}

proptest! {
    #[test]
    fn any_delta_composes(one in arbitrary_tree(), two in arbitrary_tree()) {
        let base = build(&one, None);
        let new = build(&two, Some(&base));
        let id = Ulid::from_parts(1, 2);
        let read = decode_delta(&encode_delta(id, &base, &new), id, &base).unwrap();
        prop_assert_eq!(&read, &new);
        prop_assert_eq!(decode(&encode(&new.compacted())).unwrap().entries.len(), new.entries.len());
        prop_assert_eq!(read.header.tree == base.header.tree,
            base.entries.len() == new.entries.len() && base.entries.iter().zip(&new.entries).all(|(a, b)| a.same_as(b)));
    }

    #[test]
    fn what_is_sent_is_read_again_before(
        one in arbitrary_tree(), two in arbitrary_tree(), three in arbitrary_tree(), at in any::<prop::sample::Index>(), bit in 0_u8..8,
    ) {
        let base = build(&one, None);
        let (new, other) = (build(&two, Some(&base)), build(&three, Some(&base)));
        let id = Ulid::from_parts(1, 2);
        let delta = encode_delta(id, &base, &new);
        prop_assert!(delta_holds(&delta, id, &base, &new).unwrap());
        prop_assert_eq!(delta_holds(&delta, id, &base, &other).unwrap(), new == other);
        prop_assert!(!delta_holds(&delta, Ulid::from_parts(3, 4), &base, &new).unwrap());
        let (whole, different) = (new.compacted(), other.compacted());
        let bytes = encode(&whole);
        prop_assert!(holds(&bytes, &whole).unwrap());
        prop_assert_eq!(holds(&bytes, &different).unwrap(), whole == different);
        for (bytes, is_delta) in [(delta, true), (bytes, false)] {
            let mut flipped = bytes.clone();
            flipped[at.index(bytes.len())] ^= 1 << bit;
            let held = if is_delta { delta_holds(&flipped, id, &base, &new) } else { holds(&flipped, &whole) };
            let held = held.unwrap_or(false);
            // A bit that zstd does not use is the only one that may be another.
            prop_assert!(!held || text(&flipped) == text(&bytes));
        }
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
        let _ = decode(&packed(&String::from_utf8_lossy(&bytes)));
        let _ = crate::format::Reference::parse(&bytes);
    }
}
