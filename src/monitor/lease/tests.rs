//! Leases on a server that refuses conditions.

use std::sync::Arc;

use super::*;
use crate::monitor::catalogue::faulty::{Fault, Request, Served};
use crate::monitor::holder;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_conditions_no_release_command_was_ever_run() {
    let served = Served::new().await;
    let refuses = |request: &Request| {
        let conditional = request.header("if-match").or(request.header("if-none-match")).is_some();
        if conditional { Fault::Answer(501, "NotImplemented") } else { Fault::None }
    };
    let (store, _proxy) = served.behind(Arc::new(refuses)).await;
    let holder = holder::this_process();
    let (key, now) = ("data/app/lease.json".to_owned(), Timestamp::now());
    let asking = Asking { store: &store, key, engine: "ENGINE", holder: &holder, retry: None, now };
    // Not where somebody may rely on conditions.
    assert!(matches!(asking.acquire().await, Err(LeaseError::Store(StoreError::Unsupported { .. }))));
    store.trust_single_writer();
    assert_eq!(asking.acquire().await.unwrap(), Standing::Mine);
    assert_eq!(asking.acquire().await.unwrap(), Standing::Mine);
    asking.finish(true, String::new(), Vec::new()).await.unwrap();
    assert_eq!(asking.acquire().await.unwrap(), Standing::Succeeded);
}
