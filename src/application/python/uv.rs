//! uv: whether `uv.lock` still fits `pyproject.toml`. The lock file repeats what the project demanded when it was made, and
//! `uv sync --locked` refuses when that has changed.
//!
//! uv writes demands in a form of its own. What is compared here is what has only one form, up to order and spaces; markers,
//! sources and unusual versions are left to uv itself.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use super::dependencies::{self, Dependencies};
use super::project::Project;
use crate::application::lock_policy;

/// Keys of a demand in the lock file that come with any version of it; all others name where it comes from.
const PLAIN_KEYS: [&str; 5] = ["name", "extras", "marker", "specifier", "index"];

/// A range as the set of its comparisons, without spaces: empty allows everything. `None`: can't be compared.
type Range = Option<BTreeSet<String>>;
/// Each package with the ranges that are asked for.
type Demands = BTreeMap<String, Vec<Range>>;

/// Why the lock file is stale, if it is. One that isn't valid has nothing to say.
pub(super) fn drift(lock: &str, project: &Project, dependencies: &Dependencies) -> Option<String> {
    let lock: Table = lock.parse().ok()?;
    let packages = lock.get("package").and_then(Value::as_array)?;
    let names: Vec<String> =
        packages.iter().filter_map(|package| Some(dependencies::normalized(text(package, "name")?))).collect();
    let mut differences = dependencies.missing(&names);
    if differences.is_empty() {
        if !project.has(&["tool", "uv", "workspace"]) {
            differences.extend(python(&lock, project));
        }
        let is_root = |package: &&Value| {
            package
                .get("source")
                .is_some_and(|source| ["virtual", "editable"].iter().any(|kind| text(source, kind) == Some(".")))
        };
        if let Some(root) = packages.iter().find(is_root) {
            differences.extend(of_root(root, project));
        }
    }
    lock_policy::listed(differences)
}

/// `requires-python`, which a project alone hands down as it is.
fn python(lock: &Table, project: &Project) -> Option<String> {
    let wanted = project.text(&["project", "requires-python"])?;
    let locked = lock.get("requires-python").and_then(Value::as_str)?;
    let plain = |text| {
        range(text).filter(|range| {
            // Two bounds of one kind become one, and `~=` becomes two.
            let operators: BTreeSet<&str> = range.iter().map(|part| operator(part)).collect();
            operators.len() == range.len() && !operators.contains("~=")
        })
    };
    (plain(wanted)? != plain(locked)?).then(|| format!("`requires-python` is {locked}, not {wanted}"))
}

/// What the project's own entry says of the project.
fn of_root(root: &Value, project: &Project) -> Vec<String> {
    let mut differences = Vec::new();
    if let (Some(locked), Some(version)) = (text(root, "version"), project.text(&["project", "version"]))
        && let (Some(one), Some(other)) = (range(&format!("=={locked}")), range(&format!("=={version}")))
        && one != other
    {
        differences.push(format!("the project's version is {locked}, not {version}"));
    }
    // Written since uv 0.4; with it, an empty list is left out.
    let Some(metadata) = root.get("metadata") else { return differences };
    let sources = project.get(&["tool", "uv", "sources"]).and_then(Value::as_table);
    let sources: BTreeSet<String> =
        sources.into_iter().flatten().map(|(name, _)| dependencies::normalized(name)).collect();
    let mut compare = |wanted: Demands, locked: Demands| {
        differences.extend(
            compared(&wanted, &locked).into_iter().filter(|(name, _)| !sources.contains(name)).map(|(_, text)| text),
        );
    };
    let dynamic = project.get(&["project", "dynamic"]).and_then(Value::as_array).into_iter().flatten();
    let is_dynamic = dynamic.filter_map(Value::as_str).any(|key| key.ends_with("dependencies"));
    if !is_dynamic {
        let optional = project.get(&["project", "optional-dependencies"]).and_then(Value::as_table);
        let lists = optional.into_iter().flatten().map(|(_, list)| list);
        let lists = project.get(&["project", "dependencies"]).into_iter().chain(lists);
        let wanted = lists.filter_map(Value::as_array).flatten().filter_map(Value::as_str);
        compare(demands(wanted), locked_demands(metadata.get("requires-dist")));
    }
    let groups = project.get(&["dependency-groups"]).and_then(Value::as_table);
    for (group, list) in groups.into_iter().flatten() {
        let Some(list) = list.as_array() else { continue };
        // A group may include another, and an older way to name those for development adds to them.
        if list.iter().all(Value::is_str) && !project.has(&["tool", "uv", "dev-dependencies"]) {
            let group = dependencies::normalized(group);
            let locked = metadata.get("requires-dev").and_then(|groups| groups.get(&group));
            compare(demands(list.iter().filter_map(Value::as_str)), locked_demands(locked));
        }
    }
    differences
}

