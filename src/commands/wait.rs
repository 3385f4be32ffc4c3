//! `--wait`: after a publication, until the hosts serve it.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use ulid::Ulid;

use super::duration;
use super::{failure_report, interrupt};
use crate::cli::Context;
use crate::failure::Exit;
use crate::format::host::{Failure, HostPhase, Managed};
use crate::format::{Keys, Reference};
use crate::hosts::{Awaited, Hosts, Presence, Seen, Standing, judge};
use crate::names::WorkspaceName;
use crate::output::{count, escape};
use crate::publish::{self, Outcome};
use crate::store::{Store, StoreError};
use crate::version;

/// Between two looks.
const POLL: Duration = Duration::from_secs(1);
/// After so long without any host it is said that there is none.
const NO_HOST_AFTER: Duration = Duration::from_secs(10);
/// A next try that comes later than this isn't waited for.
const SOON: jiff::SignedDuration = jiff::SignedDuration::from_mins(1);
/// So often in a row the store may fail before that is said.
const FAILURES_BEFORE_WORD: u32 = 5;

/// How long to wait, and for how many.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct WaitArgs {
    /// Wait until every live host that manages the workspace serves this version: 15m, or as long as said (`90s`, `5m`, `1h`)
    #[arg(
        long,
        value_name = "DURATION",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "15m",
        value_parser = duration::positive
    )]
    pub wait: Option<Duration>,
    /// With `--wait`: at least so many hosts
    #[arg(long, value_name = "N", default_value_t = 1, requires = "wait", value_parser = clap::value_parser!(u32).range(1..))]
    pub hosts: u32,
}

/// What came of waiting, if anybody asked for it. What was published is said even when nobody knows what became of it, so a
/// failure is told last, by [`Waited::parts`].
pub struct Waited {
    /// What the hosts did.
    pub report: Option<WaitReport>,
    failed: Option<anyhow::Error>,
    exit: Exit,
}

impl Waited {
    /// Waits for the version of a publication.
    pub async fn of(context: &Context, store: &Store, published: &publish::Report, args: &WaitArgs) -> Self {
        let Some(limit) = args.wait else { return Self { report: None, failed: None, exit: Exit::Success } };
        match run(context, store, published, limit, args.hosts).await {
            Ok(report) => Self { exit: report.outcome.exit(), report: Some(report), failed: None },
            Err(error) => {
                let text = format!("{}@{} is published, but nobody can wait for it", published.name, published.number);
                Self { report: None, failed: Some(error.context(text)), exit: Exit::Success }
            }
        }
    }

    /// Apart: the report, and how the command ends.
    pub fn parts(self) -> (Option<WaitReport>, anyhow::Result<ExitCode>) {
        (self.report, self.failed.map_or_else(|| Ok(self.exit.into()), Err))
    }
}

/// What waiting came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    /// All hosts serve it.
    Served,
    /// It failed on a host, and isn't tried again there.
    Failed,
    /// Nobody shall run it: the workspace is stopped.
    Stopped,
    /// There is nothing to run: the version has no start command.
    Stored,
    /// The time is up.
    Timeout,
    /// Ctrl-C.
    Interrupted,
}

impl Ended {
    /// What the process ends with.
    pub fn exit(self) -> Exit {
        match self {
            Self::Served => Exit::Success,
            Self::Interrupted => Exit::Interrupted,
            Self::Failed | Self::Stopped | Self::Stored | Self::Timeout => Exit::Failure,
        }
    }
}

