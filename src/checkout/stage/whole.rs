//! The digest of a cut file, of which each part was verified by itself.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use crate::format::{Entry, Hash, Kind, Manifest};

/// The digest of a cut file whose parts come in any order: whoever brings a part hashes all that can be hashed by now, so that
/// little is left to do when the last one has come.
#[derive(Debug, Default)]
pub struct Whole(Mutex<Hashed>);

#[derive(Debug, Default)]
struct Hashed {
    hasher: blake3::Hasher,
    /// How many bytes from its beginning went into it.
    bytes: u64,
    /// Parts that were written and come later in the file: where, and how many bytes.
    waiting: BTreeMap<u64, usize>,
    /// Somebody is at it.
    busy: bool,
}

/// What lies in the stage of a file.
pub enum There {
    Nothing,
    /// These parts of a cut file, by where they begin in it.
    Parts(HashSet<u64>),
    All,
}

impl Whole {
    /// Takes what an interrupted checkout has left of the file, after which only the rest has to come.
    pub fn adopt(&self, file: &File, entry: &Entry) -> io::Result<There> {
        let Kind::File { hash: digest, size, .. } = &entry.kind else { return Ok(There::Nothing) };
        if file.metadata()?.len() > *size {
            return Ok(There::Nothing);
        }
        let (mut state, mut there) = (Hashed::default(), HashSet::new());
        let (mut offset, mut content) = (0, Vec::new());
        for (part, hash) in Manifest::parts(entry) {
            content.resize(part.length as usize, 0);
            match file.read_exact_at(&mut content, offset) {
                Ok(()) if Hash::of(&content) != hash => {}
                Ok(()) => {
                    there.insert(offset);
                    if state.bytes == offset {
                        state.hasher.update(&content);
                        state.bytes += u64::from(part.length);
                    } else {
                        state.waiting.insert(offset, content.len());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(error),
            }
            offset += u64::from(part.length);
        }
        Ok(if state.bytes == *size {
            // The parts are right, and so is the file unless the manifest contradicts itself: then it all comes again, and is told.
            if Hash::from(state.hasher.finalize()) == *digest { There::All } else { There::Nothing }
        } else if there.is_empty() {
            There::Nothing
        } else {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
            There::Parts(there)
        })
    }

    /// A part was written. Gives the digest once all `size` bytes were: to one caller.
    pub fn with(
        &self,
        offset: u64,
        content: &[u8],
        size: u64,
        file: impl Fn() -> io::Result<File>,
    ) -> io::Result<Option<Hash>> {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = lock();
        state.waiting.insert(offset, content.len());
        if state.busy {
            return Ok(None);
        }
        state.busy = true;
        loop {
            let next = state.bytes;
            let Some(length) = state.waiting.remove(&next) else { break };
            let mut hasher = std::mem::take(&mut state.hasher);
            drop(state);
            if next == offset {
                hasher.update(content);
            } else {
                let mut file = file()?;
                file.seek(SeekFrom::Start(next))?;
                hasher.update_reader(file.take(length as u64))?;
            }
            state = lock();
            state.hasher = hasher;
            state.bytes += length as u64;
        }
        state.busy = false;
        Ok((state.bytes == size).then(|| state.hasher.finalize().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_in_any_order_make_the_digest_of_the_file() {
        let content: Vec<u8> = (0..400_u32).flat_map(u32::to_le_bytes).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = File::create(&path).unwrap();
        let (whole, digest) = (Whole::default(), Hash::of(&content));
        // The last one first; then from the beginning, so that what has waited is read back.
        for at in [3, 0, 2, 1] {
            let (offset, part) = (at as u64 * 400, &content[at * 400..][..400]);
            file.write_all_at(part, offset).unwrap();
            let found = whole.with(offset, part, content.len() as u64, || File::open(&path)).unwrap();
            assert_eq!(found, (at == 1).then_some(digest), "{at}");
        }
    }
}
