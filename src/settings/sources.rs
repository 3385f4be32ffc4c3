//! Where settings are read: flags, environment, and a file of variables.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::SettingsError;
use crate::cli::Global;
use crate::environment::{
    Environment, S3_ACCESS_KEY, S3_ATTEMPT_TIMEOUT, S3_ATTEMPTS, S3_BUCKET, S3_CONNECT_TIMEOUT, S3_CONTAINER_ENDPOINT,
    S3_ENDPOINT, S3_REGION, S3_SECRET_KEY, S3_STALL_GRACE, STORAGE_MODE, WORKSPACE_CA_BUNDLE, WORKSPACE_CACHE_DIR,
    WORKSPACE_CDN_URL, WORKSPACE_DATA_DIR, WORKSPACE_LARGE_FILE, WORKSPACE_MANY_FILES,
};

/// The variables that can be set in the environment or in the file. Others in the file belong to other programs.
pub const VARIABLES: &[&str] = &[
    S3_ENDPOINT,
    S3_BUCKET,
    S3_ACCESS_KEY,
    S3_SECRET_KEY,
    S3_REGION,
    S3_CONTAINER_ENDPOINT,
    STORAGE_MODE,
    WORKSPACE_DATA_DIR,
    WORKSPACE_CACHE_DIR,
    WORKSPACE_CA_BUNDLE,
    WORKSPACE_CDN_URL,
    S3_CONNECT_TIMEOUT,
    S3_ATTEMPT_TIMEOUT,
    S3_STALL_GRACE,
    S3_ATTEMPTS,
    WORKSPACE_LARGE_FILE,
    WORKSPACE_MANY_FILES,
];

/// Variables read from `.env` or the file named instead.
#[derive(Clone)]
pub struct EnvFile {
    /// The file.
    pub path: PathBuf,
    /// Those of [`VARIABLES`] that it sets.
    pub values: BTreeMap<String, String>,
    /// All others: none of ours, but applications may ask for them.
    pub others: BTreeMap<String, String>,
}

impl fmt::Debug for EnvFile {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("EnvFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl EnvFile {
    /// Reads the file named by `--env-file`, which has to be there, or `.env` in the current folder, which need not.
    pub fn read(named: Option<&Path>) -> Result<Self, SettingsError> {
        let path = named.unwrap_or(Path::new(".env"));
        let failed = |reason: String| SettingsError::File { path: path.display().to_string(), reason };
        let content = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => String::new(),
            other => other.map_err(|error| failed(error.to_string()))?,
        };
        Self::parse(path, &content).map_err(failed)
    }

    /// The same from text. The error is a reason that repeats nothing of the file.
    pub fn parse(path: &Path, content: &str) -> Result<Self, String> {
        let (mut values, mut others) = (BTreeMap::new(), BTreeMap::new());
        for item in dotenvy::from_read_iter(content.as_bytes()) {
            match item {
                Ok((name, value)) => {
                    if VARIABLES.contains(&name.as_str()) {
                        values.insert(name, value);
                    } else {
                        others.insert(name, value);
                    }
                }
                Err(dotenvy::Error::LineParse(line, _)) => {
                    // The line may hold a secret; its place does not.
                    let number = content.lines().position(|candidate| candidate.trim() == line.trim());
                    return Err(match number {
                        Some(number) => format!("line {} is not `NAME=value`", number + 1),
                        None => "a line is not `NAME=value`".to_owned(),
                    });
                }
                Err(_) => return Err("it is not a list of `NAME=value`".to_owned()),
            }
        }
        Ok(Self { path: path.to_owned(), values, others })
    }
}

/// Where a value was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The command line; the flag.
    Flag(&'static str),
    /// The environment.
    Environment,
    /// A file of variables.
    File(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(_) => out.write_str("the command line"),
            Self::Environment => out.write_str("the environment"),
            Self::File(path) => write!(out, "`{}`", path.display()),
        }
    }
}

/// A value and where it was found. Not to be shown before it is known to be no secret.
#[derive(Clone)]
pub(super) struct Value {
    pub(super) text: String,
    pub(super) source: Source,
}