/// What waiting came to, host by host, for programs: these fields are an interface.
#[derive(Debug, Serialize)]
pub struct WaitReport {
    /// Altogether.
    pub outcome: Ended,
    hosts: Vec<HostOutcome>,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct HostOutcome {
    engine: String,
    hostname: String,
    /// `serves`, `failed`, `waiting` (failed for now, and tried again later), `stopped`, `stored`, `away`, `ended`, or `pending`.
    outcome: &'static str,
    phase: Option<&'static str>,
    #[serde(skip_serializing_if = "String::is_empty")]
    cause: String,
    /// The number of the version that has the traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    live: Option<u64>,
    addresses: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<Failure>,
}

/// Waits, says how it goes, and what came of it. The version is published whatever happens here.
async fn run(
    context: &Context,
    store: &Store,
    published: &crate::publish::Report,
    limit: Duration,
    wanted: u32,
) -> anyhow::Result<WaitReport> {
    let began = Instant::now();
    let (name, number) = (&published.name, published.number);
    let mut waiting = Waiting { context, store, began, wanted, hosts: Hosts::default(), told: BTreeMap::new() };
    let ended = interrupt::unless(context, &AtomicBool::new(false), waiting.until(published, limit)).await;
    let (outcome, awaited) = if let Some(ended) = ended {
        ended?
    } else {
        context.output.note(&format!("Interrupted: {name}@{number} stays published"));
        context.output.hint(&format!("`workspace status {name}` shows how it goes on"));
        (Ended::Interrupted, None)
    };
    let now = Timestamp::now();
    let hosts = awaited.map(|awaited| waiting.outcomes(&awaited, now)).unwrap_or_default();
    Ok(WaitReport { outcome, hosts, seconds: began.elapsed().as_secs_f64() })
}

/// How far it has come.
struct Waiting<'a> {
    context: &'a Context,
    store: &'a Store,
    began: Instant,
    wanted: u32,
    hosts: Hosts,
    /// The last line about each host, so that each is said once.
    told: BTreeMap<String, String>,
}

