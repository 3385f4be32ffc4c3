//! `workspace relay` as a process: connections while targets come, go and are replaced.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Answers every connection with its name, after it was asked.
fn target(name: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            std::thread::spawn(move || {
                let mut connection = connection.unwrap();
                let mut asked = Vec::new();
                // The client has said all before it is answered: the other direction must stay open.
                let _ = connection.read_to_end(&mut asked);
                let _ = connection.write_all(name.as_bytes());
                let _ = connection.write_all(&asked);
            });
        }
    });
    address
}

/// An address where nobody listens.
fn dead() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn route(file: &Path, targets: &[&str]) {
    let new = file.with_extension("new");
    std::fs::write(&new, serde_json::json!({ "targets": targets }).to_string()).unwrap();
    std::fs::rename(new, file).unwrap();
}

struct Relay {
    child: Child,
    address: String,
}

impl Relay {
    fn start(file: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_workspace"))
            .args(["relay", "--listen", "127.0.0.1:0", "--target-file", file.to_str().unwrap()])
            .env_clear()
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let line = BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
        Self { child, address: line.strip_prefix("LISTEN=").unwrap().to_owned() }
    }

    fn ask(&self, text: &str) -> String {
        ask(&self.address, text)
    }

    fn terminate(&self) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ask(address: &str, text: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    // A connection that is cut off may end in an error instead of nothing: both are no answer.
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn a_switch_under_constant_connections_loses_none() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("route.json");
    let (one, two) = (target("one "), target("two "));
    route(&file, &[&one]);
    let relay = Relay::start(&file);
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (over, address) = (Arc::clone(&over), relay.address.clone());
            std::thread::spawn(move || {
                let mut answers = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    answers.push(ask(&address, "x"));
                }
                answers
            })
        })
        .collect();
    for _ in 0..10 {
        for targets in [[two.as_str()], [one.as_str()], [two.as_str()]] {
            route(&file, &targets);
            // What begins after a switch goes to the new target.
            let expected = if targets[0] == one { "one y" } else { "two y" };
            assert_eq!(relay.ask("y"), expected);
        }
        std::fs::write(&file, "{\"targets\":[\"half").unwrap();
        assert_eq!(relay.ask("y"), "two y");
    }
    over.store(true, Ordering::Relaxed);
    let answers: Vec<String> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    let (ones, twos) = answers.iter().partition::<Vec<_>, _>(|answer| *answer == "one x");
    assert!(twos.iter().all(|answer| *answer == "two x"), "{twos:?}");
    assert!(!ones.is_empty() && !twos.is_empty());
}

#[test]
fn a_dead_target_is_passed_over_and_the_others_take_turns() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("route.json");
    let (one, two) = (target("one "), target("two "));
    route(&file, &[&dead(), &one, "no-such-host.invalid:80", &two]);
    let relay = Relay::start(&file);
    let answers: Vec<String> = (0..8).map(|_| relay.ask("x")).collect();
    assert!(answers.iter().all(|answer| answer == "one x" || answer == "two x"), "{answers:?}");
    assert!(answers.contains(&"one x".to_owned()) && answers.contains(&"two x".to_owned()), "{answers:?}");
}

#[test]
fn a_connection_waits_for_a_target_that_is_being_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("route.json");
    route(&file, &[&dead()]);
    let relay = Relay::start(&file);
    let address = relay.address.clone();
    let client = std::thread::spawn(move || ask(&address, "x"));
    std::thread::sleep(Duration::from_millis(500));
    route(&file, &[&target("late ")]);
    assert_eq!(client.join().unwrap(), "late x");
    // Without any, the connection ends.
    route(&file, &[]);
    assert_eq!(relay.ask("x"), "");
}

#[test]
fn open_connections_finish_after_sigterm() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("route.json");
    route(&file, &[&target("one ")]);
    let mut relay = Relay::start(&file);
    let mut open = TcpStream::connect(&relay.address).unwrap();
    open.write_all(b"half").unwrap();
    // So that it is surely accepted, and not only in the kernel's queue.
    assert_eq!(relay.ask("x"), "one x");
    relay.terminate();
    let deadline = Instant::now() + Duration::from_secs(5);
    while TcpStream::connect(&relay.address).is_ok() {
        assert!(Instant::now() < deadline, "it still accepts");
        std::thread::sleep(Duration::from_millis(10));
    }
    open.write_all(b"whole").unwrap();
    open.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    open.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "one halfwhole");
    assert_eq!(relay.child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_connected_ahead_of_its_first_request_goes_where_traffic_goes_by_then() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("route.json");
    let (one, two) = (TcpListener::bind("127.0.0.1:0").unwrap(), target("two"));
    route(&file, &[&one.local_addr().unwrap().to_string()]);
    let relay = Relay::start(&file);
    let mut quick = TcpStream::connect(&relay.address).unwrap();
    let mut slow = TcpStream::connect(&relay.address).unwrap();
    // A server may be the first to speak, so at last it is asked for; this one says nothing and ends.
    let (accepted, _) = one.accept().unwrap();
    let (other, _) = one.accept().unwrap();
    route(&file, &[&two]);
    drop((one, accepted, other));
    for (client, text) in [(&mut quick, "quick"), (&mut slow, "slow")] {
        client.write_all(text.as_bytes()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, format!("two{text}"));
    }
}
