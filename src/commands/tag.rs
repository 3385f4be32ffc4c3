//! `workspace tag`: names for versions.

use std::process::ExitCode;

use jiff::Timestamp;
use serde::Serialize;

use super::decision::{self, DecisionArgs};
use crate::cli::Context;
use crate::failure::Exit;
use crate::format::{Reference, Row};
use crate::names::{NameError, Selector, Tag, Version};
use crate::output::{first_line, relative_time};
use crate::publish::{self, Changed};
use crate::settings::Purpose;
use crate::version;

/// How much of a message a terminal shows, in characters.
const SHORT_TEXT: usize = 60;

/// List, give, move and take away tags: names for versions
///
/// NAME@TAG addresses a version wherever NAME@7 does. A tagged version is kept as long as it has the tag. A host that runs
/// `workspace monitor --only NAME@TAG` goes on to whatever the tag names.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  workspace tag myapp                     which tags there are
  workspace tag myapp@7 v2.0              version 7 is called v2.0
  workspace tag myapp@staging production --force   production goes on to what staging names
  workspace tag --delete myapp v2.0")]
pub struct Args {
    /// NAME, for its current version or its tags; NAME@7 or NAME@TAG
    #[arg(value_name = "NAME[@V]")]
    selector: String,
    /// The tag: a-z, 0-9, `.`, `_`, `-`, and not digits alone
    #[arg(value_name = "TAG", required_if_eq("delete", "true"))]
    tag: Option<String>,
    /// Take the tag away
    #[arg(short, long, requires = "tag", conflicts_with = "force")]
    delete: bool,
    /// Move the tag if it names another version
    #[arg(short, long, requires = "tag")]
    force: bool,
    #[command(flatten)]
    decision: DecisionArgs,
}

/// A tag, for programs: these fields are an interface.
#[derive(Debug, Serialize)]
struct Listed {
    tag: String,
    version: u64,
    id: String,
    created: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// What came of a change, for programs: these fields are an interface.
#[derive(Debug, Serialize)]
struct Report {
    name: String,
    tag: String,
    version: u64,
    id: String,
    /// The number of the version that bore it before.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<u64>,
    deleted: bool,
    changed: bool,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let selector: Selector = args.selector.parse()?;
    let Some(tag) = args.tag.as_deref().map(str::parse::<Tag>).transpose()? else {
        return list(context, &selector, args.decision.json).await;
    };
    if let Some(text) = args.tag.as_deref().filter(|text| *text != tag.as_str()) {
        context.output.note(&format!("`{text}` is called `{tag}`: tags have no capitals"));
    }
    let store = decision::open(context, args.decision, std::slice::from_ref(&selector.name)).await?;
    let output = &context.output;
    let name = &selector.name;
    let tagged = if args.delete {
        without_version(&selector, &tag)?;
        publish::remove_tag(&store, name, &tag).await?
    } else {
        publish::set_tag(&store, &selector, &tag, args.force).await?
    };
    let number = tagged.row.number;
    output.note(&match (args.delete, tagged.changed, tagged.from) {
        (true, ..) => format!("{name}@{number} is no longer called `{tag}`"),
        (false, Changed::No, _) => format!("unchanged: {name}@{number} is called `{tag}` already"),
        (false, Changed::Yes, Some(from)) => format!("{name}@{number} is called `{tag}`, which was version {from}"),
        (false, Changed::Yes, None) => format!("{name}@{number} is called `{tag}`"),
    });
    if args.decision.json {
        output.json(&Report {
            name: name.to_string(),
            tag: tag.to_string(),
            version: number,
            id: tagged.row.id.to_string(),
            from: tagged.from,
            deleted: args.delete,
            changed: tagged.changed == Changed::Yes,
        })?;
    }
    output.hint(&if args.delete {
        format!("`workspace tag {name}@{number} {tag}` gives it back")
    } else {
        format!("`{name}@{tag}` addresses it; hosts with `workspace monitor --only {name}@{tag}` run it")
    });
    Ok(Exit::Success.into())
}

/// A tag is taken away by its name alone: NAME@V would seem to say from which version.
fn without_version(selector: &Selector, tag: &Tag) -> Result<(), NameError> {
    match selector.version {
        Version::Current => Ok(()),
        _ => Err(NameError::Character {
            what: "workspace name",
            text: selector.to_string(),
            reason: format!("a tag names one version: `workspace tag --delete {} {tag}` takes it away", selector.name),
        }),
    }
}

async fn list(context: &Context, selector: &Selector, json: bool) -> anyhow::Result<ExitCode> {
    let output = &context.output;
    let name = &selector.name;
    let (_, store) = context.store(Purpose::Interactive).await?;
    let reference = version::existing_reference(&store, name).await?.reference;
    let listed = match selector.version {
        Version::Current => tags(&reference, None),
        _ => tags(&reference, Some(version::select(&reference, selector)?)),
    };
    if json {
        output.json(&listed)?;
        return Ok(Exit::Success.into());
    }
    if listed.is_empty() {
        output.note(&format!("{selector} has no tag"));
        output.hint(&format!("`workspace tag {name}@{} TAG` gives one", reference.current));
        return Ok(Exit::Success.into());
    }
    let (now, people) = (Timestamp::now(), output.stdout_is_terminal());
    let cells = |listed: &Listed| {
        let message = listed
            .message
            .as_deref()
            .map(|message| if people { first_line(message, SHORT_TEXT) } else { message.to_owned() });
        vec![
            listed.tag.clone(),
            listed.version.to_string(),
            if people { relative_time(listed.created, now) } else { listed.created.to_string() },
            message.unwrap_or_else(|| "-".to_owned()),
        ]
    };
    let rows: Vec<Vec<String>> = listed.iter().map(cells).collect();
    output.table(&["TAG", "VERSION", "CREATED", "MESSAGE"], &rows);
    Ok(Exit::Success.into())
}

/// The tags of one version or of all, by name.
fn tags(reference: &Reference, of: Option<&Row>) -> Vec<Listed> {
    let rows = reference.rows.iter().filter(|row| of.is_none_or(|of| of.id == row.id));
    let mut listed: Vec<Listed> = rows
        .flat_map(|row| {
            row.tags.iter().map(|tag| Listed {
                tag: tag.to_string(),
                version: row.number,
                id: row.id.to_string(),
                created: row.created,
                message: row.message.clone(),
            })
        })
        .collect();
    listed.sort_by(|one, other| one.tag.cmp(&other.tag));
    listed
}
