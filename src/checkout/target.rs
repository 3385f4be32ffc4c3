//! The target folder: every access goes through its descriptor and never follows a link.
//!
//! Parents are opened with `openat2` beneath the root without following links (Linux 5.6), or, where the kernel or a
//! sandbox refuses that, part by part with `O_NOFOLLOW`.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::CheckoutError;
use crate::format::tree::STATE_DIRECTORY;
use crate::source::Stat;

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing, or a parent is missing.
    Nothing,
    /// A regular file, and what it looks like.
    File(Stat),
    /// A link.
    Link,
    /// A folder.
    Directory,
    /// A device, socket or pipe.
    Special,
    /// A parent is no folder.
    Obstructed,
}

/// An open target, locked against other checkouts.
#[derive(Debug)]
pub struct Target {
    path: PathBuf,
    root: OwnedFd,
    /// The folder of our own state: holds the lock while it is open.
    state: OwnedFd,
    knows_no_case: bool,
}

/// The mode of what is ours alone.
pub const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

impl Target {
    /// Opens the folder, made if need be, and takes its lock.
    pub fn open(path: &Path) -> Result<Self, CheckoutError> {
        if let Err(error) = fs::create_dir_all(path) {
            if error.kind() == io::ErrorKind::AlreadyExists || error.kind() == io::ErrorKind::NotADirectory {
                return Err(CheckoutError::BadTarget {
                    path: path.to_owned(),
                    reason: "it is not a folder".to_owned(),
                });
            }
            return Err(CheckoutError::io("create", path)(error));
        }
        let path = fs::canonicalize(path).map_err(CheckoutError::io("open", path))?;
        if path.parent().is_none() {
            return Err(CheckoutError::BadTarget { path, reason: "it is the root of the file system".to_owned() });
        }
        let open = |error: Errno| CheckoutError::io("open", &path)(error.into());
        let root = rustix::fs::open(&path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(open)?;
        let state_path = path.join(STATE_DIRECTORY);
        match rustix::fs::mkdirat(&root, STATE_DIRECTORY, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(CheckoutError::io("create", &state_path)(error.into())),
        }
        let state = rustix::fs::openat(&root, STATE_DIRECTORY, DIRECTORY, Mode::empty()).map_err(|_| {
            CheckoutError::BadTarget {
                path: path.clone(),
                reason: "its `.workspace` is not a folder of ours".to_owned(),
            }
        })?;
        match rustix::fs::flock(&state, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(CheckoutError::Busy(path)),
            Err(error) => return Err(CheckoutError::io("lock", &state_path)(error.into())),
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let knows_no_case = match rustix::fs::statat(&root, STATE_DIRECTORY.to_ascii_uppercase(), flags) {
            Ok(other) => rustix::fs::fstat(&state).is_ok_and(|state| is_same(&state, &other)),
            Err(_) => false,
        };
        Ok(Self { path, root, state, knows_no_case })
    }

    /// Its absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The absolute path of something in it, for messages only.
    pub fn shown(&self, path: &str) -> PathBuf {
        self.path.join(path)
    }

    /// The folder of our own state. Whatever stands at its path by now, this is the one that was locked.
    pub fn state(&self) -> &OwnedFd {
        &self.state
    }

    /// The path of a file in the folder of our own state, for messages only.
    pub fn state_path(&self, name: &str) -> PathBuf {
        self.path.join(STATE_DIRECTORY).join(name)
    }

    /// Whether the file system finds our own folder by another spelling, too.
    pub fn knows_no_case(&self) -> bool {
        self.knows_no_case
    }

    /// Bytes that may still be written to the file system.
    pub fn free_bytes(&self) -> Result<u64, CheckoutError> {
        let stat = rustix::fs::fstatvfs(&self.root).map_err(|error| self.error("look at", "")(error))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// An error about a path in the target.
    pub fn error(&self, action: &'static str, path: &str) -> impl FnOnce(Errno) -> CheckoutError + use<> {
        let path = self.shown(path);
        move |error| CheckoutError::Io { action, path, source: error.into() }
    }

    /// Opens a folder in the target; the root for an empty path.
    pub fn folder(&self, path: &str) -> Result<OwnedFd, Errno> {
        folder_in(&self.root, path)
    }

    /// Makes a folder, and those on the way, as far as they are missing.
    pub fn make_folders(&self, path: &str) -> Result<(), Errno> {
        make_folders(&self.root, path)
    }

    /// Opens the folder that holds `path`, and splits off the name.
    pub fn parent<'p>(&self, path: &'p str) -> Result<(OwnedFd, &'p str), Errno> {
        parent_in(&self.root, path)
    }

    /// What a file looks like. Nothing where none stands, or no folder on the way.
    pub fn stat(&self, path: &str) -> Result<Option<Stat>, Errno> {
        let (parent, name) = match self.parent(path) {
            Ok(parent) => parent,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => return Ok(None),
            Err(error) => return Err(error),
        };
        match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Stat::of_raw(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The text of a link.
    pub fn read_link(&self, path: &str) -> Result<CString, Errno> {
        let (parent, name) = self.parent(path)?;
        rustix::fs::readlinkat(&parent, name, Vec::new())
    }

    /// Opens a regular file for reading.
    pub fn open_file(&self, path: &str) -> Result<fs::File, Errno> {
        let (parent, name) = self.parent(path)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        rustix::fs::openat(&parent, name, flags, Mode::empty()).map(fs::File::from)
    }

    /// Whether there is nothing in it but the folder of our own state.
    pub fn has_only_state(&self) -> Result<bool, Errno> {
        for entry in Dir::read_from(&self.root)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." && name != STATE_DIRECTORY.as_bytes() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Names in a folder, sorted.
    pub fn list(&self, path: &str) -> Result<Vec<(Vec<u8>, Found)>, Errno> {
        let mut listing = list_in(&self.folder(path)?)?;
        listing.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(listing)
    }
}

/// Opens a folder beneath another; that itself for an empty path. Never through a link.
pub fn folder_in(root: &OwnedFd, path: &str) -> Result<OwnedFd, Errno> {
    if path.is_empty() { rustix::io::fcntl_dupfd_cloexec(root, 0) } else { beneath(root, path) }
}

/// Opens the folder beneath another that holds `path`, and splits off the name. Never through a link.
pub fn parent_in<'p>(root: &OwnedFd, path: &'p str) -> Result<(OwnedFd, &'p str), Errno> {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    Ok((folder_in(root, parent)?, name))
}

/// Names in an open folder, and what stands there.
pub fn list_in(folder: &OwnedFd) -> Result<Vec<(Vec<u8>, Found)>, Errno> {
    let mut listing = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            listing.push((name.to_vec(), look_at(folder, entry.file_name())?));
        }
    }
    Ok(listing)
}

/// Makes a folder beneath another, and those on the way, as far as they are missing. Never through a link.
pub fn make_folders(root: &OwnedFd, path: &str) -> Result<(), Errno> {
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    for end in ends {
        let (parent, name) = parent_in(root, &path[..end])?;
        match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether both describe one file.
pub fn is_same(one: &rustix::fs::Stat, other: &rustix::fs::Stat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

/// Opens a regular file in an open folder for writing, made if need be; never through a link, and never waiting.
pub fn open_to_write(folder: impl AsFd, name: &str, more: OFlags) -> io::Result<fs::File> {
    open_as(folder, name, more, PRIVATE)
}

/// Makes a regular file in an open folder, in the place of whatever stands there. The mode is less what the process withholds.
pub fn create(folder: impl AsFd, name: &str, mode: Mode) -> io::Result<fs::File> {
    match open_as(&folder, name, OFlags::EXCL, mode) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            remove(&folder, name)?;
            open_as(folder, name, OFlags::EXCL, mode)
        }
        other => other,
    }
}

fn open_as(folder: impl AsFd, name: &str, more: OFlags, mode: Mode) -> io::Result<fs::File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | more;
    Ok(fs::File::from(rustix::fs::openat(folder, name, flags, mode)?))
}

/// Opens a regular file in an open folder for reading; never through a link, and never waiting.
pub fn open_to_read(folder: impl AsFd, name: impl rustix::path::Arg) -> io::Result<fs::File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    Ok(fs::File::from(rustix::fs::openat(folder, name, flags, Mode::empty())?))
}

/// Opens a folder in an open folder; never through a link.
pub fn open_folder(folder: impl AsFd, name: &str) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(folder, name, DIRECTORY, Mode::empty())?)
}

