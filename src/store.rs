//! The object store: the only module that knows the S3 SDK.
//!
//! One client for AWS, any S3 server and the embedded store. Errors come by meaning ([`StoreError`]), bodies go from
//! memory with a checksum of our own and are checked for completeness when they come, listings are sorted here.

pub mod bucket;
pub mod cdn;
mod connect;
mod error;
mod granted;
pub mod multipart;
pub mod presign;
mod read;
mod transport;
pub mod versions;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::primitives::ByteStream;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

use crate::settings::{Backend, S3Settings, StoreSettings};

pub use error::StoreError;
use error::{Request, short};
use granted::Addresses;
pub use granted::Granted;
use presign::SeenCredentials;
use transport::Counters;
pub use transport::RequestCounts;

/// What came of deleting many objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deletion {
    /// Those that the server keeps, each with its error code.
    pub refused: Vec<(String, String)>,
    /// Those that are hidden by a delete marker, and whose versions can't be removed: they go on taking space.
    pub hidden: u64,
}

/// Of everything here.
const CONTENT_TYPE: &str = "application/octet-stream";
/// `Cache-Control` of what never changes: <https://www.rfc-editor.org/rfc/rfc8246>; a year is the longest that is usual.
const IMMUTABLE: &str = "max-age=31536000, immutable";
/// Keys in one `DeleteObjects`, as S3 has it.
const DELETE_BATCH: usize = 1000;
/// From where on the time that MD5 takes is worth a thought, in bytes.
const LARGE: usize = 256 << 10;
/// A listing that goes on for longer than this many pages of a thousand keys is not one of ours.
const MAX_PAGES: usize = 100_000;

/// An ETag, exactly as the server gave it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ETag(String);

impl ETag {
    /// An ETag that was kept as text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// An object's content.
#[derive(Debug, Clone)]
pub struct Object {
    /// All of it.
    pub body: Bytes,
    /// Its ETag.
    pub etag: ETag,
}

/// What a listing or a HEAD says about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its key.
    pub key: String,
    /// Bytes of content.
    pub size: u64,
    /// Its ETag.
    pub etag: ETag,
    /// When it was written, by the server's clock.
    pub modified: Option<jiff::Timestamp>,
}

/// What must hold for a write to take effect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Condition {
    /// Anything.
    #[default]
    None,
    /// No object has the key (`If-None-Match: *`).
    Absent,
    /// The object has this ETag (`If-Match`).
    Matches(ETag),
}

impl Condition {
    fn if_match(&self) -> Option<String> {
        if let Self::Matches(etag) = self { Some(etag.0.clone()) } else { None }
    }

    fn if_none_match(&self) -> Option<String> {
        (*self == Self::Absent).then(|| "*".to_owned())
    }

    /// Whether it holds for an object with this ETag, or for none.
    fn holds(&self, found: Option<&ETag>) -> bool {
        match self {
            Self::None => true,
            Self::Absent => found.is_none(),
            Self::Matches(etag) => found == Some(etag),
        }
    }
}

/// A bucket of a store. Cheap to clone; all clones share one client.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    /// Whether reads look for versions below a delete marker.
    past_deletions: bool,
    /// Keys that lie elsewhere in the bucket.
    nested: Option<Arc<Nested>>,
    cdn: Option<Arc<cdn::Cdn>>,
}

/// Keys that begin in one way lie where they begin in another.
struct Nested {
    prefixes: Vec<(String, String)>,
}

struct Shared {
    client: Client,
    bucket: String,
    endpoint: String,
    location: String,
    region: Option<String>,
    custom: bool,
    counters: Arc<Counters>,
    /// Nothing where addresses take the place of keys.
    credentials: Option<SeenCredentials>,
    /// When the addresses expire that take the place of keys.
    expires: Option<jiff::Timestamp>,
    /// These addresses.
    addresses: Option<Arc<BTreeMap<String, String>>>,
    /// Whether what is sent can't be changed on its way: by TLS, or since it doesn't leave this machine. Then a signature of
    /// the whole body proves nothing more.
    private: bool,
    learned: Learned,
}

