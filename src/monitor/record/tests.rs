//! The host's record while the store fails: nobody takes it for another monitor's because of that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use super::*;
use crate::environment::Environment;
use crate::monitor::catalogue::faulty::{self, Fault, Request, Served};

/// What the Engine is asked by whoever connects to it: both questions have this one answer.
const ENGINE: &str = r#"{"ApiVersion":"1.44","ServerVersion":"28.0","ID":"ENGINE","Name":"here"}"#;

/// An Engine that says who it is, and nothing else.
async fn engine(folder: &std::path::Path) -> Engine {
    let socket = folder.join("docker.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while client.read(&mut request).await.is_ok_and(|length| length > 0) {
                    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length";
                    let answer = format!("{head}: {}\r\n\r\n{ENGINE}", ENGINE.len());
                    client.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    let host = format!("unix://{}", socket.display());
    Engine::connect(&Environment::from_pairs([("DOCKER_HOST", host.as_str())])).await.unwrap()
}

async fn begin(store: &Store, engine: &Engine) -> Result<HostRecord, RecordError> {
    let mut record = HostRecord::open(store, engine, &[], true, false).await?;
    record.take(store).await?;
    Ok(record)
}

async fn say(record: &mut HostRecord, store: &Store, withheld: &str) -> Result<(), RecordError> {
    record.write(store, BTreeMap::new(), vec![withheld.parse().unwrap()], false).await
}

async fn said(store: &Store) -> Host {
    Host::parse(&store.get(&keys::host("ENGINE")).await.unwrap().body).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_monitor_is_not_taken_over_by_a_fault() {
    let served = Served::new().await;
    let engine = engine(served.path()).await;
    let mut cases = 0;
    for fault in faulty::faults() {
        for at in 0.. {
            let case = format!("{fault:?} at request {at}");
            // A monitor that was here before has ended, as its record says.
            let mut before = begin(&served.direct, &engine).await.unwrap();
            before.write(&served.direct, BTreeMap::new(), Vec::new(), true).await.unwrap();
            let seen = AtomicU64::new(0);
            let director = move |_: &Request| match seen.fetch_add(1, Ordering::SeqCst) {
                number if number == at => fault,
                _ => Fault::None,
            };
            let (store, proxy) = served.behind(Arc::new(director)).await;
            let mut record = None;
            let mut failed = Vec::new();
            // As the monitor does it: what may pass is tried again, also what a busy machine adds to the fault.
            while record.is_none() && failed.len() < 10 {
                match begin(&store, &engine).await {
                    Ok(begun) => record = Some(begun),
                    Err(RecordError::Store(error)) => {
                        failed.push(error.to_string());
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    Err(error) => panic!("{case}: {error}"),
                }
            }
            let mut record = record.unwrap_or_else(|| panic!("{case}: it never began: {failed:?}"));
            for text in ["one", "two"] {
                match say(&mut record, &store, text).await {
                    Ok(()) => assert_eq!(said(&served.direct).await.withheld, [text.parse().unwrap()], "{case}"),
                    Err(RecordError::Store(_)) => {}
                    Err(error) => panic!("{case}: {error}"),
                }
            }
            proxy.settled().await;
            // The next beat says how things stand.
            say(&mut record, &served.direct, "three").await.unwrap_or_else(|error| panic!("{case}: {error}"));
            let host = said(&served.direct).await;
            assert_eq!((host.withheld, host.ended), (vec!["three".parse().unwrap()], false), "{case}");
            record.write(&served.direct, BTreeMap::new(), Vec::new(), true).await.unwrap();
            if at >= proxy.requests() {
                break;
            }
            cases += 1;
        }
    }
    assert!(cases >= faulty::faults().count() * 4, "{cases}");
}

#[tokio::test]
async fn another_monitor_takes_over_all_the_same() {
    let served = Served::new().await;
    let engine = engine(served.path()).await;
    let mut record = begin(&served.direct, &engine).await.unwrap();
    let mut other = said(&served.direct).await;
    other.holder.instance = ulid::Ulid::generate();
    tokio::time::sleep(Duration::from_millis(1)).await;
    served.direct.put(&keys::host("ENGINE"), Bytes::from(other.to_bytes()), Condition::None).await.unwrap();
    let outcome = say(&mut record, &served.direct, "one").await;
    assert!(matches!(outcome, Err(RecordError::TakenOver { .. })), "{outcome:?}");
    assert_eq!(said(&served.direct).await, other);
}
