//! The application plan: what a tree is, and how it is installed, built, started and probed.
//!
//! Worked out once, at upload, from exactly the files that will be uploaded, and stored in the manifest's first line;
//! whoever runs a version later goes by the plan and never guesses again. Everything here is pure: it sees a
//! [`SourceTree`] and answers with a [`Detection`].
//!
//! Order of authority: `workspace.yaml`, then `Procfile`, then what the root folder (or `dir:`) holds. Only that folder
//! counts, so one `.php` file inside a dependency can't turn a Node app into a PHP one.

mod command;
mod declared;
mod folder;
mod foreign_json;
mod languages;
mod lock_policy;
mod node;
mod php;
mod plan;
mod procfile;
mod python;
mod range;
mod static_site;

use std::io;

pub use command::Command;
pub use declared::{Fault, Mistake, schema};
pub use plan::{HealthCheck, Plan, Reason, Runtime};

use declared::Declared;
use folder::Folder;

/// The file that overrides any part of the plan.
pub const WORKSPACE_YAML: &str = "workspace.yaml";

/// Read access to the tree that is about to be uploaded: ignored files don't exist in it.
pub trait SourceTree {
    /// Whether `path` (relative, `/`-separated) is a file or link of the tree.
    fn contains(&self, path: &str) -> bool;
    /// The content of a file, or `None` where there is none.
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>>;
    /// Every path, in any order.
    fn paths(&self) -> Box<dyn Iterator<Item = &str> + '_>;
    /// Whether anything lies below a folder.
    fn has_folder(&self, folder: &str) -> bool {
        self.paths().any(|path| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')))
    }
    /// The rule that leaves a path out, if that is why it is not in the tree.
    fn left_out_by(&self, _path: &str) -> Option<String> {
        None
    }
}

/// What was found out about a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Detection {
    /// How to run it. `None`: nothing here is known to start, so the tree is stored and not run. A plan without a
    /// [`Plan::start`] names a runtime that was recognised but needs a `workspace.yaml` to be run.
    pub plan: Option<Plan>,
    /// What the uploader ought to look at, one sentence or two each.
    pub warnings: Vec<String>,
}

/// Why no plan could be made.
#[derive(Debug, thiserror::Error)]
pub enum ApplicationError {
    /// A file of the tree can't be read.
    #[error("can't read `{path}`")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// A declaration isn't valid YAML, or a value has the wrong type.
    #[error("`{path}` can't be understood: {reason}")]
    Syntax {
        /// The file.
        path: String,
        /// What is wrong, with its line where known.
        reason: String,
    },
    /// A lock file that doesn't do, where `lock: strict` is declared.
    #[error("{problem}, and `lock: strict` in `{WORKSPACE_YAML}` demands one that fits")]
    Lock {
        /// What is wrong with it.
        problem: String,
        /// The command that mends it.
        mend: String,
    },
    /// Keys that aren't known, and values that can't be used: all of a file.
    #[error("{}", declared::listed(path, mistakes))]
    Mistakes {
        /// The file.
        path: String,
        /// By line; one at least.
        mistakes: Vec<Mistake>,
    },
}

