//! A small TCP proxy for hosts without a router: one port that leads to whichever release is live.
//!
//! Where it leads is a file, written by whoever moves the traffic and looked at for each connection, so a connection that
//! begins after a change goes to the new place. Connections that are open stay where they are.
//!
//! The file: `{"targets":["ws-01jk…:3000", …]}`. Connections go to the targets in turn; one that doesn't accept is passed
//! over.

use std::fs::Metadata;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Most connections at once; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 1024;
/// For the first word of a client. Those of HTTP and TLS speak first; where the server does, this is what it costs.
const FIRST_WORD: Duration = Duration::from_millis(100);
/// For one address of one target.
const CONNECT: Duration = Duration::from_secs(1);
/// For a connection to find a target that accepts.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two rounds over all targets.
const PAUSE: Duration = Duration::from_millis(100);
/// For open connections, once asked to end.
const GRACE: Duration = Duration::from_secs(10);
/// A peer that is gone without a word is noticed after this long, and a few probes.
const IDLE: Duration = Duration::from_mins(1);

/// The content of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct Route {
    targets: Vec<String>,
}

/// What tells one content of the file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    inode: u64,
    size: u64,
    /// The last change of the inode: an archive that is unpacked over a file may set any time of modification.
    changed: (i64, i64),
}

impl Mark {
    fn of(metadata: &Metadata) -> Self {
        Self { inode: metadata.ino(), size: metadata.size(), changed: (metadata.ctime(), metadata.ctime_nsec()) }
    }
}

/// Where connections go.
#[derive(Debug)]
pub struct Targets {
    file: PathBuf,
    known: Mutex<(Option<Mark>, Arc<Route>)>,
    turn: AtomicUsize,
}

impl Targets {
    /// As this file says, which may be written later.
    pub fn of(file: &Path) -> Self {
        Self { file: file.to_owned(), known: Mutex::default(), turn: AtomicUsize::new(0) }
    }

    /// The targets of now. A file that is missing or half written changes nothing.
    fn current(&self) -> Arc<Route> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(metadata) = std::fs::metadata(&self.file) else { return Arc::clone(&known.1) };
        let mark = Mark::of(&metadata);
        if known.0 != Some(mark) {
            match std::fs::read(&self.file).map(|bytes| serde_json::from_slice::<Route>(&bytes)) {
                // Read after the look: what came in between has another mark, and is read with the next connection.
                Ok(Ok(route)) => *known = (Some(mark), Arc::new(route)),
                Ok(Err(error)) => tracing::warn!(%error, "the targets can't be understood"),
                Err(error) => tracing::warn!(%error, "the targets can't be read"),
            }
        }
        Arc::clone(&known.1)
    }

    /// A connection to the next target that accepts one.
    async fn connect(&self) -> io::Result<TcpStream> {
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Read again for each round: the target may have moved meanwhile.
            let targets = self.current().targets.clone();
            let mut failure = io::Error::new(io::ErrorKind::NotFound, "there is no target");
            for number in 0..targets.len() {
                let target = &targets[first.wrapping_add(number) % targets.len()];
                match tokio::time::timeout(CONNECT, connect(target)).await {
                    Ok(Ok(stream)) => return Ok(stream),
                    Ok(Err(error)) => failure = error,
                    Err(_) => failure = io::ErrorKind::TimedOut.into(),
                }
                tracing::debug!(target, error = %failure, "the target is passed over");
                if Instant::now() >= deadline {
                    return Err(failure);
                }
            }
            if Instant::now() + PAUSE >= deadline {
                return Err(failure);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// By name, looked up each time: a container that was started anew has another address.
async fn connect(target: &str) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host(target).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Listens on one address; on any without one given, by IPv6 and IPv4 where there are both.
pub async fn listen(address: Option<SocketAddr>, default_port: u16) -> io::Result<TcpListener> {
    if let Some(address) = address {
        return TcpListener::bind(address).await;
    }
    match TcpListener::bind((std::net::Ipv6Addr::UNSPECIFIED, default_port)).await {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, default_port)).await
        }
        bound => bound,
    }
}

