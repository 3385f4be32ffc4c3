//! `workspace proceed`: tells the held run in this container to go on.

use std::process::ExitCode;

use crate::cli::Context;
use crate::failure::Exit;
use crate::run::state::StateDir;
use crate::run::{Order, hide_memory, proceed};

/// Tell the run in this container, which was started with `WORKSPACE_HOLD=1`, to go on
///
/// For whoever started the container, by `docker exec`. Ends with 0 once the run follows.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to go on with
    order: Word,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Word {
    /// Run the release command, then wait again
    Release,
    /// Start the application
    Start,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<ExitCode> {
    hide_memory();
    let order = match args.order {
        Word::Release => Order::Release,
        Word::Start => Order::Start,
    };
    proceed(&StateDir::of(&context.environment), order).await?;
    Ok(Exit::Success.into())
}
