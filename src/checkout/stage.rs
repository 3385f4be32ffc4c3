//! The stage: verified contents under temporary names, on the same file system as the target.
//!
//! A staged file is named after its content, so that an interrupted checkout finds what it had fetched, whatever version
//! it goes on with. What is found is hashed before it is used.

use std::collections::{BTreeSet, HashMap};
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

use super::CheckoutError;
use super::plan::{Plan, digest_of};
use super::target::{Target, create, open_folder, open_to_read, open_to_write, remove};
use crate::format::{Content, Entry, Hash, Kind, Manifest, Part};

/// The folder's name, in the folder of our own state.
const STAGE: &str = "stage";

/// A file to be staged.
#[derive(Debug)]
struct Staged {
    /// Its position among the entries.
    entry: usize,
    /// Its temporary name.
    name: String,
    /// Parts that are still missing.
    missing: AtomicUsize,
    /// Whether it lies there, verified.
    ready: AtomicBool,
}

/// A place where a part of a frame goes.
#[derive(Debug)]
struct Place {
    part: Part,
    hash: Hash,
    staged: usize,
    /// Where in the file, in bytes.
    offset: u64,
    /// Whether it is there. A range of which something was wrong is read again, with all that was right in it.
    written: AtomicBool,
}

/// The folder `.workspace/stage`, and what goes there.
#[derive(Debug)]
pub struct Stage {
    /// Whatever stands at its path by now.
    folder: OwnedFd,
    /// The folder that it lies in.
    above: OwnedFd,
    /// Its path, for messages only.
    path: PathBuf,
    files: Vec<Staged>,
    places: HashMap<u32, Vec<Place>>,
}

/// Why a frame's contents can't be staged.
#[derive(Debug)]
pub enum StageError {
    /// The content is not what the manifest says.
    Damaged {
        /// The file's position among the entries.
        entry: usize,
        /// What is wrong.
        reason: String,
    },
    /// It can't be written.
    Checkout(CheckoutError),
}

impl Stage {
    /// Makes the folder, and uses what an interrupted checkout left in it.
    pub fn open(target: &Target, manifest: &Manifest, plan: &Plan) -> Result<Self, CheckoutError> {
        let path = target.state_path(STAGE);
        let failed = |error: Errno| CheckoutError::io("create", &path)(error.into());
        match rustix::fs::mkdirat(target.state(), STAGE, Mode::from_raw_mode(0o700)) {
            Err(error) if error != Errno::EXIST => return Err(failed(error)),
            _ => {}
        }
        // What is not wanted in it is removed: a link would lead that elsewhere.
        let folder = open_folder(target.state(), STAGE).map_err(|_| CheckoutError::BadTarget {
            path: target.path().to_owned(),
            reason: "its `.workspace/stage` is not a folder of ours".to_owned(),
        })?;
        let above = rustix::io::fcntl_dupfd_cloexec(target.state(), 0).map_err(failed)?;
        let mut stage =
            Self { folder, above, path, files: Vec::with_capacity(plan.write.len()), places: HashMap::new() };
        let mut copies: HashMap<Hash, u32> = HashMap::new();
        let mut names = HashMap::new();
        for &at in &plan.write {
            let Kind::File { hash, .. } = &manifest.entries[at].kind else { continue };
            let copy = copies.entry(*hash).or_default();
            let name = format!("{hash}.{copy}");
            *copy += 1;
            names.insert(name.clone(), stage.files.len());
            let missing = AtomicUsize::new(Manifest::parts(&manifest.entries[at]).len());
            stage.files.push(Staged { entry: at, name, missing, ready: AtomicBool::new(false) });
        }
        stage.adopt(manifest, &names)?;
        for (number, staged) in stage.files.iter().enumerate() {
            if staged.ready.load(Ordering::Relaxed) {
                continue;
            }
            let entry = &manifest.entries[staged.entry];
            let mut offset = 0;
            for (part, hash) in Manifest::parts(entry) {
                stage.places.entry(part.frame).or_default().push(Place {
                    part,
                    hash,
                    staged: number,
                    offset,
                    written: AtomicBool::new(false),
                });
                offset += u64::from(part.length);
            }
        }
        Ok(stage)
    }

