//! Settings: what the store is, from flags, environment and `.env`.
//!
//! Flags and the environment are one source, the file is another. Endpoint, bucket and keys come from one source
//! together, so that keys in a project's `.env` never go to an endpoint somebody exported for another. [`resolve`] is a
//! pure function of what the sources say.

mod cdn;
mod sources;
mod types;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::cli::Global;
use crate::environment::{
    Environment, S3_ACCESS_KEY, S3_ATTEMPT_TIMEOUT, S3_ATTEMPTS, S3_BUCKET, S3_CONNECT_TIMEOUT, S3_CONTAINER_ENDPOINT,
    S3_ENDPOINT, S3_REGION, S3_SECRET_KEY, S3_STALL_GRACE, STORAGE_MODE, WORKSPACE_CA_BUNDLE, WORKSPACE_CACHE_DIR,
    WORKSPACE_CDN_URL, WORKSPACE_DATA_DIR, WORKSPACE_LARGE_FILE, WORKSPACE_MANY_FILES,
};
use crate::source;

pub use cdn::CdnUrl;
pub use sources::{EnvFile, Source, VARIABLES};
use sources::{Sources, Value};
pub use types::{Backend, Keys, Limits, S3Settings, Secret, Secrets, StoreSettings};

/// The bucket of the embedded store and of custom endpoints, unless told otherwise.
pub const DEFAULT_BUCKET: &str = "workspaces";

/// Who is there when a setting is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A person, who sees where things go: with nothing configured, the store on this machine.
    Interactive,
    /// Nobody: with nothing configured, an error.
    Unattended,
}

/// Why the settings can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A variable or flag is set to nothing.
    #[error("{name} is set to nothing in {place}")]
    Empty {
        /// The variable or flag.
        name: String,
        /// Where it is set.
        place: String,
    },
    /// A value that means nothing.
    #[error("{name} in {place}: {reason}")]
    Invalid {
        /// The variable or flag.
        name: String,
        /// Where it is set.
        place: String,
        /// What is wrong with it. Never the value of a secret.
        reason: String,
    },
    /// A storage mode of long ago, or none at all.
    #[error("STORAGE_MODE in {place} is `{value}`, which is not a storage mode")]
    Mode {
        /// What it is set to.
        value: String,
        /// Where it is set.
        place: String,
    },
    /// `STORAGE_MODE=s3` alone.
    #[error("STORAGE_MODE is `s3`, but neither S3_ENDPOINT nor S3_BUCKET is set")]
    NothingForS3,
    /// AWS has no default bucket.
    #[error("S3_BUCKET is not set, and there is no default on AWS")]
    NoBucket,
    /// One half of a pair of keys.
    #[error("{set} is set in {place} and {missing} is not")]
    HalfKeys {
        /// The variable that is set.
        set: &'static str,
        /// The one that belongs to it.
        missing: &'static str,
        /// Where the first is set.
        place: String,
    },
    /// Endpoint, bucket and keys from two sources.
    #[error("{} in {place} and S3_ENDPOINT in {file}: endpoint, bucket and keys have to come from one source", names.join(", "))]
    Mixed {
        /// What flags and environment set.
        names: Vec<String>,
        /// Where.
        place: String,
        /// The file with the endpoint.
        file: String,
    },
    /// An endpoint in a file without keys.
    #[error(
        "S3_ENDPOINT is set in {file} and no keys are: those of the AWS tools are not sent to an endpoint that a file names"
    )]
    NoKeysInFile {
        /// The file with the endpoint.
        file: String,
    },
    /// Nothing is configured, and nobody is there to see where things would go.
    #[error("no store is configured, and `sync`, `run` and CI never fall back to the store on this machine")]
    NotConfigured,
    /// The file named by `--env-file` or `.env` can't be read.
    #[error("can't read the settings in `{path}`: {reason}")]
    File {
        /// The file.
        path: String,
        /// Why. Never a line of it.
        reason: String,
    },
    /// The user has no home folder, and none is named.
    #[error("there is no folder for the store on this machine: neither WORKSPACE_DATA_DIR nor HOME is set")]
    NoDataFolder,
}

