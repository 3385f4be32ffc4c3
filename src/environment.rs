//! The environment: every variable that `workspace` reads, and the only module that reads them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// The S3 endpoint, such as `http://127.0.0.1:9000`. Unset: AWS.
pub const S3_ENDPOINT: &str = "S3_ENDPOINT";
/// The bucket. Default `workspaces` on custom endpoints, none on AWS.
pub const S3_BUCKET: &str = "S3_BUCKET";
/// Access key id.
pub const S3_ACCESS_KEY: &str = "S3_ACCESS_KEY";
/// Secret access key.
pub const S3_SECRET_KEY: &str = "S3_SECRET_KEY";
/// Region. Default `us-east-1` on custom endpoints, the AWS chain's on AWS.
pub const S3_REGION: &str = "S3_REGION";
/// The endpoint under which containers reach the same store. Default: the same.
pub const S3_CONTAINER_ENDPOINT: &str = "S3_CONTAINER_ENDPOINT";
/// `s3` or `embedded`. Default: `s3` when an endpoint or a bucket is set.
pub const STORAGE_MODE: &str = "STORAGE_MODE";
/// Seconds to wait for a connection to the store. Default 5.
pub const S3_CONNECT_TIMEOUT: &str = "S3_CONNECT_TIMEOUT";
/// Seconds for one attempt of a request to the store, body included. Default 60.
pub const S3_ATTEMPT_TIMEOUT: &str = "S3_ATTEMPT_TIMEOUT";
/// Seconds that a body may stand still. Default 30.
pub const S3_STALL_GRACE: &str = "S3_STALL_GRACE";
/// Attempts of a request to the store, the first included. Default 3.
pub const S3_ATTEMPTS: &str = "S3_ATTEMPTS";
/// A PEM file of certificate authorities to trust beside the system's.
pub const WORKSPACE_CA_BUNDLE: &str = "WORKSPACE_CA_BUNDLE";
/// A CDN in front of the bucket, asked for packs first: `https://host`, with a path if need be, and `?presigned` where it passes
/// signatures on.
pub const WORKSPACE_CDN_URL: &str = "WORKSPACE_CDN_URL";
/// Where the embedded store keeps its data. Default: the user's data folder.
pub const WORKSPACE_DATA_DIR: &str = "WORKSPACE_DATA_DIR";
/// Where indexes and copies of manifests are kept. Default: the user's cache folder. May be deleted at any time.
pub const WORKSPACE_CACHE_DIR: &str = "WORKSPACE_CACHE_DIR";
/// Mebibytes; an upload warns of larger files. Default 100.
pub const WORKSPACE_LARGE_FILE: &str = "WORKSPACE_LARGE_FILE";
/// An upload warns of more new files than this. Default 10000.
pub const WORKSPACE_MANY_FILES: &str = "WORKSPACE_MANY_FILES";
/// Which events are logged, as a `tracing` filter such as `workspace=debug`.
pub const WORKSPACE_LOG: &str = "WORKSPACE_LOG";
/// In a container: what `workspace run` without a name runs, as NAME or NAME@V.
pub const WORKSPACE_NAME: &str = "WORKSPACE_NAME";
/// In a container: where `run` keeps what `health` and `status` read. Default `/tmp/workspace`.
pub const WORKSPACE_STATE_DIR: &str = "WORKSPACE_STATE_DIR";
/// In a container: how many seconds an installation may take. Default 600.
pub const WORKSPACE_INSTALL_LIMIT: &str = "WORKSPACE_INSTALL_LIMIT";
/// In a container: how many seconds the application has to become ready. Default 60.
pub const WORKSPACE_READY_LIMIT: &str = "WORKSPACE_READY_LIMIT";
/// In a container: how many seconds the application has to end after SIGTERM. Default 10.
pub const WORKSPACE_STOP_GRACE: &str = "WORKSPACE_STOP_GRACE";
/// For the monitor: the directory of Traefik's file provider, where it writes a file per workspace. Unset: no router, each
/// workspace gets a port on the host's loopback.
pub const WORKSPACE_TRAEFIK_ROUTES: &str = "WORKSPACE_TRAEFIK_ROUTES";
/// For the monitor: Traefik's entry point `internal`, by which it finds out whether a route is in force. Default
/// `http://127.0.0.1:8082`.
pub const WORKSPACE_TRAEFIK_URL: &str = "WORKSPACE_TRAEFIK_URL";
/// For the monitor: the port by which people reach Traefik. Default 80.
pub const WORKSPACE_TRAEFIK_PORT: &str = "WORKSPACE_TRAEFIK_PORT";
/// For the monitor: the host name of workspaces that declare no domain; `{name}` stands for the workspace. Default
/// `{name}.localhost`.
pub const WORKSPACE_DOMAIN: &str = "WORKSPACE_DOMAIN";
/// Where `workspace health --monitor` finds the monitor, as HOST:PORT. Default `127.0.0.1:9191`.
pub const WORKSPACE_MONITOR_ADDRESS: &str = "WORKSPACE_MONITOR_ADDRESS";
/// The Docker Engine's Unix socket, as `unix:///path`. Default `unix:///var/run/docker.sock`.
pub const DOCKER_HOST: &str = "DOCKER_HOST";
/// In a container: the file with the addresses by which `run` fetches its version, in place of the store's settings.
pub const WORKSPACE_GRANT: &str = "WORKSPACE_GRANT";
/// In a container: `1` makes `run` wait for `workspace proceed` once everything is installed and built.
pub const WORKSPACE_HOLD: &str = "WORKSPACE_HOLD";
/// For `run`: `1` keeps what was installed in the bucket, for other containers.
pub const WORKSPACE_DEPS_CACHE: &str = "WORKSPACE_DEPS_CACHE";
/// For `run`: `1` goes on to every version that comes, in the same container.
pub const WORKSPACE_FOLLOW: &str = "WORKSPACE_FOLLOW";
/// In a container: which of the version's processes `run` starts. Default `web`.
pub const WORKSPACE_PROCESS: &str = "WORKSPACE_PROCESS";
/// In a container: how many seconds the release command may take. Default 600.
pub const WORKSPACE_RELEASE_LIMIT: &str = "WORKSPACE_RELEASE_LIMIT";
/// What `workspace static` listens on. Default `0.0.0.0`.
pub const HOST: &str = "HOST";
/// The port of `workspace static`. Default 8080.
pub const PORT: &str = "PORT";
/// Set by CI systems: nothing is asked, and the embedded store is never used silently.
pub const CI: &str = "CI";
/// Set to anything: no colour.
pub const NO_COLOR: &str = "NO_COLOR";
/// The user's home folder.
pub const HOME: &str = "HOME";
/// Where programs keep a user's data. Default `~/.local/share`.
pub const XDG_DATA_HOME: &str = "XDG_DATA_HOME";
/// Where programs keep what they can make again. Default `~/.cache`.
pub const XDG_CACHE_HOME: &str = "XDG_CACHE_HOME";
/// Where programs keep a user's configuration. Default `~/.config`.
pub const XDG_CONFIG_HOME: &str = "XDG_CONFIG_HOME";
/// git's configuration of the user, in place of the usual files.
pub const GIT_CONFIG_GLOBAL: &str = "GIT_CONFIG_GLOBAL";
/// git's configuration of the machine, in place of `/etc/gitconfig`.
pub const GIT_CONFIG_SYSTEM: &str = "GIT_CONFIG_SYSTEM";
/// Set to true: git reads no configuration of the machine.
pub const GIT_CONFIG_NOSYSTEM: &str = "GIT_CONFIG_NOSYSTEM";

