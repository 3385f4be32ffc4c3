//! `docker-compose.yml` as an operator starts it: the monitor in its container, and Traefik in front of what it runs.
//!
//! Needs the images that `scripts/images` builds. Nothing is skipped: without an engine or an image this test fails.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/monitored.rs"]
mod monitored;
#[path = "support/servers.rs"]
mod servers;

use std::fs;
use std::path::Path;
use std::process::Command;

use monitored::{Site, docker, docker_command, get, run, wait_until};
use servers::free_port;

/// The file's services under a project of this test's own; gone when dropped.
struct Project {
    name: String,
    environment: Vec<(String, String)>,
}

impl Project {
    fn of(site: &Site) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let traefik = run(&mut Command::new(root.join("scripts/traefik-image")));
        let (endpoint, access_key, secret_key) = site.keys();
        let ports = [free_port(), free_port(), free_port()].map(|port| port.to_string());
        let environment = [
            ("S3_ENDPOINT", endpoint.as_str()),
            ("S3_ACCESS_KEY", &access_key),
            ("S3_SECRET_KEY", &secret_key),
            ("S3_BUCKET", monitored::BUCKET),
            ("TRAEFIK_IMAGE", traefik.trim()),
            ("TRAEFIK_HTTP_PORT", &ports[0]),
            ("TRAEFIK_HTTPS_PORT", &ports[1]),
            ("MONITOR_PORT", &ports[2]),
        ];
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { name: format!("test-monitor-{}", std::process::id()), environment }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = docker_command();
        command.args(["compose", "--project-name", &self.name]).args(arguments);
        command.current_dir(env!("CARGO_MANIFEST_DIR")).envs(self.environment.clone());
        command
    }

    fn address(&self, variable: &str) -> String {
        let port = self.environment.iter().find(|(name, _)| name == variable).unwrap();
        format!("127.0.0.1:{}", port.1)
    }
}

impl Drop for Project {
    #[expect(clippy::print_stderr, reason = "what a failed test leaves to read")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.command(&["logs", "--tail", "60"]).output().unwrap();
            eprintln!("{}", String::from_utf8_lossy(&log.stdout));
        }
        let _ = self.command(&["down", "--volumes", "--timeout", "5"]).output();
    }
}

#[test]
fn slow_docker_compose_file_brings_monitor_and_traefik() {
    let mut site = Site::new();
    let name = site.name("stack");
    let project = Project::of(&site);
    // Before there is even a bucket.
    run(&mut project.command(&["up", "--detach", "--wait"]));
    let monitor = project.address("MONITOR_PORT");
    assert!(get(&monitor, "monitor", "/healthz").unwrap().starts_with("waiting: "));
    // It has the socket, and nothing else that it doesn't need.
    for (service, bounding) in [("monitor", "0000000000000000"), ("traefik", "0000000000000400")] {
        let id = run(&mut project.command(&["ps", "--quiet", service]));
        let asked = "{{.State.Pid}} {{.HostConfig.ReadonlyRootfs}}";
        let state = docker(&["inspect", "--format", asked, id.trim()]);
        let (pid, read_only) = state.trim().split_once(' ').unwrap();
        assert_eq!(read_only, "true", "{service} can write to its root");
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        for line in ["NoNewPrivs:\t1", &format!("CapBnd:\t{bounding}")] {
            assert!(status.contains(line), "{service} lacks `{line}`: {status}");
        }
    }

    site.upload(&name, "one", &[]);
    site.live(&name, 1);
    let web = project.address("TRAEFIK_HTTP_PORT");
    let host = format!("{name}.localhost");
    assert_eq!(get(&web, &host, "/").unwrap(), "one");
    wait_until("the status to say so", || {
        let status = site.command(&["status", &name]);
        (status.contains("\tlive\t") && status.contains(&host)).then_some(())
    });
    let metrics = get(&monitor, "monitor", "/metrics").unwrap();
    assert!(metrics.contains(r#"workspace_monitor_releases_total{outcome="live"} 1"#), "{metrics}");

    // Killed, it goes on where it was; asked to end, it ends cleanly, and what runs here runs on.
    run(&mut project.command(&["kill", "monitor"]));
    run(&mut project.command(&["up", "--detach", "--wait"]));
    site.upload(&name, "two", &[]);
    site.live(&name, 2);
    wait_until("the new version", || get(&web, &host, "/").ok().filter(|answer| answer == "two"));
    run(&mut project.command(&["stop", "monitor"]));
    let ended = run(&mut project.command(&["ps", "--all", "--format", "{{.Service}} {{.ExitCode}}"]));
    assert!(ended.lines().any(|line| line == "monitor 0"), "{ended}");
    assert!(site.host().unwrap().ended);
    assert_eq!(get(&web, &host, "/").unwrap(), "two");
}
