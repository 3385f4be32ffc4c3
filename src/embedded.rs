//! The embedded store: an S3 service on a folder of this machine.
//!
//! With nothing configured, the store's client talks to it inside the process, without a port; `workspace serve` puts
//! it on one. What it has acknowledged survives a killed process and a power loss, and conditional writes are atomic
//! between all processes that use the folder. Requests are signed either way, so both ways are the same service.

mod content;
pub mod credentials;
mod disk;
mod file;
mod keys;
mod listing;
mod multipart;
pub mod server;
mod service;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use s3s::auth::{S3Auth, SecretKey};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Result, s3_error};

pub use credentials::Credentials;
use disk::Disk;

/// Why the embedded store can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The file system says no.
    #[error("can't use the data folder `{}`", path.display())]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// What it says.
        source: std::io::Error,
    },
    /// A file of ours doesn't parse.
    #[error("`{}` is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// Written by a newer version.
    #[error("the data folder `{}` has format {format}, which is newer than this version of workspace knows", path.display())]
    Newer {
        /// The folder.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
}

/// The embedded store, open.
#[derive(Debug, Clone)]
pub struct Embedded {
    root: PathBuf,
    disk: Arc<Disk>,
    credentials: Credentials,
    new_credentials: bool,
}

impl Embedded {
    /// Opens the data folder, creating it and its credentials when they aren't there.
    pub fn open(root: &Path) -> Result<Self, EmbeddedError> {
        let disk = Arc::new(Disk::open(root)?);
        let (credentials, new_credentials) = credentials::load_or_create(root)?;
        Ok(Self { root: root.to_owned(), disk, credentials, new_credentials })
    }

    /// The same folder, with these keys in place of the saved ones.
    #[must_use]
    pub fn with_credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = credentials;
        self.new_credentials = false;
        self
    }

    /// The data folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The keys that requests must be signed with.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Whether this start made the keys up.
    pub fn has_new_credentials(&self) -> bool {
        self.new_credentials
    }

    /// The service: HTTP requests in, HTTP responses out.
    pub fn service(&self) -> S3Service {
        let mut builder = S3ServiceBuilder::new(service::Service::new(Arc::clone(&self.disk)));
        builder.set_auth(Auth(self.credentials.clone()));
        builder.build()
    }
}

/// One key, with the error S3 has for any other.
struct Auth(Credentials);

#[async_trait::async_trait]
impl S3Auth for Auth {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key == self.0.access_key {
            Ok(SecretKey::from(self.0.secret_key.expose().to_owned()))
        } else {
            Err(s3_error!(InvalidAccessKeyId, "the access key is not known here"))
        }
    }
}
