//! The embedded store on TCP, for containers and foreign tools.
//!
//! Bounded: so many connections at once, so long for a request's header. Every request must be signed.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use s3s::service::S3Service;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use super::{Credentials, Embedded};

/// The port, unless told otherwise.
pub const DEFAULT_PORT: u16 = 9900;
/// Connections served at once; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 512;
/// For a request's header, and for a connection without one.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// For requests under way when the server is told to stop.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// The default keys of well-known servers, which everybody tries first.
const WELL_KNOWN: [&str; 8] =
    ["minioadmin", "rustfsadmin", "minio", "admin", "test", "password", "accesskey", "changeme"];

/// Why the server doesn't start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address can't be listened on.
    #[error("can't listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// Anybody could come in.
    #[error("{address} can be reached from other machines, and the keys are ones that everybody knows")]
    WellKnownKeys {
        /// The address.
        address: SocketAddr,
    },
}

/// The address of Docker's default bridge on this machine, under which its containers reach the host.
#[cfg(target_os = "linux")]
pub fn docker_gateway() -> Option<IpAddr> {
    // The kernel lists the bridge's network in its routes; the gateway is the address of this machine in it.
    let route = procfs::net::route().ok()?.into_iter().find(|route| route.iface == "docker0")?;
    let network = u32::from(route.destination) & u32::from(route.mask);
    local_addresses().into_iter().find(|address| u32::from(*address) & u32::from(route.mask) == network).map(IpAddr::V4)
}

/// The same elsewhere: Docker runs in a virtual machine, which forwards the host's loopback.
#[cfg(not(target_os = "linux"))]
pub fn docker_gateway() -> Option<IpAddr> {
    None
}

/// The IPv4 addresses of this machine, by the kernel's table of local routes.
#[cfg(target_os = "linux")]
fn local_addresses() -> Vec<std::net::Ipv4Addr> {
    let table = std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let mut addresses = Vec::new();
    let mut last: Option<std::net::Ipv4Addr> = None;
    for line in table.lines() {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line.starts_with("/32 host LOCAL") {
            addresses.extend(last.take());
        }
    }
    addresses
}

/// Whether only this machine and its containers can reach the address.
pub fn is_private_to_host(address: IpAddr) -> bool {
    address.is_loopback() || docker_gateway() == Some(address)
}

/// Whether the keys are among those that everybody knows.
fn is_well_known(credentials: &Credentials) -> bool {
    let known = |text: &str| WELL_KNOWN.iter().any(|name| text.eq_ignore_ascii_case(name));
    known(&credentials.access_key) || known(credentials.secret_key.expose())
}

/// Listening sockets.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<TcpListener>,
    service: S3Service,
}

impl Server {
    /// Listens on all the addresses.
    pub async fn bind(embedded: &Embedded, addresses: &[SocketAddr]) -> Result<Self, ServeError> {
        let mut listeners = Vec::new();
        for &address in addresses {
            if !is_private_to_host(address.ip()) && is_well_known(embedded.credentials()) {
                return Err(ServeError::WellKnownKeys { address });
            }
            let bound = TcpListener::bind(address).await;
            listeners.push(bound.map_err(|source| ServeError::Bind { address, source })?);
        }
        Ok(Self { listeners, service: embedded.service() })
    }

    /// Where it listens, with the ports the system chose.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Serves until `stop` ends, then lets requests under way finish for a while.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let (stopping, stopped) = watch::channel(false);
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let accepting: Vec<_> = self
            .listeners
            .into_iter()
            .map(|listener| tokio::spawn(accept(listener, self.service.clone(), Arc::clone(&room), stopped.clone())))
            .collect();
        stop.await;
        // Nobody listening for it any more is as good.
        let _ = stopping.send(true);
        for task in &accepting {
            task.abort();
        }
        let all = u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX);
        let _ = tokio::time::timeout(STOP_GRACE, room.acquire_many(all)).await;
    }
}

async fn accept(listener: TcpListener, service: S3Service, room: Arc<Semaphore>, stopped: watch::Receiver<bool>) {
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        let connection = match listener.accept().await {
            Ok((connection, _)) => connection,
            Err(error) => {
                // Out of file descriptors, most likely: connections that end make room.
                tracing::warn!(%error, "can't accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let service = service.clone();
        let mut stopped = stopped.clone();
        tokio::spawn(async move {
            let _ = connection.set_nodelay(true);
            let handler = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
                let service = service.clone();
                async move { Ok::<_, Infallible>(answer(&service, request.map(s3s::Body::from)).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(connection), handler);
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                ended = &mut connection => log(ended),
                _ = stopped.changed() => {
                    connection.as_mut().graceful_shutdown();
                    log(connection.await);
                }
            }
            drop(place);
        });
    }
}

async fn answer(service: &S3Service, request: s3s::HttpRequest) -> s3s::HttpResponse {
    let expects = request.headers().contains_key(http::header::EXPECT);
    let empty = request.headers().get(http::header::CONTENT_LENGTH).is_some_and(|length| length == "0");
    match service.call(request).await {
        Ok(mut response) => {
            // The AWS tools for Python, answered without the `100 Continue` they asked for, misread the next response
            // on the same connection.
            if expects && (empty || !response.status().is_success()) {
                response.headers_mut().insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
            }
            response
        }
        Err(error) => {
            tracing::warn!(?error, "a request was not answered");
            let mut response = s3s::HttpResponse::new(s3s::Body::empty());
            *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
    }
}

fn log(ended: Result<(), hyper::Error>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Secret;

    #[tokio::test]
    async fn a_public_address_refuses_well_known_keys() {
        let folder = tempfile::tempdir().unwrap();
        let keys =
            |access: &str, secret: &str| Credentials { access_key: access.to_owned(), secret_key: Secret::new(secret) };
        let embedded = Embedded::open(folder.path()).unwrap();
        let public = ["0.0.0.0:0".parse().unwrap()];
        for (access, secret) in [("minioadmin", "minioadmin"), ("me", "RustFSAdmin"), ("test", "x")] {
            let embedded = embedded.clone().with_credentials(keys(access, secret));
            let refused = Server::bind(&embedded, &public).await.unwrap_err();
            assert!(matches!(refused, ServeError::WellKnownKeys { .. }), "{access}");
            Server::bind(&embedded, &["127.0.0.1:0".parse().unwrap()]).await.unwrap();
        }
    }
}
