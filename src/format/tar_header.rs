//! tar headers: ustar, with PAX records before an entry for what ustar can't hold: a name or link target that isn't plain
//! ASCII of at most 100 bytes, a size of 8 GiB and more, a time before 1970 or after 2242.
//!
//! Layout: POSIX.1-2001, `pax` (<https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html>). Written only, so
//! this is not a tar library: owners are 0, modes are git's, nothing else is recorded.

use std::fmt::Write as _;

/// tar's unit, in bytes.
pub const BLOCK: usize = 512;
/// The most bytes that one entry has beside its content: two headers, records for a path and a link target of 4,096
/// bytes, a size and a time, and padding.
pub const MOST: usize = 12 << 10;

/// Largest number that ustar's eleven octal digits hold.
const MAX_NUMBER: u64 = 0o777_7777_7777;
/// Longest name in ustar's field. Its `prefix` field is not used: PAX does all that it does.
const NAME: usize = 100;

/// An entry.
#[derive(Debug, Clone, Copy)]
struct Header<'a> {
    path: &'a str,
    kind: u8,
    mode: u32,
    size: u64,
    mtime: i64,
    link: &'a str,
}

/// Writes the header of a regular file, and the PAX records it may need.
pub fn file(out: &mut Vec<u8>, path: &str, executable: bool, mtime: i64, size: u64) {
    let mode = if executable { 0o755 } else { 0o644 };
    write(out, Header { path, kind: b'0', mode, size, mtime, link: "" });
}

/// Writes a symbolic link.
pub fn link(out: &mut Vec<u8>, path: &str, target: &str, mtime: i64) {
    write(out, Header { path, kind: b'2', mode: 0o777, size: 0, mtime, link: target });
}

/// Writes a folder.
pub fn folder(out: &mut Vec<u8>, path: &str, mtime: i64) {
    write(out, Header { path: &format!("{path}/"), kind: b'5', mode: 0o755, size: 0, mtime, link: "" });
}

/// Fills up the last block of a content of `size` bytes.
pub fn pad(out: &mut Vec<u8>, size: u64) {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    if over > 0 {
        out.resize(out.len() + BLOCK - over, 0);
    }
}

fn write(out: &mut Vec<u8>, entry: Header<'_>) {
    let plain = |text: &str| text.len() <= NAME && text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    let mut records = String::new();
    if !plain(entry.path) {
        records.push_str(&record("path", entry.path));
    }
    if !plain(entry.link) {
        records.push_str(&record("linkpath", entry.link));
    }
    if entry.size > MAX_NUMBER {
        records.push_str(&record("size", &entry.size.to_string()));
    }
    if u64::try_from(entry.mtime).map_or(true, |time| time > MAX_NUMBER) {
        records.push_str(&record("mtime", &entry.mtime.to_string()));
    }
    if !records.is_empty() {
        let size = records.len() as u64;
        let extension = Header { path: "././@PaxHeader", kind: b'x', mode: 0o644, size, mtime: 0, link: "" };
        block(out, &extension);
        out.extend_from_slice(records.as_bytes());
        pad(out, size);
    }
    let (path, link) = (ascii(entry.path, plain(entry.path)), ascii(entry.link, plain(entry.link)));
    block(out, &Header { path: &path, link: &link, ..entry });
}

/// What readers that know no PAX see instead of a text that ustar can't hold.
fn ascii(text: &str, plain: bool) -> String {
    if plain {
        return text.to_owned();
    }
    let seen = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '_' };
    text.chars().map(seen).take(NAME).collect::<String>().trim_end_matches('/').to_owned()
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself.
fn record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    let mut text = String::with_capacity(length);
    // Writing to a text can't fail.
    let _ = writeln!(text, "{length} {key}={value}");
    text
}

fn block(out: &mut Vec<u8>, entry: &Header<'_>) {
    let mut block = [0_u8; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    let number = |number: u64| format!("{:011o}\0", number.min(MAX_NUMBER));
    put(0, entry.path.as_bytes());
    put(100, format!("{:07o}\0", entry.mode).as_bytes());
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, number(entry.size).as_bytes());
    put(136, number(u64::try_from(entry.mtime).unwrap_or(0)).as_bytes());
    put(148, b"        ");
    put(156, &[entry.kind]);
    put(157, entry.link.as_bytes());
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().copied().map(u32::from).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    out.extend_from_slice(&block);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_lengths_count_themselves() {
        for length in [1, 80, 88, 89, 90, 91, 92, 980, 987, 988, 990, 4_096] {
            let record = record("path", &"x".repeat(length));
            let (number, _) = record.split_once(' ').unwrap();
            assert_eq!(number.parse::<usize>().unwrap(), record.len());
        }
    }

    #[test]
    fn the_largest_entry_is_as_large_as_said() {
        let mut out = Vec::new();
        let long = "\u{e4}".repeat(2_048);
        write(&mut out, Header { path: &long, kind: b'2', mode: 0, size: u64::MAX, mtime: i64::MIN, link: &long });
        pad(&mut out, 1);
        assert!(out.len() <= MOST, "{}", out.len());
    }

    #[test]
    fn what_ustar_cannot_hold_is_in_records() {
        let records = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            assert_eq!(out.len() % BLOCK, 0);
            if out.len() == BLOCK {
                return String::new();
            }
            assert_eq!(out[156], b'x');
            String::from_utf8(out[BLOCK..out.len() - BLOCK].to_vec()).unwrap().trim_end_matches('\0').to_owned()
        };
        assert_eq!(records(&|out| file(out, "a", false, 0o777_7777_7777, 0o777_7777_7777)), "");
        assert_eq!(records(&|out| file(out, "a", false, -1, 1 << 33)), "19 size=8589934592\n12 mtime=-1\n");
        assert_eq!(records(&|out| link(out, "a", "\u{e4}", 0)), "15 linkpath=\u{e4}\n");
        assert_eq!(records(&|out| folder(out, "a\n", 0)), "12 path=a\n/\n");
    }
}