/// What has been learned of the server since.
#[derive(Default)]
struct Learned {
    /// Conditions that it refuses may be looked after here: nobody else writes.
    single_writer: AtomicBool,
    /// It has refused the quicker checksum.
    only_md5: AtomicBool,
    /// It wants a signature of every body.
    signs_all: AtomicBool,
}

impl fmt::Debug for Store {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Store").field("location", &self.shared.location).finish_non_exhaustive()
    }
}

impl Store {
    /// Builds the client. No request is made to the store.
    pub async fn connect(settings: &StoreSettings) -> Result<Self, StoreError> {
        let counters = Arc::new(Counters::default());
        let (client, region, credentials) = connect::client(settings, &counters).await?;
        let bucket = settings.bucket.clone();
        let (endpoint, location, custom) = match &settings.backend {
            Backend::Embedded { directory } => {
                let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.clone());
                let location = format!("the store on this machine ({})", directory.display());
                (location.clone(), location, true)
            }
            Backend::S3(S3Settings { endpoint: Some(endpoint), .. }) => {
                (endpoint.clone(), format!("s3://{bucket} at {endpoint}"), true)
            }
            Backend::S3(_) => {
                let region = region.as_deref().unwrap_or("no region");
                (format!("AWS ({region})"), format!("s3://{bucket} (AWS, {region})"), false)
            }
        };
        let private = match &settings.backend {
            Backend::S3(S3Settings { endpoint: Some(endpoint), .. }) => connect::is_private(endpoint),
            Backend::S3(_) | Backend::Embedded { .. } => true,
        };
        let (credentials, expires, addresses) = (Some(credentials), None, None);
        let shared = Shared {
            client,
            bucket,
            endpoint,
            location,
            region,
            custom,
            counters,
            credentials,
            expires,
            addresses,
            private,
            learned: Learned::default(),
        };
        Ok(Self::of(shared))
    }

    /// The same bucket, in which keys that begin with the first of a pair lie where they begin with the second. What is
    /// written for a whole bucket works in a part of it so.
    #[must_use]
    pub fn nested(&self, prefixes: Vec<(String, String)>) -> Self {
        Self { nested: Some(Arc::new(Nested { prefixes })), ..self.clone() }
    }

    /// Where an object lies in the bucket.
    pub(crate) fn at(&self, key: &str) -> String {
        let prefixes = self.nested.iter().flat_map(|nested| &nested.prefixes);
        let mut found = prefixes.filter_map(|(from, to)| Some(format!("{to}{}", key.strip_prefix(from)?)));
        found.next().unwrap_or_else(|| key.to_owned())
    }

    /// What an object in the bucket is called here.
    fn called(&self, key: &str) -> String {
        let prefixes = self.nested.iter().flat_map(|nested| &nested.prefixes);
        let mut found = prefixes.filter_map(|(from, to)| Some(format!("{from}{}", key.strip_prefix(to)?)));
        found.next().unwrap_or_else(|| key.to_owned())
    }

    fn of(shared: Shared) -> Self {
        Self { shared: Arc::new(shared), past_deletions: false, nested: None, cdn: None }
    }

    /// A store of which the granted objects can be read, and nothing else. No request is made to it.
    pub fn granted(granted: &Granted) -> Result<Self, StoreError> {
        let counters = Arc::new(Counters::default());
        let endpoint = granted.endpoint();
        let addresses = Arc::new(granted.addresses.clone());
        let tls = addresses.values().any(|address| address.starts_with("https://"));
        let ca_bundle = granted.ca_bundle.as_deref();
        let http = connect::http_client(ca_bundle, tls)?;
        let shared = Shared {
            client: connect::addressed(Addresses::Granted(addresses.clone()), http, &granted.limits, &counters),
            bucket: granted::BUCKET.to_owned(),
            location: endpoint.clone(),
            endpoint,
            region: None,
            custom: true,
            counters,
            credentials: None,
            expires: Some(granted.expires),
            addresses: Some(addresses),
            private: false,
            learned: Learned::default(),
        };
        Ok(Self::of(shared))
    }

    /// What is known about an object without reading it.
    pub async fn head(&self, key: &str) -> Result<ObjectInfo, StoreError> {
        let request = self.request("HeadObject", Some(key));
        let output = self
            .shared
            .client
            .head_object()
            .bucket(&self.shared.bucket)
            .key(self.at(key))
            .send()
            .await
            .map_err(|error| request.explain(&error))?;
        let Some(etag) = output.e_tag() else {
            let reason = "an object without an ETag".to_owned();
            return Err(StoreError::NotS3 { endpoint: self.shared.endpoint.clone(), reason });
        };
        Ok(ObjectInfo {
            key: key.to_owned(),
            size: output.content_length().and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
            etag: ETag::new(etag),
            modified: output.last_modified().and_then(timestamp),
        })
    }

    /// Writes an object. The SDK may send the request more than once, so after a conditional write that lost, the
    /// winner may be an earlier attempt of this one: whoever has to know uses [`Store::put_once`].
    pub async fn put(&self, key: &str, body: Bytes, condition: Condition) -> Result<ETag, StoreError> {
        self.write(key, body, &Write { condition, ..Write::default() }).await
    }

    /// Writes an object that never changes: whoever caches it may keep it for good.
    ///
    /// A large one is checked by the server with CRC-32C, which costs next to nothing, unless it knows only what every
    /// server knows: MD5. It is signed by its SHA-256 only where somebody on the way could change it.
    pub async fn put_immutable(&self, key: &str, body: Bytes) -> Result<ETag, StoreError> {
        let Shared { private, learned: Learned { only_md5, signs_all, .. }, .. } = &*self.shared;
        let crc = body.len() >= LARGE && !only_md5.load(Ordering::Relaxed);
        let unsigned = crc && *private && !signs_all.load(Ordering::Relaxed);
        let mut write = Write { immutable: true, crc, unsigned, ..Write::default() };
        loop {
            match self.write(key, body.clone(), &write).await {
                // A policy may demand it (the condition key `s3:x-amz-content-sha256`).
                Err(StoreError::AccessDenied { .. }) if write.unsigned => {
                    signs_all.store(true, Ordering::Relaxed);
                    write.unsigned = false;
                }
                Err(StoreError::Unsupported { .. } | StoreError::Server { status: 400, .. }) if write.crc => {
                    only_md5.store(true, Ordering::Relaxed);
                    (write.crc, write.unsigned) = (false, false);
                }
                other => return other,
            }
        }
    }

    /// Writes an object by exactly one request.
    pub async fn put_once(&self, key: &str, body: Bytes, condition: Condition) -> Result<ETag, StoreError> {
        self.write(key, body, &Write { condition, once: true, ..Write::default() }).await
    }

    /// From now on conditions of writes that the server refuses to hear of are looked after here, as well as that goes: the
    /// bucket is known to be without them, and somebody has promised that nobody else writes.
    pub(crate) fn trust_single_writer(&self) {
        self.shared.learned.single_writer.store(true, Ordering::Relaxed);
    }

    async fn write(&self, key: &str, body: Bytes, write: &Write) -> Result<ETag, StoreError> {
        match self.write_as_it_is(key, body.clone(), write).await {
            Err(StoreError::Unsupported { .. })
                if write.condition != Condition::None && self.shared.learned.single_writer.load(Ordering::Relaxed) =>
            {
                let found = match self.head(key).await {
                    Ok(info) => Some(info.etag),
                    Err(StoreError::NotFound { .. }) => None,
                    Err(error) => return Err(error),
                };
                if !write.condition.holds(found.as_ref()) {
                    return Err(StoreError::Precondition { key: key.to_owned() });
                }
                self.write_as_it_is(key, body, &Write { condition: Condition::None, ..*write }).await
            }
            other => other,
        }
    }

    async fn write_as_it_is(&self, key: &str, body: Bytes, write: &Write) -> Result<ETag, StoreError> {
        let condition = &write.condition;
        let request = self.request("PutObject", Some(key));
        let operation = self
            .shared
            .client
            .put_object()
            .bucket(&self.shared.bucket)
            .key(self.at(key))
            .content_type(CONTENT_TYPE)
            .set_cache_control(write.immutable.then(|| IMMUTABLE.to_owned()))
            // Either is enough where a bucket with Object Lock demands a checksum.
            .set_checksum_crc32_c(write.crc.then(|| crc32c(&body)))
            .set_content_md5((!write.crc).then(|| BASE64.encode(Md5::digest(&body))))
            .set_if_match(condition.if_match())
            .set_if_none_match(condition.if_none_match())
            .body(ByteStream::from(body));
        let mut operation = operation.customize();
        if write.once {
            operation = operation.config_override(single_attempt());
        }
        if write.unsigned {
            operation = operation.disable_payload_signing();
        }
        let sent = operation.send().await;
        let output = sent.map_err(|error| match request.explain(&error) {
            // AWS answers 404 to If-Match on a missing key, others 412: both mean that it isn't what it was.
            StoreError::NotFound { key } if matches!(condition, Condition::Matches(_)) => {
                StoreError::Precondition { key }
            }
            other => other,
        })?;
        match output.e_tag() {
            Some(etag) => Ok(ETag::new(etag)),
            None => Err(StoreError::NotS3 {
                endpoint: self.shared.endpoint.clone(),
                reason: "a write was answered without an ETag".to_owned(),
            }),
        }
    }

    /// Deletes an object. One that isn't there is deleted already, unless a condition says otherwise.
    pub async fn delete(&self, key: &str, condition: Condition) -> Result<(), StoreError> {
        let request = self.request("DeleteObject", Some(key));
        let sent = self
            .shared
            .client
            .delete_object()
            .bucket(&self.shared.bucket)
            .key(self.at(key))
            .set_if_match(condition.if_match())
            .send()
            .await;
        match sent.map_err(|error| request.explain(&error)) {
            Err(StoreError::NotFound { key }) if condition != Condition::None => Err(StoreError::Precondition { key }),
            Ok(output) if output.delete_marker() == Some(true) => {
                // Hidden by now, which is what was asked for; what it holds in a versioned bucket is freed if possible.
                self.purge(&[key.to_owned()]).await;
                Ok(())
            }
            Ok(_) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Fails where these keys may not delete, found out by an object that never was. Asked before something is changed that only makes
    /// sense with a deletion after it.
    pub async fn may_delete(&self, unused: &str) -> Result<(), StoreError> {
        match self.delete(unused, Condition::None).await {
            Err(error @ StoreError::AccessDenied { .. }) => Err(error),
            // Anything else will be met, and told, by the deletion itself.
            _ => Ok(()),
        }
    }

    /// Deletes many objects, a thousand with one request. All are tried, then the first failure is reported.
    pub async fn delete_many(&self, keys: &[String]) -> Result<(), StoreError> {
        let refused = self.delete_each(keys).await?.refused;
        let count = refused.len();
        match refused.into_iter().next() {
            None => Ok(()),
            Some((key, code)) => Err(StoreError::Delete { count, key, code }),
        }
    }

    /// Deletes many objects, a thousand with one request, with all their versions where the bucket keeps versions.
    pub async fn delete_each(&self, keys: &[String]) -> Result<Deletion, StoreError> {
        let mut deletion = Deletion::default();
        for batch in keys.chunks(DELETE_BATCH) {
            let batch: Vec<(String, Option<String>)> = batch.iter().map(|key| (key.clone(), None)).collect();
            let (marked, refused) = self.delete_batch(&batch).await?;
            deletion.refused.extend(refused);
            if !marked.is_empty() {
                let purged = self.purge(&marked).await;
                deletion.refused.extend(purged.refused);
                deletion.hidden += purged.hidden;
            }
        }
        Ok(deletion)
    }

    /// All objects whose keys begin with `prefix`, sorted by key.
    pub async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.list_most(prefix, usize::MAX).await
    }

    /// Like [`Self::list`], and ends soon after `most` objects: there may be a page more than that, and what else there is isn't
    /// asked for.
    pub async fn list_most(&self, prefix: &str, most: usize) -> Result<Vec<ObjectInfo>, StoreError> {
        let mut objects = Vec::new();
        let mut token = None;
        for _ in 0..MAX_PAGES {
            let page = self.list_page(prefix, Listing { token, ..Listing::default() }).await?;
            objects.extend(page.objects);
            token = page.next.filter(|_| objects.len() <= most);
            if token.is_none() {
                // Servers' orders differ.
                objects.sort_by(|one: &ObjectInfo, other| one.key.cmp(&other.key));
                return Ok(objects);
            }
        }
        Err(self.endless())
    }

    /// The next parts of the keys that begin with `prefix`, up to and with their `/`, sorted. A server may go on naming one
    /// below which nothing is left.
    pub async fn folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let mut folders = BTreeSet::new();
        let mut token = None;
        for _ in 0..MAX_PAGES {
            let page = self.list_page(prefix, Listing { token, folded: true, ..Listing::default() }).await?;
            folders.extend(page.folders);
            token = page.next;
            if token.is_none() {
                return Ok(folders.into_iter().collect());
            }
        }
        Err(self.endless())
    }

    fn endless(&self) -> StoreError {
        let reason = "a listing without an end".to_owned();
        StoreError::NotS3 { endpoint: self.shared.endpoint.clone(), reason }
    }

    /// One page of a listing, and how to go on.
    async fn list_page(&self, prefix: &str, listing: Listing) -> Result<Page, StoreError> {
        let request = self.request("ListObjectsV2", None);
        let output = self
            .shared
            .client
            .list_objects_v2()
            .bucket(&self.shared.bucket)
            .prefix(self.at(prefix))
            .set_delimiter(listing.folded.then(|| "/".to_owned()))
            .set_max_keys(listing.limit)
            .set_continuation_token(listing.token)
            .send()
            .await
            .map_err(|error| request.explain(&error))?;
        // The SDK takes any document without the elements it looks for as an empty listing.
        if output.name().is_none() && output.key_count().is_none() && output.is_truncated().is_none() {
            let reason = "a listing that names no bucket".to_owned();
            return Err(StoreError::NotS3 { endpoint: self.shared.endpoint.clone(), reason });
        }
        let objects = output
            .contents()
            .iter()
            .filter_map(|object| {
                Some(ObjectInfo {
                    key: self.called(object.key()?),
                    size: object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
                    etag: ETag::new(object.e_tag().unwrap_or_default()),
                    modified: object.last_modified().and_then(timestamp),
                })
            })
            .collect();
        let folders = output
            .common_prefixes()
            .iter()
            .filter_map(|folder| self.called(folder.prefix()?).strip_prefix(prefix).map(str::to_owned))
            .collect();
        let more = output.is_truncated() == Some(true);
        let next = output.next_continuation_token().filter(|_| more).map(str::to_owned);
        Ok(Page { objects, folders, next })
    }

    /// Whether the bucket is there.
    pub async fn bucket_exists(&self) -> Result<bool, StoreError> {
        let request = self.request("HeadBucket", None);
        let sent = self.shared.client.head_bucket().bucket(&self.shared.bucket).send().await;
        match sent.map_err(|error| request.explain(&error)) {
            Ok(_) => Ok(true),
            Err(StoreError::NoBucket { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Creates the bucket. One that is ours already is fine.
    pub async fn create_bucket(&self) -> Result<(), StoreError> {
        self.create_bucket_with(false).await
    }

    /// The same, with Object Lock (and the versions that it needs) if asked for: later it can't be had everywhere.
    pub async fn create_bucket_with(&self, object_lock: bool) -> Result<(), StoreError> {
        use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};
        let request = self.request("CreateBucket", None);
        // AWS wants to be told the region, except the first one, where it must not be.
        let region = self.shared.region.as_deref().filter(|region| !self.shared.custom && *region != "us-east-1");
        let configuration = region.map(|region| {
            CreateBucketConfiguration::builder().location_constraint(BucketLocationConstraint::from(region)).build()
        });
        let sent = self
            .shared
            .client
            .create_bucket()
            .bucket(&self.shared.bucket)
            .set_create_bucket_configuration(configuration)
            .set_object_lock_enabled_for_bucket(object_lock.then_some(true))
            .send()
            .await;
        match sent {
            Ok(_) => Ok(()),
            Err(error) => {
                use aws_sdk_s3::error::ProvideErrorMetadata as _;
                match error.code() {
                    Some("BucketAlreadyOwnedByYou") => Ok(()),
                    _ => Err(request.explain(&error)),
                }
            }
        }
    }

    /// Removes the bucket, which must be empty.
    pub async fn delete_bucket(&self) -> Result<(), StoreError> {
        let request = self.request("DeleteBucket", None);
        let sent = self.shared.client.delete_bucket().bucket(&self.shared.bucket).send().await;
        sent.map(|_| ()).map_err(|error| request.explain(&error))
    }

    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        &self.shared.bucket
    }

    /// Where this is, for a person: `s3://bucket at http://…`.
    pub fn location(&self) -> String {
        self.shared.location.clone()
    }

    /// Names endpoint and bucket, the same in every process: what local caches are kept under.
    pub fn identity(&self) -> String {
        format!("{} {}", if self.shared.custom { self.shared.endpoint.as_str() } else { "aws" }, self.shared.bucket)
    }

    /// What has been asked of the store through this client.
    pub fn counts(&self) -> RequestCounts {
        self.shared.counters.read()
    }

    fn request<'a>(&'a self, operation: &'static str, key: Option<&'a str>) -> Request<'a> {
        tracing::debug!(operation, key, "request");
        Request {
            operation,
            endpoint: &self.shared.endpoint,
            bucket: &self.shared.bucket,
            key,
            granted_until: self.shared.expires,
        }
    }
}

