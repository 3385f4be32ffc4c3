//! `workspace retry`: what hosts found bad is tried again.

use std::process::ExitCode;

use jiff::Timestamp;
use serde::Serialize;
use ulid::Ulid;

use super::decision::{self, DecisionArgs};
use crate::cli::Context;
use crate::failure::Exit;
use crate::hosts::Hosts;
use crate::names::WorkspaceName;
use crate::publish;
use crate::version;

/// Let hosts try again what failed there
///
/// A version that failed by its own fault isn't tried again by the host on which it did. This clears that on all hosts.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the workspace
    name: WorkspaceName,
    #[command(flatten)]
    decision: DecisionArgs,
}

/// What came of it, for programs: these fields are an interface.
#[derive(Debug, Serialize)]
struct Report {
    name: String,
    retry: String,
    hosts: Vec<MarkedBad>,
}

/// A host that had given up on versions, or waits before it tries one again.
#[derive(Debug, Serialize)]
struct MarkedBad {
    engine: String,
    hostname: String,
    /// Versions on which it had given up.
    versions: Vec<u64>,
    /// The version whose failure it remembers.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<u64>,
    /// Why that one failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let output = &context.output;
    let name = args.name;
    let store = decision::open(context, args.decision, std::slice::from_ref(&name)).await?;
    let before = version::existing_reference(&store, &name).await?.reference;
    let hosts = Hosts::read(&store, Timestamp::now()).await?;
    let marked: Vec<MarkedBad> = hosts
        .iter()
        .filter_map(|seen| {
            let managed = seen.host.workspaces.get(&name)?;
            let bad = managed.bad.iter().filter(|bad| bad.retry == before.retry);
            let versions: Vec<u64> = bad.map(|bad| bad.number).collect();
            let failure = managed.failure.as_ref().filter(|failure| failure.retry == before.retry);
            (!versions.is_empty() || failure.is_some()).then(|| MarkedBad {
                engine: seen.host.engine.clone(),
                hostname: seen.host.hostname.clone(),
                versions,
                failed: failure.map(|failure| failure.number),
                reason: failure.map(|failure| format!("{}: {}", failure.step, failure.reason)),
            })
        })
        .collect();
    let mark = Ulid::generate();
    publish::set_retry(&store, &name, mark).await?;
    for host in &marked {
        output.note(&crate::output::escape(&said(host)));
    }
    output.note(&if marked.is_empty() {
        format!("No host says that it has given up on a version of {name}; whichever has tries again")
    } else {
        format!("{name} is tried again where it is current")
    });
    if args.decision.json {
        output.json(&Report { name: name.to_string(), retry: mark.to_string(), hosts: marked })?;
    }
    output.hint(&format!("`workspace status {name}` shows how far it is"));
    Ok(Exit::Success.into())
}

/// What a host had made of it, for a person.
fn said(host: &MarkedBad) -> String {
    let MarkedBad { hostname, versions, failed, reason, .. } = host;
    let list = versions.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let reason = reason.as_deref().unwrap_or_default();
    match (versions.as_slice(), failed) {
        (_, None) => format!("{hostname} had given up on version {list}"),
        ([one], Some(failed)) if one == failed => format!("{hostname} had given up on version {one} ({reason})"),
        (some, Some(failed)) if some.contains(failed) => {
            format!("{hostname} had given up on version {list} ({failed}: {reason})")
        }
        ([], Some(failed)) => format!("{hostname} waits before it tries version {failed} again ({reason})"),
        (_, Some(failed)) => {
            format!(
                "{hostname} had given up on version {list}, and waits before it tries version {failed} again ({reason})"
            )
        }
    }
}
