//! The planner: from what is found and what should be to the next steps, each with its cause. Pure.
//!
//! It is level-triggered: it knows no history but what lies in the situation, so whatever was killed, removed, renamed or
//! left half done, by hand or by a crash, is one more situation to plan from. Every round gives the steps that can be taken
//! now; then everything is looked at again.
//!
//! The order of a release: create (fetch, install, build), release command, start, ready, soak, route, promote, drain, stop
//! the old one, start the workers, watch, remove the old one. Before the route nothing touches what is live.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use ulid::Ulid;

use super::situation::{Bearer, Container, Desired, InsidePhase, Release, ReleaseCommand, Role, Situation, Target};
use crate::engine::{ContainerState, Health};
use crate::format::host::{HostPhase, HostRelease};

/// How often a release may be replaced by a newer one before one is let through.
const MAX_REPLACED: u8 = 2;

/// Something to be done with one workspace. Each can be repeated, and each is taken only where it is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Grant, volumes, containers of a release: what is missing of it.
    Create(Ulid),
    /// Start containers of a release that don't run.
    Start(Ulid),
    /// Look for the release command's outcome, or get the lease and run it.
    ReleaseCommand(Ulid),
    /// Let containers that are held go on to start.
    Proceed(Ulid, Who),
    /// Move traffic to a release, and make sure that it arrives.
    Route(Ulid),
    /// Take the traffic away.
    Unroute,
    /// Give a release the workspace's container name, and let Docker keep it running.
    Promote(Ulid),
    /// Ask containers of a release to end.
    Stop(Ulid, Who),
    /// Remove a release and what belongs to it alone.
    Remove(Ulid),
    /// Find out why a release failed, and remember it.
    Fail(Ulid, Why),
    /// Let a release go on to another version in its own containers.
    Feed(Ulid, Ulid),
    /// Renew what a release needs to fetch its tree.
    Renew(Ulid),
    /// A release was served well to the end of its watch.
    Settle(Ulid),
    /// Forget the workspace.
    Forget,
}

impl Step {
    /// Whether it ends something that others need not wait for.
    pub fn is_end(&self) -> bool {
        matches!(self, Self::Stop(..) | Self::Remove(_))
    }
}

/// Which containers of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// All.
    All,
    /// Those that serve traffic.
    Web,
    /// The others.
    Workers,
}

impl Who {
    /// Whether a role is meant.
    pub fn includes(self, role: &Role) -> bool {
        match self {
            Self::All => true,
            Self::Web => *role == Role::Web,
            Self::Workers => *role != Role::Web,
        }
    }
}

/// In what way a release failed, as far as it can be seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// A container ended before it got traffic.
    Ended,
    /// It was not installed in time.
    TooSlow,
    /// It crashed, or is unhealthy, while it was watched.
    Unsteady,
    /// The version has nothing to start.
    NoStart,
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = |who: &Who| match who {
            Who::All => "",
            Who::Web => " web",
            Who::Workers => " workers",
        };
        match self {
            Self::Create(row) => write!(out, "create {row}"),
            Self::Start(row) => write!(out, "start {row}"),
            Self::ReleaseCommand(row) => write!(out, "release-command {row}"),
            Self::Proceed(row, which) => write!(out, "proceed {row}{}", who(which)),
            Self::Route(row) => write!(out, "route {row}"),
            Self::Unroute => out.write_str("unroute"),
            Self::Promote(row) => write!(out, "promote {row}"),
            Self::Stop(row, which) => write!(out, "stop {row}{}", who(which)),
            Self::Remove(row) => write!(out, "remove {row}"),
            Self::Fail(row, why) => write!(out, "fail {row} {why:?}"),
            Self::Feed(release, row) => write!(out, "feed {release} {row}"),
            Self::Renew(row) => write!(out, "renew {row}"),
            Self::Settle(row) => write!(out, "settle {row}"),
            Self::Forget => out.write_str("forget"),
        }
    }
}

/// What to do now, how things stand, and when to look again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Steps, in order, each with its cause.
    pub steps: Vec<(Step, String)>,
    /// How things stand.
    pub phase: HostPhase,
    /// Why, in one sentence.
    pub cause: String,
    /// When to look again even if nothing happens.
    pub again: Option<Timestamp>,
}