/// CRC-32C in base64, as S3 wants it: the bytes of the number, the largest first.
fn crc32c(bytes: &[u8]) -> String {
    let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes);
    BASE64.encode(u32::try_from(sum).unwrap_or(u32::MAX).to_be_bytes())
}

/// How an object is written.
#[derive(Default)]
struct Write {
    condition: Condition,
    /// By exactly one request.
    once: bool,
    /// It never changes.
    immutable: bool,
    /// Checked by CRC-32C instead of MD5.
    crc: bool,
    /// Its body isn't signed.
    unsigned: bool,
}

/// What part of a listing is asked for.
#[derive(Default)]
struct Listing {
    limit: Option<i32>,
    /// Where the last page ended.
    token: Option<String>,
    /// Keys are folded at the next `/`.
    folded: bool,
}

struct Page {
    objects: Vec<ObjectInfo>,
    folders: Vec<String>,
    next: Option<String>,
}

fn single_attempt() -> aws_sdk_s3::config::Builder {
    aws_sdk_s3::Config::builder().retry_config(RetryConfig::disabled())
}

fn configuration(error: &aws_sdk_s3::error::BuildError) -> StoreError {
    StoreError::Configuration { reason: error.to_string() }
}

fn timestamp(time: &aws_sdk_s3::primitives::DateTime) -> Option<jiff::Timestamp> {
    jiff::Timestamp::new(time.secs(), i32::try_from(time.subsec_nanos()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    /// RFC 3720, appendix B.4: the sum of 32 bytes of zeroes.
    #[test]
    fn the_checksum_is_the_one_of_iscsi() {
        use base64::Engine as _;
        let sum = super::BASE64.decode(super::crc32c(&[0; 32])).unwrap();
        assert_eq!(sum, 0x8a91_36aa_u32.to_be_bytes());
    }
}
