//! Ignore files and defaults, as the walk meets them folder by folder.

use std::io;
use std::path::Path;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::{Rule, SourceError, defaults};

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
        /// Whether the pattern says more of the name than `*`: only then it takes back a secret.
        by_name: bool,
    },
    /// It does not go.
    Leave(Rule),
}

/// The ignore files of one kind between the root and the folder being walked.
#[derive(Debug, Default)]
pub struct IgnoreStack {
    name: &'static str,
    levels: Vec<Option<Gitignore>>,
}

impl IgnoreStack {
    /// For ignore files of this name.
    pub fn new(name: &'static str) -> Self {
        Self { name, levels: Vec::new() }
    }

    /// The rules that git would bring from outside of `root`, a folder in the work tree at `top`; weakest first.
    pub fn enter_work_tree(&mut self, top: &Path, root: &Path) -> Result<(), SourceError> {
        self.levels.push(Some(GitignoreBuilder::new(top).build_global().0));
        let exclude = top.join(".git/info/exclude");
        // In a linked work tree `.git` is a file, and the rules lie elsewhere.
        if let Ok(bytes) = std::fs::read(&exclude) {
            self.levels.push(Some(parse(top, &exclude, ".git/info/exclude", &bytes)?));
        }
        let above: Vec<&Path> = root.ancestors().skip(1).take_while(|folder| folder.starts_with(top)).collect();
        for folder in above.into_iter().rev() {
            self.enter(folder, &format!("{}/", folder.display()))?;
        }
        Ok(())
    }

    /// Enters a folder. `prefix` is its path below the root, empty or ending with `/`.
    pub fn enter(&mut self, folder: &Path, prefix: &str) -> Result<(), SourceError> {
        let file = folder.join(self.name);
        let level = match std::fs::read(&file) {
            Ok(bytes) => Some(parse(folder, &file, &format!("{prefix}{}", self.name), &bytes)?),
            // A folder of that name is no ignore file.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::IsADirectory) => None,
            Err(error) => return Err(SourceError::unreadable(file, error)),
        };
        self.levels.push(level);
        Ok(())
    }

    /// Leaves the folder entered last.
    pub fn leave(&mut self) {
        self.levels.pop();
    }

    /// What the deepest ignore file that knows the path says. `path` is absolute.
    pub fn verdict(&self, path: &Path, is_directory: bool) -> Verdict {
        for level in self.levels.iter().rev().flatten() {
            match level.matched(path, is_directory) {
                Match::None => {}
                Match::Whitelist(glob) => {
                    let pattern = glob.original().trim_end_matches('/');
                    let last = pattern.rsplit('/').next().unwrap_or_default().trim_start_matches('!');
                    return Verdict::Take { by_name: last.chars().any(|character| character != '*') };
                }
                Match::Ignore(glob) => {
                    let file = glob.from().map_or_else(|| self.name.to_owned(), |from| from.display().to_string());
                    return Verdict::Leave(Rule::File(file, glob.original().to_owned()));
                }
            }
        }
        Verdict::Silent
    }
}

/// `shown` is how people call the file.
fn parse(folder: &Path, file: &Path, shown: &str, bytes: &[u8]) -> Result<Gitignore, SourceError> {
    let mut builder = GitignoreBuilder::new(folder);
    let refuse = |error: ignore::Error| SourceError::IgnoreFile { path: file.to_owned(), message: error.to_string() };
    for line in String::from_utf8_lossy(bytes).trim_start_matches('\u{feff}').lines() {
        // git passes over a pattern that it can't understand, and so do we.
        let _ = builder.add_line(Some(shown.into()), line);
    }
    builder.build().map_err(refuse)
}

/// The defaults, ready to be asked.
#[derive(Debug)]
pub struct Defaults {
    patterns: Gitignore,
}

impl Defaults {
    /// For the tree below `root`.
    pub fn new(root: &Path) -> Result<Self, SourceError> {
        let mut builder = GitignoreBuilder::new(root);
        let refuse =
            |error: ignore::Error| SourceError::IgnoreFile { path: root.to_owned(), message: error.to_string() };
        for pattern in defaults::PATTERNS {
            builder.add_line(None, pattern).map_err(refuse)?;
        }
        Ok(Self { patterns: builder.build().map_err(refuse)? })
    }

    /// Whether a default leaves the path out. `beside_composer`: the folder it lies in has a `composer.json`.
    pub fn verdict(&self, path: &Path, is_directory: bool, beside_composer: bool) -> Verdict {
        if is_directory && beside_composer && path.file_name().is_some_and(|name| name == "vendor") {
            return Verdict::Leave(Rule::Default("vendor/".to_owned()));
        }
        match self.patterns.matched(path, is_directory) {
            Match::Ignore(glob) => Verdict::Leave(Rule::Default(glob.original().to_owned())),
            _ => Verdict::Silent,
        }
    }
}