impl Planned {
    fn new(phase: HostPhase, cause: impl Into<String>) -> Self {
        Self { steps: Vec::new(), phase, cause: cause.into(), again: None }
    }

    fn step(mut self, step: Step, cause: impl Into<String>) -> Self {
        self.steps.push((step, cause.into()));
        self
    }

    fn until(mut self, time: Timestamp) -> Self {
        self.again = Some(self.again.map_or(time, |earlier| earlier.min(time)));
        self
    }

    /// Whether the workspace is as the bucket says, or as near to it as this host can bring it for now: what waits for
    /// something outside, or to be tried again, has failed for now.
    pub fn is_settled(&self) -> bool {
        self.steps.is_empty() && self.phase.is_rest()
    }
}

/// What to do about a workspace now.
pub fn plan(situation: &Situation<'_>) -> Planned {
    let mut planned = match situation.desired {
        Desired::Unknown(why) => Planned::new(HostPhase::Waiting, why.clone()),
        Desired::Gone => remove_all(situation, HostPhase::Stopped, "the workspace was deleted")
            .step(Step::Forget, "the workspace was deleted"),
        Desired::Stopped => remove_all(situation, HostPhase::Stopped, "the workspace was stopped"),
        Desired::Run(target) => run(situation, target),
    };
    lead_to_live(situation, &mut planned);
    for (row, renewal) in situation.renewals {
        let removed = planned.steps.iter().any(|(step, _)| *step == Step::Remove(*row));
        if removed || situation.release(*row).is_none() {
            continue;
        }
        match renewal {
            Some(renewal) if *renewal > situation.now => planned = planned.until(*renewal),
            Some(_) => planned.steps.push((Step::Renew(*row), "its grant is past its half-life".to_owned())),
            None => {
                let cause = "the monitor was started anew and doesn't know how old its grant is";
                planned.steps.push((Step::Renew(*row), cause.to_owned()));
            }
        }
    }
    planned
}

/// A monitor that was cut off may have moved the traffic and not yet given the release its name: before a release ends that may
/// have it, it goes back to the live one.
fn lead_to_live(situation: &Situation<'_>, planned: &mut Planned) {
    let Some(live) = situation.live.filter(|live| !situation.routed && situation.known.contains_key(live)) else {
        return;
    };
    if !situation.release(live).is_some_and(Release::runs) {
        return;
    }
    for (at, (step, _)) in planned.steps.iter().enumerate() {
        match step {
            Step::Route(_) | Step::Unroute => return,
            Step::Remove(row) | Step::Stop(row, Who::All | Who::Web) if *row != live => {
                planned.steps.insert(at, (Step::Route(live), "traffic does not go where it should".to_owned()));
                return;
            }
            _ => {}
        }
    }
}

fn remove_all(situation: &Situation<'_>, phase: HostPhase, cause: &str) -> Planned {
    let mut planned = Planned::new(phase, cause);
    if situation.route_exists {
        planned = planned.step(Step::Unroute, cause);
    }
    for release in situation.releases {
        planned = planned.step(Step::Remove(release.row), cause);
    }
    planned
}

fn run(situation: &Situation<'_>, target: &Target) -> Planned {
    let live = situation.live;
    if situation.is_bad(target.row.id) {
        return bad(situation, target);
    }
    if let Some(followed) = followed(situation, target) {
        return followed;
    }
    if live == Some(target.row.id) {
        return maintain(situation, target, HostPhase::Live, format!("version {} is live", target.number()));
    }
    if target.plan.start.is_none() {
        if live.is_none() && situation.releases.is_empty() {
            return Planned::new(HostPhase::Stored, format!("version {} has nothing to start", target.number()));
        }
        return Planned::new(HostPhase::Failed, "nothing to start").step(
            Step::Fail(target.row.id, Why::NoStart),
            format!("version {} has no start command", target.number()),
        );
    }
    // A release under way that isn't the wanted one any more.
    if let Some(other) = underway(situation, target.row.id) {
        let known = situation.known.get(&other.row);
        // One that starts and doesn't answer holds nobody up, unless what was live has been stopped for it. A release
        // command isn't interrupted.
        let starts = other.slowest() == InsidePhase::Start && known.is_some_and(|known| !known.is_exclusive());
        let early = (other.slowest() <= InsidePhase::Build || starts) && !other.is_ready();
        let broken = other.ended().next().is_some() || situation.is_bad(other.row);
        match known {
            Some(known) if !broken && (!early || situation.replaced >= MAX_REPLACED) => {
                return advance(situation, known);
            }
            _ => {
                let cause = format!("version {} is wanted instead of {}", target.number(), other.number);
                return Planned::new(HostPhase::Pending, cause.clone()).step(Step::Remove(other.row), cause);
            }
        }
    }
    advance(situation, target)
}