/// Removes a file or link in an open folder, if it is there.
pub fn remove(folder: impl AsFd, name: impl rustix::path::Arg) -> io::Result<()> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Err(error) if error != Errno::NOENT => Err(error.into()),
        _ => Ok(()),
    }
}

/// What stands at a name in an open folder.
pub fn look_at(folder: impl AsFd, name: impl rustix::path::Arg) -> Result<Found, Errno> {
    let stat = match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(Found::Nothing),
        Err(error) => return Err(error),
    };
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Found::File(Stat::of_raw(&stat)),
        FileType::Directory => Found::Directory,
        FileType::Symlink => Found::Link,
        _ => Found::Special,
    })
}

#[cfg(target_os = "linux")]
fn beneath(root: &OwnedFd, path: &str) -> Result<OwnedFd, Errno> {
    use rustix::fs::ResolveFlags;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(root, path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), resolve) {
        // Older kernels don't know the call; sandboxes forbid it.
        Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => step_by_step(root, path),
        other => other,
    }
}

#[cfg(not(target_os = "linux"))]
fn beneath(root: &OwnedFd, path: &str) -> Result<OwnedFd, Errno> {
    step_by_step(root, path)
}

fn step_by_step(root: &OwnedFd, path: &str) -> Result<OwnedFd, Errno> {
    let mut folder = rustix::io::fcntl_dupfd_cloexec(root, 0)?;
    for part in path.split('/') {
        if part.is_empty() || part == "." || part == ".." {
            return Err(Errno::XDEV);
        }
        folder = rustix::fs::openat(&folder, part, DIRECTORY, Mode::empty())?;
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_not_followed_either_way() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        std::os::unix::fs::symlink(outside.path(), folder.path().join("a/out")).unwrap();
        std::os::unix::fs::symlink("b", folder.path().join("a/in")).unwrap();
        let target = Target::open(folder.path()).unwrap();
        for open in [beneath, step_by_step] {
            assert!(open(&target.root, "a/b").is_ok());
            assert!(open(&target.root, "a/out").is_err());
            assert!(open(&target.root, "a/in").is_err());
            assert!(open(&target.root, "a/../..").is_err());
            assert!(open(&target.root, "/etc").is_err());
        }
    }

    #[test]
    fn a_target_is_locked() {
        let folder = tempfile::tempdir().unwrap();
        let first = Target::open(folder.path()).unwrap();
        assert!(matches!(Target::open(folder.path()), Err(CheckoutError::Busy(_))));
        drop(first);
        assert!(Target::open(folder.path()).is_ok());
    }
}
