//! A proxy between a client and a real S3 server that makes requests fail, each in the way that the test decides.

#![allow(dead_code, reason = "no test file uses everything")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Longest head of a request or a response.
const HEAD: usize = 64 << 10;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// The connection is closed before the server has seen it.
    DropBefore,
    /// The connection is closed after the server has acted: the reply is lost.
    DropAfter,
    /// It is answered with this status, and the server never sees it.
    Answer(u16, &'static str),
    /// It is answered with this status although the server has acted.
    AnswerAfter(u16, &'static str),
    /// Nobody answers until the client gives up.
    Stall,
    /// It is passed on after a while.
    Delay(Duration),
    /// Half of the reply's body comes.
    Truncate,
    /// A bit of the reply's body is another one.
    Flip,
}

/// What can happen to any request.
pub const COMMON: [Fault; 10] = [
    Fault::DropBefore,
    Fault::DropAfter,
    Fault::Answer(500, "InternalError"),
    Fault::Answer(503, "SlowDown"),
    Fault::Answer(403, "AccessDenied"),
    Fault::Answer(412, "PreconditionFailed"),
    Fault::Answer(409, "ConditionalRequestConflict"),
    Fault::AnswerAfter(500, "InternalError"),
    Fault::Stall,
    Fault::Truncate,
];

/// A request, as far as a fault may depend on it.
#[derive(Debug, Clone)]
pub struct Request {
    /// Counts from 0, over all connections.
    pub number: u64,
    /// `GET`, `PUT`, …
    pub method: String,
    /// With the query.
    pub path: String,
    /// Its head, for conditions.
    pub head: String,
    /// Its body.
    pub body: Vec<u8>,
}

impl Request {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    /// Whether it swaps or creates a ref.
    pub fn is_swap(&self) -> bool {
        self.method == "PUT" && self.path.contains("/refs/")
    }
}

/// What the server answered to a request that it has seen.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Its head.
    pub head: String,
}

/// Who decides, and who hears of what the server answered.
pub trait Director: Send + Sync + 'static {
    /// What happens to a request.
    fn fault(&self, request: &Request) -> Fault;
    /// The whole answer, where somebody else than the server gives it.
    fn answer<'a>(&'a self, request: &'a Request) -> Pin<Box<dyn Future<Output = Option<Vec<u8>>> + Send + 'a>> {
        let _ = request;
        Box::pin(std::future::ready(None))
    }
    /// Changes what the server has answered, in its head and in its body, but not in length.
    fn change(&self, request: &Request, head: &mut String, body: &mut [u8]) {
        let _ = (request, head, body);
    }
    /// The server has answered.
    fn replied(&self, request: &Request, reply: &Reply) {
        let _ = (request, reply);
    }
}

impl<F: Fn(&Request) -> Fault + Send + Sync + 'static> Director for F {
    fn fault(&self, request: &Request) -> Fault {
        self(request)
    }
}

/// The proxy; gone with the runtime it was started in.
pub struct Proxy {
    /// Its URL.
    pub endpoint: String,
    count: Arc<AtomicU64>,
    under_way: Arc<AtomicU64>,
}

/// A request that the server works on.
struct UnderWay<'a>(&'a AtomicU64);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Proxy {
    /// In front of a server, for this machine.
    pub async fn start(upstream: &str, director: Arc<dyn Director>) -> Self {
        Self::start_on(Ipv4Addr::LOCALHOST.into(), upstream, director).await
    }

    /// In front of a server, at an address of this machine.
    pub async fn start_on(address: IpAddr, upstream: &str, director: Arc<dyn Director>) -> Self {
        let upstream: SocketAddr = upstream.strip_prefix("http://").unwrap().parse().unwrap();
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let count = Arc::new(AtomicU64::new(0));
        let under_way = Arc::new(AtomicU64::new(0));
        let (counted, working) = (count.clone(), under_way.clone());
        tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                let (director, counted, working) = (director.clone(), counted.clone(), working.clone());
                // A connection that breaks is what this is about.
                tokio::spawn(async move { serve(client, upstream, director.as_ref(), &counted, &working).await });
            }
        });
        Self { endpoint, count, under_way }
    }

    /// Waits until the server has answered everything: a client that has given up doesn't end what it asked for.
    pub async fn settled(&self) {
        while self.under_way.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// How many requests have come.
    pub fn requests(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }
}

