//! The short run of the fuzz targets: every file of `fuzz/corpus` and some thousand mutations of each, always the same ones.
//! `fuzz/README.md` tells how to look for longer, with libFuzzer.

#![expect(clippy::print_stderr, reason = "where what failed lies")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on has failed")]

#[path = "support/memory.rs"]
mod memory;
#[allow(clippy::format_push_string, reason = "a target is read more often than it runs")]
#[path = "../fuzz/targets.rs"]
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fastrand::Rng;
use targets::{ALL, Target};

/// What decides on all mutations.
const SEED: u64 = 0x5eed;
/// As many of them for each file, but no longer than this for each target.
const MUTATIONS: usize = 2_000;
const PATIENCE: Duration = Duration::from_millis(1_200);
/// A mutation has at most so many bytes.
const LONGEST: usize = 64 << 10;
/// The most memory that all of it may ever have had, in KiB: a frame of 17 MiB, several times over.
const MEMORY: u64 = 400 << 10;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

fn files(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(corpus(target))
        .unwrap_or_else(|error| panic!("no corpus for `{target}`: {error}"))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Runs one input; one that fails is left in a file, for the corpus.
fn try_one(name: &str, target: Target, from: &Path, bytes: &[u8]) {
    let began = Instant::now();
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(bytes))) {
        let path = std::env::temp_dir().join(format!("fuzz-{name}-{:016x}", fastrand::u64(..)));
        fs::write(&path, bytes).unwrap();
        eprintln!("`{name}` failed on what was made of {}: {}", from.display(), path.display());
        std::panic::resume_unwind(panic);
    }
    assert!(began.elapsed() < Duration::from_secs(20), "`{name}` took {:?} for {bytes:?}", began.elapsed());
}

/// One to four changes: a bit, a byte, a number, a piece cut out, doubled, or taken from another file, an end.
fn mutated(random: &mut Rng, bytes: &[u8], others: &[(PathBuf, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..random.usize(1..=4) {
        if bytes.is_empty() {
            bytes.push(random.u8(..));
        }
        let at = random.usize(..bytes.len());
        let end = at + random.usize(..=(bytes.len() - at).min(64));
        match random.u8(..10) {
            0 => bytes[at] ^= 1 << random.u8(..8),
            1 => bytes[at] = random.u8(..),
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let piece = bytes[at..end].to_vec();
                let to = random.usize(..=bytes.len());
                drop(bytes.splice(to..to, piece));
            }
            5 => {
                let other = &others[random.usize(..others.len())].1;
                let from = random.usize(..=other.len());
                let until = from + random.usize(..=(other.len() - from).min(256));
                drop(bytes.splice(at..end, other[from..until].iter().copied()));
            }
            6 => {
                let numbers = [0, 1, 255, 1 << 31, u64::from(u32::MAX), 1 << 53, 1 << 63, u64::MAX];
                let number = numbers[random.usize(..numbers.len())].to_le_bytes();
                for (place, byte) in bytes[at..].iter_mut().zip(number) {
                    *place = byte;
                }
            }
            7 | 8 => {
                // A number in a text becomes another one.
                let digits: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at].is_ascii_digit()).collect();
                if digits.is_empty() {
                    continue;
                }
                let start = digits[random.usize(..digits.len())];
                let length = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                let words =
                    ["0", "-1", "1e9", "4294967295", "4294967296", "9007199254740992", "18446744073709551615", "null"];
                drop(bytes.splice(start..start + length, words[random.usize(..words.len())].bytes()));
            }
            _ => {
                let words: [&[u8]; 12] = [
                    b"..",
                    b"/",
                    b"\0",
                    b"\n",
                    b"\xff",
                    b"\"",
                    b"{",
                    b"&a *a",
                    b"\x1b[2J",
                    "\u{202e}".as_bytes(),
                    b"!**/",
                    b":",
                ];
                drop(bytes.splice(at..at, words[random.usize(..words.len())].iter().copied()));
            }
        }
    }
    bytes.truncate(LONGEST);
    bytes
}

