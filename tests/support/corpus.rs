//! The apps in `tests/corpus`: what each stands for, and how far it goes here.

/// One app. Its folder has its name, which begins with its runtime.
#[derive(Debug, Clone, Copy)]
pub struct App {
    /// The folder. An app that serves answers `GET /` with a body that contains `corpus NAME`.
    pub name: &'static str,
    /// Whether there is an image that starts it.
    pub starts: bool,
    /// Whether it is one of the few that stand for all where time is short.
    pub quick: bool,
    /// A command, for `sh -c`, by which the real tool, inside the image and in a copy of the folder, makes the lock file that
    /// can't be kept here.
    pub prepare: Option<&'static str>,
}

impl App {
    const fn new(name: &'static str) -> Self {
        Self { name, starts: true, quick: true, prepare: None }
    }
}

/// All of them, by name.
pub const APPS: [App; 3] = [App::new("php-declared"), App::new("python-declared"), App::new("static-declared")];
