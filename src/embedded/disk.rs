//! Buckets and objects as folders and files, safe against crashes and against other processes.
//!
//! ```text
//! format.json                      format number of all this
//! presence                         locked shared by every process that is using the folder
//! buckets/<name>/objects/…         one file per object, see `keys` and `file`
//! buckets/<name>/uploads/<ulid>/   multipart uploads in progress
//! buckets/<name>/temporary/<ulid>  content on its way in
//! buckets/<name>/locks/<00…ff>     one of these is locked while a key changes
//! buckets/<name>/bucket            locked shared while an object is published, exclusively while the bucket goes
//! ```
//!
//! A write fills a temporary file, syncs it, takes its key's lock, checks its condition, renames, syncs the folder, and
//! only then answers. Locks belong to open files, so they end with their process however it ends. Object folders are
//! never removed while their bucket lives: a writer can rely on the ones it has seen.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::EmbeddedError;
use super::file::{Footer, read_footer};
use super::keys;

/// The format number written by this version, and the newest it reads.
const FORMAT: u32 = 1;
/// Folders remembered as durable; forgetting them costs a sync each, nothing else.
const MAX_REMEMBERED: usize = 100_000;

/// Why an operation on objects or buckets was refused.
#[derive(Debug)]
pub(super) enum DiskError {
    /// There is no such bucket.
    NoBucket,
    /// There is no such object.
    NoKey,
    /// The condition doesn't hold.
    Precondition,
    /// The bucket to create is there already.
    BucketExists,
    /// The bucket to delete has objects.
    BucketNotEmpty,
    /// The file system says no.
    Io(io::Error),
}

impl From<io::Error> for DiskError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What must hold for a write to take effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Check {
    /// Anything.
    Nothing,
    /// No object has the key.
    Absent,
    /// An object has the key.
    Present,
    /// The object's ETag is this one (without quotes).
    Matches(String),
}

#[derive(Serialize, Deserialize)]
struct Format {
    format: u32,
}

/// The data folder.
#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
    /// Held for the life of the process: whoever can lock it exclusively knows that all temporary files are orphans.
    _presence: File,
    /// (inode of the bucket, folder) whose entry in its parent is known to be on disk.
    durable: Mutex<HashSet<(u64, PathBuf)>>,
}

