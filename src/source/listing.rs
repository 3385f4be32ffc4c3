//! What a folder lists: names and kinds, and a handle by which each can be asked about without its path.

use std::cmp::Ordering;
use std::io;
use std::ops::Range;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};

use super::Stat;

/// A folder, and what is in it.
pub struct Listing {
    folder: Dir,
    /// All names, one after the other.
    text: Vec<u8>,
    /// Where each name is, and what it is the name of, in the order of [`Listing::names`].
    named: Vec<(Range<usize>, FileType)>,
}

/// Something in a folder.
#[derive(Clone, Copy)]
pub struct Named<'l> {
    /// Its name.
    pub name: &'l [u8],
    /// What it is.
    pub kind: FileType,
}

impl Named<'_> {
    /// As the paths of what lies there: a folder counts with a `/` at its end.
    fn compare(&self, other: &Self) -> Ordering {
        let shared = self.name.len().min(other.name.len());
        let next = |named: &Self| {
            let end = if named.kind.is_dir() { b'/' } else { 0 };
            named.name.get(shared).copied().unwrap_or(end)
        };
        self.name[..shared].cmp(&other.name[..shared]).then_with(|| next(self).cmp(&next(other)))
    }
}

impl Listing {
    /// Opens a folder without reading it. A link is none.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = Dir::new(rustix::fs::openat(CWD, path, flags, Mode::empty())?)?;
        Ok(Self { folder, text: Vec::new(), named: Vec::new() })
    }

    /// Reads a folder. A link is none.
    pub fn read(path: &Path) -> io::Result<Self> {
        let Self { mut folder, mut text, mut named } = Self::open(path)?;
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
            let start = text.len();
            text.extend_from_slice(name.to_bytes());
            named.push((start..text.len(), kind));
        }
        let of = |(range, kind): &(Range<usize>, FileType)| Named { name: &text[range.clone()], kind: *kind };
        named.sort_unstable_by(|one, other| of(one).compare(&of(other)));
        Ok(Self { folder, text, named })
    }

    /// What is in it, in the order of the paths of what lies there: the order of a folder is an accident; warnings and
    /// questions shall not be.
    pub fn names(&self) -> impl Iterator<Item = Named<'_>> {
        self.named.iter().map(|(range, kind)| Named { name: &self.text[range.clone()], kind: *kind })
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
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
        self.names().any(|named| named.name.eq_ignore_ascii_case(name.as_bytes()))
    }
}
