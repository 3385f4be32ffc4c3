//! What differs between two texts, line by line: pure but for the deadline.

use std::io::Write as _;
use std::time::Instant;

use similar::udiff::UnifiedHunkHeader;
use similar::{Algorithm, ChangeTag, capture_diff_slices_deadline, group_diff_ops};

/// Lines around a change, as git shows them.
const CONTEXT: usize = 3;
/// A NUL among the first bytes makes a content binary, as git has it.
const LOOKED_AT: usize = 8_000;

/// What came of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Comparison {
    /// Both are text.
    Text {
        /// Lines that are new.
        insertions: u64,
        /// Lines that are gone.
        deletions: u64,
        /// The hunks of a unified diff.
        hunks: Vec<u8>,
    },
    /// One of them isn't.
    Binary,
    /// They were not looked at.
    TooLarge,
}

impl Comparison {
    /// Of what differs in path or mode only.
    pub fn same() -> Self {
        Self::Text { insertions: 0, deletions: 0, hunks: Vec::new() }
    }

    /// Of what consists of two.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        match (self, other) {
            (
                Self::Text { insertions, deletions, hunks },
                Self::Text { insertions: more_insertions, deletions: more_deletions, hunks: more_hunks },
            ) => Self::Text {
                insertions: insertions + more_insertions,
                deletions: deletions + more_deletions,
                hunks: [hunks, more_hunks].concat(),
            },
            (Self::Text { .. }, other) | (other, _) => other,
        }
    }
}

/// Compares two contents. After the deadline the difference may be longer than it need be.
pub fn compare(old: &[u8], new: &[u8], deadline: Instant) -> Comparison {
    let is_binary = |content: &[u8]| content[..content.len().min(LOOKED_AT)].contains(&0);
    if is_binary(old) || is_binary(new) {
        return Comparison::Binary;
    }
    // A carriage return alone ends no line.
    let lines = |content| <[u8]>::split_inclusive(content, |byte| *byte == b'\n').collect::<Vec<&[u8]>>();
    let (old, new) = (lines(old), lines(new));
    let operations = capture_diff_slices_deadline(Algorithm::Myers, &old, &new, Some(deadline));
    let (mut insertions, mut deletions) = (0, 0);
    let mut hunks = Vec::new();
    for group in group_diff_ops(operations, CONTEXT).into_iter().filter(|group| !group.is_empty()) {
        // Writing to memory doesn't fail.
        let _ = writeln!(hunks, "{}", UnifiedHunkHeader::new(&group));
        for change in group.iter().flat_map(|operation| operation.iter_changes(&old, &new)) {
            let sign = match change.tag() {
                ChangeTag::Equal => b' ',
                ChangeTag::Delete => b'-',
                ChangeTag::Insert => b'+',
            };
            insertions += u64::from(sign == b'+');
            deletions += u64::from(sign == b'-');
            hunks.push(sign);
            hunks.extend_from_slice(change.value());
            if !change.value().ends_with(b"\n") {
                hunks.extend_from_slice(b"\n\\ No newline at end of file\n");
            }
        }
    }
    Comparison::Text { insertions, deletions, hunks }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn compared(old: &[u8], new: &[u8]) -> (u64, u64, String) {
        match compare(old, new, Instant::now() + Duration::from_mins(1)) {
            Comparison::Text { insertions, deletions, hunks } => {
                (insertions, deletions, String::from_utf8_lossy(&hunks).into_owned())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lines_are_compared_as_git_does() {
        assert_eq!(compared(b"a\nb\n", b"a\nc\n"), (1, 1, "@@ -1,2 +1,2 @@\n a\n-b\n+c\n".to_owned()));
        assert_eq!(compared(b"", b"a\n"), (1, 0, "@@ -0,0 +1 @@\n+a\n".to_owned()));
        let (_, _, text) = compared(b"a", b"a\n");
        assert_eq!(text, "@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+a\n");
        assert_eq!(compared(b"a\rb\n", b"a\rc\n").0, 1);
        // No UTF-8, and text all the same.
        assert_eq!(compared(b"\xe4\n", b"\xfc\n").1, 1);
        assert_eq!(compared(b"a\n", b"a\n"), (0, 0, String::new()));
    }

    #[test]
    fn a_nul_makes_it_binary() {
        assert_eq!(compare(b"a\0", b"a", Instant::now()), Comparison::Binary);
        assert_eq!(compare(b"", b"\0", Instant::now()), Comparison::Binary);
    }

    #[test]
    fn a_deadline_that_is_over_makes_it_longer_and_not_wrong() {
        let line = |number: usize| format!("{}\n", number % 1_009);
        let text = |step: usize| (0..20_000).flat_map(|at| line(at * step).into_bytes()).collect::<Vec<u8>>();
        let (insertions, deletions, _) = match compare(&text(7), &text(11), Instant::now()) {
            Comparison::Text { insertions, deletions, hunks } => (insertions, deletions, hunks),
            other => panic!("{other:?}"),
        };
        assert!(insertions > 0 && insertions == deletions);
    }
}
