//! The names of objects in the bucket.

use ulid::Ulid;

use crate::names::WorkspaceName;

/// Prefix of all refs: one LIST of it tells what there is.
pub const REFS: &str = "refs/";
/// The bucket's own record.
pub const BUCKET: &str = "bucket.json";

/// Prefix of what workspaces consist of.
pub const DATA: &str = "data/";

/// Prefix of what hosts say of themselves.
pub const HOSTS: &str = "hosts/";

/// The record of the host with this Docker Engine id.
pub fn host(engine: &str) -> String {
    format!("{HOSTS}{}.json", plain_engine(engine))
}

/// What a person confirmed to the host with this Docker Engine id.
pub fn confirmation(engine: &str) -> String {
    format!("{HOSTS}{}.confirmed.json", plain_engine(engine))
}

/// The engine (as it stands in keys) whose record has this key, if it is one: other objects lie beside the records.
pub fn engine_of_host(key: &str) -> Option<&str> {
    let engine = key.strip_prefix(HOSTS)?.strip_suffix(".json")?;
    (!engine.is_empty() && engine.chars().all(is_plain)).then_some(engine)
}

/// Engine ids are letters, digits, `:` and `-`; anything else must not make another key of it.
fn plain_engine(engine: &str) -> String {
    engine.chars().map(|character| if is_plain(character) { character } else { '_' }).collect()
}

fn is_plain(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, ':' | '-' | '_')
}

/// The ref of a workspace.
pub fn reference(name: &WorkspaceName) -> String {
    format!("{REFS}{name}.json")
}

/// The workspace whose ref has this key, if it is one.
pub fn name_of_reference(key: &str) -> Option<WorkspaceName> {
    let text = key.strip_prefix(REFS)?.strip_suffix(".json")?;
    // Only the canonical spelling: a key with capitals is not ours.
    text.parse::<WorkspaceName>().ok().filter(|name| name.as_str() == text)
}

/// Where the dependency snapshots of a workspace lie: a ref and data of the same form, below the workspace's own data. Pairs of
/// what keys begin with, and what they begin with there.
pub fn dependencies(name: &WorkspaceName) -> Vec<(String, String)> {
    vec![
        (reference(name), format!("{DATA}{name}/deps.json")),
        (format!("{DATA}{name}/"), format!("{DATA}{name}/deps/")),
    ]
}

/// What lies below a root, by kind and id. Keys that are none of these are left alone by everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Item {
    /// A manifest, or a delta of one.
    Manifest(Ulid),
    /// A pack.
    Pack(Ulid),
    /// The archive of the version with this row.
    Archive(Ulid),
    /// The lease and outcome of the release command of the version with this row.
    Lease(Ulid),
    /// The record of the lock on the version with this row.
    Lock(Ulid),
    /// The list of a collection.
    Collection(Ulid),
}

