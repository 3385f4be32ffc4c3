use super::*;

/// The pattern that decides on `path`; a `/` at its end makes it a folder.
fn decides(file: &str, path: &str) -> Option<(usize, bool)> {
    let patterns = Patterns::parse(file.as_bytes(), false).unwrap();
    let (path, is_directory) = path.strip_suffix('/').map_or((path, false), |path| (path, true));
    patterns.find(path.as_bytes(), is_directory).map(|pattern| (pattern.line, pattern.takes_back))
}

fn matched(pattern: &str, path: &str) -> bool {
    decides(pattern, path).is_some()
}

#[test]
fn the_last_line_that_matches_decides() {
    let file = "\u{feff}*.o\r\n# a comment\n\n!keep.o\n/only/\n";
    assert_eq!(decides(file, "a/x.o"), Some((1, false)));
    assert_eq!(decides(file, "a/keep.o"), Some((4, true)));
    assert_eq!(decides(file, "only/"), Some((5, false)));
    assert_eq!(decides(file, "only"), None);
    assert_eq!(decides(file, "a/only/"), None);
    assert_eq!(decides(file, "# a comment"), None);
}

#[test]
fn of_lines_that_mean_the_same_the_last_decides() {
    assert_eq!(decides("a\nb\na\n", "a"), Some((3, false)));
    assert_eq!(decides("a\n!a\n", "a"), Some((2, true)));
    assert_eq!(decides("!a\na\n!a\nb", "a"), Some((3, true)));
    // A folder falls under the second, a file does not.
    assert_eq!(decides("a\na/\n", "a"), Some((1, false)));
    assert_eq!(decides("a\na/\n", "a/"), Some((2, false)));
    // The same in other words.
    assert_eq!(decides("[ab]\n[ba]\n", "x/a"), Some((2, false)));
}

#[test]
fn stars_stay_in_their_part_of_a_path() {
    for (pattern, path, expected) in [
        ("a/*", "a/b", true),
        ("a/*", "a/b/c", false),
        ("a/*c", "a/b/c", false),
        ("a/**", "a/b/c", true),
        ("a/**", "a/", false),
        ("**/c", "a/b/c", true),
        ("**/c", "c", true),
        ("**/c", "xc", false),
        ("a/**/c", "a/c", true),
        ("a/**/c", "a/b/b/c", true),
        ("a/**/c", "ac", false),
        ("a/x**/c", "a/xb/c", true),
        // git strips the plain beginning first.
        ("a**/c", "ac", true),
        ("a**/c", "a/b/c", true),
        ("a**", "a", true),
        ("x/a**", "x/ab/c", true),
        ("b/a**/c", "b/ac", true),
        ("b/?a**/c", "b/xac", false),
        ("**", "a/b", true),
        ("/**/", "a/", true),
        ("a/**\\/c", "a/b/c", true),
        ("/*/*b*/c", "x/aab/c", true),
        ("/*/*b*/c", "x/a/b/c", false),
        ("**/a/*/b/**", "x/a/y/a/z/b/c", true),
        ("*a*b", "xaxxb", true),
        ("*a*b", "xaxxbx", false),
    ] {
        assert_eq!(matched(pattern, path), expected, "{pattern} {path}");
    }
}

#[test]
fn what_the_usual_globs_know_and_git_does_not() {
    assert!(!matched("*.{js,ts}", "a.js"));
    assert!(matched("*.{js,ts}", "a.{js,ts}"));
    assert!(matched("{", "x/{"));
    assert!(matched("/a,b}", "a,b}"));
    assert!(!matched("{**/}a", "a"));
    assert!(matched("a.(b|c)+$", "a.(b|c)+$"));
    assert!(!matched("~/x", "home/x"));
    // Nothing but a `/` matches a `/`.
    assert!(!matched("x[!a]y", "x/y"));
    assert!(!matched("/x[+-9]y", "x/y"));
    assert!(matched("/x[+-9]y", "x.y"));
    assert!(matched("[!a]", "x/b"));
    // One byte, not one character.
    assert!(!matched("?", "é"));
    assert!(matched("??", "é"));
}