/// Works out how the tree is run.
pub fn detect(tree: &dyn SourceTree) -> Result<Detection, ApplicationError> {
    let declared = Declared::read(tree)?;
    let folder = Folder::new(tree, declared.dir.as_deref());
    let mut warnings = Vec::new();
    if let Some(dir) = declared.dir.as_deref().filter(|_| folder.is_empty()) {
        return Err(declared.error("dir", Folder::new(tree, None).lacks(dir)));
    }
    if !tree.contains(WORKSPACE_YAML) && tree.contains("workspace.yml") {
        warnings.push(format!("`workspace.yml` isn't read: the file is called `{WORKSPACE_YAML}`"));
    }
    let processes = procfile::read(&folder, &mut warnings)?;
    let given = Given { declared: &declared, web: processes.web.is_some() };
    let detected = languages::detect(&folder, &given, &mut warnings)?;
    let has_start = given.has_start();
    let mut plan = match detected {
        Some(plan) => plan,
        None if has_start => Plan::new(declared.runtime.clone().unwrap_or(Runtime::Custom)),
        None => {
            warnings.extend(languages::elsewhere(&folder));
            return Ok(Detection { plan: None, warnings });
        }
    };
    procfile::apply(processes, &mut plan);
    declared.apply(&folder, &mut plan);
    if let Some(reason) = declared.site.as_ref().and_then(|site| static_site::missing(&folder, site, &plan)) {
        if declared.start.is_none() && plan.install.is_empty() {
            return Err(declared.error("static", reason));
        }
        // What is installed may make it.
        if declared.start.is_none() {
            warnings.push(format!("`static` in `{WORKSPACE_YAML}` {reason}"));
        }
    }
    if plan.start.is_none() && plan.runtime.has_image() {
        return Ok(Detection { plan: None, warnings });
    }
    if plan.image.is_none() && !plan.runtime.has_image() && plan.start.is_some() {
        warnings.push(no_image(&plan));
    }
    let start = plan.start.as_ref().filter(|_| plan.build.is_empty());
    if let Some(missing) = start.and_then(|start| missing_target(&folder, start, plan.image.is_some())) {
        warnings.push(match left_out_by(&folder, &missing) {
            Some(rule) => format!(
                "the start command runs `{missing}`, which is left out ({rule}): a `!` pattern in .workspaceignore takes it"
            ),
            None => format!(
                "the start command runs `{missing}`, which is not among the files to upload; \
                 is it made by a build step that isn't declared?"
            ),
        });
    }
    Ok(Detection { plan: Some(plan), warnings })
}

/// What interpreters run files, and take them as their first argument.
const INTERPRETERS: &[&str] = &["python", "python3", "php", "ruby", "sh", "bash"];
/// What an installation makes.
const INSTALLED: &[&str] = &["node_modules/", "vendor/", ".venv/", "venv/"];

/// The file that the start command runs, when it is not there. In an image of one's own anything else may be.
fn missing_target(folder: &Folder<'_>, start: &Command, own_image: bool) -> Option<String> {
    if let Some(script) = node::script_of(start) {
        return (!node::resolves(folder, &script)).then_some(script);
    }
    let Command::Exec(words) = start else { return None };
    if own_image {
        return None;
    }
    let (program, arguments) = words.split_first()?;
    let target = match program.strip_prefix("./") {
        Some(own) => own,
        None if INTERPRETERS.contains(&program.as_str()) => arguments.first()?.trim_start_matches("./"),
        None => return None,
    };
    let elsewhere = target.starts_with(['-', '/']) || target.starts_with("../");
    let installed = INSTALLED.iter().any(|made| target.starts_with(made));
    (!elsewhere && !installed && !folder.contains(target)).then(|| target.to_owned())
}

/// The rule that leaves out what `node PATH` would have found.
fn left_out_by(folder: &Folder<'_>, path: &str) -> Option<String> {
    let path = path.trim_start_matches("./").trim_end_matches('/');
    ["", ".js", ".mjs", ".cjs", "/index.js"].iter().find_map(|ending| folder.left_out_by(&format!("{path}{ending}")))
}

fn no_image(plan: &Plan) -> String {
    let runtime = &plan.runtime;
    if *runtime == Runtime::Custom {
        let start = plan.start.as_ref().map(ToString::to_string).unwrap_or_default();
        return format!(
            "what runs `{start}` isn't known: name it in `{WORKSPACE_YAML}`, as `runtime: node` or as `image:`"
        );
    }
    format!(
        "there is no image for {runtime} so far: name one of your own, with {runtime} and the `workspace` binary, as `image:` in \
         `{WORKSPACE_YAML}`"
    )
}

/// What is settled before detection looks at the tree, so that it doesn't warn about what doesn't matter.
struct Given<'a> {
    declared: &'a Declared,
    /// The Procfile has a `web` line.
    web: bool,
}

impl Given<'_> {
    /// A command that starts it is given.
    fn starts(&self) -> bool {
        self.web || self.declared.start.is_some()
    }

    /// The same, or what is served is.
    fn has_start(&self) -> bool {
        self.starts() || self.declared.site.is_some()
    }
}

#[cfg(test)]
mod tests;
