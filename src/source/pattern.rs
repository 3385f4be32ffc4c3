//! Patterns of ignore files. Pure.
//!
//! The crate `ignore` matches them. It reads some patterns as ripgrep's users expect them and not as git does, so each
//! line is said to it in other words, which mean to it what the line means to git. Held against git itself by
//! `tests/source_oracle.rs`.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// The patterns of one ignore file.
#[derive(Debug)]
pub struct Patterns {
    matcher: Gitignore,
    /// By what `ignore` got for it. Of lines that are the same to it only the last can decide.
    lines: HashMap<String, Pattern>,
}

/// One line of an ignore file.
#[derive(Debug)]
pub struct Pattern {
    /// The line, counted from 1.
    pub line: usize,
    /// The pattern as written, without spaces at its end.
    pub text: String,
    /// It begins with `!`.
    pub takes_back: bool,
    /// Whether its last part has a letter or digit of a name, where `*` alone takes anything.
    pub says_a_name: bool,
}

impl Patterns {
    /// Reads an ignore file. What git can't understand it passes over, and so do we. Fails when there is more than `ignore`
    /// can hold.
    pub fn parse(content: &[u8], ignore_case: bool) -> Result<Self, ignore::Error> {
        let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
        // No folder: paths come as the ignore file sees them.
        let mut builder = GitignoreBuilder::new("");
        builder.case_insensitive(ignore_case)?;
        let mut lines = HashMap::new();
        for (at, line) in content.split(|byte| *byte == b'\n').enumerate() {
            let Some((translated, pattern)) = Pattern::parse(at + 1, line, ignore_case) else { continue };
            builder.add_line(None, &translated)?;
            lines.insert(translated, pattern);
        }
        Ok(Self { matcher: builder.build()?, lines })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The last pattern that matches a path below the folder of the ignore file. The path has no `/` at its ends.
    pub fn find(&self, path: &[u8], is_directory: bool) -> Option<&Pattern> {
        self.lines.get(self.matcher.matched(OsStr::from_bytes(path), is_directory).inner()?.original())
    }
}

impl Pattern {
    /// The pattern, and the line that makes `ignore` match as git does. Nothing for what matches nothing.
    fn parse(line: usize, content: &[u8], ignore_case: bool) -> Option<(String, Self)> {
        let content = content.strip_suffix(b"\r").unwrap_or(content);
        // git's lines are C strings.
        let content = content.split(|byte| *byte == 0).next()?;
        // `ignore` knows no bytes but those of characters.
        let content = without_spaces_at_the_end(str::from_utf8(content).ok()?);
        if content.starts_with('#') {
            return None;
        }
        let (takes_back, pattern) = content.strip_prefix('!').map_or((false, content), |rest| (true, rest));
        let (directories_only, pattern) = pattern.strip_suffix('/').map_or((false, pattern), |rest| (true, rest));
        // Without a `/` it is compared with names, not with paths.
        let names = !pattern.contains('/');
        let (glob, says_a_name) = translated(pattern.strip_prefix('/').unwrap_or(pattern), names, ignore_case)?;
        // For a name `ignore` would do the same, unless a class has a `/`, as ours may.
        let (before, root) = (if takes_back { "!" } else { "" }, if names { "**/" } else { "/" });
        let after = if directories_only { "/" } else { "" };
        Some((format!("{before}{root}{glob}{after}"), Self { line, text: content.to_owned(), takes_back, says_a_name }))
    }
}

/// Spaces at the end don't count unless a backslash keeps them. Tabs do.
fn without_spaces_at_the_end(line: &str) -> &str {
    let kept = line.trim_end_matches(' ');
    let backslashes = kept.len() - kept.trim_end_matches('\\').len();
    // One that has another before it keeps nothing.
    if backslashes % 2 == 1 { &line[..line.len().min(kept.len() + 1)] } else { kept }
}

/// A glob for `ignore`, and whether its last part says a name.
fn translated(pattern: &str, names: bool, ignore_case: bool) -> Option<(String, bool)> {
    // git compares the plain beginning apart, and reads the rest as a pattern of its own: `a**/b` matches `ab`.
    let begin = pattern.find(['*', '?', '[', '\\']).unwrap_or(pattern.len());
    let (mut glob, mut says_a_name) = (String::new(), false);
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match character {
            '?' => glob.push('?'),
            '[' => characters = class(characters.as_str(), ignore_case, &mut glob)?.chars(),
            '*' => {
                let done = pattern.len() - characters.as_str().len() - 1;
                let many = characters.as_str().starts_with('*');
                let rest = characters.as_str().trim_start_matches('*');
                characters = rest.chars();
                let begins_part = done == begin || pattern[..done].ends_with('/');
                let ends_part = rest.is_empty() || rest.starts_with('/') || rest.starts_with("\\/");
                if names || !many || !begins_part || !ends_part {
                    glob.push('*');
                } else if let Some(rest) = rest.strip_prefix('/') {
                    (characters, says_a_name) = (rest.chars(), false);
                    // Alone in braces it is any folders or none, wherever it stands. At the beginning it is that without
                    // them, and quicker; but a `/` at the end would mean folders only.
                    glob.push_str(if glob.is_empty() && !rest.is_empty() { "**/" } else { "{**/}" });
                } else {
                    glob.push_str("{**/}*");
                }
            }
            _ => {
                let escaped = character == '\\';
                let literal = if escaped { characters.next()? } else { character };
                says_a_name = literal != '/' && (says_a_name || literal.is_ascii_alphanumeric() || !literal.is_ascii());
                match literal {
                    // Where case doesn't count, git lowers the text, and of the pattern what has no backslash.
                    _ if escaped && ignore_case && literal.is_ascii_uppercase() => return None,
                    // In front of a `/` at the end `ignore` would take a backslash away.
                    '\\' => glob.push_str("[\\]"),
                    sign if sign == ' ' || sign.is_ascii_punctuation() && sign != '/' => glob.extend(['\\', sign]),
                    plain => glob.push(plain),
                }
            }
        }
    }
    // No path ends with a `/`.
    (!glob.is_empty() && !glob.ends_with('/')).then_some((glob, says_a_name))
}

