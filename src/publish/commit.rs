//! Committing: the swap that makes a version current, and what to do when somebody else was faster.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use ulid::Ulid;

use super::attempt::{Publisher, RACES, State};
use super::swap::{self, Swapped};
use super::tag::{MAX_BYTES_TAGGED, has_room};
use super::{Publication, PublishError};
use crate::format::collection;
use crate::format::manifest::Location;
use crate::format::reference::{MAX_BYTES, cut_message};
use crate::format::{Reference, Row, retention};
use crate::names::{Tag, WorkspaceName};
use crate::store::StoreError;
use crate::version::{Read, VersionError};

impl Publisher<'_> {
    pub(super) async fn move_tag(
        &self,
        publication: &Publication,
        state: &mut State,
        version: Ulid,
    ) -> Result<(), PublishError> {
        let Some(tag) = &publication.tag else { return Ok(()) };
        for attempt in 0..RACES {
            let mut reference = state.read.reference.clone();
            let Some(number) = reference.rows.iter().find(|row| row.id == version).map(|row| row.number) else {
                return Err(PublishError::DeletedMeanwhile { name: publication.name.clone() });
            };
            if let Some(expected) = publication.expect
                && expected != reference.current
            {
                let (name, found) = (publication.name.clone(), reference.current);
                return Err(PublishError::Expected { name, expected, found });
            }
            let new = reference.tagged(tag).is_none();
            reference.tag(tag, number);
            if new && !has_room(&reference) {
                return Err(PublishError::TagsFull { name: publication.name.clone() });
            }
            match swap::swap(self.store, &publication.name, Some(&state.read.etag), reference.clone(), None).await? {
                Swapped::Done(_) => {
                    state.read.reference = reference;
                    return Ok(());
                }
                Swapped::Lost(read) => state.read = still_ours(publication, state, read.map(|read| *read))?,
            }
            tokio::time::sleep(swap::pause(attempt.min(4))).await;
        }
        Err(PublishError::Contended { name: publication.name.clone(), attempts: RACES })
    }

    /// Swaps the ref. Nothing when it is done; what the ref is now when somebody else was faster.
    pub(super) async fn commit(
        &self,
        publication: &Publication,
        state: &mut State,
        row: &Row,
    ) -> Result<Option<Option<Read>>, PublishError> {
        let mut reference = state.read.reference.clone();
        if let (Some(current), Some(author)) = (reference.current_row(), &publication.author)
            && !publication.supersede
            && current.author.as_ref().is_some_and(|other| *other != cut_message(author))
            && self.cache.seen(reference.root) != Some(current.id)
        {
            self.observer.warn(&format!(
                "this replaces version {} by {}, which this machine has not seen; it stays available as `{}@{}`",
                current.number,
                current.author.as_deref().unwrap_or_default(),
                publication.name,
                current.number
            ));
        }
        append(&mut reference, row, publication.tag.as_ref(), &publication.name)?;
        self.committing.store(true, Ordering::SeqCst);
        let etag = state.read.etag.clone();
        let swapped = swap::swap(self.store, &publication.name, Some(&etag), reference.clone(), Some(row.id)).await;
        if matches!(swapped, Err(VersionError::BadMemory { .. })) {
            self.committing.store(false, Ordering::SeqCst);
        }
        // Any other error leaves open whether the swap happened, so nothing is cleaned up: `committing` stays set.
        match swapped? {
            Swapped::Done(etag) => {
                state.read.reference = reference;
                state.etag = etag;
                Ok(None)
            }
            Swapped::Lost(read) => {
                self.committing.store(false, Ordering::SeqCst);
                Ok(Some(read.map(|read| *read)))
            }
        }
    }

    /// After a lost race: is the workspace still there, and is what was sent?
    pub(super) async fn lost_race(
        &self,
        publication: &Publication,
        state: &mut State,
        read: Option<Read>,
    ) -> Result<(), PublishError> {
        let read = still_ours(publication, state, read)?;
        if read.reference.collections != state.collections {
            let lost = self.lost_to_a_collection(publication, state, &read.reference).await?;
            state.sent.contents.retain(|_, location: &Location| !lost.contains(&location.pack.id));
            state.sent.packs.retain(|id| !lost.contains(id));
            state.collections = read.reference.collections;
        }
        state.read = read;
        Ok(())
    }

    /// Own packs that the collection in progress lists, or that are gone already. The HEADs come after the ref was read:
    /// what a collection that began later deletes, it deletes only after this upload has lost its next swap.
    pub(super) async fn lost_to_a_collection(
        &self,
        publication: &Publication,
        state: &State,
        reference: &Reference,
    ) -> Result<HashSet<Ulid>, PublishError> {
        let keys = state.keys(publication);
        let listed: HashSet<String> = match reference.collection {
            None => HashSet::new(),
            Some(id) => match self.store.get(&keys.collection(id)).await {
                // A list that can't be read may name anything: then everything is sent again.
                Ok(object) => match serde_json::from_slice::<collection::List>(&object.body) {
                    Ok(list) => list.keys.into_iter().collect(),
                    Err(_) => state.sent.packs.iter().map(|id| keys.pack(*id)).collect(),
                },
                Err(StoreError::NotFound { .. }) => HashSet::new(),
                Err(error) => return Err(error.into()),
            },
        };
        let mut lost = HashSet::new();
        for id in &state.sent.packs {
            let key = keys.pack(*id);
            if listed.contains(&key) {
                lost.insert(*id);
                continue;
            }
            match self.store.head(&key).await {
                Ok(_) => {}
                Err(StoreError::NotFound { .. }) => {
                    lost.insert(*id);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(lost)
    }
}

/// Makes a row the current one, and thins the others where it is due.
pub(super) fn append(
    reference: &mut Reference,
    row: &Row,
    tag: Option<&Tag>,
    name: &WorkspaceName,
) -> Result<(), PublishError> {
    // A tag that only moves takes no room.
    let new_tag = tag.is_some_and(|tag| reference.tagged(tag).is_none());
    reference.current = row.number;
    reference.rows.push(row.clone());
    if let Some(tag) = tag {
        reference.tag(tag, row.number);
    }
    retention::thin(reference, row.created);
    let most = if new_tag { MAX_BYTES_TAGGED } else { MAX_BYTES };
    if reference.to_bytes().len() > most {
        return Err(PublishError::TagsFull { name: name.clone() });
    }
    Ok(())
}

/// The ref after a lost race, if the workspace is still the one this publication began with.
fn still_ours(publication: &Publication, state: &State, read: Option<Read>) -> Result<Read, PublishError> {
    read.filter(|read| !read.reference.deleted && read.reference.root == state.read.reference.root)
        .ok_or_else(|| PublishError::DeletedMeanwhile { name: publication.name.clone() })
}
