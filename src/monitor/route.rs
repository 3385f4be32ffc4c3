//! Where traffic goes: a file per workspace in a directory that Traefik watches, or a relay on a port of the host.
//!
//! What a file says is a pure function of who is live. Its first line is for this monitor: which release has the traffic.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpStream;
use ulid::Ulid;

use crate::compose::dns_label;
use crate::names::WorkspaceName;

/// The header by which a response says which release gave it.
pub const HEADER: &str = "X-Workspace-Release";
/// The zone of host names by which the monitor asks Traefik for a release. Reserved: no real host can have such a name.
const CONFIRM_ZONE: &str = "workspace.internal";
/// For one question to the router.
const ASK_LIMIT: Duration = Duration::from_secs(5);

/// Traefik, as far as the monitor knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traefik {
    /// The directory of its file provider.
    pub directory: PathBuf,
    /// The address of its entry point `internal`, as `host:port`.
    pub confirm: String,
    /// Host names for workspaces that declare none; `{name}` stands for the workspace.
    pub pattern: Option<String>,
    /// The port by which people reach it.
    pub port: u16,
}

/// Who gets a workspace's traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backends {
    /// The workspace's own live release.
    pub row: Ulid,
    /// The release that answers: its own, or another workspace's.
    pub answering: Ulid,
    /// `host:port` on the shared network.
    pub servers: Vec<String>,
}

#[derive(Serialize)]
struct Dynamic {
    http: Http,
}

#[derive(Serialize)]
struct Http {
    routers: BTreeMap<String, TraefikRouter>,
    middlewares: BTreeMap<String, serde_json::Value>,
    services: BTreeMap<String, serde_json::Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TraefikRouter {
    rule: String,
    entry_points: Vec<String>,
    service: String,
    middlewares: Vec<String>,
}

impl Traefik {
    /// The host names of a workspace.
    pub fn domains(&self, name: &WorkspaceName, declared: &[String]) -> Vec<String> {
        if !declared.is_empty() {
            return declared.to_vec();
        }
        self.pattern.iter().map(|pattern| pattern.replace("{name}", &dns_label(name))).collect()
    }

    /// What people type to see a workspace.
    pub fn addresses(&self, name: &WorkspaceName, declared: &[String]) -> Vec<String> {
        // Where Traefik has certificates it sends plain requests on to https by itself.
        let port = if self.port == 80 { String::new() } else { format!(":{}", self.port) };
        self.domains(name, declared).iter().map(|domain| format!("http://{domain}{port}")).collect()
    }

    fn path(&self, name: &WorkspaceName) -> PathBuf {
        self.directory.join(format!("{name}.yml"))
    }

    /// The text of a workspace's file.
    pub fn render(&self, name: &WorkspaceName, backends: &Backends, domains: &[String]) -> String {
        let label = dns_label(name);
        let middlewares = vec![format!("{label}-retry"), format!("{label}-release")];
        let router = |rule: String, entry_points: &[&str]| TraefikRouter {
            rule,
            entry_points: entry_points.iter().map(|name| (*name).to_owned()).collect(),
            service: label.clone(),
            middlewares: middlewares.clone(),
        };
        let mut routers = BTreeMap::from([(
            format!("{label}-confirm"),
            router(format!("Host(`{label}.{CONFIRM_ZONE}`)"), &["internal"]),
        )]);
        if !domains.is_empty() {
            let rule = domains.iter().map(|domain| format!("Host(`{domain}`)")).collect::<Vec<_>>().join(" || ");
            // What `websecure` does about certificates is Traefik's own setting.
            routers.insert(label.clone(), router(rule, &["web", "websecure"]));
        }
        let servers: Vec<_> =
            backends.servers.iter().map(|server| serde_json::json!({ "url": format!("http://{server}") })).collect();
        let mut headers = serde_json::Map::new();
        headers.insert(HEADER.to_owned(), backends.answering.to_string().into());
        let dynamic = Dynamic {
            http: Http {
                routers,
                middlewares: BTreeMap::from([
                    (
                        format!("{label}-retry"),
                        serde_json::json!({ "retry": { "attempts": 4, "initialInterval": "50ms" } }),
                    ),
                    (
                        format!("{label}-release"),
                        serde_json::json!({ "headers": { "customResponseHeaders": headers } }),
                    ),
                ]),
                services: BTreeMap::from([(
                    label.clone(),
                    serde_json::json!({ "loadBalancer": { "servers": servers, "passHostHeader": true } }),
                )]),
            },
        };
        // Text, numbers and lists: there is nothing that YAML could not write.
        let body = serde_yaml::to_string(&dynamic).unwrap_or_default();
        format!("# workspace {name} release {}\n{body}", backends.row)
    }

