//! Docker Compose files: a pure function from workspaces, their plans and a few wishes to YAML text.
//!
//! Nothing secret is ever written: keys are `${VARIABLE}` references that Compose fills in when it starts a container. The
//! same input gives the same bytes, so a file can be kept in a repository and compared.

mod labels;
mod model;
pub mod release;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::application::{Plan, Runtime};
use crate::environment::{is_variable_name, may_be_secret};
use crate::names::{Selector, Version, WorkspaceName};
use model::{Attached, File, Healthcheck, Network, Service, Volume};

pub use labels::{dns_label, seen_from_container};

/// How each file begins.
pub const MADE_BY: &str = "# Made by `workspace compose ";
/// Where the image keeps the tree.
const APP_DIR: &str = "/app";
/// Where the image keeps what package managers may keep between containers.
const CACHE_DIR: &str = "/cache";
/// Where the file of certificate authorities appears in a container.
const CA_BUNDLE: &str = "/etc/workspace/ca-bundle.pem";

/// One workspace to render.
#[derive(Debug, Clone)]
pub struct Application {
    /// As it was asked for. A bare name follows the newest version at each start, everything else pins.
    pub selector: Selector,
    /// The number of the version that the selector means now.
    pub number: u64,
    /// That version's plan.
    pub plan: Option<Plan>,
}

/// Where containers find the store. Endpoint, bucket and region are no secrets and are written as defaults that the
/// environment of `docker compose` may override.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Store {
    /// The endpoint that this machine uses; `None` for AWS.
    pub endpoint: Option<String>,
    /// `S3_CONTAINER_ENDPOINT`, where it is set.
    pub container_endpoint: Option<String>,
    /// The bucket.
    pub bucket: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// How containers prove who they are.
    pub keys: Keys,
}

/// Which variables hold the keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Keys {
    /// `S3_ACCESS_KEY` and `S3_SECRET_KEY`.
    #[default]
    S3,
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and perhaps `AWS_SESSION_TOKEN`.
    Aws,
    /// None: the host's role is used.
    Role,
}

/// What else may be wished for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ComposeOptions {
    /// The image, instead of the runtime's own.
    pub image: Option<String>,
    /// The port on the host's loopback; Docker chooses one where none is given.
    pub port: Option<u16>,
    /// The host name under which Traefik routes to it.
    pub domain: Option<String>,
    /// An existing network to join, such as Traefik's.
    pub network: Option<String>,
    /// Memory limit, as Docker writes it.
    pub memory: Option<String>,
    /// CPU limit.
    pub cpus: Option<String>,
    /// Further variables for the application: a value, or `None` to take it from the environment of `docker compose`.
    pub environment: BTreeMap<String, Option<String>>,
    /// A PEM file on the host of certificate authorities to trust.
    pub ca_bundle: Option<PathBuf>,
    /// `WORKSPACE_CDN_URL`, where it is set: containers ask it for packs, too.
    pub cdn: Option<String>,
    /// Whether containers go on to every version that comes, while they run.
    pub follow: bool,
}

/// The YAML, and what the reader ought to know about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The file's text.
    pub text: String,
    /// One sentence each.
    pub warnings: Vec<String>,
}

/// Why nothing can be rendered.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// There is nothing to start.
    #[error("`{name}@{number}` has no start command: it is stored, not run")]
    NoStart {
        /// The workspace.
        name: WorkspaceName,
        /// The version.
        number: u64,
    },
    /// Nobody knows an image for it.
    #[error(
        "no image is known that runs `{name}` ({runtime}); name one with `--image`, or as `image:` in workspace.yaml"
    )]
    NoImage {
        /// The workspace.
        name: WorkspaceName,
        /// What it needs.
        runtime: Runtime,
    },
    /// One host port or host name can't serve several workspaces.
    #[error("`{flag}` is for one workspace, and {count} were named")]
    OneOnly {
        /// The flag.
        flag: &'static str,
        /// How many were named.
        count: usize,
    },
    /// What never changes can't be followed.
    #[error("`{name}@{number}` never changes, so there is nothing to follow; `{name}` and `{name}@TAG` do")]
    Fixed {
        /// The workspace.
        name: WorkspaceName,
        /// The version.
        number: u64,
    },
    /// The same workspace twice.
    #[error("`{name}` is named twice")]
    Twice {
        /// The workspace.
        name: WorkspaceName,
    },
    /// The plan asks for what no application may have.
    #[error("`{name}` asks for the variable `{variable}` as a secret, which no application may be given")]
    Secret {
        /// The workspace.
        name: WorkspaceName,
        /// The variable.
        variable: String,
    },
    /// The model can't be written as YAML.
    #[error("can't write the YAML")]
    Yaml(#[from] serde_yaml::Error),
}

