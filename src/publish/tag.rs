//! Tags: names that move from version to version. Each change is a decision, like `stop`.

use std::cell::Cell;

use super::decide::{Changed, DecisionError, decide};
use crate::format::reference::MAX_BYTES;
use crate::format::{Reference, Row};
use crate::names::{Selector, Tag, WorkspaceName};
use crate::store::Store;
use crate::version;

/// Largest ref after a tag was given: room is left for one row of any size, so that tags alone are ever refused and never
/// an upload.
pub(super) const MAX_BYTES_TAGGED: usize = MAX_BYTES - (4 << 10);

/// What came of giving or taking a tag.
#[derive(Debug, Clone)]
pub struct Tagged {
    /// Whether the ref was written.
    pub changed: Changed,
    /// The version that bears the tag now; once it is taken away, the one that bore it.
    pub row: Row,
    /// The version that bore it before, if another one did.
    pub from: Option<u64>,
}

/// Whether a ref that was given a tag has room for it.
pub(super) fn has_room(reference: &Reference) -> bool {
    reference.to_bytes().len() <= MAX_BYTES_TAGGED
}

/// Lets a tag name the version that is meant. `force`: even if it names another one.
///
/// The version is looked up in the ref that is swapped: a tag never names something that was removed meanwhile.
pub async fn set_tag(store: &Store, selector: &Selector, tag: &Tag, force: bool) -> Result<Tagged, DecisionError> {
    let (meant, from) = (Cell::new(0), Cell::new(None));
    let decided = decide(store, &selector.name, |reference| {
        let number = version::select(reference, selector)?.number;
        let bearer = reference.tagged(tag).map(|row| row.number);
        meant.set(number);
        from.set(bearer.filter(|bearer| *bearer != number));
        if bearer == Some(number) {
            return Ok(Changed::No);
        }
        if let Some(bearer) = bearer
            && !force
        {
            let (selector, tag) = (selector.clone(), tag.clone());
            return Err(DecisionError::TagTaken { selector, tag, bearer, number });
        }
        reference.tag(tag, number);
        // One that only moves takes no room.
        if bearer.is_none() && !has_room(reference) {
            return Err(DecisionError::TagsFull { name: selector.name.clone() });
        }
        Ok(Changed::Yes)
    })
    .await?;
    let numbered = Selector { name: selector.name.clone(), version: crate::names::Version::Number(meant.get()) };
    let row = version::select(&decided.reference, &numbered)?.clone();
    Ok(Tagged { changed: decided.changed, row, from: from.get() })
}

/// Takes a tag away.
pub async fn remove_tag(store: &Store, name: &WorkspaceName, tag: &Tag) -> Result<Tagged, DecisionError> {
    let bearer = Cell::new(None);
    let decided = decide(store, name, |reference| {
        let Some(row) = reference.tagged(tag) else {
            let reason = version::no_such_tag(reference, tag);
            return Err(DecisionError::NoTag { name: name.clone(), tag: tag.clone(), reason });
        };
        bearer.set(Some(row.id));
        reference.untag(tag);
        Ok(Changed::Yes)
    })
    .await?;
    let row = decided.reference.rows.iter().find(|row| Some(row.id) == bearer.get());
    match row {
        Some(row) => Ok(Tagged { changed: decided.changed, row: row.clone(), from: None }),
        None => Err(version::missing(store, name).await.into()),
    }
}
