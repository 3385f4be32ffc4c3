//! Names and labels of what the monitor makes on an Engine. It finds everything again by these, and touches nothing else.

use std::collections::{BTreeMap, HashMap};

use ulid::Ulid;

use crate::compose::dns_label;
use crate::names::WorkspaceName;

/// On everything the monitor makes; the value says what it is.
pub const KIND: &str = "workspace.monitor";
/// The bucket's id.
pub const BUCKET: &str = "workspace.bucket";
/// The workspace.
pub const NAME: &str = "workspace.name";
/// The version's row.
pub const ROW: &str = "workspace.row";
/// The version's number.
pub const VERSION: &str = "workspace.version";
/// The process: `web` or one of the Procfile's.
pub const PROCESS: &str = "workspace.process";
/// Which of several, from 1.
pub const REPLICA: &str = "workspace.replica";
/// What a volume is for.
pub const PURPOSE: &str = "workspace.purpose";
/// The purpose of a volume that a package manager keeps what it fetched in.
pub const CACHE: &str = "cache";
/// The purpose of a volume that outlives everything: only people remove it.
pub const DATA: &str = "data";
/// The purpose of a volume with a release's grant.
pub const GRANT: &str = "grant";
/// The port inside.
pub const PORT: &str = "workspace.port";
/// The port on the host.
pub const HOST_PORT: &str = "workspace.host-port";
/// The kind of a release's containers.
pub const RELEASE: &str = "release";
/// The kind of relays.
pub const RELAY: &str = "relay";
/// The kind of containers that exist only to write a file into a volume.
pub const WRITER: &str = "writer";
/// The process that serves traffic.
pub const WEB: &str = "web";

/// The shared network.
pub const NETWORK: &str = "workspaces";

/// The container of a workspace's live release. No workspace can be called so that another one's would clash.
pub fn container(name: &WorkspaceName) -> String {
    format!("workspace-{name}")
}

/// A container of a release. Capitals are in no workspace's name, so nothing can clash.
pub fn release_container(name: &WorkspaceName, row: Ulid, process: &str, replica: u16) -> String {
    let base = format!("workspace-{name}-R{row}");
    match (process, replica) {
        (WEB, 1) => base,
        (WEB, replica) => format!("{base}-{replica}"),
        (process, _) => format!("{base}-{}", plain(process)),
    }
}

/// The alias of a release's containers on the shared network.
pub fn alias(row: Ulid) -> String {
    format!("ws-{}", row.to_string().to_lowercase())
}

/// A container's own alias. Never the one that all of a release share: a router would get any of them by it.
pub fn service(row: Ulid, process: &str, replica: u16) -> String {
    match process {
        WEB => format!("{}-{replica}", alias(row)),
        process => format!("{}-process-{}", alias(row), plain(process)),
    }
}

/// A process's name as part of a host name.
fn plain(process: &str) -> String {
    let letters =
        |character: char| if character.is_ascii_alphanumeric() { character.to_ascii_lowercase() } else { '-' };
    process.chars().map(letters).collect()
}

/// The Compose project of a release.
pub fn project(name: &WorkspaceName, row: Ulid) -> String {
    format!("workspace-{}-{}", dns_label(name), row.to_string().to_lowercase())
}

/// The volume with a release's grant.
pub fn grant_volume(row: Ulid) -> String {
    format!("workspace-grant-{}", row.to_string().to_lowercase())
}

/// The relay of a workspace.
pub fn relay_container(name: &WorkspaceName) -> String {
    format!("workspace-{name}-Relay")
}

/// What a volume of a workspace bears.
pub fn volume(purpose: &str, bucket: Ulid, name: &WorkspaceName) -> BTreeMap<String, String> {
    let mut labels = common("volume", bucket, name);
    labels.insert(PURPOSE.to_owned(), purpose.to_owned());
    labels
}

/// What everything of a workspace bears.
pub fn common(kind: &str, bucket: Ulid, name: &WorkspaceName) -> BTreeMap<String, String> {
    BTreeMap::from([
        (KIND.to_owned(), kind.to_owned()),
        (BUCKET.to_owned(), bucket.to_string()),
        (NAME.to_owned(), name.to_string()),
    ])
}

/// The same as the Engine takes it.
pub fn as_map(labels: &BTreeMap<String, String>) -> HashMap<String, String> {
    labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_different_workspaces_never_clash() {
        let name = |text: &str| text.parse::<WorkspaceName>().unwrap();
        let row = Ulid::from_parts(1, 2);
        assert_eq!(container(&name("a")), "workspace-a");
        assert_eq!(release_container(&name("a"), row, WEB, 1), format!("workspace-a-R{row}"));
        assert_eq!(release_container(&name("a"), row, WEB, 2), format!("workspace-a-R{row}-2"));
        assert_eq!(service(row, WEB, 1), format!("{}-1", alias(row)));
        assert_eq!(service(row, "1", 1), format!("{}-process-1", alias(row)));
        // What follows the name has a capital, which no name has.
        assert!(name("a-Relay").as_str() != "a-Relay");
        assert_ne!(project(&name("a.b"), row), project(&name("a-b"), row));
    }
}
