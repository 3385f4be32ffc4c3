//! The JSON Schema of `workspace.yaml`, from the types that hold what was read: for editors that complete and check.
//!
//! The types below exist for the schema alone: they are the forms in which a key may be written. What is accepted in the end is
//! decided where the key is read, which also says what is wrong.

use std::collections::BTreeMap;

use schemars::JsonSchema;

use super::Declared;

/// The schema, as the text that is published.
pub fn schema() -> String {
    let schema = schemars::generate::SchemaSettings::draft07().into_generator().into_root_schema_for::<Declared>();
    let mut value = schema.to_value();
    // Every key may be left out.
    if let serde_json::Value::Object(map) = &mut value {
        map.remove("required");
    }
    tidy(&mut value);
    let mut text = serde_json::to_string_pretty(&value).unwrap_or_default();
    text.push('\n');
    text
}

/// Takes out what only Rust knows. What may be left out may not be `null`.
fn tidy(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(map) => {
            map.remove("format");
            let is_null = |value: &serde_json::Value| value.get("type").is_some_and(|kind| kind == "null");
            if let Some(serde_json::Value::Array(kinds)) = map.get_mut("type") {
                kinds.retain(|kind| kind != "null");
                if let [only] = &kinds[..] {
                    let only = only.clone();
                    map.insert("type".to_owned(), only);
                }
            }
            if let Some(serde_json::Value::Array(forms)) = map.get_mut("anyOf") {
                forms.retain(|form| !is_null(form));
                if forms.len() == 1 {
                    let form = forms.remove(0);
                    map.remove("anyOf");
                    map.insert("allOf".to_owned(), serde_json::Value::Array(vec![form]));
                }
            }
            map.values_mut().for_each(tidy);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// A text, or what YAML takes for a number or a truth value.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "read by the schema's generator alone")]
pub(super) enum Text {
    Word(String),
    Number(f64),
    Flag(bool),
}

/// A command line, or a program and its arguments.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "read by the schema's generator alone")]
pub(super) enum CommandLine {
    Line(String),
    Words(Vec<Text>),
}

/// A command line, or a list of commands.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "read by the schema's generator alone")]
pub(super) enum Commands {
    One(String),
    Several(Vec<CommandLine>),
}

/// A path such as `/health`.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "read by the schema's generator alone")]
pub(super) enum Health {
    Path(String),
    Check(HealthDetails),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "read by the schema's generator alone")]
pub(super) struct HealthDetails {
    path: String,
}

/// One, or a list.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "read by the schema's generator alone")]
pub(super) enum OneOrMore {
    One(String),
    Several(Vec<String>),
}

/// A list of names, or the application's name for each and the name outside.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "read by the schema's generator alone")]
pub(super) enum Secrets {
    Names(Vec<String>),
    Renamed(BTreeMap<String, String>),
}

/// `name: /path` lines, or a list of `name:/path`.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "read by the schema's generator alone")]
pub(super) enum Volumes {
    ByName(BTreeMap<String, String>),
    List(Vec<String>),
}

/// A folder, `true` for the one that has an index.html, or both things that can be said.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "read by the schema's generator alone")]
pub(super) enum Site {
    Wanted(bool),
    Folder(String),
    Details(SiteDetails),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "read by the schema's generator alone")]
pub(super) struct SiteDetails {
    /// The folder that is served.
    dir: Option<String>,
    /// Paths that lead nowhere are answered with the root's index.html.
    spa: Option<bool>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[expect(dead_code, reason = "read by the schema's generator alone")]
pub(super) enum LockName {
    Strict,
    Warn,
    Update,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[expect(dead_code, reason = "read by the schema's generator alone")]
pub(super) enum RuntimeName {
    Node,
    Python,
    Php,
    Static,
    Go,
    Ruby,
    Rust,
    Deno,
    Bun,
    Java,
    Custom,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::application::Runtime;
    use crate::application::declared::KEYS;
    use crate::application::lock_policy::POLICIES;

    fn value() -> serde_json::Value {
        serde_json::from_str(&schema()).unwrap()
    }

    #[test]
    fn the_schema_has_the_keys_that_are_read() {
        let value = value();
        let mut properties: Vec<&str> = value["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        let mut keys = KEYS.to_vec();
        properties.sort_unstable();
        keys.sort_unstable();
        assert_eq!(properties, keys);
        assert_eq!(value["additionalProperties"], false);
    }

    /// After a change: `workspace plan --schema > docs/workspace.schema.json`.
    #[test]
    fn the_published_schema_is_what_the_types_give() {
        assert_eq!(include_str!("../../../docs/workspace.schema.json"), schema());
    }

    #[test]
    fn every_key_is_documented() {
        let text = include_str!("../../../docs/workspace-yaml.md");
        let missing: Vec<&str> = KEYS.into_iter().filter(|key| !text.contains(&format!("| `{key}` |"))).collect();
        assert_eq!(missing, Vec::<&str>::new());
    }

    #[test]
    fn the_schema_names_what_may_be_named() {
        let value = value();
        let names = |definition: &str| {
            let listed = value["definitions"][definition]["enum"].as_array().unwrap().clone();
            listed.into_iter().map(|name| name.as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names("RuntimeName"), Runtime::names().collect::<Vec<_>>());
        assert_eq!(names("LockName"), POLICIES.map(|(name, _)| name));
    }
}
