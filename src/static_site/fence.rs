//! Which files of a folder may be seen, whatever an address says.
//!
//! Nothing outside of the folder, neither by `..` nor through a link; nothing whose name begins with a dot, except below
//! `.well-known`; nothing but files and folders. What is refused looks like what isn't there.

use std::fs::File;
use std::future::{Ready, ready};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use tower_http::services::fs::{Backend, File as OpenFile};

use super::marks::{Description, Marks};
use crate::application::WORKSPACE_YAML;

/// What RFC 8615 reserves for answers about the site itself.
const WELL_KNOWN: &str = ".well-known";

type Later<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// A folder, and the way into it.
#[derive(Debug, Clone)]
pub(super) struct Fence {
    /// Without links in it.
    root: Arc<Path>,
    marks: Marks,
}

impl Fence {
    pub(super) fn around(folder: &Path) -> io::Result<Self> {
        let root = folder.canonicalize()?;
        if !root.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self { root: root.into(), marks: Marks::default() })
    }

    /// Opens what `path`, relative to the root, leads to. Blocks.
    fn open_now(&self, path: &Path) -> io::Result<File> {
        let found = relative(path).ok_or(io::ErrorKind::NotFound)?;
        let real = self.root.join(found).canonicalize().map_err(plain)?;
        if !real.starts_with(&*self.root) {
            return Err(io::ErrorKind::NotFound.into());
        }
        // A pipe without a writer would hold the thread for ever.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(real, flags, Mode::empty()).map_err(|error| plain(error.into()))?);
        let metadata = file.metadata()?;
        if metadata.is_file() || metadata.is_dir() { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    async fn opened(self, path: PathBuf) -> io::Result<(File, Description)> {
        let open = move || {
            let mut file = self.open_now(&path)?;
            let description = self.marks.describe(&mut file)?;
            Ok((file, description))
        };
        tokio::task::spawn_blocking(open).await.map_err(io::Error::other)?
    }
}

/// The path without `.`, if nothing in it is hidden.
fn relative(path: &Path) -> Option<PathBuf> {
    let mut found = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(name) => {
                let first = found.as_os_str().is_empty();
                let dotted = name.as_encoded_bytes().starts_with(b".") && !(first && name == WELL_KNOWN);
                // How the site is run is no part of it.
                if dotted || (first && name == WORKSPACE_YAML) {
                    return None;
                }
                found.push(name);
            }
            _ => return None,
        }
    }
    Some(found)
}

/// Names that no file can have are not found, rather than a failure.
fn plain(error: io::Error) -> io::Error {
    match Errno::from_io_error(&error) {
        Some(Errno::NAMETOOLONG | Errno::LOOP | Errno::NOTDIR) => io::ErrorKind::NotFound.into(),
        _ => error,
    }
}

impl Backend for Fence {
    type File = Found;
    type Metadata = Description;
    type OpenFuture = Later<'static, Found>;
    type MetadataFuture = Later<'static, Description>;

    fn open(&self, path: PathBuf) -> Self::OpenFuture {
        let fence = self.clone();
        Box::pin(async move {
            let (file, description) = fence.opened(path).await?;
            Ok(Found { file: tokio::fs::File::from_std(file), description })
        })
    }

    fn metadata(&self, path: PathBuf) -> Self::MetadataFuture {
        let fence = self.clone();
        Box::pin(async move { Ok(fence.opened(path).await?.1) })
    }
}

/// A file that may be seen.
#[derive(Debug)]
pub(super) struct Found {
    file: tokio::fs::File,
    description: Description,
}

impl OpenFile for Found {
    type Metadata = Description;
    type MetadataFuture<'a> = Ready<io::Result<Description>>;

    fn metadata(&self) -> Self::MetadataFuture<'_> {
        ready(Ok(self.description.clone()))
    }
}

impl AsyncRead for Found {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.file).poll_read(context, into)
    }
}

impl AsyncSeek for Found {
    fn start_seek(mut self: Pin<&mut Self>, position: io::SeekFrom) -> io::Result<()> {
        Pin::new(&mut self.file).start_seek(position)
    }

    fn poll_complete(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Pin::new(&mut self.file).poll_complete(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_has_no_path() {
        let shown = |path: &str| relative(Path::new(path)).is_some();
        assert!(shown("./a/b.html") && shown(".well-known/security.txt") && shown("a/workspace.yaml") && shown(""));
        for path in [".env", "a/.git/config", "../x", "a/../b", "/etc/passwd", "a/.well-known/x", "workspace.yaml"] {
            assert!(!shown(path), "{path}");
        }
        assert!(!shown(".well-known/.secret"));
    }

    #[test]
    fn links_lead_where_they_may() {
        let outside = tempfile::tempdir().unwrap();
        let folder = outside.path().join("site");
        std::fs::create_dir_all(folder.join("real")).unwrap();
        std::fs::write(folder.join("real/page"), "inside").unwrap();
        std::fs::write(outside.path().join("secret"), "outside").unwrap();
        std::fs::create_dir(outside.path().join("site-too")).unwrap();
        std::fs::write(outside.path().join("site-too/page"), "outside").unwrap();
        let links = [
            ("absolute", folder.join("real/page")),
            ("folder", "real".into()),
            ("out", "../secret".into()),
            ("out-absolute", outside.path().join("secret")),
            ("sibling", "../site-too".into()),
            ("loop", "loop".into()),
        ];
        for (name, target) in links {
            std::os::unix::fs::symlink(target, folder.join(name)).unwrap();
        }
        rustix::fs::mkfifoat(rustix::fs::CWD, folder.join("pipe"), Mode::RUSR).unwrap();
        let fence = Fence::around(&folder).unwrap();
        for path in ["real/page", "absolute", "folder/page", "folder", ""] {
            fence.open_now(Path::new(path)).unwrap();
        }
        for path in ["out", "out-absolute", "sibling/page", "loop", "pipe", "real/page/x", &"x".repeat(300)] {
            assert_eq!(fence.open_now(Path::new(path)).unwrap_err().kind(), io::ErrorKind::NotFound, "{path}");
        }
        assert!(Fence::around(&folder.join("real/page")).is_err());
    }
}