/// All settings, checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How to reach the store.
    pub store: StoreSettings,
    /// The endpoint under which containers reach it; `None`: the same.
    pub container_endpoint: Option<String>,
    /// What is asked for packs before the store.
    pub cdn: Option<CdnUrl>,
    /// Where indexes and copies of manifests are kept; `None` for a user without a home.
    pub cache_directory: Option<PathBuf>,
    /// Each setting with its source, for `workspace status --settings`.
    pub report: Vec<Setting>,
}

/// One setting, for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// The variable.
    pub name: &'static str,
    /// Its value, or what stands for a secret; `None` if there is none.
    pub value: Option<String>,
    /// Where it comes from.
    pub source: String,
}

/// Works out the settings.
pub fn resolve(
    flags: &Global,
    environment: &Environment,
    file: &EnvFile,
    purpose: Purpose,
) -> Result<Settings, SettingsError> {
    let sources = Sources::read(flags, environment, file)?;
    let group = sources.group()?;
    let purpose = if environment.is_ci() { Purpose::Unattended } else { purpose };
    let mut report = Report::default();

    let mode = match group.mode.as_ref().map(|value| (value.text.as_str(), value)) {
        None => None,
        Some(("s3", _)) => Some(Mode::S3),
        Some(("embedded", _)) => Some(Mode::Embedded),
        Some((text, value)) => {
            return Err(SettingsError::Mode { value: text.to_owned(), place: value.source.to_string() });
        }
    };
    let configured = group.endpoint.is_some() || group.bucket.is_some();
    let s3 = match mode {
        Some(Mode::S3) if !configured => return Err(SettingsError::NothingForS3),
        Some(Mode::S3) => true,
        Some(Mode::Embedded) => false,
        None => configured,
    };
    if !s3 && mode.is_none() && purpose == Purpose::Unattended {
        return Err(SettingsError::NotConfigured);
    }

    let (default_mode, not_used) = (if s3 { "s3" } else { "embedded" }, "not used by the embedded store");
    report.value(STORAGE_MODE, group.mode.as_ref(), Some(default_mode));
    let data_directory = sources.single(WORKSPACE_DATA_DIR);
    let default_directory = environment.data_folder();
    let backend = if s3 {
        let endpoint = group.endpoint.as_ref().map(|value| endpoint(S3_ENDPOINT, value)).transpose()?;
        report.value(S3_ENDPOINT, group.endpoint.as_ref(), Some("AWS"));
        report.value(S3_REGION, group.region.as_ref(), endpoint.as_ref().map(|_| "us-east-1"));
        Backend::S3(S3Settings {
            region: group.region.as_ref().map(|value| value.text.clone()),
            keys: keys(&group, &mut report)?,
            endpoint,
        })
    } else {
        for (name, value) in [(S3_ENDPOINT, &group.endpoint), (S3_ACCESS_KEY, &group.access_key)] {
            if let Some(value) = value {
                report.push(name, None, format!("{}, {not_used}", value.source));
            }
        }
        let directory = data_directory.map(|value| PathBuf::from(&value.text)).or(default_directory);
        let directory = directory.ok_or(SettingsError::NoDataFolder)?;
        report.value(WORKSPACE_DATA_DIR, data_directory, Some(&directory.display().to_string()));
        Backend::Embedded { directory }
    };
    let on_aws = matches!(&backend, Backend::S3(s3) if s3.endpoint.is_none());
    let bucket = match &group.bucket {
        Some(value) => bucket_name(value)?,
        None if on_aws => return Err(SettingsError::NoBucket),
        None => DEFAULT_BUCKET.to_owned(),
    };
    report.value(S3_BUCKET, group.bucket.as_ref(), Some(DEFAULT_BUCKET));
    let container_endpoint =
        group.container_endpoint.as_ref().map(|value| endpoint(S3_CONTAINER_ENDPOINT, value)).transpose()?;
    report.value(S3_CONTAINER_ENDPOINT, group.container_endpoint.as_ref(), None);
    let ca_bundle = sources.single(WORKSPACE_CA_BUNDLE);
    report.value(WORKSPACE_CA_BUNDLE, ca_bundle, None);
    report.value(WORKSPACE_CDN_URL, sources.single(WORKSPACE_CDN_URL), None);
    let cdn = sources.single(WORKSPACE_CDN_URL).map(cdn::cdn_url).transpose()?;
    let cache = sources.single(WORKSPACE_CACHE_DIR);
    let cache_directory = cache.map(|value| PathBuf::from(&value.text)).or_else(|| environment.cache_folder());
    report.value(
        WORKSPACE_CACHE_DIR,
        cache,
        cache_directory.as_ref().map(|path| path.display().to_string()).as_deref(),
    );
    let limits = limits(&sources, &mut report)?;
    source_limits(&sources, &mut report)?;
    Ok(Settings {
        store: StoreSettings { backend, bucket, limits, ca_bundle: ca_bundle.map(|value| PathBuf::from(&value.text)) },
        container_endpoint,
        cdn,
        cache_directory,
        report: report.0,
    })
}

