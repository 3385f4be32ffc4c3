//! What need not be sent: what the current version holds, and older ones whose manifests this machine has.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;
use ulid::Ulid;

use crate::cache::Cache;
use crate::format::manifest::{self, ContentIndex};
use crate::format::{Keys, Manifest, Reference, Row, TreePath, pack};
use crate::store::Store;
use crate::version::{self, Loaded, VersionError};

/// So many small packs with live content are suffered before they are folded: a download asks for each of them.
const SMALL_PACKS: usize = 16;
/// How much is sent again for folding, in compressed bytes.
const FOLD: u64 = 16 << 20;
/// The same where somebody waits for a save.
const FOLD_IN_HASTE: u64 = 1 << 20;

/// A version that is being read before anybody knows that it is the current one.
pub struct Early {
    /// The incarnation that it is said to be of.
    pub root: Ulid,
    /// What is said of it.
    pub row: Row,
    /// Nothing, where this machine doesn't have it whole.
    pub reading: AbortOnDropHandle<Option<Arc<Loaded>>>,
}

impl Early {
    /// Whether it is the current version, whose manifest lies at the same place and adds up to the same.
    pub fn is_current(&self, reference: &Reference) -> bool {
        let of = |row: &Row| (row.id, row.base, row.delta, row.tree, row.files, row.bytes);
        self.root == reference.root && reference.current_row().map(of) == Some(of(&self.row))
    }
}

/// Where contents are looked for.
pub struct Known {
    pub store: Store,
    pub cache: Cache,
    pub keys: Keys,
    pub reference: Reference,
    /// The current version, where it has been read.
    pub loaded: Option<Arc<Loaded>>,
    /// The same on its way, otherwise.
    pub early: Option<Early>,
    /// Whether there is time for older versions, and for putting small packs together.
    pub thorough: bool,
}

impl Known {
    /// Adds to `contents` all that need not be sent, and gives the current version besides, if there is one.
    pub async fn contents(
        mut self,
        mut contents: ContentIndex,
    ) -> Result<(Arc<ContentIndex>, Option<Arc<Loaded>>), VersionError> {
        let early = match self.early.take() {
            Some(early) => early.reading.await.ok().flatten(),
            None => None,
        };
        let reference = &self.reference;
        let Some(current) = reference.current_row() else { return Ok((Arc::new(contents), None)) };
        let loaded = match self.loaded.take().or(early) {
            Some(loaded) => loaded,
            None => Arc::new(version::load(&self.store, &self.cache, &self.keys, reference.root, current).await?),
        };
        let mut live = ContentIndex::default();
        live.add_manifest(&loaded.manifest);
        let folded = folded(&live, if self.thorough { FOLD } else { FOLD_IN_HASTE });
        contents.absorb(live);
        if self.thorough {
            self.add_all_older_contents(&mut contents, current, &loaded);
        }
        if !folded.is_empty() {
            contents.retain(|_, location| !folded.contains(&location.pack.id));
        }
        Ok((Arc::new(contents), Some(loaded)))
    }

    /// Adds the contents of all other versions whose manifests this machine has.
    fn add_all_older_contents(&self, contents: &mut ContentIndex, current: &Row, loaded: &Loaded) {
        let mut older: BTreeMap<Ulid, Vec<&Row>> = BTreeMap::new();
        for row in self.reference.rows.iter().filter(|row| row.number != current.number) {
            older.entry(row.base).or_default().push(row);
        }
        for (base, rows) in older.into_iter().rev() {
            // Most versions share the base of the current one, which has been read.
            let known = (base == current.base).then(|| loaded.base.as_ref().unwrap_or(&loaded.manifest));
            self.add_older_contents(contents, base, known, &rows, &loaded.manifest);
        }
    }

