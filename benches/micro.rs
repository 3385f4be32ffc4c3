//! The parts that most of the time goes into, each by itself: hashing, chunking, framing, manifests, the walk, the local
//! index, writing files out.
//!
//! `make micro`, or `cargo bench --bench micro -- manifest` for some. The input is made up, and always the same.

#![expect(clippy::unwrap_used, reason = "a measurement that can't go on has failed")]

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use tempfile::TempDir;
use ulid::Ulid;
use workspace::cache::Index;
use workspace::format::manifest::{self, Header, Location, ManifestBuilder, PackInfo};
use workspace::format::pack::{self, FrameBuilder};
use workspace::format::tree::digest;
use workspace::format::{Entry, Hash, Kind, Manifest, chunking};
use workspace::source::{self, SourceOptions, Stat};

const MIB: usize = 1 << 20;
/// Files of the trees.
const FILES: [usize; 3] = [100, 1_000, 10_000];

fn main() {
    divan::main();
}

/// Something like source text: words from a small vocabulary, in lines.
fn text(bytes: usize) -> Vec<u8> {
    let words =
        ["static", "int", "return", "struct", "if", "(", ")", "{", "}", ";", "->", "flags", "buffer", "length", "0"];
    let mut random = fastrand::Rng::with_seed(7);
    let mut text = Vec::with_capacity(bytes + 16);
    while text.len() < bytes {
        text.extend_from_slice(words[random.usize(..words.len())].as_bytes());
        text.push(if random.u8(..) < 24 { b'\n' } else { b' ' });
    }
    text.truncate(bytes);
    text
}

fn path(number: usize) -> String {
    format!("drivers/vendor{:03}/device{:02}/file_{number:06}.c", number / 200, number / 20 % 10)
}

fn version(files: usize) -> Manifest {
    let mut builder = ManifestBuilder::on(None);
    let pack = PackInfo { id: Ulid::from_parts(1, 1), size: 1 << 24 };
    let mut entries: Vec<Entry> = Vec::new();
    for number in 0..files {
        let hash = Hash::of(&number.to_le_bytes());
        let frame = number as u64 / 100;
        let location = Location {
            pack,
            frame_offset: frame * 1_000,
            frame_length: 1_000,
            frame_raw: 1 << 20,
            offset: u32::try_from(number % 100).unwrap() * 8_192 + 512,
            length: 7_000,
        };
        let content = builder.content(&[(hash, location)], false);
        let kind = Kind::File { executable: false, size: 7_000, mtime: 1_700_000_000, hash, content };
        entries.push(Entry { path: path(number).parse().unwrap(), kind });
    }
    entries.sort_by(|one, other| one.path.cmp(&other.path));
    let header = Header::of(&entries, jiff::Timestamp::constant(1_700_000_000, 0));
    for entry in entries {
        builder.push(entry);
    }
    builder.finish(header)
}

fn on_disk(files: usize) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let content = text(2_000);
    for number in 0..files {
        let path = folder.path().join(path(number));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &content).unwrap();
    }
    folder
}

static TEXT: LazyLock<Vec<u8>> = LazyLock::new(|| text(16 * MIB));

#[divan::bench]
fn hashing(bencher: Bencher<'_, '_>) {
    bencher.counter(BytesCount::new(TEXT.len())).bench(|| Hash::of(black_box(&TEXT)));
}

#[divan::bench]
fn chunking(bencher: Bencher<'_, '_>) {
    bencher.counter(BytesCount::new(TEXT.len())).bench(|| chunking::cut(black_box(&TEXT[..]), <[u8]>::len).count());
}

/// A frame of files of 8 KiB: headers, padding, compression, and the check of the result.
#[divan::bench]
fn framing(bencher: Bencher<'_, '_>) {
    let files: Vec<(String, &[u8], Hash)> =
        TEXT[..512 << 10].chunks(8 << 10).enumerate().map(|(at, part)| (path(at), part, Hash::of(part))).collect();
    bencher.counter(BytesCount::new(512_usize << 10)).bench(|| {
        let mut frame = FrameBuilder::with_capacity(MIB);
        for (path, content, hash) in &files {
            frame.add(path, false, 1_700_000_000, *hash, content).unwrap();
        }
        frame.finish().unwrap()
    });
}

#[divan::bench]
fn decompression(bencher: Bencher<'_, '_>) {
    let mut frame = FrameBuilder::with_capacity(MIB);
    frame.add("a", false, 0, Hash::of(&TEXT[..512 << 10]), &TEXT[..512 << 10]).unwrap();
    let built = frame.finish().unwrap();
    let raw = built.raw;
    bencher.counter(BytesCount::new(raw)).bench(|| pack::decompress(black_box(&built.bytes), raw).unwrap());
}

#[divan::bench(args = FILES)]
fn manifest_written(bencher: Bencher<'_, '_>, files: usize) {
    let version = version(files);
    bencher.counter(ItemsCount::new(files)).bench(|| manifest::encode(black_box(&version)));
}

#[divan::bench(args = FILES)]
fn manifest_read(bencher: Bencher<'_, '_>, files: usize) {
    let bytes = manifest::encode(&version(files));
    bencher.counter(ItemsCount::new(files)).bench(|| manifest::decode(black_box(&bytes)).unwrap());
}

#[divan::bench(args = FILES)]
fn tree_digest(bencher: Bencher<'_, '_>, files: usize) {
    let version = version(files);
    bencher.counter(ItemsCount::new(files)).bench(|| digest(black_box(&version.entries)));
}

#[divan::bench(args = FILES)]
fn walk(bencher: Bencher<'_, '_>, files: usize) {
    let folder = on_disk(files);
    let options = SourceOptions::default();
    bencher.counter(ItemsCount::new(files)).bench(|| source::select(folder.path(), &options).unwrap());
}

#[divan::bench(args = FILES)]
fn index(bencher: Bencher<'_, '_>, files: usize) {
    let stat = Stat { size: 1, mtime: 1, ctime: 1, inode: 1, executable: false };
    let mut index = Index::default();
    for number in 0..files {
        index.insert(&path(number), stat, 3_000_000_000, Hash::of(&number.to_le_bytes()));
    }
    let bytes = postcard::to_allocvec(&index).unwrap();
    bencher.counter(ItemsCount::new(files)).bench(|| postcard::from_bytes::<Index>(black_box(&bytes)).unwrap());
}

/// What the file system alone takes to make files of 2 kB, one after the other.
#[divan::bench(args = [1_000], sample_count = 20)]
fn files_made(bencher: Bencher<'_, '_>, files: usize) {
    let content = text(2_000);
    bencher.counter(ItemsCount::new(files)).with_inputs(|| tempfile::tempdir().unwrap()).bench_values(|folder| {
        let make = |folder: &Path| {
            for number in 0..files {
                fs::write(folder.join(number.to_string()), &content).unwrap();
            }
        };
        make(folder.path());
        folder
    });
}
