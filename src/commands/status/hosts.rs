//! `workspace status [NAME…]`: what the hosts run, from anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use jiff::Timestamp;
use serde::Serialize;

use crate::cli::Context;
use crate::commands::failure_report;
use crate::failure::{Exit, NoStoreHere};
use crate::format::Reference;
use crate::format::host::{Host, Managed};
use crate::hosts::{Hosts, Presence, Seen};
use crate::names::WorkspaceName;
use crate::output::{escape, relative_time};
use crate::settings::{Purpose, SettingsError};
use crate::store::StoreError;
use crate::version::{self, VersionError};

/// Everything, for programs: these fields are an interface.
#[derive(Debug, Serialize)]
struct Report<'a> {
    workspaces: Vec<WorkspaceReport<'a>>,
    hosts: Vec<HostReport<'a>>,
    skipped: Vec<String>,
}

#[derive(Debug, Serialize)]
struct WorkspaceReport<'a> {
    name: &'a WorkspaceName,
    /// The current version; none where the bucket no longer has the workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    stopped: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a WorkspaceName>,
    hosts: Vec<On<'a>>,
}

/// One workspace on one host: what the host says, and whether it is there to say it.
#[derive(Debug, Serialize)]
struct On<'a> {
    engine: &'a str,
    hostname: &'a str,
    presence: Presence,
    #[serde(flatten)]
    managed: &'a Managed,
}

#[derive(Debug, Serialize)]
struct HostReport<'a> {
    engine: &'a str,
    hostname: &'a str,
    presence: Presence,
    tool: &'a str,
    started: Timestamp,
    beat: Timestamp,
    only: &'a [String],
    withheld: &'a [WorkspaceName],
}

/// Runs it. `in_container`: the settings of a store on this machine mean nothing here.
pub async fn run(
    context: &Context,
    names: &[WorkspaceName],
    json: bool,
    in_container: bool,
) -> anyhow::Result<ExitCode> {
    let output = &context.output;
    let purpose = if in_container { Purpose::Unattended } else { Purpose::Interactive };
    let store = match (context.store(purpose).await, names.first()) {
        (Ok((_, store)), _) => store,
        (Err(error), Some(name)) if in_container && is_unconfigured(&error) => {
            return Err(anyhow::Error::new(NoStoreHere { name: name.clone() }));
        }
        (Err(error), _) => return Err(error),
    };
    let now = Timestamp::now();
    let (references, hosts) = futures::future::join(references(&store, names), Hosts::read(&store, now)).await;
    let ((references, mut skipped), hosts) = (references?, hosts?);
    skipped.extend(hosts.skipped().map(|(key, reason)| format!("`{key}` can't be read and is skipped: {reason}")));
    for text in &skipped {
        output.warn(&escape(text));
    }
    let all: Vec<&Seen> = hosts.iter().collect();
    for name in names {
        let on_a_host = all.iter().any(|seen| seen.host.workspaces.contains_key(name));
        if !references.contains_key(name) && !on_a_host {
            return Err(version::missing(&store, name).await.into());
        }
    }
    let report = report(&references, &all, names, skipped, now);
    if json {
        output.json(&report)?;
        return Ok(Exit::Success.into());
    }
    say(context, &report, &all, &store.location(), now);
    Ok(Exit::Success.into())
}

fn is_unconfigured(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<SettingsError>(), Some(SettingsError::NotConfigured))
}

type References = BTreeMap<WorkspaceName, Reference>;

