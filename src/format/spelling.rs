//! Spellings that are one name to some file systems: on most Macs and on Windows `README` and `readme` are the same file.
//!
//! Which ones exactly differs from one to the next. What is taken for one name here is whatever any of them may take for
//! one: case does not count, nor does how an accent is written (Unicode's NFC and NFD), nor characters without a width.

use std::borrow::Cow;

use foldhash::HashMap;
use icu_normalizer::DecomposingNormalizerBorrowed;

/// The same text for all spellings that may be one name, for a name or a path.
pub fn fold(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return if is_folded(text) { text.into() } else { text.to_ascii_lowercase().into() };
    }
    let seen: String = text.chars().filter(|character| !has_no_width(*character)).collect();
    // Both ways: `ß` is `SS`, `ſ` is `s` and the sign for kelvin is `k` to those who fold by Unicode's tables.
    DecomposingNormalizerBorrowed::new_nfd().normalize(&seen).to_uppercase().to_lowercase().into()
}

/// Whether `fold` leaves it as it is.
fn is_folded(text: &str) -> bool {
    if text.is_ascii() { !text.bytes().any(|byte| byte.is_ascii_uppercase()) } else { fold(text) == text }
}

/// What macOS passes over in a name.
fn has_no_width(character: char) -> bool {
    matches!(character, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
}

/// Paths that may be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Collisions<'p> {
    /// Two of them.
    pub first: (&'p str, &'p str),
    /// How many pairs there are besides.
    pub more: usize,
}

/// Finds paths, and folders on the way to one, of which only one would be left where they are the same name. `paths` are
/// sorted.
pub fn collisions<'p>(paths: impl Iterator<Item = &'p str> + Clone) -> Option<Collisions<'p>> {
    // Of several that are one name, at most one is written as it is folded: only the others are kept.
    let mut spelled: HashMap<Cow<'_, str>, &str> = HashMap::default();
    // Where a path is, each folder on the way to it is.
    each_part(paths.clone().filter(|path| !is_folded(path)), &mut |part| {
        if !is_folded(part) {
            spelled.entry(fold(part)).or_insert(part);
        }
        false
    });
    if spelled.is_empty() {
        return None;
    }
    let mut first = None;
    let mut pairs = 0_usize;
    each_part(paths, &mut |part| {
        let other = if is_folded(part) { spelled.get(part) } else { spelled.get(&fold(part)) };
        let Some(other) = other.copied().filter(|other| *other != part) else { return false };
        pairs += 1;
        first.get_or_insert((other, part));
        true
    });
    first.map(|first| Collisions { first, more: pairs - 1 })
}

/// Gives each path, and each folder on the way to one, to `look`, once. What lies below one for which it says yes is
/// passed over.
fn each_part<'p>(paths: impl Iterator<Item = &'p str>, look: &mut dyn FnMut(&'p str) -> bool) {
    let (mut last, mut passed) = ("", "");
    for path in paths {
        if !passed.is_empty() && path.strip_prefix(passed).is_some_and(|rest| rest.starts_with('/')) {
            continue;
        }
        // What it shares with the path before was looked at there: mostly the whole folder.
        let folder = last.rfind('/').map_or(0, |slash| slash + 1);
        let shared = if path.as_bytes().starts_with(&last.as_bytes()[..folder]) {
            folder
        } else {
            path.bytes().zip(last.bytes()).take_while(|(one, other)| one == other).count()
        };
        last = path;
        let slashes = path.as_bytes()[shared..].iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let ends = slashes.map(|(slash, _)| shared + slash).chain([path.len()]);
        if let Some(part) = ends.map(|end| &path[..end]).find(|part| look(part)) {
            passed = part;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(paths: &[&'static str]) -> Option<(&'static str, &'static str)> {
        collisions(paths.iter().copied()).map(|found| found.first)
    }

    #[test]
    fn paths_that_are_one_where_case_does_not_count() {
        assert_eq!(first(&["a", "a.b", "a/b", "b"]), None);
        assert_eq!(first(&["A/x", "a/y"]), Some(("A", "a")));
        assert_eq!(first(&["a/B/x", "a/b"]), Some(("a/B", "a/b")));
        assert_eq!(first(&["B/a", "a/b", "c"]), None);
        let several = ["A/x", "A/y", "a/x", "a/z", "s/README", "s/Readme", "s/readme"];
        assert_eq!(collisions(several.into_iter()), Some(Collisions { first: ("A", "a"), more: 2 }));
    }

    #[test]
    fn letters_that_only_some_file_systems_take_for_one() {
        assert_eq!(first(&["\u{c9}t\u{e9}", "\u{e9}t\u{e9}"]), Some(("\u{c9}t\u{e9}", "\u{e9}t\u{e9}")));
        // An accent as a character of its own.
        assert_eq!(first(&["e\u{301}", "\u{e9}"]), Some(("\u{e9}", "e\u{301}")));
        assert_eq!(first(&["STRASSE", "stra\u{df}e"]), Some(("STRASSE", "stra\u{df}e")));
        assert_eq!(first(&["key", "\u{212a}ey"]), Some(("\u{212a}ey", "key")));
        assert_eq!(first(&["a", "a\u{200d}"]), Some(("a\u{200d}", "a")));
        assert_eq!(first(&["\u{3a3}", "\u{3c2}", "\u{3c3}"]), Some(("\u{3a3}", "\u{3c2}")));
        assert_eq!(first(&["e", "\u{e9}"]), None);
    }
}
