//! What the lock files of pnpm, Yarn and Bun say of the packages that they were written for.

use std::collections::BTreeMap;

use serde_yaml::Value;

/// Demands by the folder of the package, then by name.
type Importers = BTreeMap<String, BTreeMap<String, String>>;

/// The importer of Yarn 1, whose file doesn't say who demanded what. Its keys are `name@range`.
pub(super) const ANY: &str = "*";

const GROUPS: [&str; 3] = ["dependencies", "devDependencies", "optionalDependencies"];

/// `importers` of formats 6 and 9. Format 5 keeps `specifiers`.
pub(super) fn pnpm(text: &str) -> Result<Importers, String> {
    let value: Value = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    let demands = |importer: &Value| {
        let mut found = BTreeMap::new();
        for (name, range) in pairs(importer.get("specifiers")) {
            found.insert(name, range.as_str().unwrap_or_default().to_owned());
        }
        for (name, entry) in GROUPS.iter().flat_map(|group| pairs(importer.get(*group))) {
            if let Some(range) = entry.get("specifier").and_then(Value::as_str) {
                // A catalog's range stands elsewhere.
                let range = if range.starts_with("catalog:") { "" } else { range };
                found.insert(name, range.to_owned());
            }
        }
        found
    };
    if value.get("importers").is_none() {
        return Ok(BTreeMap::from([(String::new(), demands(&value))]));
    }
    let importers = pairs(value.get("importers"));
    Ok(importers.map(|(path, importer)| (if path == "." { String::new() } else { path }, demands(importer))).collect())
}

/// Yarn 1: `name@range, name@other:` at the start of a line.
pub(super) fn yarn(text: &str) -> Importers {
    let keys = text.lines().filter(|line| !line.starts_with([' ', '#']) && line.ends_with(':'));
    let patterns = keys.flat_map(|line| {
        line.trim_end_matches(':').split(',').map(|key| (key.trim().trim_matches('"').to_owned(), String::new()))
    });
    BTreeMap::from([(ANY.to_owned(), patterns.collect())])
}

/// Yarn 2 and later: each package of the tree is an entry that resolves to `name@workspace:folder`.
pub(super) fn berry(text: &str) -> Result<Importers, String> {
    let value: Value = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    let mut importers = BTreeMap::new();
    for (_, entry) in pairs(Some(&value)) {
        let resolution = entry.get("resolution").and_then(Value::as_str).unwrap_or_default();
        let Some((_, folder)) = resolution.rsplit_once("@workspace:") else { continue };
        let folder = if folder == "." { "" } else { folder };
        // Bare ranges that look like numbers, which Yarn 3 writes, have lost their form here; a catalog's stands elsewhere.
        let demands = pairs(entry.get("dependencies")).map(|(name, range)| {
            let range = range.as_str().filter(|range| !range.starts_with("catalog:"));
            (name, range.map(without_protocol).unwrap_or_default().to_owned())
        });
        importers.insert(folder.to_owned(), demands.collect());
    }
    Ok(importers)
}

/// Yarn 4 writes `npm:^1.0.0` where package.json has `^1.0.0`, and Yarn 2 and 3 don't.
pub(super) fn without_protocol(range: &str) -> &str {
    range.strip_prefix("npm:").unwrap_or(range)
}

/// `bun.lock`: JSON in which commas may stand before closing brackets.
pub(super) fn bun(text: &str) -> Result<Importers, String> {
    let value: serde_json::Value =
        serde_json::from_str(&without_trailing_commas(text)).map_err(|error| error.to_string())?;
    let workspaces = value.get("workspaces").and_then(serde_json::Value::as_object).into_iter().flatten();
    Ok(workspaces
        .map(|(path, package)| {
            let demands = GROUPS
                .iter()
                .filter_map(|group| package.get(*group)?.as_object())
                .flatten()
                .map(|(name, range)| (name.clone(), range.as_str().unwrap_or_default().to_owned()));
            (path.clone(), demands.collect())
        })
        .collect())
}

fn without_trailing_commas(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let (mut in_text, mut escaped) = (false, false);
    for (at, character) in text.char_indices() {
        if in_text {
            (in_text, escaped) = (escaped || character != '"', !escaped && character == '\\');
        } else if character == '"' {
            in_text = true;
        } else if character == ',' && text[at + 1..].trim_start().starts_with(['}', ']']) {
            continue;
        }
        clean.push(character);
    }
    clean
}

fn pairs(value: Option<&Value>) -> impl Iterator<Item = (String, &Value)> {
    let mapping = value.and_then(Value::as_mapping).into_iter();
    mapping.flatten().filter_map(|(key, value)| Some((key.as_str()?.to_owned(), value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_says_what_was_demanded() {
        let pnpm9 = "lockfileVersion: '9.0'\nimporters:\n  .:\n    dependencies:\n      a:\n        specifier: ^1.0.0\n        \
                     version: 1.2.0\n  packages/b:\n    devDependencies:\n      c:\n        specifier: 'catalog:'\n        \
                     version: 2.0.0\n";
        let found = pnpm(pnpm9).unwrap();
        assert_eq!((found[""]["a"].as_str(), found["packages/b"]["c"].as_str()), ("^1.0.0", ""));
        let found = pnpm("lockfileVersion: 5.4\nspecifiers:\n  a: ^1.0.0\n").unwrap();
        assert_eq!(found[""]["a"], "^1.0.0");
        let found = yarn("# yarn lockfile v1\n\n\n\"@s/a@^1.0.0\", b@2:\n  version \"1.0.0\"\n");
        assert_eq!(found[ANY].keys().collect::<Vec<_>>(), ["@s/a@^1.0.0", "b@2"]);
        let found = berry(
            "__metadata:\n  version: 8\n\n\"app@workspace:.\":\n  version: 0.0.0-use.local\n  resolution: \
             \"app@workspace:.\"\n  dependencies:\n    a: \"npm:^1.0.0\"\n",
        )
        .unwrap();
        assert_eq!(found[""]["a"], "^1.0.0");
        let found = bun(
            "{\n  \"workspaces\": {\n    \"\": {\n      \"dependencies\": { \"a\": \"^1, ]\", },\n    },\n  },\n}\n",
        )
        .unwrap();
        assert_eq!(found[""]["a"], "^1, ]");
    }
}
