//! Asking git, which alone knows what is tracked and what its many ignore rules say.
//!
//! A repository is a stranger: its configuration must not make us run programs of its choice, and the environment of a
//! hook that we may run under must not point us elsewhere.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::environment::KEYS;

use super::git_files::{self, plain};
use super::{Line, SourceError};

/// Folders are named to git one by one as long as they are few and short: it compares each of its files with all of them.
const FOLDERS: usize = 64;
const FOLDER_BYTES: usize = 64 << 10;

/// What git says of the files below a folder. Paths are bytes that may not be UTF-8.
#[derive(Debug, Default)]
pub struct Listing {
    /// git's own words, which the paths are parts of: a large tree has many.
    said: Vec<u8>,
    /// By path.
    files: Vec<Listed>,
    /// Tracked files that git was told not to check out.
    pub skipped: Vec<Vec<u8>>,
}

/// A file that git lists, or another repository: one that it tracks, as a submodule, or one that lies there untracked.
#[derive(Debug)]
struct Listed {
    path: Range<usize>,
    tracked: bool,
}

/// What git lists in one folder, without what lies deeper.
pub struct Inside<'a> {
    listing: &'a Listing,
    /// Names, and whether each is tracked; by name.
    files: Vec<(&'a [u8], bool)>,
    /// Names, and what lies in each; by name.
    folders: Vec<(&'a [u8], Range<usize>)>,
}

impl Listing {
    fn of(said: Vec<u8>) -> Self {
        let mut listing = Self::default();
        let mut start = 0;
        for end in memchr::memchr_iter(0, &said) {
            let line = start..end;
            start = end + 1;
            // A status letter, a space, and the path.
            let [status, b' ', path @ ..] = &said[line.clone()] else { continue };
            if *status == b'S' {
                listing.skipped.push(path.to_vec());
            }
            let end = line.end - usize::from(path.ends_with(b"/"));
            listing.files.push(Listed { path: line.start + 2..end, tracked: *status != b'?' });
        }
        // What is untracked comes first, each in order.
        listing.files.sort_by(|one, other| said[one.path.clone()].cmp(&said[other.path.clone()]));
        listing.said = said;
        listing
    }

    fn path(&self, at: usize) -> &[u8] {
        &self.said[self.files[at].path.clone()]
    }

    /// The files whose paths begin with this.
    pub fn beginning_with(&self, start: &[u8]) -> Range<usize> {
        let first = self.files.partition_point(|file| &self.said[file.path.clone()] < start);
        first..first + self.at_once(start, first..self.files.len())
    }

    /// How many at the beginning of a range have paths that begin with this.
    fn at_once(&self, start: &[u8], range: Range<usize>) -> usize {
        self.files[range].partition_point(|file| self.said[file.path.clone()].starts_with(start))
    }

    /// What lies in a folder, whose path is empty or ends with `/`, and in which these lie.
    pub fn inside(&self, folder: &[u8], within: Range<usize>) -> Inside<'_> {
        let mut inside = Inside { listing: self, files: Vec::new(), folders: Vec::new() };
        let mut at = within.start;
        while at < within.end {
            let path = self.path(at);
            let below = &path[folder.len()..];
            let Some(length) = memchr::memchr(b'/', below) else {
                inside.files.push((below, self.files[at].tracked));
                at += 1;
                continue;
            };
            let end = at + self.at_once(&path[..=folder.len() + length], at..within.end);
            inside.folders.push((&below[..length], at..end));
            at = end;
        }
        // `a.b/` comes before `a/`, and `a` before `a.b`.
        inside.folders.sort_by_key(|(name, _)| *name);
        inside
    }
}

impl Inside<'_> {
    /// Whether git tracks a file; nothing where it doesn't list it.
    pub fn file(&self, name: &[u8]) -> Option<bool> {
        let at = self.files.binary_search_by_key(&name, |(name, _)| name).ok()?;
        Some(self.files[at].1)
    }

    /// What lies in a folder.
    pub fn folder(&self, name: &[u8]) -> Range<usize> {
        let at = self.folders.binary_search_by_key(&name, |(name, _)| name);
        at.map_or(0..0, |at| self.folders[at].1.clone())
    }

    /// Whether git tracks anything in a folder.
    pub fn has_tracked(&self, name: &[u8]) -> bool {
        self.listing.files[self.folder(name)].iter().any(|file| file.tracked)
    }
}

/// What is published, in the words of version control.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Commit {
    /// The commit's id.
    pub id: Option<String>,
    /// The branch, if `HEAD` is on one.
    pub branch: Option<String>,
    /// `Name <address>` of the person that git would record.
    pub author: Option<String>,
}

