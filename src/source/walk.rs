//! The walk: looks at every folder that may hold source, and at nothing else.
//!
//! A folder that is left out is never opened (`node_modules/` costs one look), except to find out whether it is empty.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, FileType};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::defaults::{self, LOCK_FILES, Suspicion};
use super::rules::{Defaults, GIT_IGNORE, IgnoreStack, Verdict, WORKSPACE_IGNORE};
use super::{Excluded, Rule, Selection, SourceEntry, SourceError, SourceKind, SourceOptions, Stat, git};
use crate::format::tree::STATE_DIRECTORY;

/// How much of a file tells whether it is a private key, in bytes.
const KEY_HEAD: u64 = 4_096;

/// Finds what is source in `root`.
pub fn select(root: &Path, options: SourceOptions) -> Result<Selection, SourceError> {
    let root = match fs::canonicalize(root) {
        Ok(path) => path,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(SourceError::NoSuchDirectory(root.to_owned()));
        }
        Err(error) => return Err(SourceError::unreadable(root, error)),
    };
    if !root.is_dir() {
        return Err(SourceError::NotADirectory(root));
    }
    let mut walk = Walk::new(&root, options)?;
    walk.folder(&root, "", &Inherited::default())?;
    walk.folders_unknown_to_git()?;
    walk.finish()
}

/// What a folder passes on to what is in it.
#[derive(Debug, Clone, Default)]
struct Inherited {
    /// `.workspaceignore` takes the folder back, whatever other rules say.
    taken_back: bool,
    /// The folder is left out but for tracked files.
    tracked_only: Option<Rule>,
}

struct Walk<'a> {
    root: &'a Path,
    options: SourceOptions,
    git: Option<Listed>,
    own: IgnoreStack,
    gitignore: IgnoreStack,
    defaults: Defaults,
    entries: Vec<SourceEntry>,
    excluded: Vec<Excluded>,
    warnings: Vec<String>,
    /// The first pair of names that differ only in case, and how many pairs there are.
    collision: Option<(String, String)>,
    collisions: usize,
    unknown_to_git: Vec<(PathBuf, String)>,
}

/// git's listing, and the folders that follow from it.
#[derive(Default)]
struct Listed {
    files: HashMap<Vec<u8>, bool>,
    folders: HashSet<Vec<u8>>,
    folders_with_tracked: HashSet<Vec<u8>>,
}

impl Listed {
    fn add(&mut self, listing: git::Listing, prefix: &str) {
        for (path, tracked) in listing.files {
            let path = [prefix.as_bytes(), &path].concat();
            let mut end = path.len();
            while let Some(slash) = path[..end].iter().rposition(|byte| *byte == b'/') {
                end = slash;
                let known = !self.folders.insert(path[..end].to_vec());
                let done = if tracked { !self.folders_with_tracked.insert(path[..end].to_vec()) } else { known };
                if done {
                    break;
                }
            }
            self.files.insert(path, tracked);
        }
    }
}

/// What becomes of one thing in a folder.
enum Fate {
    Goes,
    Stays(Rule),
    Descend(Inherited),
    AskGit,
    Unseen,
}

impl<'a> Walk<'a> {
    fn new(root: &'a Path, options: SourceOptions) -> Result<Self, SourceError> {
        let git = git::list(root)?.map(|listing| {
            let mut listed = Listed::default();
            listed.add(listing, "");
            listed
        });
        let mut gitignore = IgnoreStack::new(GIT_IGNORE);
        let mut warnings = Vec::new();
        if git.is_none()
            && let Some(top) = git::work_tree_above(root)
            && git::is_missing()
        {
            gitignore.enter_work_tree(&top, root)?;
            warnings.push(
                "git is not installed: files that it tracks although an ignore rule excludes them are left out"
                    .to_owned(),
            );
        }
        Ok(Self {
            root,
            options,
            git,
            own: IgnoreStack::new(WORKSPACE_IGNORE),
            gitignore,
            defaults: Defaults::new(root)?,
            entries: Vec::new(),
            excluded: Vec::new(),
            warnings,
            collision: None,
            collisions: 0,
            unknown_to_git: Vec::new(),
        })
    }

