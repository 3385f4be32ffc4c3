//! The monitor on the real Docker Engine, with a port on the loopback for each workspace.
//!
//! Needs the images that `scripts/images` builds. Nothing is skipped: without an engine or an image these tests fail.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/monitored.rs"]
mod monitored;
#[path = "support/servers.rs"]
mod servers;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener};
use std::sync::{Arc, Mutex};

use monitored::{PLAIN, SERVER, Site, containers, docker, number_of, volumes, wait_until};
use workspace::format::host::{Failure, HostPhase, Managed};

/// Doesn't end when it is asked to.
const DEAF: &str = "process.on('SIGTERM', () => {});";

/// Uploads a version that must fail, and gives the report. What was live goes on.
fn failing(site: &Site, name: &str, number: u64, files: &[(&str, &str)]) -> Failure {
    site.upload(name, &format!("bad {number}"), files);
    let managed = site.wait(name, &format!("the failure of version {number}"), |managed| {
        managed.failure.as_ref().is_some_and(|failure| failure.number == number)
    });
    assert_eq!(number_of(&managed), 1, "{managed:#?}");
    assert_eq!(site.ask(name, "/").unwrap(), "one");
    managed.failure.unwrap()
}

#[test]
fn docker_monitor_bad_releases_leave_the_old_one_serving() {
    let mut site = Site::new();
    let name = site.name("bad");
    site.flags.extend(["--ready-limit", "3", "--soak", "3"].map(str::to_owned));
    site.flags.drain(2..4);
    site.upload(&name, "one", &[]);
    site.start();
    site.live(&name, 1);
    site.answers(&name, "/", "one");
    let load = site.load(&name);
    let fail = ("fail.js", "console.log('the reason'); process.exit(1)");

    let yaml = format!("{PLAIN}release: node fail.js\n");
    let failure = failing(&site, &name, 2, &[("workspace.yaml", &yaml), fail]);
    assert!(failure.bad && failure.step == "release", "{failure:#?}");
    assert!(failure.tail.iter().any(|line| line.contains("the reason")) && !failure.hint.is_empty(), "{failure:#?}");

    let yaml = PLAIN.replace("[]", "node fail.js");
    let failure = failing(&site, &name, 3, &[("workspace.yaml", &yaml), fail]);
    assert!(!failure.bad && failure.step == "install" && failure.tries == 1, "{failure:#?}");
    assert!(failure.next_try.is_some() && failure.tail.iter().any(|line| line.contains("the reason")), "{failure:#?}");

    let failure = failing(&site, &name, 4, &[("server.js", "setInterval(() => {}, 1000)")]);
    assert!(failure.bad && failure.step == "ready" && !failure.hint.is_empty(), "{failure:#?}");

    let server = format!("{SERVER}setTimeout(() => {{ console.log('the reason'); process.exit(7) }}, 1500);");
    let failure = failing(&site, &name, 5, &[("server.js", &server)]);
    assert!(failure.bad && failure.reason.contains('7'), "{failure:#?}");
    assert!(failure.tail.iter().any(|line| line.contains("the reason")), "{failure:#?}");

    let server = SERVER.replace("process.env.PORT", "4567");
    let failure = failing(&site, &name, 6, &[("server.js", &server)]);
    assert!(failure.bad && failure.step == "ready", "{failure:#?}");
    assert!(failure.listening.is_some_and(|listening| listening.contains("4567")));

    // Deaf to SIGTERM, and never ready.
    let failure = failing(&site, &name, 7, &[("server.js", &format!("{DEAF}setInterval(() => {{}}, 1000)"))]);
    assert!(failure.bad && failure.step == "ready", "{failure:#?}");

    // Deaf to SIGTERM, and live.
    site.upload(&name, "eight", &[("server.js", &SERVER.replace("process.on('SIGTERM'", "process.on('SIGUSR2'"))]);
    let managed = site.live(&name, 8);
    assert_eq!(managed.bad.iter().map(|bad| bad.number).collect::<Vec<_>>(), [2, 4, 5, 6, 7]);
    site.answers(&name, "/", "eight");
    site.upload(&name, "nine", &[]);
    site.live(&name, 9);
    wait_until("the deaf release to be removed", || (containers(&name).len() == 1).then_some(()));
    let words = ["one", "eight", "nine"].map(str::to_owned);
    assert_eq!(load.unharmed(), BTreeSet::from(words));
}

