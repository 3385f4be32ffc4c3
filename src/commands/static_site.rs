//! `workspace static`: a folder of files over HTTP.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Context;
use crate::environment::{HOST, PORT};
use crate::failure::Exit;
use crate::settings::SettingsError;
use crate::static_site::{Server, Site, bind};

const DEFAULT_HOST: &str = "0.0.0.0";
const DEFAULT_PORT: u16 = 8080;

/// Serve a folder of files over HTTP
///
/// With index pages, conditional requests, ranges and compression. What begins with a dot is hidden, except `.well-known`.
/// A `404.html` in the folder answers addresses that it doesn't have.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  workspace static public                 on port 8080, or on $HOST and $PORT
  workspace static dist --spa             an application that finds its way in the browser")]
pub struct Args {
    /// The folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Answer pages that are not there with the folder's `index.html`
    #[arg(long)]
    spa: bool,
    /// Address to listen on, such as `127.0.0.1:8080` [env: `HOST` and `PORT`]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let (host, port) = match args.listen {
        Some(address) => (address.ip().to_string(), address.port()),
        None => from_environment(context)?,
    };
    let folder = args.folder.display().to_string();
    let site = Site::open(&args.folder, args.spa).with_context(|| format!("can't serve `{folder}`"))?;
    // Before the socket, so that no signal is missed in between.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = bind(&host, port).await.with_context(|| format!("can't listen on port {port} of `{host}`"))?;
    let server = Server::new(listener, site);
    context.output.note(&format!("Serving `{folder}` on http://{}", server.address()?));
    server
        .run(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        })
        .await;
    Ok(Exit::Success.into())
}

fn from_environment(context: &Context) -> Result<(String, u16), SettingsError> {
    let host = context.environment.get(HOST).filter(|host| !host.is_empty()).unwrap_or(DEFAULT_HOST);
    let port = match context.environment.get(PORT).filter(|port| !port.is_empty()) {
        None => DEFAULT_PORT,
        Some(port) => port.parse().map_err(|_| SettingsError::Invalid {
            name: PORT.to_owned(),
            place: "the environment".to_owned(),
            reason: format!("`{port}` is not a port"),
        })?,
    };
    Ok((host.to_owned(), port))
}