/// Differences, each with the package that it is about.
fn compared(wanted: &Demands, locked: &Demands) -> Vec<(String, String)> {
    let show = |range: &BTreeSet<String>| {
        let parts: Vec<&str> = range.iter().map(String::as_str).collect();
        if parts.is_empty() { "any version".to_owned() } else { parts.join(",") }
    };
    let mut differences = Vec::new();
    for (name, ranges) in wanted {
        let Some(found) = locked.get(name) else {
            differences.push((name.clone(), format!("`{name}` is missing")));
            continue;
        };
        // Any that can't be compared may be the one, and of several uv may have made one.
        let is_known =
            |range: &&BTreeSet<String>| found.iter().any(|found| found.as_ref().is_none_or(|found| found == *range));
        let other = ranges.iter().flatten().find(|range| !is_known(range)).filter(|_| ranges.len() <= found.len());
        if let Some(range) = other {
            let found: Vec<String> = found.iter().flatten().map(show).collect();
            differences.push((name.clone(), format!("`{name}` is {}, not {}", found.join(" or "), show(range))));
        }
    }
    let gone = locked.keys().filter(|name| !wanted.contains_key(*name));
    differences.extend(gone.map(|name| (name.clone(), format!("`{name}` is no longer asked for"))));
    differences
}

/// What lists of requirements ask for.
fn demands<'a>(requirements: impl Iterator<Item = &'a str>) -> Demands {
    let mut demands = Demands::new();
    for requirement in requirements {
        let (name, extras, rest) = dependencies::split(requirement);
        let rest = rest.split_once(';').map_or(rest, |(rest, _)| rest).trim();
        let rest = rest.trim_start_matches('(').trim_end_matches(')');
        let range = range(rest).map(|range| with_extras(range, extras.split(',')));
        demands.entry(name).or_default().push(range);
    }
    demands
}

/// What a list in the lock file says was asked for.
fn locked_demands(list: Option<&Value>) -> Demands {
    let mut demands = Demands::new();
    for entry in list.and_then(Value::as_array).into_iter().flatten() {
        let Some(name) = text(entry, "name") else { continue };
        let plain = entry.as_table().is_some_and(|entry| entry.keys().all(|key| PLAIN_KEYS.contains(&key.as_str())));
        let extras = entry.get("extras").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let found = range(text(entry, "specifier").unwrap_or_default()).filter(|_| plain);
        let found = found.map(|range| with_extras(range, extras));
        demands.entry(dependencies::normalized(name)).or_default().push(found);
    }
    demands
}

/// The extras are parts as well: `[standard]`.
fn with_extras<'a>(range: BTreeSet<String>, extras: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let extras =
        extras.filter(|extra| !extra.trim().is_empty()).map(|extra| format!("[{}]", dependencies::normalized(extra)));
    range.into_iter().chain(extras).collect()
}

