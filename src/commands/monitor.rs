//! `workspace monitor`: makes what runs on this host equal to what the bucket says.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::duration;
use crate::cache::Cache;
use crate::cli::Context;
use crate::compose::seen_from_container;
use crate::embedded::Embedded;
use crate::embedded::server::{DEFAULT_PORT, ServeError, Server, docker_gateway};
use crate::engine::{Compose, Engine};
use crate::environment::{WORKSPACE_DOMAIN, WORKSPACE_TRAEFIK_PORT, WORKSPACE_TRAEFIK_ROUTES, WORKSPACE_TRAEFIK_URL};
use crate::failure::Exit;
use crate::format::host::{HostPhase, Managed};
use crate::monitor::{Collecting, DryRun, Endpoint, Limits, Monitor, MonitorError, Options, Surroundings, Traefik};
use crate::names::Pattern;
use crate::output::LogFormat;
use crate::settings::{Backend, Purpose, Settings};
use crate::store::Store;

/// Keep what runs on this host as the bucket says
///
/// Looks at the bucket every few seconds and releases what changed: each release is fetched, installed, started and probed
/// beside the one that is live, gets the traffic only when it answers, and goes back when it fails. Needs Docker's socket
/// and Docker Compose. Only one monitor works on a Docker Engine.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  workspace monitor                          everything in the bucket
  workspace monitor --only 'shop-*' --only blog@staging
  workspace monitor --dry-run                what would be done now, and why
  workspace monitor --once                   until everything is as the bucket says, then end

With WORKSPACE_TRAEFIK_ROUTES, traffic comes through Traefik (docker-compose.yml sets both up); without, each workspace has a
port on 127.0.0.1 that stays the same. `workspace status` shows how things stand, from anywhere.")]
pub struct Args {
    /// Only these: NAME, NAME@TAG or a pattern with `*`; may be given more than once
    #[arg(long, value_name = "NAME|NAME@TAG|PATTERN")]
    only: Vec<Pattern>,
    /// For developing: what is live goes on to every version in its own containers, as `compose --follow` does; NAME or a
    /// pattern, may be given more than once
    #[arg(long, value_name = "NAME|PATTERN", conflicts_with = "once")]
    follow: Vec<Pattern>,
    /// Seconds between two looks at the bucket
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    interval: u64,
    /// End as soon as everything is as the bucket says, or has failed
    #[arg(long)]
    once: bool,
    /// Show the steps and their causes; change nothing
    #[arg(long, conflicts_with = "once")]
    dry_run: bool,
    /// Where `/healthz` and `/metrics` are served: 127.0.0.1:9191, in a container 0.0.0.0:9191
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// How log lines are written
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// How long install and build of a release may take
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    install_limit: u64,
    /// How long a started release may take to answer
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    ready_limit: u64,
    /// How long a release has to answer before it gets traffic
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    soak: u64,
    /// How long the release before has to finish what it began
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    drain: u64,
    /// How long the release before is kept to go back to
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    watch: u64,
    /// How long the addresses work by which containers fetch; renewed after half of it
    #[arg(long, value_name = "SECONDS", default_value_t = 43_200, value_parser = clap::value_parser!(u64).range(60..=604_800))]
    grant_lifetime: u64,
    /// How often what no version needs is deleted, as `workspace gc` does; `0s`: never
    #[arg(long, value_name = "DURATION", default_value = "1d", value_parser = duration::any)]
    gc_interval: Duration,
    /// How long something has to be unneeded before that
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration::any)]
    gc_grace: Duration,
    /// One document of JSON on stdout, with `--once` or `--dry-run`
    #[arg(long)]
    json: bool,
}

/// Where it can be asked, unless told otherwise.
const LISTEN: ([u8; 4], u16) = ([127, 0, 0, 1], 9191);
/// The same in a container, whose own loopback nobody reaches.
const LISTEN_IN_CONTAINER: ([u8; 4], u16) = ([0, 0, 0, 0], 9191);