/// From where on an upload warns. No store has to be set.
pub fn resolve_source_limits(
    flags: &Global,
    environment: &Environment,
    file: &EnvFile,
) -> Result<source::Limits, SettingsError> {
    source_limits(&Sources::read(flags, environment, file)?, &mut Report::default())
}

/// What a container needs of the settings that has a grant in place of a store.
#[derive(Debug, Clone)]
pub struct Fetching {
    /// How long and how often.
    pub limits: Limits,
    /// A PEM file of certificate authorities to trust beside the system's.
    pub ca_bundle: Option<PathBuf>,
    /// What is asked for packs before the addresses of the grant.
    pub cdn: Option<CdnUrl>,
    /// Where copies of manifests are kept.
    pub cache_directory: Option<PathBuf>,
}

/// Works out what is left of the settings beside a grant: no store, so none has to be set.
pub fn resolve_fetching(flags: &Global, environment: &Environment, file: &EnvFile) -> Result<Fetching, SettingsError> {
    let sources = Sources::read(flags, environment, file)?;
    let path = |name: &str| sources.single(name).map(|value| PathBuf::from(&value.text));
    Ok(Fetching {
        limits: limits(&sources, &mut Report::default())?,
        ca_bundle: path(WORKSPACE_CA_BUNDLE),
        cdn: sources.single(WORKSPACE_CDN_URL).map(cdn::cdn_url).transpose()?,
        cache_directory: path(WORKSPACE_CACHE_DIR).or_else(|| environment.cache_folder()),
    })
}

/// What the store on this machine is, for whoever serves it to others.
#[derive(Debug, Clone)]
pub struct Served {
    /// Its data folder.
    pub directory: PathBuf,
    /// The keys that requests must be signed with; `None`: its own.
    pub keys: Option<Keys>,
}

/// What to serve: always the store on this machine, whatever store the commands use.
pub fn resolve_served(flags: &Global, environment: &Environment, file: &EnvFile) -> Result<Served, SettingsError> {
    let sources = Sources::read(flags, environment, file)?;
    let directory = sources.single(WORKSPACE_DATA_DIR).map(|value| PathBuf::from(&value.text));
    let directory = directory.or_else(|| environment.data_folder()).ok_or(SettingsError::NoDataFolder)?;
    Ok(Served { directory, keys: keys(&sources.group()?, &mut Report::default())? })
}

#[derive(Clone, Copy)]
enum Mode {
    S3,
    Embedded,
}

#[derive(Default)]
struct Report(Vec<Setting>);

impl Report {
    fn value(&mut self, name: &'static str, value: Option<&Value>, default: Option<&str>) {
        match (value, default) {
            (Some(value), _) => self.push(name, Some(value.text.clone()), value.source.to_string()),
            (None, Some(default)) => self.push(name, Some(default.to_owned()), "default".to_owned()),
            (None, None) => self.push(name, None, "not set".to_owned()),
        }
    }

    fn push(&mut self, name: &'static str, value: Option<String>, source: String) {
        self.0.push(Setting { name, value, source });
    }
}

fn keys(group: &sources::Group, report: &mut Report) -> Result<Option<Keys>, SettingsError> {
    match (&group.access_key, &group.secret_key) {
        (Some(access_key), Some(secret_key)) => {
            report.value(S3_ACCESS_KEY, Some(access_key), None);
            report.push(S3_SECRET_KEY, Some("(secret)".to_owned()), secret_key.source.to_string());
            let secret_key = Secret::new(secret_key.text.clone());
            Ok(Some(Keys { access_key: access_key.text.clone(), secret_key }))
        }
        (None, None) => {
            for name in [S3_ACCESS_KEY, S3_SECRET_KEY] {
                report.push(name, None, "not set: as the AWS tools find them".to_owned());
            }
            Ok(None)
        }
        (Some(key), None) => {
            Err(SettingsError::HalfKeys { set: S3_ACCESS_KEY, missing: S3_SECRET_KEY, place: key.source.to_string() })
        }
        (None, Some(key)) => {
            Err(SettingsError::HalfKeys { set: S3_SECRET_KEY, missing: S3_ACCESS_KEY, place: key.source.to_string() })
        }
    }
}

