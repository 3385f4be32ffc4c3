//! Whether git is in the middle of something: then the tree is neither the one before nor the one after.

use std::path::Path;

/// What git leaves in a repository's folder while it works, and what it means.
const SIGNS: [(&str, &str); 6] = [
    ("index.lock", "git is writing its index"),
    ("MERGE_HEAD", "a merge is in progress"),
    ("rebase-merge", "a rebase is in progress"),
    ("rebase-apply", "a rebase is in progress"),
    ("CHERRY_PICK_HEAD", "a cherry-pick is in progress"),
    ("REVERT_HEAD", "a revert is in progress"),
];

/// What goes on in the repository whose folder this is, if anything does.
pub fn in_motion(git: &Path) -> Option<&'static str> {
    SIGNS.iter().find(|(file, _)| git.join(file).symlink_metadata().is_ok()).map(|(_, meaning)| *meaning)
}
