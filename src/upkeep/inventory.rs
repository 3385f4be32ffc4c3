//! What lies below one root, by kind.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::format::Keys;
use crate::format::keys::Item;
use crate::store::{ObjectInfo, Store, StoreError};

/// The objects below one root.
#[derive(Debug, Default)]
pub struct Inventory {
    /// Those that this release knows, by what they are.
    pub items: BTreeMap<Item, ObjectInfo>,
    /// Others: a later release may have put them there.
    pub unknown: Vec<ObjectInfo>,
}

impl Inventory {
    /// Lists a root.
    pub async fn take(store: &Store, keys: &Keys) -> Result<Self, StoreError> {
        let mut inventory = Self::default();
        for object in store.list(keys.prefix()).await? {
            match keys.item(&object.key) {
                Some(item) => {
                    inventory.items.insert(item, object);
                }
                None => inventory.unknown.push(object),
            }
        }
        Ok(inventory)
    }
}

/// Whether an object has lain there for longer than `grace`, by the server's clock and this one's. One without a time
/// hasn't: nobody knows.
pub fn is_older(object: &ObjectInfo, grace: jiff::SignedDuration, now: Timestamp) -> bool {
    // Servers tell whole seconds, mostly rounded down.
    object.modified.is_some_and(|modified| now.duration_since(modified) >= grace)
}
