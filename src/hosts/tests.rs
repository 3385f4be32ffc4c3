use super::*;
use crate::format::host::Bad;
use crate::format::host::tests::{at, failure, host, release, row};
use crate::settings::StoreSettings;
use crate::store::Condition;

fn awaited(number: u64) -> Awaited {
    Awaited {
        name: "app".parse().unwrap(),
        root: Ulid::from_parts(1, 1),
        row: row(number).id,
        number,
        tags: vec!["staging".parse().unwrap()],
        retry: None,
    }
}

/// A host that does this with `app`.
fn with(change: impl FnOnce(&mut Managed)) -> Seen {
    let mut managed = Managed::new(at(0));
    change(&mut managed);
    let mut host = host();
    host.workspaces = BTreeMap::from([("app".parse().unwrap(), managed)]);
    Seen::first(host, at(30))
}

/// Whoever may write there could have every reader hold records without end.
#[tokio::test]
async fn records_that_have_too_much_together_are_told_and_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::connect(&StoreSettings::embedded(folder.path(), "workspaces")).await.unwrap();
    store.create_bucket().await.unwrap();
    let text = |padding: usize| {
        let mut text = host().to_bytes();
        text.extend(std::iter::repeat_n(b' ', padding));
        text
    };
    for (engine, padding) in [("a", 0), ("b", usize::try_from(MOST).unwrap()), ("c", 0)] {
        store.put(&keys::host(engine), text(padding).into(), Condition::None).await.unwrap();
    }
    let mut hosts = Hosts::read(&store, at(0)).await.unwrap();
    let skipped: Vec<(String, String)> = hosts.skipped().map(|(key, why)| (key.to_owned(), why.to_owned())).collect();
    let reason = "the records of all hosts have more than 64.0 KiB together".to_owned();
    assert_eq!(skipped, ["b", "c"].map(|engine| (keys::host(engine), reason.clone())));
    assert_eq!(hosts.iter().count(), 1);
    // Once there is room, they count.
    store.put(&keys::host("b"), text(0).into(), Condition::None).await.unwrap();
    hosts.refresh(&store, at(1)).await.unwrap();
    assert_eq!((hosts.iter().count(), hosts.skipped().count()), (3, 0));
}

/// What isn't read takes no room, and does not keep others out.
#[tokio::test]
async fn a_record_that_is_too_large_by_itself_takes_no_room_from_others() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::connect(&StoreSettings::embedded(folder.path(), "workspaces")).await.unwrap();
    store.create_bucket().await.unwrap();
    let large = vec![b' '; usize::try_from(MAX_BYTES).unwrap() + 1];
    store.put(&keys::host("a"), large.into(), Condition::None).await.unwrap();
    store.put(&keys::host("b"), host().to_bytes().into(), Condition::None).await.unwrap();
    let hosts = Hosts::read(&store, at(0)).await.unwrap();
    assert_eq!((hosts.iter().count(), hosts.skipped().count()), (1, 1));
    assert_eq!(hosts.skipped().next().unwrap().0, keys::host("a"));
}

#[tokio::test]
async fn records_without_end_are_not_listed_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::connect(&StoreSettings::embedded(folder.path(), "workspaces")).await.unwrap();
    store.create_bucket().await.unwrap();
    for at in 0..=MOST_RECORDS {
        store.put(&keys::host(&format!("e{at}")), host().to_bytes().into(), Condition::None).await.unwrap();
    }
    let mut hosts = Hosts::read(&store, at(0)).await.unwrap();
    assert_eq!(hosts.iter().count(), MOST_RECORDS);
    let reason = "there are more than 8 objects, and those after them aren't looked at";
    assert_eq!(hosts.skipped().collect::<Vec<_>>(), [(keys::HOSTS, reason)]);
    store.delete(&keys::host("e0"), Condition::None).await.unwrap();
    hosts.refresh(&store, at(1)).await.unwrap();
    assert_eq!((hosts.iter().count(), hosts.skipped().count()), (MOST_RECORDS, 0));
}

/// What it comes to, in one word.
fn word(seen: &Seen, awaited: &Awaited) -> &'static str {
    match judge(seen, awaited, at(40)) {
        Standing::Elsewhere => "elsewhere",
        Standing::Absent(_) => "absent",
        Standing::Serves(_) => "serves",
        Standing::Bad(..) => "bad",
        Standing::Waits(..) => "waits",
        Standing::Rests(_) => "rests",
        Standing::OnTheWay(_) => "on the way",
    }
}

#[test]
fn a_version_is_served_once_it_has_the_traffic() {
    for (phase, expected) in [
        (HostPhase::Fetch, "on the way"),
        (HostPhase::Soak, "on the way"),
        (HostPhase::Route, "on the way"),
        (HostPhase::Drain, "serves"),
        (HostPhase::Watch, "serves"),
        (HostPhase::Live, "serves"),
        (HostPhase::Stopped, "rests"),
        (HostPhase::Stored, "rests"),
        (HostPhase::Waiting, "on the way"),
    ] {
        let live = (expected == "serves").then(|| release(3));
        let seen = with(|managed| (managed.phase, managed.live) = (phase, live));
        assert_eq!(word(&seen, &awaited(3)), expected, "{phase:?}");
    }
}