/// The refs of the workspaces that are there: all, or those that were named.
async fn references(
    store: &crate::store::Store,
    names: &[WorkspaceName],
) -> Result<(References, Vec<String>), VersionError> {
    if !names.is_empty() {
        let reads = names.iter().map(|name| version::read_reference(store, name));
        let reads = futures::future::try_join_all(reads).await?;
        let found = names.iter().zip(reads).filter_map(|(name, read)| Some((name.clone(), read?.reference)));
        return Ok((found.filter(|(_, reference)| reference.is_visible()).collect(), Vec::new()));
    }
    match version::all_references(store).await {
        Ok((found, skipped)) => {
            let found = found.into_iter().map(|(name, read)| (name, read.reference));
            let found = found.filter(|(_, reference)| reference.is_visible()).collect();
            Ok((found, skipped.iter().map(ToString::to_string).collect()))
        }
        // A bucket that the first upload will create has nothing in it.
        Err(VersionError::Store(StoreError::NoBucket { .. })) => Ok((References::new(), Vec::new())),
        Err(error) => Err(error),
    }
}

fn report<'a>(
    references: &'a References,
    hosts: &[&'a Seen],
    names: &[WorkspaceName],
    skipped: Vec<String>,
    now: Timestamp,
) -> Report<'a> {
    let on_hosts = hosts.iter().flat_map(|seen| seen.host.workspaces.keys());
    let all: BTreeSet<&WorkspaceName> = references.keys().chain(on_hosts).collect();
    let workspaces = all
        .into_iter()
        .filter(|name| names.is_empty() || names.contains(name))
        .map(|name| {
            let reference = references.get(name);
            let row = reference.and_then(Reference::current_row);
            let on = |seen: &&'a Seen| {
                let Host { engine, hostname, workspaces, .. } = &seen.host;
                let managed = workspaces.get(name)?;
                Some(On { engine, hostname, presence: seen.presence(now), managed })
            };
            WorkspaceReport {
                name,
                version: row.map(|row| row.number),
                id: row.map(|row| row.id.to_string()),
                stopped: reference.is_some_and(|reference| reference.stopped),
                route: reference.and_then(|reference| reference.route.as_ref()).filter(|route| *route != name),
                hosts: hosts.iter().filter_map(on).collect(),
            }
        })
        .collect();
    let hosts = hosts
        .iter()
        .map(|seen| {
            let Host { engine, hostname, tool, only, withheld, started, beat, .. } = &seen.host;
            let (presence, started, beat) = (seen.presence(now), *started, *beat);
            HostReport { engine, hostname, presence, tool, started, beat, only, withheld }
        })
        .collect();
    Report { workspaces, hosts, skipped }
}

fn say(context: &Context, report: &Report<'_>, hosts: &[&Seen], location: &str, now: Timestamp) {
    let output = &context.output;
    if report.workspaces.is_empty() {
        output.note(&format!("no workspaces in {location}"));
        output.hint("`workspace upload NAME DIR` makes one");
        return;
    }
    let people = output.stdout_is_terminal();
    let rows: Vec<Vec<String>> =
        report.workspaces.iter().flat_map(|workspace| rows(workspace, hosts, people, now)).collect();
    output.table(&["NAME", "VERSION", "HOST", "PHASE", "SINCE", "HEALTH", "ADDRESS"], &rows);
    // Below the table for a person; a program that reads rows gets rows only.
    let below = |line: &str| if people { output.data(line) } else { output.note(line) };
    for workspace in &report.workspaces {
        for on in &workspace.hosts {
            let host = hosts.iter().find(|seen| seen.host.engine == on.engine);
            if let (Some(seen), Some(failure)) = (host, &on.managed.failure) {
                for line in failure_report::lines(workspace.name, &seen.host, failure, now) {
                    below(&line);
                }
            }
        }
    }
    for host in &report.hosts {
        match host.presence {
            Presence::There => {}
            Presence::Away => {
                let beat = relative_time(host.beat, now);
                output.warn(&escape(&format!("{} is away: last heard of {beat}", host.hostname)));
            }
            Presence::Ended => output.note(&escape(&format!(
                "the monitor of {} has ended; what it started runs on, unwatched",
                host.hostname
            ))),
        }
        if !host.withheld.is_empty() {
            let list = host.withheld.iter().map(WorkspaceName::as_str).collect::<Vec<_>>().join(", ");
            output.warn(&escape(&format!(
                "{} still runs what vanished from the bucket: {list}; `workspace confirm-removals` if that was meant",
                host.hostname
            )));
        }
    }
    for line in claimed_twice(hosts) {
        output.warn(&escape(&line));
    }
    if report.hosts.is_empty() {
        output
            .hint("no host has reported here yet: `workspace monitor` on a machine with Docker runs these workspaces");
    }
}

