//! Which rule decides on a path.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::git_files::plain;
use super::walk::{Answer, canonical, repository_of, walk};
use super::{Admission, Excluded, Line, Rule, Selection, SourceError, SourceOptions, git};
use crate::format::tree::is_state;

/// Why a path goes or does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The path in the tree, with a `/` at the end when it is a folder.
    pub path: String,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It goes; in a folder, so many entries.
    Goes {
        /// Why.
        because: Admission,
        /// The ignore rule that would decide if git did not track it.
        although: Option<Line>,
        /// Entries in it that go, of a folder.
        entries: Option<usize>,
    },
    /// It does not go.
    Stays {
        /// Why.
        rule: Rule,
        /// The folder that the rule is about, when the path lies in it.
        folder: Option<String>,
    },
    /// It is git's or ours, and no rule takes it.
    Never,
    /// It lies behind a link, which goes as a link.
    BehindLink(String),
}

impl Explanation {
    /// Whether it goes.
    pub fn goes(&self) -> bool {
        matches!(self.fate, Fate::Goes { .. })
    }
}

/// Explains what becomes of `asked`: a path in the tree, or one as `here` sees it.
pub fn explain(root: &Path, asked: &Path, here: &Path, options: &SourceOptions) -> Result<Explanation, SourceError> {
    let root = canonical(root)?;
    let path = in_tree(&root, asked, here)?;
    let shown = |path: &str| {
        let slash = if root.join(path).symlink_metadata().is_ok_and(|found| found.is_dir()) { "/" } else { "" };
        format!("{path}{slash}")
    };
    if path.split('/').any(|part| part == ".git" || is_state(part)) {
        return Ok(Explanation { path: shown(&path), fate: Fate::Never });
    }
    if let Some(link) = link_above(&root, &path) {
        return Ok(Explanation { path, fate: Fate::BehindLink(link) });
    }
    let (mut selection, answer) = walk(&root, options, Some(&path))?;
    let path = shown(&path);
    let fate = match answer {
        Some(answer) => goes(&root, &path, answer, &selection)?,
        None => stays(&root, &path, &mut selection.excluded)?,
    };
    Ok(Explanation { path, fate })
}

fn goes(root: &Path, path: &str, answer: Answer, selection: &Selection) -> Result<Fate, SourceError> {
    let entries = path.ends_with('/').then(|| {
        let own = path.trim_end_matches('/');
        let inside = |at: &str| at == own || at.starts_with(path);
        selection.entries.iter().filter(|entry| inside(entry.path.as_str())).count()
    });
    let decided = |tracked_too| -> Result<Option<Line>, SourceError> {
        let Some((repository, name)) = answer.listed.then(|| question(root, path)).flatten() else { return Ok(None) };
        let line = git::deciding_lines(&repository, &[name], tracked_too)?.into_iter().next().flatten();
        Ok(line.map(|line| seen_from(root, &repository, line)))
    };
    Ok(match answer.because {
        Admission::Tracked => {
            let although = decided(true)?.filter(|line| !line.pattern.starts_with('!'));
            Fate::Goes { because: Admission::Tracked, although, entries }
        }
        Admission::Unruled => {
            // git listed it and did not say by which `!`.
            let because = decided(false)?.map_or(Admission::Unruled, Admission::TakenBack);
            Fate::Goes { because, although: None, entries }
        }
        Admission::Lock(Rule::Git) => {
            let rule = decided(false)?.map_or(Rule::Git, Rule::Line);
            Fate::Goes { because: Admission::Lock(rule), although: None, entries }
        }
        because => Fate::Goes { because, although: None, entries },
    })
}

fn stays(root: &Path, path: &str, excluded: &mut [Excluded]) -> Result<Fate, SourceError> {
    let decides = |excluded: &Excluded| {
        excluded.path == path || (excluded.path.ends_with('/') && path.starts_with(&excluded.path))
    };
    name_git_rules(root, excluded, decides)?;
    match excluded.iter().find(|excluded| decides(excluded)) {
        Some(Excluded { path: decided, rule }) => {
            let folder = (decided != path).then(|| decided.clone());
            Ok(Fate::Stays { rule: rule.clone(), folder })
        }
        // It came or went while the folder was read.
        None => Err(SourceError::NoSuchPath { path: path.to_owned(), folder: root.to_owned() }),
    }
}

