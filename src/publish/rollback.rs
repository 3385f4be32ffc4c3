//! Going back: a new version with the content of an older one.
//!
//! Nothing is sent but the ref: the new row names the old one's manifests. For hosts it is a version like any other, with a
//! row of its own, so whatever is remembered of the old one, good or bad, doesn't bind it.
//!
//! What is reused must have a row in the very ref that is swapped. A collection lists what no row needs and then swaps the
//! ref; so either it came first, and the row that this looks for is still there with its objects, or it loses its swap.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use ulid::Ulid;

use super::attempt::{Publisher, RACES};
use super::commit::append;
use super::swap::{self, Swapped};
use super::tag::has_room;
use super::writable::open_known;
use super::{Outcome, PublishError, Report, now};
use crate::format::reference::cut_message;
use crate::format::{Keys, Reference, Row};
use crate::hosts::Hosts;
use crate::names::{Selector, Tag, Version, WorkspaceName};
use crate::version;

/// What shall be gone back to, and under which conditions.
#[derive(Debug, Clone)]
pub struct Rollback {
    /// The workspace.
    pub name: WorkspaceName,
    /// The version to go back to; nothing: the last one that is known to have been served well, or the one before.
    pub to: Option<Version>,
    /// What the author says; nothing: that it is a rollback, and of what.
    pub message: Option<String>,
    /// Who goes back.
    pub author: Option<String>,
    /// A tag that shall name the new version.
    pub tag: Option<Tag>,
    /// Only when this is the current version's number.
    pub expect: Option<u64>,
}

/// Why it is this version that was gone back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// It was asked for.
    Asked,
    /// A host reports that it served it well.
    Served,
    /// It comes before the current one, and no host reports anything better.
    Previous,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct RolledBack {
    /// As of any publication.
    pub report: Report,
    /// The number of the version whose content is current now.
    pub origin: u64,
    /// The number of the version that was current before.
    pub from: u64,
    /// Tags that stay with the version that was current before.
    pub left: Vec<Tag>,
    /// Why this one.
    pub basis: Basis,
}

/// What hosts say of a workspace's versions, by row.
#[derive(Debug, Default)]
struct Experience {
    good: HashSet<Ulid>,
    bad: HashSet<Ulid>,
}

