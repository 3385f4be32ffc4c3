//! The part of the Compose file format that we write, in the order in which it is read.

use std::collections::BTreeMap;

use serde::Serialize;

#[derive(Debug, Default, Serialize)]
pub(super) struct File {
    pub(super) name: String,
    pub(super) services: BTreeMap<String, Service>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) networks: BTreeMap<String, Network>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) volumes: BTreeMap<String, Volume>,
}

#[derive(Debug, Serialize)]
pub(super) struct Service {
    pub(super) image: String,
    pub(super) container_name: String,
    pub(super) command: Vec<String>,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) ports: Vec<String>,
    pub(super) volumes: Vec<String>,
    pub(super) tmpfs: Vec<String>,
    pub(super) read_only: bool,
    pub(super) cap_drop: Vec<String>,
    pub(super) security_opt: Vec<String>,
    pub(super) pids_limit: u32,
    pub(super) mem_limit: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cpus: Option<String>,
    pub(super) extra_hosts: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) networks: Vec<String>,
    pub(super) healthcheck: Healthcheck,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) restart: &'static str,
    pub(super) stop_grace_period: &'static str,
}

/// How often Docker asks.
#[derive(Debug, Serialize)]
pub(super) struct Healthcheck {
    test: [&'static str; 3],
    interval: &'static str,
    timeout: &'static str,
    retries: u32,
    start_period: &'static str,
}

impl Default for Healthcheck {
    /// The start period covers the limits of install and readiness; within it a failure doesn't count. `start_interval`
    /// would ask more often meanwhile, but engines before 25 refuse it.
    fn default() -> Self {
        Self { test: ["CMD", "workspace", "health"], interval: "5s", timeout: "5s", retries: 3, start_period: "670s" }
    }
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Network {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) external: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct Volume {
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
}

/// Text that Compose must not take for a variable.
pub(super) fn literal(text: &str) -> String {
    text.replace('$', "$$")
}
