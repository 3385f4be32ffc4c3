//! Where a large file is cut, so that an edit inside it sends only the parts that changed.
//!
//! FastCDC (2020) with 256 KiB / 1 MiB / 4 MiB. The crate's version is pinned, since a release that moves the cut points
//! would make every large file be sent once more; the test below holds them.

use std::io::{self, Read};

use fastcdc::v2020::FastCDC;

use crate::budget::capacity_for;

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

/// So much is read at once: what is left of it moves to the front before more comes, less than a largest part for each time.
const WINDOW: usize = 3 * MAX;

/// What `take` makes of each part of what `source` yields, in order, beside a window of 12 MiB.
pub fn cut<T>(source: impl Read, take: impl FnMut(&[u8]) -> T) -> impl Iterator<Item = io::Result<T>> {
    Parts { source, take, window: Vec::with_capacity(capacity_for(WINDOW)), start: 0, ended: false }
}

struct Parts<R, F> {
    source: R,
    take: F,
    window: Vec<u8>,
    /// Where in the window the next part begins.
    start: usize,
    /// Whether the source has no more.
    ended: bool,
}

impl<R: Read, F> Parts<R, F> {
    /// Sees to it that the window has a largest part, or all that there is.
    fn fill(&mut self) -> io::Result<()> {
        if self.ended || self.window.len() - self.start >= MAX {
            return Ok(());
        }
        self.window.drain(..self.start);
        self.start = 0;
        let room = (WINDOW - self.window.len()) as u64;
        self.ended = (&mut self.source).take(room).read_to_end(&mut self.window)? == 0;
        if self.ended { Ok(()) } else { self.fill() }
    }
}

impl<R: Read, T, F: FnMut(&[u8]) -> T> Iterator for Parts<R, F> {
    type Item = io::Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Err(error) = self.fill() {
            return Some(Err(error));
        }
        let rest = self.window.len() - self.start;
        if rest == 0 {
            return None;
        }
        let (_, end) = FastCDC::new(&self.window, MIN, AVERAGE, MAX).cut(self.start, rest);
        let part = (self.take)(&self.window[self.start..end]);
        self.start = end;
        Some(Ok(part))
    }
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
        let lengths: Vec<usize> = cut(noise().as_slice(), <[u8]>::len).map(Result::unwrap).collect();
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
    fn parts_do_not_depend_on_how_much_comes_at_once() {
        struct Dribble<'a>(&'a [u8], usize);
        impl Read for Dribble<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let length = self.1.min(buffer.len());
                self.0.read(&mut buffer[..length])
            }
        }
        let noise = noise();
        let whole: Vec<Vec<u8>> = cut(noise.as_slice(), <[u8]>::to_vec).map(Result::unwrap).collect();
        assert_eq!(whole.concat(), noise);
        for at_once in [4_099, 1 << 20, 5 << 20] {
            assert!(
                cut(Dribble(&noise, at_once), <[u8]>::to_vec).map(Result::unwrap).eq(whole.iter().cloned()),
                "{at_once}"
            );
        }
        assert_eq!(cut(&b""[..], <[u8]>::len).count(), 0);
        assert_eq!(cut(&b"x"[..], <[u8]>::to_vec).map(Result::unwrap).collect::<Vec<_>>(), [b"x"]);
    }

    #[test]
    fn an_edit_moves_few_cut_points() {
        let before = noise();
        let mut after = before.clone();
        after.splice(9_000_000..9_000_000, *b"inserted");
        let digests = |bytes: &[u8]| cut(bytes, blake3::hash).map(Result::unwrap).collect::<Vec<_>>();
        let (before, after) = (digests(&before), digests(&after));
        let new = after.iter().filter(|digest| !before.contains(digest)).count();
        assert!(new <= 2, "{new} of {} parts are new", after.len());
    }
}
