//! Python: which manager, which version, what to install and how to start.
//!
//! Everything is installed into `.venv` beside the manifest. A virtual environment can't be moved, so it is made where it
//! stays; its programs are on `PATH` while installing, building and running.

mod dependencies;
mod entry;
mod install;
mod manager;
mod pipenv;
mod poetry;
mod project;
mod uv;

use super::folder::Folder;
use super::range::{self, Minor, Tilde};
use super::{ApplicationError, Given, Plan, Runtime, WORKSPACE_YAML};
use dependencies::Dependencies;
use manager::Manager;
use project::Project;

/// What any image of Python that is not very old allows.
const USUAL: Minor = Minor(3, 13);

/// The files by which a Python tree is known.
pub(super) const MARKERS: [&str; 10] = [
    "requirements.txt",
    "pyproject.toml",
    "Pipfile",
    "Pipfile.lock",
    "uv.lock",
    "poetry.lock",
    "setup.py",
    "setup.cfg",
    "manage.py",
    "runtime.txt",
];

/// Files that are started where nothing says otherwise. They make a tree a Python one if nothing else is known of it.
pub(super) const MAINS: [&str; 3] = ["main.py", "app.py", "server.py"];

pub(super) fn detect(
    folder: &Folder<'_>,
    given: &Given<'_>,
    warnings: &mut Vec<String>,
) -> Result<Plan, ApplicationError> {
    let mut plan = Plan::new(Runtime::Python);
    plan.dir = folder.dir().map(str::to_owned);
    if let Some(marker) = folder.first_of(&MARKERS).or_else(|| folder.first_of(&MAINS)) {
        plan.because("runtime", marker);
    }
    let project = Project::read(folder, warnings)?;
    let manager = Manager::of(folder, &project, warnings);
    let dependencies = Dependencies::of(folder, &project, manager.as_ref(), warnings)?;
    if let Some((version, because)) = version(folder, &project)? {
        plan.version = Some(version.to_string());
        plan.because("version", because);
    }
    // What it prints shows at once, and is there when it crashes.
    plan.environment.insert("PYTHONUNBUFFERED".to_owned(), "1".to_owned());
    if let Some(manager) = &manager {
        plan.package_manager = Some(manager.kind.name().to_owned());
        plan.because("package_manager", &manager.because);
        plan.path.push(manager.programs());
        if given.declared.install.is_none() {
            let tree = (folder, &project, &dependencies);
            install::install(manager, tree, given.declared.lock, &mut plan, warnings)?;
        }
    }
    let found = entry::find(folder, &project, manager.as_ref(), &dependencies)?;
    if let Some(entry) = found {
        plan.start = Some(entry.start);
        plan.because("start", entry.because);
        if let Some(command) = entry.build {
            plan.because("build", "Django collects its static files for WhiteNoise");
            plan.build = vec![command];
        }
        if !given.has_start() {
            warnings.extend(entry.warning);
        }
    } else if !given.has_start() {
        warnings.push(format!(
            "no start command found: no manage.py, no ASGI or WSGI `app`, no {}; the tree is stored, not run. Add \
             `start:` in `{WORKSPACE_YAML}`, or a `web:` line in a Procfile",
            MAINS.join(", ")
        ));
    }
    Ok(plan)
}

/// The version that the tree demands, and what demands it.
fn version(folder: &Folder<'_>, project: &Project) -> Result<Option<(Minor, String)>, ApplicationError> {
    for file in [".python-version", "runtime.txt"] {
        let text = folder.text(file)?.unwrap_or_default();
        let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
        if let Some(minor) = line.and_then(range::named) {
            return Ok(Some((minor, file.to_owned())));
        }
    }
    Ok(project.version_ranges().find_map(|(key, text)| {
        let minor = range::demanded(text, USUAL, Tilde::Patch)?;
        Some((minor, format!("{key} is `{text}`")))
    }))
}