    /// What a workspace's file says now, and which release it names.
    pub fn read(&self, name: &WorkspaceName) -> std::io::Result<Option<(Ulid, String)>> {
        match std::fs::read_to_string(self.path(name)) {
            Ok(text) => Ok(live_in(&text, name).map(|row| (row, text))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces a workspace's file at once and whole.
    pub fn write(&self, name: &WorkspaceName, text: &str) -> std::io::Result<()> {
        // Traefik reads `.yml` alone, so the file under way is none of its business.
        let mut file = tempfile::Builder::new().prefix(".route-").suffix(".tmp").tempfile_in(&self.directory)?;
        file.write_all(text.as_bytes())?;
        // Another user's process reads it.
        readable(file.path())?;
        file.persist(self.path(name))?;
        Ok(())
    }

    /// Removes a workspace's file.
    pub fn remove(&self, name: &WorkspaceName) -> std::io::Result<()> {
        match std::fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Which release answers for a workspace behind Traefik now.
    pub async fn ask(&self, name: &WorkspaceName, path: &str) -> Answer {
        ask(&self.confirm, &format!("{}.{CONFIRM_ZONE}", dns_label(name)), path).await
    }
}

fn readable(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644))
}

/// The release that a file's first line names.
fn live_in(text: &str, name: &WorkspaceName) -> Option<Ulid> {
    let line = text.lines().next()?;
    line.strip_prefix(&format!("# workspace {name} release "))?.trim().parse().ok()
}

/// What came of a question to a router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Nobody there.
    NoRouter(String),
    /// Somebody there, who closed the connection without an answer.
    Closed(String),
    /// It answered, with this status, for this release where it says so.
    Status(u16, Option<Ulid>),
}

impl Answer {
    /// Whether a gateway says that nobody answers behind it.
    pub fn is_gateway_error(&self) -> bool {
        matches!(self, Self::Status(502..=504, _))
    }
}

/// A GET of a path at `host:port`, under a host's name.
pub async fn ask(address: &str, host: &str, path: &str) -> Answer {
    let question = async {
        let stream = match TcpStream::connect(address).await {
            Ok(stream) => stream,
            Err(error) => return Answer::NoRouter(error.to_string()),
        };
        converse(stream, host, path).await.unwrap_or_else(Answer::Closed)
    };
    match tokio::time::timeout(ASK_LIMIT, question).await {
        Ok(answer) => answer,
        Err(_) => Answer::NoRouter(format!("no answer within {} s", ASK_LIMIT.as_secs())),
    }
}

async fn converse(stream: TcpStream, host: &str, path: &str) -> Result<Answer, String> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let connection = tokio::spawn(connection);
    let request = http::Request::get(path)
        .header(http::header::HOST, host)
        .header(http::header::USER_AGENT, "workspace-monitor")
        .header(http::header::CONNECTION, "close")
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(|error| error.to_string());
    connection.abort();
    let response = response?;
    let row = response.headers().get(HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
    Ok(Answer::Status(response.status().as_u16(), row))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traefik(directory: &Path) -> Traefik {
        Traefik {
            directory: directory.to_owned(),
            confirm: "127.0.0.1:1".to_owned(),
            pattern: Some("{name}.localhost".to_owned()),
            port: 8080,
        }
    }

    #[test]
    fn a_file_names_its_release_and_its_servers() {
        let folder = tempfile::tempdir().unwrap();
        let traefik = traefik(folder.path());
        let name: WorkspaceName = "my.app".parse().unwrap();
        let backends = Backends {
            row: Ulid::from_parts(1, 2),
            answering: Ulid::from_parts(1, 2),
            servers: vec!["ws-a:3000".to_owned(), "ws-b:3000".to_owned()],
        };
        let domains = traefik.domains(&name, &[]);
        assert_eq!(domains, ["my-app-iejn.localhost"]);
        assert_eq!(traefik.addresses(&name, &[]), ["http://my-app-iejn.localhost:8080"]);
        let text = traefik.render(&name, &backends, &domains);
        insta::assert_snapshot!(text, @"
        # workspace my.app release 00000000010000000000000002
        http:
          routers:
            my-app-iejn:
              rule: Host(`my-app-iejn.localhost`)
              entryPoints:
              - web
              - websecure
              service: my-app-iejn
              middlewares:
              - my-app-iejn-retry
              - my-app-iejn-release
            my-app-iejn-confirm:
              rule: Host(`my-app-iejn.workspace.internal`)
              entryPoints:
              - internal
              service: my-app-iejn
              middlewares:
              - my-app-iejn-retry
              - my-app-iejn-release
          middlewares:
            my-app-iejn-release:
              headers:
                customResponseHeaders:
                  X-Workspace-Release: '00000000010000000000000002'
            my-app-iejn-retry:
              retry:
                attempts: 4
                initialInterval: 50ms
          services:
            my-app-iejn:
              loadBalancer:
                passHostHeader: true
                servers:
                - url: http://ws-a:3000
                - url: http://ws-b:3000
        ");
        traefik.write(&name, &text).unwrap();
        assert_eq!(traefik.read(&name).unwrap(), Some((Ulid::from_parts(1, 2), text)));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        traefik.remove(&name).unwrap();
        traefik.remove(&name).unwrap();
        assert_eq!(traefik.read(&name).unwrap(), None);
    }
}