#[test]
fn an_older_version_is_not_the_one_and_a_newer_one_will_do() {
    let live = |number: u64| with(|managed| (managed.phase, managed.live) = (HostPhase::Live, Some(release(number))));
    assert_eq!(word(&live(2), &awaited(3)), "on the way");
    assert_eq!(word(&live(4), &awaited(3)), "serves");
    // The same number of a workspace that was deleted and made anew is another version.
    let anew = Awaited { root: Ulid::from_parts(2, 2), row: Ulid::from_parts(99, 99), ..awaited(3) };
    assert_eq!(word(&live(4), &anew), "on the way");
}

#[test]
fn it_is_served_while_the_next_one_is_made_ready_or_has_failed() {
    let seen = with(|managed| {
        (managed.phase, managed.live, managed.next) = (HostPhase::Install, Some(release(3)), Some(release(4)));
    });
    assert_eq!(word(&seen, &awaited(3)), "serves");
    assert_eq!(word(&seen, &awaited(4)), "on the way");
    let seen = with(|managed| {
        (managed.phase, managed.live, managed.failure) = (HostPhase::Failed, Some(release(3)), Some(failure(4)));
    });
    assert_eq!(word(&seen, &awaited(3)), "serves");
    assert_eq!(word(&seen, &awaited(4)), "bad");
}

#[test]
fn what_is_tried_again_is_not_bad() {
    let failed = |bad: bool, mark: Option<Ulid>| {
        with(|managed| {
            managed.phase = HostPhase::Failed;
            managed.failure = Some(Failure { bad, ..failure(3) });
            managed.bad = vec![Bad { row: row(3).id, number: 3, retry: mark }];
        })
    };
    assert_eq!(word(&failed(true, None), &awaited(3)), "bad");
    assert_eq!(word(&failed(false, None), &awaited(3)), "on the way");
    // A newer one that failed for good keeps this one from ever being served.
    assert_eq!(word(&failed(true, None), &awaited(2)), "bad");
    assert_eq!(word(&failed(true, None), &awaited(4)), "on the way");
    // The host hasn't seen the last `retry` yet.
    let again = Awaited { retry: Some(Ulid::from_parts(8, 8)), ..awaited(3) };
    assert_eq!(word(&failed(true, None), &again), "on the way");
    assert_eq!(word(&failed(true, again.retry), &again), "bad");
}

#[test]
fn what_waits_to_be_tried_again_has_failed_for_now() {
    let waiting = |number: u64, phase: HostPhase| {
        let waits = Failure { bad: false, next_try: Some(at(900)), ..failure(number) };
        with(|managed| (managed.phase, managed.failure) = (phase, Some(waits)))
    };
    assert_eq!(word(&waiting(3, HostPhase::Waiting), &awaited(3)), "waits");
    // It is being tried again; or it is another one that waits; or somebody asked for it meanwhile.
    assert_eq!(word(&waiting(3, HostPhase::Install), &awaited(3)), "on the way");
    assert_eq!(word(&waiting(2, HostPhase::Waiting), &awaited(3)), "on the way");
    let again = Awaited { retry: Some(Ulid::from_parts(8, 8)), ..awaited(3) };
    assert_eq!(word(&waiting(3, HostPhase::Waiting), &again), "on the way");
}

#[test]
fn a_host_counts_for_what_it_was_told_to_manage() {
    let told = |only: &[&str]| {
        let mut seen = with(|managed| (managed.phase, managed.live) = (HostPhase::Live, Some(release(3))));
        seen.host.only = only.iter().map(|text| (*text).to_owned()).collect();
        word(&seen, &awaited(3))
    };
    assert_eq!(told(&[]), "serves");
    assert_eq!(told(&["a*"]), "serves");
    assert_eq!(told(&["app@staging"]), "serves");
    assert_eq!(told(&["app@3"]), "serves");
    assert_eq!(told(&["app@7"]), "elsewhere");
    assert_eq!(told(&["app@live", "app"]), "elsewhere");
    assert_eq!(told(&["web"]), "elsewhere");
    assert_eq!(told(&["~later syntax~"]), "elsewhere");
}

#[test]
fn a_host_that_is_away_or_ended_is_not_waited_for() {
    let mut seen = with(|managed| (managed.phase, managed.live) = (HostPhase::Live, Some(release(3))));
    assert_eq!(seen.presence(at(120)), Presence::There);
    assert_eq!(seen.presence(at(121)), Presence::Away);
    assert_eq!(judge(&seen, &awaited(3), at(121)), Standing::Absent(Presence::Away));
    seen.host.ended = true;
    assert_eq!(seen.presence(at(31)), Presence::Ended);
}

#[test]
fn a_wrong_clock_over_there_counts_once() {
    // An hour ahead: the beat is no later than now.
    let ahead = Seen::first(Host { beat: at(3600), ..host() }, at(0));
    assert_eq!(ahead.last_sign, at(0));
    assert_eq!(ahead.presence(at(91)), Presence::Away);
    // An hour behind: away at first, there once it is seen to beat.
    let behind = Seen::first(Host { beat: at(-3600), ..host() }, at(0));
    assert_eq!(behind.presence(at(0)), Presence::Away);
    assert_eq!(behind.again(Host { beat: at(-3600), ..host() }, at(20)).presence(at(20)), Presence::Away);
    let beating = behind.again(Host { beat: at(-3570), ..host() }, at(30));
    assert_eq!(beating.presence(at(30)), Presence::There);
    assert_eq!(beating.presence(at(121)), Presence::Away);
}
