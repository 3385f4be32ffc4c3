//! The bytes that one process may hold at once: packs, request bodies and decode buffers share one budget, and
//! concurrency follows from it.

use std::sync::{Arc, LazyLock};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes in flight, for the whole process.
pub const BYTES_IN_FLIGHT: u64 = 128 << 20;
/// Largest buffer that is made for just what it shall hold, in bytes: that of a part of a cut file, with its header and zstd's own.
pub const ORDINARY: usize = (4 << 20) + (64 << 10);
/// glibc takes nothing larger from its heap (`M_MMAP_THRESHOLD`, mallopt(3)), in bytes.
const NEVER_KEPT: usize = 33 << 20;
/// The budget is counted in KiB, since semaphores count in `u32`.
const UNIT: u64 = 1 << 10;

/// A share of the process's memory.
#[derive(Debug, Clone)]
pub struct Budget {
    semaphore: Arc<Semaphore>,
}

/// Bytes that are taken; given back when dropped.
#[derive(Debug)]
pub struct Taken {
    permit: Option<OwnedSemaphorePermit>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { semaphore: Arc::new(Semaphore::new(units(BYTES_IN_FLIGHT) as usize)) }
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.min(BYTES_IN_FLIGHT).div_ceil(UNIT)).unwrap_or(u32::MAX)
}

impl Budget {
    /// Waits for so many bytes, first come first served. More than the whole budget counts as all of it.
    pub async fn take(&self, bytes: u64) -> Taken {
        // The semaphore is never closed.
        Taken { permit: self.semaphore.clone().acquire_many_owned(units(bytes)).await.ok() }
    }
}

/// What a buffer is made for that shall hold so many bytes. A large one is made for more than glibc would keep once it is given
/// back: it keeps what is as large as anything that was, and as each of many threads keeps its own, it adds up. Pages that are
/// never written to cost nothing.
pub fn capacity_for(bytes: usize) -> usize {
    if bytes <= ORDINARY { bytes } else { bytes.max(NEVER_KEPT) }
}

/// How many threads read, hash and compress at once.
pub fn threads() -> usize {
    // Finding it out reads the files of control groups.
    static THREADS: LazyLock<usize> =
        LazyLock::new(|| std::thread::available_parallelism().map_or(2, usize::from).min(16));
    *THREADS
}

impl Taken {
    /// Nothing.
    pub fn nothing() -> Self {
        Self { permit: None }
    }

    /// Gives back all but so many bytes.
    pub fn shrink(&mut self, bytes: u64) {
        if let Some(permit) = &mut self.permit {
            let surplus = permit.num_permits().saturating_sub(units(bytes) as usize);
            drop(permit.split(surplus));
        }
    }

    /// Holds what `other` holds, too.
    pub fn join(&mut self, mut other: Self) {
        match (&mut self.permit, other.permit.take()) {
            (Some(mine), Some(theirs)) => mine.merge(theirs),
            (mine @ None, theirs) => *mine = theirs,
            (Some(_), None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_taken_comes_back() {
        let budget = Budget::default();
        let mut all = budget.take(u64::MAX).await;
        assert_eq!(budget.semaphore.available_permits(), 0);
        all.shrink(1 << 20);
        let mut more = budget.take(1 << 20).await;
        more.join(all);
        assert_eq!(budget.semaphore.available_permits(), (126 << 20) / 1024);
        drop(more);
        assert_eq!(budget.semaphore.available_permits(), (128 << 20) / 1024);
    }
}
