//! Where a test flips a bit, as failing memory would. In the program itself nothing happens here.

/// What the bit is flipped in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// A file's content, read and hashed.
    Content,
    /// A finished pack.
    Pack,
    /// An encoded manifest.
    Manifest,
    /// An encoded ref.
    Reference,
}

#[cfg(not(test))]
pub(super) fn flips(_stage: Stage, _bytes: &mut [u8]) {}

#[cfg(not(test))]
pub(super) fn flips_shared(_stage: Stage, _bytes: &mut bytes::Bytes) {}

#[cfg(test)]
pub(super) use flipping::{FLIP, flips, flips_shared};

#[cfg(test)]
mod flipping {
    use std::sync::Mutex;

    use bytes::{Bytes, BytesMut};

    use super::Stage;

    /// Where the next bit is flipped; once.
    pub static FLIP: Mutex<Option<Stage>> = Mutex::new(None);

    pub fn flips(stage: Stage, bytes: &mut [u8]) {
        if FLIP.lock().unwrap().take_if(|wanted| *wanted == stage).is_some() {
            let middle = bytes.len() / 2;
            // One bit alone may say nothing in a compressed stream: then what comes out is the same, and rightly published.
            bytes[middle] ^= 0xff;
        }
    }

    pub fn flips_shared(stage: Stage, bytes: &mut Bytes) {
        let mut copy = BytesMut::from(&bytes[..]);
        flips(stage, &mut copy);
        *bytes = copy.freeze();
    }
}

#[cfg(test)]
mod tests;
