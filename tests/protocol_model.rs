//! Random interleavings of the storage protocol, as a model: no clock, no lock, replies that get lost after the server acted,
//! and a collection for which every unneeded object may be old enough.
//!
//! At every step every kept version must have all its packs. The rules that make this hold are left out one by one, too:
//! then the model must find a broken version, or it would prove nothing.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::collections::{BTreeMap, BTreeSet};

/// xorshift64*: repeatable, and all the randomness a model needs.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % bound
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// A rule that is left out, to see that the model would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Without {
    Nothing,
    /// The collection deletes without swapping the ref first.
    Fence,
    /// An uploader that finds the counter moved sends nothing again.
    Resending,
    /// It believes the list alone and asks for no object.
    Head,
    /// A rollback doesn't look whether what it brings back still has a row.
    Source,
}

#[derive(Clone, Debug)]
struct Row {
    id: u64,
    number: u64,
    packs: BTreeSet<u64>,
}

#[derive(Clone, Debug)]
struct Ref {
    root: u64,
    deleted: bool,
    number: u64,
    rows: Vec<Row>,
    nonces: Vec<u64>,
    count: u64,
    collection: Option<u64>,
    etag: u64,
}

/// The bucket: one workspace's ref, packs and lists by root. Each method is one atomic request.
struct World {
    random: Random,
    ids: u64,
    reference: Option<Ref>,
    packs: BTreeSet<(u64, u64)>,
    lists: BTreeMap<(u64, u64), BTreeSet<u64>>,
    commits: u64,
}

impl World {
    fn id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    /// A conditional PUT. Whether it took effect; whether the reply arrives is another matter.
    fn put(&mut self, mut new: Ref, matching: Option<u64>) -> bool {
        if self.reference.as_ref().map(|there| there.etag) != matching {
            return false;
        }
        new.etag = self.id();
        self.reference = Some(new);
        true
    }

    fn broken(&self) -> bool {
        let Some(reference) = self.reference.as_ref().filter(|reference| !reference.deleted) else { return false };
        let missing = |row: &Row| row.packs.iter().any(|pack| !self.packs.contains(&(reference.root, *pack)));
        let ascending = reference.rows.windows(2).all(|pair| pair[0].number < pair[1].number);
        !ascending || reference.rows.iter().any(missing)
    }
}

/// A swap in progress: the same bytes are sent until the outcome is known.
struct Swap {
    new: Ref,
    matching: Option<u64>,
    nonce: u64,
    row: Option<u64>,
}

enum Swapped {
    Done,
    Lost,
    Again,
}

impl Swap {
    fn of(world: &mut World, mut new: Ref, matching: Option<u64>, row: Option<u64>) -> Self {
        let nonce = world.id();
        new.nonces.push(nonce);
        let surplus = new.nonces.len().saturating_sub(16);
        new.nonces.drain(..surplus);
        Self { new, matching, nonce, row }
    }

    fn send(&self, world: &mut World) -> bool {
        let took_effect = world.put(self.new.clone(), self.matching);
        let reply_lost = world.random.chance(15);
        took_effect && !reply_lost
    }

    /// Reads the ref after a reply that was no success.
    fn look(&self, world: &World) -> Swapped {
        match &world.reference {
            Some(there) if there.nonces.contains(&self.nonce) => Swapped::Done,
            Some(there) if self.row.is_some_and(|id| there.rows.iter().any(|row| row.id == id)) => Swapped::Done,
            there if there.as_ref().map(|there| there.etag) == self.matching => Swapped::Again,
            _ => Swapped::Lost,
        }
    }
}

/// What an actor does next. One step is at most one request.
enum Step {
    Idle,
    Claim(Swap, bool),
    Send { left: usize, upload: Upload },
    Commit { swap: Box<Swap>, sent: bool, upload: Upload },
    Reread { upload: Upload },
    Check { read: Ref, listed: BTreeSet<u64>, upload: Upload },
    List(Ref),
    Announce { swap: Box<Swap>, sent: bool, list: u64 },
    Grace(usize),
    Sweep { root: u64, list: u64, todo: Vec<u64> },
    Unname { root: u64, list: u64 },
    Tombstone { swap: Box<Swap>, sent: bool },
    Erase { root: u64 },
}