    /// Walks one folder. `prefix` is its path below the root, empty or ending with `/`.
    fn folder(&mut self, folder: &Path, prefix: &str, inherited: &Inherited) -> Result<(), SourceError> {
        let listing = match list(folder) {
            // Gone since its parent was read: then it isn't there.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !prefix.is_empty() => return Ok(()),
            other => other.map_err(|error| SourceError::unreadable(folder, error))?,
        };
        if listing.is_empty() && !prefix.is_empty() && inherited.tracked_only.is_none() {
            let path = prefix.trim_end_matches('/').parse()?;
            self.entries.push(SourceEntry { path, kind: SourceKind::Directory });
            return Ok(());
        }
        self.own.enter(folder, prefix)?;
        if self.git.is_none() {
            self.gitignore.enter(folder, prefix)?;
        }
        let composer = listing.iter().any(|(name, _)| name == "composer.json");
        // Names that are one where case does not count, as on most Macs, stand in one folder.
        let mut lowered: HashMap<String, String> = HashMap::new();
        for (name, kind) in listing {
            let path = folder.join(&name);
            let bytes = [prefix.as_bytes(), name.as_bytes()].concat();
            let fate = self.fate(&path, &bytes, kind, inherited, composer)?;
            if matches!(fate, Fate::Goes | Fate::Descend(_))
                && let Some(other) = lowered.insert(name.to_string_lossy().to_lowercase(), shown(prefix, &name))
            {
                self.collisions += 1;
                self.collision.get_or_insert((other, shown(prefix, &name)));
            }
            match fate {
                Fate::Unseen => {}
                Fate::Goes => self.take(&path, bytes, kind)?,
                Fate::Stays(rule) => self.leave_out(&bytes, kind, rule),
                Fate::Descend(inherited) => self.folder(&path, &format!("{}/", utf8(bytes)?), &inherited)?,
                Fate::AskGit => self.unknown_to_git.push((path, utf8(bytes)?)),
            }
        }
        self.own.leave();
        if self.git.is_none() {
            self.gitignore.leave();
        }
        Ok(())
    }

    fn fate(
        &mut self,
        path: &Path,
        bytes: &[u8],
        kind: FileType,
        inherited: &Inherited,
        composer: bool,
    ) -> Result<Fate, SourceError> {
        let name = path.file_name().unwrap_or_default();
        if name == ".git" || bytes.eq_ignore_ascii_case(STATE_DIRECTORY.as_bytes()) {
            return Ok(Fate::Unseen);
        }
        // A `!` for a folder is no `!` for the secrets in it: the pattern must name the file.
        let (mut taken_back, mut named) = (inherited.taken_back, false);
        match self.own.verdict(path, kind.is_dir()) {
            Verdict::Leave(rule) => return Ok(Fate::Stays(rule)),
            Verdict::Take { by_name } => (taken_back, named) = (true, by_name),
            Verdict::Silent => {}
        }
        if kind.is_dir() {
            return self.fate_of_folder(path, bytes, taken_back, inherited, composer);
        }
        let tracked = self.git.as_ref().and_then(|git| git.files.get(bytes).copied());
        let secret = if named || !kind.is_file() { Ok(false) } else { is_secret(path) };
        if matches!(secret, Ok(true)) {
            if tracked == Some(true) {
                let shown = String::from_utf8_lossy(bytes);
                self.warnings.push(format!(
                    "`{shown}` is tracked by git and looks like a secret: it is left out (`!/{shown}` in {WORKSPACE_IGNORE} takes it)"
                ));
            }
            return Ok(Fate::Stays(Rule::Secret));
        }
        if !kind.is_file() && !kind.is_symlink() {
            return Ok(Fate::Stays(Rule::Special));
        }
        let fate = self.fate_by_rules(path, bytes, tracked, taken_back, inherited);
        // One that can't be read is in nobody's way when it doesn't go.
        if matches!(fate, Fate::Goes) {
            secret?;
        }
        Ok(fate)
    }

