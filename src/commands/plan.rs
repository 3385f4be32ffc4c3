//! `workspace plan`: what a folder is, how it would be installed and started, and why.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use crate::application::{self, Command, Plan};
use crate::cli::Context;
use crate::failure::Exit;
use crate::publish;

/// Show how a folder would be installed and started, and why
///
/// The plan is made of what would be uploaded: what git or `.workspaceignore` leaves out doesn't exist. No store is needed.
/// `workspace.yaml` overrides any of it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  workspace plan                   this folder
  workspace plan ./app --json      for programs
  workspace plan --schema          the JSON Schema of workspace.yaml, for editors")]
pub struct Args {
    /// The folder
    #[arg(default_value = ".", value_name = "DIR")]
    folder: PathBuf,
    /// Plan as if lock files that an ignore rule excludes were there
    #[arg(long)]
    include_lock: bool,
    /// One document of JSON on stdout
    #[arg(long)]
    json: bool,
    /// Print the JSON Schema of workspace.yaml instead
    #[arg(long, conflicts_with_all = ["json", "include_lock"])]
    schema: bool,
}

/// What `--json` prints: an interface.
#[derive(Debug, Serialize)]
struct Report<'a> {
    /// One line for people; nothing when the tree is not known to start.
    summary: Option<String>,
    /// The plan as it would be stored.
    plan: Option<&'a Plan>,
    /// Whether something would be started.
    runnable: bool,
    warnings: &'a [String],
}

/// Runs the command.
#[expect(clippy::unused_async, reason = "every command is one")]
pub async fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let output = &context.output;
    if args.schema {
        output.data(application::schema().trim_end());
        return Ok(Exit::Success.into());
    }
    let options = context.source_options(args.include_lock)?;
    let preview = publish::preview(&args.folder, &options)?;
    let plan = preview.plan.as_ref();
    let runnable = plan.is_some_and(|plan| plan.start.is_some());
    if args.json {
        let summary = plan.map(Plan::summary);
        output.json(&Report { summary, plan, runnable, warnings: &preview.warnings })?;
        return Ok(Exit::Success.into());
    }
    if let Some(plan) = plan {
        output.table(&["WHAT", "HOW", "WHY"], &rows(plan));
    }
    for warning in &preview.warnings {
        output.warn(warning);
    }
    if !runnable {
        output.note("This tree would be stored, not run");
    }
    Ok(Exit::Success.into())
}

/// A row for each thing that is decided, in the order in which it happens.
pub(super) fn rows(plan: &Plan) -> Vec<Vec<String>> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let why =
        |field: &str| plan.reasons.iter().find(|reason| reason.field == field).map(|reason| reason.because.clone());
    let mut add = |what: &str, how: Option<String>, field: &str, otherwise: &str| {
        rows.extend(how.map(|how| vec![what.to_owned(), how, why(field).unwrap_or_else(|| otherwise.to_owned())]));
    };
    let each = |commands: &[Command]| commands.iter().map(Command::to_string).collect::<Vec<_>>();
    let declared = "workspace.yaml";
    add("runtime", Some(plan.runtime.to_string()), "runtime", "");
    add("version", plan.version.clone(), "version", "");
    add("image", plan.image.clone(), "image", "");
    add("folder", plan.dir.clone(), "dir", declared);
    add("manager", plan.package_manager.clone(), "package_manager", "");
    // What is a reason alone has its value before the colon.
    let split = |field: &str| {
        why(field).and_then(|text| text.split_once(": ").map(|(how, why)| (how.to_owned(), why.to_owned())))
    };
    if let Some((how, because)) = split("extensions") {
        add("extensions", Some(how), "", &because);
    }
    add("install in", plan.install_dir.clone(), "install_dir", "");
    for (at, command) in each(&plan.install).into_iter().enumerate() {
        // The reason belongs to the last one; what comes before it makes it possible.
        let field = if at + 1 == plan.install.len() { "install" } else { "" };
        add("install", Some(command), field, "");
    }
    if let Some((how, because)) = split("install_environment") {
        add("dependencies", Some(how), "", &because);
    }
    for command in each(&plan.build) {
        add("build", Some(command), "build", "");
    }
    add("release", plan.release.as_ref().map(ToString::to_string), "release", "");
    add("start", plan.start.as_ref().map(ToString::to_string), "start", "");
    for (name, command) in &plan.processes {
        add(name, Some(command.to_string()), "processes", "");
    }
    add("port", Some(plan.port.to_string()), "port", &format!("usual for {}", plan.runtime));
    add("health", plan.health.as_ref().map(|health| format!("GET {}", health.path)), "health", "");
    let list = |items: Vec<String>| (!items.is_empty()).then(|| items.join(", "));
    add("ports", list(plan.ports.clone()), "ports", "");
    add("domains", list(plan.domains.clone()), "domains", "");
    add("replicas", plan.replicas.map(|replicas| replicas.to_string()), "replicas", "");
    let volumes = plan.volumes.iter().map(|(name, path)| format!("{name}:{path}")).collect();
    add("volumes", list(volumes), "volumes", "");
    add("memory", plan.memory.clone(), "memory", "");
    add("cpus", plan.cpus.clone(), "cpus", "");
    add(
        "environment",
        list(plan.environment.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        "environment",
        "",
    );
    let secrets = plan
        .secrets
        .iter()
        .map(|(name, outside)| if name == outside { name.clone() } else { format!("{name} from {outside}") });
    add("secrets", list(secrets.collect()), "secrets", "");
    rows
}