/// The keys below one root of one workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    /// Of the workspace `name` in its incarnation `root`.
    pub fn new(name: &WorkspaceName, root: Ulid) -> Self {
        Self { prefix: format!("{DATA}{name}/{root}/") }
    }

    /// What all of them begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The key of an item.
    pub fn key(&self, item: Item) -> String {
        match item {
            Item::Manifest(id) => self.manifest(id),
            Item::Pack(id) => self.pack(id),
            Item::Archive(row) => self.archive(row),
            Item::Lease(row) => self.lease(row),
            Item::Lock(row) => self.lock(row),
            Item::Collection(id) => self.collection(id),
        }
    }

    /// The item that has a key, if the key is spelled as this release spells one.
    pub fn item(&self, key: &str) -> Option<Item> {
        let (folder, file) = key.strip_prefix(&self.prefix)?.split_once('/')?;
        let id = file.get(..ulid::ULID_LEN)?.parse().ok()?;
        let item = match folder {
            "versions" => Item::Manifest(id),
            "packs" => Item::Pack(id),
            "archives" => Item::Archive(id),
            "releases" => Item::Lease(id),
            "locks" => Item::Lock(id),
            "gc" => Item::Collection(id),
            _ => return None,
        };
        (self.key(item) == key).then_some(item)
    }

    /// A manifest, or a delta of one.
    pub fn manifest(&self, id: Ulid) -> String {
        format!("{}versions/{id}.jsonl.zst", self.prefix)
    }

    /// A pack.
    pub fn pack(&self, id: Ulid) -> String {
        format!("{}packs/{id}.tar.zst", self.prefix)
    }

    /// The archive of a whole version.
    pub fn archive(&self, row: Ulid) -> String {
        format!("{}archives/{row}.tar.zst", self.prefix)
    }

    /// The lease and outcome of a version's release command.
    pub fn lease(&self, row: Ulid) -> String {
        format!("{}releases/{row}.json", self.prefix)
    }

    /// Prefix of the records of locks.
    pub fn locks(&self) -> String {
        format!("{}locks/", self.prefix)
    }

    /// The record of the lock on a version.
    pub fn lock(&self, row: Ulid) -> String {
        format!("{}locks/{row}.json", self.prefix)
    }

    /// The list of a collection in progress.
    pub fn collection(&self, id: Ulid) -> String {
        format!("{}gc/{id}.json", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_as_documented() {
        let name: WorkspaceName = "my.app".parse().unwrap();
        let keys = Keys::new(&name, Ulid::from_parts(1, 2));
        assert_eq!(reference(&name), "refs/my.app.json");
        assert_eq!(name_of_reference("refs/my.app.json"), Some(name));
        assert_eq!(name_of_reference("refs/My.json"), None);
        assert_eq!(name_of_reference("refs/x/y.json"), None);
        assert_eq!(
            keys.manifest(Ulid::from_parts(3, 4)),
            "data/my.app/00000000010000000000000002/versions/00000000030000000000000004.jsonl.zst"
        );
        assert_eq!(
            keys.pack(Ulid::from_parts(3, 4)),
            "data/my.app/00000000010000000000000002/packs/00000000030000000000000004.tar.zst"
        );
        assert_eq!(
            keys.lease(Ulid::from_parts(3, 4)),
            "data/my.app/00000000010000000000000002/releases/00000000030000000000000004.json"
        );
    }

    #[test]
    fn items_are_found_by_their_keys_and_nothing_else_is() {
        let name: WorkspaceName = "app".parse().unwrap();
        let keys = Keys::new(&name, Ulid::from_parts(1, 2));
        let id = Ulid::from_parts(3, u128::MAX);
        for item in [
            Item::Manifest(id),
            Item::Pack(id),
            Item::Archive(id),
            Item::Lease(id),
            Item::Lock(id),
            Item::Collection(id),
        ] {
            assert_eq!(keys.item(&keys.key(item)), Some(item));
        }
        let pack = keys.pack(id);
        for other in [
            keys.prefix().to_owned(),
            pack.replace("packs", "later"),
            pack.to_lowercase(),
            format!("{pack}.part"),
            pack.replace(".tar", ""),
            Keys::new(&name, Ulid::from_parts(1, 3)).pack(id),
            format!("{}packs/é", keys.prefix()),
        ] {
            assert_eq!(keys.item(&other), None, "{other}");
        }
    }

    #[test]
    fn records_of_hosts_are_told_from_what_lies_beside_them() {
        assert_eq!(host("ABCD:EF-1"), "hosts/ABCD:EF-1.json");
        assert_eq!(host("../refs/a.b"), "hosts/___refs_a_b.json");
        assert_eq!(confirmation("ABCD:EF-1"), "hosts/ABCD:EF-1.confirmed.json");
        assert_eq!(engine_of_host("hosts/ABCD:EF-1.json"), Some("ABCD:EF-1"));
        for other in ["hosts/ABCD:EF-1.confirmed.json", "hosts/.json", "hosts/a/b.json", "hosts/a.txt", "refs/a.json"] {
            assert_eq!(engine_of_host(other), None, "{other}");
        }
    }
}