async fn serve(
    mut client: TcpStream,
    upstream: SocketAddr,
    director: &dyn Director,
    count: &AtomicU64,
    under_way: &AtomicU64,
) -> Option<()> {
    client.set_nodelay(true).ok()?;
    let mut buffer = Vec::new();
    loop {
        let (head, body) = read_message(&mut client, &mut buffer, true).await?;
        // The body has been asked for already.
        let head = head.replace("expect: 100-continue\r\n", "");
        let mut first = head.lines().next()?.split(' ');
        let request = Request {
            number: count.fetch_add(1, Ordering::SeqCst),
            method: first.next()?.to_owned(),
            path: first.next()?.to_owned(),
            head,
            body,
        };
        under_way.fetch_add(1, Ordering::SeqCst);
        let working = UnderWay(under_way);
        let fault = director.fault(&request);
        match fault {
            Fault::DropBefore => return None,
            Fault::Stall => {
                drop(working);
                // Until the client closes.
                let _ = client.read(&mut [0; 1]).await;
                return None;
            }
            Fault::Answer(status, code) => {
                client.write_all(answer(status, code, &request.method).as_bytes()).await.ok()?;
                continue;
            }
            Fault::Delay(duration) => tokio::time::sleep(duration).await,
            _ => {}
        }
        if let Some(answer) = director.answer(&request).await {
            drop(working);
            client.write_all(&answer).await.ok()?;
            continue;
        }
        let mut server = TcpStream::connect(upstream).await.ok()?;
        server.set_nodelay(true).ok()?;
        server.write_all(request.head.as_bytes()).await.ok()?;
        server.write_all(&request.body).await.ok()?;
        let mut left = Vec::new();
        let (mut head, mut body) = loop {
            let (head, body) = read_message(&mut server, &mut left, request.method != "HEAD").await?;
            if !head.starts_with("HTTP/1.1 1") {
                break (head, body);
            }
        };
        let status = head.split(' ').nth(1)?.parse().ok()?;
        director.replied(&request, &Reply { status, head: head.clone() });
        director.change(&request, &mut head, &mut body);
        drop(working);
        match fault {
            Fault::DropAfter => return None,
            Fault::AnswerAfter(status, code) => {
                client.write_all(answer(status, code, &request.method).as_bytes()).await.ok()?;
                continue;
            }
            Fault::Flip if !body.is_empty() => {
                let at = body.len() / 2;
                body[at] ^= 1;
            }
            _ => {}
        }
        client.write_all(head.as_bytes()).await.ok()?;
        if fault == Fault::Truncate {
            client.write_all(&body[..body.len() / 2]).await.ok()?;
            return None;
        }
        client.write_all(&body).await.ok()?;
    }
}

fn answer(status: u16, code: &str, method: &str) -> String {
    let body = match method {
        "HEAD" => String::new(),
        _ => format!("<Error><Code>{code}</Code><Message>injected</Message></Error>"),
    };
    format!(
        "HTTP/1.1 {status} Injected\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A head with the empty line, and the body as it came over the wire.
async fn read_message(stream: &mut TcpStream, buffer: &mut Vec<u8>, has_body: bool) -> Option<(String, Vec<u8>)> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if buffer.len() > HEAD || stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(buffer[..end].to_vec()).ok()?;
    buffer.drain(..end);
    if !has_body {
        return Some((head, Vec::new()));
    }
    if header(&head, "transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        while !buffer.ends_with(b"0\r\n\r\n") {
            if stream.read_buf(buffer).await.ok()? == 0 {
                return None;
            }
        }
        return Some((head, std::mem::take(buffer)));
    }
    if header(&head, "expect").is_some() {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.ok()?;
    }
    let length: usize = header(&head, "content-length").map_or(Some(0), |value| value.parse().ok())?;
    while buffer.len() < length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let body = buffer.drain(..length).collect();
    Some((head, body))
}

/// A header's value, in the head of a request or of a response.
pub fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}
