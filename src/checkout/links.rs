//! Links that would lead a reader out of the target.

use super::CheckoutError;
use crate::format::tree::MAX_DEPTH;
use crate::format::{Kind, Manifest};

/// As many links as Linux follows in one path.
const MOST_LINKS: u32 = 40;
/// More parts than any path has that the kernel takes: what goes on longer leads nowhere.
const MOST_PARTS: u32 = 4_096;

/// Refuses a version with links that leave the tree, unless they are allowed.
pub fn check(manifest: &Manifest, allowed: bool) -> Result<(), CheckoutError> {
    if allowed {
        return Ok(());
    }
    for entry in &manifest.entries {
        if let Kind::Link { target } = &entry.kind
            && leaves(manifest, entry.path.parent().unwrap_or(""), target)
        {
            return Err(CheckoutError::ExternalLink { path: entry.path.to_string(), link: target.to_string() });
        }
    }
    Ok(())
}

/// Follows `target` from the folder `from`, through the version's own links: their text alone would deceive
/// (`l -> .` makes `l/l/../..` lead out).
fn leaves(manifest: &Manifest, from: &str, target: &str) -> bool {
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
        if let Some(Kind::Link { target }) = manifest.entry(&at.join("/")).map(|entry| &entry.kind) {
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
        let ok = |links: &[(&str, &str)]| check(&with(links), false).is_ok();
        assert!(ok(&[("a", "b"), ("d/e", "../f"), ("g", "g")]));
        assert!(!ok(&[("a", "/etc")]));
        assert!(!ok(&[("a", "../x")]));
        assert!(!ok(&[("l", "."), ("x", "l/l/../..")]));
        assert!(!ok(&[("d", "x/y"), ("e", "d/../../..")]));
        assert!(ok(&[("d", "x/y"), ("e", "d/../..")]));
        assert!(check(&with(&[("a", "/etc")]), true).is_ok());
    }
}
