//! Who installs a Python app's dependencies: pip, uv, Poetry, Pipenv. Exactly one of them does.

use super::poetry;
use super::project::Project;
use crate::application::folder::Folder;

/// The virtual environment, beside the manifest.
pub(super) const VENV: &str = ".venv";

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
const FILES: [(&str, Kind); 4] =
    [("uv.lock", Kind::Uv), ("poetry.lock", Kind::Poetry), ("Pipfile.lock", Kind::Pipenv), (REQUIREMENTS, Kind::Pip)];

const REQUIREMENTS: &str = "requirements.txt";
/// Where lists for pip lie that are split by purpose, the likeliest for running first.
const SPLIT_REQUIREMENTS: [&str; 5] = [
    "requirements/production.txt",
    "requirements/prod.txt",
    "requirements-prod.txt",
    "requirements/base.txt",
    "requirements/requirements.txt",
];

/// The manager of a tree.
#[derive(Debug)]
pub(super) struct Manager {
    pub(super) kind: Kind,
    /// Why it is this one.
    pub(super) because: String,
    /// Where the virtual environment is, from the tree's root.
    pub(super) venv: String,
    /// The list that pip installs, if that is what it does.
    pub(super) requirements: Option<&'static str>,
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
            let requirements = (*kind == Kind::Pip).then_some(REQUIREMENTS);
            return Some(Self { kind: *kind, because: (*file).to_owned(), venv, requirements });
        }
        // A member of a workspace of uv's: the lock file and the environment are its root's.
        let above = std::iter::successors(folder.parent(), Folder::parent);
        let mut above = above.filter(|folder| folder.contains("uv.lock") && folder.contains("pyproject.toml"));
        if folder.contains("pyproject.toml")
            && let Some(root) = above.next()
        {
            return Some(Self {
                kind: Kind::Uv,
                because: root.path("uv.lock"),
                venv: root.path(VENV),
                requirements: None,
            });
        }
        let (kind, because) = if folder.contains("Pipfile") {
            (Kind::Pipenv, "Pipfile")
        } else if project.has(&["tool", "poetry"]) {
            (Kind::Poetry, "tool.poetry in pyproject.toml")
        } else if project.has(&["tool", "uv"]) {
            (Kind::Uv, "tool.uv in pyproject.toml")
        } else if project.has(&["project"]) || project.has(&["build-system"]) {
            (Kind::Pip, "pyproject.toml")
        } else if folder.contains("setup.py") {
            (Kind::Pip, "setup.py")
        } else {
            // What has both keeps settings of tools in setup.cfg.
            (Kind::Pip, folder.first_of(&SPLIT_REQUIREMENTS).or_else(|| folder.first_of(&["setup.cfg"]))?)
        };
        let requirements = SPLIT_REQUIREMENTS.into_iter().find(|file| *file == because);
        Some(Self { kind, because: because.to_owned(), venv, requirements })
    }

    /// The folder with the programs that it installs, from the tree's root.
    pub(super) fn programs(&self) -> String {
        format!("{}/bin", self.venv)
    }

    /// Whether the project itself is installed, and its scripts with it.
    pub(super) fn installs_project(&self, folder: &Folder<'_>, project: &Project) -> bool {
        match self.kind {
            Kind::Pip => self.requirements.is_none(),
            Kind::Uv => {
                project.has(&["build-system"])
                    && project.get(&["tool", "uv", "package"]).is_none_or(|package| package.as_bool() != Some(false))
            }
            Kind::Poetry => poetry::has_package(folder, project),
            Kind::Pipenv => false,
        }
    }
}