/// What CI systems say of a run. GitHub Actions: the commit.
pub const GITHUB_SHA: &str = "GITHUB_SHA";
/// GitHub Actions: the branch or tag.
pub const GITHUB_REF_NAME: &str = "GITHUB_REF_NAME";
/// GitHub Actions: the server's address.
pub const GITHUB_SERVER_URL: &str = "GITHUB_SERVER_URL";
/// GitHub Actions: `owner/name`.
pub const GITHUB_REPOSITORY: &str = "GITHUB_REPOSITORY";
/// GitHub Actions: the run's number.
pub const GITHUB_RUN_ID: &str = "GITHUB_RUN_ID";
/// GitHub Actions: who started the run.
pub const GITHUB_ACTOR: &str = "GITHUB_ACTOR";
/// GitLab: the commit.
pub const CI_COMMIT_SHA: &str = "CI_COMMIT_SHA";
/// GitLab: the branch or tag.
pub const CI_COMMIT_REF_NAME: &str = "CI_COMMIT_REF_NAME";
/// GitLab: the job's address.
pub const CI_JOB_URL: &str = "CI_JOB_URL";
/// GitLab: who started the job.
pub const GITLAB_USER_LOGIN: &str = "GITLAB_USER_LOGIN";
/// The user's name.
pub const USER: &str = "USER";