impl Waiting<'_> {
    /// Looks until something ends it: at the latest the limit.
    async fn until(
        &mut self,
        published: &crate::publish::Report,
        limit: Duration,
    ) -> anyhow::Result<(Ended, Option<Awaited>)> {
        let output = &self.context.output;
        let (name, number) = (&published.name, published.number);
        let reference = version::existing_reference(self.store, name).await?.reference;
        let awaited = awaited(name, &reference, published);
        if reference.stopped {
            return Ok((self.stopped(&awaited), Some(awaited)));
        }
        if !self.is_runnable(&reference, published).await? {
            output.warn(&format!("{name}@{number} is stored, not run: there is nothing to wait for"));
            return Ok((Ended::Stored, Some(awaited)));
        }
        if let Some(route) = reference.route.filter(|route| route != name) {
            output.warn(&format!("the traffic of {name} goes to {route}: {name}@{number} will run without it"));
        }
        output.note(&format!("Waiting for {name}@{number} to be served; Ctrl-C leaves it published"));
        let (mut failures, mut said_no_host) = (0, false);
        loop {
            let now = Timestamp::now();
            match self.hosts.refresh(self.store, now).await {
                Ok(()) => failures = 0,
                Err(error) => failures = self.after(error, failures)?,
            }
            if let Some(ended) = self.look(&awaited, now).await? {
                return Ok((ended, Some(awaited)));
            }
            let elapsed = self.began.elapsed();
            if !said_no_host && elapsed >= NO_HOST_AFTER && self.live(&awaited, now).is_empty() {
                said_no_host = true;
                output.warn(&format!("no live host manages {name}: `workspace monitor` on a machine with Docker does"));
            }
            if elapsed >= limit {
                self.say_timeout(&awaited, now, limit);
                return Ok((Ended::Timeout, Some(awaited)));
            }
            tokio::time::sleep(POLL.min(limit.saturating_sub(elapsed))).await;
        }
    }

    /// Whether the version has something to start. What was found to be there already is asked of its manifest.
    async fn is_runnable(
        &self,
        reference: &Reference,
        published: &crate::publish::Report,
    ) -> Result<bool, version::VersionError> {
        let row = reference.rows.iter().find(|row| row.id == published.id);
        match row.filter(|_| published.outcome != Outcome::Published) {
            None => Ok(published.runnable),
            Some(row) => {
                let keys = Keys::new(&published.name, reference.root);
                let header = version::load_header(self.store, &keys, row).await?;
                Ok(header.plan.is_some_and(|plan| plan.start.is_some()))
            }
        }
    }

    /// A store that fails for a moment is asked again; what will not go away ends the waiting.
    fn after(&self, error: StoreError, failures: u32) -> Result<u32, StoreError> {
        if !error.is_retryable() {
            return Err(error);
        }
        if failures + 1 == FAILURES_BEFORE_WORD {
            self.context.output.warn(&format!("the hosts can't be looked at for now: {error}"));
        }
        Ok(failures.saturating_add(1))
    }

    /// Says what changed, and whether that ends it.
    async fn look(&mut self, awaited: &Awaited, now: Timestamp) -> anyhow::Result<Option<Ended>> {
        let mut lines = Vec::new();
        let (mut serving, mut live, mut rests) = (0, 0, false);
        let mut failed = None;
        for seen in self.hosts.iter() {
            let standing = judge(seen, awaited, now);
            match standing {
                Standing::Elsewhere | Standing::Absent(_) => continue,
                Standing::Serves(_) => serving += 1,
                Standing::Bad(_, failure) if failed.is_none() => failed = Some((seen.clone(), failure.clone())),
                Standing::Waits(_, failure) if failed.is_none() && is_hopeless(failure, now) => {
                    failed = Some((seen.clone(), failure.clone()));
                }
                Standing::Rests(_) => rests = true,
                Standing::Bad(..) | Standing::Waits(..) | Standing::OnTheWay(_) => {}
            }
            live += 1;
            lines.push((seen.host.engine.clone(), progress(seen, &standing, awaited)));
        }
        for (engine, line) in lines {
            if self.told.get(&engine) != Some(&line) {
                self.context.output.note(&line);
                self.told.insert(engine, line);
            }
        }
        if let Some((seen, failure)) = failed {
            for line in failure_report::lines(&awaited.name, &seen.host, &failure, now) {
                self.context.output.warn_line(&line);
            }
            return Ok(Some(Ended::Failed));
        }
        if serving == live && serving >= self.wanted {
            self.say_served(awaited, now);
            return Ok(Some(Ended::Served));
        }
        if live > 0 && serving == live {
            let line = format!("{serving} of {} hosts serve it; waiting for more", self.wanted);
            if self.told.insert(String::new(), line.clone()).as_ref() != Some(&line) {
                self.context.output.note(&line);
            }
        }
        // What a host says of it may be older than the bucket.
        if rests && version::existing_reference(self.store, &awaited.name).await?.reference.stopped {
            return Ok(Some(self.stopped(awaited)));
        }
        Ok(None)
    }

    fn live(&self, awaited: &Awaited, now: Timestamp) -> Vec<&Seen> {
        let counts = |seen: &&Seen| !matches!(judge(seen, awaited, now), Standing::Elsewhere | Standing::Absent(_));
        self.hosts.iter().filter(counts).collect()
    }

    fn stopped(&self, awaited: &Awaited) -> Ended {
        let Awaited { name, number, .. } = awaited;
        self.context.output.warn(&format!("{name} is stopped: {name}@{number} is published, and no host starts it"));
        self.context.output.hint(&format!("`workspace start {name}`"));
        Ended::Stopped
    }

    fn say_served(&self, awaited: &Awaited, now: Timestamp) {
        let seconds = self.began.elapsed().as_secs_f64();
        let hosts = self.live(awaited, now);
        let mut addresses: Vec<&str> = hosts
            .iter()
            .filter_map(|seen| seen.host.workspaces.get(&awaited.name))
            .flat_map(|managed| managed.addresses.iter().map(String::as_str))
            .collect();
        addresses.sort_unstable();
        addresses.dedup();
        let place = if addresses.is_empty() { String::new() } else { format!(": {}", addresses.join(" ")) };
        let count = count(hosts.len() as u64, "host");
        let Awaited { name, number, .. } = awaited;
        self.context.output.note(&escape(&format!("{name}@{number} is served by {count} after {seconds:.1}s{place}")));
    }

    fn say_timeout(&self, awaited: &Awaited, now: Timestamp, limit: Duration) {
        let output = &self.context.output;
        let Awaited { name, number, .. } = awaited;
        let live = self.live(awaited, now);
        output.warn(&format!("{name}@{number} is published, and not served everywhere after {} s", limit.as_secs()));
        for seen in &live {
            output.warn_line(&progress(seen, &judge(seen, awaited, now), awaited));
            let failure = seen.host.workspaces.get(name).and_then(|managed| managed.failure.as_ref());
            if let Some(failure) = failure.filter(|failure| failure.row == awaited.row) {
                for line in failure_report::lines(name, &seen.host, failure, now) {
                    output.warn_line(&line);
                }
            }
        }
        for seen in self.hosts.iter() {
            if let Standing::Absent(presence) = judge(seen, awaited, now) {
                let word = if presence == Presence::Ended { "its monitor has ended" } else { "away" };
                output.warn_line(&escape(&format!("{}: {word}", seen.host.hostname)));
            }
        }
        let count = u32::try_from(live.len()).unwrap_or(u32::MAX);
        if count < self.wanted {
            output.warn_line(&format!("{count} live hosts manage {name}, {} are asked for", self.wanted));
        }
        output.hint(&format!("`workspace status {name}` shows how it goes on"));
    }

    fn outcomes(&self, awaited: &Awaited, now: Timestamp) -> Vec<HostOutcome> {
        let one = |seen: &Seen| {
            let managed = seen.host.workspaces.get(&awaited.name);
            let outcome = match judge(seen, awaited, now) {
                Standing::Elsewhere => return None,
                Standing::Absent(Presence::Ended) => "ended",
                Standing::Absent(_) => "away",
                Standing::Serves(_) => "serves",
                Standing::Bad(..) => "failed",
                Standing::Waits(..) => "waiting",
                Standing::Rests(managed) if managed.phase == HostPhase::Stopped => "stopped",
                Standing::Rests(_) => "stored",
                Standing::OnTheWay(_) => "pending",
            };
            Some(HostOutcome {
                engine: seen.host.engine.clone(),
                hostname: seen.host.hostname.clone(),
                outcome,
                phase: managed.map(|managed| managed.phase.as_str()),
                cause: managed.map(|managed| managed.cause.clone()).unwrap_or_default(),
                live: managed.and_then(Managed::served).map(|live| live.row.number),
                addresses: managed.map(|managed| managed.addresses.clone()).unwrap_or_default(),
                failure: managed.and_then(|managed| managed.failure.clone()),
            })
        };
        self.hosts.iter().filter_map(one).collect()
    }
}

