//! One object is one file: the content, then a footer that describes it.
//!
//! ```text
//! content | footer (JSON) | length of the footer, 4 bytes little-endian | MAGIC
//! ```
//!
//! Content first, so that it streams to disk before its size and hash are known; footer in the same file, so that one
//! rename publishes both and no reader ever sees one without the other. Format 1.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use serde::{Deserialize, Serialize};

/// Ends every object file; the digit is the format.
const MAGIC: &[u8; 8] = b"WSOBJ01\n";
/// Length and magic.
const TAIL: usize = 4 + MAGIC.len();
/// Read from the end in one go: enough for nearly every footer.
const GUESS: usize = 1024;
/// A footer is larger only if the file is damaged: keys have 1 KiB, user metadata 2 KiB.
const MAX_FOOTER: usize = 64 * 1024;

/// What is known about an object beside its content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Footer {
    /// The key, for whoever looks at the file itself.
    pub key: String,
    /// Bytes of content.
    pub size: u64,
    /// MD5 in hexadecimal; for a multipart upload the MD5 of the parts' MD5s, `-`, their number. Without quotes.
    pub etag: String,
    /// When it was published, in milliseconds since 1970.
    pub modified: i64,
    /// `Content-Type`, `Cache-Control` and the like, by their names in small letters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// What the writer gave as `x-amz-meta-…`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Checksums the writer gave and we verified, in base64, by algorithm.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub checksums: BTreeMap<String, String>,
}

/// Appends the footer to a file that holds the content.
pub(super) fn write_footer(file: &mut File, footer: &Footer) -> io::Result<()> {
    file.write_all(&encode(footer)?)
}

fn encode(footer: &Footer) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(footer)?;
    if bytes.len() > MAX_FOOTER {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the object's metadata is too large"));
    }
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(MAGIC);
    Ok(bytes)
}

/// Reads the footer. The file is left positioned anywhere.
pub(super) fn read_footer(file: &mut File) -> io::Result<Footer> {
    let damaged =
        |why: &str| io::Error::new(io::ErrorKind::InvalidData, format!("the object's file is damaged: {why}"));
    let total = file.metadata()?.len();
    let mut take = usize::try_from(total).unwrap_or(GUESS).min(GUESS);
    loop {
        let start = total - take as u64;
        file.seek(SeekFrom::Start(start))?;
        let mut end = vec![0; take];
        file.read_exact(&mut end)?;
        let Some(position) = take.checked_sub(TAIL) else { return Err(damaged("it is too short")) };
        let (rest, tail) = end.split_at(position);
        let (length, magic) = tail.split_at(4);
        if magic != MAGIC {
            return Err(damaged("its end is not there"));
        }
        let length = length.try_into().map(u32::from_le_bytes).map_err(io::Error::other)? as usize;
        if length > MAX_FOOTER || length as u64 + TAIL as u64 > total {
            return Err(damaged("its footer has no valid length"));
        }
        if length > rest.len() {
            take = length + TAIL;
            continue;
        }
        let footer: Footer = serde_json::from_slice(&rest[rest.len() - length..])
            .map_err(|error| damaged(&format!("its footer doesn't parse: {error}")))?;
        if footer.size + (length + TAIL) as u64 != total {
            return Err(damaged("its size is not the one it should have"));
        }
        return Ok(footer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Footer {
        Footer {
            key: "refs/app.json".to_owned(),
            size: 5,
            etag: "5d41402abc4b2a76b9719d911017c592".to_owned(),
            modified: 1_767_225_600_000,
            headers: [("content-type".to_owned(), "text/plain".to_owned())].into(),
            metadata: [("owner".to_owned(), "me".to_owned())].into(),
            checksums: [("crc32".to_owned(), "NhCmhg==".to_owned())].into(),
        }
    }

    #[test]
    fn the_file_of_format_1_reads_for_ever() {
        let golden: &[u8] =
            b"hello{\"key\":\"refs/app.json\",\"size\":5,\"etag\":\"5d41402abc4b2a76b9719d911017c592\",\
\"modified\":1767225600000,\"headers\":{\"content-type\":\"text/plain\"},\"metadata\":{\"owner\":\"me\"},\
\"checksums\":{\"crc32\":\"NhCmhg==\"}}\xd2\x00\x00\x00WSOBJ01\n";
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"hello").unwrap();
        write_footer(&mut file, &example()).unwrap();
        let mut written = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut written).unwrap();
        assert_eq!(String::from_utf8_lossy(&written), String::from_utf8_lossy(golden));
        assert_eq!(read_footer(&mut file).unwrap(), example());
    }

    #[test]
    fn a_footer_longer_than_the_first_read_is_read_too() {
        let mut footer = example();
        footer.metadata.insert("long".to_owned(), "x".repeat(3000));
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"hello").unwrap();
        write_footer(&mut file, &footer).unwrap();
        assert_eq!(read_footer(&mut file).unwrap(), footer);
    }

    #[test]
    fn a_damaged_file_is_recognised() {
        for length in [0, 3, 12, 40] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&vec![b'x'; length]).unwrap();
            assert_eq!(read_footer(&mut file).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"hell").unwrap();
        write_footer(&mut file, &example()).unwrap();
        assert_eq!(read_footer(&mut file).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
