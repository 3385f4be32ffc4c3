//! `workspace confirm-removals`: many workspaces vanished at once, and that was meant.

use std::process::ExitCode;

use jiff::Timestamp;
use serde::Serialize;

use crate::cli::Context;
use crate::failure::{Exit, NeedsYes, NoHost};
use crate::format::host::Confirmation;
use crate::format::{host::Host, keys};
use crate::hosts::{Hosts, Presence};
use crate::names::WorkspaceName;
use crate::settings::Purpose;
use crate::store::Condition;

/// Confirm that workspaces which vanished together are gone for good
///
/// When more than half of the workspaces vanish from the bucket at once, hosts believe in a mishap and let them run. This
/// tells them that it was meant: they stop those workspaces.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only what this host withholds: its name, or its Docker Engine's id
    #[arg(long, value_name = "ENGINE")]
    host: Option<String>,
    /// Don't ask
    #[arg(long)]
    yes: bool,
    /// One document of JSON on stdout
    #[arg(long)]
    json: bool,
}

/// What was confirmed to one host, for programs: these fields are an interface.
#[derive(Debug, Serialize)]
struct Confirmed<'a> {
    engine: &'a str,
    hostname: &'a str,
    names: &'a [WorkspaceName],
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let output = &context.output;
    let (_, store) = context.store(Purpose::Interactive).await?;
    let now = Timestamp::now();
    let hosts = Hosts::read(&store, now).await?;
    for (key, reason) in hosts.skipped() {
        output.warn(&format!("`{key}` can't be read and is skipped: {reason}"));
    }
    let asked = |host: &Host| args.host.as_ref().is_none_or(|asked| *asked == host.engine || *asked == host.hostname);
    if let Some(host) = &args.host
        && !hosts.iter().any(|seen| asked(&seen.host))
    {
        return Err(NoHost { host: host.clone(), location: store.location() }.into());
    }
    let withholding: Vec<_> = hosts.iter().filter(|seen| asked(&seen.host) && !seen.host.withheld.is_empty()).collect();
    let confirmed: Vec<Confirmed<'_>> = withholding
        .iter()
        .map(|seen| Confirmed { engine: &seen.host.engine, hostname: &seen.host.hostname, names: &seen.host.withheld })
        .collect();
    if confirmed.is_empty() {
        output.note("No host withholds a removal");
        if args.json {
            output.json(&confirmed)?;
        }
        return Ok(Exit::Success.into());
    }
    for seen in &withholding {
        let away = if seen.presence(now) == Presence::There { "" } else { " (away)" };
        let names = list(&seen.host.withheld);
        output.note(&crate::output::escape(&format!("{}{away} still runs {names}", seen.host.hostname)));
    }
    if !args.yes {
        let count: usize = withholding.iter().map(|seen| seen.host.withheld.len()).sum();
        let question = format!("{count} workspaces are no longer in {}. Stop them for good?", store.location());
        if !output.can_ask() {
            return Err(NeedsYes { question }.into());
        }
        if !output.confirm(&question) {
            output.note("Nothing was confirmed");
            return Ok(Exit::Failure.into());
        }
    }
    for host in &confirmed {
        let confirmation = Confirmation::new(host.names.to_vec(), now);
        store.put(&keys::confirmation(host.engine), confirmation.to_bytes().into(), Condition::None).await?;
        output.note(&crate::output::escape(&format!("Confirmed to {}: {}", host.hostname, list(host.names))));
    }
    if args.json {
        output.json(&confirmed)?;
    }
    output.hint("`workspace status` shows what still runs");
    Ok(Exit::Success.into())
}

fn list(names: &[WorkspaceName]) -> String {
    names.iter().map(WorkspaceName::as_str).collect::<Vec<_>>().join(", ")
}
