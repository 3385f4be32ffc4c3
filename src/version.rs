//! Reading what a bucket says of a workspace: its ref, and the manifests of its versions.

mod path;

use std::collections::HashMap;
use std::fmt;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use ulid::Ulid;

use crate::cache::Cache;
use crate::format::manifest::{self, Header};
use crate::format::reference::MAX_READ;
use crate::format::{FormatError, Keys, Manifest, Reference, Row, keys};
use crate::names::{Selector, Tag, Version, WorkspaceName};
use crate::store::{ETag, Object, Store, StoreError};

pub use path::{Child, Found, children, find, plain};

/// How many refs are read at once.
const AT_ONCE: usize = 32;
/// How many tags, and how many ranges of numbers, an error names.
const NAMED: usize = 20;

/// Why a version can't be read.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    /// The store failed, or lacks an object.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no such workspace.
    #[error("there is no workspace `{name}` in {location}")]
    NoWorkspace {
        /// The name asked for.
        name: WorkspaceName,
        /// Where it was looked for.
        location: String,
        /// Names that look alike.
        similar: Vec<String>,
        /// Whether there is data of that name: its ref was lost.
        has_data: bool,
    },
    /// The workspace has no such version.
    #[error("`{selector}` is not there: {reason}")]
    NoVersion {
        /// What was asked for.
        selector: Selector,
        /// What is there instead.
        reason: String,
    },
    /// The version has nothing at that path.
    #[error("`{selector}` has no `{path}`", path = crate::output::escape(.path))]
    NoPath {
        /// The version.
        selector: Selector,
        /// The path asked for.
        path: String,
        /// Paths that look alike.
        similar: Vec<String>,
    },
    /// An object is there and can't be read.
    #[error("the {what} `{key}` can't be used")]
    Object {
        /// `ref`, `manifest`, `delta` or `pack`.
        what: &'static str,
        /// Its key.
        key: String,
        /// What is wrong with it.
        source: FormatError,
    },
    /// What was encoded does not read as what it was made of: memory at fault, or this program. It was not sent.
    #[error("{what} was damaged in the memory of this machine before it was sent; nothing was published")]
    BadMemory {
        /// `the manifest` or `the ref`.
        what: &'static str,
    },
}

/// A ref as it was read.
#[derive(Debug, Clone)]
pub struct Read {
    /// Its content.
    pub reference: Reference,
    /// What a swap must match.
    pub etag: ETag,
}

/// Reads a ref. Nothing where there is none.
pub async fn read_reference(store: &Store, name: &WorkspaceName) -> Result<Option<Read>, VersionError> {
    let key = keys::reference(name);
    match store.get_within(&key, MAX_READ).await {
        Ok(object) => parse_reference(store, key, object).await.map(Some),
        Err(StoreError::NotFound { .. }) => Ok(None),
        // What a ref may not be is no failure of the store: it must not hide the other refs.
        Err(StoreError::TooLarge { limit, .. }) => {
            Err(VersionError::Object { what: "ref", key, source: FormatError::OverLimit { what: "the ref", limit } })
        }
        Err(error) => Err(error.into()),
    }
}

/// Reads what was fetched as a ref. What is damaged is fetched once more: a bit may have been lost on the way.
pub async fn parse_reference(store: &Store, key: String, object: Object) -> Result<Read, VersionError> {
    let (object, source) = match Reference::parse(&object.body) {
        Ok(reference) => return Ok(Read { reference, etag: object.etag }),
        Err(source @ (FormatError::Damaged(_) | FormatError::Newer { .. })) => {
            match store.get_within(&key, MAX_READ).await {
                Ok(again) => (again, source),
                Err(error) => {
                    tracing::debug!(key, %error, "what is damaged can't be fetched once more");
                    return Err(VersionError::Object { what: "ref", key, source });
                }
            }
        }
        Err(source) => return Err(VersionError::Object { what: "ref", key, source }),
    };
    match Reference::parse(&object.body) {
        Ok(reference) => {
            tracing::warn!(key, "a ref was damaged on the way ({source}); once more, it was right");
            Ok(Read { reference, etag: object.etag })
        }
        Err(source) => Err(VersionError::Object { what: "ref", key, source }),
    }
}

