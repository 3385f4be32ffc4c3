//! The log: what a long-running command says of its work, one event a line, on stderr.

use tracing_subscriber::EnvFilter;

use super::Output;

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// Starts logging. `format`: that of a command whose work is told by its log; others log only what `-v` or the variable
/// asks for.
pub fn start_logging(verbose: u8, format: Option<LogFormat>, wanted: Option<&str>, output: &Output) {
    let filter = match (wanted.filter(|wanted| !wanted.is_empty()), verbose) {
        (Some(filter), _) => filter.to_owned(),
        // What goes wrong is said by whoever asked; what libraries log of it besides is for those who look for it.
        (None, 0) if format.is_some() => "off,workspace=info".to_owned(),
        (None, 1) if format.is_some() => "warn,workspace=debug".to_owned(),
        (None, 0 | 1) => "off,workspace=error".to_owned(),
        (None, 2) => "warn,workspace=debug".to_owned(),
        (None, _) => "debug".to_owned(),
    };
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| "error".into());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second call (in tests) keeps the first subscriber.
    let _ = match format {
        Some(LogFormat::Json) => builder.json().flatten_event(true).with_current_span(false).try_init(),
        _ => builder.with_ansi(output.colored()).with_target(false).try_init(),
    };
}
