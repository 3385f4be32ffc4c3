//! What goes, folder by folder, put in the order of paths without comparing them: each folder's names are in order already.

use crate::source::SourceEntry;

/// What goes of one folder.
pub(super) struct Block {
    /// The folder's number.
    pub(super) folder: usize,
    /// Its files and links, by name.
    pub(super) entries: Vec<SourceEntry>,
    /// The folders in it: how many of the entries come before what goes of each, and its number.
    pub(super) folders: Vec<(usize, usize)>,
}

impl Block {
    /// Nothing yet.
    pub(super) fn of(folder: usize) -> Self {
        Self { folder, entries: Vec::new(), folders: Vec::new() }
    }
}

/// All that goes, by path. The folder with the number 0 is the root; `empty` are the folders with nothing in them.
pub(super) fn in_order(blocks: Vec<Block>, empty: Vec<SourceEntry>) -> Vec<SourceEntry> {
    let count = empty.len() + blocks.iter().map(|block| block.entries.len()).sum::<usize>();
    let numbers = blocks.iter().map(|block| block.folder + 1).max().unwrap_or(0);
    let mut by_number: Vec<Option<Block>> = Vec::new();
    by_number.resize_with(numbers, || None);
    for block in blocks {
        let number = block.folder;
        by_number[number] = Some(block);
    }
    let mut entries = Vec::with_capacity(count);
    let open = |block: Block| (block.entries.into_iter(), 0, block.folders.into_iter());
    let mut stack: Vec<_> = by_number.get_mut(0).and_then(Option::take).map(open).into_iter().collect();
    while let Some((files, taken, folders)) = stack.last_mut() {
        let Some((before, number)) = folders.next() else {
            entries.extend(files);
            stack.pop();
            continue;
        };
        entries.extend(files.by_ref().take(before - *taken));
        *taken = before;
        // A folder that is gone by now, or ignored, has none.
        stack.extend(by_number.get_mut(number).and_then(Option::take).map(open));
    }
    if !empty.is_empty() {
        // An empty folder is a path without a `/` at its end, so it comes before names that a folder comes behind.
        entries.extend(empty);
        entries.sort_by(|one, other| one.path.cmp(&other.path));
    }
    entries
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::source::{SourceOptions, select};

    #[test]
    fn names_that_come_before_a_slash_and_empty_folders_are_in_their_place() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for empty in ["a.d", "a/0", "e", "e-/x", "z"] {
            fs::create_dir_all(root.join(empty)).unwrap();
        }
        for file in ["a-", "a.b", "a.d0", "a/-/x", "a/-.x", "a/x", "a0", "e!", "e-/y", "e.f", "é"] {
            fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            fs::write(root.join(file), "").unwrap();
        }
        let selection = select(root, &SourceOptions::default()).unwrap();
        let paths: Vec<&str> = selection.entries.iter().map(|entry| entry.path.as_str()).collect();
        let mut sorted = paths.clone();
        sorted.sort_unstable();
        assert_eq!(paths, sorted);
        assert_eq!(paths.len(), 16);
    }
}
