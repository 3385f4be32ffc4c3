//! What the embedded store has acknowledged survives a killed process, and what it has not leaves no trace.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/servers.rs"]
mod servers;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use servers::Server;
use workspace::embedded::{Embedded, EmbeddedError};
use workspace::settings::StoreSettings;
use workspace::store::{Condition, Store};

fn content(writer: usize, round: usize) -> Bytes {
    // Sizes on both sides of what is one write, so that a kill meets every step.
    let line = format!("writer {writer} round {round}\n");
    Bytes::from(line.repeat(1 + (writer * 7 + round * 13) % 4000))
}

fn files_below(path: &Path) -> usize {
    std::fs::read_dir(path).map_or(0, Iterator::count)
}

async fn killed_during_puts(kills: u64) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let settings = StoreSettings::embedded(&path, "durable");
    Store::connect(&settings).await.unwrap().create_bucket().await.unwrap();
    let mut expected: std::collections::BTreeMap<String, Vec<Bytes>> = std::collections::BTreeMap::new();
    for kill in 0..kills {
        std::fs::create_dir_all(&path).unwrap();
        let server = Server::workspace(&path);
        let mut limits = server.settings("durable");
        limits.limits.attempts = 1;
        let store = Store::connect(&limits).await.unwrap();
        let dead = Arc::new(AtomicBool::new(false));
        let heard = Arc::new(AtomicUsize::new(0));
        let writers: Vec<_> = (0..6)
            .map(|writer| {
                let (store, dead, heard) = (store.clone(), Arc::clone(&dead), Arc::clone(&heard));
                tokio::spawn(async move {
                    let mut acknowledged = Vec::new();
                    let mut round = 0;
                    loop {
                        let key = format!("{kill}/writer-{writer}/{}", round % 5);
                        let body = content(writer, round);
                        match store.put_once(&key, body.clone(), Condition::None).await {
                            Ok(_) => {
                                acknowledged.push((key, body, true));
                                heard.fetch_add(1, Ordering::SeqCst);
                            }
                            Err(error) => {
                                assert!(dead.load(Ordering::SeqCst), "{error}");
                                // Whether this one took effect, nobody knows: either is fine.
                                acknowledged.push((key, body, false));
                                return acknowledged;
                            }
                        }
                        round += 1;
                    }
                })
            })
            .collect();
        // In full swing; then another moment each time, which one doesn't matter.
        while heard.load(Ordering::SeqCst) < 12 {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(kill * 17 % 120)).await;
        dead.store(true, Ordering::SeqCst);
        server.kill();
        for writer in writers {
            for (key, body, certain) in writer.await.unwrap() {
                let allowed = expected.entry(key).or_default();
                if certain {
                    allowed.clear();
                }
                allowed.push(body);
            }
        }
        let store = Store::connect(&settings).await.unwrap();
        // What earlier rounds left is looked at once more at the end.
        let of_this_kill = format!("{kill}/");
        let everything = kill + 1 == kills;
        for (key, allowed) in expected.iter().filter(|(key, _)| everything || key.starts_with(&of_this_kill)) {
            match store.get(key).await {
                Ok(object) => assert!(allowed.contains(&object.body), "`{key}` is not what was acknowledged"),
                // Only the first write of a key may have been the one that was cut off.
                Err(error) => assert!(
                    allowed.len() == 1 && matches!(error, workspace::store::StoreError::NotFound { .. }),
                    "`{key}`: {error}"
                ),
            }
        }
        let listed = store.list("").await.unwrap();
        assert!(listed.len() >= 2, "{}", listed.len());
    }
    assert_eq!(files_below(&path.join("buckets/durable/temporary")), 0, "orphans were left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_keeps_what_it_acknowledged() {
    killed_during_puts(5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_a_server_killed_many_times_keeps_what_it_acknowledged() {
    killed_during_puts(40).await;
}

#[tokio::test]
async fn a_newer_data_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    Embedded::open(folder.path()).unwrap();
    std::fs::write(folder.path().join("format.json"), r#"{"format":2}"#).unwrap();
    assert!(matches!(Embedded::open(folder.path()), Err(EmbeddedError::Newer { format: 2, .. })));
    let before = std::fs::read(folder.path().join("format.json")).unwrap();
    assert_eq!(before, br#"{"format":2}"#);
}

#[tokio::test]
async fn only_this_user_can_look() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let store = Store::connect(&StoreSettings::embedded(&path, "private")).await.unwrap();
    store.create_bucket().await.unwrap();
    store.put("key", "x".into(), Condition::None).await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&path.join("credentials.json")), 0o600);
    assert_eq!(mode(&path.join("buckets/private/objects/key@")), 0o600);
}

#[tokio::test]
async fn a_server_stops_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::workspace(folder.path());
    let store = Store::connect(&server.settings("stopped")).await.unwrap();
    // A connection that idles must not hold it up.
    store.create_bucket().await.unwrap();
    let started = std::time::Instant::now();
    assert!(server.terminate().success());
    assert!(started.elapsed() < std::time::Duration::from_secs(5));
}