/// The volume for a package manager's cache. No name has capitals, so no two workspaces' volumes can be the same.
pub fn cache_volume(name: &WorkspaceName, manager: &str) -> String {
    format!("workspace-{name}-Cache-{manager}")
}

/// The volume that a workspace keeps on purpose.
pub fn data_volume(name: &WorkspaceName, volume: &str) -> String {
    format!("workspace-{name}-Data-{volume}")
}

/// Renders one Compose file for all the given workspaces.
pub fn render(applications: &[Application], store: &Store, options: &ComposeOptions) -> Result<Rendered, ComposeError> {
    let count = applications.len();
    for (flag, given) in [("--port", options.port.is_some()), ("--domain", options.domain.is_some())] {
        if given && count > 1 {
            return Err(ComposeError::OneOnly { flag, count });
        }
    }
    let mut file = File { name: labels::project(applications), ..File::default() };
    let mut warnings = Vec::new();
    let mut comments = Vec::new();
    for application in applications {
        let label = dns_label(&application.selector.name);
        let service = service(application, &label, store, options, &mut file, &mut warnings)?;
        if file.services.insert(label, service).is_some() {
            return Err(ComposeError::Twice { name: application.selector.name.clone() });
        }
        comments.push(comment(application, options.follow));
    }
    if let Some(network) = &options.network {
        file.networks.insert("default".to_owned(), Network::default());
        file.networks.insert(network.clone(), Network { external: true, name: None });
    }
    let names = applications.iter().map(|application| application.selector.to_string()).collect::<Vec<_>>().join(" ");
    let text = format!("{MADE_BY}{names}`.\n{}{}", comments.concat(), serde_yaml::to_string(&file)?);
    Ok(Rendered { text, warnings })
}

/// What follows a bare name at each start, said where the file's reader looks.
fn comment(application: &Application, follow: bool) -> String {
    let Selector { name, version } = &application.selector;
    let number = application.number;
    match version {
        _ if follow => format!("# {}: follows every version while it runs (now {number}).\n", application.selector),
        Version::Current => {
            format!(
                "# {name}: follows the newest version at each start (now {number}). To pin it: workspace compose {name}@{number}\n"
            )
        }
        Version::Number(_) => format!("# {name}: pinned to version {number}.\n"),
        Version::Tag(tag) => format!("# {name}: pinned to version {number}, which `{tag}` meant when this was made.\n"),
    }
}