    /// What the rules say of a file or link that is no secret.
    fn fate_by_rules(
        &mut self,
        path: &Path,
        bytes: &[u8],
        tracked: Option<bool>,
        taken_back: bool,
        inherited: &Inherited,
    ) -> Fate {
        if taken_back || tracked == Some(true) {
            return Fate::Goes;
        }
        if let Some(rule) = &inherited.tracked_only {
            return Fate::Stays(rule.clone());
        }
        let ignored = match &self.git {
            Some(_) if tracked.is_none() => Verdict::Leave(Rule::Git),
            Some(_) => Verdict::Silent,
            None => self.gitignore.verdict(path, false),
        };
        if let Verdict::Leave(rule) = ignored {
            let lock = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| LOCK_FILES.contains(&name));
            if lock && self.options.include_lock {
                return Fate::Goes;
            }
            if lock {
                let shown = String::from_utf8_lossy(bytes);
                self.warnings.push(format!("the lock file `{shown}` is left out ({rule}); `--include-lock` takes it"));
            }
            return Fate::Stays(rule);
        }
        match self.defaults.verdict(path, false, false) {
            Verdict::Leave(rule) => Fate::Stays(rule),
            _ => Fate::Goes,
        }
    }

    fn fate_of_folder(
        &mut self,
        path: &Path,
        bytes: &[u8],
        taken_back: bool,
        inherited: &Inherited,
        composer: bool,
    ) -> Result<Fate, SourceError> {
        let into = |tracked_only| Ok(Fate::Descend(Inherited { taken_back, tracked_only }));
        if taken_back {
            return into(None);
        }
        let rule = match self.defaults.verdict(path, true, composer) {
            Verdict::Leave(rule) => Some(inherited.tracked_only.clone().unwrap_or(rule)),
            _ => inherited.tracked_only.clone(),
        };
        let Some(git) = &mut self.git else {
            return match (self.gitignore.verdict(path, true), rule) {
                (Verdict::Leave(rule), _) | (_, Some(rule)) => Ok(Fate::Stays(rule)),
                _ => into(None),
            };
        };
        // A repository inside the work tree: a submodule, or one that lies there by itself.
        if git.files.contains_key(bytes) && path.join(".git").exists() {
            let prefix = format!("{}/", utf8(bytes.to_vec())?);
            if let Some(listing) = git::list(path)? {
                git.add(listing, &prefix);
                git.folders.insert(bytes.to_vec());
            }
        }
        match rule {
            Some(rule) if git.folders_with_tracked.contains(bytes) => into(Some(rule)),
            Some(rule) => Ok(Fate::Stays(rule)),
            None if git.folders.contains(bytes) || git.files.contains_key(bytes) => into(None),
            None => Ok(Fate::AskGit),
        }
    }

    /// Folders in which git lists nothing: ignored, or empty, or full of what is ignored.
    fn folders_unknown_to_git(&mut self) -> Result<(), SourceError> {
        while !self.unknown_to_git.is_empty() {
            let asked = std::mem::take(&mut self.unknown_to_git);
            // git refuses to answer for what lies in a submodule.
            let mut by_repository: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
            for (path, _) in &asked {
                let repository = self.repository_of(path);
                if let Some(name) = path.strip_prefix(repository).ok().and_then(Path::to_str) {
                    by_repository.entry(repository.to_owned()).or_default().push(name.to_owned());
                }
            }
            let mut ignored = HashSet::new();
            for (repository, names) in by_repository {
                ignored.extend(git::ignored(&repository, &names)?.into_iter().map(|name| repository.join(name)));
            }
            for (path, name) in asked {
                if ignored.contains(&path) {
                    self.excluded.push(Excluded { path: format!("{name}/"), rule: Rule::Git });
                } else {
                    self.folder_again(&path, &name)?;
                }
            }
        }
        Ok(())
    }

    /// The folder at or below the root whose repository a folder in it belongs to.
    fn repository_of<'p>(&self, path: &'p Path) -> &'p Path {
        let mut above = path.ancestors().skip(1);
        above.find(|folder| folder.join(".git").exists() || *folder == self.root).unwrap_or(path)
    }

    /// Walks a folder after the walk has left it, under the ignore files above it.
    fn folder_again(&mut self, path: &Path, name: &str) -> Result<(), SourceError> {
        let above: Vec<usize> = name.match_indices('/').map(|(slash, _)| slash + 1).collect();
        for end in std::iter::once(0).chain(above.iter().copied()) {
            self.own.enter(&self.root.join(&name[..end]), &name[..end])?;
        }
        self.folder(path, &format!("{name}/"), &Inherited::default())?;
        for _ in 0..=above.len() {
            self.own.leave();
        }
        Ok(())
    }

    fn take(&mut self, path: &Path, bytes: Vec<u8>, kind: FileType) -> Result<(), SourceError> {
        let name = utf8(bytes)?;
        let kind = if kind.is_symlink() {
            match fs::read_link(path) {
                Ok(target) => {
                    let text = target.to_str().ok_or_else(|| SourceError::NotUtf8(format!("{name} -> …")))?;
                    SourceKind::Link(text.to_owned())
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(SourceError::unreadable(path, error)),
            }
        } else {
            match fs::symlink_metadata(path) {
                Ok(metadata) => SourceKind::File(Stat::of(&metadata)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(SourceError::unreadable(path, error)),
            }
        };
        if let SourceKind::Link(target) = &kind
            && leaves_the_tree(&name, target)
        {
            self.warnings.push(format!(
                "the link `{name}` points out of the tree (`{target}`): a download refuses it unless told `--allow-external-links`, a container does not start with it"
            ));
        }
        self.entries.push(SourceEntry { path: name.parse()?, kind });
        Ok(())
    }

    fn leave_out(&mut self, bytes: &[u8], kind: FileType, rule: Rule) {
        let slash = if kind.is_dir() { "/" } else { "" };
        self.excluded.push(Excluded { path: format!("{}{slash}", String::from_utf8_lossy(bytes)), rule });
    }

    fn finish(mut self) -> Result<Selection, SourceError> {
        if self.entries.is_empty() {
            let rules: std::collections::BTreeSet<String> =
                self.excluded.iter().map(|excluded| excluded.rule.to_string()).collect();
            return Err(SourceError::Empty {
                path: self.root.to_owned(),
                excluded: self.excluded.len(),
                rules: rules.into_iter().take(3).collect::<Vec<_>>().join("; "),
            });
        }
        self.entries.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        self.excluded.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        if let Some((one, other)) = self.collision {
            let more =
                if self.collisions > 1 { format!(", and {} more pairs", self.collisions - 1) } else { String::new() };
            self.warnings.push(format!("`{one}` and `{other}` are one file where case does not count{more}"));
        }
        Ok(Selection {
            root: self.root.to_owned(),
            entries: self.entries,
            excluded: self.excluded,
            warnings: self.warnings,
        })
    }
}

fn shown(prefix: &str, name: &OsStr) -> String {
    format!("{prefix}{}", name.to_string_lossy())
}

fn list(folder: &Path) -> io::Result<Vec<(OsString, FileType)>> {
    let mut listing = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        listing.push((entry.file_name(), entry.file_type()?));
    }
    // The order of a folder is an accident; warnings and questions shall not be.
    listing.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    Ok(listing)
}

