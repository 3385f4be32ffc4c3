//! `workspace serve`: the store on this machine, on a port.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Context;
use crate::embedded::server::{DEFAULT_PORT, Server, docker_gateway};
use crate::embedded::{Credentials, Embedded, credentials};
use crate::failure::Exit;
use crate::settings::Served;

/// Serve the store on this machine over the S3 protocol
///
/// Listens on 127.0.0.1 and, on Linux, on the address of Docker's bridge, so that containers reach it. Every request
/// must be signed: with `S3_ACCESS_KEY` and `S3_SECRET_KEY` if they are set, else with keys that are made up and kept.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address to listen on, such as `127.0.0.1:9900`; may be given more than once
    #[arg(long, value_name = "ADDR")]
    listen: Vec<SocketAddr>,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let Served { directory, keys } = context.served()?;
    let mut embedded = Embedded::open(&directory)?;
    let from_settings = keys.is_some();
    if let Some(keys) = keys {
        embedded = embedded.with_credentials(Credentials { access_key: keys.access_key, secret_key: keys.secret_key });
    }
    // Before the sockets, so that no signal is missed in between.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let addresses = if args.listen.is_empty() { default_addresses() } else { args.listen };
    let server = Server::bind(&embedded, &addresses).await?;

    let output = &context.output;
    output.note(&format!("Serving the store on this machine ({})", directory.display()));
    let kept = credentials::path_in(&directory);
    let mut lines: Vec<String> = server
        .addresses()
        .iter()
        .zip(["S3_ENDPOINT", "S3_CONTAINER_ENDPOINT"])
        .map(|(address, name)| format!("{name}=http://{address}"))
        .collect();
    lines.push(format!("S3_ACCESS_KEY={}", embedded.credentials().access_key));
    let secret = if from_settings {
        "S3_SECRET_KEY is the one of the settings".to_owned()
    } else if embedded.has_new_credentials() {
        lines.push(format!("S3_SECRET_KEY={}", embedded.credentials().secret_key.expose()));
        format!("The secret key is shown this once; it is kept in {}", kept.display())
    } else {
        format!("S3_SECRET_KEY is in {}", kept.display())
    };
    // As one piece: a script that has read the first line may close its end, and printing into that ends a process.
    output.data(&lines.join("\n"));
    output.note(&secret);
    output.note("Ready; Ctrl-C stops it");

    server
        .run(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            output.note("Stopping");
        })
        .await;
    Ok(Exit::Success.into())
}

fn default_addresses() -> Vec<SocketAddr> {
    let hosts = [Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), docker_gateway()];
    hosts.into_iter().flatten().map(|host| SocketAddr::new(host, DEFAULT_PORT)).collect()
}
