//! The Compose file of one release: a version on one host, as the monitor starts it.
//!
//! A release is a project of its own. Its containers join the shared network under names of their own, so that several
//! releases of a workspace can run side by side; they publish no ports but those that are declared, hold no keys, and find what
//! they need to fetch the tree in a volume.

use std::collections::BTreeMap;

use super::model::{Attached, File, Healthcheck, Network, Service, Volume, literal};
use super::{APP_DIR, CACHE_DIR, ComposeError, ComposeOptions};
use crate::application::Plan;
use crate::names::WorkspaceName;

/// Where a release finds its grant.
pub const GRANT_DIR: &str = "/run/workspace";
/// The grant's file in it.
pub const GRANT_FILE: &str = "grant.json";
/// The file of certificate authorities in it.
pub const GRANT_CA_BUNDLE: &str = "ca-bundle.pem";

/// What is to be started.
#[derive(Debug, Clone)]
pub struct ReleaseSpec<'a> {
    /// The workspace.
    pub name: &'a WorkspaceName,
    /// The version's number.
    pub number: u64,
    /// How it is run.
    pub plan: &'a Plan,
    /// The shared network.
    pub network: &'a str,
    /// The alias of all containers that serve traffic.
    pub alias: &'a str,
    /// The volume with the grant.
    pub grant_volume: &'a str,
    /// Names of the volumes for package managers' caches and of those that persist, with where each appears.
    pub volumes: &'a [(String, String)],
    /// Whether the grant's volume has a file of certificate authorities.
    pub ca_bundle: bool,
    /// What its containers ask for packs before they use the grant's addresses.
    pub cdn: Option<&'a str>,
    /// Whether containers stop after the installation until they are told to go on.
    pub hold: bool,
    /// Whether its containers go on to every version that they are granted.
    pub follow: bool,
    /// Seconds that an installation may take.
    pub install_limit: u64,
    /// Seconds until it must answer.
    pub ready_limit: u64,
    /// Labels of every container.
    pub labels: &'a BTreeMap<String, String>,
    /// The containers.
    pub containers: &'a [ContainerSpec],
}

/// One container of a release.
#[derive(Debug, Clone)]
pub struct ContainerSpec {
    /// The service's name.
    pub service: String,
    /// The container's name.
    pub container: String,
    /// The process of the application; `None`: the one that serves traffic.
    pub process: Option<String>,
    /// Its own labels.
    pub labels: BTreeMap<String, String>,
}

/// The image that runs a plan.
pub fn image_of(name: &WorkspaceName, plan: &Plan) -> Result<String, ComposeError> {
    super::image(name, plan, &ComposeOptions::default()).map(|image| image.replace("$$", "$"))
}

/// The variable of Compose's own environment that holds a secret. A name of its own, so that no workspace can set what
/// Compose itself listens to.
pub fn secret_variable(inside: &str) -> String {
    format!("WORKSPACE_SECRET_{inside}")
}

/// Renders the file. It holds no values of secrets, but references to [`secret_variable`].
pub fn render_release(spec: &ReleaseSpec<'_>) -> Result<String, ComposeError> {
    let image = super::image(spec.name, spec.plan, &ComposeOptions::default())?;
    let secrets = super::secrets(spec.name, spec.plan)?;
    let mut file = File::default();
    file.networks.insert("workspaces".to_owned(), Network { external: true, name: Some(spec.network.to_owned()) });
    let mut mounts = vec![APP_DIR.to_owned(), format!("grant:{GRANT_DIR}:ro")];
    file.volumes.insert("grant".to_owned(), Volume::external(spec.grant_volume));
    for (number, (volume, target)) in spec.volumes.iter().enumerate() {
        let key = format!("volume{number}");
        mounts.push(format!("{key}:{}", literal(target)));
        file.volumes.insert(key, Volume::external(volume));
    }
    for container in spec.containers {
        let mut environment = BTreeMap::new();
        let mut set = |name: &str, value: String| environment.insert(name.to_owned(), value);
        for inside in secrets.keys() {
            set(inside, format!("${{{}:?is not set}}", secret_variable(inside)));
        }
        set("WORKSPACE_GRANT", format!("{GRANT_DIR}/{GRANT_FILE}"));
        set("WORKSPACE_INSTALL_LIMIT", spec.install_limit.to_string());
        set("WORKSPACE_READY_LIMIT", spec.ready_limit.to_string());
        set("PORT", spec.plan.port.to_string());
        if spec.follow {
            set("WORKSPACE_FOLLOW", "1".to_owned());
        }
        if spec.hold || container.process.is_some() {
            set("WORKSPACE_HOLD", "1".to_owned());
        }
        if let Some(process) = &container.process {
            set("WORKSPACE_PROCESS", literal(process));
        }
        if spec.ca_bundle {
            set("WORKSPACE_CA_BUNDLE", format!("{GRANT_DIR}/{GRANT_CA_BUNDLE}"));
        }
        if let Some(cdn) = spec.cdn {
            set("WORKSPACE_CDN_URL", literal(cdn));
        }
        let mut aliases = vec![container.service.clone()];
        if container.process.is_none() && container.service != spec.alias {
            aliases.push(spec.alias.to_owned());
        }
        let mut labels = spec.labels.clone();
        labels.extend(container.labels.clone());
        let service = Service {
            image: image.clone(),
            container_name: container.container.clone(),
            command: vec!["run".to_owned(), format!("{}@{}", spec.name, spec.number)],
            environment,
            // Of all containers only the one that serves: a port of the host is there once.
            ports: if container.process.is_none() {
                spec.plan.ports.iter().map(|port| literal(port)).collect()
            } else {
                Vec::new()
            },
            volumes: mounts.clone(),
            tmpfs: vec!["/tmp:exec,mode=1777,size=512m".to_owned()],
            read_only: true,
            cap_drop: vec!["ALL".to_owned()],
            security_opt: vec!["no-new-privileges:true".to_owned()],
            pids_limit: 1024,
            mem_limit: literal(spec.plan.memory.as_deref().unwrap_or("2g")),
            cpus: spec.plan.cpus.as_deref().map(literal),
            extra_hosts: vec!["host.docker.internal:host-gateway".to_owned()],
            networks: Attached::with_aliases("workspaces", aliases),
            healthcheck: Healthcheck::every("15s"),
            labels,
            // The monitor's to decide until the release has proved itself; then Docker keeps it running.
            restart: "no",
            stop_grace_period: "15s",
        };
        file.services.insert(container.service.clone(), service);
    }
    Ok(serde_yaml::to_string(&file)?)
}

/// The folder of package managers' caches.
pub fn cache_dir() -> &'static str {
    CACHE_DIR
}
