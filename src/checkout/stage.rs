//! The stage: verified contents under temporary names, on the same file system as the target.
//!
//! What goes to a folder that the target doesn't have yet is staged in that folder, which is then put in place as a whole. Any
//! other file is named after its content, so that an interrupted checkout finds what it had fetched, whatever version it goes
//! on with. What is found is hashed before it is used; of a cut file, part by part.

mod whole;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::CheckoutError;
use super::plan::{Plan, digest_of};
use super::target::{
    Found, Target, create, folder_in, list_in, look_at, make_folders, open_folder, open_to_read, open_to_write,
    parent_in, remove,
};
use crate::cache::nanoseconds_now;
use crate::format::{Content, Entry, Hash, Kind, Manifest, Part};
use crate::source::Stat;
use whole::{There, Whole};

/// The folder's name, in the folder of our own state.
const STAGE: &str = "stage";
/// Below it, folders that are put in place as a whole, at the paths that they will have.
const NEW: &str = "new";
/// Longest path below [`NEW`], in bytes: what is before it counts for what the kernel takes, too.
const LONGEST: usize = 4_000;

/// A file to be staged.
#[derive(Debug)]
pub struct Staged {
    /// Its position among the entries.
    pub entry: usize,
    /// The new folder in which it comes to its place.
    pub folder: Option<usize>,
    /// Its path below the stage.
    name: String,
    /// What is known of its digest, where it is cut.
    whole: Option<Box<Whole>>,
    /// What it looks like, and when that was seen, once it lies there, verified.
    ready: OnceLock<(Stat, i64)>,
}

impl Staged {
    /// What it looks like, and when that was seen, once it lies there, verified: still the same in a folder that was put in place.
    pub fn seen(&self) -> Option<(Stat, i64)> {
        self.ready.get().copied()
    }

    fn set_ready(&self, stat: Stat) {
        let _ = self.ready.set((stat, nanoseconds_now()));
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
    /// Whether it is there. A piece of a range in which something was wrong is read again, with all that was right in it.
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
    /// Folders that are put in place as a whole, by their paths in the target.
    new: Vec<String>,
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

/// Finds the topmost folders that a target doesn't have.
struct NewFolders<'a> {
    target: &'a Target,
    /// Folders that are there.
    there: HashSet<&'a str>,
    found: Vec<&'a str>,
    /// The last one that is not there, and has to be made where it belongs.
    apart: Option<&'a str>,
}

impl<'a> NewFolders<'a> {
    fn of(target: &'a Target) -> Self {
        Self { target, there: HashSet::new(), found: Vec::new(), apart: None }
    }

