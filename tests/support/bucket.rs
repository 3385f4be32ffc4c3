//! The bucket that the binary uses in a test's environment, and hosts played by the test.

#![allow(dead_code, reason = "no test file uses everything")]

use jiff::Timestamp;
use serde_json::{Value, json};
use workspace::format::host::Host;
use workspace::format::{Reference, keys};
use workspace::settings::StoreSettings;
use workspace::store::{Condition, Store};

use super::cli::TestEnvironment;

/// The store that the binary uses in this environment.
pub struct Bucket {
    pub store: Store,
    pub runtime: tokio::runtime::Runtime,
}

impl Bucket {
    pub fn of(environment: &TestEnvironment) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let settings = StoreSettings::embedded(&environment.path().join("data"), "workspaces");
        let store = runtime.block_on(Store::connect(&settings)).unwrap();
        Self { store, runtime }
    }

    pub fn put(&self, key: &str, body: Vec<u8>) {
        self.runtime.block_on(self.store.put(key, body.into(), Condition::None)).unwrap();
    }

    pub fn get(&self, key: &str) -> Vec<u8> {
        self.runtime.block_on(self.store.get(key)).unwrap().body.to_vec()
    }

    pub fn reference(&self, name: &str) -> Reference {
        Reference::parse(&self.get(&keys::reference(&name.parse().unwrap()))).unwrap()
    }

    /// A release of one of the workspace's versions, as a host's record has it.
    pub fn release(&self, name: &str, number: u64) -> Value {
        let reference = self.reference(name);
        json!({"root": reference.root, "row": reference.row(number).unwrap(), "since": Timestamp::now()})
    }

    /// Writes the record of a host that beats now.
    pub fn host(&self, engine: &str, workspaces: &Value, change: impl FnOnce(&mut Value)) {
        let mut record = json!({
            "format": 1, "engine": engine, "hostname": format!("host-{engine}"), "tool": "0.1.0",
            "holder": {"instance": "00000000070000000000000007", "pid": 42},
            "started": "2026-01-01T00:00:00Z", "beat": Timestamp::now(), "workspaces": workspaces,
        });
        change(&mut record);
        let bytes = record.to_string().into_bytes();
        Host::parse(&bytes).unwrap();
        self.put(&keys::host(engine), bytes);
    }

    pub fn managed(&self, name: &str, phase: &str, live: Option<u64>, next: Option<u64>) -> Value {
        let mut managed = json!({"phase": phase, "since": Timestamp::now(), "cause": "as the bucket says"});
        if let Some(live) = live {
            managed["live"] = self.release(name, live);
            managed["health"] = "healthy".into();
            managed["addresses"] = json!([format!("http://{name}.localhost")]);
        }
        if let Some(next) = next {
            managed["next"] = self.release(name, next);
        }
        managed
    }

    pub fn failure(&self, name: &str, number: u64) -> Value {
        json!({
            "row": self.reference(name).row(number).unwrap().id, "number": number, "step": "ready",
            "reason": "nothing listens on port 3000", "tail": ["Server on 127.0.0.1:4000"],
            "listening": "127.0.0.1:4000", "hint": "listen on the port that PORT names", "at": Timestamp::now(),
            "bad": true, "tries": 1,
        })
    }
}

/// Versions of an application that could be run.
pub fn upload(environment: &TestEnvironment, name: &str, text: &str) {
    environment.run(arguments(environment, name, text, &[])).ok();
}

pub fn arguments(environment: &TestEnvironment, name: &str, text: &str, more: &[&str]) -> Vec<String> {
    let folder = environment.folder(&format!("source-{name}"));
    std::fs::write(folder.join("Procfile"), "web: ./serve\n").unwrap();
    std::fs::write(folder.join("workspace.yaml"), "runtime: custom\nimage: x\n").unwrap();
    std::fs::write(folder.join("serve"), text).unwrap();
    let mut arguments = vec!["upload".to_owned(), name.to_owned(), folder.display().to_string()];
    arguments.extend(more.iter().map(|&word| word.to_owned()));
    arguments
}
