//! Everything at once for a long time, behind a proxy with random faults: a watch, an application that follows, other uploads and
//! collections; and a monitor on the real Docker Engine. What runs long must not grow, and when the faults end everything must
//! come to the same.
//!
//! `SOAK_SECONDS` says how long; `scripts/soak` takes an hour. The monitor needs the images that `scripts/images` builds.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![expect(clippy::print_stderr, reason = "the figures are what a soak is for")]

#[path = "support/cli.rs"]
mod cli;
#[path = "support/faults.rs"]
mod faults;
#[path = "support/monitored.rs"]
mod monitored;
#[path = "support/servers.rs"]
mod servers;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cli::{Ran, TestEnvironment};
use faults::{Director, Fault, Proxy, Request};
use monitored::{Site, containers, get, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use servers::{Server, free_port};

/// Without `SOAK_SECONDS`.
const SHORT: u64 = 75;
/// One request in so many fails.
const ONE_IN: u32 = 30;
/// For everything to come to the same once the faults have ended.
const CONVERGENCE: Duration = Duration::from_mins(2);

/// What a process takes.
#[derive(Debug, Clone, Copy)]
struct Sample {
    resident: u64,
    files: u64,
    threads: u64,
}

impl Sample {
    fn of(pid: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field = |name: &str| -> Option<u64> {
            status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
        };
        let files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
        Some(Self { resident: field("VmRSS:")?, files, threads: field("Threads:")? })
    }
}

/// A process that runs all the time.
struct Long {
    name: &'static str,
    child: Child,
    taken: Vec<Sample>,
}

impl Drop for Long {
    fn drop(&mut self) {
        // Killed, it would leave its application behind.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let asked = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && asked.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Long {
    fn start(name: &'static str, mut command: Command, log: &Path) -> Self {
        let log = fs::File::create(log).unwrap();
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        Self { name, child, taken: Vec::new() }
    }

    fn sample(&mut self) {
        assert!(self.child.try_wait().unwrap().is_none(), "{} has ended", self.name);
        self.taken.extend(Sample::of(self.child.id()));
    }
}

fn median(samples: &[Sample], of: impl Fn(&Sample) -> u64) -> u64 {
    let mut values: Vec<u64> = samples.iter().map(of).collect();
    values.sort_unstable();
    values[values.len() / 2]
}

/// The last third takes hardly more than the one before: 15 % and 8 MiB, 8 files, 8 threads (pools come and go).
fn is_flat(name: &str, samples: &[Sample]) {
    let third = samples.len() / 3;
    let (second, last) = (&samples[third..2 * third], &samples[2 * third..]);
    let of = |of: fn(&Sample) -> u64| (median(second, of), median(last, of));
    let (resident, files, threads) =
        (of(|sample| sample.resident), of(|sample| sample.files), of(|sample| sample.threads));
    eprintln!(
        "{name}: {} samples; medians of the second and the last third: {} and {} KiB, {} and {} files, {} and {} threads",
        samples.len(),
        resident.0,
        resident.1,
        files.0,
        files.1,
        threads.0,
        threads.1
    );
    assert!(resident.1 <= resident.0 * 115 / 100 + (8 << 10), "{name} grows");
    assert!(files.1 <= files.0 + 8, "{name} keeps files open");
    assert!(threads.1 <= threads.0 + 8, "{name} keeps threads");
}

/// One request in some fails, in one of many ways, while that is switched on; and how many have.
#[derive(Clone, Default)]
struct Weather {
    bad: Arc<AtomicBool>,
    faults: Arc<AtomicU64>,
}

impl Weather {
    fn set(&self, bad: bool) {
        self.bad.store(bad, Ordering::SeqCst);
    }

    fn faults(&self) -> u64 {
        self.faults.load(Ordering::SeqCst)
    }
}

impl Director for Weather {
    fn fault(&self, _request: &Request) -> Fault {
        if !self.bad.load(Ordering::SeqCst) || fastrand::u32(0..ONE_IN) > 0 {
            return Fault::None;
        }
        self.faults.fetch_add(1, Ordering::SeqCst);
        match fastrand::u32(0..6) {
            0 => Fault::DropBefore,
            1 => Fault::DropAfter,
            2 => Fault::Answer(503, "SlowDown"),
            3 => Fault::AnswerAfter(500, "InternalError"),
            4 => Fault::Truncate,
            _ => Fault::Delay(Duration::from_millis(300)),
        }
    }
}

fn seconds() -> u64 {
    std::env::var("SOAK_SECONDS").ok().map_or(SHORT, |text| text.parse().unwrap())
}

fn served(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(b"GET /version HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text.rsplit_once("\r\n\r\n")?.1.to_owned())
}

#[test]
fn slow_soak_everything_at_once_behind_faults_stays_flat_and_converges() {
    let seconds = seconds();
    let server = Server::seaweedfs();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let weather = Weather::default();
    let proxy = runtime.block_on(Proxy::start(&server.endpoint, Arc::new(weather.clone())));
    let environment = Arc::new(TestEnvironment::new());
    let command = {
        let (environment, endpoint) = (Arc::clone(&environment), proxy.endpoint.clone());
        let (access_key, secret_key) = (server.access_key.clone(), server.secret_key.clone());
        move |arguments: &[&str]| {
            let mut command = environment.workspace(arguments);
            command.env("S3_ENDPOINT", &endpoint).env("S3_ACCESS_KEY", &access_key).env("S3_SECRET_KEY", &secret_key);
            command.env("S3_BUCKET", "workspaces").stdin(Stdio::null());
            command
        }
    };
    let ran = |arguments: &[&str]| Ran::from(command(arguments).output().unwrap());
    // The first uploads without faults.
    let (tree, other, port) = (environment.folder("tree"), environment.folder("other"), free_port());
    let yaml = format!(
        "start: exec python3 -m http.server --bind 127.0.0.1 $PORT\nruntime: custom\nimage: x\nport: {port}\nhealth: /version\n"
    );
    fs::write(tree.join("workspace.yaml"), yaml).unwrap();
    fs::write(tree.join("version"), "0").unwrap();
    fs::write(other.join("a"), "0").unwrap();
    let (tree_text, other_text) = (tree.to_str().unwrap(), other.to_str().unwrap());
    let _ = ran(&["upload", "app", tree_text]).ok();
    let _ = ran(&["upload", "other", other_text]).ok();
    let _ = ran(&["retention", "app", "--last", "5", "--hours", "0", "--days", "0"]).ok();
    let logs = environment.folder("logs");
    let mut processes = [
        Long::start("watch", command(&["upload", "app", tree_text, "--watch"]), &logs.join("watch")),
        Long::start("run --follow", command(&["run", "app", "--follow", "--dir", "running"]), &logs.join("run")),
    ];
    weather.set(true);

    let (began, mut saves) = (Instant::now(), 0_u64);
    let until = Duration::from_secs(seconds);
    let (mut uploads, mut collections, mut failed) = (0, 0, 0);
    while began.elapsed() < until {
        // A save, another upload, and now and then a collection; what fails for good is only counted: an outage is one.
        saves += 1;
        let noise: String = std::iter::repeat_with(fastrand::alphanumeric).take(fastrand::usize(10..60_000)).collect();
        fs::write(tree.join(format!("noise-{}", saves % 7)), &noise).unwrap();
        fs::write(tree.join("version"), saves.to_string()).unwrap();
        fs::write(other.join("a"), &noise).unwrap();
        uploads += 1;
        failed += u32::from(ran(&["upload", "other", other_text]).code != Some(0));
        if saves.is_multiple_of(8) {
            collections += 1;
            failed += u32::from(ran(&["gc", "--grace", "1s"]).code != Some(0));
        }
        processes.iter_mut().for_each(Long::sample);
        std::thread::sleep(Duration::from_millis(400));
    }
    weather.set(false);

    // Everything comes to the same.
    fs::write(tree.join("version"), "the last one").unwrap();
    let ended = Instant::now();
    while served(port).as_deref() != Some("the last one") {
        processes.iter_mut().for_each(Long::sample);
        let said = || fs::read_to_string(logs.join("run")).unwrap() + &fs::read_to_string(logs.join("watch")).unwrap();
        assert!(ended.elapsed() < CONVERGENCE, "it serves {:?}: {}", served(port), said());
        std::thread::sleep(Duration::from_millis(200));
    }
    let converged = ended.elapsed();
    let _ = ran(&["upload", "other", other_text]).ok();
    let _ = ran(&["gc", "--grace", "0s", "--wait"]).ok();
    for name in ["app", "other"] {
        let _ = ran(&["verify", name, "--deep"]).ok();
    }
    let _ = ran(&["download", "app", "copy"]).ok();
    let copy = fs::read(environment.path().join("here/copy/version")).unwrap();
    assert_eq!(copy, b"the last one");
    eprintln!(
        "{seconds} s: {saves} saves, {uploads} other uploads, {collections} collections, {failed} of them failed; {} faults in {} \
         requests; all the same after {:.1} s",
        weather.faults(),
        proxy.requests(),
        converged.as_secs_f64()
    );
    for process in &processes {
        is_flat(process.name, &process.taken);
    }
}

/// Every version that is published reaches the container or is told to be bad, and not one request of its users fails.
#[test]
fn slow_soak_of_a_monitor_behind_faults_stays_flat_and_leaves_no_gap() {
    let seconds = seconds();
    let mut site = Site::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let weather = Weather::default();
    let (server, ..) = site.keys();
    let proxy = runtime.block_on(Proxy::start_on(site.gateway, &server, Arc::new(weather.clone())));
    site.behind(&proxy.endpoint);
    let name = site.name("soak");
    site.upload(&name, "0", &[]);
    site.start();
    site.live(&name, 1);
    site.answers(&name, "/", "0");
    let (address, host) = site.address(&name);
    weather.set(true);

    let (began, until) = (Instant::now(), Duration::from_secs(seconds));
    let (mut versions, mut failed, mut asked, mut seen) = (0_u64, 0, 0, BTreeSet::new());
    let mut taken = Vec::new();
    while began.elapsed() < until {
        versions += 1;
        let is_bad = versions.is_multiple_of(10);
        let files: &[(&str, &str)] = if is_bad { &[("server.js", "process.exit(1)")] } else { &[] };
        site.tree(&if is_bad { "bad".to_owned() } else { versions.to_string() }, files);
        let uploaded = site.workspace().args(["upload", &name, "--yes", "tree"]).output().unwrap();
        failed += u32::from(!uploaded.status.success());
        for look in 0..40 {
            let answer =
                get(&address, &host, "/").unwrap_or_else(|error| panic!("a gap, {:?} in: {error}", began.elapsed()));
            seen.insert(answer);
            asked += 1;
            if look % 10 == 0 {
                taken.push(Sample::of(site.monitor_id()).expect("the monitor has ended"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    weather.set(false);

    let ended = Instant::now();
    site.upload(&name, "the last one", &[]);
    site.answers(&name, "/", "the last one");
    let converged = ended.elapsed();
    wait_until("the release before to be removed", || (containers(&name).len() == 1).then_some(()));
    eprintln!(
        "{seconds} s: {versions} versions, {failed} uploads failed; {} versions were served in {asked} requests; {} faults in {} \
         requests to the store; the last one served after {:.1} s",
        seen.len(),
        weather.faults(),
        proxy.requests(),
        converged.as_secs_f64()
    );
    assert!(!seen.contains("bad"), "a bad release was served");
    assert!(seen.len() as u64 > versions / 10, "hardly any version was served: {seen:?}");
    is_flat("monitor", &taken);
}
