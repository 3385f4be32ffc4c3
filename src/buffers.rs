//! Large buffers that are used again: a fresh one costs a fault of the kernel for each of its pages, which for a file of a gigabyte
//! comes to a good part of all the work.

use std::ops::Deref;
use std::sync::{Mutex, PoisonError};

/// Smaller ones are made anew: the allocator keeps those itself.
const SMALLEST: usize = 256 << 10;
/// Larger ones go back to the system: a range of a pack and a frame are mostly not larger.
const LARGEST: usize = 9 << 20;
/// How many are kept while nobody uses them: 36 MiB at most, mostly half of that.
const KEPT: usize = 4;

static IDLE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// Bytes in a buffer that others use later.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Buffer(Vec<u8>);

impl Buffer {
    /// An empty one, with room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        if bytes < SMALLEST {
            return Self(Vec::with_capacity(bytes));
        }
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |buffer: &Vec<u8>| (bytes..=bytes.saturating_mul(4)).contains(&buffer.capacity());
        if let Some(at) = idle.iter().position(fits) {
            return Self(idle.swap_remove(at));
        }
        drop(idle);
        Self(Vec::with_capacity(bytes))
    }

    /// To fill it.
    pub fn as_mut_vec(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if !(SMALLEST..=LARGEST).contains(&self.0.capacity()) {
            return;
        }
        let mut buffer = std::mem::take(&mut self.0);
        buffer.clear();
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.push(buffer);
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_again_is_empty_and_large_enough() {
        for round in 0..20_usize {
            let bytes = SMALLEST + (round * 7 % 5) * (1 << 20);
            let mut buffer = Buffer::with_capacity(bytes);
            assert!(buffer.is_empty() && buffer.0.capacity() >= bytes, "{round}");
            buffer.as_mut_vec().extend_from_slice(b"content");
        }
        drop((0..20).map(|_| Buffer::with_capacity(LARGEST)).collect::<Vec<_>>());
        assert!(IDLE.lock().unwrap().len() <= KEPT);
        let small = Buffer::with_capacity(10);
        assert!(small.0.capacity() < SMALLEST);
    }
}