#[test]
fn classes() {
    for (pattern, path, expected) in [
        ("[a-c]", "b", true),
        ("[!a-c]", "b", false),
        ("[^a-c]", "d", true),
        ("[]-]", "]", true),
        ("[]-]", "-", true),
        ("[[:digit:]x]", "7", true),
        ("[[:digit:]x]", "x", true),
        ("[[:nonsense:]]", "n", false),
        ("[[:digit:]x]", "[", false),
        ("[[:space:]]", " ", true),
        ("[[:punct:]]", "\\", true),
        ("[[:punct:]]", "]", true),
        ("[![:punct:]]", "-", false),
        // A range needs a beginning of its own, and one that runs backwards is empty.
        ("[a-c-e]", "d", false),
        ("[a-c-e]", "-", true),
        ("[c-a]", "b", false),
        ("[c-ax]", "x", true),
        ("[!-.]", "#", true),
        ("[a^]", "^", true),
        // One byte, of those that a character has.
        ("[é]", "é", false),
        ("[é][é]", "é", true),
        ("[а-я]*", "ж", true),
        ("[\\]]", "]", true),
        ("[a", "[a", false),
        ("a\\", "a\\", false),
    ] {
        assert_eq!(matched(pattern, path), expected, "{pattern} {path}");
    }
}

#[test]
fn spaces_at_the_end() {
    assert!(matched("a  ", "a"));
    assert!(matched("a\\ ", "a "));
    assert!(matched("a\\  ", "a "));
    assert!(!matched("a\\ ", "a"));
    // A tab is part of the name.
    assert!(!matched("a\t", "a"));
    assert!(matched("\\#a", "#a"));
    assert!(matched("\\!a", "!a"));
    assert!(matched("a\\\\  ", "a\\"));
    // Only spaces are taken away.
    for space in ["\t", "\u{b}", "\u{3000}"] {
        assert!(matched(&format!("/a{space}"), &format!("a{space}")));
        assert!(!matched(&format!("/a{space}"), "a"));
    }
    // Nor is a backslash, in front of a `/`.
    assert!(matched("a\\\\/", "a\\/"));
    assert!(!matched("a\\/", "a/"));
}

#[test]
fn a_line_that_is_not_utf8_is_passed_over() {
    let patterns = Patterns::parse(b"\xe9\n*.o\n", false).unwrap();
    assert!(patterns.find(b"\xe9", false).is_none());
    assert_eq!(patterns.find(b"\xe9.o", false).map(|pattern| pattern.line), Some(2));
}

#[test]
fn more_than_can_be_held_is_an_error() {
    let many: Vec<_> = (0..20_000).map(|number| format!("*a{number}b*")).collect();
    assert!(Patterns::parse(many.join("\n").as_bytes(), false).is_err());
}

#[test]
fn without_case_git_lowers_the_text_and_half_of_the_pattern() {
    let find = |pattern: &str, path: &str| {
        Patterns::parse(pattern.as_bytes(), true).unwrap().find(path.as_bytes(), false).is_some()
    };
    assert!(find("/SRC/*.O", "src/a.o"));
    assert!(find("[A-C]", "b"));
    assert!(!find("[A]", "A"));
    assert!(find("[!A]", "A"));
    assert!(find("\\a", "A"));
    assert!(!find("\\A", "A"));
    assert!(!find("é", "É"));
    assert!(find("[[:upper:]]", "a"));
}

#[test]
fn many_stars_take_no_exponential_time() {
    let pattern = "*a".repeat(40) + "b";
    assert!(!matched(&pattern, &"a".repeat(4000)));
    assert!(!matched(&format!("**/{}/**/x", "*a".repeat(20)), &"a/".repeat(500)));
}

#[test]
fn a_pattern_says_a_name_or_takes_anything() {
    let says = |pattern: &str| Pattern::parse(1, pattern.as_bytes(), false).unwrap().1.says_a_name;
    for pattern in ["!.env", "!.env*", "!config/.env", "!/*.pem", "!id_*"] {
        assert!(says(pattern), "{pattern}");
    }
    for pattern in ["!*", "!config/**", "!config/*", "!.*", "!?????", "![!x]*", "!config/.??*"] {
        assert!(!says(pattern), "{pattern}");
    }
}