/// The live release goes on to the wanted version by itself, if it is one that follows and can.
fn followed(situation: &Situation<'_>, target: &Target) -> Option<Planned> {
    let live = situation.live.filter(|_| situation.follows)?;
    let known = situation.known.get(&live)?;
    if !known.can_become(target) || !situation.release(live)?.runs() {
        return None;
    }
    let cause = format!("version {} is followed", target.number());
    let mut planned = maintain(situation, known, HostPhase::Live, cause.clone());
    if situation.fed.unwrap_or(live) != target.row.id {
        planned.steps.insert(0, (Step::Feed(live, target.row.id), cause));
    }
    Some(planned)
}

/// A release that is on its way to the traffic instead of the wanted one.
fn underway<'a>(situation: &'a Situation<'_>, wanted: Ulid) -> Option<&'a Release> {
    let standing_by = situation.memory.previous.as_ref().map(|previous| previous.row.id);
    let other = |release: &&Release| release.row != wanted;
    situation.releases.iter().filter(other).find(|release| release.is_underway(situation.live, standing_by))
}

/// The wanted version failed here: what was live stays live, or comes back.
fn bad(situation: &Situation<'_>, target: &Target) -> Planned {
    let number = target.number();
    let row = target.row.id;
    let cause = format!("version {number} failed here; `workspace retry {}` tries it again", situation.name);
    if situation.live == Some(row) {
        // It failed while it was watched.
        let mut standing_by: Vec<&Release> =
            situation.releases.iter().filter(|release| release.row != row && !situation.is_bad(release.row)).collect();
        // The one before it; else the newest.
        let previous = situation.memory.previous.as_ref().map(|previous| previous.row.id);
        standing_by.sort_by_key(|release| (Some(release.row) == previous, release.number));
        if let Some(standby) = standing_by.pop() {
            return go_back(situation, row, standby, &cause);
        }
    }
    let kept = match situation.live.filter(|live| *live != row) {
        Some(live) => situation.known.get(&live),
        None => situation.fallback.filter(|fallback| fallback.row.id != row && !situation.is_bad(fallback.row.id)),
    };
    let mut planned = match kept {
        Some(kept) if situation.live == Some(kept.row.id) => {
            maintain(situation, kept, HostPhase::Failed, cause.clone())
        }
        Some(kept) => advance(situation, kept),
        None => Planned::new(HostPhase::Failed, cause.clone()),
    };
    let removal = Step::Remove(row);
    if target.takes_ports() {
        // What is live can't start again while the failed one has its ports.
        planned.steps.sort_by_key(|(step, _)| *step != removal);
    }
    let planned_already = planned.steps.iter().any(|(step, _)| *step == removal);
    if situation.live != Some(row) && situation.release(row).is_some() && !planned_already {
        planned.steps.insert(0, (removal, format!("version {number} failed")));
    }
    planned
}

fn go_back(situation: &Situation<'_>, failed: Ulid, standby: &Release, cause: &str) -> Planned {
    let planned = Planned::new(HostPhase::Route, format!("going back to version {}", standby.number));
    if !standby.web().all(|web| web.state == ContainerState::Running) {
        let mut planned = planned;
        let exclusive = situation.known.get(&standby.row).is_some_and(Target::is_exclusive);
        if let Some(failed) = situation.release(failed) {
            if exclusive && failed.runs() {
                planned = planned.step(Step::Stop(failed.row, Who::All), cause);
            } else if failed.works() {
                planned = planned.step(Step::Stop(failed.row, Who::Workers), cause);
            }
        }
        return planned.step(Step::Start(standby.row), cause);
    }
    if standby.is_ready() {
        return planned.step(Step::Route(standby.row), cause).step(Step::Promote(standby.row), cause);
    }
    planned.until(later(situation.now, Duration::from_secs(1)))
}