/// What points git elsewhere (`git rev-parse --local-env-vars`, without configuration) or changes how it reads paths.
const ELSEWHERE: &[&str] = &[
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_CEILING_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_GLOB_PATHSPECS",
    "GIT_GRAFT_FILE",
    "GIT_ICASE_PATHSPECS",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_LITERAL_PATHSPECS",
    "GIT_NAMESPACE",
    "GIT_NOGLOB_PATHSPECS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
];

/// git, without the keys of the store.
fn bare() -> Command {
    let mut command = Command::new("git");
    for variable in KEYS {
        command.env_remove(variable);
    }
    command
}

fn git(directory: &Path) -> Command {
    let mut command = bare();
    command.arg("-C").arg(directory);
    // Reading must neither start the repository's programs nor take locks; another owner's tree is only read.
    command.args(["-c", "core.fsmonitor=false", "-c", "safe.directory=*", "-c", "core.quotePath=false"]);
    command.env("GIT_OPTIONAL_LOCKS", "0").env("LC_ALL", "C");
    for variable in ELSEWHERE {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
    command
}

/// Standard output of a successful call; nothing when git is missing or says no.
fn ask(directory: &Path, arguments: &[&str]) -> Option<String> {
    let output = git(directory).args(arguments).stderr(Stdio::null()).output().ok()?;
    if !output.status.success() {
        return None;
    }
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim_end_matches('\n').to_owned()).filter(|text| !text.is_empty())
}

/// The top of the work tree that the folder lies in, judged without git.
pub fn work_tree_above(directory: &Path) -> Option<PathBuf> {
    directory.ancestors().find(|folder| git_files::is_top(folder)).map(Path::to_owned)
}

/// Whether git can't be asked because it is not there.
pub fn is_missing() -> bool {
    let asked = bare().arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).status();
    asked.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// What git tracks, or nothing where it can't be asked: it is not installed, or the folder is not in a work tree, or is
/// itself ignored by the work tree around it (then the person means the folder for what it is).
pub fn list_tracked(directory: &Path) -> Result<Option<Listing>, SourceError> {
    list_by(directory, &["--cached"])
}

/// The same, and what is untracked and not ignored.
pub fn list(directory: &Path) -> Result<Option<Listing>, SourceError> {
    list_by(directory, &["--cached", "--others", "--exclude-standard"])
}

fn list_by(directory: &Path, what: &[&str]) -> Result<Option<Listing>, SourceError> {
    if git_files::is_torn_off(directory) {
        return Ok(None);
    }
    let Some(top) = work_tree_above(directory) else { return Ok(None) };
    if top != directory && is_ignored(&top, directory)? {
        return Ok(None);
    }
    files(directory, git(directory).args(["ls-files", "-z", "-t"]).args(what))
}

/// What lies untracked in these folders, whose paths begin at `directory`, and is not ignored.
pub fn list_untracked(directory: &Path, folders: &[&Path]) -> Result<Listing, SourceError> {
    let mut command = git(directory);
    command.args(["--literal-pathspecs", "ls-files", "-z", "-t", "--others", "--exclude-standard", "--"]);
    let bytes: usize = folders.iter().map(|folder| folder.as_os_str().len() + 1).sum();
    if folders.len() <= FOLDERS && bytes <= FOLDER_BYTES {
        command.args(folders);
    }
    Ok(files(directory, &mut command)?.unwrap_or_default())
}

/// What git lists; nothing where there is no git.
fn files(directory: &Path, listing: &mut Command) -> Result<Option<Listing>, SourceError> {
    let output = match listing.output() {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(directory, &error.to_string())),
    };
    if !output.status.success() {
        return Err(failed(directory, &String::from_utf8_lossy(&output.stderr)));
    }
    Ok(Some(Listing::of(output.stdout)))
}

fn is_ignored(top: &Path, directory: &Path) -> Result<bool, SourceError> {
    match git(top).args(["check-ignore", "-q", "--"]).arg(directory).stderr(Stdio::null()).status() {
        Ok(status) => Ok(status.code() == Some(0)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(directory, &error.to_string())),
    }
}

/// Whether what git tracks at a path in this repository is a submodule.
pub fn is_submodule(repository: &Path, path: &Path) -> Result<bool, SourceError> {
    let below = path.strip_prefix(repository).unwrap_or(path);
    let mut command = git(repository);
    let output = command.args(["--literal-pathspecs", "ls-files", "-z", "--stage", "--"]).arg(below).output();
    // Mode, object, stage, path: the mode of a submodule is none of a file.
    Ok(output.map_err(|error| failed(repository, &error.to_string()))?.stdout.starts_with(b"160000 "))
}

