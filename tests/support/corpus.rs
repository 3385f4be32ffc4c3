//! The applications of tests/corpus: which runtime each needs, and what makes the files that are not in the repository.

/// An application.
#[derive(Debug, Clone, Copy)]
pub struct App {
    /// Its folder in tests/corpus. `GET /` answers with `corpus` and this.
    pub name: &'static str,
    /// The runtime whose image runs it.
    pub runtime: &'static str,
    /// Shell commands that are run in the tree, in that image, before the upload: lock files that the real tool writes.
    pub prepare: &'static [&'static str],
}

const fn app(name: &'static str, runtime: &'static str, prepare: &'static [&'static str]) -> App {
    App { name, runtime, prepare }
}

/// All of them.
pub const APPS: &[App] =
    &[app("declared-php", "php", &[]), app("declared-python", "python", &[]), app("declared-static", "static", &[])];

/// The application of that name.
pub fn named(name: &str) -> App {
    *APPS.iter().find(|app| app.name == name).unwrap_or_else(|| panic!("there is no `{name}` in the table"))
}
