//! git's own files, for a machine where git is not installed: where a repository keeps its rules, and what configuration
//! says of ignoring.

use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::environment::{
    Environment, GIT_CONFIG_GLOBAL, GIT_CONFIG_NOSYSTEM, GIT_CONFIG_SYSTEM, HOME, XDG_CONFIG_HOME,
};

/// How deep files may include each other; git's own bound.
const INCLUDES: u32 = 10;

/// Where git keeps what belongs to no repository.
#[derive(Debug, Clone, Default)]
pub struct GitPlaces {
    /// Configuration, the weakest first.
    configuration: Vec<PathBuf>,
    /// The ignore file that is used when none is configured.
    excludes: Option<PathBuf>,
    home: Option<PathBuf>,
}

impl GitPlaces {
    /// By the rules of git-config(1).
    pub fn of(environment: &Environment) -> Self {
        let home = environment.path(HOME);
        let own = environment.path(XDG_CONFIG_HOME).or_else(|| Some(home.as_ref()?.join(".config")));
        let own = own.map(|folder| folder.join("git"));
        let mut configuration = Vec::new();
        if !environment.get(GIT_CONFIG_NOSYSTEM).is_some_and(is_true) {
            configuration.push(environment.path(GIT_CONFIG_SYSTEM).unwrap_or_else(|| "/etc/gitconfig".into()));
        }
        if environment.get(GIT_CONFIG_GLOBAL).is_some() {
            configuration.extend(environment.path(GIT_CONFIG_GLOBAL));
        } else {
            configuration.extend(own.as_ref().map(|folder| folder.join("config")));
            configuration.extend(home.as_ref().map(|home| home.join(".gitconfig")));
        }
        Self { configuration, excludes: own.map(|folder| folder.join("ignore")), home }
    }
}

/// What a repository's files say of ignoring.
#[derive(Debug, Clone, Default)]
pub struct IgnoreSettings {
    /// `core.excludesFile`, or the usual place.
    pub excludes_file: Option<PathBuf>,
    /// `info/exclude`, which all work trees of a repository share.
    pub info_exclude: Option<PathBuf>,
    /// `core.ignoreCase`.
    pub ignore_case: bool,
}

impl IgnoreSettings {
    /// Of the repository whose work tree has its top at `top`. What can't be read says nothing.
    pub fn of(top: &Path, places: &GitPlaces) -> Self {
        let directory = repository_folder(top);
        let common = directory.as_deref().map(common_folder);
        let mut entries = Vec::new();
        for file in &places.configuration {
            read(file, places, INCLUDES, &mut entries);
        }
        if let (Some(directory), Some(common)) = (&directory, &common) {
            read(&common.join("config"), places, INCLUDES, &mut entries);
            if last(&entries, "extensions.worktreeconfig").is_some_and(is_true) {
                read(&directory.join("config.worktree"), places, INCLUDES, &mut entries);
            }
        }
        let excludes_file = match last(&entries, "core.excludesfile") {
            // Set to nothing, it takes the usual place away.
            Some("") => None,
            Some(path) => Some(plain(&top.join(expanded(path, places)))),
            None => places.excludes.clone(),
        };
        Self {
            excludes_file,
            info_exclude: common.map(|common| common.join("info/exclude")),
            ignore_case: last(&entries, "core.ignorecase").is_some_and(is_true),
        }
    }
}

/// Whether a folder is the top of a work tree, as far as a look at it tells.
pub fn is_top(folder: &Path) -> bool {
    // Without a `HEAD` it is somebody's leftover, or a work tree that was copied without its repository.
    repository_folder(folder).is_some_and(|git| git.join("HEAD").symlink_metadata().is_ok())
}

/// Whether a folder's `.git` names a repository that is not there.
pub fn is_torn_off(folder: &Path) -> bool {
    folder.join(".git").is_file() && !is_top(folder)
}

/// The folder of the repository: `.git`, or what the file `.git` of a linked work tree or a submodule names.
fn repository_folder(top: &Path) -> Option<PathBuf> {
    let git = top.join(".git");
    // Most folders have none, and are asked often.
    let found = fs::metadata(&git).ok()?;
    if found.is_dir() {
        return Some(git);
    }
    let text = found.is_file().then(|| fs::read_to_string(git).ok()).flatten()?;
    Some(top.join(text.strip_prefix("gitdir:")?.trim()))
}

/// The folder of the repository whose work tree a folder lies in.
pub fn repository_folder_of(folder: &Path) -> Option<PathBuf> {
    let top = folder.ancestors().find(|folder| is_top(folder))?;
    repository_folder(top).map(|git| plain(&git))
}

/// Files outside of a folder that bear on what is source in it: ignore files of the work tree above it, git's configuration,
/// and the ignore file that it names.
pub fn files_with_rules(folder: &Path, places: &GitPlaces) -> Vec<PathBuf> {
    let Some(top) = folder.ancestors().find(|folder| is_top(folder)) else { return Vec::new() };
    let above = folder.ancestors().skip(1).take_while(|above| above.starts_with(top));
    let mut files: Vec<PathBuf> = above.map(|above| above.join(".gitignore")).collect();
    files.extend(places.configuration.iter().cloned());
    files.extend(IgnoreSettings::of(top, places).excludes_file);
    files
}

