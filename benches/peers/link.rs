//! The way between a tool and the server: a proxy on TCP that delays, holds back and counts.
//!
//! It models a long line of a given rate: bytes of all connections queue for it in each direction, then travel for half
//! of the round trip. A new connection costs a round trip more, as its handshake would. TCP's slow start is not
//! modelled, which is in favour of tools that open many connections.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::faults::header;

/// Bytes that are taken at once.
const PIECE: usize = 16 << 10;
/// Pieces on their way on one connection: with a round trip of 20 ms one connection alone can fill 100 Mbit/s.
const PIECES: usize = 32;
/// The timer's grain is a millisecond, and it never fires early: half of it is taken off on average.
const GRAIN: Duration = Duration::from_micros(500);

/// How the server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speed {
    /// On the same machine.
    Local,
    /// 20 ms of round trip, 100 Mbit/s in each direction.
    Far,
}

impl Speed {
    /// Each.
    pub const ALL: [Self; 2] = [Self::Local, Self::Far];

    fn round_trip(self) -> Duration {
        match self {
            Self::Local => Duration::ZERO,
            Self::Far => Duration::from_millis(20),
        }
    }

    /// Bytes a second in each direction.
    fn rate(self) -> f64 {
        match self {
            Self::Local => f64::INFINITY,
            Self::Far => 100e6 / 8.0,
        }
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Local => "local",
            Self::Far => "20ms-100Mbit",
        })
    }
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|speed| speed.to_string() == name).ok_or_else(|| {
            format!("no link `{name}`: there are {}", Self::ALL.map(|speed| format!("`{speed}`")).join(", "))
        })
    }
}

/// What passed over a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Traffic {
    /// Requests.
    pub requests: u64,
    /// Bytes to the server, heads of requests among them.
    pub sent: u64,
    /// Bytes from the server, heads of responses among them.
    pub received: u64,
}

#[derive(Default)]
struct Counters {
    requests: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

/// A link that is up until it is dropped.
pub struct Link {
    /// Where tools find the server.
    pub endpoint: String,
    counters: Arc<Counters>,
    _runtime: Runtime,
}

/// One direction of the line.
struct Line {
    rate: f64,
    /// Half of the round trip.
    delay: Duration,
    free: Mutex<Instant>,
}

impl Line {
    /// When the last of so many bytes is at the other end.
    fn arrival(&self, bytes: usize) -> Instant {
        let now = Instant::now();
        let mut free = self.free.lock().unwrap();
        // A piece has far fewer bytes than 2^32.
        let bytes = f64::from(u32::try_from(bytes).unwrap());
        let busy = if self.rate.is_finite() { Duration::from_secs_f64(bytes / self.rate) } else { Duration::ZERO };
        *free = (*free).max(now) + busy;
        *free + self.delay
    }
}

impl Link {
    /// Opens a link to a server.
    pub fn open(speed: Speed, server: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let counters = Arc::new(Counters::default());
        let line = || {
            let delay = (speed.round_trip() / 2).saturating_sub(GRAIN);
            Arc::new(Line { rate: speed.rate(), delay, free: Mutex::new(Instant::now()) })
        };
        let (up, down) = (line(), line());
        let counted = Arc::clone(&counters);
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (counters, up, down) = (Arc::clone(&counted), Arc::clone(&up), Arc::clone(&down));
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(server).await else { return };
                    let _ = client.set_nodelay(true);
                    let _ = server.set_nodelay(true);
                    let (from_client, to_client) = client.into_split();
                    let (from_server, to_server) = server.into_split();
                    let mut requests = Requests::default();
                    let seen = Arc::clone(&counters);
                    let sent = move |piece: &[u8]| {
                        seen.sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
                        seen.requests.fetch_add(requests.begun(piece), Ordering::Relaxed);
                    };
                    let received = move |piece: &[u8]| {
                        counters.received.fetch_add(piece.len() as u64, Ordering::Relaxed);
                    };
                    let handshake = speed.round_trip();
                    tokio::spawn(carry(from_client, to_server, up, handshake, sent));
                    carry(from_server, to_client, down, Duration::ZERO, received).await;
                });
            }
        });
        Self { endpoint, counters, _runtime: runtime }
    }

    /// What passed since it was asked last.
    pub fn traffic(&self) -> Traffic {
        Traffic {
            requests: self.counters.requests.swap(0, Ordering::Relaxed),
            sent: self.counters.sent.swap(0, Ordering::Relaxed),
            received: self.counters.received.swap(0, Ordering::Relaxed),
        }
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    line: Arc<Line>,
    handshake: Duration,
    mut seen: impl FnMut(&[u8]) + Send + 'static,
) {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES);
    let writer = tokio::spawn(async move {
        while let Some((at, piece)) = receiver.recv().await {
            tokio::time::sleep_until(at).await;
            if to.write_all(&piece).await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
    });
    let opened = Instant::now() + handshake;
    let mut piece = vec![0; PIECE];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        seen(&piece[..length]);
        let at = line.arrival(length).max(opened + line.delay);
        if sender.send((at, piece[..length].to_vec())).await.is_err() {
            break;
        }
    }
    drop(sender);
    let _ = writer.await;
}

/// Finds the requests in what a client says on one connection (HTTP/1.1, bodies by `Content-Length` or in chunks).
#[derive(Default)]
struct Requests {
    head: Vec<u8>,
    body: Body,
}

#[derive(Default)]
enum Body {
    #[default]
    None,
    Length(u64),
    /// Until the end of an empty chunk; the last five bytes.
    Chunks([u8; 5]),
}

impl Requests {
    /// How many heads end in this piece.
    fn begun(&mut self, mut piece: &[u8]) -> u64 {
        let mut begun = 0;
        while !piece.is_empty() {
            match &mut self.body {
                Body::Length(left) => {
                    let taken = usize::try_from(*left).unwrap().min(piece.len());
                    *left -= taken as u64;
                    piece = &piece[taken..];
                    if *left == 0 {
                        self.body = Body::None;
                    }
                }
                Body::Chunks(last) => {
                    last.rotate_left(1);
                    last[4] = piece[0];
                    piece = &piece[1..];
                    if last == b"0\r\n\r\n" {
                        self.body = Body::None;
                    }
                }
                Body::None => {
                    self.head.push(piece[0]);
                    piece = &piece[1..];
                    if self.head.ends_with(b"\r\n\r\n") {
                        begun += 1;
                        self.body = body(&String::from_utf8_lossy(&self.head));
                        self.head.clear();
                    }
                }
            }
        }
        begun
    }
}

fn body(head: &str) -> Body {
    if header(head, "transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        return Body::Chunks([0; 5]);
    }
    match header(head, "content-length").and_then(|length| length.parse().ok()) {
        None | Some(0) => Body::None,
        Some(length) => Body::Length(length),
    }
}
