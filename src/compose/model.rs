//! The part of the Compose file format that we write, in the order in which it is read.

use std::collections::BTreeMap;

use serde::Serialize;

#[derive(Debug, Default, Serialize)]
pub(super) struct File {
    #[serde(skip_serializing_if = "String::is_empty")]
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
    #[serde(skip_serializing_if = "Vec::is_empty")]
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
    #[serde(skip_serializing_if = "Attached::is_empty")]
    pub(super) networks: Attached,
    pub(super) healthcheck: Healthcheck,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) restart: &'static str,
    pub(super) stop_grace_period: &'static str,
}

/// The networks of a service: by name alone, or with the names that it has there.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Attached {
    Plain(Vec<String>),
    Aliased(BTreeMap<String, Aliases>),
}

#[derive(Debug, Serialize)]
pub(super) struct Aliases {
    aliases: Vec<String>,
}

impl Attached {
    pub(super) fn with_aliases(network: &str, aliases: Vec<String>) -> Self {
        Self::Aliased(BTreeMap::from([(network.to_owned(), Aliases { aliases })]))
    }

    fn is_empty(&self) -> bool {
        matches!(self, Self::Plain(names) if names.is_empty())
    }
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
        Self::every("5s")
    }
}

impl Healthcheck {
    pub(super) fn every(interval: &'static str) -> Self {
        Self { test: ["CMD", "workspace", "health"], interval, timeout: "5s", retries: 3, start_period: "670s" }
    }
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Network {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) external: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Volume {
    pub(super) name: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) external: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) labels: BTreeMap<String, String>,
}

impl Volume {
    /// One that is there already.
    pub(super) fn external(name: &str) -> Self {
        Self { name: name.to_owned(), external: true, labels: BTreeMap::new() }
    }
}

/// Text that Compose must not take for a variable.
pub(super) fn literal(text: &str) -> String {
    text.replace('$', "$$")
}
