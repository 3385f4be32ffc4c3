//! What a folder lists: names and kinds, and a handle by which each can be asked about without its path.

use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};

use super::Stat;

/// A folder, and what is in it.
pub struct Listing {
    folder: Dir,
    /// By name: the order of a folder is an accident; warnings and questions shall not be.
    pub names: Vec<Named>,
}

/// Something in a folder.
pub struct Named {
    /// Its name.
    pub name: Box<[u8]>,
    /// What it is.
    pub kind: FileType,
}

impl Listing {
    /// Reads a folder. A link is none.
    pub fn read(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        let mut folder = Dir::new(folder)?;
        let mut names = Vec::new();
        while let Some(entry) = folder.read() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let kind = match entry.file_type() {
                // Some file systems don't say.
                FileType::Unknown => match rustix::fs::statat(folder.fd()?, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    Err(rustix::io::Errno::NOENT) => continue,
                    Err(error) => return Err(error.into()),
                },
                kind => kind,
            };
            names.push(Named { name: name.to_bytes().into(), kind });
        }
        names.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Ok(Self { folder, names })
    }

    /// What something in it looks like; a link itself, not what it leads to.
    pub fn stat(&self, name: &[u8]) -> io::Result<Stat> {
        Ok(Stat::of_raw(&rustix::fs::statat(self.folder.fd()?, name, AtFlags::SYMLINK_NOFOLLOW)?))
    }

    /// The text of a link in it.
    pub fn link(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        Ok(rustix::fs::readlinkat(self.folder.fd()?, name, Vec::new())?.into_bytes())
    }

    /// Whether a name is there, in whatever case: some file systems don't tell.
    pub fn has(&self, name: &str) -> bool {
        self.names.iter().any(|named| named.name.eq_ignore_ascii_case(name.as_bytes()))
    }
}