/// Which of the given folders git ignores. It is silent about one whose path matches something tracked as a pattern.
pub fn ignored(directory: &Path, folders: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, SourceError> {
    // Without a `/` at the end: `a/*` would match `a/`. git looks whether it is a folder.
    let answer = check_ignore(directory, &["-v"], folders)?;
    // Without `-v` git names what a `!` takes back, too, before 2.26.
    let fields: Vec<&[u8]> = answer.split(|byte| *byte == 0).collect();
    let ignored = fields.chunks_exact(4).filter(|fields| !fields[2].starts_with(b"!"));
    Ok(ignored.map(|fields| fields[3].strip_prefix(b"./").unwrap_or(fields[3]).to_vec()).collect())
}

/// The pattern that decides on each path, if one does; `!` patterns too. `tracked_too`: even where git
/// tracks the path, so that no rule counts.
pub fn deciding_lines(
    directory: &Path,
    paths: &[Vec<u8>],
    tracked_too: bool,
) -> Result<Vec<Option<Line>>, SourceError> {
    let options: &[&str] = if tracked_too { &["-v", "-n", "--no-index"] } else { &["-v", "-n"] };
    let answer = check_ignore(directory, options, paths)?;
    // Source, line, pattern, path; the first three are empty where no pattern decides.
    let fields: Vec<&[u8]> = answer.split(|byte| *byte == 0).collect();
    let top = work_tree_above(directory).unwrap_or_else(|| directory.to_owned());
    let line = |fields: &[&[u8]]| {
        let number = String::from_utf8_lossy(fields[1]).parse().ok()?;
        // git names files as the top of the work tree sees them.
        let file = plain(&top.join(OsStr::from_bytes(fields[0])));
        let file = file.strip_prefix(directory).map_or(file.as_path(), |file| file).display().to_string();
        Some(Line { file, line: number, pattern: String::from_utf8_lossy(fields[2]).into_owned() })
    };
    Ok(fields.chunks_exact(4).map(line).collect())
}

/// For each path where a pattern decides: source, line, pattern, path.
fn check_ignore(directory: &Path, options: &[&str], paths: &[Vec<u8>]) -> Result<Vec<u8>, SourceError> {
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    // What a `:` begins is no path to it but a pattern, and it refuses to be told otherwise.
    let plain = |path: &[u8]| if path.starts_with(b":") { &b"./"[..] } else { b"" };
    let question: Vec<u8> = paths.iter().flat_map(|path| [plain(path), path, b"\0"].concat()).collect();
    let mut child = git(directory)
        .args(["check-ignore", "-z", "--stdin"])
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(directory, &error.to_string()))?;
    let mut input = child.stdin.take();
    // On a thread of its own: git answers while it is still being asked.
    let asking = std::thread::spawn(move || input.as_mut().map(|input| input.write_all(&question)));
    let output = child.wait_with_output().map_err(|error| failed(directory, &error.to_string()))?;
    // git may have stopped reading; its status tells.
    let _ = asking.join();
    if output.status.code().is_none_or(|code| code > 1) {
        return Err(failed(directory, &String::from_utf8_lossy(&output.stderr)));
    }
    Ok(output.stdout)
}

fn failed(directory: &Path, message: &str) -> SourceError {
    SourceError::Git { path: directory.to_owned(), message: message.trim().to_owned() }
}

/// The commit, branch and person behind a folder. Empty outside of a work tree.
pub fn commit_of(directory: &Path) -> Commit {
    // A relative path does not show the folders above it.
    if directory.canonicalize().ok().and_then(|directory| work_tree_above(&directory)).is_none() {
        return Commit::default();
    }
    // At the same time: each takes some milliseconds, most of them to start.
    let (ident, id, branch) = std::thread::scope(|scope| {
        let ident = scope.spawn(|| ask(directory, &["var", "GIT_AUTHOR_IDENT"]));
        let id = scope.spawn(|| ask(directory, &["rev-parse", "--verify", "-q", "HEAD"]));
        let branch = ask(directory, &["symbolic-ref", "-q", "--short", "HEAD"]);
        (ident.join().unwrap_or_default(), id.join().unwrap_or_default(), branch)
    });
    // `Name <address> seconds zone`
    let author = ident.and_then(|ident| ident.rfind('>').map(|end| ident[..=end].to_owned()));
    Commit { id, branch, author }
}

/// Whether `commit` is an ancestor of `later` and not the same. Nothing where the repository doesn't know one of them.
pub fn is_ancestor(directory: &Path, commit: &str, later: &str) -> Option<bool> {
    let is_id = |text: &str| text.len() >= 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_id(commit) || !is_id(later) {
        return None;
    }
    if commit == later {
        return Some(false);
    }
    let status =
        git(directory).args(["merge-base", "--is-ancestor", commit, later]).stderr(Stdio::null()).status().ok()?;
    match status.code() {
        Some(0) => Some(true),
        Some(1) => Some(false),
        _ => None,
    }
}