/// Addresses under which several workspaces of one host want to answer: a router chooses one of them.
fn claimed_twice(hosts: &[&Seen]) -> Vec<String> {
    let mut lines = Vec::new();
    for seen in hosts {
        let mut claims: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, managed) in &seen.host.workspaces {
            for address in &managed.addresses {
                claims.entry(address).or_default().push(name.as_str());
            }
        }
        for (address, names) in claims.into_iter().filter(|(_, names)| names.len() > 1) {
            let hostname = &seen.host.hostname;
            lines.push(format!(
                "{address} on {hostname} is claimed by {}: `domains:` in one of them has to change",
                names.join(" and ")
            ));
        }
    }
    lines
}

/// One row for each host that manages the workspace, or one that says that none does.
fn rows(workspace: &WorkspaceReport<'_>, hosts: &[&Seen], people: bool, now: Timestamp) -> Vec<Vec<String>> {
    let dash = || "-".to_owned();
    let name = workspace.name.to_string();
    let state = match (workspace.version, workspace.stopped) {
        (None, _) => "gone",
        (_, true) => "stopped",
        _ => "-",
    };
    if workspace.hosts.is_empty() {
        let version = workspace.version.map_or_else(dash, |version| version.to_string());
        return vec![vec![name, version, "no host".to_owned(), state.to_owned(), dash(), dash(), dash()]];
    }
    let row = |on: &On<'_>| {
        let managed = on.managed;
        let live = managed.served().map(|live| live.row.number);
        let next = managed.next.as_ref().map(|next| next.row.number).filter(|next| Some(*next) != live);
        let version = match (live, next) {
            (Some(live), Some(next)) => format!("{live} → {next}"),
            (None, Some(next)) => format!("→ {next}"),
            (Some(live), None) => live.to_string(),
            (None, None) => dash(),
        };
        let failed = managed.failure.as_ref().map(|failure| failure.number).filter(|failed| Some(*failed) != live);
        let version = match (failed, version.as_str()) {
            (None, _) => version,
            (Some(failed), "-") => format!("({failed} failed)"),
            (Some(failed), _) => format!("{version} ({failed} failed)"),
        };
        let host = match on.presence {
            Presence::There => on.hostname.to_owned(),
            Presence::Away => format!("{} (away)", on.hostname),
            Presence::Ended => format!("{} (ended)", on.hostname),
        };
        let mut addresses = managed.addresses.clone();
        if let Some(route) = workspace.route {
            let there = hosts.iter().find(|seen| seen.host.engine == on.engine);
            let is_live = there.is_some_and(|seen| seen.host.workspaces.get(route).is_some_and(|it| it.live.is_some()));
            addresses.push(match (managed.live.is_some(), managed.answering.as_ref() == Some(route), is_live) {
                (false, ..) => format!("(its traffic would go to {route})"),
                (true, true, _) => format!("(traffic goes to {route})"),
                (true, false, true) => format!("(traffic is moving to {route})"),
                (true, false, false) => format!("({route} isn't live here: its own release answers)"),
            });
        }
        vec![
            name.clone(),
            version,
            host,
            managed.phase.as_str().to_owned(),
            if people { relative_time(managed.since, now) } else { managed.since.to_string() },
            managed.health.clone().unwrap_or_else(dash),
            if addresses.is_empty() { dash() } else { addresses.join(" ") },
        ]
    };
    workspace.hosts.iter().map(row).collect()
}
