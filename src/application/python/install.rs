//! What installs a Python app, by its manager.

use super::dependencies::Dependencies;
use super::manager::{Kind, Manager, VENV};
use super::project::Project;
use super::{WORKSPACE_YAML, pipenv, poetry, uv};
use crate::application::folder::Folder;
use crate::application::lock_policy::{LockPolicy, Locked};
use crate::application::{ApplicationError, Command, Plan};

/// How tools that the image doesn't have are called: `uv` brings and keeps them apart from the app.
const POETRY: [&str; 6] = ["uv", "tool", "run", "--from", "poetry>=2,<3", "poetry"];
const PIPENV: [&str; 6] = ["uv", "tool", "run", "--from", "pipenv>=2024", "pipenv"];

/// `--clear`: what an earlier version needed and this one doesn't must not be found by it.
const MAKE_VENV: [&str; 5] = ["python3", "-m", "venv", "--clear", VENV];

/// Lets a plan install with a manager. `dependencies` are the direct ones.
pub(super) fn install(
    manager: &Manager,
    (folder, project, dependencies): (&Folder<'_>, &Project, &Dependencies),
    policy: LockPolicy,
    plan: &mut Plan,
    warnings: &mut Vec<String>,
) -> Result<(), ApplicationError> {
    let installs_project = manager.installs_project(folder, project);
    let files: &[&str] = match manager.kind {
        Kind::Pip => &["pyproject.toml", manager.requirements.unwrap_or("requirements.txt")],
        Kind::Uv => &["pyproject.toml", "uv.lock"],
        Kind::Poetry => &["pyproject.toml", "poetry.lock"],
        Kind::Pipenv => &["Pipfile", "Pipfile.lock"],
    };
    let [manifest, file] = files else { return Ok(()) };
    if manager.kind == Kind::Pip {
        plan.because("install", manager.because.as_str());
        pip(manager.requirements, folder, project, plan, warnings);
    } else {
        let lock = folder.text(file)?;
        let drift = lock.as_deref().and_then(|lock| match manager.kind {
            Kind::Poetry => poetry::drift(lock, project),
            Kind::Uv => uv::drift(lock, project, dependencies),
            _ => pipenv::drift(lock, project, dependencies),
        });
        let locked = Locked {
            file,
            // That of a workspace lies above.
            exists: lock.is_some() || manager.because.ends_with(file),
            wanted: true,
            manifest,
            drift: drift.as_deref(),
            mend: &format!("{} lock", manager.kind.name()),
        };
        let frozen = policy.freezes(locked, plan, warnings)?;
        match manager.kind {
            Kind::Uv => install_by_uv(frozen, plan),
            Kind::Poetry => install_by_poetry(frozen, lock.is_some(), installs_project, plan),
            _ => install_by_pipenv(frozen, plan),
        }
    }
    let mut reads_tree = installs_project || manager.venv != folder.path(VENV) || project.has(&["tool", "uv"]);
    for file in files {
        reads_tree |= folder.text(file)?.is_some_and(|text| names_the_tree(&text));
    }
    plan.inputs = if reads_tree {
        vec!["./".to_owned()]
    } else {
        files.iter().filter(|file| folder.contains(file)).map(|file| folder.path(file)).collect()
    };
    Ok(())
}

/// Whether a manifest may name other files and folders of the tree.
fn names_the_tree(text: &str) -> bool {
    text.lines().any(|line| {
        let line = line.trim_start();
        line.starts_with(['-', '.', '/']) || line.contains("file:") || line.contains("path")
    })
}

fn set(plan: &mut Plan, name: &str, value: &str) {
    plan.install_environment.insert(name.to_owned(), value.to_owned());
}

fn pip(list: Option<&str>, folder: &Folder<'_>, project: &Project, plan: &mut Plan, warnings: &mut Vec<String>) {
    set(plan, "PIP_NO_INPUT", "1");
    set(plan, "PIP_DISABLE_PIP_VERSION_CHECK", "1");
    let what = list.map_or_else(|| vec!["."], |list| vec!["-r", list]);
    plan.install = vec![Command::exec(MAKE_VENV), Command::exec(["pip", "install"].into_iter().chain(what))];
    if list.is_none() && !project.has(&["project"]) && folder.contains("pyproject.toml") {
        warnings.push(format!(
            "pyproject.toml has no `[project]`, so `pip install .` may find nothing to install; `install:` in \
             `{WORKSPACE_YAML}` says otherwise"
        ));
    }
}

fn install_by_uv(frozen: bool, plan: &mut Plan) {
    // The image has one Python, which a pin to another patch must not rule out; `requires-python` still counts.
    set(plan, "UV_PYTHON", "python3");
    set(plan, "UV_PYTHON_DOWNLOADS", "never");
    // The cache is another volume, across which nothing can be linked.
    set(plan, "UV_LINK_MODE", "copy");
    let locked = frozen.then_some("--locked");
    plan.install = vec![Command::exec(["uv", "sync"].into_iter().chain(locked).chain(["--no-dev"]))];
}

fn install_by_poetry(frozen: bool, is_locked: bool, installs_project: bool, plan: &mut Plan) {
    let run = |words: &[&str]| Command::exec(POETRY.iter().chain(words).chain(&["--no-interaction"]).copied());
    plan.install = vec![Command::exec(MAKE_VENV)];
    if !frozen && is_locked {
        // It installs nothing while the lock file doesn't fit.
        plan.install.push(run(&["lock"]));
    }
    let mut words = vec![if frozen { "sync" } else { "install" }, "--only", "main"];
    // It refuses to install a project that has no package.
    words.extend((!installs_project).then_some("--no-root"));
    plan.install.push(run(&words));
}

fn install_by_pipenv(frozen: bool, plan: &mut Plan) {
    set(plan, "PIPENV_NOSPIN", "1");
    set(plan, "PIPENV_VERBOSITY", "-1");
    let words: &[&str] = if frozen { &["sync"] } else { &["install", "--skip-lock"] };
    plan.install = vec![Command::exec(MAKE_VENV), Command::exec(PIPENV.iter().chain(words).copied())];
}