impl Value {
    /// What the person wrote: the flag or the variable.
    pub(super) fn name(&self, variable: &str) -> String {
        if let Source::Flag(flag) = self.source { flag.to_owned() } else { variable.to_owned() }
    }
}

/// What belongs together and comes from one source.
pub(super) struct Group {
    pub(super) mode: Option<Value>,
    pub(super) endpoint: Option<Value>,
    pub(super) bucket: Option<Value>,
    pub(super) region: Option<Value>,
    pub(super) access_key: Option<Value>,
    pub(super) secret_key: Option<Value>,
    pub(super) container_endpoint: Option<Value>,
}

type Values = BTreeMap<&'static str, Value>;

/// All sources, free of empty values.
pub(super) struct Sources {
    flags: Values,
    environment: Values,
    file: Values,
    file_path: PathBuf,
}

impl Sources {
    pub(super) fn read(flags: &Global, environment: &Environment, file: &EnvFile) -> Result<Self, SettingsError> {
        let mut sources = Self {
            flags: Values::new(),
            environment: Values::new(),
            file: Values::new(),
            file_path: file.path.clone(),
        };
        let given = [
            (S3_ENDPOINT, "--endpoint", &flags.endpoint),
            (S3_BUCKET, "--bucket", &flags.bucket),
            (S3_REGION, "--region", &flags.region),
        ];
        for (variable, flag, value) in given {
            if let Some(text) = value {
                sources.flags.insert(variable, value_of(flag, text, Source::Flag(flag))?);
            }
        }
        for variable in VARIABLES {
            if let Some(text) = environment.get(variable) {
                sources.environment.insert(variable, value_of(variable, text, Source::Environment)?);
            }
            if let Some(text) = file.values.get(*variable) {
                let source = Source::File(file.path.clone());
                sources.file.insert(variable, value_of(variable, text, source)?);
            }
        }
        Ok(sources)
    }

    /// A setting that stands for itself: the nearest source that has it.
    pub(super) fn single(&self, variable: &str) -> Option<&Value> {
        [&self.flags, &self.environment, &self.file].into_iter().find_map(|values| values.get(variable))
    }

    /// Endpoint, bucket and keys from one source, so that a file in a folder from somewhere sends nobody's keys anywhere.
    /// `--bucket` and `--region` alone choose within the file's endpoint.
    pub(super) fn group(&self) -> Result<Group, SettingsError> {
        let outer = |variable| self.flags.get(variable).or_else(|| self.environment.get(variable));
        let names: Vec<String> = [S3_BUCKET, S3_ACCESS_KEY, S3_SECRET_KEY]
            .into_iter()
            .filter(|variable| self.environment.contains_key(variable))
            .map(str::to_owned)
            .collect();
        let use_file = outer(S3_ENDPOINT).is_none() && names.is_empty();
        if !use_file && outer(S3_ENDPOINT).is_none() && self.file.contains_key(S3_ENDPOINT) {
            let place = Source::Environment.to_string();
            return Err(SettingsError::Mixed { names, place, file: format!("`{}`", self.file_path.display()) });
        }
        let has = |variable| self.file.contains_key(variable);
        if use_file && has(S3_ENDPOINT) && !has(S3_ACCESS_KEY) && !has(S3_SECRET_KEY) {
            return Err(SettingsError::NoKeysInFile { file: format!("`{}`", self.file_path.display()) });
        }
        let pick = |variable| outer(variable).or_else(|| self.file.get(variable).filter(|_| use_file)).cloned();
        Ok(Group {
            mode: pick(STORAGE_MODE),
            endpoint: pick(S3_ENDPOINT),
            bucket: pick(S3_BUCKET),
            region: pick(S3_REGION),
            access_key: pick(S3_ACCESS_KEY),
            secret_key: pick(S3_SECRET_KEY),
            container_endpoint: pick(S3_CONTAINER_ENDPOINT),
        })
    }
}

fn value_of(name: &str, text: &str, source: Source) -> Result<Value, SettingsError> {
    // Secrets pasted into a CI system often end in a newline, which no value here can have.
    let text = text.trim();
    if text.is_empty() {
        return Err(SettingsError::Empty { name: name.to_owned(), place: source.to_string() });
    }
    Ok(Value { text: text.to_owned(), source })
}