/// What all work trees of a repository share.
fn common_folder(directory: &Path) -> PathBuf {
    match fs::read_to_string(directory.join("commondir")) {
        Ok(text) => directory.join(text.trim_end_matches(['\n', '\r'])),
        Err(_) => directory.to_owned(),
    }
}

/// Without `.` and `..`, by the text alone.
pub(super) fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

fn last<'e>(entries: &'e [(String, String)], key: &str) -> Option<&'e str> {
    entries.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
}

fn is_true(value: &str) -> bool {
    ["true", "yes", "on"].iter().any(|word| value.eq_ignore_ascii_case(word))
        || value.parse::<i64>().is_ok_and(|number| number != 0)
}

fn expanded(path: &str, places: &GitPlaces) -> PathBuf {
    let path = path.strip_prefix(":(optional)").unwrap_or(path);
    match (path.strip_prefix("~/"), &places.home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(path),
    }
}

fn read(file: &Path, places: &GitPlaces, depth: u32, entries: &mut Vec<(String, String)>) {
    let Ok(bytes) = fs::read(file) else { return };
    for (key, value) in parse(&String::from_utf8_lossy(&bytes)) {
        if key == "include.path" && depth > 0 {
            let folder = file.parent().unwrap_or(Path::new("/"));
            read(&folder.join(expanded(&value, places)), places, depth - 1, entries);
        }
        entries.push((key, value));
    }
}

/// The entries of a configuration file: `section.name` or `section.Sub.name`, and the value. Pure.
fn parse(text: &str) -> Vec<(String, String)> {
    let mut entries = Vec::new();
    let mut section = String::new();
    let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n");
    let mut rest = text.as_str();
    loop {
        rest = rest.trim_start();
        match rest.chars().next() {
            None => return entries,
            Some('#' | ';') => rest = rest.split_once('\n').map_or("", |(_, after)| after),
            Some('[') => {
                let (header, after) = rest[1..].split_once(']').unwrap_or((&rest[1..], ""));
                rest = after;
                section = match header.split_once('"') {
                    Some((name, sub)) => format!("{}.{}", name.trim().to_lowercase(), sub.trim_end_matches('"')),
                    None => header.trim().to_lowercase(),
                };
            }
            Some(_) => {
                let end = rest.find(['=', '\n']).unwrap_or(rest.len());
                let name = rest[..end].split(['#', ';']).next().unwrap_or_default().trim().to_lowercase();
                let value;
                (value, rest) = match rest[end..].strip_prefix('=') {
                    Some(after) => value_of(after),
                    // A name alone is a switch that is on.
                    None => ("true".to_owned(), &rest[end..]),
                };
                entries.push((format!("{section}.{name}"), value));
            }
        }
    }
}

/// A value, and what comes behind its line.
fn value_of(text: &str) -> (String, &str) {
    let mut value = String::new();
    // Spaces at the end of what stands outside of quotes don't count.
    let (mut counted, mut quoted, mut comment) = (0, false, false);
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\n' => {
                value.truncate(counted);
                return (value, &text[at + 1..]);
            }
            _ if comment => {}
            '"' => {
                quoted = !quoted;
                counted = value.len();
            }
            '\\' => {
                match characters.next() {
                    None | Some((_, '\n')) => {}
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, 't')) => value.push('\t'),
                    Some((_, other)) => value.push(other),
                }
                counted = value.len();
            }
            '#' | ';' if !quoted => comment = true,
            space if space.is_whitespace() && !quoted => {
                if !value.is_empty() {
                    value.push(space);
                }
            }
            other => {
                value.push(other);
                counted = value.len();
            }
        }
    }
    value.truncate(counted);
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_as_git_reads_it() {
        let text = "# c\n[core] excludesFile = ~/a b ; comment\n\tIgnoreCase\n[include]\npath = \"x # y\" \n\
                    [remote \"Or.igin\"]\n url = a\\\nb\n[Core]\nexcludesfile = \"c:\\\\d\\\"\"\n";
        let expected = [
            ("core.excludesfile", "~/a b"),
            ("core.ignorecase", "true"),
            ("include.path", "x # y"),
            ("remote.Or.igin.url", "ab"),
            ("core.excludesfile", "c:\\d\""),
        ];
        assert_eq!(parse(text), expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert_eq!(last(&parse(text), "core.excludesfile"), Some("c:\\d\""));
        assert!(parse("[broken").is_empty());
    }

    #[test]
    fn where_git_looks() {
        let places = |pairs: &[(&str, &str)]| GitPlaces::of(&Environment::from_pairs(pairs.iter().copied()));
        let usual = places(&[("HOME", "/h")]);
        assert_eq!(
            usual.configuration,
            ["/etc/gitconfig", "/h/.config/git/config", "/h/.gitconfig"].map(PathBuf::from)
        );
        assert_eq!(usual.excludes, Some("/h/.config/git/ignore".into()));
        let named = places(&[
            ("HOME", "/h"),
            ("XDG_CONFIG_HOME", "/x"),
            ("GIT_CONFIG_GLOBAL", "/g"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
        ]);
        assert_eq!((named.configuration, named.excludes), (vec!["/g".into()], Some("/x/git/ignore".into())));
        assert!(places(&[("GIT_CONFIG_SYSTEM", "/s")]).excludes.is_none());
    }
}
