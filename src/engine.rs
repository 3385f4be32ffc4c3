//! The Docker Engine: the only module that talks to it.
//!
//! Containers, volumes and networks through the Engine's API on its socket; releases are created through Docker Compose,
//! so that `docker compose ls`, `ps` and `logs` know them. Everything here is one request with a meaning; what to do when is
//! decided elsewhere.

mod compose;
mod containers;
mod exec;
mod files;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use bollard::Docker;
use bollard::models::{NetworkCreateRequest, VolumeCreateRequest};
use bollard::query_parameters::{EventsOptionsBuilder, ListVolumesOptionsBuilder};
use futures::{Stream, StreamExt};

use crate::environment::{DOCKER_HOST, Environment};

pub use compose::Compose;
pub use containers::{ContainerDetail, ContainerInfo, ContainerState, Health, NewContainer};
pub use exec::Lines;

/// The Engine's socket, unless `DOCKER_HOST` says otherwise.
const SOCKET: &str = "/var/run/docker.sock";
/// Seconds that the Engine may take to answer.
const TIMEOUT: u64 = 60;

/// Why the Engine did not do something.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No socket, or nobody behind it.
    #[error("the Docker Engine at {socket} can't be reached")]
    Unreachable {
        /// Its address.
        socket: String,
        /// Why.
        source: Box<bollard::errors::Error>,
    },
    /// `DOCKER_HOST` is something else than a Unix socket.
    #[error("DOCKER_HOST is `{0}`: the monitor needs the Engine's Unix socket, on the Engine's own machine")]
    Host(String),
    /// Neither `docker compose` nor `docker-compose` is there.
    #[error("neither `docker compose` nor `docker-compose` can be started")]
    NoCompose,
    /// Docker Compose failed.
    #[error("Docker Compose could not start `{project}`: {reason}")]
    Compose {
        /// The project.
        project: String,
        /// Its last words.
        reason: String,
    },
    /// A local program or file failed.
    #[error("can't {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// The object is gone.
    #[error("can't {action}: it is not there")]
    NotFound {
        /// What was tried.
        action: &'static str,
    },
    /// A name is taken, or the object is in the wrong state.
    #[error("can't {action}: {message}")]
    Conflict {
        /// What was tried.
        action: &'static str,
        /// What the Engine said.
        message: String,
    },
    /// The Engine refused or broke.
    #[error("can't {action}")]
    Api {
        /// What was tried.
        action: &'static str,
        /// What it said.
        source: Box<bollard::errors::Error>,
    },
}

impl EngineError {
    fn of(action: &'static str) -> impl Fn(bollard::errors::Error) -> Self {
        use bollard::errors::Error;
        move |error| match error {
            Error::DockerResponseServerError { status_code: 404, .. } => Self::NotFound { action },
            Error::DockerResponseServerError { status_code: 409, message } => Self::Conflict { action, message },
            Error::SocketNotFoundError(ref socket) => {
                Self::Unreachable { socket: socket.clone(), source: Box::new(error) }
            }
            source => Self::Api { action, source: Box::new(source) },
        }
    }

    /// Whether the object was gone already.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// A connection to the Engine of this machine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    docker: Docker,
    socket: String,
    id: String,
    version: String,
    hostname: String,
}

/// Something happened to a container or volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What: `die`, `destroy`, `rename`, `health_status: unhealthy`, …
    pub action: String,
    /// The labels of the object it happened to.
    pub labels: HashMap<String, String>,
}

