//! Everything a person or a pipe sees goes through here: the only module that prints.
//!
//! Data that was asked for goes to stdout, everything else to stderr. One type, [`Output`], decides what `-q`, `-v`,
//! `--color`, `NO_COLOR` and `--no-progress` mean.

mod log;
mod progress;
mod text;

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use serde::Serialize;

use crate::environment::Environment;

pub use log::{LogFormat, start_logging};
pub use progress::{Observer, Phase, Silent, TerminalObserver};
pub use text::{count, escape, first_line, plural, relative_time, size, with_causes};
use text::{escape_json, escape_lines, escape_message};

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What the flags common to all commands ask of the output.
#[derive(Debug, Clone, Copy, Default)]
pub struct OutputOptions {
    /// Errors and asked-for data only.
    pub quiet: bool,
    /// How often `-v` was given.
    pub verbose: u8,
    /// `--color`.
    pub color: ColorChoice,
    /// `--no-progress`.
    pub no_progress: bool,
}

/// The two streams, and what may be written to them.
#[derive(Debug, Clone)]
pub struct Output {
    options: OutputOptions,
    stdout_terminal: bool,
    stderr_terminal: bool,
    stdin_terminal: bool,
    color: bool,
}

impl Output {
    /// Looks at the terminal and the environment once.
    pub fn new(options: OutputOptions, environment: &Environment) -> Self {
        let stderr_terminal = io::stderr().is_terminal();
        let color = match options.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => stderr_terminal && !environment.no_color(),
        };
        Self {
            options,
            stdout_terminal: io::stdout().is_terminal(),
            stderr_terminal,
            stdin_terminal: io::stdin().is_terminal(),
            color,
        }
    }

    /// Whether a person can be asked.
    pub fn can_ask(&self) -> bool {
        self.stdin_terminal && self.stderr_terminal
    }

    /// Whether stdout is read by a person rather than by a program.
    pub fn stdout_is_terminal(&self) -> bool {
        self.stdout_terminal
    }

    /// How often `-v` was given.
    pub fn verbosity(&self) -> u8 {
        self.options.verbose
    }

    /// Whether stderr may be coloured.
    pub fn colored(&self) -> bool {
        self.color
    }

    /// Data on stdout, and the end of its line. On a terminal without characters that it could take for orders.
    ///
    /// A reader that has gone away (`| head`) ends the process quietly with 0, as `cat` users expect; data that can't be
    /// written for another reason ends it with 1.
    pub fn data(&self, text: &str) {
        let mut line = if self.stdout_terminal { escape_lines(text) } else { text.to_owned() };
        line.push('\n');
        self.bytes(line.as_bytes());
    }

    /// Data on stdout as it is, under the same rules.
    pub fn bytes(&self, bytes: &[u8]) {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
            Err(error) => {
                self.error(&anyhow::Error::new(error).context("can't write to standard output"), &[]);
                std::process::exit(1);
            }
        }
    }

    /// A document on stdout, as one line of JSON, or indented on a terminal.
    pub fn json(&self, value: &impl Serialize) -> anyhow::Result<()> {
        let text = if self.stdout_terminal {
            escape_json(&serde_json::to_string_pretty(value)?)
        } else {
            serde_json::to_string(value)?
        };
        self.data(&text);
        Ok(())
    }

    /// Rows on stdout: aligned under a header on a terminal, tab-separated and without one elsewhere.
    pub fn table(&self, header: &[&str], rows: &[Vec<String>]) {
        if !self.stdout_terminal {
            for row in rows {
                self.data(&row.iter().map(|cell| escape(cell)).collect::<Vec<_>>().join("\t"));
            }
            return;
        }
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING).set_header(header);
        for row in rows {
            table.add_row(row.iter().map(|cell| escape(cell)));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        for line in table.lines() {
            self.data(line.trim_end());
        }
    }

    /// What happened or goes on: stderr, silenced by `-q`.
    pub fn note(&self, text: &str) {
        if !self.options.quiet {
            line(text);
        }
    }

    /// Only with `-v`.
    pub fn detail(&self, text: &str) {
        if self.options.verbose > 0 && !self.options.quiet {
            line(text);
        }
    }

    /// Something the person ought to look at. Shown even with `-q`.
    pub fn warn(&self, text: &str) {
        labelled(&self.paint("warning:", "33;1"), text);
    }

    /// A further line of a warning.
    pub fn warn_line(&self, text: &str) {
        line(text);
    }

    /// What a program that runs on our behalf printed, as it is: stderr.
    pub fn pass(&self, bytes: &[u8]) {
        let _ = io::stderr().lock().write_all(bytes);
    }

    /// The next thing to try, after something that went well: silenced by `-q`.
    pub fn hint(&self, text: &str) {
        if !self.options.quiet {
            self.hint_line(text);
        }
    }

    fn hint_line(&self, text: &str) {
        labelled(&self.paint("hint:", "36;1"), text);
    }

    /// What failed, what it was caused by, and what to do next.
    pub fn error(&self, error: &anyhow::Error, hints: &[String]) {
        labelled(&self.paint("error:", "31;1"), &error.to_string());
        let mut last = error.to_string();
        for cause in error.chain().skip(1) {
            let text = cause.to_string();
            if text != last {
                labelled("  caused by:", &text);
            }
            last = text;
        }
        for hint in hints {
            self.hint_line(hint);
        }
    }

    /// Asks a yes-or-no question on the terminal. False where nobody can be asked.
    pub fn confirm(&self, question: &str) -> bool {
        if !self.can_ask() {
            return false;
        }
        let mut stderr = io::stderr().lock();
        if write!(stderr, "{} [y/N] ", escape_message(question)).and_then(|()| stderr.flush()).is_err() {
            return false;
        }
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes" | "Yes")
    }

    /// The observer that long operations report to.
    pub fn observer(&self) -> Arc<dyn Observer> {
        let draw = self.stderr_terminal && !self.options.no_progress && !self.options.quiet;
        Arc::new(TerminalObserver::new(self.clone(), draw))
    }

    fn paint(&self, text: &str, style: &str) -> String {
        if self.color { format!("\u{1b}[{style}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

fn line(text: &str) {
    // Nothing can be done for a stderr that is closed.
    let _ = writeln!(io::stderr().lock(), "{}", escape_message(text));
}

/// A message behind a word that may be coloured.
fn labelled(label: &str, text: &str) {
    let _ = writeln!(io::stderr().lock(), "{label} {}", escape_message(text));
}
