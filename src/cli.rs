//! The command line: what is common to all commands, and the way into each.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::budget;
use crate::commands;
use crate::environment::{self, Environment};
use crate::failure;
use crate::output::{self, ColorChoice, Output, OutputOptions};
use crate::secrecy;
use crate::settings::{self, EnvFile, Fetching, Purpose, Secrets, Served, Settings, SettingsError};
use crate::source::{GitPlaces, SourceOptions};
use crate::store::Store;

/// Ship a source tree to S3 and run it anywhere as an ephemeral container
#[derive(Debug, Parser)]
#[command(name = "workspace", version, max_term_width = 110, propagate_version = true, after_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Examples:
  workspace upload myapp .              upload this folder as the next version of `myapp`
  workspace list                        what there is
  workspace download myapp ./copy       fetch it
  workspace compose myapp -o app.yml    then: docker compose -f app.yml up --wait

With nothing configured, a store on this machine is used. For S3, set S3_ENDPOINT or S3_BUCKET (see .env.example).";

/// Flags that every command takes.
#[derive(Debug, Clone, Default, Args)]
pub struct Global {
    /// Print errors, warnings and asked-for data only
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub quiet: bool,
    /// Say more; twice: log every request
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    pub verbose: u8,
    /// When to colour
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN", help_heading = "Global options")]
    pub color: ColorChoice,
    /// Draw no progress bar
    #[arg(long, global = true, help_heading = "Global options")]
    pub no_progress: bool,
    /// Read settings from this file instead of `.env`
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub env_file: Option<PathBuf>,
    /// S3 endpoint, such as `http://127.0.0.1:9000` [env: `S3_ENDPOINT`]
    #[arg(long, global = true, value_name = "URL", help_heading = "Global options")]
    pub endpoint: Option<String>,
    /// Bucket [env: `S3_BUCKET`]
    #[arg(long, global = true, value_name = "NAME", help_heading = "Global options")]
    pub bucket: Option<String>,
    /// Region [env: `S3_REGION`]
    #[arg(long, global = true, value_name = "NAME", help_heading = "Global options")]
    pub region: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Upload(commands::upload::Args),
    Sync(commands::sync::Args),
    List(commands::list::Args),
    Log(commands::log::Args),
    Show(commands::show::Args),
    Diff(commands::diff::Args),
    Download(commands::download::Args),
    Presign(commands::presign::Args),
    Tag(commands::tag::Args),
    Rollback(commands::rollback::Args),
    Delete(commands::delete::Args),
    Stop(commands::stop::Args),
    Start(commands::start::Args),
    Route(commands::route::Args),
    Retry(commands::retry::Args),
    ConfirmRemovals(commands::confirm_removals::Args),
    Lock(commands::lock::Args),
    Unlock(commands::unlock::Args),
    Gc(commands::gc::Args),
    Retention(commands::retention::Args),
    Verify(commands::verify::Args),
    Recover(commands::recover::Args),
    Init(commands::init::Args),
    Serve(commands::serve::Args),
    Plan(commands::plan::Args),
    Compose(commands::compose::Args),
    Monitor(commands::monitor::Args),
    Run(commands::run::Args),
    #[command(hide = true)]
    Proceed(commands::proceed::Args),
    #[command(hide = true)]
    Relay(commands::relay::Args),
    Static(commands::static_site::Args),
    Health(commands::health::Args),
    Status(commands::status::Args),
}

/// What every command is given.
#[derive(Debug, Clone)]
pub struct Context {
    /// Where to print.
    pub output: Output,
    /// The process's environment.
    pub environment: Environment,
    /// The global flags.
    pub global: Global,
}

impl Context {
    /// The settings, from the flags, the environment and `.env`.
    pub fn settings(&self, purpose: Purpose) -> Result<Settings, SettingsError> {
        let file = EnvFile::read(self.global.env_file.as_deref())?;
        settings::resolve(&self.global, &self.environment, &file, purpose)
    }

    /// What `workspace serve` serves.
    pub fn served(&self) -> Result<Served, SettingsError> {
        let file = EnvFile::read(self.global.env_file.as_deref())?;
        settings::resolve_served(&self.global, &self.environment, &file)
    }

    /// What applications may ask for by name.
    pub fn secrets(&self) -> Result<Secrets, SettingsError> {
        Ok(Secrets::of(&self.environment, &EnvFile::read(self.global.env_file.as_deref())?))
    }

