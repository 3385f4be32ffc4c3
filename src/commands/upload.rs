//! `workspace upload`: the folder becomes the next version.

mod watch;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::publication::{self, Report, SourceArgs};
use crate::cli::Context;
use crate::failure::Exit;
use crate::output::{count, escape, plural, size};
use crate::publish::{self, Preview, Publication, PublishError};
use crate::settings::Purpose;
use crate::source::{self, Admission, Explanation, Fate, Line, Rule};

/// Upload a folder as the next version of a workspace
///
/// In a git work tree, tracked files go, and untracked ones that nothing ignores. Elsewhere `.gitignore` files and
/// defaults (`node_modules/`, `dist/`, `*.log`, …) decide. `.env` files and private keys never go unless `.workspaceignore`
/// takes them back with `!`. Nothing is written when the folder equals the current version.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  workspace upload myapp                      this folder
  workspace upload myapp ./app -m 'New logo'  another folder, with a message
  workspace upload myapp . --watch            every save becomes a version
  workspace upload myapp . --wait=5m          until the hosts serve it, at most five minutes
  workspace upload myapp . --dry-run          what would go, and what would not
  workspace upload myapp . --explain a/b.js   which rule decides on a file or folder")]
pub struct Args {
    #[command(flatten)]
    source: SourceArgs,
    /// Only list what would go and what would not
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    /// Go on: every save becomes a version, until Ctrl-C
    #[arg(long, conflicts_with_all = ["wait", "dry_run", "explain"])]
    watch: bool,
    /// Only say which rule decides on this path: a file or folder in DIR
    #[arg(long, value_name = "PATH", conflicts_with_all = ["wait", "dry_run"])]
    explain: Option<PathBuf>,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let source = args.source;
    let publication = publication::of(context, &source)?;
    if let Some(path) = args.explain {
        return explain(context, &publication, &path, source.json);
    }
    if args.dry_run {
        let preview = publish::preview(&publication.folder, &publication.source)?;
        return dry_run(context, &preview, source.strict, source.json);
    }
    if args.watch {
        return watch::run(context, publication, &source).await;
    }
    publication::run(context, publication, Purpose::Interactive, &source).await
}

fn dry_run(context: &Context, preview: &Preview, strict: bool, json: bool) -> anyhow::Result<ExitCode> {
    let output = &context.output;
    for warning in &preview.warnings {
        output.warn(warning);
    }
    let bytes: u64 = preview.entries.iter().map(|(_, bytes)| bytes).sum();
    if json {
        let files: Vec<_> =
            preview.entries.iter().map(|(path, bytes)| serde_json::json!({"path": path, "bytes": bytes})).collect();
        output.json(&serde_json::json!({
            "files": files,
            "bytes": bytes,
            "excluded": Report::excluded(&preview.excluded),
            "runtime": preview.plan.as_ref().map(|plan| plan.runtime.to_string()),
            "warnings": preview.warnings,
        }))?;
        return verdict(preview, strict);
    }
    for (path, _) in &preview.entries {
        output.data(&escape(path));
    }
    for excluded in &preview.excluded {
        output.note(&format!("- {} ({})", escape(&excluded.path), excluded.rule));
    }
    output.note(&format!(
        "Would upload {} ({}), and leave out {}",
        count(preview.entries.len() as u64, "file"),
        size(bytes),
        plural(preview.excluded.len(), "entry", "entries")
    ));
    verdict(preview, strict)
}

/// What an upload would have ended with, as far as the folder tells.
fn verdict(preview: &Preview, strict: bool) -> anyhow::Result<ExitCode> {
    match preview.warnings.len() {
        warnings if strict && warnings > 0 => Err(PublishError::Strict(warnings).into()),
        _ => Ok(Exit::Success.into()),
    }
}

fn explain(context: &Context, publication: &Publication, path: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let here = std::env::current_dir()?;
    let explanation = source::explain(&publication.folder, path, &here, &publication.source)?;
    if !json {
        context.output.data(&sentence(&explanation));
        return Ok(Exit::Success.into());
    }
    let line = line_of(&explanation.fate);
    let folder = match &explanation.fate {
        Fate::Stays { folder, .. } => folder.as_deref(),
        _ => None,
    };
    context.output.json(&serde_json::json!({
        "path": explanation.path,
        "goes": explanation.goes(),
        "because": because(&explanation.fate),
        "folder": folder,
        "file": line.map(|line| &line.file),
        "line": line.map(|line| line.line),
        "pattern": line.map(|line| &line.pattern),
    }))?;
    Ok(Exit::Success.into())
}

fn sentence(explanation: &Explanation) -> String {
    let verdict = if explanation.goes() { "goes" } else { "does not go" };
    let inside = match &explanation.fate {
        Fate::Stays { folder: Some(folder), .. } => format!(", as all of `{}`", escape(folder)),
        Fate::Goes { entries: Some(1), .. } => ", with one entry in it".to_owned(),
        Fate::Goes { entries: Some(entries), .. } => format!(", with {entries} entries in it"),
        _ => String::new(),
    };
    format!("{} {verdict}{inside}: {}", escape(&explanation.path), because(&explanation.fate))
}

/// The rule in words, with file and line where it has one.
fn because(fate: &Fate) -> String {
    let line = |line: &Line| format!("line {} of {}: {}", line.line, escape(&line.file), escape(&line.pattern));
    let rule = |rule: &Rule| match rule {
        Rule::Secret => {
            "it looks like a secret, and only a `!` pattern in .workspaceignore that names it takes it".into()
        }
        Rule::Git => "git ignores it".to_owned(),
        Rule::Line(at) => line(at),
        Rule::Default(pattern) => format!("left out by default: {pattern} (`!{pattern}` in .workspaceignore takes it)"),
        Rule::Submodule => "it lies in the folder of a submodule that is not checked out".to_owned(),
        Rule::Special => "it is neither file, folder nor link".to_owned(),
        Rule::Own => "`.workspace` is kept for what a download notes of its target".to_owned(),
    };
    match fate {
        Fate::Goes { because: Admission::Tracked, although: None, .. } => "git tracks it".to_owned(),
        Fate::Goes { because: Admission::Tracked, although: Some(other), .. } => {
            format!("git tracks it, although {}", line(other))
        }
        Fate::Goes { because: Admission::Unruled, .. } => "no rule leaves it out".to_owned(),
        Fate::Goes { because: Admission::TakenBack(at), .. } => line(at),
        Fate::Goes { because: Admission::Lock(other), .. } => format!("--include-lock, against {}", rule(other)),
        Fate::Goes { because: Admission::TrackedOnly(other), .. } => {
            format!("only what git tracks in it; {}", rule(other))
        }
        Fate::Stays { rule: other, .. } => rule(other),
        Fate::Never => "it belongs to git or to this program, and never goes".to_owned(),
        Fate::BehindLink(link) => format!("it lies behind the link `{}`, which goes as a link", escape(link)),
    }
}

fn line_of(fate: &Fate) -> Option<&Line> {
    match fate {
        Fate::Goes { because: Admission::TakenBack(line) | Admission::Lock(Rule::Line(line)), .. }
        | Fate::Goes { although: Some(line), .. }
        | Fate::Stays { rule: Rule::Line(line), .. } => Some(line),
        _ => None,
    }
}