/// Passes connections on until `stop`, then lets open ones finish for a while. Gives how many were cut off.
pub async fn serve(listener: TcpListener, targets: Arc<Targets>, stop: impl Future<Output = ()>) -> usize {
    allow_connections();
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut open = JoinSet::new();
    tokio::pin!(stop);
    loop {
        let accepted = async {
            // Never closed, so this is always given.
            let place = Arc::clone(&room).acquire_owned().await;
            (place, listener.accept().await)
        };
        tokio::select! {
            () = &mut stop => break,
            Some(_) = open.join_next() => {}
            (place, accepted) = accepted => match accepted {
                Ok((client, peer)) => {
                    let targets = Arc::clone(&targets);
                    open.spawn(async move {
                        if let Err(error) = pass(client, &targets).await {
                            tracing::debug!(%peer, %error, "the connection broke");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    // Out of files or memory, which passes; or a client that was gone before it was accepted.
                    tracing::warn!(%error, "can't accept");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            },
        }
    }
    drop(listener);
    let all = async { while open.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(GRACE, all).await;
    open.len()
}

/// Chosen when the client begins to speak: one that connected ahead of its first request goes where traffic goes by then,
/// not to a release that is about to end.
async fn target_of(client: &TcpStream, targets: &Targets) -> io::Result<TcpStream> {
    // `readable` would not do: a fresh socket counts as readable until somebody has tried.
    if let Ok(word) = tokio::time::timeout(FIRST_WORD, client.peek(&mut [0])).await {
        word?;
        return targets.connect().await;
    }
    let server = targets.connect().await?;
    let (mut asked, mut told) = ([0], [0]);
    tokio::select! {
        word = client.peek(&mut asked) => { word?; },
        // An end of it is seen below.
        _ = server.peek(&mut told) => {}
    }
    if is_closed(&server) {
        // Gone before anybody said a word: nothing is lost with it.
        client.peek(&mut [0]).await?;
        return targets.connect().await;
    }
    Ok(server)
}

/// Whether the peer has ended and nothing that it sent is left. Asked of the kernel: what the runtime knows may be older.
fn is_closed(stream: &TcpStream) -> bool {
    use rustix::net::{RecvFlags, recv};
    match recv(stream, &mut [0_u8; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((_, received)) => received == 0,
        Err(error) => error != rustix::io::Errno::AGAIN,
    }
}

async fn pass(mut client: TcpStream, targets: &Targets) -> io::Result<()> {
    let mut server = target_of(&client, targets).await?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
        // A courtesy: without it a peer that lost its power holds a place for ever.
        let _ = rustix::net::sockopt::set_socket_keepalive(stream, true);
        #[cfg(target_os = "linux")]
        let _ = rustix::net::sockopt::set_tcp_keepidle(stream, IDLE);
    }
    // One direction may end long before the other.
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

/// Two files for each connection are more than some systems give a process unasked.
fn allow_connections() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) {
        let folder = path.parent().unwrap();
        let mut file = tempfile::NamedTempFile::new_in(folder).unwrap();
        io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        file.persist(path).unwrap();
    }

    #[test]
    fn a_half_written_file_keeps_the_last_good_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("route.json");
        let targets = Targets::of(&path);
        assert!(targets.current().targets.is_empty());
        write(&path, r#"{"targets":["a:1"],"later":true}"#);
        assert_eq!(targets.current().targets, ["a:1"]);
        write(&path, r#"{"targets":["b"#);
        assert_eq!(targets.current().targets, ["a:1"]);
        write(&path, r#"{"targets":["b:1","c:1"]}"#);
        assert_eq!(targets.current().targets, ["b:1", "c:1"]);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(targets.current().targets, ["b:1", "c:1"]);
    }
}
