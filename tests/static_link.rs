//! The binary needs nothing of the system that it runs on: no loader, no libc, no files for finding names.
//!
//! The binary must be linked statically, as `scripts/test` does. The name server listens on port 53, which takes root or
//! `net.ipv4.ip_unprivileged_port_start=53`.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/cli.rs"]
mod cli;

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cli::{BINARY, Ran, TestEnvironment};

/// Of the loopback network, and nobody else's.
const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(127, 53, 53, 53);
/// A type of entry in an ELF file's program header: the loader that is to be asked for shared libraries.
const PT_INTERP: u32 = 3;

struct Store {
    child: Child,
    port: String,
}

impl Store {
    fn start(environment: &TestEnvironment) -> Self {
        let mut command = environment.workspace(["serve", "--listen", "127.0.0.1:0"]);
        command.env("S3_ACCESS_KEY", "made-up-access-key").env("S3_SECRET_KEY", "made-up-secret-key");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let line = BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
        let port = line.rsplit(':').next().unwrap().to_owned();
        Self { child, port }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Answers for one name with 127.0.0.1, and that there is no other. Counts the questions for it.
fn serve_names(known: &'static str) -> Arc<AtomicUsize> {
    let socket = UdpSocket::bind((NAME_SERVER, 53)).expect("port 53 of the loopback: run this as root");
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut query) {
            let question = &query[12..length];
            let labels: Vec<u8> = known
                .split('.')
                .flat_map(|label| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat())
                .collect();
            // RFC 1035: labels, a zero, two bytes of type, two of class.
            let is_known = question.starts_with(&[labels.as_slice(), &[0]].concat());
            let end = question.iter().position(|byte| *byte == 0).unwrap() + 5;
            let is_address = question[end - 4..end - 2] == [0, 1];
            let answers = u8::from(is_known && is_address);
            let (flags, code) = ([0x81, 0x80], if is_known { 0 } else { 3 });
            let mut reply = [&query[..2], &[flags[0], flags[1] | code, 0, 1, 0, answers, 0, 0, 0, 0]].concat();
            reply.extend(&question[..end]);
            if answers == 1 {
                count.fetch_add(1, Ordering::SeqCst);
                reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
            }
            let _ = socket.send_to(&reply, client);
        }
    });
    asked
}

/// Runs the binary where there is nothing else but the devices that every container has: random numbers come from there.
fn in_empty_root(root: &Path, endpoint: &str, arguments: &[&str]) -> Ran {
    let script = "mount --rbind /dev \"$0/dev\" && exec chroot \"$0\" /workspace \"$@\"";
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script])
        .arg(root)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/tmp")
        .env("S3_ENDPOINT", endpoint)
        .env("S3_ACCESS_KEY", "made-up-access-key")
        .env("S3_SECRET_KEY", "made-up-secret-key")
        .output()
        .unwrap();
    output.into()
}

#[test]
fn no_loader_is_asked_for() {
    let bytes = std::fs::read(BINARY).unwrap();
    let number = |at: usize, length: usize| {
        bytes[at..at + length].iter().rev().fold(0_usize, |number, byte| number << 8 | usize::from(*byte))
    };
    assert_eq!(&bytes[..5], b"\x7fELF\x02", "an ELF file of 64 bits");
    // See elf(5): e_phoff, e_phentsize, e_phnum.
    let (start, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    let dynamic = (0..count).any(|index| number(start + index * size, 4) == PT_INTERP as usize);
    assert!(!dynamic, "linked dynamically: RUSTFLAGS='-C target-feature=+crt-static' is missing, see scripts/test");
}

#[test]
fn names_are_found_where_there_is_no_libc() {
    let environment = TestEnvironment::new();
    let store = Store::start(&environment);
    let root = environment.folder("root");
    let tree = root.join("tree");
    std::fs::create_dir_all(&tree).unwrap();
    for folder in ["dev", "etc", "tmp"] {
        std::fs::create_dir(root.join(folder)).unwrap();
    }
    std::fs::write(tree.join("file"), "text").unwrap();
    std::fs::copy(BINARY, root.join("workspace")).unwrap();
    std::fs::write(root.join("etc/hosts"), "127.0.0.1 in-hosts.test\n").unwrap();
    std::fs::write(root.join("etc/resolv.conf"), format!("nameserver {NAME_SERVER}\noptions timeout:2\n")).unwrap();
    let asked = serve_names("by-dns.test");

    let by_hosts = format!("http://in-hosts.test:{}", store.port);
    in_empty_root(&root, &by_hosts, &["upload", "app", "/tree", "--yes"]).ok();
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    let by_dns = format!("http://by-dns.test:{}", store.port);
    let listed = in_empty_root(&root, &by_dns, &["list"]).ok();
    assert!(listed.stdout.starts_with("app\t"), "{listed:?}");
    assert!(asked.load(Ordering::SeqCst) > 0);
    let nowhere = format!("http://nowhere.test:{}", store.port);
    in_empty_root(&root, &nowhere, &["list"]).fails(5, "nowhere.test");
}
