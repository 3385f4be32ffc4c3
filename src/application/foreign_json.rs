//! JSON as other languages write it by default, for hashes that are made of such texts: nothing but ASCII.

use std::fmt::Write as _;

use serde_json::Value as Json;
use toml::Value as Toml;

/// What Python's `json.dumps` puts behind an item and behind a key, where it isn't told otherwise.
pub(super) const PYTHON: [&str; 2] = [", ", ": "];
/// What it puts there with `separators=(",", ":")`.
pub(super) const PYTHON_COMPACT: [&str; 2] = [",", ":"];

/// A text in quotes; what isn't ASCII as UTF-16 in `\\u0000` form.
pub(super) fn push_text(text: &str, out: &mut String) {
    for character in serde_json::Value::from(text).to_string().chars() {
        if character.is_ascii() {
            out.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    }
}

/// A value of TOML as Python's `json` sees it.
pub(super) fn json(value: &Toml) -> Json {
    match value {
        Toml::String(text) => Json::String(text.clone()),
        Toml::Integer(number) => Json::from(*number),
        Toml::Float(number) => Json::from(*number),
        Toml::Boolean(flag) => Json::Bool(*flag),
        Toml::Datetime(time) => Json::String(time.to_string()),
        Toml::Array(items) => items.iter().map(json).collect(),
        Toml::Table(table) => Json::Object(table.iter().map(|(key, value)| (key.clone(), json(value))).collect()),
    }
}

/// As Python's `json.dumps(…, sort_keys=True)` writes it, with these separators.
pub(super) fn push_sorted(value: &Json, separators: [&str; 2], out: &mut String) {
    let [item, key_end] = separators;
    match value {
        Json::Object(map) => {
            out.push('{');
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            for (at, key) in keys.into_iter().enumerate() {
                out.push_str(if at == 0 { "" } else { item });
                push_text(key, out);
                out.push_str(key_end);
                push_sorted(&map[key], separators, out);
            }
            out.push('}');
        }
        Json::Array(items) => {
            out.push('[');
            for (at, value) in items.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { item });
                push_sorted(value, separators, out);
            }
            out.push(']');
        }
        Json::String(text) => push_text(text, out),
        other => out.push_str(&other.to_string()),
    }
}

/// Bytes in hexadecimal digits.
pub(super) fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
