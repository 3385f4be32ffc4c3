//! `workspace compose`: a Docker Compose file for one workspace or several.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use crate::cli::Context;
use crate::compose::{Application, ComposeOptions, Keys, MADE_BY, Store as ContainerStore, dns_label, render};
use crate::failure::{Exit, ForeignFile};
use crate::format;
use crate::names::{Selector, Version};
use crate::settings::{Backend, Purpose, Settings};
use crate::store::Store;
use crate::version;

/// Write a Docker Compose file that runs workspaces
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  workspace compose myapp -o app.yml      then: docker compose -f app.yml up --wait
  workspace compose myapp@7 --port 8080   version 7, on http://127.0.0.1:8080
  workspace compose api web -o all.yml    two workspaces, one project

NAME follows the newest version at each start, NAME@V pins one. Keys are written as references to variables
(S3_ACCESS_KEY, S3_SECRET_KEY), never as values: Compose takes them from the environment or from `.env`.")]
pub struct Args {
    /// NAME, NAME@7 or NAME@TAG
    #[arg(value_name = "NAME[@V]", required = true)]
    selectors: Vec<Selector>,
    /// Write to this file instead of stdout; an earlier one of this command is replaced
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The image, instead of `workspace-RUNTIME-s3:latest`
    #[arg(long)]
    image: Option<String>,
    /// Port on this machine's loopback; without it Docker chooses one
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Host name under which Traefik routes to it, instead of the `domains` in workspace.yaml
    #[arg(long, value_name = "HOST", value_parser = domain)]
    domain: Option<String>,
    /// An existing network to join as well, such as Traefik's; the `domains` in workspace.yaml are routed then
    #[arg(long)]
    network: Option<String>,
    /// Memory limit, such as `512m` [default: that of workspace.yaml, or 2g]
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// CPU limit, such as `1.5` [default: that of workspace.yaml, or none]
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<String>,
    /// While it runs, go on to every version that comes, in place: for developing
    #[arg(long)]
    follow: bool,
    /// A variable for the application: its value, or only its name to take it from where Compose runs
    #[arg(short, long = "env", value_name = "NAME[=VALUE]", value_parser = variable)]
    environment: Vec<(String, Option<String>)>,
}

fn domain(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
    if !text.is_empty() && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err("that is no host name".to_owned())
    }
}

fn variable(text: &str) -> Result<(String, Option<String>), String> {
    let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value.to_owned())));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.is_empty() || !name.bytes().all(plain) {
        return Err("a name is made of letters, digits and `_`".to_owned());
    }
    Ok((name.to_owned(), value))
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let (settings, store) = context.store(Purpose::Interactive).await?;
    let applications =
        futures::future::try_join_all(args.selectors.iter().map(|selector| look_up(&store, selector))).await?;
    let options = ComposeOptions {
        image: args.image,
        port: args.port,
        domain: args.domain,
        network: args.network,
        memory: args.memory,
        cpus: args.cpus,
        follow: args.follow,
        environment: args.environment.into_iter().collect::<BTreeMap<_, _>>(),
        cdn: settings.cdn.as_ref().map(ToString::to_string),
        ca_bundle: settings.store.ca_bundle.clone().map(std::path::absolute).transpose()?,
    };
    let rendered = render(&applications, &seen_by_containers(context, &settings), &options)?;
    for warning in &rendered.warnings {
        context.output.warn(warning);
    }
    for application in &applications {
        let Selector { name, version } = &application.selector;
        match version {
            _ if options.follow => {
                context.output.note(&format!("{}: follows every version while it runs", application.selector));
            }
            Version::Current => {
                let number = application.number;
                context.output.note(&format!(
                    "{name}: follows the newest version at each start (now {number}); pin it with `{name}@{number}`"
                ));
            }
            Version::Number(number) => context.output.note(&format!("{name}: pinned to version {number}")),
            Version::Tag(tag) => context.output.note(&format!(
                "{name}@{tag}: pinned to version {}, which `{tag}` names now; `--follow` goes with the tag",
                application.number
            )),
        }
    }
    let Some(file) = args.output else {
        context.output.data(rendered.text.trim_end());
        return Ok(Exit::Success.into());
    };
    if let Some(there) = read_file(&file)?
        && !there.starts_with(MADE_BY.as_bytes())
    {
        return Err(ForeignFile { path: file }.into());
    }
    std::fs::write(&file, &rendered.text).with_context(|| format!("can't write `{}`", file.display()))?;
    let shown = file.display();
    context.output.note(&format!("Wrote {shown}. Start it: docker compose -f {shown} up --wait"));
    if let ([one], None) = (&applications[..], options.port) {
        let port = one.plan.as_ref().map_or(0, |plan| plan.port);
        let service = dns_label(&one.selector.name);
        context.output.note(&format!("Its address then: docker compose -f {shown} port {service} {port}"));
    }
    Ok(Exit::Success.into())
}

/// What is in a file, if it is one: a pipe or a device is only written.
fn read_file(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    if !path.is_file() {
        return Ok(None);
    }
    std::fs::read(path).map(Some).with_context(|| format!("can't read `{}`", path.display()))
}

/// The ref, and the first line of the manifest: two small requests.
async fn look_up(store: &Store, selector: &Selector) -> anyhow::Result<Application> {
    let read = version::existing_reference(store, &selector.name).await?;
    let row = version::select(&read.reference, selector)?;
    let keys = format::Keys::new(&selector.name, read.reference.root);
    let header = version::load_header(store, &keys, row).await?;
    Ok(Application { selector: selector.clone(), number: row.number, plan: header.plan })
}

fn seen_by_containers(context: &Context, settings: &Settings) -> ContainerStore {
    let bucket = Some(settings.store.bucket.clone());
    let container_endpoint = settings.container_endpoint.clone();
    match &settings.store.backend {
        Backend::S3(s3) => ContainerStore {
            endpoint: s3.endpoint.clone(),
            container_endpoint,
            bucket,
            region: s3.region.clone(),
            keys: if s3.keys.is_some() {
                Keys::S3
            } else if context.environment.get("AWS_ACCESS_KEY_ID").is_some() {
                Keys::Aws
            } else {
                Keys::Role
            },
        },
        Backend::Embedded { .. } => {
            context.output.warn(
                "the store is this machine's own: containers reach it only while `workspace serve` runs, with the keys that it \
                 shows in S3_ACCESS_KEY and S3_SECRET_KEY",
            );
            ContainerStore {
                endpoint: Some(format!("http://127.0.0.1:{}", crate::embedded::server::DEFAULT_PORT)),
                container_endpoint,
                bucket,
                region: None,
                keys: Keys::S3,
            }
        }
    }
}