#[test]
fn strangers_bytes_are_read_or_refused() {
    println!("seed {SEED:#x}");
    // What a panic prints is of use once.
    let mut total = 0;
    for (name, target) in ALL {
        let files = files(name);
        assert!(files.len() >= 3, "`{name}` has {} files", files.len());
        for (path, bytes) in &files {
            try_one(name, target, path, bytes);
        }
        let mut random = Rng::with_seed(SEED);
        let (began, mut runs) = (Instant::now(), 0);
        'runs: for _ in 0..MUTATIONS {
            for (path, bytes) in &files {
                try_one(name, target, path, &mutated(&mut random, bytes, &files));
                runs += 1;
                if began.elapsed() > PATIENCE {
                    break 'runs;
                }
            }
        }
        total += runs;
        println!("{name}: {} files, {runs} mutations, {} ms", files.len(), began.elapsed().as_millis());
    }
    let peak = memory::own_peak();
    println!("{total} mutations, at most {} MiB", peak >> 10);
    assert!(peak < MEMORY, "{peak} KiB");
}

/// The targets that libFuzzer has are those that this run has, and no corpus is forgotten.
#[test]
fn every_target_is_run_by_both() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    for (name, _) in ALL {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        assert!(folder.join(format!("fuzz_targets/{name}.rs")).is_file(), "{name}");
    }
    for list in ["fuzz_targets", "corpus"] {
        assert_eq!(fs::read_dir(folder.join(list)).unwrap().count(), ALL.len(), "{list}");
    }
}

mod seeds {
    //! The corpus, made by the code itself where it can be.

    use std::collections::BTreeMap;
    use std::fs;

    use jiff::Timestamp;
    use serde_json::{Value, json};
    use ulid::Ulid;
    use workspace::format::archive::{ArchiveBuilder, pieces};
    use workspace::format::manifest::{self, Location, ManifestBuilder, PackInfo};
    use workspace::format::{Content, Entry, Hash, Kind, Manifest, Reference, Row, pack};

    use super::targets::{BASE, header};