impl Publisher<'_> {
    /// Goes back.
    pub async fn rollback(&self, wanted: &Rollback) -> Result<RolledBack, PublishError> {
        let before = self.store.counts();
        let name = &wanted.name;
        let mut read = version::existing_reference(self.store, name).await?;
        expect(wanted, &read.reference)?;
        let root = read.reference.root;
        let (source, basis) = self.source(wanted, &read.reference).await?;
        // Also a proof that the manifest is still there.
        let header = version::load_header(self.store, &Keys::new(name, root), &source).await?;
        open_known(self.store, self.cache, &self.consent).await?;
        let origin = source.origin.unwrap_or(source.number);
        let row = Row {
            id: Ulid::generate(),
            created: now(),
            message: Some(cut_message(&message(wanted, origin, &source))),
            author: wanted.author.as_deref().map(cut_message),
            origin: Some(origin),
            tags: Vec::new(),
            locked: false,
            locked_until: None,
            ..source.clone()
        };
        let back = Back { wanted, source: &source, basis, first: read.reference.current, row };
        for race in 0..RACES {
            let (next, outcome) = match back.next(&read.reference)? {
                Next::Nothing => (None, Outcome::Unchanged),
                Next::Tagged(next) => (Some(next), Outcome::Unchanged),
                Next::Published(next) => (Some(next), Outcome::Published),
            };
            if let Some(next) = &next {
                let added = (outcome == Outcome::Published).then_some(back.row.id);
                self.committing.store(true, Ordering::SeqCst);
                // An error here leaves open whether the swap happened: `committing` stays set.
                if let Swapped::Lost(found) =
                    swap::swap(self.store, name, Some(&read.etag), next.clone(), added).await?
                {
                    self.committing.store(false, Ordering::SeqCst);
                    let ours = found.filter(|found| found.reference.is_visible() && found.reference.root == root);
                    read = *ours.ok_or_else(|| PublishError::DeletedMeanwhile { name: name.clone() })?;
                    tokio::time::sleep(swap::pause(race.min(4))).await;
                    continue;
                }
            }
            let now = next.as_ref().unwrap_or(&read.reference);
            let row = now.current_row().unwrap_or(&back.row);
            self.cache.save_seen(root, row.id);
            let tagged = |tag: &&Tag| row.tags.contains(tag);
            let left = read.reference.current_row().filter(|_| outcome == Outcome::Published);
            let left = left.and_then(|old| now.row(old.number)).map(|old| old.tags.clone()).unwrap_or_default();
            let report = Report {
                outcome,
                name: name.clone(),
                number: row.number,
                id: row.id,
                files: row.files,
                bytes: row.bytes,
                sent_files: 0,
                new_bytes: 0,
                excluded: Vec::new(),
                runtime: row.runtime.clone(),
                runnable: header.plan.as_ref().is_some_and(super::draft::is_runnable),
                tag: wanted.tag.as_ref().filter(tagged).cloned(),
                requests: self.store.counts() - before,
            };
            return Ok(RolledBack { report, origin, from: read.reference.current, left, basis });
        }
        Err(PublishError::Contended { name: name.clone(), attempts: RACES })
    }

    /// The version to go back to.
    async fn source(&self, wanted: &Rollback, reference: &Reference) -> Result<(Row, Basis), PublishError> {
        if let Some(to) = &wanted.to {
            let selector = Selector { name: wanted.name.clone(), version: to.clone() };
            return Ok((version::select(reference, &selector)?.clone(), Basis::Asked));
        }
        let hosts = Hosts::read(self.store, now()).await?;
        let experience = experience(&hosts, &wanted.name, reference);
        choose(reference, &experience).map(|(row, basis)| (row.clone(), basis)).map_err(|reason| {
            PublishError::NothingOlder { name: wanted.name.clone(), current: reference.current, reason }
        })
    }
}

/// What a rollback goes by at each attempt.
struct Back<'a> {
    wanted: &'a Rollback,
    /// The version whose content shall be current.
    source: &'a Row,
    basis: Basis,
    /// The number of the version that was current when it was decided what to go back to.
    first: u64,
    /// The new row, but for its number.
    row: Row,
}

/// What the ref shall be.
#[derive(Debug, PartialEq)]
enum Next {
    /// As it is: the content is current already.
    Nothing,
    /// As it is, but for the tag.
    Tagged(Reference),
    /// With a new version.
    Published(Reference),
}

impl Back<'_> {
    /// What the ref shall be, going by what it was read as: pure.
    fn next(&self, reference: &Reference) -> Result<Next, PublishError> {
        let name = || self.wanted.name.clone();
        expect(self.wanted, reference)?;
        if !reference.rows.iter().any(|kept| kept.id == self.source.id) {
            return Err(PublishError::Vanished { name: name(), number: self.source.number });
        }
        if self.basis != Basis::Asked && reference.current != self.first {
            return Err(PublishError::Overtaken { name: name(), found: reference.current });
        }
        let mut next = reference.clone();
        let Some(current) = reference.current_row().filter(|current| current.tree == self.source.tree) else {
            let row = Row { number: reference.current + 1, ..self.row.clone() };
            append(&mut next, &row, self.wanted.tag.as_ref(), &self.wanted.name)?;
            return Ok(Next::Published(next));
        };
        let Some(tag) = self.wanted.tag.as_ref().filter(|tag| !current.tags.contains(tag)) else {
            return Ok(Next::Nothing);
        };
        let new = reference.tagged(tag).is_none();
        next.tag(tag, current.number);
        if new && !has_room(&next) {
            return Err(PublishError::TagsFull { name: name() });
        }
        Ok(Next::Tagged(next))
    }
}

fn expect(wanted: &Rollback, reference: &Reference) -> Result<(), PublishError> {
    match wanted.expect {
        Some(expected) if expected != reference.current => {
            Err(PublishError::Expected { name: wanted.name.clone(), expected, found: reference.current })
        }
        _ => Ok(()),
    }
}