/// Between two tries to begin, at least.
const PAUSE: Duration = Duration::from_secs(2);

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    // Before anything begins, so that no signal is missed.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stopping.cancel();
    });
    let settings = context.settings(Purpose::Unattended)?;
    let served = serve_embedded(context, &settings, &stop).await?;
    let store = Store::connect(&settings.store).await?;
    let endpoint = container_endpoint(&settings);
    let presigner = match &endpoint {
        Some(endpoint) => Store::connect(&settings.store.seen_from(endpoint)?).await?,
        None => store.clone(),
    };
    let engine = Engine::connect(&context.environment).await?;
    let compose = Compose::find(&context.environment, engine.socket()).await?;
    let ca_bundle = match &settings.store.ca_bundle {
        Some(path) => Some(std::fs::read(path).with_context(|| format!("can't read `{}`", path.display()))?),
        None => None,
    };
    let in_container = std::path::Path::new("/.dockerenv").exists();
    let default_address = SocketAddr::from(if in_container { LISTEN_IN_CONTAINER } else { LISTEN });
    let patient = !args.once && !args.dry_run;
    let asked = if patient { Some(Endpoint::listen(args.listen.unwrap_or(default_address)).await?) } else { None };
    let options = Options {
        only: args.only,
        follow: args.follow,
        interval: Duration::from_secs(args.interval),
        limits: Limits {
            ready: Duration::from_secs(args.ready_limit),
            soak: Duration::from_secs(args.soak),
            drain: Duration::from_secs(args.drain),
            watch: Duration::from_secs(args.watch),
            // Fetching has as long as installing.
            prepare: Duration::from_secs(2 * args.install_limit + 60),
        },
        install_limit: args.install_limit,
        grant_lifetime: Duration::from_secs(args.grant_lifetime),
        traefik: traefik(context)?,
        ca_bundle,
        cdn: settings.cdn.as_ref().map(ToString::to_string),
        secrets: context.secrets()?,
        collecting: (!args.gc_interval.is_zero())
            .then_some(Collecting { every: args.gc_interval, grace: args.gc_grace }),
    };
    let router = match &options.traefik {
        Some(traefik) => format!("Traefik, by files in {}", traefik.directory.display()),
        None => "ports on 127.0.0.1".to_owned(),
    };
    tracing::info!(
        store = %store.location(),
        seen_by_containers = endpoint.as_deref().unwrap_or("the same"),
        engine = engine.version(),
        host = engine.hostname(),
        compose = %format!("{} {}", compose.name(), compose.version()),
        router = %router,
        "monitor"
    );
    let cache = Cache::at(settings.cache_directory.clone());
    let with = Surroundings { store, presigner, cache, engine, compose };
    let Some(monitor) = begin(options, with, &stop, args.dry_run, asked.as_ref()).await? else {
        tracing::info!("stopped");
        return Ok(Exit::Success.into());
    };
    if args.dry_run {
        let runs = monitor.dry_run().await?;
        context.output.note(&format!("Traffic: {router}"));
        let shown = show_dry_run(context, &runs, args.json)?;
        return Ok(if say_unmatched(context, &monitor) { Exit::NotFound.into() } else { shown });
    }
    let outcome = if args.once { monitor.once().await.map(Some) } else { monitor.run().await.map(|()| None) };
    monitor.end().await;
    drop(served);
    let interrupted = stop.is_cancelled();
    let Some(passed) = outcome? else {
        tracing::info!("stopped; what runs here runs on");
        return Ok(Exit::Success.into());
    };
    if args.json {
        context.output.json(&passed)?;
    }
    let mut failed = false;
    for (name, managed) in &passed.workspaces {
        failed |= show_one(context, name.as_str(), managed);
    }
    let missing = say_unmatched(context, &monitor);
    let exit = match (interrupted, failed, missing) {
        (true, ..) => Exit::Interrupted,
        (false, true, _) => Exit::Failure,
        (false, false, true) => Exit::NotFound,
        (false, false, false) => Exit::Success,
    };
    Ok(exit.into())
}

/// Takes hold of the Engine; with an endpoint, waits for a store that is away and for the first upload. `None`: told to stop
/// meanwhile.
async fn begin(
    options: Options,
    with: Surroundings,
    stop: &CancellationToken,
    look_only: bool,
    endpoint: Option<&Endpoint>,
) -> Result<Option<Arc<Monitor>>, MonitorError> {
    let mut told = String::new();
    loop {
        match (Monitor::begin(options.clone(), with.clone(), stop.clone(), look_only).await, endpoint) {
            (Err(error), Some(endpoint)) if error.may_pass() => {
                endpoint.waits(&error);
                let text = error.to_string();
                if told != text {
                    tracing::warn!("waiting: {text}");
                    told = text;
                }
            }
            (Ok(monitor), endpoint) => {
                if let Some(endpoint) = endpoint {
                    endpoint.answers_for(&monitor);
                }
                return Ok(Some(monitor));
            }
            (Err(error), _) => return Err(error),
        }
        tokio::select! {
            () = tokio::time::sleep(options.interval.max(PAUSE)) => {}
            () = stop.cancelled() => return Ok(None),
        }
    }
}

