//! JSON as other languages write it by default, for hashes that are made of such texts: nothing but ASCII.

use std::fmt::Write as _;

/// A text in quotes; what isn't ASCII as UTF-16 in `\\u0000` form.
pub(super) fn push_text(text: &str, out: &mut String) {
    for character in serde_json::Value::from(text).to_string().chars() {
        if character.is_ascii() {
            out.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    }
}

/// Bytes in hexadecimal digits.
pub(super) fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