/// Writes the class that begins behind a `[`, and returns what comes behind it. Nothing when it has no end, or names a class
/// that there isn't.
fn class<'p>(pattern: &'p str, ignore_case: bool, glob: &mut String) -> Option<&'p str> {
    let (negated, begin) = pattern.strip_prefix(['!', '^']).map_or((false, pattern), |rest| (true, rest));
    let mut members = Vec::new();
    // What a `-` would make a range from.
    let mut from = None;
    let mut rest = begin;
    loop {
        let mut characters = rest.chars();
        let character = characters.next()?;
        let after = characters.as_str();
        match character {
            ']' if rest.len() < begin.len() => {
                rest = after;
                break;
            }
            '-' if from.is_some() && !after.starts_with(']') => {
                characters = after.strip_prefix('\\').unwrap_or(after).chars();
                let to = characters.next()?;
                members.push((from?, to));
                // To git, a range ends at the first byte, and what is left of the character may begin another.
                from = (!to.is_ascii()).then_some(to);
            }
            '[' if after.starts_with(':') => {
                let (name, behind) = after[1..].split_once(']')?;
                if let Some(name) = name.strip_suffix(':') {
                    members.extend(named(name)?);
                    (from, characters) = (None, behind.chars());
                } else {
                    members.push((character, character));
                    from = Some(character);
                }
            }
            plain => {
                let single = if plain == '\\' { characters.next()? } else { plain };
                from = Some(single);
                // As with letters outside of a class; here, those without a backslash too.
                if !(ignore_case && single.is_ascii_uppercase()) {
                    members.push((single, single));
                }
            }
        }
        rest = characters.as_str();
    }
    write_class(&members, negated, glob);
    Some(rest)
}

/// Writes a class for `ignore`, each character of ASCII by itself. One beyond ASCII is its bytes, to both.
fn write_class(members: &[(char, char)], negated: bool, glob: &mut String) {
    // In git no class matches a `/`.
    let has = |character: char| match character {
        '/' => negated,
        _ => members.iter().any(|(from, to)| (*from..=*to).contains(&character)),
    };
    glob.push_str(if negated { "[!" } else { "[" });
    // Only here a `]` means itself, and a `!` does not: so one of the two, or what no path has.
    glob.push(if has(']') { ']' } else { '\0' });
    glob.extend((1..128).map(char::from).filter(|character| !matches!(character, ']' | '-') && has(*character)));
    for (from, to) in members.iter().map(|(from, to)| (*from.max(&'\x7f'), *to)).filter(|(from, to)| from <= to) {
        glob.extend([from, '-', to]);
    }
    glob.push_str(if has('-') { "-]" } else { "]" });
}

fn named(name: &str) -> Option<&'static [(char, char)]> {
    Some(match name {
        "alnum" => &[('0', '9'), ('A', 'Z'), ('a', 'z')],
        "alpha" => &[('A', 'Z'), ('a', 'z')],
        "blank" => &[(' ', ' '), ('\t', '\t')],
        "cntrl" => &[('\0', '\x1f'), ('\x7f', '\x7f')],
        "digit" => &[('0', '9')],
        "graph" => &[('!', '~')],
        "lower" => &[('a', 'z')],
        "print" => &[(' ', '~')],
        "punct" => &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')],
        // git's own idea of a space has neither form feed nor vertical tab.
        "space" => &[('\t', '\n'), ('\r', '\r'), (' ', ' ')],
        "upper" => &[('A', 'Z')],
        "xdigit" => &[('0', '9'), ('A', 'F'), ('a', 'f')],
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