/// An object among the refs that can't be read as one. It must not hide the others.
#[derive(Debug)]
pub enum Skipped {
    /// Its key is no ref's.
    Foreign {
        /// The key.
        key: String,
    },
    /// Its content is none of ours, or newer.
    Unreadable(VersionError),
}

impl fmt::Display for Skipped {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign { key } => write!(out, "`{key}` is no ref of ours and is skipped"),
            Self::Unreadable(error) => {
                write!(out, "{error}")?;
                if let Some(source) = std::error::Error::source(error) {
                    write!(out, ": {source}")?;
                }
                out.write_str("; it is skipped")
            }
        }
    }
}

/// Reads all refs, by name. Those of deleted workspaces and of mere claims are among them.
pub async fn all_references(store: &Store) -> Result<(Vec<(WorkspaceName, Read)>, Vec<Skipped>), VersionError> {
    all_references_but(store, &mut HashMap::new()).await
}

/// The same, with what this machine remembers: a ref whose ETag is listed as it was then is not read again.
pub async fn all_references_cached(
    store: &Store,
    cache: &Cache,
) -> Result<(Vec<(WorkspaceName, Read)>, Vec<Skipped>), VersionError> {
    let identity = store.identity();
    let kept = cache.references(&identity);
    let parsed = |(name, etag, bytes): (String, String, Vec<u8>)| {
        Some((name.parse().ok()?, Read { reference: Reference::parse(&bytes).ok()?, etag: ETag::new(etag) }))
    };
    let mut known: HashMap<WorkspaceName, Read> = kept.into_iter().filter_map(parsed).collect();
    let before = known.len();
    let (found, skipped) = all_references_but(store, &mut known).await?;
    // Unless all of them are as they were, and there are no others.
    if !known.is_empty() || found.len() != before {
        let row =
            |(name, read): &(WorkspaceName, Read)| (name.to_string(), read.etag.to_string(), read.reference.to_bytes());
        cache.save_references(&identity, &found.iter().map(row).collect::<Vec<_>>());
    }
    Ok((found, skipped))
}

/// Takes out of `known` what is listed as it was then, and reads the others.
async fn all_references_but(
    store: &Store,
    known: &mut HashMap<WorkspaceName, Read>,
) -> Result<(Vec<(WorkspaceName, Read)>, Vec<Skipped>), VersionError> {
    let mut skipped = Vec::new();
    let mut names = Vec::new();
    for object in store.list(keys::REFS).await? {
        match keys::name_of_reference(&object.key) {
            Some(name) => {
                let unchanged = known.get(&name).is_some_and(|read| read.etag == object.etag);
                let read = if unchanged { known.remove(&name) } else { None };
                names.push((name, read));
            }
            None => skipped.push(Skipped::Foreign { key: object.key }),
        }
    }
    let reads = names.into_iter().map(|(name, known)| async move {
        let read = match known {
            Some(read) => Ok(Some(read)),
            None => read_reference(store, &name).await,
        };
        (name, read)
    });
    let mut found = Vec::new();
    let mut reads = stream::iter(reads).buffered(AT_ONCE);
    while let Some((name, read)) = reads.next().await {
        match read {
            Ok(Some(read)) => found.push((name, read)),
            Ok(None) => {}
            Err(error @ VersionError::Object { .. }) => skipped.push(Skipped::Unreadable(error)),
            Err(error) => return Err(error),
        }
    }
    Ok((found, skipped))
}

/// Reads the ref of a workspace that must be there.
pub async fn existing_reference(store: &Store, name: &WorkspaceName) -> Result<Read, VersionError> {
    match read_reference(store, name).await? {
        Some(read) if read.reference.is_visible() => Ok(read),
        _ => Err(missing(store, name).await),
    }
}

/// The error for a name that is not there, with names that look like it.
pub async fn missing(store: &Store, name: &WorkspaceName) -> VersionError {
    let (similar, has_data) = futures::future::join(similar_names(store, name), has_data(store, name)).await;
    VersionError::NoWorkspace { name: name.clone(), location: store.location(), similar, has_data }
}

