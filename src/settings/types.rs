//! What settings come to: plain values that have been checked.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::EnvFile;
use crate::environment::{Environment, may_be_secret};

/// A text that is never shown: not by `Debug`, not in an error.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for whoever signs with it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("[secret]")
    }
}

/// What applications may be given by name, from the environment or `.env`: which of them are, their plans say.
#[derive(Debug, Clone, Default)]
pub struct Secrets(BTreeMap<String, Secret>);

impl Secrets {
    /// All variables but those that no application may have. The environment wins over the file.
    pub fn of(environment: &Environment, file: &EnvFile) -> Self {
        let of_file = file.others.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let all = of_file.chain(environment.iter()).filter(|(name, _)| may_be_secret(name));
        Self(all.map(|(name, value)| (name.to_owned(), Secret::new(value))).collect())
    }

    /// The value of a variable, if it is set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(Secret::expose)
    }
}

/// An access key and its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// Names the key.
    pub access_key: String,
    /// Signs requests.
    pub secret_key: Secret,
}

/// Everything that is needed to reach the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSettings {
    /// Where it is.
    pub backend: Backend,
    /// The bucket.
    pub bucket: String,
    /// How long and how often.
    pub limits: Limits,
    /// A PEM file of certificate authorities to trust beside the system's.
    pub ca_bundle: Option<PathBuf>,
}

impl StoreSettings {
    /// A bucket in a folder of this machine.
    pub fn embedded(directory: &Path, bucket: &str) -> Self {
        Self {
            backend: Backend::Embedded { directory: directory.to_owned() },
            bucket: bucket.to_owned(),
            limits: Limits::default(),
            ca_bundle: None,
        }
    }
}

/// Where objects are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// In a folder of this machine, served inside this process.
    Embedded {
        /// The data folder.
        directory: PathBuf,
    },
    /// On S3, or a server that speaks it.
    S3(S3Settings),
}

/// How to reach an S3 server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Settings {
    /// Its URL without a path; `None` for AWS.
    pub endpoint: Option<String>,
    /// The region; `None` on AWS for the AWS chain's.
    pub region: Option<String>,
    /// The keys; `None` for the AWS chain's.
    pub keys: Option<Keys>,
}

/// How long to wait for the store, and how often to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// For a connection.
    pub connect: Duration,
    /// For one attempt of a request, body included.
    pub attempt: Duration,
    /// For a body that has stopped moving.
    pub stall: Duration,
    /// Attempts of a request, the first included.
    pub attempts: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            attempt: Duration::from_mins(1),
            stall: Duration::from_secs(30),
            attempts: 3,
        }
    }
}
