//! Which minor version of a language a range of versions asks for: `>=3.10,<3.12` of Python, `^8.2` of Composer.
//!
//! Ranges of Node are about majors only and are read in [`node`](super::node).

/// `3.12`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Minor(pub(super) u32, pub(super) u32);

impl std::fmt::Display for Minor {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}.{}", self.0, self.1)
    }
}

/// What `~1.2` leaves open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tilde {
    /// The patch, as Poetry has it.
    Patch,
    /// The last number given, as Composer has it.
    Last,
}

/// From the first that is allowed to the first that isn't any more.
#[derive(Debug, Clone, Copy)]
struct Span {
    from: Minor,
    until: Option<Minor>,
}

/// The version to take; `None` when the usual one will do, or the range can't be understood.
pub(super) fn demanded(range: &str, usual: Minor, tilde: Tilde) -> Option<Minor> {
    let spans: Vec<Span> =
        range.split('|').filter(|part| !part.trim().is_empty()).map(|part| span(part, tilde)).collect::<Option<_>>()?;
    let allows = |span: &Span| span.from <= usual && span.until.is_none_or(|until| usual < until);
    if spans.iter().any(allows) {
        return None;
    }
    spans.iter().map(newest).max()
}

/// The newest that is known to exist: which minor is a major's last one can't be told from here.
fn newest(span: &Span) -> Minor {
    match span.until {
        Some(Minor(major, minor)) if minor > 0 => Minor(major, minor - 1).max(span.from),
        _ => span.from,
    }
}

fn span(text: &str, tilde: Tilde) -> Option<Span> {
    let text = text.trim();
    let mut all = Span { from: Minor(0, 0), until: None };
    if let Some((lower, upper)) = text.split_once(" - ") {
        return Some(Span { from: one(lower, tilde)?.from, until: one(upper, tilde)?.until });
    }
    // `>= 3.10` and `>=3.10` mean the same.
    let mut joined = text.replace(',', " ");
    for operator in ["=", ">", "<", "~", "^"] {
        while joined.contains(&format!("{operator} ")) {
            joined = joined.replace(&format!("{operator} "), operator);
        }
    }
    for part in joined.split_whitespace() {
        let part = one(part, tilde)?;
        all.from = all.from.max(part.from);
        all.until = match (all.until, part.until) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
    Some(all)
}

/// One comparison.
fn one(text: &str, tilde: Tilde) -> Option<Span> {
    let text = text.trim();
    let number_at = text.find(|character: char| character.is_ascii_digit());
    let Some(number_at) = number_at else {
        return (text == "*").then_some(Span { from: Minor(0, 0), until: None });
    };
    let (operator, number) = text.split_at(number_at);
    let parts: Vec<u32> = number.split('.').map_while(leading_number).collect();
    let major = *parts.first()?;
    let (minor, patch) = (parts.get(1).copied(), parts.get(2).copied());
    let from = Minor(major, minor.unwrap_or(0));
    let after_minor = minor.map_or(Minor(major + 1, 0), |minor| Minor(major, minor + 1));
    let after_major = Minor(major + 1, 0);
    let until = |until| Some(Span { from, until: Some(until) });
    match operator.trim_end_matches('v').trim() {
        ">=" | ">" => Some(Span { from, until: None }),
        "<" => {
            let bound = if patch.is_some_and(|patch| patch > 0) { after_minor } else { from };
            Some(Span { from: Minor(0, 0), until: Some(bound) })
        }
        "<=" => Some(Span { from: Minor(0, 0), until: Some(after_minor) }),
        "" | "=" | "==" | "===" => until(after_minor),
        "^" => until(after_major),
        "~=" => until(if patch.is_some() { after_minor } else { after_major }),
        "~" => until(match tilde {
            Tilde::Patch => after_minor,
            Tilde::Last if patch.is_some() => after_minor,
            Tilde::Last => after_major,
        }),
        "!=" => Some(Span { from: Minor(0, 0), until: None }),
        _ => None,
    }
}

fn leading_number(text: &str) -> Option<u32> {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

/// `3.12`, `3.12.1`, `python-3.12.1`; whatever has no two numbers leaves it open.
pub(super) fn named(text: &str) -> Option<Minor> {
    let text = text.trim();
    let text = text.strip_prefix("python-").or_else(|| text.strip_prefix("cpython-")).unwrap_or(text);
    let mut parts = text.trim_start_matches('v').split('.');
    Some(Minor(leading_number(parts.next()?)?, leading_number(parts.next()?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_python_pick_the_newest_minor_that_is_known_to_exist() {
        for (range, version) in [
            (">=3.10", None),
            (">=3.10,<3.12", Some("3.11")),
            (">= 3.9, < 3.12.4", Some("3.12")),
            ("==3.11.*", Some("3.11")),
            ("~=3.11", None),
            ("~=3.11.2", Some("3.11")),
            ("^3.11", None),
            ("~3.11", Some("3.11")),
            (">=3.15", Some("3.15")),
            ("<3.12", Some("3.11")),
            ("*", None),
            ("nonsense", None),
            (">=3.8,!=3.9.0", None),
        ] {
            let found = demanded(range, Minor(3, 13), Tilde::Patch).map(|minor| minor.to_string());
            assert_eq!(found.as_deref(), version, "{range}");
        }
    }

    #[test]
    fn ranges_of_composer_are_read_by_its_rules() {
        for (range, version) in [
            ("^8.2", None),
            ("~8.1.0", Some("8.1")),
            ("~8.1", None),
            ("8.2.*", Some("8.2")),
            ("^7.4", Some("7.4")),
            ("^7.4 || ^8.0", None),
            (">=8.1 <8.3", Some("8.2")),
            ("7.2 - 8.1", Some("8.1")),
        ] {
            let found = demanded(range, Minor(8, 4), Tilde::Last).map(|minor| minor.to_string());
            assert_eq!(found.as_deref(), version, "{range}");
        }
    }

    #[test]
    fn version_files_name_a_minor() {
        for (text, version) in [("3.12\n", Some("3.12")), ("python-3.11.4", Some("3.11")), ("3", None), ("pypy", None)]
        {
            assert_eq!(named(text).map(|minor| minor.to_string()).as_deref(), version, "{text}");
        }
    }
}
