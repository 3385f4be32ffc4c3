//! How an object's key becomes a path, and back.
//!
//! The path mirrors the key, one folder per `/`, so a listing of a prefix reads that prefix only. A name on disk is
//! escaped text and one final character that says what it is:
//!
//! | ends in | is | its part of the key |
//! |---|---|---|
//! | `@` | an object | the text |
//! | `+` | a folder | the text and a `/` |
//! | `~` | a folder, where a part has [`CHUNK`] bytes or more | the text, exactly [`CHUNK`] bytes |
//!
//! So a key can be an object and a prefix at once, no name passes 255 bytes, and `.` and `..` are plain text. Bytes
//! other than `a-z 0-9 . _ -` are escaped (`^a` for `A`, `%20` for a space): file systems that ignore case or
//! normalise Unicode can't make two keys one.

use std::path::PathBuf;

/// A part of this many bytes or more is cut. Three times that, and the final character, fit in 255.
const CHUNK: usize = 80;

/// What a name in a bucket's folder stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// The last part of a key.
    Object(Vec<u8>),
    /// Bytes that the keys of everything below begin with.
    Folder(Vec<u8>),
}

impl Entry {
    /// The bytes this name adds to the key; also its place among its siblings in key order.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Object(bytes) | Self::Folder(bytes) => bytes,
        }
    }
}

/// The path of the object `key`, relative to its bucket's object folder.
pub(super) fn path_of(key: &str) -> PathBuf {
    let mut path = PathBuf::new();
    let mut parts = key.split('/').peekable();
    while let Some(part) = parts.next() {
        let mut rest = part.as_bytes();
        while rest.len() >= CHUNK {
            let (chunk, tail) = rest.split_at(CHUNK);
            path.push(escape(chunk, '~'));
            rest = tail;
        }
        path.push(escape(rest, if parts.peek().is_some() { '+' } else { '@' }));
    }
    path
}

/// What `name` stands for; `None` if it is none of our names.
pub(super) fn entry_of(name: &str) -> Option<Entry> {
    let kind = name.chars().next_back()?;
    let mut bytes = unescape(&name[..name.len() - kind.len_utf8()])?;
    match kind {
        '@' => Some(Entry::Object(bytes)),
        '+' => {
            bytes.push(b'/');
            Some(Entry::Folder(bytes))
        }
        '~' if bytes.len() == CHUNK => Some(Entry::Folder(bytes)),
        _ => None,
    }
}

fn escape(bytes: &[u8], kind: char) -> String {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() + 8);
    for &byte in bytes {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' => text.push(char::from(byte)),
            b'A'..=b'Z' => {
                text.push('^');
                text.push(char::from(byte.to_ascii_lowercase()));
            }
            _ => {
                text.push('%');
                text.push(char::from(HEX[usize::from(byte >> 4)]));
                text.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
    text.push(kind);
    text
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'^' => bytes.push(rest.next().filter(u8::is_ascii_lowercase)?.to_ascii_uppercase()),
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                bytes.push(u8::try_from(high * 16 + low).ok()?);
            }
            _ => bytes.push(byte),
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key_of(path: &std::path::Path) -> String {
        let mut key = Vec::new();
        for name in path {
            key.extend_from_slice(entry_of(name.to_str().unwrap()).unwrap().bytes());
        }
        String::from_utf8(key).unwrap()
    }

    #[test]
    fn the_names_on_disk_are_part_of_the_format() {
        let golden = [
            ("bucket.json", "bucket.json@"),
            ("refs/my app.json", "refs+/my%20app.json@"),
            ("data/01ARZ/x", "data+/01^a^r^z+/x@"),
            ("a/", "a+/@"),
            ("/a", "+/a@"),
            ("a//b", "a+/+/b@"),
            ("../..", "..+/..@"),
            ("ü", "%c3%bc@"),
        ];
        for (key, path) in golden {
            assert_eq!(path_of(key), PathBuf::from(path), "{key}");
        }
        let long = "x".repeat(CHUNK);
        assert_eq!(path_of(&long), PathBuf::from(format!("{long}~/@")));
        assert_eq!(path_of(&format!("{long}/y")), PathBuf::from(format!("{long}~/+/y@")));
    }

    proptest! {
        #[test]
        fn any_key_comes_back(key in "[a-zA-Z./ ü€\u{1}%^@+~-]{1,300}") {
            let path = path_of(&key);
            prop_assert!(path.iter().all(|name| name.len() <= 255));
            prop_assert_eq!(key_of(&path), key);
        }
    }
}
