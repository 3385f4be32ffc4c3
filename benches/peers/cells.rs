//! The scenarios of one tree over one link.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::link::{Link, Speed, Traffic};
use crate::measured;
use crate::results::{Cell, Cost, Machine, said};
use crate::servers::Server;
use crate::tools::{Tool, Work, Worker};
use crate::trees::{Tree, TreeName};

/// What is measured, and how.
pub struct Bench {
    /// `workspace` itself.
    pub binary: PathBuf,
    /// Where the Linux source lies.
    pub cache: PathBuf,
    /// Where trees, targets and caches go.
    pub scratch: PathBuf,
    /// The tree.
    pub tree: TreeName,
    /// The link.
    pub link: Speed,
    /// The tools.
    pub tools: Vec<Tool>,
    /// Scenarios whose name contains one of these; all where there is none.
    pub only: Vec<String>,
    /// Timed runs.
    pub pairs: usize,
    /// Seconds in a cell after which a tool that was timed isn't run again.
    pub budget: f64,
}

/// How the tree is changed before a pair.
type Change = fn(&Tree, usize);

/// What one pair of a scenario consists of.
struct Scenario {
    name: &'static str,
    /// Before each pair.
    change: Option<Change>,
    /// What is done but not measured, after the change.
    before: Option<Work>,
    /// What is measured.
    work: Work,
    /// For each run a bucket of its own, or an empty target, and caches as on a fresh machine.
    fresh: bool,
}

const FIRST: &str = "first upload";
const SCENARIOS: &[Scenario] = &[
    Scenario { name: FIRST, change: None, before: None, work: Work::First, fresh: true },
    Scenario { name: "unchanged upload", change: None, before: None, work: Work::Again, fresh: false },
    Scenario { name: "download to an empty target", change: None, before: None, work: Work::Fetch, fresh: true },
    Scenario { name: "download, up to date", change: None, before: None, work: Work::FetchAgain, fresh: false },
    Scenario {
        name: "one file changed",
        change: Some(Tree::change_one),
        before: None,
        work: Work::Again,
        fresh: false,
    },
    Scenario {
        name: "1 % changed",
        change: Some(Tree::change_one_percent),
        before: None,
        work: Work::Again,
        fresh: false,
    },
    Scenario {
        name: "download of 1 % over the previous version",
        change: Some(|tree, round| tree.change_one_percent(round + 50)),
        before: Some(Work::Again),
        work: Work::FetchAgain,
        fresh: false,
    },
    Scenario {
        name: "a byte inserted at the front",
        change: Some(|tree, _| tree.insert_front()),
        before: None,
        work: Work::Again,
        fresh: false,
    },
    Scenario {
        name: "a byte inserted at the front, on a fresh machine",
        change: Some(|tree, _| tree.insert_front()),
        before: None,
        work: Work::Again,
        fresh: true,
    },
];

impl Scenario {
    /// Whether it means something for a tree.
    fn suits(&self, tree: TreeName) -> bool {
        match self.name {
            name if name.contains("1 %") => !tree.is_one_file(),
            name if name.contains("inserted") => tree.is_one_file(),
            _ => true,
        }
    }

    fn takes(&self, tool: Tool, tree: TreeName) -> bool {
        match tool {
            Tool::Git => tree == TreeName::Linux && self.work == Work::Again && !self.fresh,
            Tool::Pipe | Tool::Bare => matches!(self.work, Work::First | Work::Fetch),
            // It fails at links that are there already (0.14).
            Tool::Restic => self.work != Work::FetchAgain,
            _ => true,
        }
    }
}

/// A tool within a run.
struct Place {
    worker: Worker,
    cost: Cost,
    counted: Vec<Traffic>,
    spent: f64,
    /// It wasn't run after the tree changed.
    behind: bool,
    /// Its target isn't what its bucket has.
    stale: bool,
}

impl Bench {
    /// Measures every scenario. What it gives back is to be dropped when nothing more is measured: ext4 looks past
    /// every file that was removed in the last minutes before it makes a new one.
    pub fn run(&self, done: &mut dyn FnMut(Cell)) -> TempDir {
        let scratch = tempfile::tempdir_in(&self.scratch).unwrap();
        let folder = scratch.path().join("tree");
        let tree = Tree::make(self.tree, &self.cache, &folder);
        // Nothing of the tree is as young as git and `workspace` are careful about.
        std::thread::sleep(Duration::from_secs(3));
        let server = Server::seaweedfs();
        let address = server.endpoint.strip_prefix("http://").unwrap().parse().unwrap();
        let link = Link::open(self.link, address);
        let mut places: Vec<Place> = self.tools.iter().map(|tool| self.place(*tool, scratch.path())).collect();
        for scenario in SCENARIOS.iter().filter(|scenario| scenario.suits(self.tree)) {
            let wanted = self.only.is_empty() || self.only.iter().any(|part| scenario.name.contains(part.as_str()));
            // Everything that follows needs a version in the bucket, and one in the target.
            let needed = matches!(scenario.work, Work::First | Work::Fetch);
            if wanted {
                done(self.measure(scenario, &tree, &server, &link, &mut places));
            } else if needed {
                // What is bare leaves nothing behind that anything could follow.
                for place in places.iter_mut().filter(|place| place.worker.tool != Tool::Bare) {
                    self.fresh(place, scenario, 1, &server);
                    untimed(place, scenario.work, &tree, &server);
                }
            }
        }
        scratch
    }

    fn place(&self, tool: Tool, scratch: &Path) -> Place {
        let base = scratch.join(tool.to_string());
        let worker = Worker {
            tool,
            binary: self.binary.clone(),
            home: base.join("home-0"),
            remote: String::new(),
            target: base.join("target-0"),
        };
        Place { worker, cost: Cost::default(), counted: Vec::new(), spent: 0.0, behind: false, stale: false }
    }