/// The store on this machine has to be reached by containers, so it is served as long as the monitor works.
async fn serve_embedded(
    context: &Context,
    settings: &Settings,
    stop: &CancellationToken,
) -> anyhow::Result<Option<tokio::task::JoinHandle<()>>> {
    let Backend::Embedded { directory } = &settings.store.backend else { return Ok(None) };
    let embedded = Embedded::open(directory)?;
    let hosts = [Some(std::net::IpAddr::from([127, 0, 0, 1])), docker_gateway()];
    let addresses: Vec<SocketAddr> =
        hosts.into_iter().flatten().map(|host| SocketAddr::new(host, DEFAULT_PORT)).collect();
    match Server::bind(&embedded, &addresses).await {
        Ok(server) => {
            let stop = stop.clone();
            Ok(Some(tokio::spawn(async move { server.run(async move { stop.cancelled().await }).await })))
        }
        Err(ServeError::Bind { source, .. }) if source.kind() == std::io::ErrorKind::AddrInUse => {
            context.output.note(&format!("Port {DEFAULT_PORT} is taken: most likely `workspace serve` has it already"));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// The store's address as containers see it. `None`: the same as here.
fn container_endpoint(settings: &Settings) -> Option<String> {
    if let Some(endpoint) = &settings.container_endpoint {
        return Some(endpoint.clone());
    }
    match &settings.store.backend {
        Backend::Embedded { .. } => Some(format!("http://host.docker.internal:{DEFAULT_PORT}")),
        Backend::S3(s3) => {
            let endpoint = s3.endpoint.as_ref()?;
            let seen = seen_from_container(endpoint);
            (seen != *endpoint).then_some(seen)
        }
    }
}

fn traefik(context: &Context) -> anyhow::Result<Option<Traefik>> {
    let Some(directory) = context.environment.path(WORKSPACE_TRAEFIK_ROUTES) else { return Ok(None) };
    let port = context.environment.get(WORKSPACE_TRAEFIK_PORT).unwrap_or("80");
    let port = port.parse().with_context(|| format!("{WORKSPACE_TRAEFIK_PORT}: `{port}` is no port"))?;
    let url = context.environment.get(WORKSPACE_TRAEFIK_URL).unwrap_or("http://127.0.0.1:8082");
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    let confirm = if address.contains(':') { address.to_owned() } else { format!("{address}:80") };
    let pattern = context.environment.get(WORKSPACE_DOMAIN).unwrap_or("{name}.localhost");
    let pattern = Some(pattern.to_owned()).filter(|pattern| !pattern.is_empty());
    Ok(Some(Traefik { directory, confirm, pattern, port }))
}

/// Says what of `--only` matches nothing. True: one of them is a name, which must be there.
fn say_unmatched(context: &Context, monitor: &Monitor) -> bool {
    let unmatched = monitor.unmatched();
    for pattern in &unmatched {
        context
            .output
            .warn(&format!("nothing in the bucket matches `{pattern}`; `workspace list` shows what there is"));
    }
    unmatched.iter().any(Pattern::is_one)
}

fn show_dry_run(context: &Context, runs: &[DryRun], json: bool) -> anyhow::Result<ExitCode> {
    if json {
        context.output.json(&runs)?;
        return Ok(Exit::Success.into());
    }
    if runs.is_empty() {
        context.output.note("Nothing to do: the bucket has no workspaces, and none runs here");
    }
    for run in runs {
        context.output.data(&format!("{}: {} ({})", run.name, run.phase.as_str(), run.cause));
        for (step, cause) in &run.steps {
            context.output.data(&format!("  {step}: {cause}"));
        }
    }
    Ok(Exit::Success.into())
}

/// Says how one workspace stands after a pass. True: it failed.
fn show_one(context: &Context, name: &str, managed: &Managed) -> bool {
    let live =
        managed.live.as_ref().map_or_else(|| "nothing".to_owned(), |live| format!("version {}", live.row.number));
    let addresses = managed.addresses.join(" ");
    context.output.note(format!("{name}: {} ({live} live) {addresses}", managed.phase.as_str()).trim_end());
    if managed.failure.is_none() && matches!(managed.phase, HostPhase::Waiting | HostPhase::Failed) {
        context.output.note(&crate::output::escape(&format!("  {}", managed.cause)));
    }
    if let Some(failure) = &managed.failure {
        context.output.note(&format!("  version {} failed in {}: {}", failure.number, failure.step, failure.reason));
        for line in &failure.tail {
            context.output.note(&format!("  | {}", crate::output::escape(line)));
        }
        if let Some(listening) = &failure.listening {
            context.output.note(&format!("  listening: {listening}"));
        }
        if !failure.hint.is_empty() {
            context.output.hint(&failure.hint);
        }
    }
    !matches!(managed.phase, HostPhase::Live | HostPhase::Watch | HostPhase::Stopped | HostPhase::Stored)
}
