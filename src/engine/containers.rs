//! Containers: what there is, and what can be done to one.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{
    ContainerCreateBody, ContainerStateStatusEnum, ContainerSummaryStateEnum, ContainerUpdateBody, HealthStatusEnum,
    HostConfig, Mount, MountType, PortBinding, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, ListContainersOptionsBuilder, LogsOptionsBuilder,
    RemoveContainerOptionsBuilder, RenameContainerOptionsBuilder, StartContainerOptions, StopContainerOptions,
};
use futures::StreamExt;

use super::{Engine, EngineError};

/// What a container is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerState {
    /// Made and never started.
    Created,
    /// Running, perhaps paused.
    Running,
    /// Crashed, and about to be started again by Docker.
    Restarting,
    /// Ended.
    Exited,
}

/// What a listing says of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerInfo {
    /// Its id.
    pub id: String,
    /// Its name, without the slash in front.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What it is doing.
    pub state: ContainerState,
}

/// Docker's word on a container's health check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Too early to tell.
    Starting,
    /// The last check succeeded.
    Healthy,
    /// Several checks in a row failed.
    Unhealthy,
}

impl Health {
    /// As Docker writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What a closer look says of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerDetail {
    /// What it is doing.
    pub state: ContainerState,
    /// How often Docker started it again by itself.
    pub restarts: u32,
    /// Its exit code, once it ended.
    pub exit_code: Option<i64>,
    /// Whether the kernel killed something in it for lack of memory.
    pub out_of_memory: bool,
    /// What its health check says, if it has one.
    pub health: Option<Health>,
    /// When it was last started, RFC 3339.
    pub started_at: Option<String>,
    /// Whether Docker starts it again by itself.
    pub restarts_by_itself: bool,
    /// Why it couldn't be started.
    pub error: Option<String>,
}

/// A small container of our own, made without Compose.
#[derive(Debug, Clone, Default)]
pub struct NewContainer {
    /// Its name; Docker makes one up where none is given.
    pub name: Option<String>,
    /// Its image.
    pub image: String,
    /// Arguments to the image's entrypoint.
    pub command: Vec<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Volumes by name, with where each appears.
    pub volumes: Vec<(String, String)>,
    /// The network it joins.
    pub network: Option<String>,
    /// A port of its own, and the port on the host's loopback.
    pub port: Option<(u16, u16)>,
    /// Whether Docker keeps it running.
    pub keep_running: bool,
    /// The user it runs as, instead of the image's.
    pub user: Option<String>,
}

