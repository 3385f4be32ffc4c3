//! `workspace lock`: a version that nobody can delete for a while.

use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;

use super::decision::{self, DecisionArgs};
use super::duration;
use crate::cli::Context;
use crate::failure::Exit;
use crate::names::Selector;
use crate::output::{Output, count};
use crate::publish::until_text;
use crate::store::versions::LockMode;
use crate::upkeep::lock::{self, Report, Terms};

/// Lock a version, so that nobody can delete it for a while
///
/// By S3 Object Lock on every object of the version: whatever happens to the bucket's keys, it can be read until then.
/// `workspace delete` and `workspace gc` leave it alone. A lock can be made longer and not shorter; `workspace unlock` takes
/// it back, unless the mode is compliance. Needs a bucket made with `workspace init --object-lock`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  workspace lock myapp@v2.0 --until 90d
  workspace lock myapp@7 --until 2027-01-01 --mode compliance
  workspace lock myapp@7 --legal-hold")]
pub struct Args {
    /// The version: NAME@7, NAME@TAG; NAME is the current one
    #[arg(value_name = "NAME@VERSION")]
    selector: Selector,
    /// Until then: 2027-01-01 (its first moment, UTC), 2027-01-01T12:00:00Z, or 90d from now
    #[arg(long, value_name = "DATE", value_parser = until, required_unless_present = "legal_hold")]
    until: Option<Timestamp>,
    /// Until somebody takes it back
    #[arg(long)]
    legal_hold: bool,
    /// Who may take it back before: whoever has the right to, or nobody
    #[arg(long, value_enum, default_value_t, value_name = "MODE", requires = "until")]
    mode: Mode,
    #[command(flatten)]
    decision: DecisionArgs,
}

/// Who may take a lock back before its time is over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    /// Whoever has the right to
    #[default]
    Governance,
    /// Nobody
    Compliance,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let output = &context.output;
    let store = decision::open(context, args.decision, std::slice::from_ref(&args.selector.name)).await?;
    let mode = match args.mode {
        Mode::Governance => LockMode::Governance,
        Mode::Compliance => LockMode::Compliance,
    };
    let terms = Terms { retention: args.until.map(|until| (mode, until)), legal_hold: args.legal_hold };
    let report = lock::lock(&store, &args.selector, terms, Timestamp::now()).await?;
    let until = until_text(report.until.filter(|_| !report.legal_hold));
    say(output, &report, args.decision.json, &format!("is locked {until}"))?;
    output.hint(&match mode {
        LockMode::Compliance => "nobody can take that back".to_owned(),
        LockMode::Governance => format!("`workspace unlock {}@{}` takes it back", report.workspace, report.version),
    });
    Ok(Exit::Success.into())
}

/// What `lock` and `unlock` say.
pub fn say(output: &Output, report: &Report, json: bool, state: &str) -> anyhow::Result<()> {
    let kept = match report.kept {
        0 => String::new(),
        kept => format!(", {kept} of them kept on by other locks"),
    };
    let objects = count(report.objects as u64, "object");
    output.note(&format!("{}@{} {state} ({objects}{kept})", report.workspace, report.version));
    if json {
        output.json(report)?;
    }
    Ok(())
}

/// A date, a time or a duration, which has to lie ahead.
fn until(text: &str) -> Result<Timestamp, String> {
    let now = Timestamp::now();
    let date = || text.parse::<jiff::civil::Date>().ok().and_then(|_| format!("{text}T00:00:00Z").parse().ok());
    let later = || {
        let duration: Duration = duration::any(text).ok().filter(|_| text.ends_with(['s', 'm', 'h', 'd']))?;
        now.checked_add(jiff::SignedDuration::try_from(duration).ok()?).ok()
    };
    let time = text.parse::<Timestamp>().ok().or_else(date).or_else(later);
    match time {
        Some(time) if time > now => Ok(time),
        Some(time) => Err(format!("{time:.0} is in the past: a lock needs a time that lies ahead")),
        None => Err("a date is written 2027-01-01, a time 2027-01-01T12:00:00Z, a duration 90d".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_times_and_durations_lie_ahead() {
        assert_eq!(until("2999-01-01").unwrap().to_string(), "2999-01-01T00:00:00Z");
        assert_eq!(until("2999-01-01T12:00:00Z").unwrap().to_string(), "2999-01-01T12:00:00Z");
        assert!(until("90d").unwrap() > Timestamp::now());
        assert!(until("2001-01-01").unwrap_err().contains("in the past"));
        for wrong in ["", "soon", "5", "0s", "2027-13-01", "01.01.2027"] {
            assert!(until(wrong).is_err(), "{wrong}");
        }
    }
}
