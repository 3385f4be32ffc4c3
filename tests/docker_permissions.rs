//! A monitor and containers with the keys of `docs/permissions.md` on a real Docker Engine; and what isolates what they start.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/monitored.rs"]
mod monitored;
#[path = "support/policies.rs"]
mod policies;
#[path = "support/servers.rs"]
mod servers;

use monitored::{BUCKET, PLAIN, Site, containers, docker, docker_command, run, volumes, wait_until};
use policies::policy;
use serde_json::{Value, json};

/// What keeps a container's application from the host and from others.
fn is_isolated(container: &str) {
    let all: Value = serde_json::from_str(&docker(&["inspect", container])).unwrap();
    let (host, config) = (&all[0]["HostConfig"], &all[0]["Config"]);
    assert_eq!(config["User"], "10001:10001", "{container}");
    assert_eq!(host["ReadonlyRootfs"], true, "{container}");
    assert_eq!(host["CapDrop"], json!(["ALL"]), "{container}");
    assert!(host["CapAdd"].as_array().is_none_or(Vec::is_empty), "{container}: {}", host["CapAdd"]);
    assert_eq!(host["SecurityOpt"], json!(["no-new-privileges:true"]), "{container}");
    assert_eq!(host["Privileged"], false, "{container}");
    assert!(host["PidsLimit"].as_i64().is_some_and(|limit| (1..=1024).contains(&limit)), "{container}");
    assert!(host["Memory"].as_i64().is_some_and(|limit| limit > 0), "{container}");
    for namespace in ["NetworkMode", "PidMode", "IpcMode", "UTSMode", "UsernsMode"] {
        assert_ne!(host[namespace], "host", "{container}: {namespace}");
    }
    assert!(host["Devices"].as_array().is_none_or(Vec::is_empty), "{container}: {}", host["Devices"]);
    let mounts = all[0]["Mounts"].as_array().unwrap();
    assert!(mounts.iter().all(|mount| mount["Type"] != "bind"), "{container} sees folders of the host: {mounts:#?}");
    assert!(!all.to_string().contains("docker.sock"), "{container} can reach Docker");
    // The same, as the kernel says it of the first process.
    let status = docker(&["exec", container, "cat", "/proc/1/status"]);
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    for capabilities in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(capabilities), ["0000000000000000"], "{container}: {capabilities}");
    }
    assert_eq!(field("NoNewPrivs:"), ["1"], "{container}");
    assert_eq!(field("Seccomp:"), ["2"], "{container}: Docker's filter of system calls is off");
    assert_eq!(field("Uid:"), ["10001"; 4], "{container}");
    for path in ["/written", "/usr/written", "/etc/written"] {
        let written = docker_command().args(["exec", container, "touch", path]).output().unwrap();
        assert!(!written.status.success(), "{container}: {path} can be written");
    }
}

#[test]
fn docker_a_monitor_with_a_key_of_its_own_and_what_it_starts() {
    let mut site = Site::new();
    let name = site.name("least");
    let yaml = format!("{PLAIN}release: node -e 0\nreplicas: 2\nvolumes:\n  db: /data\n");
    site.upload(&name, "one", &[("workspace.yaml", &yaml), ("Procfile", "worker: sleep 1000\n")]);
    let keys = site.user("monitor", &[policy("Monitor", BUCKET, "")]);
    site.give_monitor(&keys);
    site.flags.extend(["--gc-interval", "0s"].map(str::to_owned));
    site.start();
    site.live(&name, 1);
    site.answers(&name, "/", "one");
    site.upload(&name, "two", &[("workspace.yaml", &yaml), ("Procfile", "worker: sleep 1000\n")]);
    site.live(&name, 2);
    site.answers(&name, "/", "two");

    let running = wait_until("two replicas and a worker", || {
        let listed = docker(&["ps", "--filter", &format!("label=workspace.name={name}"), "--format", "{{.Names}}"]);
        let apps: Vec<String> = listed.lines().filter(|line| !line.ends_with("-Relay")).map(str::to_owned).collect();
        (apps.len() >= 3).then_some(apps)
    });
    for container in &running {
        is_isolated(container);
    }
    // Neither key is anywhere where Docker, or the log, could show it.
    let seen: String = containers(&name)
        .iter()
        .chain(&volumes(&name))
        .map(|thing| docker(&["inspect", thing]))
        .chain([site.log()])
        .collect();
    let [_, secret] = site.secrets();
    for hidden in [&secret, &keys.1, &keys.0] {
        assert!(!seen.contains(hidden.as_str()), "a key can be seen");
    }
    assert!(!site.log().contains("does not permit"), "{}", site.log());
    assert!(site.terminate().success());
}

struct Down<'a>(&'a str);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        let _ = docker_command().args(["compose", "-f", self.0, "down", "--volumes", "--timeout", "1"]).output();
    }
}

#[test]
fn docker_a_container_with_a_key_for_its_workspace_alone() {
    let mut site = Site::new();
    let name = site.name("alone");
    site.upload(&name, "one", &[]);
    let (access_key, secret_key) = site.user("container", &[policy("Container", BUCKET, &name)]);
    let file = site.path("compose.yml").to_str().unwrap().to_owned();
    let as_container = |command: &mut std::process::Command| {
        run(command.env("S3_ACCESS_KEY", &access_key).env("S3_SECRET_KEY", &secret_key))
    };
    as_container(site.workspace().args(["compose", &name, "-o", &file]));
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains(&secret_key) && !text.contains(&access_key) && text.contains("${S3_SECRET_KEY"), "{text}");
    let _down = Down(&file);
    as_container(docker_command().args(["compose", "-f", &file, "up", "--wait", "--wait-timeout", "60"]));
    let container = format!("workspace-{name}");
    is_isolated(&container);
    // A restart goes by the same key.
    site.upload(&name, "two", &[]);
    docker(&["restart", &container]);
    wait_until("the second version", || {
        let version = docker_command().args(["exec", &container, "cat", "/app/version"]).output().unwrap();
        (version.stdout.starts_with(b"two")).then_some(())
    });
    let logs = docker_command().args(["logs", &container]).output().unwrap();
    let logs = [logs.stdout, logs.stderr].concat();
    assert!(!String::from_utf8_lossy(&logs).contains(&secret_key));
    // What this page of the documentation says: whoever may use Docker can read what a container was given.
    assert!(docker(&["inspect", &container]).contains(&secret_key));
}