/// Whether versions lie below the name although no ref names them. Only ever a hint, so a failure is no error.
async fn has_data(store: &Store, name: &WorkspaceName) -> bool {
    matches!(read_reference(store, name).await, Ok(None)) && has_versions(store, name, None).await
}

/// Whether versions lie below the name, whatever names them. `own`: not those of this incarnation.
pub async fn has_versions(store: &Store, name: &WorkspaceName, own: Option<Ulid>) -> bool {
    let objects = store.list(&format!("{}{name}/", keys::DATA)).await;
    let own = own.map(|root| Keys::new(name, root));
    let is_own = |key: &str| own.as_ref().is_some_and(|own| key.starts_with(own.prefix()));
    objects.is_ok_and(|objects| objects.iter().any(|object| object.key.contains("/versions/") && !is_own(&object.key)))
}

/// Names in the bucket that look like `name`. Only ever a hint, so a failure is no error.
async fn similar_names(store: &Store, name: &WorkspaceName) -> Vec<String> {
    let Ok(objects) = store.list(keys::REFS).await else { return Vec::new() };
    let mut scored: Vec<(usize, String)> = objects
        .iter()
        .filter_map(|object| keys::name_of_reference(&object.key))
        .map(|other| (strsim::damerau_levenshtein(name.as_str(), other.as_str()), other.to_string()))
        .filter(|(distance, other)| *distance <= 2.max(other.len() / 3) && other != name.as_str())
        .collect();
    scored.sort();
    scored.into_iter().take(3).map(|(_, other)| other).collect()
}

/// The version that is meant, in a ref that was read.
pub fn select<'a>(reference: &'a Reference, selector: &Selector) -> Result<&'a Row, VersionError> {
    reference.select(&selector.version).ok_or_else(|| {
        let reason = match &selector.version {
            Version::Number(0) => format!("versions begin with 1; {}", kept(reference)),
            Version::Number(number) if *number < reference.current => {
                format!("it is no longer kept; {}", kept(reference))
            }
            Version::Tag(tag) => no_such_tag(reference, tag),
            _ => kept(reference),
        };
        VersionError::NoVersion { selector: selector.clone(), reason }
    })
}

/// `versions 1-3, 7 are kept`: runs of numbers, the newest ones where there are many.
fn kept(reference: &Reference) -> String {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for row in &reference.rows {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == row.number => *last = row.number,
            _ => runs.push((row.number, row.number)),
        }
    }
    match runs.as_slice() {
        [] => return "there is no version yet".to_owned(),
        [(first, last)] if first == last => return format!("version {first} is the only one"),
        _ => {}
    }
    let more = if runs.len() > NAMED { "older ones, " } else { "" };
    let named: Vec<String> = runs[runs.len().saturating_sub(NAMED)..]
        .iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
        .collect();
    format!("versions {more}{} are kept", named.join(", "))
}

/// Why there is no such tag: it looks like one that is there, or which there are.
pub fn no_such_tag(reference: &Reference, tag: &Tag) -> String {
    let mut tags: Vec<&str> = reference.rows.iter().flat_map(|row| &row.tags).map(Tag::as_str).collect();
    tags.sort_by_key(|other| strsim::damerau_levenshtein(tag.as_str(), other));
    match tags.as_slice() {
        [] => "no version has a tag".to_owned(),
        all if all.len() <= NAMED => format!("the tags are {}", all.join(", ")),
        [first, ..] => format!("there are {} tags, of which `{first}` looks most like it", tags.len()),
    }
}

/// A version's manifest, and the base it builds on.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The version, whole.
    pub manifest: Manifest,
    /// The base's own content, where the version is a delta against it.
    pub base: Option<Manifest>,
    /// The size of the base's object, in bytes.
    pub base_size: u64,
}

/// Reads the manifest of a version, and checks that it adds up to what the ref says.
///
/// A copy on this machine that turns out to be damaged is fetched again.
pub async fn load(store: &Store, cache: &Cache, keys: &Keys, root: Ulid, row: &Row) -> Result<Loaded, VersionError> {
    let store = &store_of(store, row);
    match load_from(store, cache, keys, root, row).await {
        Err(VersionError::Object { .. }) if cache.manifest(root, row.base).is_some() => {
            cache.keep_manifests(root, |id| id != row.base && Some(id) != row.delta);
            load_from(store, cache, keys, root, row).await
        }
        other => other,
    }
}

