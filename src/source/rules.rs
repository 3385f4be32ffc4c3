//! Ignore files and defaults, as the walk meets them folder by folder.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::git_files::{GitPlaces, IgnoreSettings};
use super::pattern::Patterns;
use super::{Line, Rule, SourceError, defaults};

/// The name of our own ignore files.
pub const WORKSPACE_IGNORE: &str = ".workspaceignore";
/// The name of git's.
pub const GIT_IGNORE: &str = ".gitignore";

/// What a set of rules says of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Silent,
    /// It goes.
    Take {
        /// The `!` pattern.
        line: Line,
        /// Whether the pattern says something of the name: only then it takes back a secret.
        by_name: bool,
    },
    /// It does not go.
    Leave(Rule),
}

/// The ignore files of one kind between the root and the folder being walked. A copy is cheap, and may go another way.
#[derive(Debug, Clone, Default)]
pub struct IgnoreStack {
    name: &'static str,
    ignore_case: bool,
    deepest: Option<Arc<Level>>,
}

/// An ignore file.
#[derive(Debug)]
struct Level {
    above: Option<Arc<Level>>,
    /// How people call it.
    shown: String,
    /// Its patterns count from here.
    folder: PathBuf,
    patterns: Patterns,
}

impl IgnoreStack {
    /// For ignore files of this name.
    pub fn new(name: &'static str) -> Self {
        Self { name, ..Self::default() }
    }

    /// git's ignore files in the work tree at `top`, with the rules that it brings from elsewhere; weakest first. The caller
    /// enters `top` itself.
    pub fn of_work_tree(top: &Path, places: &GitPlaces) -> Result<Self, SourceError> {
        let settings = IgnoreSettings::of(top, places);
        let mut stack = Self { name: GIT_IGNORE, ignore_case: settings.ignore_case, deepest: None };
        for (file, shown) in [(settings.excludes_file, None), (settings.info_exclude, Some(".git/info/exclude"))] {
            let Some(file) = file else { continue };
            let shown = shown.map_or_else(|| file.display().to_string(), str::to_owned);
            stack.push(top, &file, shown, true)?;
        }
        Ok(stack)
    }

    /// Enters a folder. `prefix` is its path below the root, empty or ending with `/`.
    pub fn enter(&mut self, folder: &Path, prefix: &str) -> Result<(), SourceError> {
        // git doesn't follow a `.gitignore` that is a link: a stranger's tree could read files of ours with it.
        self.push(folder, &folder.join(self.name), format!("{prefix}{}", self.name), self.name != GIT_IGNORE)
    }

    fn push(&mut self, folder: &Path, file: &Path, shown: String, follow: bool) -> Result<(), SourceError> {
        let patterns = read(file, follow).and_then(|content| {
            let parse = |content: Vec<u8>| Patterns::parse(&content, self.ignore_case);
            let too_many = |error| io::Error::other(format!("its patterns are too many or too large: {error}"));
            content.map(parse).transpose().map_err(too_many)
        });
        let patterns = patterns.map_err(|error| SourceError::unreadable(file, error))?;
        if let Some(patterns) = patterns.filter(|patterns| !patterns.is_empty()) {
            let above = self.deepest.take();
            self.deepest = Some(Arc::new(Level { above, shown, folder: folder.components().collect(), patterns }));
        }
        Ok(())
    }

    /// Whether none was met.
    pub fn is_empty(&self) -> bool {
        self.deepest.is_none()
    }

    /// What the deepest ignore file that knows the path says. `path` is absolute.
    pub fn verdict(&self, path: &Path, is_directory: bool) -> Verdict {
        for level in std::iter::successors(self.deepest.as_deref(), |level| level.above.as_deref()) {
            let Some(below) = below(path, &level.folder) else { continue };
            let Some(pattern) = level.patterns.find(below, is_directory) else { continue };
            let line = Line { file: level.shown.clone(), line: pattern.line, pattern: pattern.text.clone() };
            return if pattern.takes_back {
                Verdict::Take { line, by_name: pattern.says_a_name }
            } else {
                Verdict::Leave(Rule::Line(line))
            };
        }
        Verdict::Silent
    }
}

/// What follows of a path after a folder that it lies in. Neither ends with a `/`.
fn below<'p>(path: &'p Path, folder: &Path) -> Option<&'p [u8]> {
    let rest = path.as_os_str().as_bytes().strip_prefix(folder.as_os_str().as_bytes())?;
    if folder == Path::new("/") { Some(rest) } else { rest.strip_prefix(b"/") }
}

/// The content of an ignore file; nothing where there is none. A folder of that name is no ignore file.
fn read(file: &Path, follow: bool) -> io::Result<Option<Vec<u8>>> {
    let flags = if follow { rustix::fs::OFlags::empty() } else { rustix::fs::OFlags::NOFOLLOW };
    // NONBLOCK: a pipe of that name must not hold us.
    let flags = (flags | rustix::fs::OFlags::NONBLOCK).bits().cast_signed();
    let mut content = Vec::new();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(file);
    match opened.and_then(|mut file| if file.metadata()?.is_file() { file.read_to_end(&mut content) } else { Ok(0) }) {
        Ok(_) => Ok(Some(content)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(_) if !follow && fs::symlink_metadata(file).is_ok_and(|found| found.is_symlink()) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The defaults, ready to be asked.
#[derive(Debug)]
pub struct Defaults {
    patterns: Patterns,
}

impl Defaults {
    /// Reads them.
    pub fn new() -> Self {
        let patterns = Patterns::parse(defaults::PATTERNS.join("\n").as_bytes(), false);
        Self { patterns: patterns.expect("the defaults are few") }
    }

    /// The default that leaves a name out. `beside_composer`: the folder it lies in has a `composer.json`.
    pub fn find(&self, name: &[u8], is_directory: bool, beside_composer: bool) -> Option<Rule> {
        if is_directory && beside_composer && name == b"vendor" {
            return Some(Rule::Default("vendor/".to_owned()));
        }
        let pattern = self.patterns.find(name, is_directory)?;
        Some(Rule::Default(pattern.text.clone()))
    }
}
