//! How sizes, times and strangers' file names read.

use std::fmt::Write;

use jiff::Timestamp;

/// `3.1 MiB`, as people read sizes.
pub fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}

/// `1 file`, `2 files`.
pub fn count(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// `12s ago`, `3h ago`, `5d ago`.
pub fn relative_time(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(then.as_second());
    match seconds {
        ..5 => "just now".to_owned(),
        5..60 => format!("{seconds}s ago"),
        60..3_600 => format!("{}m ago", seconds / 60),
        3_600..172_800 => format!("{}h ago", seconds / 3_600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

/// The first line of a text, cut to so many characters, with `…` where something is missing.
pub fn first_line(text: &str, most: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= most && line.len() == text.trim_end().len() {
        return line.to_owned();
    }
    let kept: String = line.chars().take(most.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// An error with its causes, in one line.
pub fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// A name from somewhere else, safe to show on a terminal: control characters are escaped.
pub fn escape(text: &str) -> String {
    let hostile = |character: char| {
        character.is_control()
            || matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(hostile) {
        return text.to_owned();
    }
    text.chars().fold(String::with_capacity(text.len() + 8), |mut shown, character| {
        if hostile(character) {
            let _ = write!(shown, "{}", character.escape_default());
        } else {
            shown.push(character);
        }
        shown
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_escaped() {
        assert_eq!(escape("plain ä.txt"), "plain ä.txt");
        assert_eq!(escape("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(escape("a\u{202e}b"), "a\\u{202e}b");
    }

    #[test]
    fn long_texts_are_cut_with_a_sign() {
        assert_eq!(first_line("short", 5), "short");
        assert_eq!(first_line("längeres", 5), "läng…");
        assert_eq!(first_line("one\ntwo", 5), "one…");
        assert_eq!(first_line("one\n", 5), "one");
    }

    #[test]
    fn times_read_as_distances() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(relative_time(at(100), at(101)), "just now");
        assert_eq!(relative_time(at(0), at(59)), "59s ago");
        assert_eq!(relative_time(at(0), at(7_200)), "2h ago");
        assert_eq!(relative_time(at(0), at(864_000)), "10d ago");
        assert_eq!(relative_time(at(10), at(0)), "just now");
    }
}
