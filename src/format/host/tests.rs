use super::*;
use crate::format::Hash;

pub(crate) fn row(number: u64) -> Row {
    Row {
        id: Ulid::from_parts(number, number.into()),
        number,
        base: Ulid::from_parts(90, 90),
        delta: None,
        tree: Hash::of(b"tree"),
        files: 3,
        bytes: 4_096,
        created: Timestamp::from_second(1_700_000_000).unwrap(),
        runtime: Some("node".into()),
        message: None,
        author: None,
        commit: None,
        origin: None,
        tags: vec![],
        locked: false,
        locked_until: None,
        other: BTreeMap::new(),
    }
}

pub(crate) fn release(number: u64) -> HostRelease {
    HostRelease { root: Ulid::from_parts(1, 1), row: row(number), since: at(5) }
}

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

pub(crate) fn failure(number: u64) -> Failure {
    Failure {
        row: row(number).id,
        number,
        step: "ready".into(),
        reason: "nothing listens on port 3000".into(),
        tail: vec!["Server on 127.0.0.1:4000".into()],
        listening: Some("127.0.0.1:4000".into()),
        hint: "listen on the port that PORT names".into(),
        at: at(20),
        bad: true,
        tries: 1,
        next_try: None,
        retry: None,
    }
}

pub(crate) fn host() -> Host {
    let mut managed = Managed::new(at(6));
    managed.phase = HostPhase::Failed;
    managed.cause = "version 3 failed".into();
    managed.live = Some(release(2));
    managed.good = Some(release(2));
    managed.health = Some("healthy".into());
    managed.addresses = vec!["http://app.localhost".into()];
    managed.failure = Some(failure(3));
    managed.bad = vec![Bad { row: row(3).id, number: 3, retry: None }];
    Host {
        format: 1,
        engine: "ABCD:EFGH".into(),
        hostname: "one".into(),
        tool: "0.1.0".into(),
        holder: Holder { instance: Ulid::from_parts(7, 7), pid: 42, process: String::new(), container: None },
        started: at(0),
        beat: at(30),
        ended: false,
        only: vec![],
        workspaces: BTreeMap::from([("app".parse().unwrap(), managed)]),
        withheld: vec![],
        other: BTreeMap::new(),
    }
}

#[test]
fn golden_bytes() {
    insta::assert_snapshot!(String::from_utf8(host().to_bytes()).unwrap(), @r#"{"format":1,"engine":"ABCD:EFGH","hostname":"one","tool":"0.1.0","holder":{"instance":"00000000070000000000000007","pid":42},"started":"2023-11-14T22:13:20Z","beat":"2023-11-14T22:13:50Z","workspaces":{"app":{"phase":"failed","since":"2023-11-14T22:13:26Z","cause":"version 3 failed","live":{"root":"00000000010000000000000001","row":{"id":"00000000020000000000000002","number":2,"base":"000000002T000000000000002T","tree":"6baa6c9f461fe834a9da0ebb62e0f6fb8c11988a58cbc51b8da8040aea19bc3a","files":3,"bytes":4096,"created":"2023-11-14T22:13:20Z","runtime":"node"},"since":"2023-11-14T22:13:25Z"},"good":{"root":"00000000010000000000000001","row":{"id":"00000000020000000000000002","number":2,"base":"000000002T000000000000002T","tree":"6baa6c9f461fe834a9da0ebb62e0f6fb8c11988a58cbc51b8da8040aea19bc3a","files":3,"bytes":4096,"created":"2023-11-14T22:13:20Z","runtime":"node"},"since":"2023-11-14T22:13:25Z"},"health":"healthy","addresses":["http://app.localhost"],"failure":{"row":"00000000030000000000000003","number":3,"step":"ready","reason":"nothing listens on port 3000","tail":["Server on 127.0.0.1:4000"],"listening":"127.0.0.1:4000","hint":"listen on the port that PORT names","at":"2023-11-14T22:13:40Z","bad":true,"tries":1},"bad":[{"row":"00000000030000000000000003","number":3}]}}}"#);
    let mut other = host();
    other.ended = true;
    other.only = vec!["a*".into()];
    other.withheld = vec!["b".parse().unwrap()];
    other.holder.process = "boot 1".into();
    other.holder.container = Some("c".into());
    other.workspaces = BTreeMap::from([("x".parse().unwrap(), Managed::new(at(1)))]);
    insta::assert_snapshot!(String::from_utf8(other.to_bytes()).unwrap(), @r#"{"format":1,"engine":"ABCD:EFGH","hostname":"one","tool":"0.1.0","holder":{"instance":"00000000070000000000000007","pid":42,"process":"boot 1","container":"c"},"started":"2023-11-14T22:13:20Z","beat":"2023-11-14T22:13:50Z","ended":true,"only":["a*"],"workspaces":{"x":{"phase":"pending","since":"2023-11-14T22:13:21Z"}},"withheld":["b"]}"#);
    assert_eq!(Host::parse(&other.to_bytes()), Ok(other));
}

#[test]
fn golden_bytes_of_a_confirmation() {
    let confirmation = Confirmation::new(vec!["a".parse().unwrap()], at(0));
    insta::assert_snapshot!(String::from_utf8(confirmation.to_bytes()).unwrap(), @r#"{"format":1,"names":["a"],"at":"2023-11-14T22:13:20Z"}"#);
    assert_eq!(Confirmation::parse(&confirmation.to_bytes()), Ok(confirmation));
    assert_eq!(
        Confirmation::parse(br#"{"format":2,"names":[],"at":"2023-11-14T22:13:20Z"}"#),
        Err(FormatError::Newer { found: 2 })
    );
}

#[test]
fn reads_what_it_writes_and_carries_along_what_a_later_release_added() {
    assert_eq!(Host::parse(&host().to_bytes()), Ok(host()));
    let mut json: Value = serde_json::from_slice(&host().to_bytes()).unwrap();
    json["later"] = Value::from(7);
    json["workspaces"]["app"]["later"] = Value::from("x");
    let read = Host::parse(json.to_string().as_bytes()).unwrap();
    let again: Value = serde_json::from_slice(&read.to_bytes()).unwrap();
    assert_eq!(again, json);
    // A phase of a later release is no reason to see nothing of that host.
    json["workspaces"]["app"]["phase"] = Value::from("dancing");
    let read = Host::parse(json.to_string().as_bytes()).unwrap();
    assert_eq!(read.workspaces.values().next().unwrap().phase, HostPhase::Unknown);
}

#[test]
fn phases_are_called_in_the_record_as_on_the_screen() {
    for phase in [HostPhase::Pending, HostPhase::Soak, HostPhase::Stored, HostPhase::Waiting, HostPhase::Drain] {
        assert_eq!(serde_json::to_value(phase).unwrap(), Value::from(phase.as_str()));
    }
}

#[test]
fn refuses_a_newer_format_and_damage() {
    assert_eq!(Host::parse(br#"{"format":2,"anything":[]}"#), Err(FormatError::Newer { found: 2 }));
    for damaged in [&b""[..], b"[]", br#"{"format":1}"#] {
        assert!(matches!(Host::parse(damaged), Err(FormatError::Damaged(_))));
    }
}

#[test]
fn three_beats_without_a_word_are_away() {
    assert!(host().is_alive(at(120)));
    assert!(!host().is_alive(at(121)));
    let ended = Host { ended: true, ..host() };
    assert!(!ended.is_alive(at(30)));
}