/// `>=3, <4` as its parts. `None` where a version has more than numbers, which uv may write otherwise.
fn range(text: &str) -> Range {
    let parts = text.split(',').map(|part| part.split_whitespace().collect::<String>());
    parts
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (operator, version) = part.split_at(operator(&part).len());
            let number = |number: &str| match number {
                "*" => Some("*".to_owned()),
                _ => number.parse::<u64>().ok().map(|number| number.to_string()),
            };
            let mut numbers: Vec<String> = version.split('.').map(number).collect::<Option<_>>()?;
            // `1.0` is `1`, but `~=1.0` is not `~=1`.
            while operator != "~=" && numbers.len() > 1 && numbers.last().is_some_and(|last| last == "0") {
                numbers.pop();
            }
            (!operator.is_empty()).then(|| format!("{operator}{}", numbers.join(".")))
        })
        .collect()
}

fn operator(comparison: &str) -> &str {
    let end = comparison.find(|character| !"<>=!~".contains(character)).unwrap_or(comparison.len());
    &comparison[..end]
}

fn text<'a>(table: &'a Value, key: &str) -> Option<&'a str> {
    table.get(key).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As uv 0.13 wrote it for [`MANIFEST`], without what it says of other packages.
    const LOCK: &str = r#"
requires-python = ">=3.10, <3.15"
[[package]]
name = "my-app"
version = "1.0"
source = { virtual = "." }
[package.metadata]
requires-dist = [
    { name = "attrs", specifier = ">=20.0rc1" },
    { name = "idna", marker = "python_full_version >= '3.8'", specifier = ">=3,<4" },
    { name = "certifi", directory = "certifi" },
    { name = "packaging", marker = "extra == 'extra'", specifier = ">=2024.1" },
    { name = "six", extras = ["foo"], specifier = ">1,>=1.10.0,!=1.15" },
]
provides-extras = ["extra"]
[package.metadata.requires-dev]
dev = [{ name = "pluggy", specifier = ">=1" }]
"#;
    const MANIFEST: &str = r#"
[project]
name = "My.App"
version = "1.0"
requires-python = "<3.15,>=3.10"
dependencies = ["Attrs>=20.0.RC1", "idna (>=3,  <4) ; python_version >= '3.8'", "certifi", "six[foo] >1,!=1.15,>=1.10.0"]
[project.optional-dependencies]
extra = ["packaging>=2024.01"]
[dependency-groups]
dev = ["pluggy>=1"]
[tool.uv.sources]
certifi = { path = "certifi" }
"#;

    fn drift_of(manifest: &str) -> Option<String> {
        let project = Project { pyproject: manifest.parse().unwrap(), ..Project::default() };
        drift(LOCK, &project, &Dependencies::default())
    }

    #[test]
    fn forms_of_one_demand_are_no_drift() {
        assert_eq!(drift_of(MANIFEST), None);
        for (from, to) in
            [("\"1.0\"", "\"1\""), (">=3.10\"", ">=3.10.0\""), ("\"certifi\",", "\"certifi\", \"idna>=3\",")]
        {
            assert_eq!(drift_of(&MANIFEST.replacen(from, to, 1)), None, "{from}");
        }
    }

    /// Each of these made `uv sync --locked` refuse.
    #[test]
    fn whatever_uv_refuses_is_seen() {
        for (from, to, words) in [
            ("<4)", "<5)", "`idna` is <4,>=3, not <5,>=3"),
            ("\"certifi\", ", "\"certifi\", \"pluggy\", ", "`pluggy` is missing"),
            (", \"six[foo] >1,!=1.15,>=1.10.0\"", "", "`six` is no longer asked for"),
            ("[foo]", "[bar]", "`six` is !=1.15,>1,>=1.10,[foo], not !=1.15,>1,>=1.10,[bar]"),
            ("packaging>=2024.01", "packaging", "`packaging` is >=2024.1, not any version"),
            ("pluggy>=1", "pluggy>=2", "`pluggy` is >=1, not >=2"),
            ("<3.15,", "", "`requires-python` is >=3.10, <3.15, not >=3.10"),
            ("version = \"1.0\"", "version = \"1.1\"", "the project's version is 1.0, not 1.1"),
        ] {
            assert_eq!(drift_of(&MANIFEST.replacen(from, to, 1)).as_deref(), Some(words), "{from}");
        }
    }
}
