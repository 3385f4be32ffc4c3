//! Tables for people.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use comfy_table::{CellAlignment, Table, presets};

use crate::link::Speed;
use crate::results::{Cell, Cost, Results};
use crate::tools::Tool;

/// A cell in one line, while it is measured.
pub fn line(cell: &Cell) -> String {
    let mut line = format!("{} · {} · {}:", cell.tree, cell.link, cell.scenario);
    for (tool, cost) in &cell.tools {
        let _ = write!(line, "  {tool} {}", seconds(cost.wall()));
    }
    if let Some(ahead) = ahead(cell) {
        let _ = write!(line, "  → {ahead}");
    }
    line
}

/// How far `workspace` is ahead of the best tool that keeps one object a file.
pub fn ahead(cell: &Cell) -> Option<String> {
    let ours = cell.tools.get("workspace")?;
    let best = Tool::FILE_BY_FILE.iter().filter_map(|tool| cell.tools.get(&tool.to_string()));
    let best = best.map(Cost::wall).min_by(f64::total_cmp)?;
    Some(format!("{:.1}×", best / ours.wall()))
}

fn seconds(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.0} ms", seconds * 1e3) } else { format!("{seconds:.2} s") }
}

fn bytes(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}

/// Writes `README.md` beside the results.
pub fn write(results: &Results, folder: &Path) {
    let machine = &results.machine;
    let mut text = String::from(
        "# Measurements\n\nWritten by `make bench`; what it all means: [benchmarks.md](../benchmarks.md).\n\n",
    );
    let _ = writeln!(
        text,
        "{}, {} cores, {}, {}. {}.\n",
        machine.processor,
        machine.cores,
        bytes(machine.memory),
        machine.system,
        results.versions.iter().map(|(name, version)| format!("{name}: {version}")).collect::<Vec<_>>().join("; ")
    );
    for link in Speed::ALL.map(|speed| speed.to_string()) {
        let mut trees: Vec<(u64, &str)> = Vec::new();
        for cell in results.cells.iter().filter(|cell| cell.link == link) {
            if !trees.iter().any(|(_, tree)| *tree == cell.tree) {
                trees.push((cell.bytes, &cell.tree));
            }
        }
        for (_, tree) in trees {
            let cells: Vec<&Cell> =
                results.cells.iter().filter(|cell| cell.link == link && cell.tree == tree).collect();
            let _ = writeln!(text, "![{tree}, {link}]({tree}-{link}.svg)\n");
            let _ = writeln!(
                text,
                "## {tree}, {link}: {} files, {}\n\n{}\n\n{}\n",
                cells[0].files,
                bytes(cells[0].bytes),
                when(&cells),
                table(&cells)
            );
        }
    }
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("README.md"), text).unwrap();
}

/// On which day, at which commit, and by which processor: one of each, unless some cells were measured again since.
fn when(cells: &[&Cell]) -> String {
    let mut runs: Vec<(String, Vec<&str>)> = Vec::new();
    for cell in cells {
        let run = format!("on {} at {} by {}", cell.date, cell.commit, cell.processor);
        match runs.iter_mut().find(|(other, _)| *other == run) {
            Some((_, scenarios)) => scenarios.push(&cell.scenario),
            None => runs.push((run, vec![&cell.scenario])),
        }
    }
    match runs.as_slice() {
        [(run, _)] => format!("Measured {run}."),
        runs => {
            let runs = runs.iter().map(|(run, scenarios)| format!("{run}: {}", scenarios.join(", ")));
            format!("Measured {}.", runs.collect::<Vec<_>>().join("; "))
        }
    }
}

fn table(cells: &[&Cell]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([
        "scenario",
        "tool",
        "median",
        "from … to",
        "runs",
        "CPU",
        "memory",
        "requests",
        "sent",
        "received",
    ]);
    for cell in cells {
        let mut tools: Vec<(&String, &Cost)> = cell.tools.iter().collect();
        tools.sort_by(|one, other| one.1.wall().total_cmp(&other.1.wall()));
        for (at, (tool, cost)) in tools.into_iter().enumerate() {
            let (from, to) = cost.spread();
            let counted = |count: fn(crate::link::Traffic) -> String| cost.traffic.map(count).unwrap_or_default();
            table.add_row([
                if at == 0 { cell.scenario.clone() } else { String::new() },
                if tool == "workspace" { format!("**{tool}**") } else { tool.clone() },
                seconds(cost.wall()),
                format!("{} … {}", seconds(from), seconds(to)),
                cost.runs.len().to_string(),
                seconds(cost.cpu()),
                bytes(cost.memory()),
                counted(|traffic| traffic.requests.to_string()),
                counted(|traffic| bytes(traffic.sent)),
                counted(|traffic| bytes(traffic.received)),
            ]);
        }
    }
    for column in 2..10 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}