impl Engine {
    /// All containers with this label, running or not.
    pub async fn containers(&self, label: &str) -> Result<Vec<ContainerInfo>, EngineError> {
        let filters = HashMap::from([("label", vec![label])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let found = self.docker.list_containers(Some(options)).await.map_err(EngineError::of("list containers"))?;
        Ok(found
            .into_iter()
            .filter_map(|summary| {
                Some(ContainerInfo {
                    id: summary.id?,
                    // A container that others link to has further names, with a second slash in them.
                    name: summary
                        .names?
                        .iter()
                        .filter_map(|name| name.strip_prefix('/'))
                        .find(|name| !name.contains('/'))?
                        .to_owned(),
                    labels: summary.labels.unwrap_or_default().into_iter().collect(),
                    state: match summary.state? {
                        ContainerSummaryStateEnum::CREATED => ContainerState::Created,
                        ContainerSummaryStateEnum::RUNNING
                        | ContainerSummaryStateEnum::PAUSED
                        | ContainerSummaryStateEnum::STOPPING => ContainerState::Running,
                        ContainerSummaryStateEnum::RESTARTING => ContainerState::Restarting,
                        // About to be gone.
                        ContainerSummaryStateEnum::REMOVING => return None,
                        _ => ContainerState::Exited,
                    },
                })
            })
            .collect())
    }

    /// The container with this name or id, if there is one: its id and labels.
    pub async fn container_named(&self, name: &str) -> Result<Option<(String, BTreeMap<String, String>)>, EngineError> {
        let found = self.docker.inspect_container(name, None::<InspectContainerOptions>).await;
        match found.map_err(EngineError::of("look at a container")) {
            Ok(found) => {
                let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
                Ok(Some((found.id.unwrap_or_default(), labels.into_iter().collect())))
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A closer look.
    pub async fn inspect(&self, id: &str) -> Result<ContainerDetail, EngineError> {
        let found = self.docker.inspect_container(id, None::<InspectContainerOptions>).await;
        let found = found.map_err(EngineError::of("look at a container"))?;
        let state = found.state.unwrap_or_default();
        let policy = found.host_config.and_then(|config| config.restart_policy).and_then(|policy| policy.name);
        Ok(ContainerDetail {
            state: match state.status {
                Some(ContainerStateStatusEnum::CREATED) => ContainerState::Created,
                Some(
                    ContainerStateStatusEnum::RUNNING
                    | ContainerStateStatusEnum::PAUSED
                    | ContainerStateStatusEnum::STOPPING,
                ) => ContainerState::Running,
                Some(ContainerStateStatusEnum::RESTARTING) => ContainerState::Restarting,
                _ => ContainerState::Exited,
            },
            restarts: found.restart_count.and_then(|count| u32::try_from(count).ok()).unwrap_or(0),
            exit_code: state.exit_code,
            out_of_memory: state.oom_killed.unwrap_or(false),
            health: state.health.and_then(|health| health.status).and_then(|status| match status {
                HealthStatusEnum::STARTING => Some(Health::Starting),
                HealthStatusEnum::HEALTHY => Some(Health::Healthy),
                HealthStatusEnum::UNHEALTHY => Some(Health::Unhealthy),
                _ => None,
            }),
            started_at: state.started_at,
            restarts_by_itself: policy == Some(RestartPolicyNameEnum::UNLESS_STOPPED),
            error: state.error.filter(|error| !error.is_empty()),
        })
    }

    /// Starts a container. One that runs is started already.
    pub async fn start(&self, id: &str) -> Result<(), EngineError> {
        let started = self.docker.start_container(id, None::<StartContainerOptions>).await;
        started.map_err(EngineError::of("start a container"))
    }

    /// Stops a container with its own signal and grace. One that is gone or has ended is stopped already.
    pub async fn stop(&self, id: &str) -> Result<(), EngineError> {
        let stopped = self.docker.stop_container(id, None::<StopContainerOptions>).await;
        match stopped.map_err(EngineError::of("stop a container")) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes a container with its anonymous volumes, killing it where it runs. One that is gone is removed already.
    pub async fn remove(&self, id: &str) -> Result<(), EngineError> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        match self.docker.remove_container(id, Some(options)).await.map_err(EngineError::of("remove a container")) {
            // Or somebody else is removing it at this moment.
            Ok(()) | Err(EngineError::NotFound { .. } | EngineError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Gives a container another name.
    pub async fn rename(&self, id: &str, name: &str) -> Result<(), EngineError> {
        let options = RenameContainerOptionsBuilder::default().name(name).build();
        self.docker.rename_container(id, options).await.map_err(EngineError::of("rename a container"))
    }

    /// Lets Docker start a container again whenever it ends, except after a stop.
    pub async fn keep_running(&self, id: &str, keep: bool) -> Result<(), EngineError> {
        let name = if keep { RestartPolicyNameEnum::UNLESS_STOPPED } else { RestartPolicyNameEnum::NO };
        let policy = RestartPolicy { name: Some(name), maximum_retry_count: None };
        let body = ContainerUpdateBody { restart_policy: Some(policy), ..ContainerUpdateBody::default() };
        self.docker.update_container(id, body).await.map_err(EngineError::of("change a container"))
    }

    /// The last lines of a container's log.
    pub async fn last_lines(&self, id: &str, count: usize) -> Result<Vec<String>, EngineError> {
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).tail(&count.to_string()).build();
        let mut pieces = self.docker.logs(id, Some(options));
        let mut text = Vec::new();
        while let Some(piece) = pieces.next().await {
            text.extend_from_slice(&piece.map_err(EngineError::of("read a container's log"))?.into_bytes());
        }
        Ok(String::from_utf8_lossy(&text).lines().map(|line| line.trim_end().to_owned()).collect())
    }

    /// Creates a container, and gives its id.
    pub async fn create(&self, new: NewContainer) -> Result<String, EngineError> {
        let mounts = new.volumes.into_iter().map(|(volume, target)| Mount {
            typ: Some(MountType::VOLUME),
            source: Some(volume),
            target: Some(target),
            ..Mount::default()
        });
        let bindings = new.port.map(|(inside, outside)| {
            let binding = PortBinding { host_ip: Some("127.0.0.1".to_owned()), host_port: Some(outside.to_string()) };
            HashMap::from([(format!("{inside}/tcp"), Some(vec![binding]))])
        });
        let policy = new
            .keep_running
            .then_some(RestartPolicy { name: Some(RestartPolicyNameEnum::UNLESS_STOPPED), maximum_retry_count: None });
        let host = HostConfig {
            mounts: Some(mounts.collect()),
            port_bindings: bindings,
            restart_policy: policy,
            network_mode: Some(new.network.unwrap_or_else(|| "none".to_owned())),
            cap_drop: Some(vec!["ALL".to_owned()]),
            security_opt: Some(vec!["no-new-privileges:true".to_owned()]),
            memory: Some(128 << 20),
            pids_limit: Some(256),
            ..HostConfig::default()
        };
        let body = ContainerCreateBody {
            image: Some(new.image),
            cmd: Some(new.command),
            labels: Some(new.labels.into_iter().collect()),
            exposed_ports: new.port.map(|(inside, _)| vec![format!("{inside}/tcp")]),
            healthcheck: Some(bollard::models::HealthConfig {
                test: Some(vec!["NONE".to_owned()]),
                ..bollard::models::HealthConfig::default()
            }),
            user: new.user,
            host_config: Some(host),
            ..ContainerCreateBody::default()
        };
        let mut options = CreateContainerOptionsBuilder::default();
        if let Some(name) = &new.name {
            options = options.name(name);
        }
        let created = self.docker.create_container(Some(options.build()), body).await;
        Ok(created.map_err(EngineError::of("create a container"))?.id)
    }

    /// The user and group that an image's containers run as, where it names them by number.
    pub async fn image_user(&self, image: &str) -> Result<Option<(u32, u32)>, EngineError> {
        let found = self.docker.inspect_image(image).await.map_err(EngineError::of("look at an image"))?;
        let user = found.config.and_then(|config| config.user).unwrap_or_default();
        let (user, group) = user.split_once(':').unwrap_or((&user, &user));
        Ok(user.parse().ok().zip(group.parse().ok()))
    }

    /// The id of an image, if it is there.
    pub async fn image_id(&self, image: &str) -> Result<Option<String>, EngineError> {
        match self.docker.inspect_image(image).await.map_err(EngineError::of("look at an image")) {
            Ok(found) => Ok(found.id),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
