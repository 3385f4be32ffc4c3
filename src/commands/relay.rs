//! `workspace relay`: one port of a host that leads to whichever release is live.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Context;
use crate::failure::Exit;
use crate::relay::{Targets, listen, serve};

const DEFAULT_PORT: u16 = 8080;

/// Pass TCP connections on to the targets that a file names
///
/// For hosts without a router. The file is `{"targets":["HOST:PORT", …]}` and may be replaced at any time: connections
/// that begin afterwards go to the new targets, in turn, past those that don't accept.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address to listen on; without it any, on port 8080
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Where connections go
    #[arg(long, value_name = "FILE", default_value = "/route.json")]
    target_file: PathBuf,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    // Before the socket, so that no signal is missed in between.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = listen(args.listen, DEFAULT_PORT).await.with_context(|| match args.listen {
        Some(address) => format!("can't listen on {address}"),
        None => format!("can't listen on port {DEFAULT_PORT}"),
    })?;
    let output = &context.output;
    output.data(&format!("LISTEN={}", listener.local_addr()?));
    output.note(&format!("Passing connections on as `{}` says; Ctrl-C stops it", args.target_file.display()));
    let stop = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        output.note("Stopping");
    };
    let left = serve(listener, Arc::new(Targets::of(&args.target_file)), stop).await;
    if left > 0 {
        output.warn(&format!("{left} connections were cut off"));
    }
    Ok(Exit::Success.into())
}
