//! What tells the contents of files apart for clients that keep them.
//!
//! `tower-http` makes an ETag of a file's size and time of change. Uploads keep times, and tools that make builds repeatable
//! set them all to one value: then two releases of a page that differ in the hash of a script's name have one ETag, and browsers
//! stay with the old one. So the part of a time below a second, which no other header shows, is taken from the content here.
//! It is the same in every container that serves the same files, as the ETag has to be.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Seek};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tower_http::services::fs::Metadata as Described;

/// Files that are remembered. With one more, all are read again once.
const MOST_FILES: usize = 16 * 1024;
/// Larger files are told apart by what the system knows of them, so that the first byte doesn't wait for the last.
const LARGEST: u64 = 32 << 20;
/// A file that changed less than this before it was read might change again without another time.
const SETTLED: Duration = Duration::from_secs(2);
const SECOND: u32 = 1_000_000_000;

/// A file as the system tells it from all others, and from itself before a change: device, inode, size, and the times of
/// change of content and of anything, in seconds and billionths.
type Identity = [u64; 7];

/// The marks of files that were read.
#[derive(Debug, Clone, Default)]
pub(super) struct Marks(Arc<Mutex<HashMap<Identity, u32>>>);

impl Marks {
    /// What is to be known of an open file. Blocks; the file is at its beginning afterwards.
    pub(super) fn describe(&self, file: &mut File) -> io::Result<Description> {
        let metadata = file.metadata()?;
        let mark = if metadata.is_file() { self.mark(file, &metadata)? } else { 0 };
        Ok(Description { metadata, mark })
    }

    fn mark(&self, file: &mut File, metadata: &Metadata) -> io::Result<u32> {
        let identity = identity(metadata);
        if metadata.len() > LARGEST {
            let bytes: Vec<u8> = identity.iter().flat_map(|number| number.to_le_bytes()).collect();
            return Ok(of_hash(blake3::hash(&bytes)));
        }
        if let Some(mark) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&identity) {
            return Ok(*mark);
        }
        let began = SystemTime::now();
        let mark = of_hash(blake3::Hasher::new().update_reader(&mut *file)?.finalize());
        file.rewind()?;
        let changed = UNIX_EPOCH + Duration::from_secs(u64::try_from(metadata.ctime()).unwrap_or_default());
        if began.duration_since(changed).is_ok_and(|age| age > SETTLED) {
            let mut marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if marks.len() >= MOST_FILES {
                marks.clear();
            }
            marks.insert(identity, mark);
        }
        Ok(mark)
    }
}

fn identity(metadata: &Metadata) -> Identity {
    let times = [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()];
    let [mtime, mtime_part, ctime, ctime_part] = times.map(i64::cast_unsigned);
    [metadata.dev(), metadata.ino(), metadata.len(), mtime, mtime_part, ctime, ctime_part]
}

fn of_hash(hash: blake3::Hash) -> u32 {
    let [a, b, c, d, ..] = *hash.as_bytes();
    u32::from_le_bytes([a, b, c, d]) % SECOND
}

/// A file's metadata, with the mark of its content.
#[derive(Debug, Clone)]
pub(super) struct Description {
    metadata: Metadata,
    mark: u32,
}

impl Described for Description {
    fn is_dir(&self) -> bool {
        self.metadata.is_dir()
    }

    fn modified(&self) -> io::Result<SystemTime> {
        let Ok(seconds) = u64::try_from(self.metadata.mtime()) else { return self.metadata.modified() };
        Ok(UNIX_EPOCH + Duration::new(seconds, self.mark))
    }

    fn len(&self) -> u64 {
        self.metadata.len()
    }
}
