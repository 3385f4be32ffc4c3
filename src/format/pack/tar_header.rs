//! tar headers: ustar, with a PAX record before an entry whose name isn't plain ASCII of at most 100 bytes.
//!
//! Layout: POSIX.1-2001, `pax` (<https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html>). Written only, so
//! this is not a tar library: owners are 0, modes are git's, nothing else is recorded.

/// tar's unit, in bytes.
pub const BLOCK: usize = 512;

/// Largest time that ustar's eleven octal digits hold.
const MAX_TIME: i64 = 0o777_7777_7777;

/// Writes the header of a regular file, and the PAX record it may need.
pub fn write(out: &mut Vec<u8>, path: &str, executable: bool, mtime: i64, size: u64) {
    let plain = path.len() <= 100 && path.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if !plain {
        let record = pax_record("path", path);
        header(out, "././@PaxHeader", false, 0, record.len() as u64, b'x');
        out.extend_from_slice(record.as_bytes());
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
    let short: String = if plain { path.to_owned() } else { ascii(path) };
    header(out, &short, executable, mtime, size, b'0');
}

/// What readers that know no PAX see instead of a name that ustar can't hold.
fn ascii(path: &str) -> String {
    let plain = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '_' };
    path.chars().map(plain).take(100).collect::<String>().trim_end_matches('/').to_owned()
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself.
fn pax_record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    format!("{length} {key}={value}\n")
}

fn header(out: &mut Vec<u8>, name: &str, executable: bool, mtime: i64, size: u64, kind: u8) {
    let mut block = [0_u8; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, if executable { b"0000755\0" } else { b"0000644\0" });
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, format!("{:011o}\0", mtime.clamp(0, MAX_TIME)).as_bytes());
    put(148, b"        ");
    put(156, &[kind]);
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
            let record = pax_record("path", &"x".repeat(length));
            let (number, _) = record.split_once(' ').unwrap();
            assert_eq!(number.parse::<usize>().unwrap(), record.len());
        }
    }
}
