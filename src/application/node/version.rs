//! Which major version of Node a tree demands.

use crate::application::ApplicationError;
use crate::application::folder::Folder;

/// The version in the image that is built when nothing else is asked for.
const USUAL_MAJOR: u32 = 22;

/// Names of the long-term releases, as `.nvmrc` may give them.
const LONG_TERM: [(&str, u32); 8] = [
    ("dubnium", 10),
    ("erbium", 12),
    ("fermium", 14),
    ("gallium", 16),
    ("hydrogen", 18),
    ("iron", 20),
    ("jod", 22),
    ("krypton", 24),
];

/// The major version and the file that demands it. `None`: any will do.
pub(super) fn demanded(
    folder: &Folder<'_>,
    engines: Option<&str>,
) -> Result<Option<(String, String)>, ApplicationError> {
    for file in [".nvmrc", ".node-version"] {
        let text = folder.text(file)?.unwrap_or_default();
        let line = text.lines().map(|line| line.split('#').next().unwrap_or(line).trim()).find(|line| !line.is_empty());
        if let Some(major) = line.and_then(of_name) {
            return Ok(Some((major.to_string(), file.to_owned())));
        }
    }
    let major = engines.and_then(of_range);
    Ok(major.map(|major| (major.to_string(), format!("engines.node is `{}`", engines.unwrap_or_default()))))
}

/// `20`, `v20.11.1`, `lts/iron`; `node`, `stable` and `lts/*` leave it open.
fn of_name(text: &str) -> Option<u32> {
    let text = text.to_ascii_lowercase();
    if let Some(name) = text.strip_prefix("lts/") {
        return LONG_TERM.iter().find(|(known, _)| *known == name).map(|(_, major)| *major);
    }
    leading_number(text.trim_start_matches('v'))
}

/// The highest major that a range allows; `None` when it allows the usual one without an upper bound.
fn of_range(range: &str) -> Option<u32> {
    let highest = range.split("||").filter_map(highest_of).max()?;
    match highest {
        Highest::Any => None,
        Highest::AtLeast(major) => (major > USUAL_MAJOR).then_some(major),
        Highest::Exactly(major) => Some(major),
    }
}

/// Ordered so that the most permissive alternative of a range wins.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Highest {
    Exactly(u32),
    AtLeast(u32),
    Any,
}

fn highest_of(alternative: &str) -> Option<Highest> {
    let alternative = alternative.trim();
    if alternative.is_empty() || matches!(alternative, "*" | "x" | "latest" | "current") {
        return Some(Highest::Any);
    }
    // `18 - 20`: the right side is the upper bound.
    if let Some((_, upper)) = alternative.split_once(" - ") {
        return leading_number(upper.trim_start_matches(['v', ' '])).map(Highest::Exactly);
    }
    let mut lower = None;
    // `>= 18` and `>=18` mean the same.
    let joined = [">=", "<=", ">", "<", "^", "~", "="]
        .iter()
        .fold(alternative.to_owned(), |text, operator| text.replace(&format!("{operator} "), operator));
    for part in joined.split_whitespace() {
        let number = |prefix: &str| part.strip_prefix(prefix).map(|rest| rest.trim_start_matches('v'));
        if let Some(text) = number("<=") {
            return leading_number(text).map(Highest::Exactly);
        }
        if let Some(text) = number("<") {
            let major = leading_number(text)?;
            let rest = text.trim_start_matches(|character: char| character.is_ascii_digit());
            let within = rest.bytes().any(|byte| byte.is_ascii_digit() && byte != b'0');
            return Some(Highest::Exactly(if within { major } else { major.saturating_sub(1) }));
        }
        if let Some(text) = number(">=").or_else(|| number(">")) {
            lower = leading_number(text);
            continue;
        }
        return leading_number(part.trim_start_matches(['^', '~', '=', 'v'])).map(Highest::Exactly);
    }
    lower.map(Highest::AtLeast)
}

fn leading_number(text: &str) -> Option<u32> {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_pick_the_highest_major() {
        for (range, major) in [
            ("20", Some(20)),
            ("20.x", Some(20)),
            ("^18.17.0", Some(18)),
            ("~16.1", Some(16)),
            ("18.x || 20.x", Some(20)),
            (">=18 <21", Some(20)),
            (">= 18.0.0 < 20.5", Some(20)),
            ("18 - 20", Some(20)),
            (">=18", None),
            (">=24", Some(24)),
            ("*", None),
            ("nonsense", None),
            (">=18 || ^16", None),
        ] {
            assert_eq!(of_range(range), major, "{range}");
        }
    }

    #[test]
    fn nvmrc_knows_names() {
        for (text, major) in
            [("v20.11.1", Some(20)), ("20", Some(20)), ("lts/iron", Some(20)), ("lts/*", None), ("node", None)]
        {
            assert_eq!(of_name(text), major, "{text}");
        }
    }
}