#[test]
fn docker_monitor_tries_again_when_asked_to() {
    let mut site = Site::new();
    let name = site.name("again");
    site.flags.extend(["--ready-limit", "3"].map(str::to_owned));
    site.upload(&name, "one", &[]);
    site.start();
    site.live(&name, 1);
    // What it needs is on a volume, where the first try doesn't find it.
    let yaml = format!("{PLAIN}volumes:\n  db: /data\n");
    let server = "if (!fs.existsSync('/data/there')) { fs.writeFileSync('/data/there', ''); process.exit(3) }";
    let server = SERVER.replace("const version", &format!("{server}\nconst version"));
    site.upload(&name, "two", &[("workspace.yaml", &yaml), ("server.js", &server)]);
    let failed = site.wait(&name, "the failure", |managed| managed.failure.as_ref().is_some_and(|failure| failure.bad));
    assert_eq!(number_of(&failed), 1, "{failed:#?}");
    site.answers(&name, "/", "one");
    site.command(&["retry", &name]);
    let managed = site.live(&name, 2);
    assert!(managed.failure.is_none(), "{managed:#?}");
    site.answers(&name, "/", "two");

    // An installation that waits a quarter of an hour for its next try: whoever waits hears of it, and may ask for it now.
    let marker = "const there = require('fs').existsSync('/data/again'); require('fs').writeFileSync('/data/again', ''); \
                  if (!there) { console.log('the reason'); process.exit(1) }";
    let yaml = yaml.replace("[]", "node marker.js");
    site.tree("three", &[("workspace.yaml", &yaml), ("marker.js", marker)]);
    let waited = site.workspace().args(["upload", &name, "--yes", "--wait", "tree"]).output().unwrap();
    let said = String::from_utf8(waited.stderr).unwrap();
    assert_eq!(waited.status.code(), Some(1), "{said}");
    assert!(said.contains("failed on") && said.contains("the reason") && said.contains("tried again in"), "{said}");
    let failed = site.managed(&name).unwrap();
    assert_eq!((number_of(&failed), failed.phase), (2, HostPhase::Waiting), "{failed:#?}");
    // One pass over everything ends beside it.
    assert!(site.terminate().success());
    let once = site.once(&[]);
    assert_eq!(once.status.code(), Some(1), "{once:?}");
    site.start();
    site.command(&["retry", &name]);
    site.live(&name, 3);
    site.answers(&name, "/", "three");
}

#[test]
fn docker_monitor_what_crashes_again_and_again_is_told_and_holds_nobody_up() {
    let mut site = Site::new();
    let name = site.name("loop");
    let server = format!(
        "if (require('fs').existsSync('marker')) {{ console.log('the reason'); process.exit(9) }}\n{}",
        SERVER.replace("response.end('crash');", "fs.writeFileSync('marker', '');")
    );
    site.upload(&name, "one", &[("server.js", &server)]);
    site.start();
    site.wait(&name, "the end of the watch", |managed| managed.good.is_some());
    let _ = site.ask(&name, "/crash");
    let told = site.wait(&name, "the report", |managed| managed.failure.is_some()).failure.unwrap();
    let says = format!("{} {}", told.reason, told.tail.join("\n"));
    assert!(told.step == "run" && !told.bad && says.contains("code 9"), "{told:#?}");
    let before = site.log().len();
    site.upload(&name, "two", &[]);
    site.live(&name, 2);
    site.answers(&name, "/", "two");
    site.wait(&name, "the end of the watch", |managed| managed.good.as_ref().is_some_and(|good| good.row.number == 2));
    assert_eq!(site.log()[before..].matches("\"went_back\":false").count(), 1, "it went live once");

    // A secret that isn't set: whoever waits hears of it, and it is looked for again at the next start.
    let yaml = format!("{PLAIN}secrets: [MADE_UP_TOKEN]\n");
    site.tree("three", &[("workspace.yaml", &yaml)]);
    let waited = site.workspace().args(["upload", &name, "--yes", "--wait", "tree"]).output().unwrap();
    let said = String::from_utf8(waited.stderr).unwrap();
    assert!(waited.status.code() == Some(1) && said.contains("`MADE_UP_TOKEN` is not set"), "{said}");
    assert!(site.terminate().success());
    std::fs::write(site.path(".env"), "MADE_UP_TOKEN=made-up\n").unwrap();
    site.start();
    site.live(&name, 3);

    // One that never answers doesn't hold up the one that mends it.
    site.upload(&name, "four", &[("server.js", "setInterval(() => {}, 1000)"), ("workspace.yaml", &yaml)]);
    site.wait(&name, "the start", |managed| managed.phase == HostPhase::Start);
    let began = site.log().len();
    site.upload(&name, "five", &[("workspace.yaml", &yaml)]);
    site.live(&name, 5);
    assert!(site.log()[began..].contains("version 5 is wanted instead of 4"));
}