struct Upload {
    read: Ref,
    began: u64,
    row: u64,
    reused: BTreeSet<u64>,
    own: BTreeSet<u64>,
    /// The row that a rollback brings back.
    source: Option<u64>,
}

#[derive(Clone, Copy)]
enum Role {
    Uploader,
    Roller,
    Collector,
    Deleter,
}

struct Actor {
    role: Role,
    left: usize,
    step: Step,
}

impl Actor {
    /// One step; false once there is nothing left to do.
    fn act(&mut self, world: &mut World, without: Without) -> bool {
        let step = std::mem::replace(&mut self.step, Step::Idle);
        if matches!(step, Step::Idle) {
            if self.left == 0 {
                return false;
            }
            self.left -= 1;
        }
        self.step = match (step, self.role) {
            (Step::Idle, Role::Uploader) => begin_upload(world),
            (Step::Idle, Role::Roller) => begin_rollback(world),
            (Step::Idle, Role::Collector) => begin_collection(world),
            (Step::Idle, Role::Deleter) => begin_deletion(world),
            (step, _) => advance(step, world, without),
        };
        true
    }
}

fn empty(root: u64) -> Ref {
    Ref { root, deleted: false, number: 0, rows: vec![], nonces: vec![], count: 0, collection: None, etag: 0 }
}

fn begin_upload(world: &mut World) -> Step {
    match world.reference.clone() {
        Some(read) if !read.deleted => {
            let row = world.id();
            let live: Vec<u64> = read.rows.iter().flat_map(|row| row.packs.iter().copied()).collect();
            let reused = if live.is_empty() {
                BTreeSet::new()
            } else {
                (0..2).map(|_| live[world.random.below(live.len())]).collect()
            };
            let left = 1 + world.random.below(2);
            Step::Send {
                left,
                upload: Upload { began: read.count, read, row, reused, own: BTreeSet::new(), source: None },
            }
        }
        other => {
            let root = world.id();
            let swap = Swap::of(world, empty(root), other.map(|read| read.etag), None);
            Step::Claim(swap, false)
        }
    }
}

/// A new row on what an older one consists of; nothing is sent.
fn begin_rollback(world: &mut World) -> Step {
    match world.reference.clone() {
        Some(read) if !read.deleted && !read.rows.is_empty() => {
            let source = read.rows[world.random.below(read.rows.len())].clone();
            let row = world.id();
            let (reused, source) = (source.packs, Some(source.id));
            Step::Send {
                left: 0,
                upload: Upload { began: read.count, read, row, reused, own: BTreeSet::new(), source },
            }
        }
        _ => Step::Idle,
    }
}

fn begin_collection(world: &mut World) -> Step {
    match world.reference.clone() {
        Some(read) if !read.deleted && read.collection.is_none() => Step::List(read),
        Some(read) if !read.deleted => Step::Grace(world.random.below(12)),
        _ => Step::Idle,
    }
}

fn begin_deletion(world: &mut World) -> Step {
    match world.reference.clone() {
        Some(read) if !read.deleted => {
            let tombstone = Ref { deleted: true, nonces: read.nonces.clone(), ..empty(read.root) };
            let swap = Swap::of(world, tombstone, Some(read.etag), None);
            Step::Tombstone { swap: Box::new(swap), sent: false }
        }
        _ => Step::Idle,
    }
}

