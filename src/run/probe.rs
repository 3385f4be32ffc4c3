//! Whether the application answers: the health path with 2xx or 3xx, or the port accepts.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::system;

/// How long one answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// What answers, as [`crate::application::Plan`] has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The port that the application was given.
    pub port: u16,
    /// The path to ask for; `None`: a connection is enough.
    pub health: Option<String>,
}

/// Asks once. `Err` says in half a sentence why it isn't ready.
pub async fn probe(target: &Target) -> Result<(), String> {
    match tokio::time::timeout(ANSWER_LIMIT, ask(target)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("port {} gave no answer within {} s", target.port, ANSWER_LIMIT.as_secs())),
    }
}

async fn ask(target: &Target) -> Result<(), String> {
    let port = target.port;
    let mut stream = connect(port).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::ConnectionRefused => format!("nothing listens on port {port}"),
        _ => format!("port {port}: {error}"),
    })?;
    if system::is_first_process() && only_loopback(port) {
        return Err(format!(
            "port {port} is open on loopback only, where nothing outside can reach it; listen on 0.0.0.0"
        ));
    }
    let Some(path) = &target.health else {
        return Ok(());
    };
    let failed = |error: std::io::Error| format!("GET {path} on port {port}: {error}");
    let request = request(path, &format!("localhost:{port}"));
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut answer = Vec::new();
    // The status line is all that counts.
    let mut limited = stream.take(1024);
    while !answer.contains(&b'\n') {
        if limited.read_buf(&mut answer).await.map_err(failed)? == 0 {
            break;
        }
    }
    match status_of(&answer) {
        Some(200..=399) => Ok(()),
        Some(status) => Err(format!("GET {path} on port {port} answered {status}")),
        None => Err(format!("GET {path} on port {port} was not answered by HTTP")),
    }
}

/// Largest answer that [`get`] reads, in bytes.
const MAX_ANSWER: u64 = 64 << 10;

/// Asks `address` (host and port) for a path: the status, and the body as text. `Err` says in half a sentence why there
/// is no answer.
pub async fn get(address: &str, path: &str) -> Result<(u16, String), String> {
    let asked = async {
        let mut stream = TcpStream::connect(address).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::ConnectionRefused => format!("nothing listens on {address}"),
            _ => format!("{address}: {error}"),
        })?;
        let failed = |error: std::io::Error| format!("GET {path} on {address}: {error}");
        stream.write_all(request(path, address).as_bytes()).await.map_err(failed)?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER).read_to_end(&mut answer).await.map_err(failed)?;
        let status = status_of(&answer).ok_or_else(|| format!("GET {path} on {address} was not answered by HTTP"))?;
        let text = String::from_utf8_lossy(&answer);
        Ok((status, text.split_once("\r\n\r\n").map_or("", |(_, body)| body).trim().to_owned()))
    };
    match tokio::time::timeout(ANSWER_LIMIT, asked).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("{address} gave no answer within {} s", ANSWER_LIMIT.as_secs())),
    }
}

fn request(path: &str, host: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: workspace-health\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    )
}

/// Connects on loopback, or where else the application listens: some bind to the one address that HOSTNAME means.
async fn connect(port: u16) -> std::io::Result<TcpStream> {
    let error = match TcpStream::connect(("127.0.0.1", port)).await {
        Ok(stream) => return Ok(stream),
        Err(error) => error,
    };
    for address in system::listeners().unwrap_or_default().into_iter().filter(|address| address.port() == port) {
        let unspecified = SocketAddr::new(std::net::Ipv6Addr::LOCALHOST.into(), port);
        let address = if address.ip().is_unspecified() { unspecified } else { address };
        if let Ok(stream) = TcpStream::connect(address).await {
            return Ok(stream);
        }
    }
    Err(error)
}

fn status_of(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\n').next()?;
    let text = std::str::from_utf8(line).ok()?;
    let rest = text.strip_prefix("HTTP/1.")?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// Whether the port is open, but on loopback addresses only.
pub(super) fn only_loopback(port: u16) -> bool {
    let listeners: Vec<SocketAddr> =
        system::listeners().unwrap_or_default().into_iter().filter(|address| address.port() == port).collect();
    !listeners.is_empty() && listeners.iter().all(|address| address.ip().to_canonical().is_loopback())
}

/// What listens where, for a failure report: `0.0.0.0:8080, [::]:9229`, or `nothing`.
pub fn what_listens() -> Option<String> {
    let listeners = system::listeners()?;
    if listeners.is_empty() {
        return Some("nothing".to_owned());
    }
    Some(listeners.iter().take(20).map(ToString::to_string).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines() {
        assert_eq!(status_of(b"HTTP/1.1 204 No Content\r\n"), Some(204));
        assert_eq!(status_of(b"HTTP/1.0 302\n"), Some(302));
        assert_eq!(status_of(b"SSH-2.0-OpenSSH\r\n"), None);
    }

    async fn answering(text: &'static str) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 512];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(text.as_bytes()).await;
            }
        });
        port
    }

    #[tokio::test]
    async fn only_2xx_and_3xx_are_ready() {
        for (text, ready) in [
            ("HTTP/1.1 200 OK\r\n\r\n", true),
            ("HTTP/1.1 301 Moved\r\n\r\n", true),
            ("HTTP/1.1 404 Not Found\r\n\r\n", false),
            ("HTTP/1.1 503 Busy\r\n\r\n", false),
            ("hello\r\n", false),
        ] {
            let target = Target { port: answering(text).await, health: Some("/up".to_owned()) };
            assert_eq!(probe(&target).await.is_ok(), ready, "{text}");
        }
    }

    #[tokio::test]
    async fn an_answer_has_a_status_and_a_body() {
        let get = async |text| {
            let port = answering(text).await;
            get(&format!("127.0.0.1:{port}"), "/healthz").await
        };
        assert_eq!(get("HTTP/1.1 200 OK\r\n\r\nall is well\n").await, Ok((200, "all is well".to_owned())));
        assert_eq!(get("HTTP/1.1 503 No\r\nA: b\r\n\r\n").await, Ok((503, String::new())));
        assert!(get("hello\r\n").await.unwrap_err().contains("was not answered by HTTP"));
    }

    #[tokio::test]
    async fn a_closed_port_is_named() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let error = probe(&Target { port, health: None }).await.unwrap_err();
        assert_eq!(error, format!("nothing listens on port {port}"));
    }
}