#[test]
fn docker_monitor_passes_once_and_shows_what_it_would_do() {
    let mut site = Site::new();
    let (one, other) = (site.name("pass"), site.name("others"));
    site.upload(&one, "one", &[]);
    site.upload(&other, "other", &[]);
    // Only what it was asked for; a name that isn't there is said.
    let once = site.once(&["--only", &one, "--only", "nowhere", "--only", "no-*"]);
    let said = String::from_utf8(once.stderr).unwrap();
    assert_eq!(once.status.code(), Some(3), "{said}");
    assert!(said.contains("matches `nowhere`") && said.contains("matches `no-*`"), "{said}");
    site.answers(&one, "/", "one");
    assert!(containers(&other).is_empty() && site.managed(&other).is_none());
    let version = site.once(&["--only", &format!("{one}@nope")]);
    let said = String::from_utf8(version.stderr).unwrap();
    assert!(version.status.code() == Some(1) && said.contains("there is no"), "{said}");
    site.answers(&one, "/", "one");

    // While a monitor is at work, one that only looks is welcome, and touches nothing.
    site.start();
    site.live(&other, 1);
    let dry = site.command(&["monitor", "--dry-run", "--json"]);
    let steps = |name: &str| {
        let runs: serde_json::Value = serde_json::from_str(&dry).unwrap();
        let run = runs.as_array().unwrap().iter().find(|run| run["name"] == name).unwrap().clone();
        run["steps"].as_array().unwrap().len()
    };
    assert!(steps(&one) <= 1, "{dry}");
    let second = site.once(&[]);
    assert_eq!(second.status.code(), Some(4), "{second:?}");
    assert!(site.terminate().success());

    // What was deleted meanwhile goes in one pass, with what was fetched for it; what it kept on purpose stays.
    let kept = format!("workspace-{one}-Data-db");
    site.upload(&one, "two", &[("workspace.yaml", &format!("{PLAIN}volumes: {{db: /data}}\n"))]);
    assert_eq!(site.once(&[]).status.code(), Some(0));
    site.command(&["delete", &one, "--yes"]);
    assert_eq!(site.once(&[]).status.code(), Some(0));
    assert!(containers(&one).is_empty());
    assert_eq!(volumes(&one), [kept]);
    site.answers(&other, "/", "other");
}

#[test]
fn docker_monitor_volumes_persist_and_have_one_user_at_a_time() {
    let mut site = Site::new();
    let name = site.name("volume");
    site.flags.extend(["--ready-limit", "3"].map(str::to_owned));
    let yaml = format!("{PLAIN}volumes:\n  db: /data\n");
    // Fails where somebody else has the volume.
    let server = format!(
        "const lock = require('fs');
        try {{ lock.writeFileSync('/data/lock', '', {{ flag: 'wx' }}) }} catch (error) {{
            lock.appendFileSync('/data/log', 'taken '); process.exit(5)
        }}
        process.on('SIGTERM', () => lock.rmSync('/data/lock'));
        {}",
        SERVER
            .replace("response.end(version)", "response.end(fs.readFileSync('/data/log', 'utf8'))")
            .replace("const server", "fs.appendFileSync('/data/log', `${version} `);\nconst server")
    );
    let files = [("workspace.yaml", yaml.as_str()), ("server.js", server.as_str())];
    site.upload(&name, "one", &files);
    site.start();
    site.live(&name, 1);
    site.answers(&name, "/", "one ");
    site.upload(&name, "two", &files);
    site.live(&name, 2);
    site.answers(&name, "/", "one two ");
    // One that fails gives the volume back to the release before it.
    let broken = format!("require('fs').appendFileSync('/data/log', 'broken '); process.exit(4);{SERVER}");
    site.upload(&name, "three", &[("workspace.yaml", &yaml), ("server.js", &broken)]);
    let managed = site.wait(&name, "the failure", |managed| {
        managed.failure.as_ref().is_some_and(|failure| failure.number == 3 && failure.bad)
    });
    assert_eq!(number_of(&managed), 2, "{managed:#?}");
    site.answers(&name, "/", "one two broken two ");
}