fn advance(step: Step, world: &mut World, without: Without) -> Step {
    match step {
        Step::Idle => Step::Idle,
        Step::Claim(swap, false) => {
            if swap.send(world) {
                begin_upload(world)
            } else {
                Step::Claim(swap, true)
            }
        }
        Step::Claim(swap, true) => match swap.look(world) {
            Swapped::Again => Step::Claim(swap, false),
            Swapped::Done | Swapped::Lost => begin_upload(world),
        },
        Step::Send { left: 0, upload } => commit(world, upload, without),
        Step::Send { left, mut upload } => {
            let pack = world.id();
            world.packs.insert((upload.read.root, pack));
            upload.own.insert(pack);
            Step::Send { left: left - 1, upload }
        }
        Step::Commit { swap, sent: false, upload } => {
            if swap.send(world) {
                world.commits += 1;
                Step::Idle
            } else {
                Step::Commit { swap, sent: true, upload }
            }
        }
        Step::Commit { swap, sent: true, upload } => match swap.look(world) {
            Swapped::Done => {
                world.commits += 1;
                Step::Idle
            }
            Swapped::Again => Step::Commit { swap, sent: false, upload },
            Swapped::Lost => Step::Reread { upload },
        },
        Step::Reread { upload } => reread(world, upload, without),
        Step::Check { read, listed, upload } => check(world, read, &listed, upload, without),
        Step::List(read) => list(world, &read, without),
        Step::Announce { swap, sent: false, list } => {
            if swap.send(world) {
                Step::Grace(world.random.below(12))
            } else {
                Step::Announce { swap, sent: true, list }
            }
        }
        Step::Announce { swap, sent: true, list } => match swap.look(world) {
            Swapped::Done => Step::Grace(world.random.below(12)),
            Swapped::Again => Step::Announce { swap, sent: false, list },
            Swapped::Lost => {
                world.lists.remove(&(swap.new.root, list));
                Step::Idle
            }
        },
        Step::Grace(0) => begin_sweep(world),
        Step::Grace(left) => Step::Grace(left - 1),
        Step::Sweep { root, list, mut todo } => match todo.pop() {
            Some(pack) => {
                world.packs.remove(&(root, pack));
                Step::Sweep { root, list, todo }
            }
            None => Step::Unname { root, list },
        },
        Step::Unname { root, list } => match world.reference.clone() {
            Some(read) if !read.deleted && read.collection == Some(list) => {
                let swap = Swap::of(world, Ref { collection: None, ..read.clone() }, Some(read.etag), None);
                // Done, lost or unanswered: looked at again, until the name is gone.
                swap.send(world);
                Step::Unname { root, list }
            }
            _ => {
                world.lists.remove(&(root, list));
                Step::Idle
            }
        },
        Step::Tombstone { swap, sent: false } => {
            if swap.send(world) {
                Step::Erase { root: swap.new.root }
            } else {
                Step::Tombstone { swap, sent: true }
            }
        }
        Step::Tombstone { swap, sent: true } => match swap.look(world) {
            Swapped::Done => Step::Erase { root: swap.new.root },
            Swapped::Again => Step::Tombstone { swap, sent: false },
            Swapped::Lost => Step::Idle,
        },
        Step::Erase { root } => {
            if let Some(&pack) = world.packs.iter().find(|(owner, _)| *owner == root) {
                world.packs.remove(&pack);
                return Step::Erase { root };
            }
            // DELETE If-Match.
            if world.reference.as_ref().is_some_and(|read| read.deleted && read.root == root) {
                world.reference = None;
            }
            Step::Idle
        }
    }
}

/// The swap that adds the row, with what is reused checked against the rows of the ref that was read.
fn commit(world: &mut World, mut upload: Upload, without: Without) -> Step {
    if let Some(source) = upload.source {
        if without != Without::Source && !upload.read.rows.iter().any(|row| row.id == source) {
            return Step::Idle;
        }
        return add(world, upload);
    }
    let live: BTreeSet<u64> = upload.read.rows.iter().flat_map(|row| row.packs.iter().copied()).collect();
    let lost = upload.reused.iter().filter(|pack| !live.contains(pack)).count();
    if lost > 0 {
        upload.reused.retain(|pack| live.contains(pack));
        return Step::Send { left: lost, upload };
    }
    add(world, upload)
}

fn add(world: &mut World, upload: Upload) -> Step {
    let mut new = upload.read.clone();
    new.number += 1;
    let packs = upload.reused.union(&upload.own).copied().collect();
    new.rows.push(Row { id: upload.row, number: new.number, packs });
    let surplus = new.rows.len().saturating_sub(3);
    new.rows.drain(..surplus);
    let swap = Swap::of(world, new, Some(upload.read.etag), Some(upload.row));
    Step::Commit { swap: Box::new(swap), sent: false, upload }
}

fn reread(world: &mut World, mut upload: Upload, without: Without) -> Step {
    match world.reference.clone() {
        Some(read) if !read.deleted && read.root == upload.read.root => {
            if read.count != upload.began && without != Without::Resending {
                let listed = read.collection.and_then(|list| world.lists.get(&(read.root, list)).cloned());
                return Step::Check { read, listed: listed.unwrap_or_default(), upload };
            }
            upload.read = read;
            commit(world, upload, without)
        }
        _ => {
            for pack in &upload.own {
                world.packs.remove(&(upload.read.root, *pack));
            }
            Step::Idle
        }
    }
}

