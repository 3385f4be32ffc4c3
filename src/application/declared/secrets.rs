//! `secrets`: variables by reference. The file has names only; values are in the environment of whoever starts the
//! container.

use std::collections::BTreeMap;

use serde_yaml::Value;

use super::{Problem, text};
use crate::environment;

const SHAPE: &str = "must be a list of variables' names, or `NAME: NAME_OUTSIDE` lines";

/// The application's name for each, and the name outside.
pub(super) fn read(value: Value) -> Result<BTreeMap<String, String>, Problem> {
    let wrong = || Problem::Value(SHAPE.to_owned());
    let pairs: Vec<(String, String)> = match value {
        Value::Sequence(items) => items
            .into_iter()
            .map(|item| text(item).map(|name| (name.clone(), name)).map_err(|_| wrong()))
            .collect::<Result<_, _>>()?,
        Value::Mapping(mapping) => mapping
            .into_iter()
            .map(|(name, outside)| match (text(name), text(outside)) {
                (Ok(name), Ok(outside)) => Ok((name, outside)),
                _ => Err(wrong()),
            })
            .collect::<Result<_, _>>()?,
        _ => return Err(wrong()),
    };
    for (name, outside) in &pairs {
        for name in [name, outside] {
            if !environment::is_variable_name(name) {
                // Not repeated: it may be a value, written here by mistake.
                return Err(Problem::Value(
                    "has something that can't be a variable's name: letters, digits and `_`".to_owned(),
                ));
            }
            if !environment::may_be_secret(name) {
                return Err(Problem::Value(format!(
                    "has `{name}`, which is a setting of `workspace` itself: take another name"
                )));
            }
        }
    }
    Ok(pairs.into_iter().collect())
}
