//! What a person types to address something: workspace names, tags, versions.
//!
//! Each type is parsed once, where the text enters the program; whoever holds one need not check again.

mod pattern;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use pattern::{Pattern, PatternError, chosen};

/// Longest workspace name or tag, in bytes: what a DNS label allows.
pub const MAX_NAME: usize = 63;

/// Why a text is no name, tag or selector. The message names the text, the reason and what would do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing, or only white space.
    #[error("a {what} can't be empty")]
    Empty {
        /// What was being parsed: `workspace name`, `tag`, `version`.
        what: &'static str,
    },
    /// Over [`MAX_NAME`] bytes.
    #[error("`{text}` is no {what}: it has {length} characters, {MAX_NAME} is the most", length = text.len())]
    TooLong {
        /// What was being parsed.
        what: &'static str,
        /// The text as given.
        text: String,
    },
    /// A character outside `a-z 0-9 . _ -`, or a first one that is neither letter nor digit.
    #[error("`{text}` is no {what}: {reason}")]
    Character {
        /// What was being parsed.
        what: &'static str,
        /// The text as given.
        text: String,
        /// Which character, and why.
        reason: String,
    },
    /// A tag of digits alone, which would read as a version number.
    #[error("`{text}` is no tag: digits alone mean a version number; add a letter, such as `v{text}`")]
    TagIsNumber {
        /// The text as given.
        text: String,
    },
}

fn check(what: &'static str, text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { what });
    }
    if text.len() > MAX_NAME {
        return Err(NameError::TooLong { what, text: text.to_owned() });
    }
    for (position, character) in text.chars().enumerate() {
        let plain = character.is_ascii_lowercase() || character.is_ascii_digit();
        if plain || (position > 0 && matches!(character, '.' | '_' | '-')) {
            continue;
        }
        let reason = if matches!(character, '.' | '_' | '-') {
            "it must begin with a letter or a digit".to_owned()
        } else {
            format!("`{}` is not among a-z, 0-9, `.`, `_`, `-`", character.escape_default())
        };
        return Err(NameError::Character { what, text: text.to_owned(), reason });
    }
    Ok(())
}

/// The name of a workspace: `[a-z0-9][a-z0-9._-]{0,62}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WorkspaceName(String);

impl WorkspaceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for WorkspaceName {
    type Err = NameError;

    /// Letters are lowered; whoever asks a person for a name says so when the result differs.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let lowered = text.to_ascii_lowercase();
        check("workspace name", &lowered)?;
        Ok(Self(lowered))
    }
}

impl TryFrom<String> for WorkspaceName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<WorkspaceName> for String {
    fn from(name: WorkspaceName) -> Self {
        name.0
    }
}

impl fmt::Display for WorkspaceName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// A tag: like a [`WorkspaceName`], but never digits alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(String);

impl Tag {
    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let lowered = text.to_ascii_lowercase();
        check("tag", &lowered)?;
        if lowered.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NameError::TagIsNumber { text: lowered });
        }
        Ok(Self(lowered))
    }
}

impl TryFrom<String> for Tag {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Tag> for String {
    fn from(tag: Tag) -> Self {
        tag.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Which version of a workspace is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Version {
    /// `NAME`: whatever is current.
    Current,
    /// `NAME@7`.
    Number(u64),
    /// `NAME@v2.0`.
    Tag(Tag),
}

/// `NAME`, `NAME@7` or `NAME@v2.0`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Selector {
    /// The workspace.
    pub name: WorkspaceName,
    /// Which of its versions.
    pub version: Version,
}

impl FromStr for Selector {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let Some((name, version)) = text.split_once('@') else {
            return Ok(Self { name: text.parse()?, version: Version::Current });
        };
        let name = name.parse()?;
        let version = match version.parse::<u64>() {
            Ok(number) if version.bytes().all(|byte| byte.is_ascii_digit()) => Version::Number(number),
            _ if version.is_empty() => return Err(NameError::Empty { what: "version" }),
            _ => Version::Tag(version.parse()?),
        };
        Ok(Self { name, version })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Version::Current => write!(out, "{}", self.name),
            Version::Number(number) => write!(out, "{}@{number}", self.name),
            Version::Tag(tag) => write!(out, "{}@{tag}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lowered_and_checked() {
        assert_eq!("MyApp".parse::<WorkspaceName>().unwrap().as_str(), "myapp");
        for good in ["a", "0", "my-app_1.2", &"x".repeat(63)] {
            assert!(good.parse::<WorkspaceName>().is_ok(), "{good}");
        }
        for bad in ["", ".a", "-a", "_a", "a/b", "a b", "ä", "a\nb", "a@b", &"x".repeat(64)] {
            assert!(bad.parse::<WorkspaceName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn selectors_tell_numbers_from_tags() {
        let parse = |text: &str| text.parse::<Selector>();
        assert_eq!(parse("a").unwrap().version, Version::Current);
        assert_eq!(parse("a@7").unwrap().version, Version::Number(7));
        assert_eq!(parse("a@v2.0").unwrap().version, Version::Tag("v2.0".parse().unwrap()));
        assert!(parse("a@").is_err());
        assert!(parse("a@+7").is_err());
        assert!("7".parse::<Tag>().is_err());
    }
}
