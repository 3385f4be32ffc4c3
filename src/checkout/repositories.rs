//! Parts of Git repositories in a version. No upload makes any: whoever puts them there wants git to run their hooks, or the
//! programs that a repository's settings name, once somebody asks git for as little as the status of the target.

use super::CheckoutError;
use crate::format::Manifest;
use crate::format::tree::is_repository;

/// Refuses a version with anything in a `.git`, or in its place.
pub fn check(manifest: &Manifest) -> Result<(), CheckoutError> {
    match manifest.entries.iter().find(|entry| entry.path.as_str().split('/').any(is_repository)) {
        Some(entry) => Err(CheckoutError::Repository { path: entry.path.to_string() }),
        None => Ok(()),
    }
}