    /// Adds the contents of those versions on one base whose manifests this machine has. The base is read once for all of
    /// them, since a workspace keeps a hundred versions.
    fn add_older_contents(
        &self,
        contents: &mut ContentIndex,
        base_id: Ulid,
        known: Option<&Manifest>,
        rows: &[&Row],
        current: &Manifest,
    ) {
        let kept = |id| self.cache.manifest(self.reference.root, id);
        let read;
        let base = if let Some(base) = known {
            base
        } else {
            let Some(Ok(base)) = kept(base_id).map(|bytes| manifest::decode(&bytes)) else { return };
            read = base;
            &read
        };
        // What every version on this base has replaced or removed is in none of them, and may be collected.
        let mut replaced: Option<HashSet<TreePath>> = None;
        for row in rows {
            let mut other = HashSet::new();
            if let Some(delta) = row.delta {
                let Some(bytes) = kept(delta) else { continue };
                let Ok((changes, gone)) = manifest::decode_changes(&bytes, base_id, base) else { continue };
                if changes.header.tree != row.tree {
                    continue;
                }
                contents.add_manifest(&changes);
                other.extend(changes.entries.into_iter().map(|entry| entry.path).chain(gone));
            }
            replaced = Some(match replaced {
                None => other,
                Some(replaced) => replaced.intersection(&other).cloned().collect(),
            });
        }
        let Some(replaced) = replaced else { return };
        // Most of it is in the current version, and was added with it.
        let mut current = current.entries.iter().peekable();
        contents.add_entries(base, |entry| {
            while current.next_if(|now| now.path < entry.path).is_some() {}
            current.next_if(|now| now.path == entry.path) != Some(entry) && !replaced.contains(&entry.path)
        });
    }
}

/// When many small packs hold live content: those whose content shall ride along in the next pack, the smallest ones, as far as
/// a budget of bytes goes. None where that would leave nearly as many: the next version would have to fold again.
fn folded(live: &ContentIndex, mut budget: u64) -> HashSet<Ulid> {
    let mut small: HashMap<Ulid, (u64, HashSet<u64>)> = HashMap::new();
    for (_, location) in live.iter().filter(|(_, location)| location.pack.size < pack::SMALL) {
        let (bytes, frames) = small.entry(location.pack.id).or_default();
        if frames.insert(location.frame_offset) {
            *bytes += u64::from(location.frame_length);
        }
    }
    if small.len() <= SMALL_PACKS {
        return HashSet::new();
    }
    let mut smallest: Vec<(u64, Ulid)> = small.into_iter().map(|(id, (bytes, _))| (bytes, id)).collect();
    smallest.sort_unstable();
    let fits = |(bytes, id): (u64, Ulid)| {
        budget = budget.checked_sub(bytes)?;
        Some(id)
    };
    let folded: HashSet<Ulid> = smallest.into_iter().map_while(fits).collect();
    if folded.len() >= SMALL_PACKS / 2 { folded } else { HashSet::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Hash;
    use crate::format::pack::{BuiltFrame, PackBuilder, Stored};

    /// So many packs with one content of so many compressed bytes each.
    fn packs(count: u64, bytes: usize) -> ContentIndex {
        let mut index = ContentIndex::default();
        for number in 0..count {
            let mut pack = PackBuilder::new(Ulid::from_parts(number, bytes as u128));
            let hash = Hash::of(&[number.to_le_bytes(), bytes.to_le_bytes()].concat());
            let contents = vec![Stored { hash, offset: 512, length: 1 }];
            pack.add(BuiltFrame { bytes: vec![0; bytes], raw: 1_024, contents });
            index.add_pack(&pack.finish().unwrap());
        }
        index
    }

    #[test]
    fn small_packs_are_folded_once_there_are_many() {
        assert_eq!(folded(&packs(16, 100), FOLD).len(), 0);
        assert_eq!(folded(&packs(17, 100), FOLD).len(), 17);
        assert_eq!(folded(&packs(17, 100), FOLD_IN_HASTE).len(), 17);
        // Packs of 16 MiB are as large as they get.
        assert_eq!(folded(&packs(17, 5 << 20), FOLD).len(), 0);
    }

    #[test]
    fn in_haste_little_is_sent_again_and_not_every_time() {
        // What has been folded before is large by now.
        let mut live = packs(3, 900 << 10);
        live.absorb(packs(14, 1 << 10));
        let haste = folded(&live, FOLD_IN_HASTE);
        assert_eq!(haste.len(), 15, "the smallest, and one of what was folded before");
        assert_eq!(folded(&live, FOLD).len(), 17);
        // Too large to be sent again by the way: each save would.
        assert_eq!(folded(&packs(20, 200 << 10), FOLD_IN_HASTE).len(), 0);
    }
}
