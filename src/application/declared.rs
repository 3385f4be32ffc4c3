//! `workspace.yaml`: what the uploader says about the application. It overrides whatever would be detected.

mod deployment;
mod mistakes;
mod schema;
mod secrets;
mod values;

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde_yaml::Value;

use super::folder::Folder;
use super::lock_policy::LockPolicy;
use super::static_site::{self, StaticSite};
use super::{ApplicationError, Command, HealthCheck, Plan, Runtime, SourceTree, WORKSPACE_YAML};

pub(super) use mistakes::listed;
use mistakes::{Entries, Lines};
pub use mistakes::{Fault, Mistake};
pub use schema::schema;
use values::{command, commands, dir, environment, health, lock, nearest, port, runtime, site, text, yes_or_no};

/// The parsed file; everything is optional. Its fields are the file's keys, and their first lines what the published schema
/// says of them.
#[derive(Debug, Default, JsonSchema)]
#[schemars(
    title = "workspace.yaml",
    description = "How an application is installed, started and run.",
    deny_unknown_fields
)]
pub(super) struct Declared {
    /// What the application is made for, in place of what the files say. Picks the image.
    #[schemars(with = "Option<schema::RuntimeName>")]
    pub(super) runtime: Option<Runtime>,
    /// The runtime's version, such as 22 or 3.12.
    #[schemars(with = "Option<schema::Text>")]
    pub(super) version: Option<String>,
    /// A container image of one's own, with the `workspace` binary in it.
    pub(super) image: Option<String>,
    /// The folder of the tree in which the application is.
    pub(super) dir: Option<String>,
    /// Commands that install dependencies; an empty list for none.
    #[schemars(with = "Option<schema::Commands>")]
    pub(super) install: Option<Vec<Command>>,
    /// Commands that build, after the installation; an empty list for none.
    #[schemars(with = "Option<schema::Commands>")]
    pub(super) build: Option<Vec<Command>>,
    /// A command that runs once per version, before it takes traffic.
    #[schemars(with = "Option<schema::CommandLine>")]
    pub(super) release: Option<Command>,
    /// The command that serves traffic, on the address in HOST and the port in PORT.
    #[schemars(with = "Option<schema::CommandLine>")]
    pub(super) start: Option<Command>,
    /// What PORT is set to.
    #[schemars(range(min = 1))]
    pub(super) port: Option<u16>,
    /// A path that answers with 2xx or 3xx once the application is ready; without it, an open port is enough.
    #[schemars(with = "Option<schema::Health>")]
    pub(super) health: Option<HealthCheck>,
    /// Variables for the application; what the container is given wins.
    #[schemars(with = "BTreeMap<String, schema::Text>")]
    pub(super) environment: BTreeMap<String, String>,
    /// Variables whose values whoever starts the container takes from its own environment: names, never values.
    #[schemars(with = "schema::Secrets")]
    pub(super) secrets: BTreeMap<String, String>,
    /// Host names under which a router sends traffic to it.
    #[schemars(with = "Option<schema::OneOrMore>")]
    pub(super) domains: Option<Vec<String>>,
    /// How many containers serve traffic.
    #[schemars(range(min = 1, max = deployment::MAX_REPLICAS))]
    pub(super) replicas: Option<u16>,
    /// Volumes that outlive releases: name and absolute path in the container.
    #[schemars(with = "Option<schema::Volumes>")]
    pub(super) volumes: Option<BTreeMap<String, String>>,
    /// Fixed ports of the host, such as 5432:5432. The release before is stopped first.
    #[schemars(with = "Option<schema::OneOrMore>")]
    pub(super) ports: Option<Vec<String>>,
    /// Memory limit of each container, such as 512m.
    #[schemars(with = "Option<schema::Text>")]
    pub(super) memory: Option<String>,
    /// CPU limit of each container, such as 1.5.
    #[schemars(with = "Option<schema::Text>")]
    pub(super) cpus: Option<String>,
    /// What is done about a lock file that is missing or no longer fits: refuse the upload, say so and install what fits,
    /// or always install what fits.
    #[schemars(with = "Option<schema::LockName>")]
    pub(super) lock: LockPolicy,
    /// A static site: the folder that is served, after the build if there is one.
    #[schemars(rename = "static", with = "Option<schema::Site>")]
    pub(super) site: Option<StaticSite>,
    /// Whether what is started takes up changed files by itself: where versions are followed, it isn't started anew.
    #[schemars(with = "Option<bool>")]
    pub(super) reload: bool,
    /// Whether what was installed is kept in the bucket, so that other containers start in seconds and without a package registry.
    #[schemars(with = "Option<bool>")]
    pub(super) cache_dependencies: bool,
    /// Where each key stands, counted from 1.
    #[schemars(skip)]
    lines: BTreeMap<String, usize>,
}

