//! The values of single keys: what people may write, and what is wrong with anything else.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_yaml::Value;

use super::Problem;
use crate::application::lock_policy::{LockPolicy, POLICIES};
use crate::application::static_site::StaticSite;
use crate::application::{Command, HealthCheck, Runtime};

/// A scalar, as people write them: `version: 20` means the text `20`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(String),
    Integer(i64),
    Float(f64),
    Flag(bool),
}

impl Scalar {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Integer(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Flag(flag) => flag.to_string(),
        }
    }
}

pub(super) fn nearest(word: &str, known: impl Iterator<Item = &'static str>) -> Option<String> {
    known
        .map(|name| (strsim::damerau_levenshtein(word, name), name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min()
        .map(|(_, name)| name.to_owned())
}

pub(super) fn text(value: Value) -> Result<String, Problem> {
    let scalar: Scalar = serde_yaml::from_value(value).map_err(|_| Problem::Value("must be a text".to_owned()))?;
    let text = scalar.into_text().trim().to_owned();
    if text.is_empty() { Err(Problem::Value("is empty".to_owned())) } else { Ok(text) }
}

pub(super) fn runtime(value: Value) -> Result<Runtime, Problem> {
    let name = text(value)?;
    match Runtime::from(name.clone()) {
        Runtime::Other(_) => {
            let advice = nearest(&name, Runtime::names()).map_or_else(
                || format!("known are {}", Runtime::names().collect::<Vec<_>>().join(", ")),
                |known| format!("did you mean `{known}`?"),
            );
            Err(Problem::Value(format!("names no runtime: `{name}`; {advice}")))
        }
        runtime => Ok(runtime),
    }
}

/// A folder of the tree, as clean path parts; the root is no folder.
pub(super) fn dir(text: &str) -> Result<Option<String>, Problem> {
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if text.starts_with('/') || parts.contains(&"..") {
        return Err(Problem::Value(format!("must be a folder inside the tree, not `{text}`")));
    }
    Ok((!parts.is_empty()).then(|| parts.join("/")))
}

/// One command: a line, or a list of program and arguments.
pub(super) fn command(value: Value) -> Result<Command, Problem> {
    let wrong = || Problem::Value("must be a command line, or a list of a program and its arguments".to_owned());
    let command = match value {
        Value::Sequence(items) => {
            let words = items.into_iter().map(text).collect::<Result<Vec<_>, _>>().map_err(|_| wrong())?;
            Command::Exec(words)
        }
        Value::String(line) => Command::parse(&line),
        _ => return Err(wrong()),
    };
    if command.is_empty() { Err(Problem::Value("is empty".to_owned())) } else { Ok(command) }
}

/// Several commands: a line, a list of lines, or an empty list for none.
pub(super) fn commands(value: Value) -> Result<Vec<Command>, Problem> {
    match value {
        Value::Sequence(items) => items.into_iter().map(command).collect(),
        other => Ok(vec![command(other)?]),
    }
}

pub(super) fn port(value: &Value) -> Result<u16, Problem> {
    // In quotes it is the same number.
    let number = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok());
    let number = number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0);
    number.ok_or_else(|| Problem::Value("must be a number from 1 to 65535".to_owned()))
}

pub(super) fn yes_or_no(value: &Value) -> Result<bool, Problem> {
    value.as_bool().ok_or_else(|| Problem::Value("must be `true` or `false`".to_owned()))
}

pub(super) fn health(value: Value) -> Result<HealthCheck, Problem> {
    let path = match value {
        Value::Mapping(mapping) => {
            let mut path = None;
            for (key, value) in mapping {
                if key.as_str() != Some("path") {
                    return Err(Problem::Value("has one key, `path`".to_owned()));
                }
                path = Some(text(value)?);
            }
            path.ok_or_else(|| Problem::Value("needs a `path`".to_owned()))?
        }
        other => text(other)?,
    };
    let plain = path.bytes().all(|byte| byte.is_ascii_graphic());
    if path.starts_with('/') && plain {
        Ok(HealthCheck { path })
    } else {
        Err(Problem::Value(format!("must be a path such as `/health`, not `{path}`")))
    }
}

pub(super) fn lock(value: Value) -> Result<LockPolicy, Problem> {
    let name = text(value)?;
    let known = POLICIES.iter().find(|(known, _)| *known == name);
    known.map(|(_, policy)| *policy).ok_or_else(|| {
        let advice = nearest(&name, POLICIES.iter().map(|(known, _)| *known))
            .map_or_else(|| "known are strict, warn, update".to_owned(), |known| format!("did you mean `{known}`?"));
        Problem::Value(format!("is `{name}`, which is no policy; {advice}"))
    })
}

/// A folder, `true`, or both things that can be said.
pub(super) fn site(value: Value) -> Result<Option<StaticSite>, Problem> {
    const SHAPE: &str = "must be a folder, `true`, or `{dir: dist, spa: true}`";
    let wrong = || Problem::Value(SHAPE.to_owned());
    // The root is `.`: here it is a choice.
    let folder = |name: &str| Ok::<_, Problem>(Some(dir(name)?.unwrap_or_else(|| ".".to_owned())));
    match value {
        Value::Bool(wanted) => Ok(wanted.then(StaticSite::default)),
        Value::String(name) => Ok(Some(StaticSite { dir: folder(&name)?, spa: false })),
        Value::Mapping(mapping) => {
            let mut site = StaticSite::default();
            for (key, value) in mapping {
                match key.as_str() {
                    Some("dir") => site.dir = folder(&text(value)?)?,
                    Some("spa") => site.spa = value.as_bool().ok_or_else(wrong)?,
                    _ => return Err(wrong()),
                }
            }
            Ok(Some(site))
        }
        _ => Err(wrong()),
    }
}

pub(super) fn environment(value: Value) -> Result<BTreeMap<String, String>, Problem> {
    let values: BTreeMap<String, Scalar> =
        serde_yaml::from_value(value).map_err(|_| Problem::Value("must be `NAME: value` lines".to_owned()))?;
    values
        .into_iter()
        .map(|(name, value)| {
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(Problem::Value(format!("has `{name}`, which can't be a variable's name")));
            }
            Ok((name, value.into_text()))
        })
        .collect()
}
