//! `workspace retention`: how many versions are kept.

use std::process::ExitCode;

use serde::Serialize;

use super::decision::{self, DecisionArgs};
use crate::cli::Context;
use crate::failure::Exit;
use crate::format::retention::Retention;
use crate::names::WorkspaceName;
use crate::output::count;
use crate::publish::{self, Changed};
use crate::settings::Purpose;
use crate::version;

/// Show or set how many versions of a workspace are kept
///
/// Without any setting all are kept as long as the ref has room (about 120), then the last 20, the newest of each of the last
/// 24 hours and 30 days. The current version, tagged and locked ones always stay. What is let go is deleted by `workspace gc`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  workspace retention myapp --last 5 --hours 0 --days 7
  workspace retention myapp --default")]
pub struct Args {
    /// Name of the workspace
    name: WorkspaceName,
    /// Keep the last N versions
    #[arg(long, value_name = "N")]
    last: Option<u32>,
    /// Keep the newest of each of the last N hours
    #[arg(long, value_name = "N")]
    hours: Option<u32>,
    /// Keep the newest of each of the last N days
    #[arg(long, value_name = "N")]
    days: Option<u32>,
    /// Keep as many as there is room for
    #[arg(long, conflicts_with_all = ["last", "hours", "days"])]
    default: bool,
    #[command(flatten)]
    decision: DecisionArgs,
}

/// What is in force, for programs: these fields are an interface.
#[derive(Debug, Serialize)]
struct Report {
    name: String,
    retention: Option<Retention>,
    versions: usize,
    changed: bool,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let output = &context.output;
    let name = &args.name;
    let sets = args.default || args.last.is_some() || args.hours.is_some() || args.days.is_some();
    let (reference, changed) = if sets {
        let store = decision::open(context, args.decision, std::slice::from_ref(name)).await?;
        let (last, hours, days, default) = (args.last, args.hours, args.days, args.default);
        let decided = publish::decide(&store, name, move |reference| {
            let before = reference.retention.unwrap_or_default();
            let wanted = (!default).then(|| Retention {
                last: last.unwrap_or(before.last),
                hours: hours.unwrap_or(before.hours),
                days: days.unwrap_or(before.days),
            });
            if reference.retention == wanted {
                return Ok(Changed::No);
            }
            reference.retention = wanted;
            Ok(Changed::Yes)
        })
        .await?;
        (decided.reference, decided.changed == Changed::Yes)
    } else {
        let (_, store) = context.store(Purpose::Interactive).await?;
        (version::existing_reference(&store, name).await?.reference, false)
    };
    let said = match reference.retention {
        None => "as many versions as there is room for are kept".to_owned(),
        Some(Retention { last, hours, days }) => {
            let newest = |number: u32, what| format!("the newest of each of the last {}", count(number.into(), what));
            let parts = [
                (last > 0).then(|| format!("the last {}", count(last.into(), "version"))),
                (hours > 0).then(|| newest(hours, "hour")),
                (days > 0).then(|| newest(days, "day")),
                Some("what is current, tagged or locked".to_owned()),
            ];
            format!("kept are {}", parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
        }
    };
    if args.decision.json {
        let report =
            Report { name: name.to_string(), retention: reference.retention, versions: reference.rows.len(), changed };
        output.json(&report)?;
    } else {
        let shown = reference.retention.map_or_else(
            || "-\t-\t-".to_owned(),
            |retention| format!("{}\t{}\t{}", retention.last, retention.hours, retention.days),
        );
        output.table(&["LAST", "HOURS", "DAYS"], &[shown.split('\t').map(str::to_owned).collect()]);
    }
    output.note(&format!("{name}: {said}; it has {}", count(reference.rows.len() as u64, "version")));
    if changed && reference.retention.is_some() {
        output.hint(&format!("`workspace gc {name} --dry-run` shows what that lets go"));
    }
    Ok(Exit::Success.into())
}
