//! The stage: verified contents under temporary names, on the same file system as the target.
//!
//! A staged file is named after its content, so that an interrupted checkout finds what it had fetched, whatever version
//! it goes on with. What is found is hashed before it is used; of a cut file, part by part.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

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
    /// What is known of its digest, where it is cut.
    whole: Option<Box<Whole>>,
    /// Whether it lies there, verified.
    ready: AtomicBool,
}

/// The digest of a cut file whose parts come in any order: whoever brings a part hashes all that can be hashed by now, so that
/// little is left to do when the last one has come.
#[derive(Debug, Default)]
struct Whole(Mutex<Hashed>);

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
enum There {
    Nothing,
    /// These parts of a cut file, by where they begin in it.
    Parts(HashSet<u64>),
    All,
}

impl Whole {
    /// Takes what an interrupted checkout has left of the file, after which only the rest has to come.
    fn adopt(&self, file: &File, entry: &Entry) -> io::Result<There> {
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
    fn with(
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
            let Kind::File { hash, content, .. } = &manifest.entries[at].kind else { continue };
            let copy = copies.entry(*hash).or_default();
            let name = format!("{hash}.{copy}");
            *copy += 1;
            names.insert(name.clone(), stage.files.len());
            let whole = matches!(content, Content::Cut(_)).then(Box::default);
            stage.files.push(Staged { entry: at, name, whole, ready: AtomicBool::new(false) });
        }
        let there = stage.adopt(manifest, &names)?;
        for (number, staged) in stage.files.iter().enumerate() {
            if staged.ready.load(Ordering::Relaxed) {
                continue;
            }
            let entry = &manifest.entries[staged.entry];
            let mut offset = 0;
            for (part, hash) in Manifest::parts(entry) {
                if !there.get(&number).is_some_and(|parts| parts.contains(&offset)) {
                    stage.places.entry(part.frame).or_default().push(Place {
                        part,
                        hash,
                        staged: number,
                        offset,
                        written: AtomicBool::new(false),
                    });
                }
                offset += u64::from(part.length);
            }
        }
        Ok(stage)
    }

    /// Looks through what is there already: what is wanted and right stays, the rest goes. Gives the parts of cut files that
    /// are there, by the file's number.
    fn adopt(
        &self,
        manifest: &Manifest,
        names: &HashMap<String, usize>,
    ) -> Result<HashMap<usize, HashSet<u64>>, CheckoutError> {
        let mut parts = HashMap::new();
        for found in self.names().map_err(CheckoutError::io("read", &self.path))? {
            let wanted = found.to_str().ok().and_then(|name| names.get(name)).copied();
            let there = wanted.map(|number| (number, self.there(manifest, &self.files[number])));
            match there {
                Some((number, Ok(There::All))) => {
                    let staged = &self.files[number];
                    self.dress(&manifest.entries[staged.entry], &staged.name)?;
                    staged.ready.store(true, Ordering::Relaxed);
                }
                Some((number, Ok(There::Parts(offsets)))) => {
                    parts.insert(number, offsets);
                }
                _ => remove(&self.folder, found.as_c_str())
                    .map_err(CheckoutError::io("remove", self.path.join(found.to_string_lossy().as_ref())))?,
            }
        }
        Ok(parts)
    }