fn service(
    application: &Application,
    label: &str,
    store: &Store,
    options: &ComposeOptions,
    file: &mut File,
    warnings: &mut Vec<String>,
) -> Result<Service, ComposeError> {
    let name = &application.selector.name;
    let number = application.number;
    let no_start = || ComposeError::NoStart { name: name.clone(), number };
    let plan = application.plan.as_ref().filter(|plan| plan.start.is_some()).ok_or_else(no_start)?;
    let image = image(name, plan, options)?;
    secrets(name, plan)?;
    if let Some(version) = &plan.version
        && options.image.is_none()
        && plan.image.is_none()
    {
        warnings.push(format!(
            "`{name}` asks for {} {version}; the image `{image}` is used whatever it holds. Build one for that version with \
             `--build-arg BASE_IMAGE=…` and name it with `--image`",
            plan.runtime
        ));
    }
    if plan.release.is_some() {
        warnings.push(format!("`{name}` has a release command, which Compose doesn't run"));
    }
    if !plan.processes.is_empty() {
        let list = plan.processes.keys().cloned().collect::<Vec<_>>().join(", ");
        warnings.push(format!("`{name}` has further processes, which this file doesn't start: {list}"));
    }
    if let Some(replicas) = plan.replicas.filter(|replicas| *replicas > 1) {
        warnings.push(format!("`{name}` asks for {replicas} replicas; a container with a name of its own is one only"));
    }
    let followed = application.selector.version == Version::Current;
    let mut command = vec!["run".to_owned()];
    match &application.selector.version {
        Version::Number(_) if options.follow => return Err(ComposeError::Fixed { name: name.clone(), number }),
        Version::Tag(_) if options.follow => command.push(application.selector.to_string()),
        Version::Current => command.push(name.to_string()),
        _ => command.push(format!("{name}@{number}")),
    }
    if options.follow {
        command.push("--follow".to_owned());
    }
    let mut volumes = vec![APP_DIR.to_owned()];
    if let Some(manager) = &plan.package_manager {
        let key = format!("{label}-{manager}");
        volumes.push(format!("{key}:{CACHE_DIR}"));
        let labels = BTreeMap::from([
            ("workspace.cache".to_owned(), manager.clone()),
            ("workspace.name".to_owned(), name.to_string()),
        ]);
        file.volumes.insert(key, Volume { name: cache_volume(name, manager), external: false, labels });
    }
    for (volume, path) in &plan.volumes {
        let key = format!("{label}-volume-{volume}");
        volumes.push(format!("{key}:{}", model::literal(path)));
        let labels = BTreeMap::from([
            ("workspace.name".to_owned(), name.to_string()),
            ("workspace.volume".to_owned(), volume.clone()),
        ]);
        file.volumes.insert(key, Volume { name: data_volume(name, volume), external: false, labels });
    }
    if let Some(bundle) = &options.ca_bundle {
        let bundle = model::literal(&bundle.display().to_string());
        volumes.push(format!("${{WORKSPACE_CA_BUNDLE:-{bundle}}}:{CA_BUNDLE}:ro"));
    }
    let mut labels = BTreeMap::from([
        ("workspace.name".to_owned(), name.to_string()),
        ("workspace.runtime".to_owned(), plan.runtime.to_string()),
        ("workspace.version".to_owned(), if followed { "newest".to_owned() } else { number.to_string() }),
    ]);
    let domains = domains(name, plan, options, warnings);
    if !domains.is_empty() {
        labels.extend(labels::traefik(label, &domains, plan.port, options.network.as_deref()));
    }
    let host_port = options.port.map(|port| port.to_string()).unwrap_or_default();
    let own_port = format!("127.0.0.1:{host_port}:{}", plan.port);
    Ok(Service {
        image,
        container_name: format!("workspace-{name}"),
        command,
        environment: environment(plan, store, options),
        ports: std::iter::once(own_port).chain(plan.ports.iter().map(|port| model::literal(port))).collect(),
        volumes,
        // The default would be `noexec`, which some packages' install scripts don't survive.
        tmpfs: vec!["/tmp:exec,mode=1777,size=512m".to_owned()],
        read_only: true,
        cap_drop: vec!["ALL".to_owned()],
        security_opt: vec!["no-new-privileges:true".to_owned()],
        pids_limit: 1024,
        mem_limit: model::literal(options.memory.as_deref().or(plan.memory.as_deref()).unwrap_or("2g")),
        cpus: options.cpus.as_deref().or(plan.cpus.as_deref()).map(model::literal),
        extra_hosts: vec!["host.docker.internal:host-gateway".to_owned()],
        networks: Attached::Plain(
            options.network.iter().flat_map(|network| ["default".to_owned(), network.clone()]).collect(),
        ),
        healthcheck: Healthcheck::default(),
        labels,
        restart: "unless-stopped",
        // The application's own grace of 10 s, and a little for the rest.
        stop_grace_period: "15s",
    })
}

