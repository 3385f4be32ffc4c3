//! What `stop`, `start`, `route` and `retry` share: a field of the ref is changed, nothing is published.

use crate::cache::Cache;
use crate::cli::Context;
use crate::names::WorkspaceName;
use crate::publish;
use crate::settings::Purpose;
use crate::store::Store;
use crate::store::bucket::WriteConsent;
use crate::version;

/// The flags that they have in common.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct DecisionArgs {
    /// Write to a server without conditional writes: nobody else writes at the same time
    #[arg(long)]
    single_writer: bool,
    /// One document of JSON on stdout
    #[arg(long)]
    pub json: bool,
}

/// The store, ready to be written to, once all the names are known to be there: a mistake in one changes none.
pub async fn open(context: &Context, args: DecisionArgs, names: &[WorkspaceName]) -> anyhow::Result<Store> {
    let (settings, store) = context.store(Purpose::Interactive).await?;
    for name in names {
        version::existing_reference(&store, name).await?;
    }
    let cache = Cache::at(settings.cache_directory);
    let consent = WriteConsent { yes: false, single_writer: args.single_writer, ask: &|_| false };
    publish::open_known(&store, &cache, &consent).await?;
    Ok(store)
}
