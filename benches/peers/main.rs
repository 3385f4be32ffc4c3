//! `workspace` beside the tools that a user would take instead, in one run on one machine.
//!
//! A cell is a tree, a link and a scenario. In each of its pairs every tool does the same work once, in an order that
//! turns from pair to pair; the first pair is not timed: on a direct link it counts requests and bytes. What is written
//! down are medians and the spread. Times are reported, requests and bytes of `workspace` are asserted.
//!
//! `scripts/bench` installs the tools and starts it; `docs/benchmarks.md` says what the figures mean.

#![expect(clippy::unwrap_used, reason = "a measurement that can't go on has failed")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "what it is for")]

mod cells;
mod expected;
mod link;
mod measured;
mod plot;
mod report;
mod results;
mod tools;
mod trees;

#[path = "../../tests/support/faults.rs"]
mod faults;
#[path = "../../tests/support/servers.rs"]
mod servers;

use std::path::PathBuf;

use clap::Parser;

use crate::results::Results;
use crate::tools::Tool;
use crate::trees::TreeName;

/// Measures `workspace` beside its peers.
#[derive(Parser)]
struct Arguments {
    /// The binary to measure; the one that was built with this program unless another is named.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_workspace"))]
    binary: PathBuf,
    /// Trees.
    #[arg(long, value_delimiter = ',', default_values_t = TreeName::ALL)]
    trees: Vec<TreeName>,
    /// Links to the server.
    #[arg(long, value_delimiter = ',', default_values_t = link::Speed::ALL)]
    links: Vec<link::Speed>,
    /// Tools beside `workspace`.
    #[arg(long, value_delimiter = ',', default_values_t = Tool::PEERS)]
    tools: Vec<Tool>,
    /// Only scenarios whose name contains one of these.
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<String>,
    /// Timed runs of each tool in each cell.
    #[arg(long, default_value_t = 7)]
    pairs: usize,
    /// Seconds after which a tool is not run again in a cell, once it was timed; how often it ran is written down.
    #[arg(long, default_value_t = 60.0)]
    budget: f64,
    /// Where the Linux source lies, in `linux`.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/.cache/bench"))]
    cache: PathBuf,
    /// Where trees and the server's data go: a disk with 60 GB, outside of any git work tree.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    scratch: PathBuf,
    /// Where the results go. Cells that are measured again are replaced, the others stay.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/benchmarks"))]
    output: PathBuf,
    /// Only writes the tables and plots of the results that are there.
    #[arg(long)]
    report: bool,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let arguments = Arguments::parse();
    let mut results = Results::read(&arguments.output);
    let mut broken = Vec::new();
    if !arguments.report {
        let mut scratch = Vec::new();
        let mut tools = vec![Tool::Workspace];
        tools.extend(arguments.tools.iter().copied().filter(|tool| *tool != Tool::Workspace));
        results.machine = results::Machine::here();
        // Those of tools that are left out this time stay: their cells do.
        results.versions.extend(tools::versions(&arguments.binary, &tools));
        for tree in &arguments.trees {
            for link in &arguments.links {
                let bench = cells::Bench {
                    binary: std::path::absolute(&arguments.binary).unwrap(),
                    cache: std::path::absolute(&arguments.cache).unwrap(),
                    scratch: std::path::absolute(&arguments.scratch).unwrap(),
                    tree: *tree,
                    link: *link,
                    tools: tools.clone(),
                    only: arguments.scenarios.clone(),
                    pairs: arguments.pairs,
                    budget: arguments.budget,
                };
                let used = bench.run(&mut |cell| {
                    println!("{}", report::line(&cell));
                    broken.extend(expected::broken(&cell));
                    results.replace(cell);
                    results.write(&arguments.output);
                });
                scratch.push(used);
            }
        }
    }
    report::write(&results, &arguments.output);
    plot::write(&results, &arguments.output);
    if !broken.is_empty() {
        eprintln!("requests or bytes are not what was promised:\n{}", broken.join("\n"));
        std::process::exit(1);
    }
}
