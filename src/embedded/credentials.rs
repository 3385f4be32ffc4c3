//! The keys of the embedded store: made up once, kept in a file for this user alone.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::EmbeddedError;
use super::disk::{create_private, write_private};
use crate::settings::Secret;

/// Twenty characters are what S3 tools expect of a key id, forty of a secret.
const KEY_LENGTH: usize = 20;
const SECRET_LENGTH: usize = 40;

/// An access key and its secret.
#[derive(Clone, Serialize, Deserialize)]
pub struct Credentials {
    /// Names the key.
    pub access_key: String,
    /// Signs requests.
    pub secret_key: Secret,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Credentials").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

/// Where the credentials of the data folder `root` are kept.
pub fn path_in(root: &Path) -> PathBuf {
    root.join("credentials.json")
}

/// Reads the saved credentials, or makes some up and saves them. The second value says whether they are new.
pub(super) fn load_or_create(root: &Path) -> Result<(Credentials, bool), EmbeddedError> {
    let path = path_in(root);
    let failed = |source| EmbeddedError::Folder { path: path.clone(), source };
    match std::fs::read(&path) {
        Ok(bytes) => {
            let credentials =
                serde_json::from_slice(&bytes).map_err(|_| EmbeddedError::Damaged { path: path.clone() })?;
            Ok((credentials, false))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            create_private(root).map_err(failed)?;
            let credentials = generate().map_err(failed)?;
            let text = serde_json::to_vec_pretty(&credentials).map_err(|error| failed(error.into()))?;
            // Two first starts at once: the one whose file is there first wins, and both use it.
            let lock = std::fs::File::open(root).map_err(failed)?;
            lock.lock().map_err(failed)?;
            if path.exists() {
                drop(lock);
                return load_or_create(root);
            }
            write_private(&path, &text).map_err(failed)?;
            Ok((credentials, true))
        }
        Err(error) => Err(failed(error)),
    }
}

fn generate() -> std::io::Result<Credentials> {
    let mut bytes = [0; KEY_LENGTH + SECRET_LENGTH];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
    // 32 characters, so that five bits of each byte choose one without bias.
    let text: String =
        bytes.iter().map(|byte| char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[usize::from(byte & 31)])).collect();
    let (access_key, secret_key) = text.split_at(KEY_LENGTH);
    Ok(Credentials { access_key: access_key.to_owned(), secret_key: Secret::new(secret_key) })
}