/// The keys of `workspace.yaml`, in the order in which they are explained.
pub(super) fn keys() -> Vec<&'static str> {
    KEYS.to_vec()
}

const KEYS: [&str; 22] = [
    "runtime",
    "version",
    "image",
    "dir",
    "install",
    "build",
    "release",
    "start",
    "port",
    "health",
    "environment",
    "secrets",
    "domains",
    "replicas",
    "volumes",
    "ports",
    "memory",
    "cpus",
    "lock",
    "static",
    "reload",
    "cache_dependencies",
];

impl Declared {
    pub(super) fn read(tree: &dyn SourceTree) -> Result<Self, ApplicationError> {
        let bytes = tree
            .read(WORKSPACE_YAML)
            .map_err(|source| ApplicationError::Read { path: WORKSPACE_YAML.to_owned(), source })?;
        bytes.map_or_else(|| Ok(Self::default()), |bytes| Self::parse(&String::from_utf8_lossy(&bytes)))
    }

    pub(super) fn parse(text: &str) -> Result<Self, ApplicationError> {
        // Empty, or comments alone: nothing is said.
        if matches!(serde_yaml::from_str(text), Ok(Value::Null)) {
            return Ok(Self::default());
        }
        let lines = Lines::of(text);
        let entries = serde_yaml::from_str::<Entries>(text).map_err(|error| match serde_yaml::from_str(text) {
            Ok(Value::Mapping(_)) | Err(_) => syntax(lines.of_error(&error)),
            Ok(_) => syntax("it must be `key: value` lines".to_owned()),
        })?;
        let (mut declared, mut mistakes, mut seen) = (Self::default(), Vec::new(), BTreeSet::new());
        for (key, value) in entries.0 {
            let Value::String(key) = key else {
                return Err(syntax(format!("`{key:?}` is no key")));
            };
            let earlier = *declared.lines.entry(key.clone()).or_insert_with(|| lines.line(&key, 0));
            let mut mistake = |line, fault| mistakes.push(Mistake { line, key: key.clone(), fault });
            if !seen.insert(key.clone()) {
                let reason = format!("stands on line {earlier} already; leave one of them out");
                mistake(lines.line(&key, 1), Fault::Value(reason));
                continue;
            }
            if let Err(problem) = declared.set(&key, value) {
                mistake(earlier, problem.into_fault(&key));
            }
        }
        mistakes.extend(declared.contradictions());
        if mistakes.is_empty() {
            return Ok(declared);
        }
        mistakes.sort_by_key(|mistake| mistake.line);
        Err(ApplicationError::Mistakes { path: WORKSPACE_YAML.to_owned(), mistakes })
    }

    /// Keys that are right by themselves and not together.
    fn contradictions(&self) -> Vec<Mistake> {
        let mut found = Vec::new();
        if self.replicas.is_some_and(|replicas| replicas > 1) && self.ports.is_some() {
            found.push(self.mistake("ports", "can't be shared by several `replicas`"));
        }
        match (self.environment.get("PORT"), self.port) {
            (None, _) => {}
            (Some(_), Some(port)) => {
                found.push(self.mistake(
                    "environment",
                    format!("sets `PORT`, which `port: {port}` decides: leave `PORT` out of it"),
                ));
            }
            (Some(port), None) => found.push(self.mistake(
                "environment",
                format!("sets `PORT`, which whoever leads traffic here has to know: write `port: {port}` instead"),
            )),
        }
        if self.environment.contains_key("HOST") {
            let reason = "sets `HOST`, which is 0.0.0.0 in every container: leave it out";
            found.push(self.mistake("environment", reason));
        }
        found
    }

    /// A key whose value can't be used, as far as it is known now.
    fn mistake(&self, key: &str, reason: impl Into<String>) -> Mistake {
        let line = self.lines.get(key).copied().unwrap_or(1);
        Mistake { line, key: key.to_owned(), fault: Fault::Value(reason.into()) }
    }

    /// The same, as the only thing that is wrong.
    pub(super) fn error(&self, key: &str, reason: impl Into<String>) -> ApplicationError {
        let mistakes = vec![self.mistake(key, reason)];
        ApplicationError::Mistakes { path: WORKSPACE_YAML.to_owned(), mistakes }
    }

