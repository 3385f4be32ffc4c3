//! The monitor with Traefik in front, on the real Docker Engine: releases under load.
//!
//! Needs the images that `scripts/images` builds. Nothing is skipped: without an engine or an image these tests fail.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/monitored.rs"]
mod monitored;
#[path = "support/servers.rs"]
mod servers;

use std::collections::BTreeMap;

use monitored::{PLAIN, Site, containers, docker, wait_until};

#[test]
fn docker_traefik_releases_under_load_without_one_failed_request() {
    let mut site = Site::new();
    let name = site.name("load");
    site.route_through_traefik();
    site.upload(&name, "one", &[]);
    site.start();
    site.live(&name, 1);
    site.answers(&name, "/", "one");
    let first = containers(&name);
    assert_eq!(first, [format!("workspace-{name}")]);
    let id = docker(&["inspect", "--format", "{{.Id}}", &first[0]]);

    let load = site.load(&name);
    site.upload(&name, "two", &[]);
    site.live(&name, 2);
    site.wait(&name, "the end of the watch", |managed| managed.good.as_ref().is_some_and(|good| good.row.number == 2));
    wait_until("the old release to be removed", || (containers(&name).len() == 1).then_some(()));
    let answers = load.unharmed();
    assert_eq!(answers.iter().map(String::as_str).collect::<Vec<_>>(), ["one", "two"]);
    assert_ne!(docker(&["inspect", "--format", "{{.Id}}", &first[0]]), id, "the name has moved on");
    site.answers(&name, "/", "two");

    // Neither the container nor any process in it knows a key.
    let inspected = docker(&["inspect", &first[0]]);
    let environ = site.ask(&name, "/environ").unwrap();
    assert!(environ.contains("PORT"), "{environ}");
    for secret in site.secrets() {
        assert!(!inspected.contains(&secret) && !environ.contains(&secret), "{inspected}\n{environ}");
    }
    assert!(!environ.contains("S3_SECRET_KEY") && !environ.contains("X-Amz-Signature"), "{environ}");
    // Routes that are lost, as with the router's volume, come back, however long ago it settled.
    std::fs::remove_file(site.path(&format!("routes/{name}.yml"))).unwrap();
    wait_until("the end of the route", || site.ask(&name, "/").is_err().then_some(()));
    assert!(site.terminate().success());
    site.start();
    site.answers(&name, "/", "two");
    assert!(site.terminate().success());
    assert!(site.host().unwrap().ended);
    site.answers(&name, "/", "two");
}

/// Each release at once has the traffic on all of its replicas, also where the one before has to stop first.
#[test]
fn docker_traefik_replicas_share_the_traffic_from_the_first_request() {
    let mut site = Site::new();
    let name = site.name("share");
    site.route_through_traefik();
    let yaml = format!("{PLAIN}replicas: 2\nvolumes: {{db: /data}}\nhealth: /health\n");
    site.upload(&name, "1", &[("workspace.yaml", &yaml)]);
    site.start();
    for number in 1..=4 {
        if number > 1 {
            site.upload(&name, &number.to_string(), &[("workspace.yaml", &yaml)]);
        }
        site.live(&name, number);
        let mut answered = BTreeMap::<String, usize>::new();
        for _ in 0..40 {
            *answered.entry(site.ask(&name, "/host").unwrap()).or_default() += 1;
        }
        assert!(answered.len() == 2 && answered.values().all(|count| *count >= 15), "{number}: {answered:?}");
    }
}

#[test]
fn slow_docker_traefik_twenty_releases_under_load() {
    let mut site = Site::new();
    let name = site.name("twenty");
    site.route_through_traefik();
    site.upload(&name, "version 1", &[]);
    site.start();
    site.live(&name, 1);
    let load = site.load(&name);
    for number in 2..=21 {
        site.upload(&name, &format!("version {number}"), &[]);
        site.live(&name, number);
    }
    let answers = load.unharmed();
    assert_eq!(answers.len(), 21, "{answers:?}");
}
