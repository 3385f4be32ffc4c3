//! `workspace log`: the versions of a workspace.

use std::process::ExitCode;

use jiff::Timestamp;
use serde::Serialize;

use crate::cli::Context;
use crate::failure::Exit;
use crate::format::{Reference, Row};
use crate::names::WorkspaceName;
use crate::output::{first_line, relative_time, size};
use crate::settings::Purpose;
use crate::version;

/// How much of a commit's id a terminal shows, in characters, as git does.
const SHORT_COMMIT: usize = 10;
/// How much of a text a terminal shows, in characters.
const SHORT_TEXT: usize = 48;

/// List the versions of a workspace, newest first
///
/// Only what is kept: the last 20, the newest of each of the last 24 hours and 30 days, and whatever has a tag, once there
/// are more than 120.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  workspace log myapp
  workspace log myapp -n 5
  workspace log myapp --json | jq '.[] | select(.tags != [])'

Columns off a terminal: number, tags, created, author, message, files, bytes, commit, origin, locked.")]
pub struct Args {
    /// Name of the workspace
    name: WorkspaceName,
    /// At most so many
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    number: Option<u64>,
    /// One document of JSON on stdout
    #[arg(long)]
    json: bool,
}

/// A version, for programs: these fields are an interface.
#[derive(Debug, Serialize)]
pub(super) struct Logged {
    version: u64,
    id: String,
    current: bool,
    tags: Vec<String>,
    created: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    files: u64,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<String>,
    /// The number of the version that this one brought back.
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<u64>,
    locked: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    locked_until: Option<Timestamp>,
}

impl Logged {
    /// Of a row.
    pub(super) fn new(reference: &Reference, row: &Row) -> Self {
        Self {
            version: row.number,
            id: row.id.to_string(),
            current: row.number == reference.current,
            tags: row.tags.iter().map(ToString::to_string).collect(),
            created: row.created,
            author: row.author.clone(),
            message: row.message.clone(),
            files: row.files,
            bytes: row.bytes,
            runtime: row.runtime.clone(),
            commit: row.commit.clone(),
            origin: row.origin,
            locked: row.is_locked(Timestamp::now()),
            locked_until: row.locked_until.filter(|_| row.locked),
        }
    }
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let output = &context.output;
    let (_, store) = context.store(Purpose::Interactive).await?;
    let reference = version::existing_reference(&store, &args.name).await?.reference;
    let most = args.number.map_or(usize::MAX, |number| usize::try_from(number).unwrap_or(usize::MAX));
    let logged: Vec<Logged> = reference.rows.iter().rev().take(most).map(|row| Logged::new(&reference, row)).collect();
    if args.json {
        output.json(&logged)?;
        return Ok(Exit::Success.into());
    }
    let (now, people) = (Timestamp::now(), output.stdout_is_terminal());
    let rows: Vec<Vec<String>> = logged.iter().map(|logged| cells(logged, people, now)).collect();
    output.table(
        &["VERSION", "TAGS", "CREATED", "AUTHOR", "MESSAGE", "FILES", "SIZE", "COMMIT", "ORIGIN", "LOCKED"],
        &rows,
    );
    Ok(Exit::Success.into())
}

fn cells(logged: &Logged, people: bool, now: Timestamp) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let text = |text: &Option<String>| {
        or_dash(text.as_deref().map(|text| if people { first_line(text, SHORT_TEXT) } else { text.to_owned() }))
    };
    let commit = logged.commit.as_deref();
    vec![
        logged.version.to_string(),
        or_dash((!logged.tags.is_empty()).then(|| logged.tags.join(","))),
        if people { relative_time(logged.created, now) } else { logged.created.to_string() },
        text(&logged.author),
        text(&logged.message),
        logged.files.to_string(),
        if people { size(logged.bytes) } else { logged.bytes.to_string() },
        or_dash(commit.map(|id| if people { id.chars().take(SHORT_COMMIT).collect() } else { id.to_owned() })),
        or_dash(logged.origin.map(|origin| origin.to_string())),
        or_dash(logged.locked.then(|| "locked".to_owned())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_see_short_forms_and_programs_whole_ones() {
        let created = Timestamp::from_second(1_700_000_000).unwrap();
        let logged = Logged {
            version: 7,
            id: "01J".to_owned(),
            current: true,
            tags: vec!["v2".to_owned(), "staging".to_owned()],
            created,
            author: None,
            message: Some(format!("{}\nmore", "long ".repeat(20))),
            files: 3,
            bytes: 4_096,
            runtime: None,
            commit: Some("0123456789abcdef".to_owned()),
            origin: Some(5),
            locked: true,
            locked_until: None,
        };
        let now = Timestamp::from_second(1_700_000_060).unwrap();
        let people = cells(&logged, true, now);
        assert_eq!(people[..3], ["7", "v2,staging", "1m ago"]);
        assert!(people[4].ends_with('…') && people[4].chars().count() == SHORT_TEXT, "{people:?}");
        assert_eq!(people[5..], ["3", "4.0 KiB", "0123456789", "5", "locked"]);
        let programs = cells(&logged, false, now);
        assert_eq!(programs[4], logged.message.clone().unwrap());
        assert_eq!(programs[6..8], ["4096", "0123456789abcdef"]);
    }
}