    /// Looks through what is there already: what is wanted and right stays, the rest goes.
    fn adopt(&self, manifest: &Manifest, names: &HashMap<String, usize>) -> Result<(), CheckoutError> {
        for found in self.names().map_err(CheckoutError::io("read", &self.path))? {
            let wanted = found.to_str().ok().and_then(|name| names.get(name)).map(|&number| &self.files[number]);
            let right = wanted.is_some_and(|staged| {
                let Kind::File { hash, .. } = &manifest.entries[staged.entry].kind else { return false };
                let file = open_to_read(&self.folder, &staged.name);
                file.and_then(|mut file| digest_of(&mut file)).is_ok_and(|digest| digest == *hash)
            });
            match wanted {
                Some(staged) if right => {
                    self.dress(&manifest.entries[staged.entry], &staged.name)?;
                    staged.ready.store(true, Ordering::Relaxed);
                }
                _ => remove(&self.folder, found.as_c_str())
                    .map_err(CheckoutError::io("remove", self.path.join(found.to_string_lossy().as_ref())))?,
            }
        }
        Ok(())
    }

    /// What lies in it.
    fn names(&self) -> io::Result<Vec<CString>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// The frames to fetch.
    pub fn frames(&self) -> BTreeSet<u32> {
        self.places.keys().copied().collect()
    }

    /// Bytes still to be written.
    pub fn missing_bytes(&self) -> u64 {
        self.places.values().flatten().map(|place| u64::from(place.part.length)).sum()
    }

    /// The position of an entry whose content lies in a frame.
    pub fn entry_in(&self, frame: u32) -> Option<usize> {
        self.places.get(&frame)?.first().map(|place| self.files[place.staged].entry)
    }

    /// The entries that are staged, with their temporary names.
    pub fn files(&self) -> impl Iterator<Item = (usize, &str)> {
        self.files.iter().map(|staged| (staged.entry, staged.name.as_str()))
    }

    /// Its folder.
    pub fn folder(&self) -> &OwnedFd {
        &self.folder
    }