/// Brings a release that isn't live yet one step further.
fn advance(situation: &Situation<'_>, target: &Target) -> Planned {
    let row = target.row.id;
    let number = target.number();
    // An outage that is waited out, or an install that is tried again later, unless somebody asks for it now.
    if let Some(failure) = &situation.memory.failure
        && failure.row == row
        && failure.retry == situation.retry
        && let Some(next) = failure.next_try
        && next > situation.now
        && situation.release(row).is_none()
    {
        let mut planned = keep_live(situation, HostPhase::Waiting, format!("{}; will be tried again", failure.reason));
        planned = planned.until(next);
        return planned;
    }
    let Some(release) = situation.release(row) else {
        if let Some(live) = in_the_way(situation, target) {
            let cause = "both would take the same ports of the host";
            return Planned::new(HostPhase::Fetch, cause).step(Step::Stop(live, Who::All), cause);
        }
        return create(situation, target, format!("version {number} is wanted"));
    };
    if let Some(ended) = release.ended().next() {
        let cause = format!("`{}` ended before it had traffic", ended.name);
        return Planned::new(HostPhase::Failed, cause.clone()).step(Step::Fail(row, Why::Ended), cause);
    }
    if release.unstarted().next().is_some() {
        let cause = "it was made and not started";
        return Planned::new(HostPhase::Pending, cause).step(Step::Start(row), cause);
    }
    if release.containers.len() < target.containers() {
        return create(situation, target, "part of it is missing".to_owned());
    }
    let phase = release.slowest();
    match phase {
        InsidePhase::Fetch | InsidePhase::Install | InsidePhase::Build => {
            let created = situation.created.get(&row).copied().unwrap_or(situation.now);
            let deadline = later(created, situation.limits.prepare);
            if situation.now >= deadline {
                let cause = format!("not installed within {} s", situation.limits.prepare.as_secs());
                return Planned::new(HostPhase::Failed, cause.clone()).step(Step::Fail(row, Why::TooSlow), cause);
            }
            let host_phase = match phase {
                InsidePhase::Fetch => HostPhase::Fetch,
                InsidePhase::Install => HostPhase::Install,
                _ => HostPhase::Build,
            };
            keep_live_unless_ports(situation, target, host_phase, format!("version {number} is prepared"))
                .until(deadline)
        }
        InsidePhase::Held | InsidePhase::Release => held(situation, target, release),
        InsidePhase::Start | InsidePhase::Ending => {
            keep_live_unless_exclusive(situation, target, HostPhase::Start, format!("version {number} starts"))
        }
        InsidePhase::Ready => {
            let soaked = later(release.ready_since().unwrap_or(situation.now), situation.limits.soak);
            if situation.now < soaked {
                let cause = format!("version {number} answers");
                return keep_live_unless_exclusive(situation, target, HostPhase::Soak, cause).until(soaked);
            }
            let cause = format!("version {number} is ready");
            // Together: without a router, who bears the name is who is live.
            Planned::new(HostPhase::Route, cause.clone())
                .step(Step::Route(row), cause.clone())
                .step(Step::Promote(row), cause)
        }
    }
}

fn held(situation: &Situation<'_>, target: &Target, release: &Release) -> Planned {
    let row = target.row.id;
    let number = target.number();
    let released = target.plan.release.is_none() || *situation.release_command == ReleaseCommand::Done;
    if !released {
        let soon = later(situation.now, Duration::from_secs(2));
        let (cause, step) = match situation.release_command {
            ReleaseCommand::Elsewhere(host) => (format!("its release command runs on {host}"), true),
            ReleaseCommand::Here => ("its release command runs".to_owned(), release.slowest() == InsidePhase::Held),
            _ => ("it has a release command".to_owned(), true),
        };
        let why = format!("version {number}: {cause}");
        let planned = keep_live_unless_ports(situation, target, HostPhase::Release, why).until(soon);
        return if step { planned.step(Step::ReleaseCommand(row), cause) } else { planned };
    }
    if target.is_exclusive()
        && let Some(live) = situation.live.and_then(|live| situation.release(live))
        && live.runs()
    {
        let cause = if target.takes_ports() {
            "both would take the same ports of the host"
        } else {
            "both would write to the same volumes"
        };
        return Planned::new(HostPhase::Start, cause).step(Step::Stop(live.row, Who::All), cause);
    }
    let cause = format!("version {number} is installed");
    Planned::new(HostPhase::Start, cause.clone()).step(Step::Proceed(row, Who::Web), cause)
}