/// The HEADs come after the ref was read.
fn check(world: &World, read: Ref, listed: &BTreeSet<u64>, mut upload: Upload, without: Without) -> Step {
    let gone = |pack: &u64| without != Without::Head && !world.packs.contains(&(read.root, *pack));
    let lost: BTreeSet<u64> = upload.own.iter().copied().filter(|pack| listed.contains(pack) || gone(pack)).collect();
    upload.own.retain(|pack| !lost.contains(pack));
    upload.began = read.count;
    upload.read = read;
    Step::Send { left: lost.len(), upload }
}

fn list(world: &mut World, read: &Ref, without: Without) -> Step {
    let needed: BTreeSet<u64> = read.rows.iter().flat_map(|row| row.packs.iter().copied()).collect();
    let all: Vec<u64> = world.packs.iter().filter(|(root, _)| *root == read.root).map(|(_, pack)| *pack).collect();
    let listed: BTreeSet<u64> =
        all.into_iter().filter(|pack| !needed.contains(pack) && world.random.chance(80)).collect();
    if listed.is_empty() {
        return Step::Idle;
    }
    let id = world.id();
    if without == Without::Fence {
        return Step::Sweep { root: read.root, list: id, todo: listed.into_iter().collect() };
    }
    world.lists.insert((read.root, id), listed);
    let new = Ref { collection: Some(id), count: read.count + 1, ..read.clone() };
    let swap = Swap::of(world, new, Some(read.etag), None);
    Step::Announce { swap: Box::new(swap), sent: false, list: id }
}

fn begin_sweep(world: &World) -> Step {
    let Some(read) = world.reference.as_ref().filter(|read| !read.deleted) else { return Step::Idle };
    let Some(list) = read.collection else { return Step::Idle };
    let needed: BTreeSet<u64> = read.rows.iter().flat_map(|row| row.packs.iter().copied()).collect();
    let listed = world.lists.get(&(read.root, list)).cloned().unwrap_or_default();
    Step::Sweep { root: read.root, list, todo: listed.difference(&needed).copied().collect() }
}

/// Whether a version broke, and how many were committed.
fn run(seed: u64, without: Without) -> (bool, u64) {
    let mut world = World {
        random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
        ids: 0,
        reference: None,
        packs: BTreeSet::new(),
        lists: BTreeMap::new(),
        commits: 0,
    };
    let actor = |role, left| Actor { role, left, step: Step::Idle };
    let mut actors = vec![
        actor(Role::Uploader, 6),
        actor(Role::Uploader, 6),
        actor(Role::Uploader, 6),
        actor(Role::Roller, 4),
        actor(Role::Collector, 8),
        actor(Role::Collector, 8),
        actor(Role::Deleter, 1),
    ];
    for _ in 0..100_000 {
        if actors.is_empty() {
            return (false, world.commits);
        }
        let at = world.random.below(actors.len());
        // The deleter comes at any time, mostly not first.
        if matches!(actors[at].role, Role::Deleter) && world.random.chance(95) && actors.len() > 1 {
            continue;
        }
        if !actors[at].act(&mut world, without) {
            actors.swap_remove(at);
        }
        if world.broken() {
            return (true, world.commits);
        }
    }
    panic!("seed {seed} never ends");
}

fn many(runs: u64, without: Without) -> (u64, u64) {
    (1..=runs)
        .map(|seed| run(seed, without))
        .fold((0, 0), |(broken, commits), (this, more)| (broken + u64::from(this), commits + more))
}

#[test]
fn every_kept_version_is_whole_at_every_step() {
    let (broken, commits) = many(3_000, Without::Nothing);
    assert_eq!(broken, 0);
    assert!(commits > 30_000, "{commits} commits only");
}

#[test]
fn slow_every_kept_version_is_whole_in_many_more_runs() {
    assert_eq!(many(60_000, Without::Nothing).0, 0);
}

#[test]
fn each_rule_is_needed() {
    for without in [Without::Fence, Without::Resending, Without::Head, Without::Source] {
        assert!(many(3_000, without).0 > 0, "{without:?}");
    }
}