/// The version that was published, or found to be there already.
fn awaited(name: &WorkspaceName, reference: &Reference, published: &crate::publish::Report) -> Awaited {
    let row = reference.rows.iter().find(|row| row.id == published.id);
    Awaited {
        name: name.clone(),
        root: reference.root,
        row: published.id,
        number: published.number,
        tags: row.map(|row| row.tags.clone()).unwrap_or_default(),
        retry: reference.retry,
    }
}

/// Whether waiting for the next try makes no sense: it comes much later, or somebody has to do something first.
fn is_hopeless(failure: &Failure, now: Timestamp) -> bool {
    let soon = now.checked_add(SOON).unwrap_or(Timestamp::MAX);
    failure.step == "secrets" || failure.next_try.is_some_and(|next| next > soon)
}

/// Whether what the host says may be about the version; otherwise it is from before.
fn is_noticed(managed: &Managed, awaited: &Awaited) -> bool {
    let about = |row: Option<Ulid>| row == Some(awaited.row);
    let at_rest = managed.phase.is_rest() || managed.phase == HostPhase::Drain;
    !at_rest
        || about(managed.next.as_ref().map(|next| next.row.id))
        || about(managed.served().map(|live| live.row.id))
        || about(managed.failure.as_ref().map(|failure| failure.row))
}

/// `one: install (version 3 replaces version 2)`.
fn progress(seen: &Seen, standing: &Standing<'_>, awaited: &Awaited) -> String {
    let hostname = &seen.host.hostname;
    let managed = match standing {
        Standing::Serves(_) => return escape(&format!("{hostname}: serves it")),
        Standing::OnTheWay(Some(managed)) if is_noticed(managed, awaited) => managed,
        Standing::Bad(managed, _) | Standing::Waits(managed, _) | Standing::Rests(managed) => managed,
        Standing::OnTheWay(_) | Standing::Elsewhere | Standing::Absent(_) => {
            return escape(&format!("{hostname}: hasn't taken notice yet"));
        }
    };
    let cause = if managed.cause.is_empty() { String::new() } else { format!(" ({})", managed.cause) };
    escape(&format!("{hostname}: {}{cause}", managed.phase.as_str()))
}
