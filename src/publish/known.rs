//! What need not be sent: what the current version holds, and older ones whose manifests this machine has.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use ulid::Ulid;

use crate::cache::Cache;
use crate::format::manifest::{self, ContentIndex};
use crate::format::{Keys, Manifest, Reference, Row, TreePath, pack};
use crate::store::Store;
use crate::version::{self, Loaded, VersionError};

/// So many small packs with live content are suffered before they are folded.
const SMALL_PACKS: usize = 32;
/// How much is sent again for folding, in compressed bytes.
const FOLD: u64 = 16 << 20;

/// Where contents are looked for.
pub struct Known {
    pub store: Store,
    pub cache: Cache,
    pub keys: Keys,
    pub reference: Reference,
    /// The current version, where it has been read.
    pub loaded: Option<Arc<Loaded>>,
    /// Whether there is time for older versions, and for putting small packs together.
    pub thorough: bool,
}

impl Known {
    /// Adds to `contents` all that need not be sent, and gives the current version besides, if there is one.
    pub async fn contents(
        self,
        mut contents: ContentIndex,
    ) -> Result<(Arc<ContentIndex>, Option<Arc<Loaded>>), VersionError> {
        let reference = &self.reference;
        let Some(current) = reference.current_row() else { return Ok((Arc::new(contents), None)) };
        let loaded = match &self.loaded {
            Some(loaded) => Arc::clone(loaded),
            None => Arc::new(version::load(&self.store, &self.cache, &self.keys, reference.root, current).await?),
        };
        let mut live = ContentIndex::default();
        live.add_manifest(&loaded.manifest);
        if !self.thorough {
            contents.absorb(live);
            return Ok((Arc::new(contents), Some(loaded)));
        }
        let folded = folded(&live);
        contents.absorb(live);
        let mut older: BTreeMap<Ulid, Vec<&Row>> = BTreeMap::new();
        for row in reference.rows.iter().filter(|row| row.number != current.number) {
            older.entry(row.base).or_default().push(row);
        }
        for (base, rows) in older.into_iter().rev() {
            // Most versions share the base of the current one, which has been read.
            let known = (base == current.base).then(|| loaded.base.as_ref().unwrap_or(&loaded.manifest));
            self.add_older_contents(&mut contents, base, known, &rows);
        }
        if !folded.is_empty() {
            contents.retain(|_, location| !folded.contains(&location.pack.id));
        }
        Ok((Arc::new(contents), Some(loaded)))
    }

    /// Adds the contents of those versions on one base whose manifests this machine has. The base is read once for all of
    /// them, since a workspace keeps a hundred versions.
    fn add_older_contents(&self, contents: &mut ContentIndex, base_id: Ulid, known: Option<&Manifest>, rows: &[&Row]) {
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
        if let Some(replaced) = replaced {
            contents.add_entries(base, |entry| !replaced.contains(&entry.path));
        }
    }
}

/// When many small packs hold live content: those whose content shall ride along in the next pack.
fn folded(live: &ContentIndex) -> HashSet<Ulid> {
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
    let mut budget = FOLD;
    let fits = |(bytes, id): (u64, Ulid)| {
        budget = budget.checked_sub(bytes)?;
        Some(id)
    };
    smallest.into_iter().map_while(fits).collect()
}
