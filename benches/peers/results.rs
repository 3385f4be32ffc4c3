//! What was measured, as it is kept: one JSON file.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::link::Traffic;
use crate::measured::{Run, median};

/// Everything.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Results {
    /// Where it was measured last.
    pub machine: Machine,
    /// What each tool calls itself.
    pub versions: BTreeMap<String, String>,
    /// What was measured.
    pub cells: Vec<Cell>,
}

/// A machine.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Machine {
    /// Its processor.
    pub processor: String,
    /// Processors that this program may use.
    pub cores: usize,
    /// Bytes of memory.
    pub memory: u64,
    /// Its system.
    pub system: String,
}

/// A tree, a link and a scenario.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cell {
    /// The tree.
    pub tree: String,
    /// Files in it.
    pub files: usize,
    /// Bytes in it.
    pub bytes: u64,
    /// The link.
    pub link: String,
    /// The scenario.
    pub scenario: String,
    /// The day.
    pub date: String,
    /// The commit of `workspace`.
    pub commit: String,
    /// The processor: times of one are not those of another.
    pub processor: String,
    /// What it cost each tool.
    pub tools: BTreeMap<String, Cost>,
}

/// What a scenario cost one tool.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Cost {
    /// Each timed run.
    pub runs: Vec<Run>,
    /// What passed to the server and back, in the middle one of the counted runs.
    pub traffic: Option<Traffic>,
}

impl Cost {
    /// Seconds, the middle of all runs.
    pub fn wall(&self) -> f64 {
        median(self.runs.iter().map(|run| run.wall))
    }

    /// Seconds of the processor, the middle of all runs.
    pub fn cpu(&self) -> f64 {
        median(self.runs.iter().map(|run| run.cpu))
    }

    /// Bytes of memory, the most of all runs.
    pub fn memory(&self) -> u64 {
        self.runs.iter().map(|run| run.memory).max().unwrap_or_default()
    }

    /// Seconds of the fastest and of the slowest run.
    pub fn spread(&self) -> (f64, f64) {
        let walls = || self.runs.iter().map(|run| run.wall);
        (walls().fold(f64::INFINITY, f64::min), walls().fold(0.0, f64::max))
    }
}

impl Results {
    /// What is there already.
    pub fn read(folder: &Path) -> Self {
        match fs::read(folder.join("results.json")) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap(),
            Err(_) => Self::default(),
        }
    }

    /// Puts a cell in place of its earlier self.
    pub fn replace(&mut self, cell: Cell) {
        let same =
            |other: &Cell| (&other.tree, &other.link, &other.scenario) == (&cell.tree, &cell.link, &cell.scenario);
        match self.cells.iter().position(same) {
            Some(at) => self.cells[at] = cell,
            None => self.cells.push(cell),
        }
    }

    /// Keeps everything.
    pub fn write(&self, folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("results.json"), serde_json::to_string_pretty(self).unwrap() + "\n").unwrap();
    }
}

impl Machine {
    /// This one.
    pub fn here() -> Self {
        let line = |file: &str, key: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
            line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let memory = line("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0) * 1024;
        Self {
            processor: line("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().unwrap().get(),
            memory,
            system: said(Command::new("uname").args(["-s", "-r", "-m"])),
        }
    }
}

/// What a command says, its first line.
pub fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().trim().to_owned()
}