fn message(wanted: &Rollback, origin: u64, source: &Row) -> String {
    match (&wanted.message, &source.message) {
        (Some(message), _) => message.clone(),
        // Not a quotation of a quotation.
        (None, Some(message)) if source.origin.is_none() => format!("Rollback to version {origin}: {message}"),
        (None, _) => format!("Rollback to version {origin}"),
    }
}

/// What hosts say of this incarnation's versions. What is bad from before the last `retry` counts no more.
fn experience(hosts: &Hosts, name: &WorkspaceName, reference: &Reference) -> Experience {
    let mut experience = Experience::default();
    for managed in hosts.iter().filter_map(|seen| seen.host.workspaces.get(name)) {
        let good = managed.good.iter().filter(|good| good.root == reference.root);
        experience.good.extend(good.map(|good| good.row.id));
        let bad = managed.bad.iter().filter(|bad| bad.retry == reference.retry);
        experience.bad.extend(bad.map(|bad| bad.row));
    }
    experience
}

/// The last version before the current one that was served well; else the last one that no host found bad. Pure.
///
/// A version that goes back counts as the one that it brings back, so that going back twice leads further back, and never
/// to what was just left. One with the current content would change nothing.
fn choose<'a>(reference: &'a Reference, experience: &Experience) -> Result<(&'a Row, Basis), &'static str> {
    let place = |row: &Row| row.origin.unwrap_or(row.number);
    let current = reference.current_row().ok_or("it has no current version")?;
    let older: Vec<&Row> = reference
        .rows
        .iter()
        .rev()
        .filter(|row| row.number < current.number && place(row) < place(current) && row.tree != current.tree)
        .collect();
    if older.is_empty() {
        return Err("none with another content is kept that is older");
    }
    let served = older.iter().find(|row| experience.good.contains(&row.id));
    let previous = || older.iter().find(|row| !experience.bad.contains(&row.id));
    served
        .map(|row| (*row, Basis::Served))
        .or_else(|| previous().map(|row| (*row, Basis::Previous)))
        .ok_or("all older ones that are kept failed on a host")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Hash;
    use std::collections::BTreeMap;

    /// Versions 1, 2, 3… by their content and origin.
    fn reference(versions: &[(&str, Option<u64>)]) -> Reference {
        let mut reference = Reference::claimed(Ulid::from_parts(1, 1));
        for (number, (content, origin)) in (1..).zip(versions) {
            reference.rows.push(Row {
                id: Ulid::from_parts(number, 0),
                number,
                base: Ulid::from_parts(1, 1),
                delta: None,
                tree: Hash::of(content.as_bytes()),
                files: 1,
                bytes: 1,
                created: jiff::Timestamp::UNIX_EPOCH,
                runtime: None,
                message: None,
                author: None,
                commit: None,
                origin: *origin,
                tags: vec![],
                locked: false,
                locked_until: None,
                other: BTreeMap::new(),
            });
            reference.current = number;
        }
        reference
    }

    fn chosen(reference: &Reference, good: &[u64], bad: &[u64]) -> Result<(u64, Basis), &'static str> {
        let ids = |numbers: &[u64]| numbers.iter().map(|number| Ulid::from_parts(*number, 0)).collect();
        let experience = Experience { good: ids(good), bad: ids(bad) };
        choose(reference, &experience).map(|(row, basis)| (row.number, basis))
    }

    #[test]
    fn what_was_served_well_comes_first_then_what_came_before() {
        let four = reference(&[("a", None), ("b", None), ("c", None), ("d", None)]);
        assert_eq!(chosen(&four, &[], &[]), Ok((3, Basis::Previous)));
        assert_eq!(chosen(&four, &[2, 1], &[]), Ok((2, Basis::Served)));
        assert_eq!(chosen(&four, &[4], &[3]), Ok((2, Basis::Previous)));
        assert!(chosen(&four, &[4], &[1, 2, 3]).unwrap_err().contains("failed on a host"));
        assert!(chosen(&reference(&[("a", None)]), &[1], &[]).unwrap_err().contains("older"));
    }

    #[test]
    fn going_back_twice_went_to_what_was_just_left() {
        let back = reference(&[("a", None), ("b", None), ("broken", None), ("b", Some(2))]);
        assert_eq!(chosen(&back, &[4], &[]), Ok((1, Basis::Previous)));
        let further = reference(&[("a", None), ("b", None), ("broken", None), ("b", Some(2)), ("a", Some(1))]);
        assert!(chosen(&further, &[], &[]).is_err());
        // What a rollback brought back is there to go back to again.
        let again = reference(&[("a", None), ("b", None), ("broken", None), ("b", Some(2)), ("worse", None)]);
        assert_eq!(chosen(&again, &[4], &[]), Ok((4, Basis::Served)));
        assert_eq!(chosen(&again, &[], &[]), Ok((4, Basis::Previous)));
    }

    /// What version 4 of four becomes when version 2 is to come back, after `change` was made to what was read at first.
    fn after(basis: Basis, tag: Option<&str>, change: impl FnOnce(&mut Reference)) -> Result<Next, String> {
        let mut read = reference(&[("a", None), ("b", None), ("c", None), ("d", None)]);
        let wanted = Rollback {
            name: "app".parse().unwrap(),
            to: None,
            message: None,
            author: None,
            tag: tag.map(|tag| tag.parse().unwrap()),
            expect: None,
        };
        let source = read.row(2).unwrap().clone();
        let row = Row { id: Ulid::from_parts(99, 0), origin: Some(2), ..source.clone() };
        let back = Back { wanted: &wanted, source: &source, basis, first: 4, row };
        change(&mut read);
        back.next(&read).map_err(|error| error.to_string())
    }

    fn published(next: Result<Next, String>) -> (u64, Option<u64>) {
        match next.unwrap() {
            Next::Published(next) => (next.current, next.current_row().unwrap().origin),
            other => panic!("{other:?}"),
        }
    }

    fn publish(reference: &mut Reference, content: &str) {
        let (number, id) = (reference.current + 1, Ulid::from_parts(reference.current + 1, 7));
        let row = Row { id, number, tree: Hash::of(content.as_bytes()), ..reference.rows[0].clone() };
        reference.rows.push(row);
        reference.current = number;
    }

    #[test]
    fn what_others_did_meanwhile_decides() {
        assert_eq!(published(after(Basis::Asked, None, |_| {})), (5, Some(2)));
        // It was asked for, whatever it replaces.
        assert_eq!(published(after(Basis::Asked, None, |read| publish(read, "e"))), (6, Some(2)));
        // A collection has begun: what still has a row keeps its objects.
        assert_eq!(published(after(Basis::Asked, None, |read| read.collections += 1)), (5, Some(2)));
        let overtaken = after(Basis::Previous, None, |read| publish(read, "e")).unwrap_err();
        assert!(overtaken.contains("version 5 of `app` was published meanwhile"), "{overtaken}");
        let vanished = after(Basis::Asked, None, |read| read.rows.retain(|row| row.number != 2)).unwrap_err();
        assert!(vanished.contains("version 2 of `app` was removed meanwhile"), "{vanished}");
        // The number is there, but it is another version's.
        let other = after(Basis::Asked, None, |read| read.rows[1].id = Ulid::from_parts(50, 0)).unwrap_err();
        assert!(other.contains("removed meanwhile"), "{other}");
        assert_eq!(after(Basis::Asked, None, |read| publish(read, "b")).unwrap(), Next::Nothing);
        match after(Basis::Asked, Some("v2"), |read| publish(read, "b")).unwrap() {
            Next::Tagged(next) => assert_eq!(next.tagged(&"v2".parse().unwrap()).unwrap().number, 5),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_has_the_current_content_is_passed_over() {
        let same = reference(&[("a", None), ("b", None), ("a", None)]);
        assert_eq!(chosen(&same, &[1], &[]), Ok((2, Basis::Previous)));
    }
}
