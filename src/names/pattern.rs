//! Which workspaces a host manages: `NAME`, `NAME@V`, or a pattern with `*` and `?`.

use std::fmt;
use std::str::FromStr;

use globset::{GlobBuilder, GlobMatcher};

use super::{NameError, Selector, Version, WorkspaceName};

/// One of the patterns of `--only`. Matches names, and says which version of them is meant.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    names: Names,
    version: Version,
}

#[derive(Debug, Clone)]
enum Names {
    One(WorkspaceName),
    Like(GlobMatcher),
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It has neither `*` nor `?`, and is no NAME or NAME@V either; or what follows the `@` is no version.
    #[error(transparent)]
    Name(#[from] NameError),
    /// It has a character that no name has.
    #[error("`{text}` matches no workspace name: `{character}` is not among a-z, 0-9, `.`, `_`, `-`, `*`, `?`")]
    Character {
        /// The text as given.
        text: String,
        /// The first such character.
        character: char,
    },
    /// It can't be compiled.
    #[error("`{text}` is no pattern: {reason}")]
    Glob {
        /// The text as given.
        text: String,
        /// Why.
        reason: String,
    },
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let text = text.trim().to_ascii_lowercase();
        let (names, version) = text.split_once('@').map_or((text.as_str(), None), |(names, v)| (names, Some(v)));
        if !names.contains(['*', '?']) {
            let Selector { name, version } = text.parse()?;
            return Ok(Self { text, names: Names::One(name), version });
        }
        let plain = |character: &char| character.is_ascii_alphanumeric() || "._-*?".contains(*character);
        if let Some(character) = names.chars().find(|character| !plain(character)) {
            return Err(PatternError::Character { text: text.clone(), character });
        }
        let version = match version {
            None => Version::Current,
            // As for one name: `a` stands for all that match.
            Some(version) => format!("a@{version}").parse::<Selector>()?.version,
        };
        let glob = GlobBuilder::new(names)
            .build()
            .map_err(|error| PatternError::Glob { text: text.clone(), reason: error.to_string() })?;
        Ok(Self { names: Names::Like(glob.compile_matcher()), version, text })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl Pattern {
    /// Whether it is the name of one workspace.
    pub fn is_one(&self) -> bool {
        matches!(self.names, Names::One(_))
    }

    /// Which version of this workspace is meant; nothing when the workspace isn't.
    pub fn matches(&self, name: &WorkspaceName) -> Option<&Version> {
        let hit = match &self.names {
            Names::One(one) => one == name,
            Names::Like(glob) => glob.is_match(name.as_str()),
        };
        hit.then_some(&self.version)
    }
}

/// Which version of a workspace a list of patterns chooses: the first that matches decides, and an empty list means the
/// current version of everything.
pub fn chosen<'a>(patterns: &'a [Pattern], name: &WorkspaceName) -> Option<&'a Version> {
    const CURRENT: &Version = &Version::Current;
    if patterns.is_empty() { Some(CURRENT) } else { patterns.iter().find_map(|pattern| pattern.matches(name)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_first_pattern_that_matches_decides() {
        let name = |text: &str| text.parse::<WorkspaceName>().unwrap();
        assert_eq!(chosen(&[], &name("a")), Some(&Version::Current));
        let list = patterns(&["api@v2", "Web-*", "x?@7", "a*"]);
        assert_eq!(chosen(&list, &name("api")), Some(&Version::Tag("v2".parse().unwrap())));
        assert_eq!(chosen(&list, &name("web-1")), Some(&Version::Current));
        assert_eq!(chosen(&list, &name("web")), None);
        assert_eq!(chosen(&list, &name("xy")), Some(&Version::Number(7)));
        assert_eq!(chosen(&list, &name("xyz")), None);
        assert_eq!(chosen(&list, &name("a.b")), Some(&Version::Current));
        assert_eq!(list[1].to_string(), "web-*");
    }

    #[test]
    fn what_can_match_nothing_is_refused() {
        for (text, reason) in [
            ("", "a workspace name can't be empty"),
            ("a/b", "is no workspace name"),
            ("a/*", "`/` is not among"),
            ("[ab]*", "`[` is not among"),
            ("{a,b}*", "`{` is not among"),
            ("a*@", "a version can't be empty"),
            ("a*@b c", "is no tag"),
        ] {
            let error = text.parse::<Pattern>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