impl Disk {
    /// Opens the folder, creating it when it isn't there, and removes what interrupted writes left.
    pub(super) fn open(root: &Path) -> Result<Self, EmbeddedError> {
        let failed = |source| EmbeddedError::Folder { path: root.to_owned(), source };
        create_private(root).map_err(failed)?;
        let format = root.join("format.json");
        match fs::read(&format) {
            Ok(bytes) => {
                let found: Format =
                    serde_json::from_slice(&bytes).map_err(|_| EmbeddedError::Damaged { path: format.clone() })?;
                if found.format > FORMAT {
                    return Err(EmbeddedError::Newer { path: root.to_owned(), format: found.format });
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create_private(&root.join("buckets")).map_err(failed)?;
                let text = serde_json::to_vec(&Format { format: FORMAT }).map_err(|error| failed(error.into()))?;
                write_private(&format, &text).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
        let presence = lock_file(&root.join("presence")).map_err(failed)?;
        if presence.try_lock().is_ok() {
            remove_orphans(&root.join("buckets")).map_err(failed)?;
            presence.unlock().map_err(failed)?;
        }
        presence.lock_shared().map_err(failed)?;
        Ok(Self { root: root.to_owned(), _presence: presence, durable: Mutex::default() })
    }

    /// All buckets with their time of creation in milliseconds since 1970, sorted by name.
    pub(super) fn buckets(&self) -> io::Result<Vec<(String, i64)>> {
        let mut buckets = Vec::new();
        for entry in fs::read_dir(self.root.join("buckets"))? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.starts_with('.') {
                continue;
            }
            // The lock file is as old as the bucket; the folder's own time moves.
            let created = fs::metadata(entry.path().join("bucket")).map_or(0, |meta| meta.mtime() * 1000);
            buckets.push((name, created));
        }
        buckets.sort();
        Ok(buckets)
    }

    /// The bucket, if it is there.
    pub(super) fn bucket(&self, name: &str) -> Result<Bucket<'_>, DiskError> {
        let path = self.root.join("buckets").join(name);
        match fs::metadata(path.join("objects")) {
            Ok(_) => Ok(Bucket { disk: self, path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(DiskError::NoBucket),
            Err(error) => Err(error.into()),
        }
    }

    /// Creates a bucket.
    pub(super) fn create_bucket(&self, name: &str) -> Result<(), DiskError> {
        let buckets = self.root.join("buckets");
        let new = buckets.join(format!(".{}", Ulid::generate()));
        for part in ["objects", "uploads", "temporary", "locks"] {
            create_private(&new.join(part))?;
        }
        lock_file(&new.join("bucket"))?;
        sync_folder(&new)?;
        // A folder replaces an empty folder only, and ours is never empty.
        let renamed = fs::rename(&new, buckets.join(name));
        if let Err(error) = renamed {
            fs::remove_dir_all(&new)?;
            return match error.kind() {
                io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => Err(DiskError::BucketExists),
                _ => Err(error.into()),
            };
        }
        sync_folder(&buckets)?;
        Ok(())
    }

    /// Deletes a bucket that has no objects.
    pub(super) fn delete_bucket(&self, name: &str) -> Result<(), DiskError> {
        let bucket = self.bucket(name)?;
        let lock = lock_file(&bucket.path.join("bucket"))?;
        lock.lock()?;
        if bucket.walk().any()? {
            return Err(DiskError::BucketNotEmpty);
        }
        let buckets = self.root.join("buckets");
        let gone = buckets.join(format!(".{}", Ulid::generate()));
        match fs::rename(&bucket.path, &gone) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(DiskError::NoBucket),
            other => other?,
        }
        sync_folder(&buckets)?;
        fs::remove_dir_all(&gone)?;
        Ok(())
    }
}

/// One bucket that was there a moment ago.
#[derive(Debug, Clone)]
pub(super) struct Bucket<'a> {
    disk: &'a Disk,
    path: PathBuf,
}

impl Bucket<'_> {
    /// Where objects lie.
    pub(super) fn objects(&self) -> PathBuf {
        self.path.join("objects")
    }

    /// Where multipart uploads lie.
    pub(super) fn uploads(&self) -> PathBuf {
        self.path.join("uploads")
    }

    /// All objects in key order.
    pub(super) fn walk(&self) -> super::listing::Walk {
        super::listing::Walk::new(self.objects())
    }

