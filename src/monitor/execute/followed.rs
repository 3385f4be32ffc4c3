//! What a live release that follows has gone on to, in its own containers.

use std::collections::BTreeMap;

use jiff::Timestamp;
use ulid::Ulid;

use super::super::observe::Observed;
use super::super::situation::{Inside, InsidePhase, Target};
use crate::format::host::{Failure, HostRelease, Managed};

/// The step in which a version fails that a live release was to go on to.
pub const FOLLOW: &str = "follow";

/// Writes down which version is served, and what is wrong with the one that the release was told to take: `fed`.
pub fn note(observed: &Observed, known: &BTreeMap<Ulid, Target>, fed: Option<&(Ulid, Target)>, managed: &mut Managed) {
    let live = observed.live.and_then(|live| observed.releases.iter().find(|release| release.row == live));
    let Some((live, (release, target))) = live.zip(fed).filter(|(live, (release, _))| live.row == *release) else {
        managed.followed = None;
        return;
    };
    let insides: Vec<&Inside> = live.web().filter_map(|web| web.inside.as_ref()).collect();
    let row = insides.first().and_then(|inside| inside.row).unwrap_or(*release);
    let serves =
        |inside: &&Inside| inside.row == Some(row) && inside.phase == InsidePhase::Ready && inside.error.is_none();
    let all = !insides.is_empty() && insides.iter().all(serves);
    if all && managed.served().is_none_or(|served| served.row.id != row) {
        let served = if row == target.row.id { Some(target) } else { known.get(&row) };
        let release =
            |served: &Target| HostRelease { root: served.root, row: served.row.clone(), since: Timestamp::now() };
        managed.followed = served.map(release);
    }
    let told = managed.failure.as_ref().filter(|failure| failure.step == FOLLOW);
    let is_news = |reason: &str| told.is_none_or(|told| told.row != target.row.id || told.reason != reason);
    match insides.iter().find_map(|inside| inside.error.clone()) {
        Some(reason) if is_news(&reason) => managed.failure = Some(failure(target, reason)),
        None if told.is_some() => managed.failure = None,
        _ => {}
    }
}

fn failure(target: &Target, reason: String) -> Failure {
    Failure {
        row: target.row.id,
        number: target.number(),
        step: FOLLOW.to_owned(),
        reason,
        tail: Vec::new(),
        listening: None,
        hint: "its container's log says more; the next version is the next chance".to_owned(),
        at: Timestamp::now(),
        bad: true,
        tries: 1,
        next_try: None,
        retry: None,
    }
}