    /// What bears on which files are source.
    pub fn source_options(&self, include_lock: bool) -> Result<SourceOptions, SettingsError> {
        let file = EnvFile::read(self.global.env_file.as_deref())?;
        let limits = settings::resolve_source_limits(&self.global, &self.environment, &file)?;
        Ok(SourceOptions { include_lock, limits, git: GitPlaces::of(&self.environment), ..SourceOptions::default() })
    }

    /// What counts beside a grant.
    pub fn fetching(&self) -> Result<Fetching, SettingsError> {
        let file = EnvFile::read(self.global.env_file.as_deref())?;
        settings::resolve_fetching(&self.global, &self.environment, &file)
    }

    /// The store that the settings name. No request is made to it.
    pub async fn store(&self, purpose: Purpose) -> anyhow::Result<(Settings, Store)> {
        let settings = self.settings(purpose)?;
        let store = Store::open(&settings).await?;
        Ok((settings, store))
    }
}

/// Parses, runs, reports.
pub fn main() -> ExitCode {
    secrecy::keep_memory_private();
    let cli = Cli::parse();
    let environment = Environment::of_process();
    let output = Output::new(
        OutputOptions {
            quiet: cli.global.quiet,
            verbose: cli.global.verbose,
            color: cli.global.color,
            no_progress: cli.global.no_progress,
        },
        &environment,
    );
    let format = match &cli.command {
        Command::Monitor(args) => Some(args.log_format),
        _ => None,
    };
    output::start_logging(cli.global.verbose, format, environment.get(environment::WORKSPACE_LOG), &output);
    let context = Context { output: output.clone(), environment, global: cli.global };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // Each thread that compresses keeps buffers: no more than the cores can use, and some that wait for a disk.
        .max_blocking_threads(2 * budget::threads() + 4)
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            return failure::report(&output, &anyhow::Error::new(error).context("can't start the I/O threads"));
        }
    };
    let outcome = runtime.block_on(dispatch(&context, cli.command));
    // A read that blocks forever must not keep a finished command from ending.
    runtime.shutdown_background();
    match outcome {
        Ok(code) => code,
        Err(error) => failure::report(&output, &error),
    }
}

async fn dispatch(context: &Context, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Upload(args) => commands::upload::run(context, args).await,
        Command::Sync(args) => commands::sync::run(context, args).await,
        Command::List(args) => commands::list::run(context, args).await,
        Command::Log(args) => commands::log::run(context, args).await,
        Command::Show(args) => commands::show::run(context, args).await,
        Command::Diff(args) => commands::diff::run(context, args).await,
        Command::Download(args) => commands::download::run(context, args).await,
        Command::Presign(args) => commands::presign::run(context, args).await,
        Command::Tag(args) => commands::tag::run(context, args).await,
        Command::Rollback(args) => commands::rollback::run(context, args).await,
        Command::Delete(args) => commands::delete::run(context, args).await,
        Command::Stop(args) => commands::stop::run(context, args).await,
        Command::Start(args) => commands::start::run(context, args).await,
        Command::Route(args) => commands::route::run(context, args).await,
        Command::Retry(args) => commands::retry::run(context, args).await,
        Command::ConfirmRemovals(args) => commands::confirm_removals::run(context, args).await,
        Command::Lock(args) => commands::lock::run(context, args).await,
        Command::Unlock(args) => commands::unlock::run(context, args).await,
        Command::Gc(args) => commands::gc::run(context, args).await,
        Command::Retention(args) => commands::retention::run(context, args).await,
        Command::Verify(args) => commands::verify::run(context, args).await,
        Command::Recover(args) => commands::recover::run(context, args).await,
        Command::Init(args) => commands::init::run(context, args).await,
        Command::Serve(args) => commands::serve::run(context, args).await,
        Command::Plan(args) => commands::plan::run(context, args).await,
        Command::Compose(args) => commands::compose::run(context, args).await,
        Command::Monitor(args) => commands::monitor::run(context, args).await,
        Command::Run(args) => commands::run::run(context, args).await,
        Command::Proceed(args) => commands::proceed::run(context, args).await,
        Command::Relay(args) => commands::relay::run(context, args).await,
        Command::Static(args) => commands::static_site::run(context, args).await,
        Command::Health(args) => commands::health::run(context, args).await,
        Command::Status(args) => commands::status::run(context, args).await,
    }
}