fn utf8(bytes: Vec<u8>) -> Result<String, SourceError> {
    String::from_utf8(bytes)
        .map_err(|error| SourceError::NotUtf8(String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

fn is_secret(path: &Path) -> Result<bool, SourceError> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(false) };
    match defaults::suspicion(name) {
        Suspicion::None => Ok(false),
        Suspicion::Certain => Ok(true),
        Suspicion::LookInside => {
            let mut head = Vec::new();
            let file = fs::File::open(path).map_err(|error| SourceError::unreadable(path, error))?;
            file.take(KEY_HEAD).read_to_end(&mut head).map_err(|error| SourceError::unreadable(path, error))?;
            Ok(defaults::is_private_key(&head))
        }
    }
}

/// Whether a link at `path` with this target points outside of the tree it lies in, judged by its text.
pub fn leaves_the_tree(path: &str, target: &str) -> bool {
    if target.starts_with('/') {
        return true;
    }
    let mut depth = path.matches('/').count();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if depth == 0 => return true,
            ".." => depth -= 1,
            _ => depth += 1,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_leave() {
        assert!(leaves_the_tree("a", "/etc/passwd"));
        assert!(leaves_the_tree("a", ".."));
        assert!(leaves_the_tree("d/a", "../../x"));
        assert!(leaves_the_tree("d/a", "x/../../../y"));
        assert!(!leaves_the_tree("d/a", "../x"));
        assert!(!leaves_the_tree("a", "b/../c"));
        assert!(!leaves_the_tree("d/e/a", "../../x"));
    }
}