fn create(situation: &Situation<'_>, target: &Target, cause: String) -> Planned {
    if situation.bearer == Bearer::Foreign {
        let name = situation.name;
        return Planned::new(
            HostPhase::Waiting,
            format!("a container that isn't the monitor's has the name `workspace-{name}`: remove or rename it"),
        )
        .until(later(situation.now, Duration::from_secs(30)));
    }
    Planned::new(HostPhase::Fetch, cause.clone()).step(Step::Create(target.row.id), cause)
}

/// While something else happens: what is live is kept alive.
fn keep_live(situation: &Situation<'_>, phase: HostPhase, cause: String) -> Planned {
    let mut planned = Planned::new(phase, cause);
    let Some(live) = situation.live.and_then(|live| situation.release(live)) else { return planned };
    if live.ended().next().is_some() || live.unstarted().next().is_some() {
        planned = planned.step(Step::Start(live.row), format!("version {} is live and does not run", live.number));
    }
    planned
}

/// The same, except where the live release was stopped to make room.
fn keep_live_unless_exclusive(situation: &Situation<'_>, target: &Target, phase: HostPhase, cause: String) -> Planned {
    if target.is_exclusive() { Planned::new(phase, cause) } else { keep_live(situation, phase, cause) }
}

/// The same, except where it had to be stopped before the new one could be made.
fn keep_live_unless_ports(situation: &Situation<'_>, target: &Target, phase: HostPhase, cause: String) -> Planned {
    if target.takes_ports() { Planned::new(phase, cause) } else { keep_live(situation, phase, cause) }
}

/// The live release, if it runs and has ports of the host that the new one needs to be made.
fn in_the_way(situation: &Situation<'_>, target: &Target) -> Option<Ulid> {
    let live = situation.live.and_then(|live| situation.release(live)).filter(|live| live.runs())?;
    let takes_ports = situation.known.get(&live.row).is_none_or(Target::takes_ports);
    (target.takes_ports() && takes_ports).then_some(live.row)
}

/// Keeps the live release as it should be, and finishes the one before it.
fn maintain(situation: &Situation<'_>, target: &Target, phase: HostPhase, cause: String) -> Planned {
    let row = target.row.id;
    let number = target.number();
    let mut planned = Planned::new(phase, cause);
    let Some(release) = situation.release(row) else {
        return create(situation, target, format!("version {number} is live and its containers are gone"));
    };
    let switched = situation.switched.unwrap_or(situation.now);
    let watched = later(switched, situation.limits.watch);
    let watching = situation.now < watched && phase == HostPhase::Live;
    let standby = situation.releases.iter().any(|other| other.row != row);
    if watching && let Some(unsteady) = unsteady(release) {
        if standby {
            return Planned::new(HostPhase::Route, unsteady.clone()).step(Step::Fail(row, Why::Unsteady), unsteady);
        }
        planned.cause = unsteady;
    }
    if release.containers.len() < target.containers() {
        return create(situation, target, format!("part of version {number} is missing"));
    }
    if release
        .web()
        .chain(release.workers())
        .any(|container| matches!(container.state, ContainerState::Exited | ContainerState::Created))
    {
        planned = planned.step(Step::Start(row), format!("version {number} is live and does not run"));
    }
    // A live release that was made anew is held like any other.
    let held_web = release.web().any(|web| web.runs_phase(InsidePhase::Held));
    if held_web {
        planned = planned.step(Step::Proceed(row, Who::Web), format!("version {number} is live and held"));
    }
    let promoted =
        situation.bearer == Bearer::Release(row) && release.containers.iter().all(|container| container.kept_running);
    if !situation.routed {
        planned = planned.step(Step::Route(row), "traffic does not go where it should");
    }
    if !promoted && situation.bearer != Bearer::Foreign {
        planned = planned.step(Step::Promote(row), format!("version {number} has the traffic"));
    } else if situation.bearer == Bearer::Foreign {
        planned.cause = format!("{}; a foreign container has the name `workspace-{}`", planned.cause, situation.name);
    }
    finish_others(situation, release, planned, switched, watched)
}

