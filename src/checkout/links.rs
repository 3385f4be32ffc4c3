//! Links that would lead a reader out of the target.

use std::collections::HashMap;

use super::CheckoutError;
use crate::format::spelling::fold;
use crate::format::tree::MAX_DEPTH;
use crate::format::{Kind, Manifest, TreePath};

/// As many links as Linux follows in one path.
const MOST_LINKS: u32 = 40;
/// More parts than any path has that the kernel takes: what goes on longer leads nowhere.
const MOST_PARTS: u32 = 4_096;

/// Finds the text of the link at a path, if there is one.
type Find<'m> = dyn Fn(&str) -> Option<&'m str> + 'm;

/// Refuses a version with links that leave the tree.
pub fn check(manifest: &Manifest) -> Result<(), CheckoutError> {
    check_with(manifest, &|path| match &manifest.entry(path)?.kind {
        Kind::Link { target } => Some(target),
        Kind::File { .. } | Kind::Directory => None,
    })
}

/// The same for a target where `A` leads to what the version calls `a`.
pub fn check_spellings(manifest: &Manifest) -> Result<(), CheckoutError> {
    let links: HashMap<_, _> = links(manifest).map(|(path, target)| (fold(path.as_str()), target)).collect();
    check_with(manifest, &|path| links.get(&fold(path)).copied())
}

fn links(manifest: &Manifest) -> impl Iterator<Item = (&TreePath, &str)> {
    manifest.entries.iter().filter_map(|entry| match &entry.kind {
        Kind::Link { target } => Some((&entry.path, &**target)),
        Kind::File { .. } | Kind::Directory => None,
    })
}

fn check_with(manifest: &Manifest, find: &Find<'_>) -> Result<(), CheckoutError> {
    match links(manifest).find(|(path, target)| leaves(find, path.parent().unwrap_or(""), target)) {
        Some((path, link)) => Err(CheckoutError::ExternalLink { path: path.to_string(), link: link.to_owned() }),
        None => Ok(()),
    }
}

/// Follows `target` from the folder `from`, through the version's own links: their text alone would deceive
/// (`l -> .` makes `l/l/../..` lead out).
fn leaves(find: &Find<'_>, from: &str, target: &str) -> bool {
    let mut at: Vec<String> = from.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
    let mut todo: Vec<String> = target.split('/').rev().map(str::to_owned).collect();
    let mut followed = 0;
    if target.starts_with('/') {
        return true;
    }
    let mut steps = 0;
    while let Some(part) = todo.pop() {
        steps += 1;
        if steps > MOST_PARTS {
            // Whoever writes such links means to keep us busy: they are refused as those that leave are.
            return true;
        }
        match part.as_str() {
            "" | "." => continue,
            ".." => {
                if at.pop().is_none() {
                    return true;
                }
                continue;
            }
            _ => at.push(part),
        }
        // Nothing of the version lies deeper.
        if at.len() > MAX_DEPTH {
            continue;
        }
        if let Some(target) = find(&at.join("/")) {
            followed += 1;
            if target.starts_with('/') {
                return true;
            }
            if followed > MOST_LINKS {
                // The kernel gives up here, too.
                return false;
            }
            at.pop();
            todo.extend(target.split('/').rev().map(str::to_owned));
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Entry;
    use crate::format::manifest::{Header, ManifestBuilder};

    fn with(links: &[(&str, &str)]) -> Manifest {
        let mut builder = ManifestBuilder::default();
        for (path, target) in links {
            builder.push(Entry { path: path.parse().unwrap(), kind: Kind::Link { target: (*target).into() } });
        }
        builder.finish(Header::bare(&[]))
    }

    #[test]
    fn links_are_resolved_through_other_links() {
        let ok = |links: &[(&str, &str)]| check(&with(links)).is_ok();
        assert!(ok(&[("a", "b"), ("d/e", "../f"), ("g", "g")]));
        assert!(!ok(&[("a", "/etc")]));
        assert!(!ok(&[("a", "../x")]));
        assert!(!ok(&[("l", "."), ("x", "l/l/../..")]));
        assert!(!ok(&[("d", "x/y"), ("e", "d/../../..")]));
        assert!(ok(&[("d", "x/y"), ("e", "d/../..")]));
    }

    #[test]
    fn a_link_may_be_reached_by_another_spelling() {
        let links = [("d", "."), ("l", "D/..")];
        assert!(check(&with(&links)).is_ok());
        assert!(check_spellings(&with(&links)).is_err());
        assert!(check_spellings(&with(&[("d", "x/y"), ("l", "D/..")])).is_ok());
    }
}