/// A name that some server takes: AWS refuses capitals and `_`, others know them.
fn bucket_name(value: &Value) -> Result<String, SettingsError> {
    let text = &value.text;
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    if plain && (3..=63).contains(&text.len()) {
        return Ok(text.clone());
    }
    Err(SettingsError::Invalid {
        name: value.name(S3_BUCKET),
        place: value.source.to_string(),
        reason: format!("`{text}` is no name for a bucket: 3 to 63 of a-z, 0-9, `.` and `-`"),
    })
}

/// A URL of scheme, host and perhaps port. Returned without a final slash.
fn endpoint(name: &'static str, value: &Value) -> Result<String, SettingsError> {
    let invalid =
        |reason: String| SettingsError::Invalid { name: value.name(name), place: value.source.to_string(), reason };
    let text = value.text.as_str();
    // Before anything that would repeat the text: it may hold a password.
    if text.contains('@') {
        return Err(invalid("a URL with a user or password; keys go into S3_ACCESS_KEY and S3_SECRET_KEY".to_owned()));
    }
    let uri = text.parse::<http::Uri>().map_err(|_| invalid(format!("`{text}` is not a URL")))?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        Some(_) if text.contains("://") => return Err(invalid(format!("`{text}` is neither http nor https"))),
        _ => return Err(invalid(format!("`{text}` has no http:// or https:// in front"))),
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(invalid(format!("`{text}` names no host")));
    }
    let after_host = uri.authority().map_or("", |authority| authority.as_str().trim_start_matches(authority.host()));
    if !after_host.is_empty() && uri.port_u16().is_none() {
        return Err(invalid(format!("`{text}` has an impossible port")));
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(invalid(format!("`{text}` has a path; the bucket goes into S3_BUCKET")));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// A whole number from 1 to `most`.
fn number(
    sources: &Sources,
    report: &mut Report,
    name: &'static str,
    default: u64,
    most: u64,
) -> Result<u64, SettingsError> {
    let value = sources.single(name);
    report.value(name, value, Some(&default.to_string()));
    let Some(value) = value else { return Ok(default) };
    value.text.parse().ok().filter(|number| (1..=most).contains(number)).ok_or_else(|| SettingsError::Invalid {
        name: name.to_owned(),
        place: value.source.to_string(),
        reason: format!("`{}` is not a whole number from 1 to {most}", value.text),
    })
}

fn source_limits(sources: &Sources, report: &mut Report) -> Result<source::Limits, SettingsError> {
    let default = source::Limits::default();
    let file = number(sources, report, WORKSPACE_LARGE_FILE, default.file >> 20, 1 << 30)?;
    let files = number(sources, report, WORKSPACE_MANY_FILES, default.new_files as u64, 1 << 30)?;
    Ok(source::Limits { file: file << 20, new_files: usize::try_from(files).unwrap_or(usize::MAX) })
}

fn limits(sources: &Sources, report: &mut Report) -> Result<Limits, SettingsError> {
    let mut number = |name, default, most| number(sources, report, name, default, most);
    let default = Limits::default();
    Ok(Limits {
        connect: Duration::from_secs(number(S3_CONNECT_TIMEOUT, default.connect.as_secs(), 3600)?),
        attempt: Duration::from_secs(number(S3_ATTEMPT_TIMEOUT, default.attempt.as_secs(), 3600)?),
        stall: Duration::from_secs(number(S3_STALL_GRACE, default.stall.as_secs(), 3600)?),
        attempts: u32::try_from(number(S3_ATTEMPTS, default.attempts.into(), 20)?).unwrap_or(default.attempts),
    })
}

impl EnvFile {
    /// Nothing.
    pub fn empty() -> Self {
        Self { path: PathBuf::from(".env"), values: BTreeMap::new(), others: BTreeMap::new() }
    }
}

#[cfg(test)]
mod tests;
