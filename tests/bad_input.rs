//! What a person gets to see when the store can't be used: one line each, a hint, within ten seconds.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/servers.rs"]
mod servers;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Output;
use std::time::{Duration, Instant};

use servers::{Server, command, free_port};

/// Answers every request with the same bytes.
fn canned(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut request = [0; 8192];
            let _ = connection.read(&mut request);
            let _ = connection.write_all(answer.as_bytes());
        }
    });
    endpoint
}

/// An S3 error as a server sends it.
fn s3_error(status: &str, code: &str) -> String {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>a long story</Message></Error>"
    );
    canned(
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
        .leak(),
    )
}

/// `workspace status --settings` with these settings and no others.
fn status(settings: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let output = command(env!("CARGO_BIN_EXE_workspace"))
        .args(["status", "--settings"])
        .env("HOME", folder.path())
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .envs(settings.iter().copied())
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(started.elapsed() < Duration::from_secs(10), "took {:?}", started.elapsed());
    output
}

/// The error and its hint, with the exit code.
fn fails(settings: &[(&str, &str)], exit: i32, error: &str, hint: &str) {
    let output = status(settings);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(exit), "{stderr}");
    let lines: Vec<&str> = stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{stderr}");
    assert_eq!(lines[0].strip_prefix("error: "), Some(error));
    assert!(lines[1].starts_with(&format!("hint: {hint}")), "{stderr}");
}

fn at(endpoint: &str) -> Vec<(&'static str, &str)> {
    vec![("S3_ENDPOINT", endpoint), ("S3_ACCESS_KEY", "key"), ("S3_SECRET_KEY", "secret")]
}

#[test]
fn nothing_listens() {
    let endpoint = format!("http://127.0.0.1:{}", free_port());
    let error = format!("can't reach the store at {endpoint}: the connection was refused");
    fails(&at(&endpoint), 5, &error, "check S3_ENDPOINT");
}

#[test]
fn no_such_host() {
    let error = "can't reach the store at http://nowhere.invalid:9000: the host `nowhere.invalid` is not known";
    fails(&at("http://nowhere.invalid:9000"), 5, error, "check S3_ENDPOINT");
}

#[test]
fn a_host_that_swallows_packets() {
    // A socket whose queue is full drops further connections, as a firewall does.
    let listener =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    rustix::net::bind(&listener, &any).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address: std::net::SocketAddr = rustix::net::getsockname(&listener).unwrap().try_into().unwrap();
    let queue: Vec<_> = (0..8)
        .map(|_| std::thread::spawn(move || std::net::TcpStream::connect_timeout(&address, Duration::from_secs(30))))
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    let endpoint = format!("http://{address}");
    let error = format!("can't reach the store at {endpoint}: no connection within the time limit");
    fails(&at(&endpoint), 5, &error, "check S3_ENDPOINT");
    drop(listener);
    drop(queue);
}

#[test]
fn something_that_is_not_s3() {
    let html = "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nETag: \"x\"\r\nContent-Length: 15\r\n\
                Connection: close\r\n\r\n<html>hi</html>";
    let endpoint = canned(html);
    let error = format!("what answers at {endpoint} is not S3 (text/html; charset=utf-8)");
    fails(&at(&endpoint), 1, &error, "check S3_ENDPOINT: it may name a console");
    let missing =
        "HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 9\r\nConnection: close\r\n\r\nnot found";
    let endpoint = canned(missing);
    let error = format!("what answers at {endpoint} is not S3 (status 404, text/html)");
    fails(&at(&endpoint), 1, &error, "check S3_ENDPOINT");
    let endpoint = s3_error("404 Not Found", "NotFound");
    let stderr = String::from_utf8(status(&at(&endpoint)).stderr).unwrap();
    assert!(stderr.contains("404 NotFound") && stderr.contains("hint: check S3_ENDPOINT"), "{stderr}");
    let tls = canned("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").replace("http:", "https:");
    let error = format!("can't reach the store at {tls}: no TLS connection, it answers in something else (`http://`?)");
    fails(&at(&tls), 5, &error, "check S3_ENDPOINT");
    let not_http = canned("220 mail.example.com ESMTP\r\n");
    let output = status(&at(&not_http));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with(&format!("error: the connection to the store at {not_http} broke (")), "{stderr}");
    assert!(stderr.lines().count() == 2, "{stderr}");
}

#[test]
fn wrong_keys() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::workspace(folder.path());
    let hint = "check that S3_ACCESS_KEY and S3_SECRET_KEY";
    let settings = |access, secret| {
        [("S3_ENDPOINT", server.endpoint.as_str()), ("S3_ACCESS_KEY", access), ("S3_SECRET_KEY", secret)]
    };
    let says = |code| format!("the store at {} does not accept the keys ({code})", server.endpoint);
    fails(&settings("other", "testing-secret"), 1, &says("InvalidAccessKeyId"), hint);
    fails(&settings("testing-key", "other"), 1, &says("SignatureDoesNotMatch"), hint);
}