#[test]
fn docker_monitor_goes_back_without_the_bucket() {
    let mut site = Site::with_own_server();
    let name = site.name("back");
    site.flags.extend(["--watch", "60"].map(str::to_owned));
    site.flags.drain(6..8);
    site.upload(&name, "one", &[]);
    site.start();
    site.live(&name, 1);
    site.upload(&name, "two", &[]);
    site.wait(&name, "the watch", |managed| number_of(managed) == 2 && managed.phase == HostPhase::Watch);
    site.answers(&name, "/", "two");
    let (address, host) = site.address(&name);
    site.stop_server();
    assert_eq!(monitored::get(&address, &host, "/crash").unwrap(), "crash");
    wait_until("the old version", || monitored::get(&address, &host, "/").ok().filter(|answer| answer == "one"));
    site.start_server();
    let managed = site.wait(&name, "the report", |managed| number_of(managed) == 1 && managed.failure.is_some());
    let failure = managed.failure.unwrap();
    assert!(failure.bad && failure.step == "watch" && failure.number == 2, "{failure:#?}");
    site.upload(&name, "three", &[]);
    site.live(&name, 3);
}

#[test]
fn docker_monitor_fixed_ports_have_one_user_at_a_time_and_secrets_come_by_name() {
    let mut site = Site::new();
    let name = site.name("fixed");
    site.flags.extend(["--ready-limit", "3"].map(str::to_owned));
    std::fs::write(site.path(".env"), "TOKEN_OF_THE_TEST=made-up-token\n").unwrap();
    let port = servers::free_port();
    let yaml = format!("{PLAIN}ports:\n  - \"127.0.0.1:{port}:3000\"\nsecrets: [TOKEN_OF_THE_TEST]\n");
    let files = [("workspace.yaml", yaml.as_str())];
    let address = format!("127.0.0.1:{port}");
    let answers = |text: &str| {
        wait_until(&format!("`{text}` at the fixed port"), || {
            monitored::get(&address, "fixed", "/").ok().filter(|answer| answer == text)
        });
    };
    site.upload(&name, "one", &files);
    site.start();
    site.live(&name, 1);
    answers("one");
    assert!(site.ask(&name, "/environ").unwrap().contains(r#""TOKEN_OF_THE_TEST":"made-up-token""#));
    assert!(!site.log().contains("made-up-token"));
    site.upload(&name, "two", &files);
    site.live(&name, 2);
    answers("two");
    site.upload(&name, "three", &[files[0], ("server.js", "process.exit(6)")]);
    let failed = |managed: &Managed| managed.failure.as_ref().is_some_and(|failure| failure.number == 3 && failure.bad);
    let managed = site.wait(&name, "the failure", failed);
    assert_eq!(number_of(&managed), 2, "{managed:#?}");
    answers("two");
    site.answers(&name, "/", "two");
}

/// What the monitor says in each phase and at each step of a release.
const MARKS: [&str; 12] = [
    r#""phase":"fetch""#,
    r#""step":"create"#,
    r#""phase":"release""#,
    r#""step":"proceed"#,
    r#""phase":"start""#,
    r#""phase":"soak""#,
    r#""step":"route"#,
    r#""step":"promote"#,
    r#""phase":"drain""#,
    r#""step":"stop"#,
    r#""phase":"watch""#,
    r#""step":"remove"#,
];

/// Ends the monitor in every phase of a release and lets another one go on.
fn interrupted(kind: &str, end: impl Fn(&mut Site)) {
    let mut site = Site::new();
    let name = site.name(kind);
    let release = format!("{PLAIN}release: node release.js\n");
    let files = [("workspace.yaml", release.as_str()), ("release.js", "setTimeout(() => {}, 300)")];
    site.upload(&name, "1", &files);
    site.start();
    site.live(&name, 1);
    // A second one is refused while the first is at work.
    let second = site.monitor_command().output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && said.contains("another monitor holds the Docker Engine"), "{second:?}");

    let load = site.load(&name);
    for (number, mark) in (2..).zip(MARKS) {
        let before = site.log().len();
        site.upload(&name, &number.to_string(), &files);
        site.wait_log(before, mark);
        end(&mut site);
        site.start();
        site.live(&name, number);
        site.answers(&name, "/", &number.to_string());
    }
    wait_until("the old releases to be removed", || (containers(&name).len() == 1).then_some(()));
    load.unharmed();
    assert!(site.terminate().success());
    assert!(site.host().unwrap().ended);
}

#[test]
fn slow_docker_monitor_killed_in_every_phase_comes_back() {
    interrupted("killed", Site::kill);
}

#[test]
fn slow_docker_monitor_asked_to_end_in_every_phase_ends_cleanly() {
    interrupted("ended", |site| assert!(site.terminate().success()));
}

#[test]
fn slow_docker_monitor_grants_are_renewed_at_half_life() {
    let mut site = Site::new();
    let name = site.name("grant");
    site.flags.extend(["--grant-lifetime", "60"].map(str::to_owned));
    site.upload(&name, "one", &[]);
    site.start();
    site.live(&name, 1);
    let expiry = || {
        let grant = docker(&["exec", &format!("workspace-{name}"), "cat", "/run/workspace/grant.json"]);
        let grant: serde_json::Value = serde_json::from_str(&grant).unwrap();
        grant["expires"].as_str().unwrap().to_owned()
    };
    let first = expiry();
    wait_until("a new grant", || (expiry() > first).then_some(()));
    // Made anew, with nothing of its tree left, it fetches by the new one.
    docker(&["rm", "--force", "--volumes", &format!("workspace-{name}")]);
    site.answers(&name, "/", "one");
}

#[test]
fn docker_monitor_collects_and_spares_what_it_runs() {
    let mut site = Site::new();
    let name = site.name("garbage");
    site.flags.extend(["--gc-interval", "3s", "--gc-grace", "0s"].map(str::to_owned));
    for number in ["one", "two", "three"] {
        site.upload(&name, number, &[]);
    }
    site.command(&["retention", &name, "--last", "1", "--hours", "0", "--days", "0"]);
    let prefix = format!("data/{name}/");
    let manifests = |site: &Site| {
        let prefix = prefix.clone();
        let objects = site.with_store(async move |store| store.list(&prefix).await.unwrap());
        objects.iter().filter(|object| object.key.contains("/versions/")).count()
    };
    let before = manifests(&site);
    site.start();
    site.live(&name, 3);
    wait_until("the collection", || (manifests(&site) < before).then_some(()));
    site.answers(&name, "/", "three");
    // Its tree comes from the bucket once more, whole.
    docker(&["rm", "--force", "--volumes", &format!("workspace-{name}")]);
    site.answers(&name, "/", "three");
}

#[test]
fn docker_monitor_does_what_refs_say_and_mends_what_hands_did() {
    let mut site = Site::new();
    let (one, other) = (site.name("one"), site.name("other"));
    site.upload(&one, "one", &[]);
    site.upload(&other, "other", &[]);
    site.start();
    site.live(&one, 1);
    site.live(&other, 1);
    site.answers(&other, "/", "other");
    let container = format!("workspace-{one}");

    site.command(&["route", &one, "--to", &other]);
    site.answers(&one, "/", "other");
    site.wait(&one, "the route", |managed| managed.answering.is_some());
    let status = site.command(&["status", &one]);
    assert!(status.contains(&format!("traffic goes to {other}")), "{status}");
    // Where its traffic went stops: its own release answers again.
    let stopped = site.workspace().args(["stop", &other]).output().unwrap();
    let said = String::from_utf8(stopped.stderr).unwrap();
    assert!(said.contains(&format!("the traffic of {one} goes to {other}")), "{said}");
    site.answers(&one, "/", "one");
    site.wait(&one, "the route back", |managed| managed.answering.is_none());
    let status = site.command(&["status", &one]);
    assert!(status.contains(&format!("{other} isn't live here")), "{status}");
    site.command(&["start", &other]);
    site.answers(&one, "/", "other");
    site.command(&["route", &one, "--back"]);
    site.answers(&one, "/", "one");

    docker(&["stop", "--time", "1", &container]);
    site.answers(&one, "/", "one");
    docker(&["rename", &container, "test-renamed"]);
    wait_until("its name", || (containers(&one) == [container.clone()]).then_some(()));
    docker(&["rm", "--force", &container]);
    site.answers(&one, "/", "one");
    docker(&["rm", "--force", &format!("{container}-Relay")]);
    site.answers(&one, "/", "one");

    site.command(&["stop", &one]);
    site.wait(&one, "the stop", |managed| managed.phase == HostPhase::Stopped && managed.live.is_none());
    wait_until("the end of its containers", || containers(&one).is_empty().then_some(()));
    site.command(&["start", &one]);
    site.live(&one, 1);
    site.answers(&one, "/", "one");

    site.command(&["delete", &one, "--yes"]);
    wait_until("it to be forgotten", || site.managed(&one).is_none().then_some(()));
    assert!(containers(&one).is_empty());
    site.answers(&other, "/", "other");
}

#[test]
fn docker_monitor_a_bucket_that_is_away_or_another_one_stops_nothing() {
    let mut site = Site::with_own_server();
    let (name, strange) = (site.name("bucket"), site.name("strange"));
    // A bucket in the same place that is another one.
    site.upload(&name, "wrong", &[]);
    site.upload(&strange, "wrong", &[]);
    site.stop_server();
    let wrong = site.path("wrong");
    std::fs::rename(site.path("data"), &wrong).unwrap();
    std::fs::remove_dir_all(site.path("cache")).unwrap();
    site.start_server();
    site.upload(&name, "one", &[]);
    site.start();
    let managed = site.live(&name, 1);
    let (address, host) = site.address(&name);
    let answer = || monitored::get(&address, &host, "/").unwrap();
    assert_eq!(number_of(&managed), 1);

    // A store that is away, then one with nothing in it.
    let (data, kept) = (site.path("data"), site.path("kept"));
    let before = site.log().len();
    site.stop_server();
    site.wait_log(before, "what runs goes on running");
    assert_eq!(answer(), "one");
    std::fs::rename(&data, &kept).unwrap();
    site.start_server();
    site.with_store(async |store| store.create_bucket().await.unwrap());
    site.wait_log(before, "is not the bucket that this monitor began with");
    assert_eq!(answer(), "one");
    site.stop_server();
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(&kept, &data).unwrap();
    site.start_server();
    site.upload(&name, "two", &[]);
    site.live(&name, 2);
    assert_eq!(answer(), "two");

    // Another bucket, with a workspace of the same name and one that nobody knows.
    site.stop_server();
    std::fs::rename(&data, &kept).unwrap();
    let before = site.log().len();
    std::fs::rename(&wrong, &data).unwrap();
    site.start_server();
    site.wait_log(before, "is not the bucket that this monitor began with");
    assert_eq!(answer(), "two");
    site.stop_server();
    assert_eq!(containers(&strange), [] as [String; 0]);
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(&kept, &data).unwrap();
    site.start_server();
    site.upload(&name, "three", &[]);
    site.live(&name, 3);
    assert_eq!(answer(), "three");
    assert_eq!(containers(&strange), [] as [String; 0]);
}

/// Takes lines that applications send it, as paths of requests.
fn notebook(gateway: IpAddr) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind((gateway, 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let written = Arc::clone(&lines);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut bytes = [0; 4096];
            let length = stream.read(&mut bytes).unwrap_or(0);
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if let Some(path) = text.split(' ').nth(1) {
                written.lock().unwrap().push(path.trim_start_matches('/').to_owned());
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    (address, lines)
}

#[test]
fn docker_monitor_two_workspaces_workers_and_replicas() {
    let mut site = Site::new();
    let (crew, keeper) = (site.name("crew"), site.name("keeper"));
    let (address, lines) = notebook(workspace::embedded::server::docker_gateway().unwrap());
    let worker = format!(
        "const version = require('fs').readFileSync('version', 'utf8').trim();
        const say = (word) => fetch(`http://{address}/${{word}}-${{version}}`);
        say('start').then(() => setInterval(() => say('tick').catch(() => {{}}), 50));
        process.on('SIGTERM', () => say('stop').then(() => process.exit(0)));"
    );
    let procfile = "web: node server.js\nworker: node worker.js\n";
    let yaml = format!("{PLAIN}replicas: 2\n");
    let files = [("Procfile", procfile), ("worker.js", worker.as_str()), ("workspace.yaml", yaml.as_str())];
    // Two at once.
    site.upload(&crew, "one", &files);
    site.upload(&keeper, "one", &[]);
    site.start();
    site.live(&crew, 1);
    site.live(&keeper, 1);
    site.answers(&keeper, "/", "one");
    let said = |word: &str| lines.lock().unwrap().iter().any(|line| line == word);
    wait_until("the worker", || said("tick-one").then_some(()));
    let mut hosts = BTreeSet::new();
    wait_until("both replicas", || {
        hosts.extend(site.ask(&crew, "/host"));
        (hosts.len() == 2).then_some(())
    });

    site.upload(&crew, "two", &files);
    site.upload(&keeper, "two", &[]);
    site.live(&crew, 2);
    site.live(&keeper, 2);
    site.answers(&keeper, "/", "two");
    wait_until("the new worker", || said("tick-two").then_some(()));
    let lines = lines.lock().unwrap().clone();
    let place = |word: &str| lines.iter().position(|line| line == word).unwrap();
    assert!(place("stop-one") < place("start-two"), "{lines:?}");
    assert!(!lines[place("start-two")..].contains(&"tick-one".to_owned()), "{lines:?}");
    wait_until("the old release to be removed", || (containers(&crew).len() == 3).then_some(()));
}

#[test]
fn docker_monitor_follows_in_the_same_container() {
    let mut site = Site::new();
    let (followed, other) = (site.name("followed"), site.name("plain"));
    site.flags.extend(["--follow".to_owned(), "test-followed-*".to_owned()]);
    site.upload(&followed, "one", &[]);
    site.upload(&other, "one", &[]);
    site.start();
    site.live(&followed, 1);
    site.live(&other, 1);
    site.answers(&followed, "/", "one");
    let id = |name: &str| docker(&["inspect", "--format", "{{.Id}}", &format!("workspace-{name}")]);
    let (before, before_other) = (id(&followed), id(&other));
    let serves = |site: &Site, number: u64| {
        site.wait(&followed, &format!("version {number}"), |managed| {
            managed.served().is_some_and(|served| served.row.number == number) && managed.failure.is_none()
        })
    };
    site.upload(&followed, "two", &[]);
    site.upload(&other, "two", &[]);
    site.answers(&followed, "/", "two");
    serves(&site, 2);
    site.live(&other, 2);
    assert_ne!(id(&other), before_other, "what isn't followed is released as ever");

    // A broken version: the container stays, the reason is told, and whoever waits hears of it.
    site.tree("three", &[("server.js", "console.log('the reason'); process.exit(3)")]);
    let waited = site.workspace().args(["upload", &followed, "--yes", "--wait", "tree"]).output().unwrap();
    let said = String::from_utf8(waited.stderr).unwrap();
    assert!(waited.status.code() == Some(1) && said.contains("ended with code 3"), "{said}");
    let status = site.command(&["status", &followed]);
    assert!(status.contains("2 (3 failed)"), "{status}");
    // The monitor comes back, and nothing happens to it.
    site.kill();
    site.start();
    site.tree("four", &[]);
    site.command(&["upload", &followed, "--yes", "--wait", "tree"]);
    site.answers(&followed, "/", "four");
    serves(&site, 4);
    assert_eq!(id(&followed), before, "it is the same container");
    // What can't be had without other containers is released.
    site.upload(&followed, "five", &[("workspace.yaml", &format!("{PLAIN}memory: 1g\n"))]);
    site.live(&followed, 5);
    site.answers(&followed, "/", "five");
    assert_ne!(id(&followed), before);
    site.upload(&followed, "six", &[("workspace.yaml", &format!("{PLAIN}memory: 1g\n"))]);
    site.answers(&followed, "/", "six");
}