    /// What of a file is there, and right.
    fn there(&self, manifest: &Manifest, staged: &Staged) -> io::Result<There> {
        let entry = &manifest.entries[staged.entry];
        let mut file = open_to_read(&self.folder, &staged.name)?;
        if let Some(whole) = &staged.whole {
            return whole.adopt(&file, entry);
        }
        let digest = digest_of(&mut file)?;
        let right = matches!(&entry.kind, Kind::File { hash, .. } if *hash == digest);
        Ok(if right { There::All } else { There::Nothing })
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
        let Some(whole) = &staged.whole else {
            self.write_whole(entry, &staged.name, content).map_err(StageError::Checkout)?;
            staged.ready.store(true, Ordering::Relaxed);
            return Ok(());
        };
        let path = self.shown(&staged.name);
        let write = || -> io::Result<()> {
            open_to_write(&self.folder, &staged.name, OFlags::empty())?.write_all_at(content, place.offset)
        };
        write().map_err(|error| StageError::Checkout(CheckoutError::io("write", &path)(error)))?;
        if place.written.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        // The parts are right one by one; whether they make up the file only the whole tells.
        let digest = whole
            .with(place.offset, content, entry.size(), || open_to_read(&self.folder, &staged.name))
            .map_err(|error| StageError::Checkout(CheckoutError::io("read", &path)(error)))?;
        let Some(digest) = digest else { return Ok(()) };
        if !matches!(&entry.kind, Kind::File { hash, .. } if digest == *hash) {
            // Reading them once more would not change that.
            return Err(StageError::Checkout(CheckoutError::NotTheFile {
                path: entry.path.to_string(),
                reason: "its parts do not add up to its digest".to_owned(),
            }));
        }
        self.dress(entry, &staged.name).map_err(StageError::Checkout)?;
        staged.ready.store(true, Ordering::Release);
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

    /// An entry that does not lie there, verified; nothing when all do.
    pub fn lacks(&self) -> Option<usize> {
        self.files.iter().find(|staged| !staged.ready.load(Ordering::Acquire)).map(|staged| staged.entry)
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
            assert_eq!(stage.lacks(), Some(0));
        }
        stage.take(&manifest, 1, b"only").unwrap();
        assert_eq!(stage.lacks(), None);
    }

    /// A part that was damaged since, one that never came, and those that are right.
    #[test]
    fn of_a_cut_file_only_what_is_missing_is_fetched_again() {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::open(folder.path()).unwrap();
        let contents: [&[u8]; 4] = [b"one.", b"two.", b"tree", b"four"];
        let part = |frame| Part { frame, offset: 0, length: 4 };
        let cut = |(frame, content): (u32, &&[u8])| CutPart { part: part(frame), hash: Hash::of(content) };
        let kind = Kind::File {
            executable: false,
            size: 16,
            mtime: 0,
            hash: Hash::of(&contents.concat()),
            content: Content::Cut((0..).zip(&contents).map(cut).collect()),
        };
        let frame = |at: u64| Frame { pack: 0, offset: 9 * at, length: 9, raw: 4 };
        let manifest = Manifest {
            header: Header::bare(&[]),
            packs: vec![PackInfo { id: ulid::Ulid::from_parts(1, 1), size: 36 }],
            frames: (0..4).map(frame).collect(),
            entries: vec![Entry { path: "a".parse().unwrap(), kind }],
        };
        let plan = Plan { write: vec![0], ..Plan::default() };
        let open = || Stage::open(&target, &manifest, &plan).unwrap();
        let stage = open();
        for number in [0, 1, 3] {
            stage.take(&manifest, number, contents[number as usize]).unwrap();
        }
        let file = folder.path().join(".workspace/stage").join(stage.files().next().unwrap().1);
        File::options().write(true).open(&file).unwrap().write_all_at(b"TWO.", 4).unwrap();
        drop(stage);

        let stage = open();
        assert_eq!((stage.frames(), stage.missing_bytes()), ([1, 2].into(), 8));
        stage.take(&manifest, 2, contents[2]).unwrap();
        assert_eq!(stage.lacks(), Some(0));
        stage.take(&manifest, 1, contents[1]).unwrap();
        assert_eq!(stage.lacks(), None);
        assert_eq!(fs::read(&file).unwrap(), contents.concat());
        drop(stage);

        // All of it, and what is longer than all of it.
        assert_eq!((open().frames(), open().lacks()), (BTreeSet::new(), None));
        File::options().append(true).open(&file).unwrap().write_all(b"more").unwrap();
        assert_eq!((open().missing_bytes(), file.exists()), (16, false));
    }

    #[test]
    fn parts_in_any_order_make_the_digest_of_the_file() {
        let content: Vec<u8> = (0..400_u32).flat_map(u32::to_le_bytes).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = fs::File::create(&path).unwrap();
        let (whole, digest) = (Whole::default(), Hash::of(&content));
        // The last one first; then from the beginning, so that what has waited is read back.
        for at in [3, 0, 2, 1] {
            let (offset, part) = (at as u64 * 400, &content[at * 400..][..400]);
            file.write_all_at(part, offset).unwrap();
            let found = whole.with(offset, part, content.len() as u64, || File::open(&path)).unwrap();
            assert_eq!(found, (at == 1).then_some(digest), "{at}");
        }
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
