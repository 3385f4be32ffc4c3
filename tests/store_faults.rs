//! Answers that no server at hand gives when asked: conflicts, lost replies, bodies that break off.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/servers.rs"]
mod servers;

use std::io::{Read, Write};
use std::net::TcpListener;

use workspace::store::{Condition, Store, StoreError};

/// A store whose every request gets the same answer, after which the connection is closed. None: no answer at all.
async fn answering(answer: impl Into<Option<String>>) -> Store {
    let answer = answer.into();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut request = [0; 8192];
            let _ = connection.read(&mut request);
            if let Some(answer) = &answer {
                let _ = connection.write_all(answer.as_bytes());
            }
        }
    });
    Store::connect(&servers::s3(&endpoint, "key", "secret", "bucket")).await.unwrap()
}

fn error(status: &str, code: &str) -> String {
    let body = format!("<Error><Code>{code}</Code><Message>so it is</Message></Error>");
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// What a single-request write comes to, which must be one request.
async fn written_once(answer: impl Into<Option<String>>) -> StoreError {
    let store = answering(answer).await;
    let error = store.put_once("refs/app.json", "x".into(), Condition::Absent).await.unwrap_err();
    assert_eq!(store.counts().requests, 1, "{error:?}");
    error
}

#[tokio::test]
async fn a_write_in_doubt_is_told_from_one_that_failed() {
    let conflict = written_once(error("409 Conflict", "ConditionalRequestConflict")).await;
    assert!(matches!(&conflict, StoreError::Conflict { key } if key == "refs/app.json") && conflict.is_ambiguous());
    let throttled = written_once(error("429 Too Many Requests", "TooManyRequests")).await;
    assert!(matches!(throttled, StoreError::Throttled { .. }) && throttled.is_ambiguous());
    let failing = written_once(error("500 Internal Server Error", "InternalError")).await;
    assert!(matches!(failing, StoreError::Server { status: 500, .. }) && failing.is_ambiguous());
    let lost = written_once(None).await;
    assert!(matches!(lost, StoreError::Interrupted { .. }) && lost.is_ambiguous(), "{lost:?}");

    let refused = written_once(error("412 Precondition Failed", "PreconditionFailed")).await;
    assert!(matches!(refused, StoreError::Precondition { .. }) && !refused.is_ambiguous());
    let unsupported = written_once(error("501 Not Implemented", "NotImplemented")).await;
    assert!(matches!(unsupported, StoreError::Unsupported { .. }) && !unsupported.is_ambiguous());
    let full = written_once(error("507 Insufficient Storage", "InsufficientStorage")).await;
    assert!(matches!(full, StoreError::StorageFull) && !full.is_ambiguous());
    let denied = written_once(error("403 Forbidden", "AccessDenied")).await;
    assert!(matches!(denied, StoreError::AccessDenied { .. }) && !denied.is_ambiguous());
}

#[tokio::test]
async fn other_writes_are_tried_again() {
    let store = answering(error("500 Internal Server Error", "InternalError")).await;
    store.put("key", "x".into(), Condition::None).await.unwrap_err();
    assert_eq!(store.counts().requests, 3);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_asked_for_again_and_then_an_error() {
    let short = "HTTP/1.1 200 OK\r\nETag: \"x\"\r\nContent-Type: application/octet-stream\r\nContent-Length: 100\r\nConnection: close\r\n\r\n0123456789";
    let store = answering(short.to_owned()).await;
    let error = store.get("key").await.unwrap_err();
    assert!(matches!(error, StoreError::Truncated { expected: 100, received: 10, .. }), "{error:?}");
    assert_eq!(store.counts().requests, 3);
}

#[tokio::test]
async fn pieces_that_came_are_not_asked_for_again() {
    const MOST: u64 = 30;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (say, asked) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut request = [0; 8192];
            let read = connection.read(&mut request).unwrap();
            let head = String::from_utf8_lossy(&request[..read]).to_lowercase();
            let range = head.lines().find_map(|line| line.strip_prefix("range: bytes=")).unwrap();
            let (start, last) = range.split_once('-').unwrap();
            let (start, end): (u64, u64) = (start.parse().unwrap(), last.trim().parse::<u64>().unwrap() + 1);
            say.send((start, end)).unwrap();
            let head = format!(
                "HTTP/1.1 206 Partial Content\r\nETag: \"x\"\r\nContent-Type: application/octet-stream\r\n\
                 Content-Range: bytes {start}-{}/1000\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                end - 1,
                end - start
            );
            let body: Vec<u8> = (start..end.min(start + MOST)).map(|at| u8::try_from(at).unwrap()).collect();
            let _ = connection.write_all(&[head.as_bytes(), &body].concat());
        }
    });
    let store = Store::connect(&servers::s3(&endpoint, "key", "secret", "bucket")).await.unwrap();
    let mut pieces = Vec::new();
    store.get_pieces("key", 10, &[20, 35, 60, 85, 90], &mut |piece| pieces.push(piece.to_vec())).await.unwrap();
    let between = |start: u8, end: u8| (start..end).collect::<Vec<u8>>();
    assert_eq!(pieces, [between(10, 20), between(20, 35), between(35, 60), between(60, 85), between(85, 90)]);
    assert_eq!(asked.try_iter().collect::<Vec<_>>(), [(10, 90), (35, 90), (60, 90)]);

    // One that never comes in one go is given up.
    pieces.clear();
    let error = store.get_pieces("key", 0, &[10, 90], &mut |piece| pieces.push(piece.to_vec())).await.unwrap_err();
    assert!(matches!(error, StoreError::Truncated { .. }), "{error:?}");
    assert_eq!(pieces, [between(0, 10)]);
    assert_eq!(asked.try_iter().collect::<Vec<_>>(), [(0, 90), (10, 90), (10, 90), (10, 90)]);
}