/// Whether a variable is a setting of this program's own, among them the store's keys: neither an installed package's script
/// nor the application sees them.
pub fn is_ours(name: &str) -> bool {
    ["S3_", "AWS_", "WORKSPACE_"].iter().any(|prefix| name.starts_with(prefix)) || name == STORAGE_MODE
}

/// What opens the store: no other program that this one starts is given any of it.
pub const KEYS: [&str; 5] =
    [S3_ACCESS_KEY, S3_SECRET_KEY, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// Whether a text can be a variable's name in every shell and in Docker Compose.
pub fn is_variable_name(name: &str) -> bool {
    name.starts_with(|character: char| character.is_ascii_alphabetic() || character == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Whether an application may be given a variable of whoever starts it. Not what is ours or Docker's, and not what decides how
/// programs are found.
pub fn may_be_secret(name: &str) -> bool {
    !is_ours(name)
        && !name.starts_with("DOCKER_")
        && !name.starts_with("LD_")
        && !["PATH", "HOME", "HOST", "PORT"].contains(&name)
}

/// A snapshot of the process's environment, taken once in `main`.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, OsString>,
}

impl Environment {
    /// The environment of this process.
    pub fn of_process() -> Self {
        let variables =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect();
        Self { variables }
    }

    /// The given variables and nothing else, for tests.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self { variables: pairs.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect() }
    }

    /// The value of `name`, if it is set and is text.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).and_then(|value| value.to_str())
    }

    /// The value of `name` as a path, if it is set and not empty.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.variables.get(name).filter(|value| !value.is_empty()).map(PathBuf::from)
    }

    /// All variables that are text.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str()?)))
    }

    /// Where this program keeps the user's data, by the rules of XDG. `None` for a user without a home.
    pub fn data_folder(&self) -> Option<PathBuf> {
        self.base_folder(XDG_DATA_HOME, ".local/share")
    }

    /// Where this program keeps what it can make again, by the rules of XDG. `None` for a user without a home.
    pub fn cache_folder(&self) -> Option<PathBuf> {
        self.base_folder(XDG_CACHE_HOME, ".cache")
    }

    fn base_folder(&self, variable: &str, below_home: &str) -> Option<PathBuf> {
        // The XDG rules: a relative path counts as none.
        let base = self.path(variable).filter(|path| path.is_absolute());
        let base = base.or_else(|| {
            let home = self.path(HOME).or_else(|| etcetera::home_dir().ok());
            home.map(|home| home.join(below_home))
        });
        base.map(|base| base.join("workspace"))
    }

    /// Whether colour is unwanted: see <https://no-color.org>.
    pub fn no_color(&self) -> bool {
        self.get(NO_COLOR).is_some_and(|value| !value.is_empty())
    }

    /// Whether this runs under a CI system.
    pub fn is_ci(&self) -> bool {
        self.get(CI).is_some_and(|value| !value.is_empty() && value != "false" && value != "0")
    }
}