/// The store in which a version is read: what is locked is still there below a plain DELETE.
pub fn store_of(store: &Store, row: &Row) -> Store {
    if row.locked { store.past_deletions() } else { store.clone() }
}

/// The same from what this machine has, without a request. Nothing where it has not all of it, or not whole.
pub fn load_kept(cache: &Cache, keys: &Keys, root: Ulid, row: &Row) -> Option<Loaded> {
    let base = cache.manifest(root, row.base)?;
    let delta = match row.delta {
        Some(id) => Some((id, cache.manifest(root, id)?)),
        None => None,
    };
    assembled(keys, row, &base, delta.as_ref().map(|(id, bytes)| (*id, bytes.as_slice()))).ok()
}

async fn load_from(store: &Store, cache: &Cache, keys: &Keys, root: Ulid, row: &Row) -> Result<Loaded, VersionError> {
    let base = object(store, cache, keys, root, row.base);
    let Some(delta_id) = row.delta else { return assembled(keys, row, &base.await?, None) };
    let (base, delta) = futures::future::try_join(base, object(store, cache, keys, root, delta_id)).await?;
    assembled(keys, row, &base, Some((delta_id, &delta)))
}

/// What those objects make, which must be what the ref says.
fn assembled(keys: &Keys, row: &Row, base: &[u8], delta: Option<(Ulid, &[u8])>) -> Result<Loaded, VersionError> {
    let base_size = base.len() as u64;
    let base = manifest::decode(base).map_err(|source| damaged("manifest", keys, row.base, source))?;
    let loaded = if let Some((id, bytes)) = delta {
        let manifest = manifest::decode_delta(bytes, row.base, &base);
        let manifest = manifest.map_err(|source| damaged("delta", keys, id, source))?;
        Loaded { manifest, base: Some(base), base_size }
    } else {
        Loaded { manifest: base, base: None, base_size }
    };
    if loaded.manifest.header.tree != row.tree {
        let source = FormatError::Damaged("it is not the tree that the ref names".to_owned());
        return Err(damaged("manifest", keys, row.delta.unwrap_or(row.base), source));
    }
    let header = &loaded.manifest.header;
    if (header.files, header.bytes) != (row.files, row.bytes) {
        let source = FormatError::Damaged(format!(
            "it has {} files of {} bytes, where the ref names {} of {}",
            header.files, header.bytes, row.files, row.bytes
        ));
        return Err(damaged("manifest", keys, row.delta.unwrap_or(row.base), source));
    }
    Ok(loaded)
}

/// The first line of a version's manifest: its plan among others. One small request.
pub async fn load_header(store: &Store, keys: &Keys, row: &Row) -> Result<Header, VersionError> {
    let key = keys.manifest(row.delta.unwrap_or(row.base));
    header_at(store, &key).await?.map_err(|source| VersionError::Object { what: "manifest", key, source })
}

/// The first line of the manifest or delta at this key. The inner error is what is wrong with it.
pub async fn header_at(store: &Store, key: &str) -> Result<Result<Header, FormatError>, StoreError> {
    let bytes = store.get_start(key, manifest::HEADER_RANGE.end).await?;
    match manifest::read_header(&bytes) {
        // A plan of unusual length: then the whole object.
        Err(FormatError::Damaged(_)) if bytes.len() as u64 == manifest::HEADER_RANGE.end => {
            Ok(manifest::read_header(&store.get_within(key, manifest::MAX_OBJECT).await?.body))
        }
        header => Ok(header),
    }
}

async fn object(store: &Store, cache: &Cache, keys: &Keys, root: Ulid, id: Ulid) -> Result<Bytes, VersionError> {
    if let Some(bytes) = cache.manifest(root, id) {
        return Ok(bytes.into());
    }
    let body = store.get_within(&keys.manifest(id), manifest::MAX_OBJECT).await?.body;
    cache.save_manifest(root, id, &body);
    Ok(body)
}

fn damaged(what: &'static str, keys: &Keys, id: Ulid, source: FormatError) -> VersionError {
    VersionError::Object { what, key: keys.manifest(id), source }
}