    fn measure(&self, scenario: &Scenario, tree: &Tree, server: &Server, link: &Link, places: &mut [Place]) -> Cell {
        for place in &mut *places {
            (place.cost, place.counted, place.spent) = (Cost::default(), Vec::new(), 0.0);
        }
        // On this machine a pair goes before those that are timed: over the link, which counts.
        let first = usize::from(self.link != Speed::Local);
        if first == 0 && !scenario.fresh {
            for place in places.iter().filter(|place| place.worker.tool == Tool::Workspace) {
                place.worker.acquaint(server, &link.endpoint);
            }
        }
        for pair in first..=self.pairs {
            if let Some(change) = scenario.change {
                change(tree, pair);
                for place in &mut *places {
                    place.behind = true;
                }
            }
            for turn in 0..places.len() {
                let place = &mut places[(turn + pair) % self.tools.len()];
                let tool = place.worker.tool;
                let over = place.spent > self.budget && !place.cost.runs.is_empty();
                if !scenario.takes(tool, self.tree) || over {
                    continue;
                }
                catch_up(place, scenario, tree, server);
                if scenario.fresh {
                    self.fresh(place, scenario, pair, server);
                }
                if tool == Tool::Bare && scenario.work == Work::Fetch {
                    let tar = tree.folder.with_extension("tar");
                    said(Command::new("tar").arg("-C").arg(&tree.folder).arg("-cf").arg(&tar).arg("."));
                }
                let timed = pair > 0;
                let direct = timed && self.link == Speed::Local;
                let endpoint = if direct { &server.endpoint } else { &link.endpoint };
                let Some(command) = place.worker.command_for(scenario.work, &tree.folder, server, endpoint) else {
                    continue;
                };
                // What others left to be written is not on this one's account.
                rustix::fs::sync();
                link.traffic();
                let run = measured::run(command);
                eprintln!("{} {} {}: {tool} {:.3} s", self.tree, self.link, scenario.name, run.wall);
                if !direct {
                    place.counted.push(link.traffic());
                }
                place.spent += run.wall;
                if timed {
                    place.cost.runs.push(run);
                }
                place.behind = false;
                place.stale = matches!(scenario.work, Work::Again);
                if tool == Tool::Workspace && pair <= 1 && matches!(scenario.work, Work::Fetch | Work::FetchAgain) {
                    same(&tree.folder, &place.worker.target);
                }
            }
        }
        self.cell(scenario, tree, places)
    }

    /// A bucket of its own for each first upload, an empty target for each fetch, and a machine that knows nothing.
    fn fresh(&self, place: &mut Place, scenario: &Scenario, pair: usize, server: &Server) {
        let worker = &mut place.worker;
        if scenario.work == Work::Fetch {
            worker.target = worker.target.with_file_name(format!("target-{pair}"));
            return;
        }
        let number = format!("{}-{pair}", scenario.name.len());
        worker.home = worker.home.with_file_name(format!("home-{number}"));
        fs::create_dir_all(&worker.home).unwrap();
        if scenario.name == FIRST {
            worker.remote = format!("first-{}-{}-{pair}", worker.tool, self.link).to_lowercase();
            worker.prepare(server);
            if worker.tool == Tool::Workspace {
                // What preparing has left behind is not what a fresh machine knows.
                fs::remove_dir_all(&worker.home).unwrap();
                fs::create_dir_all(&worker.home).unwrap();
            }
        }
    }

    fn cell(&self, scenario: &Scenario, tree: &Tree, places: &[Place]) -> Cell {
        let mut tools = BTreeMap::new();
        for place in places.iter().filter(|place| !place.cost.runs.is_empty()) {
            let mut counted = place.counted.clone();
            counted.sort_by_key(|traffic| (traffic.requests, traffic.sent + traffic.received));
            let traffic = counted.get(counted.len() / 2).copied();
            tools.insert(place.worker.tool.to_string(), Cost { traffic, ..place.cost.clone() });
        }
        Cell {
            tree: self.tree.to_string(),
            files: tree.files.len(),
            bytes: tree.bytes,
            link: self.link.to_string(),
            scenario: scenario.name.to_owned(),
            date: said(Command::new("date").arg("+%F")),
            commit: said(Command::new("git").args(["describe", "--always", "--dirty", "--exclude=*"])),
            processor: Machine::here().processor,
            tools,
        }
    }
}

/// Does what is needed so that only the scenario's own work is left.
fn catch_up(place: &mut Place, scenario: &Scenario, tree: &Tree, server: &Server) {
    let behind = place.behind && (scenario.before.is_some() || scenario.change.is_none());
    if behind && !matches!(scenario.work, Work::First) {
        untimed(place, Work::Again, tree, server);
        place.behind = false;
        place.stale = true;
    }
    if place.stale && scenario.work == Work::FetchAgain && scenario.before.is_none() {
        untimed(place, Work::FetchAgain, tree, server);
        place.stale = false;
    }
}

fn untimed(place: &Place, work: Work, tree: &Tree, server: &Server) {
    if let Some(command) = place.worker.command_for(work, &tree.folder, server, &server.endpoint) {
        measured::run(command);
    }
}

/// What was fetched is the tree.
fn same(tree: &Path, target: &Path) {
    let mut command = Command::new("diff");
    command.args(["-rq", "--no-dereference", "--exclude=.workspace", "--exclude=.git"]).arg(tree).arg(target);
    let output = command.output().unwrap();
    assert!(output.status.success(), "what was fetched is not the tree:\n{}", String::from_utf8_lossy(&output.stdout));
}
