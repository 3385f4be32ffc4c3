use super::*;

/// The pattern that decides on `path`; a `/` at its end makes it a folder.
fn decides(file: &str, path: &str) -> Option<(usize, bool)> {
    let patterns = Patterns::parse(file.as_bytes(), false);
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
    assert!(!matched("~/x", "home/x"));
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
        ("[[:space:]]", " ", true),
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
}

#[test]
fn without_case_git_lowers_the_text_and_half_of_the_pattern() {
    let find =
        |pattern: &str, path: &str| Patterns::parse(pattern.as_bytes(), true).find(path.as_bytes(), false).is_some();
    assert!(find("/SRC/*.O", "src/a.o"));
    assert!(find("[A-C]", "b"));
    assert!(!find("[A]", "A"));
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
    let says = |pattern: &str| Patterns::parse(pattern.as_bytes(), false).patterns[0].says_a_name();
    for pattern in ["!.env", "!.env*", "!config/.env", "!/*.pem", "!id_*"] {
        assert!(says(pattern), "{pattern}");
    }
    for pattern in ["!*", "!config/**", "!config/*", "!.*", "!?????", "![!x]*", "!config/.??*"] {
        assert!(!says(pattern), "{pattern}");
    }
}