#[test]
fn no_keys() {
    fails(&[("S3_ENDPOINT", "http://127.0.0.1:1")], 2, "there are no keys for the store", "set S3_ACCESS_KEY");
}

#[test]
fn no_permission() {
    let endpoint = s3_error("403 Forbidden", "AccessDenied");
    fails(&at(&endpoint), 1, "the store does not permit GetObject on `bucket.json`", "check what the key");
}

#[test]
fn clocks_apart() {
    let endpoint = s3_error("403 Forbidden", "RequestTimeTooSkewed");
    let error = "the clock of this machine and the store's differ by more than a signature allows";
    fails(&at(&endpoint), 1, error, "set this machine's clock");
}

#[test]
fn wrong_region() {
    let endpoint = s3_error("301 Moved Permanently", "PermanentRedirect");
    fails(&at(&endpoint), 2, "the bucket `workspaces` is in another region", "set S3_REGION");
}

#[test]
fn a_failing_server() {
    let endpoint = s3_error("500 Internal Server Error", "InternalError");
    let error = "the store failed GetObject on `bucket.json`: 500 InternalError (a long story)";
    fails(&at(&endpoint), 5, error, "try again later");
    let endpoint = s3_error("503 Slow Down", "SlowDown");
    fails(&at(&endpoint), 5, "the store asks for fewer requests (SlowDown)", "try again later");
}

/// A certificate authority, and a server's certificate signed by it, in a folder.
fn certificates(folder: &std::path::Path) {
    std::fs::write(folder.join("ext"), "basicConstraints=CA:FALSE\nsubjectAltName=IP:127.0.0.1\n").unwrap();
    for arguments in [
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=authority",
        "req -newkey rsa:2048 -nodes -keyout key.pem -out request.pem -subj /CN=server",
        "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out server.pem",
    ] {
        let output = command("openssl").args(arguments.split(' ')).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_certificate_nobody_knows() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let port = free_port();
    let mut server = command("openssl")
        .args(["s_server", "-quiet", "-www", "-cert", "server.pem", "-key", "key.pem"])
        .arg(format!("-accept=127.0.0.1:{port}"))
        .current_dir(folder.path())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(20));
    }
    let endpoint = format!("https://127.0.0.1:{port}");
    let error =
        format!("can't reach the store at {endpoint}: no TLS connection, invalid peer certificate: UnknownIssuer");
    fails(&at(&endpoint), 5, &error, "set WORKSPACE_CA_BUNDLE");
    let authority = folder.path().join("ca.pem");
    let mut settings = at(&endpoint);
    settings.push(("WORKSPACE_CA_BUNDLE", authority.to_str().unwrap()));
    // Its status page: the connection stands, and what answers isn't S3.
    let error = format!("what answers at {endpoint} is not S3 (text/html)");
    fails(&settings, 1, &error, "check S3_ENDPOINT");
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn impossible_settings() {
    fails(&[("S3_BUCKET", "")], 2, "S3_BUCKET is set to nothing in the environment", "give it a value");
    fails(
        &[("STORAGE_MODE", "filesystem")],
        2,
        "STORAGE_MODE in the environment is `filesystem`, which is not a storage mode",
        "`STORAGE_MODE=s3` for S3",
    );
    fails(
        &[("CI", "1")],
        2,
        "no store is configured, and `sync`, `run` and CI never fall back to the store on this machine",
        "set S3_ENDPOINT or S3_BUCKET",
    );
    let mut settings = at("http://127.0.0.1:1");
    settings.push(("WORKSPACE_CA_BUNDLE", "/nowhere.pem"));
    fails(
        &settings,
        2,
        "can't use the certificates in `/nowhere.pem`: No such file or directory (os error 2)",
        "WORKSPACE_CA_BUNDLE",
    );
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.pem");
    std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\nYnJva2Vu\n-----END CERTIFICATE-----\n").unwrap();
    let broken = broken.to_str().unwrap();
    settings.pop();
    settings.push(("WORKSPACE_CA_BUNDLE", broken));
    let error = format!(
        "can't use the certificates in `{broken}`: a certificate in it is broken (invalid peer certificate: BadEncoding)"
    );
    fails(&settings, 2, &error, "WORKSPACE_CA_BUNDLE");
    fails(
        &[
            ("S3_ENDPOINT", "http://127.0.0.1:1"),
            ("S3_BUCKET", "No Bucket"),
            ("S3_ACCESS_KEY", "a"),
            ("S3_SECRET_KEY", "b"),
        ],
        2,
        "S3_BUCKET in the environment: `No Bucket` is no name for a bucket: 3 to 63 of a-z, 0-9, `.` and `-`",
        "`.env.example`",
    );
}

#[test]
fn a_missing_bucket_is_no_failure_of_the_settings() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::workspace(folder.path());
    let settings = [
        ("S3_ENDPOINT", server.endpoint.as_str()),
        ("S3_ACCESS_KEY", "testing-key"),
        ("S3_SECRET_KEY", "testing-secret"),
    ];
    let output = status(&settings);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("the bucket `workspaces` does not exist yet; the first upload creates it"), "{stderr}");
}