/// The host names that labels for Traefik shall name: that of the command line, else the declared ones where there is a
/// network on which Traefik can reach the container.
fn domains(name: &WorkspaceName, plan: &Plan, options: &ComposeOptions, warnings: &mut Vec<String>) -> Vec<String> {
    match &options.domain {
        Some(domain) => vec![domain.clone()],
        None if options.network.is_some() => plan.domains.clone(),
        None => {
            if !plan.domains.is_empty() {
                let list = plan.domains.join(", ");
                warnings.push(format!(
                    "`{name}` declares domains ({list}); `--network` with Traefik's network routes them"
                ));
            }
            Vec::new()
        }
    }
}

fn image(name: &WorkspaceName, plan: &Plan, options: &ComposeOptions) -> Result<String, ComposeError> {
    if let Some(image) = options.image.as_ref().or(plan.image.as_ref()) {
        return Ok(model::literal(image));
    }
    match &plan.runtime {
        runtime if runtime.has_image() => Ok(format!("workspace-{runtime}-s3:latest")),
        runtime => Err(ComposeError::NoImage { name: name.clone(), runtime: runtime.clone() }),
    }
}

/// The secrets of a plan: the application's name for each, and the name outside. A plan comes from a bucket, so nothing is
/// taken for granted: a name could be that of the store's own keys.
fn secrets<'a>(name: &WorkspaceName, plan: &'a Plan) -> Result<&'a BTreeMap<String, String>, ComposeError> {
    let fits = |variable: &&String| is_variable_name(variable) && may_be_secret(variable);
    match plan.secrets.iter().flat_map(|(inside, outside)| [inside, outside]).find(|variable| !fits(variable)) {
        Some(variable) => Err(ComposeError::Secret { name: name.clone(), variable: variable.clone() }),
        None => Ok(&plan.secrets),
    }
}

fn environment(plan: &Plan, store: &Store, options: &ComposeOptions) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    let mut set = |name: &str, value: String| variables.insert(name.to_owned(), value);
    for (inside, outside) in &plan.secrets {
        set(inside, format!("${{{outside}:?is not set, and the application needs it as {inside}}}"));
    }
    for (name, value) in &options.environment {
        set(name, value.as_deref().map_or_else(|| format!("${{{name}}}"), model::literal));
    }
    let with_default = |name: &str, default: &str| format!("${{{name}:-{}}}", model::literal(default));
    if let Some(endpoint) = &store.container_endpoint {
        set("S3_ENDPOINT", with_default("S3_CONTAINER_ENDPOINT", endpoint));
    } else if let Some(endpoint) = &store.endpoint {
        let reachable = labels::seen_from_container(endpoint);
        // A loopback address means another machine inside a container, so the variable of the host's own is no help.
        let variable = if reachable == *endpoint { "S3_ENDPOINT" } else { "S3_CONTAINER_ENDPOINT" };
        set("S3_ENDPOINT", with_default(variable, &reachable));
    }
    if let Some(bucket) = &store.bucket {
        set("S3_BUCKET", with_default("S3_BUCKET", bucket));
    }
    if let Some(region) = &store.region {
        set("S3_REGION", with_default("S3_REGION", region));
    }
    let keys: &[&str] = match store.keys {
        Keys::S3 => &["S3_ACCESS_KEY", "S3_SECRET_KEY"],
        Keys::Aws => &["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
        Keys::Role => &[],
    };
    for name in keys {
        set(name, format!("${{{name}:?is not set, and the container needs it to fetch the workspace}}"));
    }
    set("STORAGE_MODE", "s3".to_owned());
    set("PORT", plan.port.to_string());
    if options.ca_bundle.is_some() {
        set("WORKSPACE_CA_BUNDLE", CA_BUNDLE.to_owned());
    }
    if let Some(cdn) = &options.cdn {
        set("WORKSPACE_CDN_URL", with_default("WORKSPACE_CDN_URL", cdn));
    }
    variables
}
