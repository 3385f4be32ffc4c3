//! The bytes of archives, and archives that aren't.

use bytes::BytesMut;
use ulid::Ulid;

use super::*;
use crate::format::manifest::{Header, ManifestBuilder};
use crate::format::pack::{FrameBuilder, Pack, PackBuilder, decompress};
use crate::format::{Entry, Kind};

/// A file, its executable bit, its content, and whether it is cut.
type Sample = (&'static str, bool, Vec<Vec<u8>>);

/// A version whose files lie in one pack, and the pack.
fn version(samples: &[Sample], others: &[Entry]) -> (Manifest, Pack) {
    let mut frame = FrameBuilder::default();
    for (path, executable, parts) in samples {
        for part in parts {
            frame.add(path, *executable, 0, Hash::of(part), part).unwrap();
        }
    }
    let mut pack = PackBuilder::new(Ulid::from_parts(1, 1));
    pack.add(frame.finish().unwrap());
    let pack = pack.finish().unwrap();
    let mut index = manifest::ContentIndex::default();
    index.add_pack(&pack);
    let mut builder = ManifestBuilder::default();
    let mut entries = others.to_vec();
    for (path, executable, parts) in samples {
        let found: Vec<_> = parts.iter().map(|part| (Hash::of(part), *index.find(&Hash::of(part)).unwrap())).collect();
        let kind = Kind::File {
            executable: *executable,
            size: parts.iter().map(|part| part.len() as u64).sum(),
            mtime: 1_700_000_000,
            hash: Hash::of(&parts.concat()),
            content: builder.content(&found, parts.len() > 1),
        };
        entries.push(Entry { path: path.parse().unwrap(), kind });
    }
    entries.sort_by(|one, other| one.path.cmp(&other.path));
    for entry in &entries {
        builder.push(entry.clone());
    }
    (builder.finish(Header::bare(&entries)), pack)
}

fn build(manifest: &Manifest, pack: &Pack) -> Result<Vec<u8>, BuildError> {
    let mut builder = ArchiveBuilder::new(manifest, Ulid::from_parts(7, 7))?;
    let mut out = BytesMut::new();
    for piece in pieces(manifest) {
        let frame = manifest.frames[piece.part.frame as usize];
        let start = usize::try_from(frame.offset).unwrap();
        let raw = decompress(&pack.bytes[start..start + frame.length as usize], frame.raw).unwrap();
        let (start, length) = (piece.part.offset as usize, piece.part.length as usize);
        builder.add(&piece, &raw[start..start + length])?;
        out.extend_from_slice(&builder.take());
    }
    let finished = builder.finish()?;
    out.extend_from_slice(&finished.bytes);
    assert_eq!(finished.size, out.len() as u64);
    Ok(out.to_vec())
}

fn sample() -> (Manifest, Pack) {
    let other = |path: &str, kind| Entry { path: path.parse().unwrap(), kind };
    version(
        &[
            ("src/index.js", false, vec![b"console.log('hello')\n".to_vec()]),
            ("copy/index.js", true, vec![b"console.log('hello')\n".to_vec()]),
            ("n\u{e4}me\n.txt", false, vec![b"unicode".to_vec()]),
            ("large.bin", false, vec![vec![1; 700], vec![2; 300], vec![1; 700]]),
        ],
        &[other("empty", Kind::Directory), other("latest", Kind::Link { target: "src".into() })],
    )
}

/// The manifest at an archive's end, as a reader finds it.
fn read(archive: &[u8]) -> Result<Manifest, FormatError> {
    let trailer = Trailer::parse(&archive[archive.len().saturating_sub(TRAILER)..], archive.len() as u64)?;
    let frame = trailer.frame();
    trailer.read(&archive[usize::try_from(frame.start).unwrap()..usize::try_from(frame.end).unwrap()])
}

#[test]
fn golden_bytes() {
    let (manifest, pack) = sample();
    let archive = build(&manifest, &pack).unwrap();
    // The decompressed stream is the format; how well zstd packs it may change between its releases.
    let stream = zstd::stream::decode_all(&archive[..]).unwrap();
    insta::assert_snapshot!(format!("{} {}", stream.len(), Hash::of(&stream)), @"8704 01637b44ff8c193a3949ab454853a83665d315f20be35d0fa83d637c4af30ddc");
    let own = read(&archive).unwrap();
    let text = zstd::stream::decode_all(&manifest::encode(&own)[..]).unwrap();
    let text = String::from_utf8(text).unwrap();
    // Lengths of frames hang on zstd, too: these are places in what is decompressed.
    let raws: Vec<&str> = text.lines().filter(|line| line.contains("\"file\"")).collect();
    insta::assert_snapshot!(raws.join("\n"), @r#"
    {"file":"copy/index.js","x":true,"size":21,"mtime":1700000000,"hash":"6c83062c13ce2688aafc2a27ebbc36dc0a13c57071cc3d99e7af40de75972bf8","at":[0,1536]}
    {"file":"large.bin","size":1700,"mtime":1700000000,"hash":"b55d1092fc6ae0353cf888b951fcb681aea3c59fb12c3c904046900bc9ba9d33","parts":[[0,5632,700,"adb3c910e99cd0c2290b420943002a019acdb099a05bfc842ca96e3f816202e6"],[0,6332,300,"f5ef2093c406417fde3acae2061b003f8dd539ab2ff0930de390f7903c08e0e6"],[0,6632,700,"adb3c910e99cd0c2290b420943002a019acdb099a05bfc842ca96e3f816202e6"]]}
    {"file":"näme\n.txt","size":7,"mtime":1700000000,"hash":"300dcd23f11d800f79b65d4d50af5190bfc1c812ccb450640b9e241c55534d5e","at":[0,4608]}
    {"file":"src/index.js","size":21,"mtime":1700000000,"hash":"6c83062c13ce2688aafc2a27ebbc36dc0a13c57071cc3d99e7af40de75972bf8","at":[0,2560]}
    "#);
    // The frame around a manifest of three bytes and its trailer.
    let trailer = Trailer {
        data: 0x0102,
        manifest: 3,
        tree: Hash::from_bytes([0x77; 32]),
        digest: Hash::from_bytes([0; 32]),
        format: 1,
        reader: 1,
    };
    let trailer = Trailer { digest: trailer.digest_of(b"abc"), ..trailer };
    let bytes: Vec<u8> = frame_header(3 + 96).into_iter().chain(*b"abc").chain(trailer.to_bytes()).collect();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    insta::assert_snapshot!(bytes.chunks(16).map(hex).collect::<Vec<_>>().join("\n"), @"
    5c2a4d18630000006162630201000000
    00000003000000000000007777777777
    77777777777777777777777777777777
    777777777777777777777713d9dcd7aa
    c92ae254fd97713eda73332236bf71ec
    93d3454a701669db02d6790100000001
    0000007773617263686976
    ");
}

#[test]
fn a_version_has_one_archive_and_its_manifest_leads_to_every_content() {
    let (manifest, pack) = sample();
    let archive = build(&manifest, &pack).unwrap();
    assert_eq!(archive, build(&manifest, &pack).unwrap());
    let own = read(&archive).unwrap();
    assert_eq!(own.header, manifest.header);
    assert_eq!(own.packs.len(), 1);
    for entry in &own.entries {
        for (part, hash) in Manifest::parts(entry) {
            let frame = own.frames[part.frame as usize];
            let start = usize::try_from(frame.offset).unwrap();
            let raw = decompress(&archive[start..start + frame.length as usize], frame.raw).unwrap();
            assert_eq!(Hash::of(&raw[part.offset as usize..(part.offset + part.length) as usize]), hash);
        }
    }
}

#[test]
fn contents_as_large_as_a_frame_fit() {
    // The most that a part may have: a frame filled to the brim.
    let most = crate::format::pack::MAX_FRAME as usize - 2_048;
    let (manifest, pack) = version(&[("large", false, vec![vec![7; most]])], &[]);
    let archive = build(&manifest, &pack).unwrap();
    assert_eq!(zstd::stream::decode_all(&archive[..]).unwrap().len() % 512, 0);
    assert!(read(&archive).unwrap().frames.iter().all(|frame| frame.raw <= crate::format::pack::MAX_FRAME));
}

#[test]
fn a_tree_without_any_content_has_an_archive() {
    let (manifest, pack) = version(&[], &[Entry { path: "empty".parse().unwrap(), kind: Kind::Directory }]);
    assert_eq!(read(&build(&manifest, &pack).unwrap()).unwrap().entries, manifest.entries);
}

#[test]
fn parts_that_are_no_file_are_noticed() {
    let (mut manifest, pack) = sample();
    for entry in &mut manifest.entries {
        if let Kind::File { hash, .. } = &mut entry.kind
            && entry.path.as_str() == "large.bin"
        {
            *hash = Hash::of(b"something else");
        }
    }
    assert_eq!(build(&manifest, &pack), Err(BuildError::Parts { path: "large.bin".to_owned() }));
}

#[test]
fn contents_left_out_or_given_twice_are_noticed() {
    let (manifest, _) = sample();
    let builder = ArchiveBuilder::new(&manifest, Ulid::from_parts(7, 7)).unwrap();
    assert_eq!(builder.finish().unwrap_err(), BuildError::Order);
    let mut builder = ArchiveBuilder::new(&manifest, Ulid::from_parts(7, 7)).unwrap();
    let piece = pieces(&manifest)[0];
    builder.add(&piece, b"console.log('hello')\n").unwrap();
    assert_eq!(builder.add(&piece, b"console.log('hello')\n"), Err(BuildError::Order));
}

#[test]
fn any_flipped_bit_at_the_end_is_noticed() {
    let (manifest, pack) = sample();
    let archive = build(&manifest, &pack).unwrap();
    let trailer = Trailer::parse(&archive, archive.len() as u64).unwrap();
    for at in usize::try_from(trailer.data).unwrap()..archive.len() {
        let mut other = archive.clone();
        other[at] ^= 1;
        assert!(read(&other).is_err(), "{at}");
    }
    for length in [0, 95, 96, archive.len() - 1] {
        assert!(read(&archive[..length]).is_err(), "{length}");
    }
    let mut longer = archive.clone();
    longer.splice(0..0, [0]);
    assert!(read(&longer).is_err());
}

#[test]
fn a_newer_one_is_refused() {
    let (manifest, pack) = sample();
    let mut archive = build(&manifest, &pack).unwrap();
    let at = archive.len() - 12;
    archive[at] = 9;
    assert_eq!(read(&archive), Err(FormatError::Newer { found: 9 }));
}
