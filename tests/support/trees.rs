//! Trees on disk: making them, and reading them back for comparison.

#![allow(dead_code, reason = "no test file uses everything")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A file: content and executable bit.
    File(Vec<u8>, bool),
    /// A link.
    Link(String),
    /// A folder with nothing in it.
    Empty,
}

/// A tree: path → what stands there.
pub type Tree = BTreeMap<String, Node>;

/// A tree of these nodes.
pub fn tree<const N: usize>(nodes: [(&str, Node); N]) -> Tree {
    nodes.into_iter().map(|(path, node)| (path.to_owned(), node)).collect()
}

/// A text file that is not executable.
pub fn file(content: &str) -> Node {
    Node::File(content.as_bytes().to_vec(), false)
}

/// Makes the tree in an existing folder.
pub fn write(folder: &Path, tree: &Tree) {
    for (path, node) in tree {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match node {
            Node::File(content, executable) => {
                fs::write(&path, content).unwrap();
                let mode = if *executable { 0o755 } else { 0o644 };
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            }
            Node::Link(target) => symlink(target, &path).unwrap(),
            Node::Empty => fs::create_dir_all(&path).unwrap(),
        }
    }
}

/// Reads what is in a folder, but for `.workspace` at its top.
pub fn read(folder: &Path) -> Tree {
    let mut tree = Tree::new();
    read_into(&mut tree, folder, "");
    tree
}

fn read_into(tree: &mut Tree, folder: &Path, prefix: &str) {
    let mut empty = true;
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if prefix.is_empty() && name == ".workspace" {
            continue;
        }
        empty = false;
        let path = format!("{prefix}{name}");
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            read_into(tree, &entry.path(), &format!("{path}/"));
        } else if kind.is_symlink() {
            tree.insert(path, Node::Link(fs::read_link(entry.path()).unwrap().into_os_string().into_string().unwrap()));
        } else {
            let executable = entry.metadata().unwrap().permissions().mode() & 0o100 != 0;
            tree.insert(path, Node::File(fs::read(entry.path()).unwrap(), executable));
        }
    }
    if empty && !prefix.is_empty() {
        tree.insert(prefix.trim_end_matches('/').to_owned(), Node::Empty);
    }
}
