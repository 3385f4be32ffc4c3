//! Where a large file is cut, so that an edit inside it sends only the parts that changed.
//!
//! FastCDC (2020) with 256 KiB / 1 MiB / 4 MiB. The crate's version is pinned, since a release that moves the cut points
//! would make every large file be sent once more; the test below holds them.

use std::io::Read;

use fastcdc::v2020::StreamCDC;

/// Files larger than this are cut.
pub const CUT_ABOVE: u64 = 8 << 20;
/// Largest file, in bytes: even if all its parts are as small as they may be, the line that lists them in a manifest is one
/// that is read (16 MiB).
pub const MAX_FILE: u64 = 40 << 30;
/// Smallest part, except the last.
pub const MIN: usize = 256 << 10;
/// Average part.
pub const AVERAGE: usize = 1 << 20;
/// Largest part.
pub const MAX: usize = 4 << 20;

/// The parts of what `source` yields, in order, one in memory at a time.
pub fn cut(source: impl Read) -> impl Iterator<Item = std::io::Result<Vec<u8>>> {
    StreamCDC::new(source, MIN, AVERAGE, MAX).map(|chunk| match chunk {
        Ok(chunk) => Ok(chunk.data),
        Err(error) => Err(error.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 20 MiB of xorshift noise.
    fn noise() -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut bytes = Vec::with_capacity(20 << 20);
        while bytes.len() < 20 << 20 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn golden_cut_points() {
        let lengths: Vec<usize> = cut(noise().as_slice()).map(|part| part.unwrap().len()).collect();
        insta::assert_debug_snapshot!(lengths, @"
        [
            532150,
            2088921,
            1361465,
            604807,
            1071987,
            2119792,
            1188501,
            1871958,
            1205351,
            1377150,
            358146,
            1368675,
            1169146,
            407152,
            1305590,
            1124461,
            1257169,
            559099,
        ]
        ");
    }

    #[test]
    fn an_edit_moves_few_cut_points() {
        let before = noise();
        let mut after = before.clone();
        after.splice(9_000_000..9_000_000, *b"inserted");
        let digests = |bytes: &[u8]| cut(bytes).map(|part| blake3::hash(&part.unwrap())).collect::<Vec<_>>();
        let (before, after) = (digests(&before), digests(&after));
        let new = after.iter().filter(|digest| !before.contains(digest)).count();
        assert!(new <= 2, "{new} of {} parts are new", after.len());
    }
}
