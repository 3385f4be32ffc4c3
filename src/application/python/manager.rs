//! Who installs a Python app's dependencies: pip, uv, Poetry, Pipenv. Exactly one of them does.

use super::project::Project;
use super::{WORKSPACE_YAML, poetry};
use crate::application::folder::Folder;
use crate::application::lock_policy::{LockPolicy, Locked};
use crate::application::{ApplicationError, Command, Plan};

/// The virtual environment, beside the manifest.
const VENV: &str = ".venv";

/// How tools that the image doesn't have are called: `uv` brings and keeps them apart from the app.
const POETRY: [&str; 6] = ["uv", "tool", "run", "--from", "poetry>=2,<3", "poetry"];
const PIPENV: [&str; 6] = ["uv", "tool", "run", "--from", "pipenv>=2024", "pipenv"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Pip,
    Uv,
    Poetry,
    Pipenv,
}

impl Kind {
    /// The name by which people and volumes know it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pip => "pip",
            Self::Uv => "uv",
            Self::Poetry => "poetry",
            Self::Pipenv => "pipenv",
        }
    }
}

/// The files that decide, in the order in which they are believed: what is locked comes first, because a requirements.txt
/// beside it is mostly made from it.
const FILES: [(&str, Kind); 4] = [
    ("uv.lock", Kind::Uv),
    ("poetry.lock", Kind::Poetry),
    ("Pipfile.lock", Kind::Pipenv),
    ("requirements.txt", Kind::Pip),
];

/// The manager of a tree.
#[derive(Debug)]
pub(super) struct Manager {
    pub(super) kind: Kind,
    /// Why it is this one.
    pub(super) because: String,
    /// Where the virtual environment is, from the tree's root.
    venv: String,
}

impl Manager {
    /// `None`: there is nothing to install.
    pub(super) fn of(folder: &Folder<'_>, project: &Project, warnings: &mut Vec<String>) -> Option<Self> {
        let found: Vec<(&str, Kind)> = FILES.iter().filter(|(file, _)| folder.contains(file)).copied().collect();
        let venv = folder.path(VENV);
        if let [(file, kind), others @ ..] = &found[..] {
            if let [_, ..] = others {
                let others = others.iter().map(|(file, _)| format!("`{file}`")).collect::<Vec<_>>().join(" and ");
                warnings.push(format!("`{file}` and {others} are there: {} is used, and {others} is not", kind.name()));
            }
            return Some(Self { kind: *kind, because: (*file).to_owned(), venv });
        }
        // A member of a workspace of uv's: the lock file and the environment are its root's.
        let above = std::iter::successors(folder.parent(), Folder::parent);
        let mut above = above.filter(|folder| folder.contains("uv.lock") && folder.contains("pyproject.toml"));
        if folder.contains("pyproject.toml")
            && let Some(root) = above.next()
        {
            return Some(Self { kind: Kind::Uv, because: root.path("uv.lock"), venv: root.path(VENV) });
        }
        let (kind, because) = if folder.contains("Pipfile") {
            (Kind::Pipenv, "Pipfile")
        } else if project.has(&["tool", "poetry"]) {
            (Kind::Poetry, "tool.poetry in pyproject.toml")
        } else if project.has(&["tool", "uv"]) {
            (Kind::Uv, "tool.uv in pyproject.toml")
        } else if project.has(&["project"]) || project.has(&["build-system"]) {
            (Kind::Pip, "pyproject.toml")
        } else {
            (Kind::Pip, folder.first_of(&["setup.py", "setup.cfg"])?)
        };
        Some(Self { kind, because: because.to_owned(), venv })
    }

    /// The folder with the programs that it installs, from the tree's root.
    pub(super) fn programs(&self) -> String {
        format!("{}/bin", self.venv)
    }

    /// Whether the project itself is installed, and its scripts with it.
    pub(super) fn installs_project(&self, folder: &Folder<'_>, project: &Project) -> bool {
        match self.kind {
            Kind::Pip => !folder.contains("requirements.txt"),
            Kind::Uv => {
                project.has(&["build-system"])
                    && project.get(&["tool", "uv", "package"]).is_none_or(|package| package.as_bool() != Some(false))
            }
            Kind::Poetry => poetry::has_package(folder, project),
            Kind::Pipenv => false,
        }
    }

