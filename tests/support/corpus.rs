//! The apps in `tests/corpus`: which row of the table or which trap each stands for, and how far it goes here.

#![allow(dead_code, reason = "no test file uses everything")]

use std::path::PathBuf;

/// One app. Its folder has its name.
#[derive(Debug, Clone, Copy)]
pub struct App {
    /// The folder. An app that serves answers `GET /` with a body that contains `corpus NAME`.
    pub name: &'static str,
    /// The row of the table of runtimes, or the trap.
    pub about: &'static str,
    /// Whether there is an image that starts it.
    pub starts: bool,
    /// Whether it is one of the few that stand for all where time is short.
    pub quick: bool,
    /// A command, for `sh -c`, by which the real tool, inside the image and in a copy of the folder, makes the lock file that
    /// can't be kept here: it would name a registry. Without it the app is installed unfrozen.
    pub prepare: Option<&'static str>,
}

impl App {
    const fn new(name: &'static str, about: &'static str) -> Self {
        Self { name, about, starts: true, quick: false, prepare: None }
    }

    const fn quick(self) -> Self {
        Self { quick: true, ..self }
    }

    /// Recognised, and nothing more.
    const fn recognised(self) -> Self {
        Self { starts: false, ..self }
    }

    const fn prepared(self, command: &'static str) -> Self {
        Self { prepare: Some(command), ..self }
    }

    /// Where it lies.
    pub fn folder(&self) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(self.name)
    }
}

/// All of them, by name.
pub const APPS: [App; 35] = [
    App::new("go-plain", "Go, with an index.html that is a template").recognised(),
    App::new("node-bun", "Bun: TypeScript that only `bun` starts"),
    App::new("node-hooks", "postinstall, prestart, and a start script for a shell"),
    App::new("node-monorepo", "`dir:`, with the lock file and a package of its own at the root"),
    App::new("node-npm", "npm with a lock file").quick(),
    App::new("node-npm-build", "a build script that needs development dependencies"),
    App::new("node-npm-drift", "a package-lock.json that `npm ci` would refuse"),
    App::new("node-npm-nolock", "npm without a lock file, started by server.js"),
    App::new("node-pnpm", "pnpm, called by the start script").quick(),
    App::new("node-procfile", "a Procfile: web, worker and release"),
    App::new("node-vite-site", "a build that makes a static site, which the binary serves"),
    App::new("node-with-php-inside", "PHP files below a Node app"),
    App::new("node-yarn-berry", "Yarn 4 with packages in archives: only `yarn` can start it"),
    App::new("node-yarn-modules", "Yarn 4 with node_modules"),
    App::new("node-yarn1", "Yarn 1, called by the start script"),
    App::new("php-composer", "Composer with a lock file, public/, and a package.json that is not Node's"),
    App::new("php-declared", "everything declared in workspace.yaml, for PHP").quick(),
    App::new("php-extension", "an extension that no image has").recognised(),
    App::new("php-plain", "index.php and nothing to install").quick(),
    App::new("python-declared", "everything declared in workspace.yaml, for Python").quick(),
    App::new("python-django", "Django with gunicorn, and a package.json"),
    App::new("python-django-runserver", "Django without a server of its own"),
    App::new("python-pip-fastapi", "an ASGI app in a package, and one in a docstring"),
    App::new("python-pip-flask", "a WSGI app in wsgi.py, requirements in two files").quick(),
    App::new("python-pipenv", "Pipenv").prepared("uv tool run --from 'pipenv>=2024' pipenv lock"),
    App::new("python-plain", "main.py and nothing to install"),
    App::new("python-poetry", "Poetry with a lock file and no package of its own"),
    App::new("python-pyproject", "pyproject.toml alone, started by its script"),
    App::new("python-two-locks", "uv.lock and requirements.txt: one is used"),
    App::new("python-uv", "uv with a lock file").quick(),
    App::new("rails-with-package-json", "Rails, with a package.json that has a start script").recognised(),
    App::new("static-declared", "everything declared in workspace.yaml, for files").quick(),
    App::new("static-index", "index.html in the root"),
    App::new("static-public", "public/, and a package.json for tools alone").quick(),
    App::new("static-spa", "`static:` with a folder, where unknown paths lead to the root"),
];