/// Drains, stops and removes the releases that were there before, and starts the workers of the new one in between.
fn finish_others(
    situation: &Situation<'_>,
    release: &Release,
    mut planned: Planned,
    switched: Timestamp,
    watched: Timestamp,
) -> Planned {
    let live = planned.phase == HostPhase::Live;
    let others: Vec<&Release> = situation.releases.iter().filter(|other| other.row != release.row).collect();
    for other in &others {
        if other.works() {
            planned = planned.step(Step::Stop(other.row, Who::Workers), "the new release's workers take over");
        }
    }
    if release.workers().any(|worker| worker.runs_phase(InsidePhase::Held)) {
        planned = planned.step(Step::Proceed(release.row, Who::Workers), "no other release works any more");
    }
    let drained = later(switched, situation.limits.drain);
    for other in &others {
        let old = format!("version {}", other.number);
        if situation.is_bad(other.row) {
            planned = planned.step(Step::Remove(other.row), format!("{old} failed"));
        } else if other.web().any(|web| web.state != ContainerState::Exited) {
            if situation.now >= drained && is_needed(situation, other.row) {
                planned = planned.step(Step::Stop(other.row, Who::All), format!("{old} had its time to finish"));
            } else if situation.now >= drained {
                planned = planned.step(Step::Remove(other.row), format!("{old} is not needed to go back to"));
            } else {
                planned = planned.until(drained);
            }
            if live {
                planned.phase = HostPhase::Drain;
                planned.cause = format!("{old} finishes what it has");
            }
        } else if situation.now >= watched || !is_needed(situation, other.row) {
            planned = planned.step(Step::Remove(other.row), format!("{old} is not needed to go back to"));
        } else {
            planned = planned.until(watched);
            if live {
                planned.phase = HostPhase::Watch;
                planned.cause = format!("{old} stands by");
            }
        }
    }
    let good = situation.memory.good.as_ref().map(|good| good.row.id);
    if live && situation.now >= watched && good != Some(release.row) && unsteady(release).is_none() && release.is_up() {
        planned = planned.step(Step::Settle(release.row), "it was served well");
    } else if live && good != Some(release.row) {
        planned = planned.until(watched.max(later(situation.now, Duration::from_secs(1))));
    }
    planned
}

/// Whether an old release may be gone back to while the live one is watched: the one before it, and the last that was served
/// well. However fast releases come, no more of them stand by.
fn is_needed(situation: &Situation<'_>, row: Ulid) -> bool {
    let memory = situation.memory;
    let is = |release: &Option<HostRelease>| release.as_ref().is_some_and(|release| release.row.id == row);
    memory.previous.is_none() || is(&memory.previous) || is(&memory.good)
}

/// Why a release that has traffic isn't well, if it isn't.
fn unsteady(release: &Release) -> Option<String> {
    release.containers.iter().find_map(|container| {
        let name = &container.name;
        if container.restarts > 0 {
            return Some(format!("`{name}` crashed and was started again by Docker"));
        }
        if container.state == ContainerState::Restarting {
            return Some(format!("`{name}` crashed"));
        }
        if container.health == Some(Health::Unhealthy) {
            return Some(format!("`{name}` does not answer any more"));
        }
        // What Docker doesn't keep running yet and has ended, ended by itself.
        if container.state == ContainerState::Exited && !container.kept_running {
            return Some(format!("`{name}` ended"));
        }
        None
    })
}

impl Container {
    fn runs_phase(&self, phase: InsidePhase) -> bool {
        self.state == ContainerState::Running && self.inside.as_ref().is_some_and(|inside| inside.phase == phase)
    }
}

impl Release {
    fn is_up(&self) -> bool {
        self.containers.iter().all(|container| container.state == ContainerState::Running)
    }
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    // Far beyond any time that can be told there is nothing to wait for.
    jiff::SignedDuration::try_from(by).ok().and_then(|by| time.checked_add(by).ok()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