    /// Opens an object. What is read from the file stays the same, whatever happens to the key.
    pub(super) fn open(&self, key: &str) -> Result<(File, Footer), DiskError> {
        match File::open(self.objects().join(keys::path_of(key))) {
            Ok(mut file) => {
                let footer = read_footer(&mut file)?;
                Ok((file, footer))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.disk.bucket(&self.name())?;
                Err(DiskError::NoKey)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// An empty file for content on its way in; gone when dropped without being published.
    pub(super) fn temporary(&self) -> Result<Temporary, DiskError> {
        let path = self.path.join("temporary").join(Ulid::generate().to_string());
        let opened = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        match opened {
            Ok(file) => Ok(Temporary { file, path: Some(path) }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(DiskError::NoBucket),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a filled file the object `key`, if the check holds. On disk when this returns.
    pub(super) fn publish(&self, temporary: Temporary, key: &str, check: &Check) -> Result<(), DiskError> {
        temporary.file.sync_all()?;
        let _bucket = self.share()?;
        let _key = self.lock_key(key)?;
        self.check(key, check)?;
        let target = self.objects().join(keys::path_of(key));
        let Some(folder) = target.parent() else { return Err(DiskError::NoKey) };
        create_private(folder)?;
        temporary.rename_to(&target)?;
        self.sync_new_folders(folder)?;
        sync_folder(folder)?;
        Ok(())
    }

    /// Removes an object, if the check holds. A key that isn't there is removed already.
    pub(super) fn remove(&self, key: &str, check: &Check) -> Result<(), DiskError> {
        let _bucket = self.share()?;
        let _key = self.lock_key(key)?;
        self.check(key, check)?;
        let path = self.objects().join(keys::path_of(key));
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        }
        if let Some(folder) = path.parent() {
            sync_folder(folder)?;
        }
        Ok(())
    }

    fn name(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    fn check(&self, key: &str, check: &Check) -> Result<(), DiskError> {
        if *check == Check::Nothing {
            return Ok(());
        }
        match (self.open(key), check) {
            (Ok(_), Check::Absent) => Err(DiskError::Precondition),
            (Ok((_, footer)), Check::Matches(etag)) if footer.etag != *etag => Err(DiskError::Precondition),
            (Ok(_), _) | (Err(DiskError::NoKey), Check::Absent) => Ok(()),
            (Err(error), _) => Err(error),
        }
    }

    /// Keeps the bucket from being deleted meanwhile.
    fn share(&self) -> Result<File, DiskError> {
        let path = self.path.join("bucket");
        let lock = match OpenOptions::new().read(true).write(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(DiskError::NoBucket),
            other => other?,
        };
        lock.lock_shared()?;
        Ok(lock)
    }

    fn lock_key(&self, key: &str) -> Result<File, DiskError> {
        // 256 locks serve all keys: more would be files for nothing, as few writers are ever at work at once.
        let stripe = blake3::hash(key.as_bytes()).as_bytes()[0];
        let lock = lock_file(&self.path.join("locks").join(format!("{stripe:02x}")))?;
        lock.lock()?;
        Ok(lock)
    }

    /// Makes sure that the folders down to `folder` survive a power loss. Each is synced once per process.
    fn sync_new_folders(&self, folder: &Path) -> io::Result<()> {
        let bucket = fs::metadata(&self.path)?.ino();
        let objects = self.objects();
        for ancestor in folder.ancestors().take_while(|ancestor| **ancestor != objects) {
            let entry = (bucket, ancestor.to_owned());
            let known = self.disk.durable.lock().unwrap_or_else(PoisonError::into_inner).contains(&entry);
            if known {
                continue;
            }
            if let Some(parent) = ancestor.parent() {
                sync_folder(parent)?;
            }
            let mut durable = self.disk.durable.lock().unwrap_or_else(PoisonError::into_inner);
            if durable.len() >= MAX_REMEMBERED {
                durable.clear();
            }
            durable.insert(entry);
        }
        Ok(())
    }
}

/// A file that isn't an object yet.
#[derive(Debug)]
pub(super) struct Temporary {
    /// The file, open for reading and writing.
    pub(super) file: File,
    path: Option<PathBuf>,
}

impl Temporary {
    /// Gives the file its name.
    pub(super) fn rename_to(mut self, target: &Path) -> Result<(), DiskError> {
        let Some(path) = self.path.take() else { return Ok(()) };
        let renamed = fs::rename(&path, target);
        if renamed.is_err() {
            self.path = Some(path);
        }
        renamed.map_err(|error| match error.kind() {
            // The temporary folder goes with its bucket only.
            io::ErrorKind::NotFound => DiskError::NoBucket,
            _ => error.into(),
        })
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = self.path.take() {
            // What can't be removed now is removed at the next start.
            let _ = fs::remove_file(path);
        }
    }
}

/// Creates a folder and its parents, for this user alone.
pub(super) fn create_private(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes a small file whole or not at all, for this user alone.
pub(super) fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let Some(folder) = path.parent() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let temporary = tempfile::NamedTempFile::new_in(folder)?;
    io::Write::write_all(&mut temporary.as_file(), content)?;
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|error| error.error)?;
    sync_folder(folder)
}

/// Makes the names in a folder survive a power loss.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn lock_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Nobody else is using the folder: whatever is temporary belongs to nobody.
fn remove_orphans(buckets: &Path) -> io::Result<()> {
    for bucket in fs::read_dir(buckets)? {
        let bucket = bucket?;
        if bucket.file_name().to_string_lossy().starts_with('.') {
            fs::remove_dir_all(bucket.path())?;
            continue;
        }
        for orphan in fs::read_dir(bucket.path().join("temporary"))? {
            fs::remove_file(orphan?.path())?;
        }
    }
    Ok(())
}
