//! `workspace run`: a container's first process.

mod bucket;
mod granted;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::cli::Context;
use crate::environment::{
    WORKSPACE_DEPS_CACHE, WORKSPACE_FOLLOW, WORKSPACE_GRANT, WORKSPACE_HOLD, WORKSPACE_INSTALL_LIMIT, WORKSPACE_NAME,
    WORKSPACE_PROCESS, WORKSPACE_READY_LIMIT, WORKSPACE_RELEASE_LIMIT, WORKSPACE_STOP_GRACE,
};
use crate::failure::{self, Exit};
use crate::format::tree::STATE_DIRECTORY;
use crate::names::{Selector, Version};
use crate::output::Output;
use crate::run::{RunError, RunOptions, Source, SourceError, say};
use crate::settings::Purpose;
use bucket::BucketSource;
use granted::GrantSource;

/// Fetch a version, install it, start it: what a container's first process does
///
/// Ends with the application's own exit code. Of the environment, the application gets everything but this program's
/// settings (`S3_*`, `AWS_*`, `WORKSPACE_*`, `STORAGE_MODE`), and PORT and HOST.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  workspace run myapp                the newest version at each start
  workspace run myapp@7              always version 7
  workspace run myapp --follow       and every version that comes after it, while it runs
  workspace run myapp --dir ./try    outside a container; the folder belongs to `run`")]
pub struct Args {
    /// NAME for the newest version, NAME@7 or NAME@TAG for one
    #[arg(value_name = "NAME[@V]", env = WORKSPACE_NAME, required_unless_present = "grant")]
    selector: Option<Selector>,
    /// Fetch what this file grants, without any other setting of the store; read again at each start
    #[arg(long, value_name = "FILE", env = WORKSPACE_GRANT)]
    grant: Option<PathBuf>,
    /// Which process to start: `web`, or one that a Procfile names
    #[arg(long, value_name = "NAME", default_value = crate::run::WEB, env = WORKSPACE_PROCESS)]
    process: String,
    /// Wait for `workspace proceed` once everything is installed and built
    #[arg(long, env = WORKSPACE_HOLD, value_parser = clap::builder::FalseyValueParser::new())]
    hold: bool,
    /// Go on to every version that comes, in place: fetch it, reinstall and build where it must be, start again
    #[arg(long, env = WORKSPACE_FOLLOW, value_parser = clap::builder::FalseyValueParser::new())]
    follow: bool,
    /// Keep what was installed in the bucket, and take it from there: other containers start in seconds, and without a package
    /// registry
    #[arg(long, env = WORKSPACE_DEPS_CACHE, value_parser = clap::builder::FalseyValueParser::new())]
    deps_cache: bool,
    /// Where the tree goes; overwritten, and what isn't in the version may be deleted
    #[arg(long, value_name = "DIR", default_value = "/app")]
    dir: PathBuf,
    /// How long install and build may take
    #[arg(long, value_name = "SECONDS", default_value_t = 600, env = WORKSPACE_INSTALL_LIMIT)]
    install_limit: u64,
    /// How long the release command may take
    #[arg(long, value_name = "SECONDS", default_value_t = 600, env = WORKSPACE_RELEASE_LIMIT)]
    release_limit: u64,
    /// How long it may take to answer once started
    #[arg(long, value_name = "SECONDS", default_value_t = 60, env = WORKSPACE_READY_LIMIT)]
    ready_limit: u64,
    /// How long it may take to end once asked to
    #[arg(long, value_name = "SECONDS", default_value_t = 10, env = WORKSPACE_STOP_GRACE)]
    grace: u64,
}

/// What tells a folder that `run` made from others, in the tree's own folder.
const OWNED: &str = "run";

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    crate::run::hide_memory();
    if let Some(path) = args.grant.clone() {
        let name = args.selector.as_ref().map(|selector| selector.name.clone());
        let source = GrantSource::new(path, name, context.fetching()?, context.output.clone());
        let selector = match &args.selector {
            Some(selector) => selector.clone(),
            None => source.selector()?,
        };
        run_from(context, &source, args.options(selector)).await
    } else {
        let settings = context.settings(Purpose::Unattended)?;
        let selector = args.selector.clone().context("there is nothing to run: no NAME is given")?;
        if args.follow && matches!(selector.version, Version::Number(_)) {
            bail!("`{selector}` never changes: `--follow` takes NAME or NAME@TAG");
        }
        let source = BucketSource::new(settings, selector.clone(), context.output.clone());
        run_from(context, &source, args.options(selector)).await
    }
}

impl Args {
    fn options(self, selector: Selector) -> RunOptions {
        RunOptions {
            selector,
            dir: self.dir,
            install_limit: Duration::from_secs(self.install_limit),
            ready_limit: Duration::from_secs(self.ready_limit),
            grace: Duration::from_secs(self.grace),
            release_limit: Duration::from_secs(self.release_limit),
            hold: self.hold,
            process: self.process,
            follow: self.follow,
            cache_dependencies: self.deps_cache,
        }
    }
}

async fn run_from(context: &Context, source: &impl Source, options: RunOptions) -> anyhow::Result<ExitCode> {
    match Box::pin(crate::run::run(&options, source, &context.environment, &context.output)).await {
        Ok(code) => Ok(ExitCode::from(code)),
        Err(error) => Ok(report(&context.output, &options, error)),
    }
}

/// A container's tree is ours, whatever its image put there; anybody else's folder is not, also where `download` made it: what a
/// person has changed in it since would be overwritten.
fn refuse_foreign(dir: &Path) -> Result<(), SourceError> {
    let (own, mark) = (dir.join(STATE_DIRECTORY), dir.join(STATE_DIRECTORY).join(OWNED));
    if mark.exists() || std::process::id() == 1 {
        return Ok(());
    }
    if std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(SourceError::Refused(anyhow::anyhow!(
            "`{}` is not empty and `workspace run` did not make it: what it holds would be overwritten; name another `--dir`",
            dir.display()
        )));
    }
    let marked = std::fs::create_dir_all(&own).and_then(|()| std::fs::write(&mark, ""));
    marked.map_err(|error| {
        SourceError::Refused(anyhow::Error::new(error).context(format!("can't write to `{}`", dir.display())))
    })
}

/// Says which step failed, its last lines, what listens where, and the next command.
fn report(output: &Output, options: &RunOptions, error: RunError) -> ExitCode {
    let hint = error.hint(&options.selector.name);
    match error {
        // The store's own errors have codes and hints of their own.
        RunError::Fetch { selector, source } => {
            return failure::report(output, &source.context(format!("can't fetch `{selector}`")));
        }
        RunError::Step { .. } | RunError::NeverReady { .. } | RunError::NoStart { .. } | RunError::NoProcess { .. } => {
            say(output, &error, &options.selector.name);
        }
        other => {
            output.error(&anyhow::Error::new(other).context("can't run"), &[]);
            if !hint.is_empty() {
                output.hint(&hint);
            }
        }
    }
    Exit::Failure.into()
}
