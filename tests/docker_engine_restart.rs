//! The monitor while the Docker Engine under it ends, orderly and by a crash, and comes back.
//!
//! On an engine of the test's own, so that nothing else on this machine is stopped with it.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/monitored.rs"]
mod monitored;
#[path = "support/servers.rs"]
mod servers;

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use monitored::{Site, docker, docker_command, number_of, use_engine, wait_until};
use rustix::process::{Pid, Signal, kill_process};

const IMAGE: &str = "workspace-node-s3:latest";
/// Interfaces of the engine's default network and of the monitor's.
const BRIDGE: &str = "ws-test-default";
const NETWORK: &str = "ws-test-shared";

/// `dockerd` with everything of its own but the kernel.
struct OwnEngine {
    folder: tempfile::TempDir,
    daemon: Option<Child>,
}

impl OwnEngine {
    /// Started, with the image of the Node runtime in it. Everything in this test uses it from now on.
    fn with_image() -> Self {
        let image = tempfile::tempfile().unwrap();
        let save = docker_command().args(["save", IMAGE]).stdout(image.try_clone().unwrap()).status().unwrap();
        assert!(save.success());
        succeed("ip", &["link", "add", BRIDGE, "type", "bridge"]);
        succeed("ip", &["address", "add", "10.213.77.1/24", "dev", BRIDGE]);
        // The machine's own engine lets nothing pass between containers but its own.
        succeed("iptables", &["-I", "FORWARD", "-i", NETWORK, "-o", NETWORK, "-j", "ACCEPT"]);
        let mut engine = Self { folder: tempfile::tempdir().unwrap(), daemon: None };
        use_engine(&format!("unix://{}", engine.path("docker.sock").display()));
        engine.start();
        std::io::Seek::rewind(&mut &image).unwrap();
        let load = docker_command().arg("load").stdin(image).stdout(Stdio::null()).status().unwrap();
        assert!(load.success());
        // The monitor's network, under a name that is known beforehand.
        let option = format!("com.docker.network.bridge.name={NETWORK}");
        docker(&["network", "create", "--subnet", "10.213.78.0/24", "--opt", &option, "workspaces"]);
        engine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let gateway = workspace::embedded::server::docker_gateway().expect("Docker's bridge");
        let mut command = Command::new("dockerd");
        // The firewall's rules belong to the machine's own engine; containers and host see each other without them. And a
        // bridge of its own: with none, the daemon would remove that of the other one.
        command.args(["--iptables=false", "--ip6tables=false", "--bridge", BRIDGE]);
        command.args(["--config-file".as_ref(), self.path("none.json").as_os_str()]);
        command.arg("--host-gateway-ip").arg(gateway.to_string());
        command.arg("--host").arg(format!("unix://{}", self.path("docker.sock").display()));
        for (flag, name) in [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")] {
            command.arg(flag).arg(self.path(name));
        }
        std::fs::write(self.path("none.json"), "{}").unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.daemon = Some(command.spawn().unwrap());
        let up = || docker_command().arg("info").output().unwrap().status.success().then_some(());
        wait_until("the engine", up);
    }

    fn signal(&mut self, signal: Signal) {
        let mut daemon = self.daemon.take().unwrap();
        kill_process(Pid::from_child(&daemon), signal).unwrap();
        wait_until("the engine's end", || daemon.try_wait().unwrap());
        // Its containerd dies with it. Where nobody collects the dead, its file would keep the next one from starting.
        let _ = std::fs::remove_file(self.path("exec/containerd/containerd.pid"));
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.path("log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            #[expect(clippy::print_stderr, reason = "what a failed test leaves to read")]
            for line in lines.iter().skip(lines.len().saturating_sub(40)) {
                eprintln!("engine: {line}");
            }
        }
        if self.daemon.is_none() {
            // So that it ends the containers that run on without it.
            self.start();
        }
        self.signal(Signal::TERM);
        // The daemon mounts its folder onto itself, and doesn't always take that back.
        let _ = Command::new("umount").args(["--lazy".as_ref(), self.path("data").as_os_str()]).output();
        succeed("iptables", &["-D", "FORWARD", "-i", NETWORK, "-o", NETWORK, "-j", "ACCEPT"]);
        for interface in [NETWORK, BRIDGE] {
            let _ = Command::new("ip").args(["link", "delete", interface]).output();
        }
    }
}

fn succeed(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn slow_docker_engine_restarts_under_the_monitor() {
    let mut engine = OwnEngine::with_image();
    let mut site = Site::new();
    let name = site.name("engine");
    site.upload(&name, "one", &[]);
    site.start();
    site.live(&name, 1);
    site.answers(&name, "/", "one");

    // Orderly, in the middle of a release.
    let before = site.log().len();
    site.upload(&name, "two", &[("slow.js", "setTimeout(() => {}, 3000)"), ("workspace.yaml", SLOW)]);
    site.wait_log(before, r#""phase":"install""#);
    engine.signal(Signal::TERM);
    site.wait_log(before, "the Docker Engine's events broke off");
    engine.start();
    site.live(&name, 2);
    site.answers(&name, "/", "two");

    // By a crash: containers run on, and nobody can ask for anything.
    let (address, host) = site.address(&name);
    let before = site.log().len();
    engine.signal(Signal::KILL);
    site.upload(&name, "three", &[]);
    // Which request meets it first is a matter of luck.
    site.wait_log(before, "the Docker Engine's events broke off");
    engine.start();
    let managed = site.live(&name, 3);
    assert_eq!(number_of(&managed), 3);
    wait_until("the third version", || monitored::get(&address, &host, "/").ok().filter(|answer| answer == "three"));
    let listed = docker(&["ps", "--all", "--format", "{{.Names}}"]);
    assert!(listed.lines().all(|container| container.contains(&name)), "{listed}");
    assert!(site.terminate().success());
}

/// Installs for a while.
const SLOW: &str = "runtime: node\ninstall: node slow.js\nstart: node server.js\n";
