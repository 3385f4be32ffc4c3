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

/// `1 entry`, `2 entries`.
pub fn plural(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
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

/// What a terminal may take for an order, or shows as something else than it is: control characters, what has no width, what
/// turns the direction of writing.
fn is_hostile(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        )
}

/// A name from somewhere else, safe to show on a terminal: control characters are escaped.
pub fn escape(text: &str) -> String {
    escape_as(text, is_hostile, |shown, character| {
        let _ = write!(shown, "{}", character.escape_default());
    })
}

/// A text of several lines, safe to show on a terminal.
pub fn escape_lines(text: &str) -> String {
    let hostile = |character| is_hostile(character) && !matches!(character, '\n' | '\t');
    escape_as(text, hostile, |shown, character| {
        let _ = write!(shown, "{}", character.escape_default());
    })
}

/// A message, safe to show on a terminal. It may have several lines, but none of them can be taken for a message of its own.
pub fn escape_message(text: &str) -> String {
    escape_lines(text).replace('\n', "\n    ")
}

/// JSON, safe to show on a terminal, and the same document: such characters stand in texts alone.
pub fn escape_json(json: &str) -> String {
    let hostile = |character| is_hostile(character) && character != '\n';
    escape_as(json, hostile, |shown, character| {
        for unit in character.encode_utf16(&mut [0; 2]) {
            let _ = write!(shown, "\\u{unit:04x}");
        }
    })
}

fn escape_as(text: &str, hostile: impl Fn(char) -> bool, escape: impl Fn(&mut String, char)) -> String {
    if !text.contains(&hostile) {
        return text.to_owned();
    }
    text.chars().fold(String::with_capacity(text.len() + 8), |mut shown, character| {
        if hostile(character) {
            escape(&mut shown, character);
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
    fn a_name_in_a_message_can_neither_give_orders_nor_pass_for_a_message() {
        assert_eq!(escape_message("no `a\u{1b}]0;x\u{7}\nhint: y`"), "no `a\\u{1b}]0;x\\u{7}\n    hint: y`");
        assert_eq!(escape_lines("a\tb\nc\r"), "a\tb\nc\\r");
    }

    #[test]
    fn json_stays_the_same_document() {
        let text = "a\u{9b}2J\u{202e}b\u{feff}";
        let json = serde_json::to_string_pretty(&[text]).unwrap();
        let shown = escape_json(&json);
        assert!(!shown.contains(['\u{9b}', '\u{202e}', '\u{feff}']) && shown.contains('\n'), "{shown}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&shown).unwrap(), [text]);
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
