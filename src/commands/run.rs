//! `workspace run`: a container's first process.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;

use crate::budget::Budget;
use crate::cache::Cache;
use crate::checkout::{CheckoutError, CheckoutOptions, Fetcher};
use crate::cli::Context;
use crate::environment::{WORKSPACE_INSTALL_LIMIT, WORKSPACE_NAME, WORKSPACE_READY_LIMIT, WORKSPACE_STOP_GRACE};
use crate::failure::{self, Exit};
use crate::format::Keys;
use crate::format::tree::STATE_DIRECTORY;
use crate::names::{Selector, Version};
use crate::output::Output;
use crate::run::{Resolved, RunError, RunOptions, Source, SourceError};
use crate::settings::{Purpose, Settings};
use crate::store::Store;
use crate::version::{self, VersionError};

/// Fetch a version, install it, start it: what a container's first process does
///
/// Ends with the application's own exit code. Of the environment, the application gets everything but this program's
/// settings (`S3_*`, `AWS_*`, `WORKSPACE_*`, `STORAGE_MODE`), and PORT and HOST.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  workspace run myapp                the newest version at each start
  workspace run myapp@7              always version 7
  workspace run myapp --dir ./try    outside a container; the folder belongs to `run`")]
pub struct Args {
    /// NAME for the newest version, NAME@7 or NAME@TAG for one
    #[arg(value_name = "NAME[@V]", env = WORKSPACE_NAME)]
    selector: Selector,
    /// Where the tree goes; overwritten, and what isn't in the version may be deleted
    #[arg(long, value_name = "DIR", default_value = "/app")]
    dir: PathBuf,
    /// How long install and build may take
    #[arg(long, value_name = "SECONDS", default_value_t = 600, env = WORKSPACE_INSTALL_LIMIT)]
    install_limit: u64,
    /// How long it may take to answer once started
    #[arg(long, value_name = "SECONDS", default_value_t = 60, env = WORKSPACE_READY_LIMIT)]
    ready_limit: u64,
    /// How long it may take to end once asked to
    #[arg(long, value_name = "SECONDS", default_value_t = 10, env = WORKSPACE_STOP_GRACE)]
    grace: u64,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    crate::run::hide_memory();
    let settings = context.settings(Purpose::Unattended)?;
    let options = RunOptions {
        selector: args.selector,
        dir: args.dir,
        install_limit: Duration::from_secs(args.install_limit),
        ready_limit: Duration::from_secs(args.ready_limit),
        grace: Duration::from_secs(args.grace),
    };
    let source = BucketSource { settings, selector: options.selector.clone(), output: context.output.clone() };
    match Box::pin(crate::run::run(&options, &source, &context.environment, &context.output)).await {
        Ok(code) => Ok(ExitCode::from(code)),
        Err(error) => Ok(report(&context.output, &options, error)),
    }
}

/// Versions from the bucket that the settings name.
struct BucketSource {
    settings: Settings,
    selector: Selector,
    output: Output,
}

impl Source for BucketSource {
    async fn resolve(&self) -> Result<Resolved, SourceError> {
        let look = async {
            let store = Store::connect(&self.settings.store).await?;
            let read = version::existing_reference(&store, &self.selector.name).await?;
            let row = version::select(&read.reference, &self.selector)?.clone();
            let keys = Keys::new(&self.selector.name, read.reference.root);
            let header = version::load_header(&store, &keys, &row).await?;
            Ok::<_, VersionError>(Resolved { number: row.number, row: row.id.to_string(), plan: header.plan })
        };
        Box::pin(look).await.map_err(|error| match error {
            // Gone on purpose: what was fetched earlier is not meant to run any more.
            VersionError::NoWorkspace { .. } | VersionError::NoVersion { .. } => SourceError::Refused(error.into()),
            // An outage, expired keys, a damaged object: none is a reason not to start what is here.
            VersionError::Store(_) | VersionError::Object { .. } => SourceError::Unavailable(error.into()),
        })
    }

    async fn fetch(&self, version: &Resolved, dir: &Path) -> Result<(), SourceError> {
        // A container's tree is ours, whatever its image put there; anybody else's folder is not.
        let foreign = std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
            && !dir.join(STATE_DIRECTORY).exists();
        if foreign && std::process::id() != 1 {
            return Err(SourceError::Refused(anyhow::anyhow!(
                "`{}` is not empty and `workspace run` did not make it: what it holds would be overwritten; name another `--dir`",
                dir.display()
            )));
        }
        let fetch = async {
            let store = Store::connect(&self.settings.store).await?;
            let fetcher = Fetcher {
                store: &store,
                cache: &Cache::at(self.settings.cache_directory.clone()),
                budget: &Budget::default(),
                observer: self.output.observer(),
            };
            // By its number, so that a version published meanwhile doesn't come with this one's plan.
            let selector = Selector { name: self.selector.name.clone(), version: Version::Number(version.number) };
            let report = Box::pin(fetcher.checkout(&selector, dir, CheckoutOptions::owned())).await?;
            Ok::<_, CheckoutError>(report)
        };
        let report = Box::pin(fetch).await.map_err(|error| SourceError::Refused(error.into()))?;
        if report.row.id.to_string() != version.row {
            return Err(SourceError::Refused(anyhow::anyhow!("the workspace was deleted and made anew meanwhile")));
        }
        Ok(())
    }
}

/// Says which step failed, its last lines, what listens where, and the next command.
fn report(output: &Output, options: &RunOptions, error: RunError) -> ExitCode {
    let name = &options.selector.name;
    match error {
        // The store's own errors have codes and hints of their own.
        RunError::Fetch { selector, source } => {
            return failure::report(output, &source.context(format!("can't fetch `{selector}`")));
        }
        RunError::Step { ref tail, .. } => {
            output.error(&anyhow::anyhow!("{error}"), &[]);
            if !tail.is_empty() {
                output.note("its last lines:");
                for line in tail {
                    output.note(&format!("  | {}", crate::output::escape(line)));
                }
            }
            let certificates =
                ["SELF_SIGNED_CERT", "UNABLE_TO_GET_ISSUER", "UNABLE_TO_VERIFY", "CERTIFICATE_VERIFY_FAILED"];
            if tail.iter().any(|line| certificates.iter().any(|sign| line.contains(sign))) {
                output.hint(&format!(
                    "a TLS proxy stands in between: set WORKSPACE_CA_BUNDLE to its certificates, then `workspace compose {name}` again"
                ));
            } else {
                output.hint(&format!("try the command where you uploaded from, then `workspace upload {name}` again"));
            }
        }
        RunError::NeverReady { ref listening, .. } => {
            output.error(&anyhow::anyhow!("{error}"), &[]);
            if let Some(listening) = listening {
                output.note(listening);
            }
            output.hint("listen on the port in PORT, on the address in HOST; `port:` and `health:` in workspace.yaml change what is asked");
        }
        RunError::NoStart { .. } => {
            output.error(&anyhow::anyhow!("{error}"), &[]);
            output.hint("add a `start` script to package.json, or `start:` to workspace.yaml, and upload again");
        }
        other => {
            let outcome: anyhow::Result<()> = Err(other).context("can't run");
            if let Err(error) = outcome {
                output.error(&error, &[]);
            }
        }
    }
    Exit::Failure.into()
}