    fn set(&mut self, key: &str, value: Value) -> Result<(), Problem> {
        match key {
            "runtime" => self.runtime = Some(runtime(value)?),
            "version" => self.version = Some(text(value)?),
            "image" => self.image = Some(text(value)?),
            "dir" => self.dir = dir(&text(value)?)?,
            "install" => self.install = Some(commands(value)?),
            "build" => self.build = Some(commands(value)?),
            "release" => self.release = Some(command(value)?),
            "start" => self.start = Some(command(value)?),
            "port" => self.port = Some(port(&value)?),
            "health" => self.health = Some(health(value)?),
            "environment" => self.environment = environment(value)?,
            "domains" => self.domains = Some(deployment::domains(value)?),
            "replicas" => self.replicas = Some(deployment::replicas(&value)?),
            "volumes" => self.volumes = Some(deployment::volumes(value)?),
            "memory" => self.memory = Some(deployment::memory(value)?),
            "cpus" => self.cpus = Some(deployment::cpus(value)?),
            "ports" => self.ports = Some(deployment::ports(value)?),
            "secrets" => self.secrets = secrets::read(value)?,
            "lock" => self.lock = lock(value)?,
            "reload" => self.reload = yes_or_no(&value)?,
            "cache_dependencies" => self.cache_dependencies = yes_or_no(&value)?,
            "static" => self.site = site(value)?,
            _ => return Err(Problem::Unknown),
        }
        Ok(())
    }

    /// Lets what is declared win.
    pub(super) fn apply(&self, folder: &Folder<'_>, plan: &mut Plan) {
        let declare = |field: &str, plan: &mut Plan| plan.because(field, WORKSPACE_YAML);
        if let Some(runtime) = &self.runtime {
            plan.runtime = runtime.clone();
            declare("runtime", plan);
        }
        plan.dir.clone_from(&self.dir);
        if let Some(version) = &self.version {
            plan.version = Some(version.clone());
            declare("version", plan);
        }
        if let Some(image) = &self.image {
            plan.image = Some(image.clone());
            declare("image", plan);
        }
        if let Some(install) = &self.install {
            plan.install.clone_from(install);
            // Nobody knows which files a command of the uploader's own reads.
            plan.inputs = vec!["./".to_owned()];
            declare("install", plan);
        }
        if let Some(build) = &self.build {
            plan.build.clone_from(build);
            declare("build", plan);
        }
        if let Some(release) = &self.release {
            plan.release = Some(release.clone());
            declare("release", plan);
        }
        if let Some(site) = &self.site {
            plan.start = Some(static_site::start(folder, Some(site)));
            declare("start", plan);
        }
        if let Some(start) = &self.start {
            plan.start = Some(start.clone());
            declare("start", plan);
        }
        if let Some(port) = self.port {
            plan.port = port;
            declare("port", plan);
        }
        if let Some(health) = &self.health {
            plan.health = Some(health.clone());
            declare("health", plan);
        }
        if self.cache_dependencies {
            plan.cache_dependencies = true;
            declare("cache_dependencies", plan);
        }
        if self.reload {
            plan.reload = true;
            declare("reload", plan);
        }
        if let Some(domains) = &self.domains {
            plan.domains.clone_from(domains);
            declare("domains", plan);
        }
        if self.replicas.is_some() {
            plan.replicas = self.replicas;
            declare("replicas", plan);
        }
        if let Some(volumes) = &self.volumes {
            plan.volumes.clone_from(volumes);
            declare("volumes", plan);
        }
        if self.memory.is_some() {
            plan.memory.clone_from(&self.memory);
            declare("memory", plan);
        }
        if self.cpus.is_some() {
            plan.cpus.clone_from(&self.cpus);
            declare("cpus", plan);
        }
        if let Some(ports) = &self.ports {
            plan.ports.clone_from(ports);
            declare("ports", plan);
        }
        if !self.secrets.is_empty() {
            plan.secrets.clone_from(&self.secrets);
            declare("secrets", plan);
        }
        plan.environment.extend(self.environment.clone());
    }
}

enum Problem {
    Unknown,
    Value(String),
}

impl Problem {
    fn into_fault(self, key: &str) -> Fault {
        match self {
            Self::Unknown => Fault::Unknown(nearest(key, KEYS.into_iter())),
            Self::Value(reason) => Fault::Value(reason),
        }
    }
}

fn syntax(reason: String) -> ApplicationError {
    ApplicationError::Syntax { path: WORKSPACE_YAML.to_owned(), reason }
}
