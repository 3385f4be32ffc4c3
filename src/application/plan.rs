//! The plan as data. Its JSON is part of the manifest format: fields may be added, never renamed or given a new meaning.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Command;

/// How an application is installed, built, started and probed.
///
/// Optional fields are left out of the JSON when empty, and fields that a reader doesn't know are skipped, so that older and
/// newer releases read each other's plans.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What the application is made for.
    pub runtime: Runtime,
    /// The runtime's version as far as the tree demands one, such as `20`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The container image that the uploader asked for instead of the runtime's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The folder of the tree in which everything happens; the root when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<String>,
    /// The folder of the tree in which `install` runs, where that isn't `dir`: `.` is the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub install_dir: Option<String>,
    /// Who installs dependencies, such as `npm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package_manager: Option<String>,
    /// Run in order, before `build`, when [`Plan::inputs`] changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub install: Vec<Command>,
    /// Run in order after `install`, when anything in the tree changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub build: Vec<Command>,
    /// Run once per version, before it takes traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Command>,
    /// What serves traffic. Absent: recognised, but not known how to start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Command>,
    /// Further processes by name, from a `Procfile`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub processes: BTreeMap<String, Command>,
    /// What `PORT` is set to.
    pub port: u16,
    /// How to tell that it is ready; absent: the port accepts connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCheck>,
    /// Host names under which a router sends traffic to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<String>,
    /// How many containers serve traffic; absent: one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u16>,
    /// Volumes that outlive releases, by name: where each appears in the container, as an absolute path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, String>,
    /// Memory limit of each container, as Docker writes it, such as `512m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// CPU limit of each container, such as `1.5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<String>,
    /// Defaults for the application's environment; what the container is given wins.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Set on top of [`Plan::environment`] while installing and building.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub install_environment: BTreeMap<String, String>,
    /// Variables whose values whoever starts the container takes from its own environment: the application's name for
    /// each, and the name there. Never a value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
    /// Fixed ports of the host that lead to ports of the container, as Docker writes them, such as `5432:5432`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
    /// Folders of the tree whose programs are found by name, before all others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<String>,
    /// Whether what is started takes up changed files by itself: where versions are followed, it isn't started anew.
    #[serde(default, skip_serializing_if = "is_false")]
    pub reload: bool,
    /// Whether what was installed is kept in the bucket, for other containers.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cache_dependencies: bool,
    /// The files (relative to the tree's root) whose content decides whether `install` must be repeated. A path that
    /// ends in `/` means everything below it, and `./` the whole tree.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<String>,
    /// Why the fields are as they are, for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
}

impl Plan {
    /// A plan that says nothing but the runtime and its usual port.
    pub fn new(runtime: Runtime) -> Self {
        let port = runtime.usual_port();
        Self {
            runtime,
            version: None,
            image: None,
            dir: None,
            install_dir: None,
            package_manager: None,
            install: Vec::new(),
            build: Vec::new(),
            release: None,
            start: None,
            processes: BTreeMap::new(),
            port,
            health: None,
            domains: Vec::new(),
            replicas: None,
            volumes: BTreeMap::new(),
            memory: None,
            cpus: None,
            environment: BTreeMap::new(),
            install_environment: BTreeMap::new(),
            secrets: BTreeMap::new(),
            ports: Vec::new(),
            path: Vec::new(),
            reload: false,
            cache_dependencies: false,
            inputs: Vec::new(),
            reasons: Vec::new(),
        }
    }

    /// Records why a field is what it is; replaces an earlier reason for the same field.
    pub(super) fn because(&mut self, field: &str, because: impl Into<String>) {
        self.reasons.retain(|reason| reason.field != field);
        self.reasons.push(Reason { field: field.to_owned(), because: because.into() });
    }

    /// One line for people: `node 20, npm, starts with node server.js`.
    pub fn summary(&self) -> String {
        let mut text = self.runtime.to_string();
        if let Some(version) = &self.version {
            text.push(' ');
            text.push_str(version);
        }
        if let Some(manager) = &self.package_manager {
            text.push_str(", ");
            text.push_str(manager);
        }
        match &self.start {
            Some(start) => {
                text.push_str(", starts with `");
                text.push_str(&start.to_string());
                text.push('`');
            }
            None => text.push_str(", no start command"),
        }
        text
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Why a field of a [`Plan`] is as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// The field.
    pub field: String,
    /// The file or rule that decided.
    pub because: String,
}

/// How to tell that an application is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// A GET of this path must answer with 2xx or 3xx.
    pub path: String,
}

/// What an application is made for. Text in JSON; a name that this release doesn't know is kept as [`Runtime::Other`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
#[expect(missing_docs, reason = "the variants are the names themselves")]
pub enum Runtime {
    Node,
    Python,
    Php,
    Static,
    Go,
    Ruby,
    Rust,
    Deno,
    Bun,
    Java,
    /// Whatever the image holds.
    Custom,
    /// Written by a newer release.
    Other(String),
}

const RUNTIMES: [(&str, Runtime); 11] = [
    ("node", Runtime::Node),
    ("python", Runtime::Python),
    ("php", Runtime::Php),
    ("static", Runtime::Static),
    ("go", Runtime::Go),
    ("ruby", Runtime::Ruby),
    ("rust", Runtime::Rust),
    ("deno", Runtime::Deno),
    ("bun", Runtime::Bun),
    ("java", Runtime::Java),
    ("custom", Runtime::Custom),
];

impl Runtime {
    /// The names that `workspace.yaml` may give.
    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        RUNTIMES.iter().map(|(name, _)| *name)
    }

    /// The name as it stands in JSON, in image names and in messages.
    pub fn as_str(&self) -> &str {
        if let Self::Other(name) = self {
            return name;
        }
        RUNTIMES.iter().find(|(_, runtime)| runtime == self).map_or("custom", |(name, _)| name)
    }

    /// Whether there is an image that runs it: `workspace-NAME-s3`.
    pub fn has_image(&self) -> bool {
        matches!(self, Self::Node | Self::Python | Self::Php | Self::Static)
    }

    /// What `PORT` is when nothing says otherwise: what the runtime's frameworks listen on by themselves.
    pub fn usual_port(&self) -> u16 {
        match self {
            Self::Node | Self::Ruby | Self::Bun => 3000,
            Self::Python | Self::Deno => 8000,
            _ => 8080,
        }
    }
}

impl From<String> for Runtime {
    fn from(text: String) -> Self {
        let known = RUNTIMES.iter().find(|(name, _)| *name == text).map(|(_, runtime)| runtime.clone());
        known.unwrap_or(Self::Other(text))
    }
}

impl From<Runtime> for String {
    fn from(runtime: Runtime) -> Self {
        runtime.as_str().to_owned()
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}