    /// Compares what the code makes with the corpus, or writes it there.
    fn seed(target: &str, name: &str, bytes: impl AsRef<[u8]>) {
        let (folder, bytes) = (super::corpus(target), bytes.as_ref());
        let file = folder.join(name);
        if std::env::var_os("WRITE_CORPUS").is_some() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(file, bytes).unwrap();
        } else {
            let same = fs::read(&file).is_ok_and(|there| there == bytes);
            assert!(same, "{} is not what the code makes: WRITE_CORPUS=1 writes it anew", file.display());
        }
    }

    fn frame() -> pack::BuiltFrame {
        let mut builder = pack::FrameBuilder::with_capacity(4_096);
        for (path, content) in [("run.sh", &b"#!/bin/sh\n"[..]), ("n\u{e4}me\n", b"x")] {
            builder.add(path, true, 1_700_000_000, Hash::of(content), content).unwrap();
        }
        builder.finish().unwrap()
    }

    fn tree() -> Manifest {
        let frame = frame();
        let mut builder = ManifestBuilder::default();
        let place = |at: usize| Location {
            pack: PackInfo { id: Ulid::from_parts(1, 1), size: frame.bytes.len() as u64 },
            frame_offset: 0,
            frame_length: u32::try_from(frame.bytes.len()).unwrap(),
            frame_raw: frame.raw,
            offset: frame.contents[at].offset,
            length: frame.contents[at].length,
        };
        for (at, path, content) in [(0, "run.sh", &b"#!/bin/sh\n"[..]), (1, "n\u{e4}me\n", b"x")] {
            let hash = Hash::of(content);
            let size = content.len() as u64;
            let content = builder.content(&[(hash, place(at))], at == 0);
            let kind = Kind::File { executable: at == 0, size, mtime: 1_700_000_000, hash, content };
            builder.push(Entry { path: path.parse().unwrap(), kind });
        }
        let nothing =
            Kind::File { executable: false, size: 0, mtime: -5, hash: Hash::of(b""), content: Content::Empty };
        builder.push(Entry { path: "empty".parse().unwrap(), kind: nothing });
        builder.push(Entry { path: "latest".parse().unwrap(), kind: Kind::Link { target: "v2".into() } });
        builder.push(Entry { path: "void/of".parse().unwrap(), kind: Kind::Directory });
        let mut manifest = builder.finish(header(&[]));
        manifest.header = header(&manifest.entries);
        manifest
    }

    fn lines(object: &[u8]) -> String {
        String::from_utf8(zstd::stream::decode_all(object).unwrap()).unwrap()
    }

    fn row(number: u64) -> Row {
        let row = json!({
            "id": Ulid::from_parts(number, 2), "number": number, "base": Ulid::from_parts(3, 3), "tree": Hash::of(b"tree"),
            "files": 3, "bytes": 4_096, "created": Timestamp::constant(1_700_000_000, 0), "runtime": "node",
            "message": "second", "author": "Ada <ada@example.org>", "commit": "0123456789abcdef0123456789abcdef01234567",
            "tags": [format!("v{number}")], "later": {"x": [1, 2]},
        });
        serde_json::from_value(row).unwrap()
    }

    #[test]
    fn seeds_are_what_the_code_makes() {
        let (tree, object) = (tree(), manifest::encode(&tree()));
        seed("manifest", "real", &object);
        seed("manifest", "half", &object[..object.len() / 2]);
        seed("manifest", "endless_line", zstd::stream::encode_all(&vec![b'x'; 17 << 20][..], 19).unwrap());
        let windowed = {
            let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
            encoder.window_log(27).unwrap();
            encoder.include_contentsize(false).unwrap();
            std::io::Write::write_all(&mut encoder, lines(&object).as_bytes()).unwrap();
            encoder.finish().unwrap()
        };
        seed("manifest", "window_of_128_mib", windowed);
        let empty = Manifest { header: header(&[]), packs: vec![], frames: vec![], entries: vec![] };
        let delta = lines(&manifest::encode_delta(BASE, &empty, &tree));
        seed("manifest_lines", "real", lines(&object));
        seed("manifest_lines", "delta", &delta);
        seed("manifest_lines", "half", &delta[..delta.len() / 2]);
        let hostile = |from: &str, to: &str| {
            assert!(delta.contains(from));
            delta.replace(from, to)
        };
        seed("manifest_lines", "outside", hostile("run.sh", "../run.sh"));
        seed("manifest_lines", "below_a_file", hostile("void/of", "run.sh/of"));
        seed("manifest_lines", "far_offsets", hostile("\"frame\":[0,0,", "\"frame\":[0,18446744073709551615,"));
        seed("manifest_lines", "many", hostile("\"end\":[1,1,5,0]", "\"end\":[18446744073709551615,1,5,0]"));
        for (name, records) in [
            ("honest", vec![(0, 4_096, 0, 0), (1, 0, 2_048, 2_048), (2, 10, 0, 512), (3, 11, 0, 512)]),
            ("overflows", vec![(0, u64::MAX, 0, 0), (1, u64::MAX, 1, 1), (2, u64::MAX, 0, u64::MAX)]),
            (
                "wide",
                vec![(0, 1 << 42, 0, 0), (1, 1 << 41, 17 << 20, 17 << 20), (2, 17 << 20, 0, 0), (3, 18 << 20, 0, 0)],
            ),
        ] {
            let records = records.iter().flat_map(|&(kind, one, two, three)| {
                let numbers = [one, two, three].into_iter().flat_map(u64::to_le_bytes);
                std::iter::once(kind).chain(numbers).collect::<Vec<u8>>()
            });
            seed("pack_table", name, records.collect::<Vec<u8>>());
        }
        frames();
        references();
        archives(&tree);
        texts();
    }

    fn frames() {
        let frame = frame();
        let said = |raw: u32, bytes: &[u8]| [&raw.to_le_bytes(), bytes].concat();
        seed("frame", "real", said(frame.raw, &frame.bytes));
        seed("frame", "half", said(frame.raw, &frame.bytes[..frame.bytes.len() / 2]));
        seed("frame", "says_too_much", said(u32::MAX, &frame.bytes));
        let bomb = zstd::stream::encode_all(&vec![0; 64 << 20][..], 19).unwrap();
        seed("frame", "bomb_of_64_mib", said(1_024, &bomb));
    }

    fn references() {
        let mut reference = Reference::claimed(Ulid::from_parts(1, 1));
        seed("reference", "claimed", reference.to_bytes());
        reference.rows = vec![row(1), row(7)];
        reference.current = 7;
        reference.sign(Ulid::from_parts(6, 6));
        let real = reference.to_bytes();
        seed("reference", "real", &real);
        seed("reference", "half", &real[..real.len() / 2]);
        let text = String::from_utf8(real).unwrap();
        seed(
            "reference",
            "largest_numbers",
            text.replace(":4096", ":18446744073709551615").replace(":7,", ":18446744073709551615,"),
        );
        seed("reference", "orders_for_terminals", text.replace("second", "\\u001b]0;x\\u0007\\u202e\\nhint: run this"));
        seed(
            "reference",
            "deep",
            format!("{{\"format\":1,\"root\":\"{BASE}\",\"x\":{}1{}}}", "[".repeat(200), "]".repeat(200)),
        );
        let at = "2026-01-01T00:00:00Z";
        let release = json!({"root": BASE, "row": row(3), "since": at});
        let record = json!({
            "format": 1, "engine": "ABCD:EFGH", "hostname": "one", "tool": "0.1.0", "started": at, "beat": at,
            "holder": {"instance": BASE, "pid": 42},
            "workspaces": {"app": {"phase": "later", "since": at, "cause": "so", "live": release, "addresses": ["http://x"],
                "bad": [{"row": BASE, "number": 2}], "failure": {"row": BASE, "number": 2, "step": "ready",
                "reason": "\u{1b}[2J", "tail": ["x"], "hint": "", "at": at, "bad": true, "tries": 1}}},
        });
        seed("host", "real", record.to_string());
        seed("host", "half", &record.to_string()[..300]);
        seed("host", "confirmation", json!({"format": 1, "names": ["a"], "at": at}).to_string());
        seed("host", "name_outside", record.to_string().replace("\"app\"", "\"../app\""));
        let lease = json!({"format": 1, "engine": "A", "instance": BASE, "attempt": BASE, "started": at,
            "outcome": {"succeeded": false, "reason": "it ended with 1", "tail": ["x"], "at": at, "retry": BASE}});
        seed("records", "lease", lease.to_string());
        let grant = json!({"format": 1, "name": "app", "root": BASE, "row": row(3), "plan": {"runtime": "node", "port": 3000},
            "expires": at, "addresses": {"data/app/R/packs/P.tar.zst": "https://s3/x?signature=secret"}});
        seed("records", "grant", grant.to_string());
        seed(
            "records",
            "list",
            json!({"format": 1, "keys": [format!("data/a/{BASE}/packs/{BASE}.tar.zst"), "refs/b.json"]}).to_string(),
        );
        let plan: BTreeMap<&str, Value> = BTreeMap::from([
            ("runtime", json!("node")),
            ("port", json!(3000)),
            ("start", json!(["node", "a.js"])),
            ("replicas", json!(32)),
            ("volumes", json!({"data": "/data"})),
            ("domains", json!(["a.example"])),
            ("memory", json!("1g")),
            ("cpus", json!("1.5")),
        ]);
        seed("records", "plan", serde_json::to_vec(&plan).unwrap());
    }

    fn archives(tree: &Manifest) {
        let frame = frame();
        let raw = pack::decompress(&frame.bytes, frame.raw).unwrap();
        let mut builder = ArchiveBuilder::new(tree, Ulid::from_parts(2, 2)).unwrap();
        let mut object = Vec::new();
        for piece in pieces(tree) {
            builder.add(&piece, &raw[piece.part.offset as usize..][..piece.part.length as usize]).unwrap();
            object.extend_from_slice(&builder.take());
        }
        object.extend_from_slice(&builder.finish().unwrap().bytes);
        seed("archive_footer", "real", &object);
        seed("archive_footer", "half", &object[object.len() / 2..]);
        let end = object.len() - 96;
        let mut wide = object.clone();
        wide[end..end + 16].fill(0xff);
        seed("archive_footer", "largest_numbers", wide);
    }

    fn texts() {
        seed("env_file", "real", "S3_ENDPOINT=http://127.0.0.1:9000\nexport S3_BUCKET='x y'\n# note\nAPP=\"a\\nb\"\n");
        seed("env_file", "secret_in_a_bad_line", "S3_SECRET_KEY=a\nthis is a secret\n");
        seed("env_file", "substitution", "A=${B}\nB=$A\nC=\"${A}${A}${A}${A}\n");
        let yaml = "runtime: node\nversion: '20'\nstart: node index.js\nport: 3000\ndomains: [a.example]\nreplicas: 2\nvolumes:\n  data: /data\nhealth: /up\nmemory: 1g\ncpus: 1.5\n";
        seed("workspace_yaml", "real", yaml);
        seed("workspace_yaml", "half", &yaml[..yaml.len() / 2]);
        let laugh = |at: usize| format!("a{at}: &a{at} [{}]", vec![format!("*a{}", at - 1); 9].join(","));
        let laughs = (1..9).map(laugh).collect::<Vec<_>>().join("\n");
        seed("workspace_yaml", "many_laughs", format!("a0: &a0 [lol]\n{laughs}"));
        seed("workspace_yaml", "deep", format!("start: {}\n", "[".repeat(2_000)));
        seed("workspace_yaml", "outside", "dir: ../..\nstatic: /etc\nstart: ['\u{1b}[2J']\nvolumes: {a: ../x}\n");
        seed(
            "procfile",
            "real",
            "web: node index.js --port $PORT\nrelease: npm run migrate\nworker: node w.js 'a b'\n",
        );
        seed("procfile", "broken", "web\nweb: 'a\n: x\nä: b\nweb: \u{1b}[2J\n");
        seed("procfile", "long", format!("web: {}\n", "a ".repeat(2_000)));
        for (at, text) in [
            "shop-green",
            "shop@7",
            "Shop@v2.0",
            "team-*@staging",
            "a@18446744073709551616",
            "../x",
            "https://s3/b/data/a/r/archives/x.tar.zst?X-Amz-Date=20260101T000000Z&X-Amz-Expires=60&X-Amz-Signature=0f",
        ]
        .iter()
        .enumerate()
        {
            seed("names", &format!("{at}"), text);
        }
        for (at, text) in [
            "refs/shop.json",
            "hosts/ABCD:EFGH.json",
            "packs/00000000090000000000000009.tar.zst",
            "refs/../x.json",
            "data/a/00000000090000000000000009/versions/00000000090000000000000009.jsonl.zst",
            "sub/.GIT/hooks/x",
        ]
        .iter()
        .enumerate()
        {
            seed("keys", &format!("{at}"), text);
        }
        seed(
            "ignore_patterns",
            "real",
            "# note\nnode_modules/\n*.log\n!keep.log\n/build\nsrc/**/gen\n[a-c]?.o\n\\#x\ntrail \\ \n",
        );
        seed(
            "ignore_patterns",
            "classes",
            "[[:alpha:]]\n[!a]\n[]a]\n[a\n[z-a]\n[\\]]\n{a,b}\n**a**\n\u{e4}[\u{e0}-\u{ff}]\n",
        );
        seed("ignore_patterns", "stars", format!("{}\n{}b\n", "*a".repeat(60), "**/".repeat(60)));
        seed("ignore_patterns", "bytes", b"\xef\xbb\xbf\xff\xfe\na\0b\n!\n/\n//\n!/\n".as_slice());
    }
}
