//! Decisions about a workspace that publish nothing: stopped, routed, tried again, tagged. Each changes the ref by the
//! same conditional swap as an upload.

use crate::format::Reference;
use crate::names::{Selector, Tag, WorkspaceName};
use crate::store::Store;
use crate::version::{self, Read, VersionError};

use super::swap::{Swapped, swap};

/// How often somebody else may change the ref in between.
const ATTEMPTS: u32 = 32;

/// Whether a decision changes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// The ref is to be written.
    Yes,
    /// It says so already: nothing is written.
    No,
}

/// What came of a decision.
#[derive(Debug, Clone)]
pub struct Decided {
    /// Whether the ref was written.
    pub changed: Changed,
    /// What it says now.
    pub reference: Reference,
}

/// Why nothing was decided. The ref says what it said before.
#[derive(Debug, thiserror::Error)]
pub enum DecisionError {
    /// The workspace is not there, or can't be read or written.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// The traffic can't go there.
    #[error("`{name}` can't be routed to `{to}`: {reason}")]
    Route {
        /// The workspace.
        name: WorkspaceName,
        /// Where its traffic should have gone.
        to: WorkspaceName,
        /// Why not.
        reason: String,
        /// What to do instead.
        hint: String,
    },
    /// The tag names another version.
    #[error("the tag `{tag}` of `{name}` names version {bearer}; nothing was changed", name = .selector.name)]
    TagTaken {
        /// The version that should have got it.
        selector: Selector,
        /// The tag.
        tag: Tag,
        /// The number of the version that has it.
        bearer: u64,
        /// The number of the version that should have got it.
        number: u64,
    },
    /// There is no such tag.
    #[error("`{name}` has no tag `{tag}`: {reason}")]
    NoTag {
        /// The workspace.
        name: WorkspaceName,
        /// The tag.
        tag: Tag,
        /// What is there instead.
        reason: String,
    },
    /// So many tags that the ref would overflow.
    #[error("the ref of `{name}` has no room for another tag; nothing was changed")]
    TagsFull {
        /// The workspace.
        name: WorkspaceName,
    },
    /// The ref changes faster than we can swap it.
    #[error("`{name}` changes so fast that {attempts} attempts lost against others; nothing was changed")]
    Contended {
        /// The workspace.
        name: WorkspaceName,
        /// How often it was tried.
        attempts: u32,
    },
}

/// Changes the ref of a workspace that is there. `change` is called again, on what the ref says then, whenever somebody
/// else was faster.
pub async fn decide(
    store: &Store,
    name: &WorkspaceName,
    change: impl Fn(&mut Reference) -> Result<Changed, DecisionError>,
) -> Result<Decided, DecisionError> {
    let mut found = version::existing_reference(store, name).await?;
    for _ in 0..ATTEMPTS {
        let mut reference = found.reference.clone();
        if change(&mut reference)? == Changed::No {
            return Ok(Decided { changed: Changed::No, reference: found.reference });
        }
        match swap(store, name, Some(&found.etag), reference.clone(), None).await? {
            Swapped::Done(_) => return Ok(Decided { changed: Changed::Yes, reference }),
            Swapped::Lost(Some(read)) if read.reference.is_visible() => found = *read,
            Swapped::Lost(_) => return Err(version::missing(store, name).await.into()),
        }
    }
    Err(DecisionError::Contended { name: name.clone(), attempts: ATTEMPTS })
}

/// Whether the workspace shall run.
pub async fn set_stopped(store: &Store, name: &WorkspaceName, stopped: bool) -> Result<Decided, DecisionError> {
    decide(store, name, |reference| {
        if reference.stopped == stopped {
            return Ok(Changed::No);
        }
        reference.stopped = stopped;
        Ok(Changed::Yes)
    })
    .await
}

/// Sends the workspace's traffic to another one, or back to itself with `None`.
///
/// The other one is looked at before the swap, not under it: two people who route towards each other at the same moment
/// can make a cycle. Whoever follows a route follows one step only, so a cycle exchanges the two and loops nowhere.
pub async fn set_route(
    store: &Store,
    name: &WorkspaceName,
    to: Option<&WorkspaceName>,
) -> Result<Decided, DecisionError> {
    let to = to.filter(|to| *to != name);
    // The name first, so that a mistake in it is not reported as one of the target.
    version::existing_reference(store, name).await?;
    if let Some(to) = to {
        let refuse =
            |reason: String, hint: String| DecisionError::Route { name: name.clone(), to: to.clone(), reason, hint };
        let target = version::existing_reference(store, to).await?.reference;
        if let Some(further) = target.route.filter(|further| further != to) {
            let reason = format!("its own traffic goes to `{further}`");
            let hint = if further == *name {
                format!("`workspace route {to} --back` first")
            } else {
                format!("`workspace route {name} --to {further}`, or `workspace route {to} --back` first")
            };
            return Err(refuse(reason, hint));
        }
        if let Some(from) = routed_to(store, name).await? {
            let reason = format!("the traffic of `{from}` goes to `{name}`, and would have to go on");
            return Err(refuse(
                reason,
                format!("`workspace route {from} --to {to}`, or `workspace route {from} --back` first"),
            ));
        }
    }
    decide(store, name, |reference| {
        if reference.route.as_ref() == to {
            return Ok(Changed::No);
        }
        reference.route = to.cloned();
        Ok(Changed::Yes)
    })
    .await
}

/// A workspace whose traffic goes to this one. One that can't be read routes nothing.
async fn routed_to(store: &Store, name: &WorkspaceName) -> Result<Option<WorkspaceName>, VersionError> {
    let (references, _) = version::all_references(store).await?;
    let routed = |(other, read): (WorkspaceName, Read)| {
        (other != *name && read.reference.is_visible() && read.reference.route.as_ref() == Some(name)).then_some(other)
    };
    Ok(references.into_iter().find_map(routed))
}

/// Lets hosts try again what they found bad.
pub async fn set_retry(store: &Store, name: &WorkspaceName, mark: ulid::Ulid) -> Result<Decided, DecisionError> {
    decide(store, name, |reference| {
        reference.retry = Some(mark);
        Ok(Changed::Yes)
    })
    .await
}