    /// That in which a file lies; paths come in order.
    fn around(&mut self, path: &'a str) -> Result<Option<usize>, CheckoutError> {
        let holds = |folder: &&str| path.strip_prefix(*folder).is_some_and(|rest| rest.starts_with('/'));
        if self.found.last().is_some_and(holds) {
            return Ok(Some(self.found.len() - 1));
        }
        if self.apart.as_ref().is_some_and(holds) || path.len() > LONGEST {
            return Ok(None);
        }
        for (slash, _) in path.match_indices('/') {
            let folder = &path[..slash];
            if self.there.contains(folder) {
                continue;
            }
            let look = || -> Result<_, Errno> {
                let (parent, name) = self.target.parent(folder)?;
                let found = look_at(&parent, name)?;
                Ok((found, found == Found::Nothing && gives_to_new(&parent)?))
            };
            match look().map_err(self.target.error("look at", folder))? {
                (Found::Directory, _) => self.there.insert(folder),
                (Found::Nothing, false) => {
                    self.found.push(folder);
                    return Ok(Some(self.found.len() - 1));
                }
                // Something else that is there goes first.
                _ => {
                    self.apart = Some(folder);
                    return Ok(None);
                }
            };
        }
        Ok(None)
    }
}

/// Whether a folder gives what is made in it something that the stage wouldn't: its group, or rights of others.
fn gives_to_new(folder: &OwnedFd) -> Result<bool, Errno> {
    if Mode::from_raw_mode(rustix::fs::fstat(folder)?.st_mode).contains(Mode::SGID) {
        return Ok(true);
    }
    #[cfg(target_os = "linux")]
    if let Ok(1..) = rustix::fs::fgetxattr(folder, "system.posix_acl_default", &mut [0_u8; 0][..]) {
        return Ok(true);
    }
    Ok(false)
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
        let mut new = NewFolders::of(target);
        let mut files = Vec::with_capacity(plan.write.len());
        let mut copies: HashMap<Hash, u32> = HashMap::new();
        for &at in &plan.write {
            let Entry { path, kind: Kind::File { hash, content, .. } } = &manifest.entries[at] else { continue };
            // Where several spellings are one folder, it is found by none of them alone: of letters that are composed or not, macOS
            // takes them for one even where case counts.
            let one_spelling = cfg!(target_os = "linux") && plan.wanted.is_none();
            let around = if one_spelling { new.around(path.as_str())? } else { None };
            let name = if around.is_some() {
                format!("{NEW}/{path}")
            } else {
                let copy = copies.entry(*hash).or_default();
                *copy += 1;
                format!("{hash}.{}", *copy - 1)
            };
            let whole = matches!(content, Content::Cut(_)).then(Box::default);
            files.push(Staged { entry: at, folder: around, name, whole, ready: OnceLock::new() });
        }
        let new = new.found.into_iter().map(str::to_owned).collect();
        let mut stage = Self { folder, above, path, new, files, places: HashMap::new() };
        let there = stage.adopt(manifest)?;
        for (number, staged) in stage.files.iter().enumerate() {
            if staged.ready.get().is_some() {
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
    fn adopt(&self, manifest: &Manifest) -> Result<HashMap<usize, HashSet<u64>>, CheckoutError> {
        let mut names: Option<HashMap<&str, usize>> = None;
        let mut parts = HashMap::new();
        self.sweep(|name| {
            // Mostly there is nothing.
            let all = || self.files.iter().enumerate().map(|(number, staged)| (staged.name.as_str(), number)).collect();
            let Some(&number) = names.get_or_insert_with(all).get(name) else { return Ok(false) };
            let staged = &self.files[number];
            match self.there(manifest, staged) {
                Ok(There::All) => {
                    let stat = self.dress(&manifest.entries[staged.entry], name)?;
                    staged.set_ready(stat);
                }
                Ok(There::Parts(offsets)) => {
                    parts.insert(number, offsets);
                }
                Ok(There::Nothing) | Err(_) => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(parts)
    }

    /// What of a file is there, and right.
    fn there(&self, manifest: &Manifest, staged: &Staged) -> io::Result<There> {
        let entry = &manifest.entries[staged.entry];
        let mut file = self.open_to_read(&staged.name)?;
        if let Some(whole) = &staged.whole {
            return whole.adopt(&file, entry);
        }
        let digest = digest_of(&mut file)?;
        let right = matches!(&entry.kind, Kind::File { hash, .. } if *hash == digest);
        Ok(if right { There::All } else { There::Nothing })
    }

    /// Removes every file in it that is not to be kept, and the folders in which none is left.
    fn sweep(&self, mut keep: impl FnMut(&str) -> Result<bool, CheckoutError>) -> Result<(), CheckoutError> {
        let mut folders = vec![String::new()];
        let mut next = 0;
        while let Some(folder) = folders.get(next).cloned() {
            next += 1;
            let list = || {
                let open = folder_in(&self.folder, &folder)?;
                Ok((list_in(&open)?, open))
            };
            let listed: Result<_, Errno> = list();
            let (listing, open) =
                listed.map_err(|error| CheckoutError::io("read", self.path.join(&folder))(error.into()))?;
            for (name, found) in listing {
                let path = str::from_utf8(&name).ok().map(|name| join(&folder, name));
                match found {
                    Found::Directory if path.is_some() => folders.extend(path),
                    // None of ours has a name that isn't UTF-8.
                    _ if path.as_deref().map_or(Ok(false), &mut keep)? => {}
                    _ => remove(&open, &name[..]).map_err(|error| {
                        let shown = self.path.join(&folder).join(String::from_utf8_lossy(&name).as_ref());
                        CheckoutError::io("remove", shown)(error)
                    })?,
                }
            }
        }
        // What lies in a folder comes after it.
        for folder in folders.iter().skip(1).rev() {
            if let Ok((parent, name)) = parent_in(&self.folder, folder) {
                // Not empty: something was kept.
                let _ = rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR);
            }
        }
        Ok(())
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

    /// The files that are staged.
    pub fn files(&self) -> impl Iterator<Item = &Staged> {
        self.files.iter()
    }

    /// The folders that are put in place as a whole, by their paths in the target.
    pub fn new_folders(&self) -> impl Iterator<Item = &str> {
        self.new.iter().map(String::as_str)
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
        let mut hand = Hand::of(self);
        for staged in &self.files {
            let entry = &manifest.entries[staged.entry];
            if matches!(&entry.kind, Kind::File { content: Content::Empty, .. }) && staged.ready.get().is_none() {
                staged.set_ready(self.write_whole(&mut hand, entry, &staged.name, b"")?);
            }
        }
        Ok(())
    }

    /// Takes what is wanted out of a decompressed frame. Returns the bytes written.
    pub fn take(&self, manifest: &Manifest, frame: u32, raw: &[u8]) -> Result<u64, StageError> {
        let mut written = 0;
        let mut checked: HashMap<(u32, u32), Hash> = HashMap::new();
        let mut hand = Hand::of(self);
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
            self.take_one(&mut hand, entry, staged, place, content)?;
        }
        Ok(written)
    }

    fn take_one<'s>(
        &'s self,
        hand: &mut Hand<'s>,
        entry: &Entry,
        staged: &'s Staged,
        place: &Place,
        content: &[u8],
    ) -> Result<(), StageError> {
        // Of a piece that is read again, this was right before.
        if staged.ready.get().is_some() || place.written.load(Ordering::Acquire) {
            return Ok(());
        }
        let Some(whole) = &staged.whole else {
            let stat = self.write_whole(hand, entry, &staged.name, content).map_err(StageError::Checkout)?;
            staged.set_ready(stat);
            return Ok(());
        };
        let path = self.shown(&staged.name);
        let mut write = || -> io::Result<()> {
            let (folder, name) = hand.at(&staged.name)?;
            open_to_write(folder, name, OFlags::empty())?.write_all_at(content, place.offset)
        };
        write().map_err(|error| StageError::Checkout(CheckoutError::io("write", &path)(error)))?;
        place.written.store(true, Ordering::Release);
        // The parts are right one by one; whether they make up the file only the whole tells.
        let digest = whole
            .with(place.offset, content, entry.size(), || self.open_to_read(&staged.name))
            .map_err(|error| StageError::Checkout(CheckoutError::io("read", &path)(error)))?;
        let Some(digest) = digest else { return Ok(()) };
        if !matches!(&entry.kind, Kind::File { hash, .. } if digest == *hash) {
            // Reading them once more would not change that.
            return Err(StageError::Checkout(CheckoutError::NotTheFile {
                path: entry.path.to_string(),
                reason: "its parts do not add up to its digest".to_owned(),
            }));
        }
        staged.set_ready(self.dress(entry, &staged.name).map_err(StageError::Checkout)?);
        Ok(())
    }

    fn write_whole<'s>(
        &'s self,
        hand: &mut Hand<'s>,
        entry: &Entry,
        name: &'s str,
        content: &[u8],
    ) -> Result<Stat, CheckoutError> {
        let mut write = || -> io::Result<Stat> {
            let (folder, last) = hand.at(name)?;
            let mut file = create(folder, last, mode_of(entry))?;
            file.write_all(content)?;
            dress(&file, entry)
        };
        write().map_err(CheckoutError::io("write", self.shown(name)))
    }

    fn dress(&self, entry: &Entry, name: &str) -> Result<Stat, CheckoutError> {
        parent_in(&self.folder, name)
            .map_err(io::Error::from)
            .and_then(|(folder, last)| open_to_write(folder, last, OFlags::empty()))
            .and_then(|file| dress(&file, entry))
            .map_err(CheckoutError::io("write", self.shown(name)))
    }

    fn open_to_read(&self, name: &str) -> io::Result<File> {
        let (folder, last) = parent_in(&self.folder, name)?;
        open_to_read(folder, last)
    }

    /// An entry that does not lie there, verified; nothing when all do.
    pub fn lacks(&self) -> Option<usize> {
        self.files.iter().find(|staged| staged.ready.get().is_none()).map(|staged| staged.entry)
    }

    /// Puts a new folder in place, with all that was staged in it. False where its files have to come one by one: something
    /// stands there by now, or the file system has no such thing.
    pub fn put_folder(&self, folder: &str, parent: &OwnedFd, name: &str) -> bool {
        let staged = join(NEW, folder);
        let put = || {
            let (above, last) = parent_in(&self.folder, &staged)?;
            rename_new(&above, last, parent, name)
        };
        put().inspect_err(|error| tracing::debug!(folder, %error, "not put in place as a whole")).is_ok()
    }

    /// Puts a file in place, and says what it looks like.
    pub fn put(&self, staged: &Staged, parent: &OwnedFd, name: &str) -> Result<Stat, Errno> {
        let (above, last) = parent_in(&self.folder, &staged.name)?;
        rustix::fs::renameat(above, last, parent, name)?;
        rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| Stat::of_raw(&stat))
    }

    /// Removes the folder. What can't be removed is found by the next checkout.
    pub fn discard(&self) {
        let _ = self.sweep(|_| Ok(false));
        let _ = rustix::fs::unlinkat(&self.above, STAGE, AtFlags::REMOVEDIR);
    }
}

/// Reaches for files on the stage. Paths mostly come in order, so the folder that was opened last is mostly the next one's, too.
struct Hand<'s> {
    stage: &'s Stage,
    open: Option<(&'s str, OwnedFd)>,
}

impl<'s> Hand<'s> {
    fn of(stage: &'s Stage) -> Self {
        Self { stage, open: None }
    }

    /// The folder of a file, made if need be, and the file's name in it.
    fn at(&mut self, name: &'s str) -> io::Result<(&OwnedFd, &'s str)> {
        let (folder, last) = name.rsplit_once('/').unwrap_or(("", name));
        if folder.is_empty() {
            return Ok((&self.stage.folder, last));
        }
        let open = match self.open.take() {
            Some((path, open)) if path == folder => open,
            _ => match folder_in(&self.stage.folder, folder) {
                Err(Errno::NOENT) => {
                    make_folders(&self.stage.folder, folder)?;
                    folder_in(&self.stage.folder, folder)?
                }
                other => other?,
            },
        };
        let (_, open) = self.open.insert((folder, open));
        Ok((&*open, last))
    }
}

/// Gives something a name that nothing has yet.
#[cfg(target_os = "linux")]
fn rename_new(from: &OwnedFd, name: &str, to: &OwnedFd, new: &str) -> Result<(), Errno> {
    rustix::fs::renameat_with(from, name, to, new, rustix::fs::RenameFlags::NOREPLACE)
}

#[cfg(not(target_os = "linux"))]
fn rename_new(_: &OwnedFd, _: &str, _: &OwnedFd, _: &str) -> Result<(), Errno> {
    Err(Errno::NOTSUP)
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

fn mode_of(entry: &Entry) -> Mode {
    let executable = matches!(entry.kind, Kind::File { executable: true, .. });
    Mode::from_raw_mode(if executable { 0o755 } else { 0o644 })
}

/// Gives a file its mode and time, and says what it looks like then.
fn dress(file: &File, entry: &Entry) -> io::Result<Stat> {
    let Kind::File { mtime, .. } = &entry.kind else { return Err(io::ErrorKind::InvalidInput.into()) };
    let time = rustix::fs::Timespec { tv_sec: *mtime, tv_nsec: 0 };
    rustix::fs::futimens(file, &rustix::fs::Timestamps { last_access: time, last_modification: time })?;
    let stat = rustix::fs::fstat(file)?;
    let mode = mode_of(entry);
    if Mode::from_raw_mode(stat.st_mode) == mode {
        return Ok(Stat::of_raw(&stat));
    }
    file.set_permissions(fs::Permissions::from_mode(mode.as_raw_mode()))?;
    Ok(Stat::of_raw(&rustix::fs::fstat(file)?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

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
        let file = folder.path().join(".workspace/stage").join(&stage.files().next().unwrap().name);
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

    /// A frame for each file, which holds nothing else.
    fn apart(files: &[(&str, &[u8])]) -> (Manifest, Plan) {
        let length = |content: &[u8]| u32::try_from(content.len()).unwrap();
        let entry = |(frame, (path, content)): (u32, &(&str, &[u8]))| Entry {
            path: path.parse().unwrap(),
            kind: Kind::File {
                executable: *path == "a/b/d/e.sh",
                size: content.len() as u64,
                mtime: 1_000,
                hash: Hash::of(content),
                content: Content::Whole(Part { frame, offset: 0, length: length(content) }),
            },
        };
        let frame = |(at, (_, content)): (u64, &(&str, &[u8]))| Frame {
            pack: 0,
            offset: 9 * at,
            length: 9,
            raw: length(content),
        };
        let manifest = Manifest {
            header: Header::bare(&[]),
            packs: vec![PackInfo { id: ulid::Ulid::from_parts(1, 1), size: 9 * files.len() as u64 }],
            frames: (0..).zip(files).map(frame).collect(),
            entries: (0..).zip(files).map(entry).collect(),
        };
        (manifest, Plan { write: (0..files.len()).collect(), ..Plan::default() })
    }

    const FILES: &[(&str, &[u8])] =
        &[("a/b/c.txt", b"c"), ("a/b/d/e.sh", b"e"), ("a/f.txt", b"f"), ("g.txt", b"g"), ("h/i.txt", b"i")];

    fn files_below(folder: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let (path, name) = entry.map(|entry| (entry.path(), entry.file_name().into_string().unwrap())).unwrap();
            if path.is_dir() {
                found.push(format!("{name}/"));
                found.extend(files_below(&path).into_iter().map(|inside| format!("{name}/{inside}")));
            } else {
                found.push(name);
            }
        }
        found.sort();
        found
    }

    #[test]
    fn a_folder_that_is_not_there_yet_is_put_in_place_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        let target = Target::open(folder.path()).unwrap();
        let (manifest, plan) = apart(FILES);
        let stage = Stage::open(&target, &manifest, &plan).unwrap();
        assert_eq!(stage.new_folders().collect::<Vec<_>>(), ["a/b", "h"]);
        assert_eq!(
            stage.files().map(|staged| staged.folder).collect::<Vec<_>>(),
            [Some(0), Some(0), None, None, Some(1)]
        );
        for (frame, (_, content)) in (0..).zip(FILES) {
            stage.take(&manifest, frame, content).unwrap();
        }
        // Somebody was quicker: the folder is theirs, though it is empty, and the files come one by one.
        fs::create_dir(folder.path().join("h")).unwrap();
        let theirs = fs::metadata(folder.path().join("h")).unwrap().ino();
        let parent = target.folder("a").unwrap();
        assert!(stage.put_folder("a/b", &parent, "b"));
        let root = target.folder("").unwrap();
        assert!(!stage.put_folder("h", &root, "h"));
        for staged in stage.files().filter(|staged| staged.folder != Some(0)) {
            let (parent, name) = target.parent(FILES[staged.entry].0).unwrap();
            stage.put(staged, &parent, name).unwrap();
        }
        stage.discard();
        for (staged, (path, content)) in stage.files().zip(FILES) {
            let path = folder.path().join(path);
            assert_eq!(fs::read(&path).unwrap(), *content);
            let metadata = fs::metadata(&path).unwrap();
            assert_eq!(metadata.permissions().mode() & 0o777, if staged.entry == 1 { 0o755 } else { 0o644 });
            if staged.folder == Some(0) {
                let stat = Stat::of_raw(&rustix::fs::lstat(&path).unwrap());
                assert_eq!(staged.seen().unwrap().0, stat);
            }
        }
        assert_eq!(fs::metadata(folder.path().join("h")).unwrap().ino(), theirs);
        fs::remove_dir(folder.path().join(".workspace")).unwrap();
        assert_eq!(
            files_below(folder.path()),
            ["a/", "a/b/", "a/b/c.txt", "a/b/d/", "a/b/d/e.sh", "a/f.txt", "g.txt", "h/", "h/i.txt"]
        );
    }

    #[test]
    fn what_gets_its_group_from_its_parent_is_made_there() {
        let folder = tempfile::tempdir().unwrap();
        let shared = folder.path().join("a");
        fs::create_dir(&shared).unwrap();
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o2775)).unwrap();
        let target = Target::open(folder.path()).unwrap();
        let (manifest, plan) = apart(FILES);
        let stage = Stage::open(&target, &manifest, &plan).unwrap();
        assert_eq!(stage.new_folders().collect::<Vec<_>>(), ["h"]);
    }

    #[test]
    fn of_a_new_folder_what_is_wanted_and_right_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::open(folder.path()).unwrap();
        let (manifest, plan) = apart(FILES);
        let stage = Stage::open(&target, &manifest, &plan).unwrap();
        for (frame, (_, content)) in (0..).zip(FILES) {
            stage.take(&manifest, frame, content).unwrap();
        }
        drop(stage);
        let new = folder.path().join(".workspace/stage/new");
        fs::write(new.join("a/b/c.txt"), "C").unwrap();
        fs::create_dir_all(new.join("a/z/empty")).unwrap();
        fs::create_dir_all(new.join("y")).unwrap();
        fs::write(new.join("y/foreign"), "").unwrap();
        std::os::unix::fs::symlink("/", new.join("a/x")).unwrap();

        // The next version has no `h` any more.
        let (manifest, plan) = apart(&FILES[..4]);
        let stage = Stage::open(&target, &manifest, &plan).unwrap();
        assert_eq!((stage.frames(), stage.missing_bytes()), ([0].into(), 1));
        assert_eq!(files_below(&new), ["a/", "a/b/", "a/b/d/", "a/b/d/e.sh", "a/f.txt"]);
        stage.take(&manifest, 0, b"c").unwrap();
        assert_eq!(stage.lacks(), None);
        stage.discard();
        assert!(!folder.path().join(".workspace/stage").exists());
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
