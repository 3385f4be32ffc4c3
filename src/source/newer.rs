//! Telling, while a folder is still being looked through, that something in it has changed.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::Stat;

/// What happens once a file is met that has changed since a moment: whoever will need more for a change can begin with it. Not
/// each change is told, and not each that is told is one: times alone say so.
pub struct Newer {
    /// Nanoseconds since 1970.
    since: i64,
    told: AtomicBool,
    tell: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Newer {
    /// Calls `tell` at the first file that has changed after that moment, in nanoseconds since 1970. Where there is none, it is
    /// dropped with this.
    pub fn than(since: i64, tell: impl FnOnce() + Send + 'static) -> Self {
        Self { since, told: AtomicBool::new(false), tell: Mutex::new(Some(Box::new(tell))) }
    }

    /// Takes note of a file.
    pub(super) fn saw(&self, stat: &Stat) {
        if stat.ctime <= self.since || self.told.swap(true, Ordering::Relaxed) {
            return;
        }
        let tell = self.tell.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(tell) = tell {
            tell();
        }
    }
}

impl fmt::Debug for Newer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Newer").field("since", &self.since).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn the_first_change_is_told_and_no_other() {
        let told = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&told);
        let newer = Newer::than(10, move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let file = |ctime| Stat { size: 1, mtime: 99, ctime, inode: 1, executable: false };
        for (ctime, expected) in [(9, 0), (10, 0), (11, 1), (12, 1)] {
            newer.saw(&file(ctime));
            assert_eq!(told.load(Ordering::Relaxed), expected, "{ctime}");
        }
    }
}
