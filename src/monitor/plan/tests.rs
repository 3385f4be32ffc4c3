//! Situations and the plans that come of them, as text.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use ulid::Ulid;

use super::*;
use crate::application::{Command, Plan, Runtime};
use crate::format::Hash;
use crate::format::Row;
use crate::format::host::{Bad, Failure, HostRelease, Managed};
use crate::monitor::situation::{Inside, Limits};
use crate::names::WorkspaceName;

/// Row ids are the version's number, so that plans can be read.
fn id(number: u64) -> Ulid {
    Ulid::from_parts(number, 0)
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn target(number: u64) -> Target {
    let mut plan = Plan::new(Runtime::Node);
    plan.start = Some(Command::parse("node server.js"));
    let row = Row {
        id: id(number),
        number,
        base: id(number),
        delta: None,
        tree: Hash::of(b""),
        files: 1,
        bytes: 1,
        created: at(0),
        runtime: None,
        message: None,
        author: None,
        commit: None,
        origin: None,
        tags: Vec::new(),
        locked: false,
        locked_until: None,
        other: BTreeMap::new(),
    };
    Target { root: id(0), row, plan: Arc::new(plan) }
}

/// A situation to be changed by the test.
struct Scene {
    name: WorkspaceName,
    desired: Desired,
    retry: Option<Ulid>,
    fallback: Option<Target>,
    known: BTreeMap<Ulid, Target>,
    releases: Vec<Release>,
    live: Option<Ulid>,
    bearer: Bearer,
    routed: bool,
    memory: Managed,
    switched: Option<Timestamp>,
    follows: bool,
    fed: Option<Ulid>,
    replaced: u8,
    release_command: ReleaseCommand,
    created: BTreeMap<Ulid, Timestamp>,
    renewals: BTreeMap<Ulid, Option<Timestamp>>,
    now: i64,
}

impl Scene {
    /// Wants a version; nothing is there.
    fn wants(number: u64) -> Self {
        Self {
            name: "app".parse().unwrap(),
            desired: Desired::Run(target(number)),
            retry: None,
            fallback: None,
            known: (1..=9).map(|number| (id(number), target(number))).collect(),
            releases: Vec::new(),
            live: None,
            bearer: Bearer::Nobody,
            routed: true,
            memory: Managed::new(at(0)),
            switched: None,
            follows: false,
            fed: None,
            replaced: 0,
            release_command: ReleaseCommand::Unknown,
            created: BTreeMap::new(),
            renewals: BTreeMap::new(),
            now: 1000,
        }
    }

    /// A release with one container.
    fn with(mut self, number: u64, state: ContainerState, phase: Option<InsidePhase>) -> Self {
        self.releases.push(Release { row: id(number), number, containers: vec![web(number, state, phase)] });
        self
    }

    fn ready(self, number: u64) -> Self {
        self.with(number, ContainerState::Running, Some(InsidePhase::Ready))
    }

    /// That release has traffic and name, since long ago.
    fn live(mut self, number: u64) -> Self {
        self.live = Some(id(number));
        self.bearer = Bearer::Release(id(number));
        self.switched = Some(at(0));
        self.container(number, |container| container.kept_running = true);
        self.memory.good = Some(HostRelease { root: id(0), row: target(number).row, since: at(0) });
        self
    }

    /// The same, since some seconds before now, and not known to be good.
    fn fresh(mut self, number: u64, seconds: i64) -> Self {
        self = self.live(number);
        self.switched = Some(at(self.now - seconds));
        self.memory.good = None;
        self
    }

    fn bad(mut self, number: u64) -> Self {
        self.memory.bad.push(Bad { row: id(number), number, retry: None });
        self
    }

    fn container(&mut self, number: u64, change: impl Fn(&mut Container)) {
        for release in self.releases.iter_mut().filter(|release| release.number == number) {
            release.containers.iter_mut().for_each(&change);
        }
    }

    /// Lets the wanted version's plan be changed.
    fn planned(mut self, change: impl Fn(&mut Plan)) -> Self {
        if let Desired::Run(target) = &mut self.desired {
            change(Arc::make_mut(&mut target.plan));
            self.known.insert(target.row.id, target.clone());
        }
        self
    }

    fn plan(&self) -> Planned {
        let limits = Limits { soak: Duration::from_secs(2), ..Limits::default() };
        let situation = Situation {
            name: &self.name,
            desired: &self.desired,
            retry: self.retry,
            fallback: self.fallback.as_ref(),
            known: &self.known,
            releases: &self.releases,
            live: self.live,
            bearer: self.bearer.clone(),
            routed: self.routed,
            route_exists: self.live.is_some(),
            memory: &self.memory,
            switched: self.switched,
            follows: self.follows,
            fed: self.fed,
            replaced: self.replaced,
            release_command: &self.release_command,
            created: &self.created,
            renewals: &self.renewals,
            now: at(self.now),
            limits,
        };
        plan(&situation)
    }

    fn text(&self) -> String {
        let planned = self.plan();
        let mut text = format!("{}: {}", planned.phase.as_str(), planned.cause);
        for (step, cause) in &planned.steps {
            write!(text, "\n- {step}: {cause}").unwrap();
        }
        if let Some(again) = planned.again {
            write!(text, "\nagain in {} s", again.duration_since(at(self.now)).as_secs()).unwrap();
        }
        // Ids as numbers.
        for number in 0..10 {
            text = text.replace(&id(number).to_string(), &format!("@{number}"));
        }
        text
    }
}

fn web(number: u64, state: ContainerState, phase: Option<InsidePhase>) -> Container {
    Container {
        id: format!("c{number}"),
        name: format!("workspace-app-R{number}"),
        role: Role::Web,
        replica: 1,
        state,
        restarts: 0,
        health: None,
        kept_running: false,
        inside: phase.map(|phase| Inside { phase, since: at(990), released: false, row: None, error: None }),
    }
}

fn worker(number: u64, state: ContainerState, phase: InsidePhase) -> Container {
    let name = format!("workspace-app-R{number}-queue");
    Container { name, role: Role::Worker("queue".to_owned()), ..web(number, state, Some(phase)) }
}

use ContainerState::{Created, Exited, Running};

#[test]
fn a_first_release_goes_step_by_step() {
    insta::assert_snapshot!(Scene::wants(1).text(), @"
    fetch: version 1 is wanted
    - create @1: version 1 is wanted
    ");
    insta::assert_snapshot!(Scene::wants(1).with(1, Created, None).text(), @"
    pending: it was made and not started
    - start @1: it was made and not started
    ");
    insta::assert_snapshot!(Scene::wants(1).with(1, Running, Some(InsidePhase::Install)).text(), @"
    install: version 1 is prepared
    again in 1500 s
    ");
    insta::assert_snapshot!(Scene::wants(1).with(1, Running, Some(InsidePhase::Start)).text(), @"start: version 1 starts");
    insta::assert_snapshot!(Scene::wants(1).ready(1).text(), @"
    route: version 1 is ready
    - route @1: version 1 is ready
    - promote @1: version 1 is ready
    ");
    let mut soaking = Scene::wants(1).ready(1);
    soaking.now = 991;
    insta::assert_snapshot!(soaking.text(), @"
    soak: version 1 answers
    again in 1 s
    ");
    insta::assert_snapshot!(Scene::wants(1).ready(1).fresh(1, 3).text(), @"
    live: version 1 is live
    again in 57 s
    ");
    insta::assert_snapshot!(Scene::wants(1).ready(1).fresh(1, 90).text(), @"
    live: version 1 is live
    - settle @1: it was served well
    ");
    insta::assert_snapshot!(Scene::wants(1).ready(1).live(1).text(), @"live: version 1 is live");
}

#[test]
fn the_old_release_drains_stands_by_and_goes() {
    insta::assert_snapshot!(Scene::wants(2).ready(1).live(1).text(), @"
    fetch: version 2 is wanted
    - create @2: version 2 is wanted
    ");
    insta::assert_snapshot!(Scene::wants(2).ready(1).ready(2).fresh(2, 1).text(), @"
    drain: version 1 finishes what it has
    again in 4 s
    ");
    insta::assert_snapshot!(Scene::wants(2).ready(1).ready(2).fresh(2, 6).text(), @"
    drain: version 1 finishes what it has
    - stop @1: version 1 had its time to finish
    again in 54 s
    ");
    insta::assert_snapshot!(Scene::wants(2).with(1, Exited, None).ready(2).fresh(2, 6).text(), @"
    watch: version 1 stands by
    again in 54 s
    ");
    insta::assert_snapshot!(Scene::wants(2).with(1, Exited, None).ready(2).fresh(2, 61).text(), @"
    live: version 2 is live
    - remove @1: version 1 is not needed to go back to
    - settle @2: it was served well
    ");
}

#[test]
fn whatever_fails_before_the_route_leaves_the_old_one_alone() {
    insta::assert_snapshot!(Scene::wants(2).ready(1).live(1).with(2, Exited, None).text(), @"
    failed: `workspace-app-R2` ended before it had traffic
    - fail @2 Ended: `workspace-app-R2` ended before it had traffic
    ");
    insta::assert_snapshot!(Scene::wants(2).ready(1).live(1).bad(2).text(), @"failed: version 2 failed here; `workspace retry app` tries it again");
    insta::assert_snapshot!(Scene::wants(2).ready(1).live(1).bad(2).with(2, Exited, None).text(), @"
    failed: version 2 failed here; `workspace retry app` tries it again
    - remove @2: version 2 failed
    ");
    // Asked for again.
    let mut again = Scene::wants(2).ready(1).live(1).bad(2);
    again.retry = Some(id(5));
    insta::assert_snapshot!(again.text(), @"
    fetch: version 2 is wanted
    - create @2: version 2 is wanted
    ");
    // An outage is waited out.
    let mut outage = Scene::wants(2).ready(1).live(1);
    outage.memory.failure = Some(Failure {
        row: id(2),
        number: 2,
        step: "install".to_owned(),
        reason: "no registry".to_owned(),
        tail: Vec::new(),
        listening: None,
        hint: String::new(),
        at: at(900),
        bad: false,
        tries: 1,
        next_try: Some(at(1060)),
        retry: None,
    });
    assert!(outage.plan().is_settled(), "a pass ends beside what waits");
    insta::assert_snapshot!(outage.text(), @"
    waiting: no registry; will be tried again
    again in 60 s
    ");
    // Until somebody asks for it.
    outage.retry = Some(id(5));
    insta::assert_snapshot!(outage.text(), @"
    fetch: version 2 is wanted
    - create @2: version 2 is wanted
    ");
    let mut slow = Scene::wants(2).ready(1).live(1).with(2, Running, Some(InsidePhase::Install));
    slow.created.insert(id(2), at(1000 - 1500));
    insta::assert_snapshot!(slow.text(), @"
    failed: not installed within 1500 s
    - fail @2 TooSlow: not installed within 1500 s
    ");
}

#[test]
fn what_fails_while_it_is_watched_goes_back() {
    let mut crashed = Scene::wants(2).with(1, Exited, None).ready(2).fresh(2, 20);
    crashed.container(2, |container| container.restarts = 1);
    insta::assert_snapshot!(crashed.text(), @"
    route: `workspace-app-R2` crashed and was started again by Docker
    - fail @2 Unsteady: `workspace-app-R2` crashed and was started again by Docker
    ");
    let crashed = crashed.bad(2);
    insta::assert_snapshot!(crashed.text(), @"
    route: going back to version 1
    - start @1: version 2 failed here; `workspace retry app` tries it again
    ");
    let back = Scene::wants(2).with(1, Running, Some(InsidePhase::Start)).ready(2).fresh(2, 20).bad(2);
    insta::assert_snapshot!(back.text(), @"
    route: going back to version 1
    again in 1 s
    ");
    let back = Scene::wants(2).ready(1).ready(2).fresh(2, 20).bad(2);
    insta::assert_snapshot!(back.text(), @"
    route: going back to version 1
    - route @1: version 2 failed here; `workspace retry app` tries it again
    - promote @1: version 2 failed here; `workspace retry app` tries it again
    ");
    let back = Scene::wants(2).ready(1).ready(2).fresh(1, 0).bad(2);
    insta::assert_snapshot!(back.text(), @"
    failed: version 2 failed here; `workspace retry app` tries it again
    - remove @2: version 2 failed
    ");
}

#[test]
fn a_host_with_nothing_to_run_takes_what_is_known_to_be_good() {
    let mut scene = Scene::wants(3).bad(3);
    insta::assert_snapshot!(scene.text(), @"failed: version 3 failed here; `workspace retry app` tries it again");
    scene.fallback = Some(target(2));
    insta::assert_snapshot!(scene.text(), @"
    fetch: version 2 is wanted
    - create @2: version 2 is wanted
    ");
    let mut live = Scene::wants(3).bad(3).ready(2).live(2);
    live.fallback = None;
    insta::assert_snapshot!(live.text(), @"failed: version 3 failed here; `workspace retry app` tries it again");
}

#[test]
fn a_rollback_goes_through_everything_even_where_its_content_failed() {
    // Version 4 brings back version 2, which failed here once.
    let mut back = Scene::wants(4).bad(2).bad(3).ready(1).live(1);
    if let Desired::Run(target) = &mut back.desired {
        target.row.origin = Some(2);
    }
    insta::assert_snapshot!(back.text(), @"
    fetch: version 4 is wanted
    - create @4: version 4 is wanted
    ");
    let back = back.ready(4);
    insta::assert_snapshot!(back.text(), @"
    route: version 4 is ready
    - route @4: version 4 is ready
    - promote @4: version 4 is ready
    ");
}

#[test]
fn a_tag_that_moves_back_is_followed() {
    // To what is live, while what it led to is being made.
    let back = Scene::wants(1).ready(1).live(1).with(2, Running, Some(InsidePhase::Install));
    insta::assert_snapshot!(back.text(), @"
    drain: version 2 finishes what it has
    - stop @2: version 2 had its time to finish
    ");
    // To what is live, after what it led to failed.
    insta::assert_snapshot!(Scene::wants(1).ready(1).live(1).bad(2).text(), @"live: version 1 is live");
    // To what was live before.
    insta::assert_snapshot!(Scene::wants(1).ready(2).live(2).text(), @"
    fetch: version 1 is wanted
    - create @1: version 1 is wanted
    ");
}

#[test]
fn whatever_was_done_by_hand_is_put_right() {
    // Removed.
    let mut removed = Scene::wants(1);
    removed.live = Some(id(1));
    insta::assert_snapshot!(removed.text(), @"
    fetch: version 1 is live and its containers are gone
    - create @1: version 1 is live and its containers are gone
    ");
    // Stopped.
    insta::assert_snapshot!(Scene::wants(1).with(1, Exited, None).live(1).text(), @"
    live: version 1 is live
    - start @1: version 1 is live and does not run
    ");
    // Renamed, or the promotion was cut off.
    let mut renamed = Scene::wants(1).ready(1).live(1);
    renamed.bearer = Bearer::Nobody;
    insta::assert_snapshot!(renamed.text(), @"
    live: version 1 is live
    - promote @1: version 1 has the traffic
    ");
    // The route was changed or lost its relay.
    let mut unrouted = Scene::wants(1).ready(1).live(1);
    unrouted.routed = false;
    insta::assert_snapshot!(unrouted.text(), @"
    live: version 1 is live
    - route @1: traffic does not go where it should
    ");
    // Somebody else has the name.
    let mut foreign = Scene::wants(1);
    foreign.bearer = Bearer::Foreign;
    insta::assert_snapshot!(foreign.text(), @"
    waiting: a container that isn't the monitor's has the name `workspace-app`: remove or rename it
    again in 30 s
    ");
}

#[test]
fn a_newer_version_replaces_one_that_is_being_installed_twice_in_a_row() {
    let mut scene = Scene::wants(3).ready(1).live(1).with(2, Running, Some(InsidePhase::Install));
    insta::assert_snapshot!(scene.text(), @"
    pending: version 3 is wanted instead of 2
    - remove @2: version 3 is wanted instead of 2
    ");
    // The monitor was started anew: traffic may go to the one that is removed.
    scene.routed = false;
    insta::assert_snapshot!(scene.text(), @"
    pending: version 3 is wanted instead of 2
    - route @1: traffic does not go where it should
    - remove @2: version 3 is wanted instead of 2
    ");
    scene.routed = true;
    scene.replaced = 2;
    insta::assert_snapshot!(scene.text(), @"
    install: version 2 is prepared
    again in 1500 s
    ");
    // One that has come further is let through.
    let further = Scene::wants(3).ready(1).live(1).ready(2);
    insta::assert_snapshot!(further.text(), @"
    route: version 2 is ready
    - route @2: version 2 is ready
    - promote @2: version 2 is ready
    ");
    // One that was started and doesn't answer is not, unless what was live has been stopped for it.
    let starts = || Scene::wants(3).ready(1).live(1).with(2, Running, Some(InsidePhase::Start));
    insta::assert_snapshot!(starts().text(), @"
    pending: version 3 is wanted instead of 2
    - remove @2: version 3 is wanted instead of 2
    ");
    let mut exclusive = starts();
    let known = exclusive.known.get_mut(&id(2)).unwrap();
    Arc::make_mut(&mut known.plan).volumes.insert("db".to_owned(), "/data".to_owned());
    insta::assert_snapshot!(exclusive.text(), @"start: version 2 starts");
}

#[test]
fn a_release_command_runs_before_the_start() {
    let held = || {
        Scene::wants(2).planned(|plan| plan.release = Some(Command::parse("migrate"))).ready(1).live(1).with(
            2,
            Running,
            Some(InsidePhase::Held),
        )
    };
    insta::assert_snapshot!(held().text(), @"
    release: version 2: it has a release command
    - release-command @2: it has a release command
    again in 2 s
    ");
    let mut elsewhere = held();
    elsewhere.release_command = ReleaseCommand::Elsewhere("other".to_owned());
    insta::assert_snapshot!(elsewhere.text(), @"
    release: version 2: its release command runs on other
    - release-command @2: its release command runs on other
    again in 2 s
    ");
    let mut done = held();
    done.release_command = ReleaseCommand::Done;
    insta::assert_snapshot!(done.text(), @"
    start: version 2 is installed
    - proceed @2 web: version 2 is installed
    ");
}

#[test]
fn what_would_write_to_the_same_volume_stops_first() {
    let with_volume = |plan: &mut Plan| {
        plan.volumes.insert("data".to_owned(), "/data".to_owned());
    };
    let held = Scene::wants(2).planned(with_volume).ready(1).live(1).with(2, Running, Some(InsidePhase::Held));
    insta::assert_snapshot!(held.text(), @"
    start: both would write to the same volumes
    - stop @1: both would write to the same volumes
    ");
    let stopped =
        Scene::wants(2).planned(with_volume).with(1, Exited, None).live(1).with(2, Running, Some(InsidePhase::Held));
    insta::assert_snapshot!(stopped.text(), @"
    start: version 2 is installed
    - proceed @2 web: version 2 is installed
    ");
    let starting =
        Scene::wants(2).planned(with_volume).with(1, Exited, None).live(1).with(2, Running, Some(InsidePhase::Start));
    insta::assert_snapshot!(starting.text(), @"start: version 2 starts");
    let failed = Scene::wants(2).planned(with_volume).with(1, Exited, None).live(1).bad(2);
    insta::assert_snapshot!(failed.text(), @"
    failed: version 2 failed here; `workspace retry app` tries it again
    - start @1: version 1 is live and does not run
    ");
}

#[test]
fn what_takes_a_port_of_the_host_stops_before_the_next_is_made() {
    let with_port = |plan: &mut Plan| plan.ports = vec!["5432:5432".to_owned()];
    let mut wanted = Scene::wants(2).planned(with_port).ready(1).live(1);
    let mut old = target(1);
    with_port(Arc::make_mut(&mut old.plan));
    wanted.known.insert(id(1), old);
    insta::assert_snapshot!(wanted.text(), @"
    fetch: both would take the same ports of the host
    - stop @1: both would take the same ports of the host
    ");
    wanted.container(1, |container| container.state = Exited);
    insta::assert_snapshot!(wanted.text(), @"
    fetch: version 2 is wanted
    - create @2: version 2 is wanted
    ");
    let prepared = wanted.with(2, Running, Some(InsidePhase::Install));
    insta::assert_snapshot!(prepared.text(), @"
    install: version 2 is prepared
    again in 1500 s
    ");
    let failed = Scene::wants(2).planned(with_port).with(1, Exited, None).live(1).with(2, Exited, None).bad(2);
    insta::assert_snapshot!(failed.text(), @"
    failed: version 2 failed here; `workspace retry app` tries it again
    - remove @2: version 2 failed
    - start @1: version 1 is live and does not run
    ");
}

#[test]
fn however_fast_releases_come_two_of_them_stand_by() {
    let mut scene = Scene::wants(5);
    for number in 1..=4 {
        scene = scene.with(number, Exited, None);
        scene.container(number, |container| container.kept_running = true);
    }
    scene = scene.ready(5).fresh(5, 20);
    let release = |number| Some(HostRelease { root: id(0), row: target(number).row, since: at(0) });
    (scene.memory.previous, scene.memory.good) = (release(4), release(2));
    insta::assert_snapshot!(scene.text(), @"
    watch: version 4 stands by
    - remove @1: version 1 is not needed to go back to
    - remove @3: version 3 is not needed to go back to
    again in 40 s
    ");
    // The one before goes first when it comes to that; else the newest that is not bad.
    scene.container(5, |container| container.restarts = 1);
    let mut scene = scene.bad(5);
    insta::assert_snapshot!(scene.text(), @"
    route: going back to version 4
    - start @4: version 5 failed here; `workspace retry app` tries it again
    ");
    scene.memory.bad.push(Bad { row: id(4), number: 4, retry: None });
    insta::assert_snapshot!(scene.text(), @"
    route: going back to version 3
    - start @3: version 5 failed here; `workspace retry app` tries it again
    ");
}

#[test]
fn workers_start_after_the_old_ones_stopped() {
    let scene = |old: ContainerState| {
        let mut scene = Scene::wants(2)
            .planned(|plan| {
                plan.processes.insert("queue".to_owned(), Command::parse("node queue.js"));
            })
            .ready(1)
            .ready(2);
        scene.releases[0].containers.push(worker(1, old, InsidePhase::Ready));
        scene.releases[1].containers.push(worker(2, Running, InsidePhase::Held));
        scene.fresh(2, 1)
    };
    insta::assert_snapshot!(scene(Running).text(), @"
    drain: version 1 finishes what it has
    - stop @1 workers: the new release's workers take over
    - proceed @2 workers: no other release works any more
    again in 4 s
    ");
    insta::assert_snapshot!(scene(Exited).text(), @"
    drain: version 1 finishes what it has
    - proceed @2 workers: no other release works any more
    again in 4 s
    ");
}

#[test]
fn stopped_deleted_and_unknown() {
    let mut scene = Scene::wants(1).ready(1).live(1);
    scene.desired = Desired::Stopped;
    insta::assert_snapshot!(scene.text(), @"
    stopped: the workspace was stopped
    - unroute: the workspace was stopped
    - remove @1: the workspace was stopped
    ");
    scene.desired = Desired::Gone;
    insta::assert_snapshot!(scene.text(), @"
    stopped: the workspace was deleted
    - unroute: the workspace was deleted
    - remove @1: the workspace was deleted
    - forget: the workspace was deleted
    ");
    scene.desired = Desired::Unknown("the bucket is away".to_owned());
    insta::assert_snapshot!(scene.text(), @"waiting: the bucket is away");
    let nothing = Scene::wants(1).planned(|plan| plan.start = None);
    insta::assert_snapshot!(nothing.text(), @"stored: version 1 has nothing to start");
    let nothing = Scene::wants(2).planned(|plan| plan.start = None).ready(1).live(1);
    insta::assert_snapshot!(nothing.text(), @"
    failed: nothing to start
    - fail @2 NoStart: version 2 has no start command
    ");
}

#[test]
fn what_follows_goes_on_in_its_own_containers() {
    let mut scene = Scene::wants(3).ready(1).live(1);
    scene.follows = true;
    insta::assert_snapshot!(scene.text(), @"
    live: version 3 is followed
    - feed @1 @3: version 3 is followed
    ");
    scene.fed = Some(id(3));
    insta::assert_snapshot!(scene.text(), @"live: version 3 is followed");
    // Back to the version that it began with.
    let mut back = Scene::wants(1).ready(1).live(1);
    (back.follows, back.fed) = (true, Some(id(3)));
    insta::assert_snapshot!(back.text(), @"
    live: version 1 is followed
    - feed @1 @1: version 1 is followed
    ");
    // Other containers are needed.
    let other = scene.planned(|plan| plan.memory = Some("1g".to_owned()));
    insta::assert_snapshot!(other.text(), @"
    fetch: version 3 is wanted
    - create @3: version 3 is wanted
    ");
}

#[test]
fn grants_are_renewed_in_time() {
    let mut scene = Scene::wants(1).ready(1).live(1);
    scene.renewals = [id(1), id(7)].map(|row| (row, Some(at(2000)))).into();
    insta::assert_snapshot!(scene.text(), @"
    live: version 1 is live
    again in 1000 s
    ");
    scene.now = 2000;
    insta::assert_snapshot!(scene.text(), @"
    live: version 1 is live
    - renew @1: its grant is past its half-life
    ");
    // After a restart.
    scene.renewals = [(id(1), None)].into();
    insta::assert_snapshot!(scene.text(), @"
    live: version 1 is live
    - renew @1: the monitor was started anew and doesn't know how old its grant is
    ");
}