    /// The path of something in it, for messages only.
    pub fn shown(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes the empty files: they have no part that would bring them.
    pub fn make_empty_files(&self, manifest: &Manifest) -> Result<(), CheckoutError> {
        for staged in &self.files {
            let entry = &manifest.entries[staged.entry];
            if matches!(&entry.kind, Kind::File { content: Content::Empty, .. })
                && !staged.ready.load(Ordering::Relaxed)
            {
                self.write_whole(entry, &staged.name, b"")?;
                staged.ready.store(true, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Takes what is wanted out of a decompressed frame. Returns the bytes written.
    pub fn take(&self, manifest: &Manifest, frame: u32, raw: &[u8]) -> Result<u64, StageError> {
        let mut written = 0;
        let mut checked: HashMap<(u32, u32), Hash> = HashMap::new();
        for place in self.places.get(&frame).into_iter().flatten() {
            let staged = &self.files[place.staged];
            let entry = &manifest.entries[staged.entry];
            let damaged = |reason: &str| StageError::Damaged { entry: staged.entry, reason: reason.to_owned() };
            let (start, length) = (place.part.offset as usize, place.part.length as usize);
            // The manifest's checks put every part inside its frame.
            let content = raw.get(start..start + length).ok_or_else(|| damaged("a frame is too short"))?;
            let digest = checked.entry((place.part.offset, place.part.length)).or_insert_with(|| Hash::of(content));
            if *digest != place.hash {
                return Err(damaged("a content has another digest"));
            }
            written += content.len() as u64;
            self.put(entry, staged, place, content)?;
        }
        Ok(written)
    }

    fn put(&self, entry: &Entry, staged: &Staged, place: &Place, content: &[u8]) -> Result<(), StageError> {
        if let Kind::File { content: Content::Whole(_), .. } = &entry.kind {
            self.write_whole(entry, &staged.name, content).map_err(StageError::Checkout)?;
            staged.ready.store(true, Ordering::Relaxed);
            return Ok(());
        }
        let path = self.shown(&staged.name);
        let write = || -> io::Result<()> {
            open_to_write(&self.folder, &staged.name, OFlags::empty())?.write_all_at(content, place.offset)
        };
        write().map_err(|error| StageError::Checkout(CheckoutError::io("write", &path)(error)))?;
        if place.written.swap(true, Ordering::AcqRel) || staged.missing.fetch_sub(1, Ordering::AcqRel) > 1 {
            return Ok(());
        }
        // The parts are right one by one; whether they make up the file only the whole tells.
        let Kind::File { hash, .. } = &entry.kind else { return Ok(()) };
        let digest = open_to_read(&self.folder, &staged.name)
            .and_then(|mut file| digest_of(&mut file))
            .map_err(|error| StageError::Checkout(CheckoutError::io("read", &path)(error)))?;
        if digest != *hash {
            return Err(StageError::Damaged {
                entry: staged.entry,
                reason: "its parts do not add up to its digest".to_owned(),
            });
        }
        self.dress(entry, &staged.name).map_err(StageError::Checkout)?;
        staged.ready.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn write_whole(&self, entry: &Entry, name: &str, content: &[u8]) -> Result<(), CheckoutError> {
        let write = || -> io::Result<()> {
            let mut file = create(&self.folder, name)?;
            file.write_all(content)?;
            dress(&file, entry)
        };
        write().map_err(CheckoutError::io("write", self.shown(name)))
    }

    fn dress(&self, entry: &Entry, name: &str) -> Result<(), CheckoutError> {
        open_to_write(&self.folder, name, OFlags::empty())
            .and_then(|file| dress(&file, entry))
            .map_err(CheckoutError::io("write", self.shown(name)))
    }

    /// Whether everything lies there, verified.
    pub fn is_complete(&self) -> bool {
        self.files.iter().all(|staged| staged.ready.load(Ordering::Relaxed))
    }

    /// Removes the folder. What can't be removed is found by the next checkout.
    pub fn discard(&self) {
        for name in self.names().unwrap_or_default() {
            let _ = remove(&self.folder, name.as_c_str());
        }
        let _ = rustix::fs::unlinkat(&self.above, STAGE, AtFlags::REMOVEDIR);
    }
}

/// Gives a file its mode and time.
fn dress(file: &File, entry: &Entry) -> io::Result<()> {
    let Kind::File { executable, mtime, .. } = &entry.kind else { return Ok(()) };
    let mode = if *executable { 0o755 } else { 0o644 };
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    let time = rustix::fs::Timespec { tv_sec: *mtime, tv_nsec: 0 };
    rustix::fs::futimens(file, &rustix::fs::Timestamps { last_access: time, last_modification: time })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::CutPart;
    use crate::format::manifest::{Frame, Header, PackInfo};

    #[test]
    fn a_part_that_was_read_twice_was_counted_twice() {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::open(folder.path()).unwrap();
        let part = |frame| Part { frame, offset: 0, length: 4 };
        let cut = |frame, content: &[u8]| CutPart { part: part(frame), hash: Hash::of(content) };
        let kind = Kind::File {
            executable: false,
            size: 8,
            mtime: 0,
            hash: Hash::of(b"onceonly"),
            content: Content::Cut([cut(0, b"once"), cut(1, b"only")].into()),
        };
        let frame = |offset| Frame { pack: 0, offset, length: 9, raw: 4 };
        let manifest = Manifest {
            header: Header::bare(&[]),
            packs: vec![PackInfo { id: ulid::Ulid::from_parts(1, 1), size: 18 }],
            frames: vec![frame(0), frame(9)],
            entries: vec![Entry { path: "a".parse().unwrap(), kind }],
        };
        let plan = Plan { write: vec![0], ..Plan::default() };
        let stage = Stage::open(&target, &manifest, &plan).unwrap();
        for _ in 0..2 {
            assert_eq!(stage.take(&manifest, 0, b"once").unwrap(), 4);
            assert!(!stage.is_complete());
        }
        stage.take(&manifest, 1, b"only").unwrap();
        assert!(stage.is_complete());
    }

    #[test]
    fn a_place_that_one_digest_fits_was_taken_for_another() {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::open(folder.path()).unwrap();
        let entry = |path: &str, hash| Entry {
            path: path.parse().unwrap(),
            kind: Kind::File {
                executable: false,
                size: 4,
                mtime: 0,
                hash,
                content: Content::Whole(Part { frame: 0, offset: 0, length: 4 }),
            },
        };
        let manifest = Manifest {
            header: Header::bare(&[]),
            packs: vec![PackInfo { id: ulid::Ulid::from_parts(1, 1), size: 9 }],
            frames: vec![Frame { pack: 0, offset: 0, length: 9, raw: 4 }],
            entries: vec![entry("a", Hash::of(b"good")), entry("b", Hash::of(b"else"))],
        };
        let plan = Plan { write: vec![0, 1], ..Plan::default() };
        let stage = Stage::open(&target, &manifest, &plan).unwrap();
        assert!(matches!(stage.take(&manifest, 0, b"good"), Err(StageError::Damaged { entry: 1, .. })));
    }
}
