//! `workspace upload --watch`: one line for every save.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde::Serialize;

use crate::budget::Budget;
use crate::cache::Cache;
use crate::cli::Context;
use crate::commands::interrupt;
use crate::commands::publication::{self, Report, SourceArgs};
use crate::failure::Exit;
use crate::output::{Observer, Output, Phase, count, escape, size};
use crate::publish::{self, Publication, Publisher};
use crate::settings::Purpose;
use crate::source::Provenance;
use crate::store::Store;
use crate::store::bucket::WriteConsent;
use crate::watch::{Changed, Teller, Watch};

/// Runs until Ctrl-C, or until somebody else publishes the same workspace.
pub async fn run(context: &Context, publication: Publication, args: &SourceArgs) -> anyhow::Result<ExitCode> {
    let output = &context.output;
    let (settings, store) = context.store(Purpose::Interactive).await?;
    let ask = |question: &str| !context.environment.is_ci() && output.confirm(question);
    let committing = Arc::new(AtomicBool::new(false));
    let cache = Cache::at(settings.cache_directory);
    let publisher = Publisher {
        store: &store,
        cache: &cache,
        budget: &Budget::default(),
        observer: Arc::new(Quiet(output.clone())),
        consent: WriteConsent { yes: args.writer.yes, single_writer: args.writer.single_writer, ask: &ask },
        committing: committing.clone(),
    };
    let folder = publication.folder.clone();
    let provenance = || Provenance::of(&folder, &context.environment);
    let teller = Lines { context, store: &store, json: args.json };
    let name = publication.name.clone();
    let watch = Watch { publisher: &publisher, publication, cache: &cache, teller: &teller, provenance: &provenance };
    match interrupt::between(context, &committing, watch.run()).await {
        None => {
            output.note(&format!("No longer watching; `workspace list` shows where {name} is"));
            Ok(Exit::Interrupted.into())
        }
        Some(Err(error)) => Err(error.into()),
        Some(Ok(never)) => match never {},
    }
}

/// Passes on what ought to be looked at: progress is a line for each version.
struct Quiet(Output);

impl Observer for Quiet {
    fn phase(&self, _: Phase) {}
    fn advance(&self, _: u64) {}
    fn warn(&self, text: &str) {
        self.0.warn(text);
    }
    fn note(&self, text: &str) {
        self.0.note(text);
    }
    fn finish(&self) {}
}

/// Says one line for each version.
struct Lines<'a> {
    context: &'a Context,
    store: &'a Store,
    json: bool,
}

/// A version made by a save, for programs: these fields are an interface.
#[derive(Debug, Serialize)]
struct Saved {
    #[serde(flatten)]
    report: Report,
    /// How many paths were changed, made or removed.
    changed: usize,
    /// The first of them.
    paths: Vec<String>,
}

impl Lines<'_> {
    fn json(&self, report: &publish::Report, changed: &Changed, after: Duration) {
        let report = Report::new(report, self.store, after.as_secs_f64(), None);
        let saved = Saved { report, changed: changed.count, paths: changed.some.clone() };
        // Whoever read this has gone: the next write to anywhere will tell.
        let _ = self.context.output.json(&saved);
    }
}

impl Teller for Lines<'_> {
    fn began(&self, report: &publish::Report, after: Duration) {
        publication::say(self.context, report, &self.store.location(), after.as_secs_f64(), true);
        if self.json {
            self.json(report, &Changed::default(), after);
        }
        self.context.output.note("Watching; Ctrl-C ends it");
    }

    fn published(&self, report: &publish::Report, changed: &Changed, after: Duration) {
        if self.json {
            return self.json(report, changed, after);
        }
        let more = changed.count.saturating_sub(changed.some.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let paths = escape(&changed.some.join(", "));
        self.context.output.note(&format!(
            "{}@{}: {paths}{more} ({}, {} sent) {:.2}s",
            report.name,
            report.number,
            count(changed.count as u64, "change"),
            size(report.requests.sent),
            after.as_secs_f64()
        ));
    }

    fn note(&self, text: &str) {
        self.context.output.note(text);
    }

    fn warn(&self, text: &str, hint: Option<&str>) {
        self.context.output.warn(&escape(text));
        if let Some(hint) = hint {
            self.context.output.hint(hint);
        }
    }

    fn replaces(&self, question: &str) -> bool {
        let output = &self.context.output;
        output.can_ask() && tokio::task::block_in_place(|| output.confirm(question))
    }
}
