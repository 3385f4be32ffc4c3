//! Reading files that may change under the reader, and hashing those that the local index doesn't know.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::budget::{capacity_for, threads};
use crate::cache::{Index, nanoseconds_now};
use crate::format::Hash;
use crate::format::chunking::CUT_ABOVE;
use crate::source::{SourceEntry, SourceKind, Stat, is_gone};

use super::PublishError;

/// How often a file that changes while it is read is read again.
const READS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(50);
/// Times of files advance in ticks of at most 10 ms (Linux with `HZ=100`): what changed in the tick before reading began
/// could change again while it is read without its times telling. Nanoseconds.
const TICK: i64 = 12_000_000;

/// A file's digest, and what it looked like when it was read.
#[derive(Debug, Clone, Copy)]
pub struct Hashed {
    /// Its digest.
    pub hash: Hash,
    /// What it looked like.
    pub stat: Stat,
    /// When reading began, nanoseconds since 1970.
    pub began: i64,
}

/// Why a file was not read.
#[derive(Debug)]
pub enum ReadFailure {
    /// It is gone, or something else stands there, or it outgrew its kind: the folder must be looked at again.
    Moved,
    /// It changes all the time.
    Restless,
    /// It is there and can't be read.
    Io(io::Error),
}

impl From<io::Error> for ReadFailure {
    fn from(error: io::Error) -> Self {
        if is_gone(&error) { Self::Moved } else { Self::Io(error) }
    }
}

impl ReadFailure {
    /// The error for a file at `path`; nothing when it moved.
    pub fn into_error(self, path: &str) -> Option<PublishError> {
        match self {
            Self::Moved => None,
            Self::Restless => Some(PublishError::Restless { path: path.to_owned() }),
            Self::Io(source) => Some(PublishError::Unreadable { path: path.to_owned(), source }),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    // NONBLOCK: a pipe that took the file's place must not hold us.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

/// Opens a file that has been at rest for a tick: from now on its times tell every change. Nothing while it is not.
pub fn open_settled(path: &Path) -> Result<Option<(File, Stat, i64)>, ReadFailure> {
    let file = open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(ReadFailure::Moved);
    }
    let stat = Stat::of(&metadata);
    let age = nanoseconds_now().saturating_sub(stat.mtime.max(stat.ctime));
    if (0..TICK).contains(&age) {
        std::thread::sleep(Duration::from_nanos((TICK - age).unsigned_abs()));
        if Stat::of(&file.metadata()?) != stat {
            return Ok(None);
        }
    }
    Ok(Some((file, stat, nanoseconds_now())))
}

/// Reads with `read` until the file looks the same before and after.
pub fn steadily<T>(
    path: &Path,
    mut read: impl FnMut(&mut File, Stat) -> Result<T, ReadFailure>,
) -> Result<(T, Stat, i64), ReadFailure> {
    for attempt in 0..READS {
        if attempt > 0 {
            std::thread::sleep(PAUSE);
        }
        let Some((mut file, before, began)) = open_settled(path)? else { continue };
        let value = read(&mut file, before)?;
        if Stat::of(&file.metadata()?) == before {
            return Ok((value, before, began));
        }
    }
    Err(ReadFailure::Restless)
}

/// The whole content of a file of at most [`CUT_ABOVE`] bytes.
pub fn content(path: &Path) -> Result<(Vec<u8>, Hashed), ReadFailure> {
    let (content, stat, began) = steadily(path, |file, stat| {
        if stat.size > CUT_ABOVE {
            return Err(ReadFailure::Moved);
        }
        let mut content = Vec::with_capacity(capacity_for(usize::try_from(stat.size).unwrap_or(0) + 1));
        file.take(CUT_ABOVE + 1).read_to_end(&mut content)?;
        Ok(content)
    })?;
    if content.len() as u64 != stat.size {
        return Err(ReadFailure::Restless);
    }
    let hash = Hash::of(&content);
    Ok((content, Hashed { hash, stat, began }))
}

/// The digest of a file of any size, in constant memory.
fn digest(path: &Path) -> Result<Hashed, ReadFailure> {
    let (hash, stat, began) = steadily(path, |file, stat| {
        let mut hasher = blake3::Hasher::new();
        // A file that grows as fast as it is read has no end.
        hasher.update_reader(file.take(stat.size.saturating_add(1)))?;
        if hasher.count() == stat.size { Ok(Some(hasher.finalize().into())) } else { Ok(None) }
    })?;
    Ok(Hashed { hash: hash.ok_or(ReadFailure::Restless)?, stat, began })
}

/// What is known of the files before any is read: empty ones, and those that the index knows.
pub fn known(entries: &[SourceEntry], index: &Index) -> Vec<Option<Hash>> {
    let empty = Hash::of(b"");
    let mut index = index.in_order();
    entries
        .iter()
        .map(|entry| match &entry.kind {
            SourceKind::File(stat) if stat.size == 0 => Some(empty),
            SourceKind::File(stat) => index.find(entry.path.as_str(), stat),
            SourceKind::Link(_) | SourceKind::Directory => None,
        })
        .collect()
}

/// What was read, by position, and the path of a file that moved, if one did.
pub type HashedFiles = (Vec<(usize, Hashed)>, Option<String>);

/// Hashes, on all cores, the files whose digest is not known. Blocks.
pub fn hash_unknown(
    root: &Path,
    entries: &[SourceEntry],
    hashes: &[Option<Hash>],
    done: &(dyn Fn(u64) + Sync),
) -> Result<HashedFiles, PublishError> {
    let todo: Vec<usize> = (0..entries.len())
        .filter(|&at| hashes[at].is_none() && matches!(entries[at].kind, SourceKind::File(_)))
        .collect();
    let next = AtomicUsize::new(0);
    let found = Mutex::new((Vec::with_capacity(todo.len()), None));
    let failure: Mutex<Option<PublishError>> = Mutex::new(None);
    let lock_failed = "no thread panics while it holds the lock";
    let work = || {
        while let Some(&at) = todo.get(next.fetch_add(1, Ordering::Relaxed)) {
            let entry = &entries[at];
            match digest(&root.join(entry.path.as_str())) {
                Ok(hashed) => {
                    found.lock().expect(lock_failed).0.push((at, hashed));
                    done(hashed.stat.size);
                }
                Err(error) => match error.into_error(entry.path.as_str()) {
                    None => found.lock().expect(lock_failed).1 = Some(entry.path.to_string()),
                    Some(error) => {
                        *failure.lock().expect(lock_failed) = Some(error);
                        next.store(todo.len(), Ordering::Relaxed);
                    }
                },
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads().min(todo.len()) {
            scope.spawn(work);
        }
        work();
    });
    match failure.into_inner().expect(lock_failed) {
        Some(error) => Err(error),
        None => Ok(found.into_inner().expect(lock_failed)),
    }
}