/// The path as the tree knows it. It must be there: rules ask whether something is a folder.
fn in_tree(root: &Path, asked: &Path, here: &Path) -> Result<String, SourceError> {
    let outside = || SourceError::Outside { path: asked.display().to_string(), folder: root.to_owned() };
    let exists = |path: &PathBuf| path.symlink_metadata().is_ok();
    let candidates = [plain(&root.join(asked)), plain(&here.join(asked))];
    // Links on the way to the folder are no part of its own path.
    let below = |path: &Path| -> Option<PathBuf> {
        let canonical = || Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
        path.strip_prefix(root)
            .map(Path::to_owned)
            .ok()
            .or_else(|| Some(canonical()?.strip_prefix(root).ok()?.to_owned()))
    };
    let found = candidates.iter().filter(|path| exists(path)).find_map(|path| below(path));
    if found.is_none() {
        let hidden = candidates.iter().find_map(|path| Some((path, path.symlink_metadata().err()?)));
        if let Some((path, error)) = hidden.filter(|(_, error)| error.kind() == std::io::ErrorKind::PermissionDenied) {
            return Err(SourceError::unreadable(path, error));
        }
    }
    let path = match found {
        Some(path) => path,
        None if candidates.iter().any(exists) || below(&candidates[0]).is_none() => return Err(outside()),
        None => {
            let path = asked.display().to_string();
            return Err(SourceError::NoSuchPath { path, folder: root.to_owned() });
        }
    };
    match path.to_str() {
        None => Err(SourceError::NotUtf8(path.display().to_string())),
        Some("") => Err(outside()),
        Some(path) => Ok(path.to_owned()),
    }
}

fn link_above(root: &Path, path: &str) -> Option<String> {
    let mut above = path.match_indices('/').map(|(slash, _)| &path[..slash]);
    above.find(|folder| root.join(folder).is_symlink()).map(str::to_owned)
}

/// The repository that decides on a path, and the path as that one knows it.
fn question(root: &Path, path: &str) -> Option<(PathBuf, Vec<u8>)> {
    let full = root.join(path);
    let repository = repository_of(root, &full);
    Some((repository.to_owned(), full.strip_prefix(repository).ok()?.to_str()?.into()))
}

/// A line that a repository inside the tree named, as the tree sees its file.
fn seen_from(root: &Path, repository: &Path, line: Line) -> Line {
    let inner = repository.strip_prefix(root).unwrap_or(Path::new(""));
    Line { file: inner.join(&line.file).display().to_string(), ..line }
}

/// Asks git which of its rules excluded what it excluded, as far as `which` wants to know.
pub(super) fn name_git_rules(
    root: &Path,
    excluded: &mut [Excluded],
    which: impl Fn(&Excluded) -> bool,
) -> Result<(), SourceError> {
    let mut by_repository: BTreeMap<PathBuf, (Vec<usize>, Vec<Vec<u8>>)> = BTreeMap::new();
    for (at, entry) in excluded.iter().enumerate().filter(|(_, entry)| entry.rule == Rule::Git && which(entry)) {
        if let Some((repository, name)) = question(root, &entry.path) {
            let (positions, names) = by_repository.entry(repository).or_default();
            positions.push(at);
            names.push(name);
        }
    }
    for (repository, (positions, names)) in by_repository {
        for (at, line) in positions.into_iter().zip(git::deciding_lines(&repository, &names, false)?) {
            if let Some(line) = line {
                excluded[at].rule = Rule::Line(seen_from(root, &repository, line));
            }
        }
    }
    Ok(())
}

impl Selection {
    /// Names the rules that only git knows.
    pub fn name_rules(&mut self) -> Result<(), SourceError> {
        name_git_rules(&self.root, &mut self.excluded, |_| true)
    }

    /// Why a path of the folder is not in the selection: the rule, where there is one.
    pub fn rule_on(&self, path: &str) -> Option<Rule> {
        let decides = |excluded: &&Excluded| {
            excluded.path == path || (excluded.path.ends_with('/') && path.starts_with(&excluded.path))
        };
        let mut decided = vec![self.excluded.iter().find(decides)?.clone()];
        // The rule is worth a question, not a failure.
        let _ = name_git_rules(&self.root, &mut decided, |_| true);
        decided.pop().map(|excluded| excluded.rule)
    }
}
