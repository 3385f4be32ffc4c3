//! A site on TCP. Bounded: so many connections at once, so long for a request's header, and for a client that takes nothing.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tower_http::compression::Compression;
use tower_service::Service;

use super::{Site, after_compression, is_compressible};

/// Connections served at once; further ones wait in the kernel's queue. Each may hold a file open, and many systems give a
/// process 1024 files.
const MAX_CONNECTIONS: usize = 448;
/// For a request's header, and for a connection without a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a request's header, its address included.
const HEADER_BYTES: usize = 64 * 1024;
/// For a client to take what was sent.
#[cfg(target_os = "linux")]
const STALL: Duration = Duration::from_mins(1);
/// For requests under way once asked to stop: less than the 10 s after which `workspace run` kills.
const STOP_GRACE: Duration = Duration::from_secs(9);

/// Listens on the first address of `host` that can be had.
pub async fn bind(host: &str, port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((host, port)).await
}

/// A site that is listened for.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    site: Site,
}

impl Server {
    /// `listener` must be listening already, so that a port that is taken is noticed before anything is said.
    pub fn new(listener: TcpListener, site: Site) -> Self {
        Self { listener, site }
    }

    /// Where it listens, with the port that the system chose.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` ends, then lets requests under way finish for a while.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let (stopping, stopped) = watch::channel(false);
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let accepting = accept(self.listener, &self.site, &room, &stopped);
        tokio::select! {
            () = stop => {}
            () = accepting => {}
        }
        // Nobody listening for it any more is as good.
        let _ = stopping.send(true);
        let all = u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX);
        let _ = tokio::time::timeout(STOP_GRACE, room.acquire_many(all)).await;
    }
}

/// Ends when it is dropped, and the listener with it.
async fn accept(listener: TcpListener, site: &Site, room: &Arc<Semaphore>, stopped: &watch::Receiver<bool>) {
    loop {
        let Ok(place) = Arc::clone(room).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: connections that end make room.
                tracing::warn!(%error, "can't accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (site, stopped) = (site.clone(), stopped.clone());
        tokio::spawn(async move {
            if let Err(error) = serve(stream, site, stopped).await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(place);
        });
    }
}

async fn serve(stream: TcpStream, site: Site, mut stopped: watch::Receiver<bool>) -> hyper::Result<()> {
    let _ = stream.set_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, u32::try_from(STALL.as_millis()).unwrap_or(0));
    let handler = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut compressed = Compression::new(site.clone()).compress_when(
            |_: http::StatusCode, _: http::Version, headers: &http::HeaderMap, _: &http::Extensions| {
                is_compressible(headers)
            },
        );
        async move {
            let mut response = compressed.call(request).await?;
            let status = response.status();
            after_compression(response.headers_mut(), status);
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), handler);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = &mut connection => return ended,
        _ = stopped.changed() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}