impl Engine {
    /// Connects to the Engine that `DOCKER_HOST` names, or the one of this machine, and asks who it is.
    pub async fn connect(environment: &Environment) -> Result<Self, EngineError> {
        let socket = match environment.get(DOCKER_HOST).filter(|host| !host.is_empty()) {
            None => SOCKET.to_owned(),
            Some(host) => match host.strip_prefix("unix://") {
                Some(path) => path.to_owned(),
                None => return Err(EngineError::Host(host.to_owned())),
            },
        };
        let unreachable = |source| EngineError::Unreachable { socket: socket.clone(), source: Box::new(source) };
        let docker = Docker::connect_with_unix(&socket, TIMEOUT, bollard::API_DEFAULT_VERSION).map_err(unreachable)?;
        let docker = docker.negotiate_version().await.map_err(unreachable)?;
        let info = docker.info().await.map_err(unreachable)?;
        Ok(Self {
            docker,
            id: info.id.unwrap_or_default(),
            version: info.server_version.unwrap_or_default(),
            hostname: info.name.unwrap_or_default(),
            socket,
        })
    }

    /// The Engine's id: the same as long as it lives.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The Engine's version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The name of the machine that it runs on.
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// The path of its socket.
    pub fn socket(&self) -> PathBuf {
        PathBuf::from(&self.socket)
    }

    /// Whether it answers.
    pub async fn ping(&self) -> Result<(), EngineError> {
        let asked = tokio::time::timeout(Duration::from_secs(10), self.docker.ping()).await;
        let answer = asked.unwrap_or(Err(bollard::errors::Error::RequestTimeoutError));
        answer
            .map(|_| ())
            .map_err(|source| EngineError::Unreachable { socket: self.socket.clone(), source: Box::new(source) })
    }

    /// What happens to containers with this label from now on. Ends when the Engine goes away.
    pub fn events(&self, label: &str) -> impl Stream<Item = Event> + Send + Unpin + use<> {
        let filters = HashMap::from([("type", vec!["container"]), ("label", vec![label])]);
        let options = EventsOptionsBuilder::default().filters(&filters).build();
        let events = self.docker.events(Some(options));
        Box::pin(events.take_while(|event| futures::future::ready(event.is_ok())).filter_map(|event| async {
            let event = event.ok()?;
            let labels = event.actor.and_then(|actor| actor.attributes).unwrap_or_default();
            Some(Event { action: event.action.unwrap_or_default(), labels })
        }))
    }

    /// Makes sure that a network of this name is there; one that somebody else made is used as it is.
    pub async fn ensure_network(&self, name: &str, labels: HashMap<String, String>) -> Result<(), EngineError> {
        use bollard::query_parameters::InspectNetworkOptions;
        let action = "look at the network";
        match self.docker.inspect_network(name, None::<InspectNetworkOptions>).await.map_err(EngineError::of(action)) {
            Ok(_) => return Ok(()),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            attachable: Some(true),
            labels: Some(labels),
            ..NetworkCreateRequest::default()
        };
        match self.docker.create_network(request).await.map_err(EngineError::of("create the network")) {
            // Somebody else was quicker.
            Ok(_) | Err(EngineError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes sure that a volume of this name is there.
    pub async fn ensure_volume(&self, name: &str, labels: HashMap<String, String>) -> Result<(), EngineError> {
        let request =
            VolumeCreateRequest { name: Some(name.to_owned()), labels: Some(labels), ..VolumeCreateRequest::default() };
        self.docker.create_volume(request).await.map(|_| ()).map_err(EngineError::of("create a volume"))
    }

    /// All volumes with this label: names and labels.
    pub async fn volumes(&self, label: &str) -> Result<Vec<(String, HashMap<String, String>)>, EngineError> {
        let filters = HashMap::from([("label", vec![label])]);
        let options = ListVolumesOptionsBuilder::default().filters(&filters).build();
        let found = self.docker.list_volumes(Some(options)).await.map_err(EngineError::of("list volumes"))?;
        Ok(found.volumes.unwrap_or_default().into_iter().map(|volume| (volume.name, volume.labels)).collect())
    }

    /// Removes a volume. One that isn't there is removed already.
    pub async fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        let removed = self.docker.remove_volume(name, None::<bollard::query_parameters::RemoveVolumeOptions>).await;
        match removed.map_err(EngineError::of("remove a volume")) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}