    /// Lets a plan install with it.
    pub(super) fn install(
        &self,
        folder: &Folder<'_>,
        project: &Project,
        policy: LockPolicy,
        plan: &mut Plan,
        warnings: &mut Vec<String>,
    ) -> Result<(), ApplicationError> {
        // `--clear`: what an earlier version needed and this one doesn't must not be found by it.
        let make_venv = Command::exec(["python3", "-m", "venv", "--clear", VENV]);
        let set = |plan: &mut Plan, name: &str| plan.install_environment.insert(name.to_owned(), "1".to_owned());
        let mut files = vec!["pyproject.toml"];
        let mut reads_tree = self.installs_project(folder, project);
        match self.kind {
            Kind::Pip => {
                for name in ["PIP_NO_INPUT", "PIP_DISABLE_PIP_VERSION_CHECK"] {
                    set(plan, name);
                }
                let what: &[&str] =
                    if folder.contains("requirements.txt") { &["-r", "requirements.txt"] } else { &["."] };
                plan.install = vec![make_venv, Command::exec(["pip", "install"].iter().chain(what).copied())];
                plan.because("install", self.because.as_str());
                let text = folder.text("requirements.txt")?.unwrap_or_default();
                // Other files and folders of the tree may be named.
                reads_tree |=
                    text.lines().any(|line| line.trim_start().starts_with(['-', '.', '/']) || line.contains("file:"));
                files.push("requirements.txt");
            }
            Kind::Uv => {
                let frozen = policy.freezes(
                    Locked {
                        file: "uv.lock",
                        exists: self.because.ends_with("uv.lock"),
                        wanted: true,
                        manifest: "pyproject.toml",
                        drift: None,
                        mend: "uv lock",
                    },
                    plan,
                    warnings,
                )?;
                // The image has one Python, which a pin to another patch must not rule out; `requires-python` still counts.
                plan.install_environment.insert("UV_PYTHON".to_owned(), "python3".to_owned());
                plan.install_environment.insert("UV_PYTHON_DOWNLOADS".to_owned(), "never".to_owned());
                // The cache is another volume, across which nothing can be linked.
                plan.install_environment.insert("UV_LINK_MODE".to_owned(), "copy".to_owned());
                let locked = frozen.then_some("--locked");
                plan.install = vec![Command::exec(["uv", "sync"].into_iter().chain(locked).chain(["--no-dev"]))];
                reads_tree |= !folder.contains("uv.lock") || project.has(&["tool", "uv"]);
                files.push("uv.lock");
            }
            Kind::Poetry => {
                let lock = folder.text("poetry.lock")?;
                let drift = lock.as_deref().and_then(|lock| poetry::drift(lock, project));
                let frozen = policy.freezes(
                    Locked {
                        file: "poetry.lock",
                        exists: lock.is_some(),
                        wanted: true,
                        manifest: "pyproject.toml",
                        drift: drift.as_deref(),
                        mend: "poetry lock",
                    },
                    plan,
                    warnings,
                )?;
                let run =
                    |words: &[&str]| Command::exec(POETRY.iter().chain(words).chain(&["--no-interaction"]).copied());
                plan.install = vec![make_venv];
                if !frozen && lock.is_some() {
                    plan.install.push(run(if policy == LockPolicy::Update {
                        &["lock", "--regenerate"]
                    } else {
                        &["lock"]
                    }));
                }
                let verb = if frozen { "sync" } else { "install" };
                let mut words = vec![verb, "--only", "main"];
                // It refuses to install a project that has no package.
                words.extend((!reads_tree).then_some("--no-root"));
                plan.install.push(run(&words));
                files.push("poetry.lock");
            }
            Kind::Pipenv => {
                let frozen = policy.freezes(
                    Locked {
                        file: "Pipfile.lock",
                        exists: folder.contains("Pipfile.lock"),
                        wanted: true,
                        manifest: "Pipfile",
                        drift: None,
                        mend: "pipenv lock",
                    },
                    plan,
                    warnings,
                )?;
                set(plan, "PIPENV_NOSPIN");
                plan.install_environment.insert("PIPENV_VERBOSITY".to_owned(), "-1".to_owned());
                let words: &[&str] = if frozen { &["sync"] } else { &["install", "--skip-lock"] };
                plan.install = vec![make_venv, Command::exec(PIPENV.iter().chain(words).copied())];
                files = vec!["Pipfile", "Pipfile.lock"];
            }
        }
        // A dependency may lie in the tree itself.
        for file in ["pyproject.toml", "Pipfile"].into_iter().filter(|file| files.contains(file)) {
            reads_tree |= folder.text(file)?.is_some_and(|text| text.contains("path"));
        }
        let whole = reads_tree || self.venv != folder.path(VENV);
        plan.inputs = if whole {
            vec!["./".to_owned()]
        } else {
            files.into_iter().filter(|file| folder.contains(file)).map(|file| folder.path(file)).collect()
        };
        if self.kind == Kind::Pip
            && !folder.contains("requirements.txt")
            && !project.has(&["project"])
            && folder.contains("pyproject.toml")
        {
            warnings.push(format!(
                "pyproject.toml has no `[project]`, so `pip install .` may find nothing to install; `install:` in \
                 `{WORKSPACE_YAML}` says otherwise"
            ));
        }
        Ok(())
    }
}
