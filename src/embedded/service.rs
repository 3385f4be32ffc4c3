//! The S3 operations on [`Disk`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput, CompleteMultipartUploadOutput,
    CreateMultipartUploadInput, CreateMultipartUploadOutput, ListMultipartUploadsInput, ListMultipartUploadsOutput,
    ListPartsInput, ListPartsOutput, UploadPartCopyInput, UploadPartCopyOutput, UploadPartInput, UploadPartOutput,
};
use s3s::dto::{
    BucketLocationConstraint, CommonPrefix, CopyObjectInput, CopyObjectOutput, CopyObjectResult, CreateBucketInput,
    CreateBucketOutput, DeleteBucketInput, DeleteBucketOutput, DeleteObjectInput, DeleteObjectOutput,
    DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag, ETagCondition, EncodingType, GetBucketLocationInput,
    GetBucketLocationOutput, GetObjectInput, GetObjectLockConfigurationInput, GetObjectLockConfigurationOutput,
    GetObjectOutput, HeadBucketInput, HeadBucketOutput, HeadObjectInput, HeadObjectOutput, ListBucketsInput,
    ListBucketsOutput, ListObjectsInput, ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output, MetadataDirective,
    Object, PutObjectInput, PutObjectOutput, Range, Timestamp,
};
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

use super::content::{Claims, hex, receive, send};
use super::disk::{Check, Disk, DiskError};
use super::file::{Footer, read_footer, write_footer};
use super::listing;
use super::multipart;

/// Keys in one page of a listing, as S3 has it.
const MAX_KEYS: i32 = 1000;
/// Keys in one `DeleteObjects`, as S3 has it.
const MAX_DELETE: usize = 1000;

/// The S3 service on one data folder.
#[derive(Debug, Clone)]
pub(super) struct Service {
    disk: Arc<Disk>,
}

impl Service {
    pub(super) fn new(disk: Arc<Disk>) -> Self {
        Self { disk }
    }

    /// Runs what blocks, on a thread for that.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Disk) -> S3Result<T> + Send + 'static,
    ) -> S3Result<T> {
        let disk = Arc::clone(&self.disk);
        match tokio::task::spawn_blocking(move || work(&disk)).await {
            Ok(result) => result,
            Err(error) => Err(s3_error!(InternalError, "the work was not finished: {error}")),
        }
    }
}

/// What the file system says, as S3 says it.
pub(super) fn internal(error: &std::io::Error) -> S3Error {
    if matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) {
        let code = S3ErrorCode::from_bytes(b"InsufficientStorage").unwrap_or(S3ErrorCode::InternalError);
        let mut full = S3Error::with_message(code, "the disk is full");
        full.set_status_code(http::StatusCode::INSUFFICIENT_STORAGE);
        return full;
    }
    s3_error!(InternalError, "{error}")
}

impl From<DiskError> for S3Error {
    fn from(error: DiskError) -> Self {
        match error {
            DiskError::NoBucket => s3_error!(NoSuchBucket, "the bucket does not exist"),
            DiskError::NoKey => s3_error!(NoSuchKey, "the key does not exist"),
            DiskError::Precondition => s3_error!(PreconditionFailed, "the condition does not hold"),
            DiskError::BucketExists => s3_error!(BucketAlreadyOwnedByYou, "the bucket exists already"),
            DiskError::BucketNotEmpty => s3_error!(BucketNotEmpty, "the bucket has objects"),
            DiskError::Io(error) => internal(&error),
        }
    }
}

pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

pub(super) fn timestamp(milliseconds: i64) -> Timestamp {
    // HTTP dates have whole seconds; conditions on time must compare equal to what was shown.
    let seconds = u64::try_from(milliseconds.div_euclid(1000)).unwrap_or(0);
    Timestamp::from(UNIX_EPOCH + Duration::from_secs(seconds))
}

/// What a conditional write asks for.
pub(super) fn write_check(matches: Option<&ETagCondition>, none: Option<&ETagCondition>) -> S3Result<Check> {
    match (matches, none) {
        (None, None) => Ok(Check::Nothing),
        (None, Some(ETagCondition::Any)) => Ok(Check::Absent),
        (Some(ETagCondition::Any), None) => Ok(Check::Present),
        (Some(ETagCondition::ETag(etag)), None) => Ok(Check::Matches(etag.value().to_owned())),
        _ => Err(s3_error!(NotImplemented, "this combination of conditions is not supported")),
    }
}

/// Whether a conditional read goes ahead, in the order RFC 9110 §13.2.2 gives.
fn check_read(
    footer: &Footer,
    matches: Option<&ETagCondition>,
    none: Option<&ETagCondition>,
    modified: Option<&Timestamp>,
    unmodified: Option<&Timestamp>,
) -> S3Result<()> {
    let is = |condition: &ETagCondition| condition.as_etag().is_none_or(|etag| etag.value() == footer.etag);
    let time = timestamp(footer.modified);
    if let Some(condition) = matches {
        if !is(condition) {
            return Err(s3_error!(PreconditionFailed));
        }
    } else if unmodified.is_some_and(|limit| time > *limit) {
        return Err(s3_error!(PreconditionFailed));
    }
    if let Some(condition) = none {
        if is(condition) {
            return Err(s3_error!(NotModified));
        }
    } else if modified.is_some_and(|limit| time <= *limit) {
        return Err(s3_error!(NotModified));
    }
    Ok(())
}

/// The headers that describe content and are kept as given.
const KEPT_HEADERS: [&str; 6] =
    ["cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "expires"];

/// Those of the kept headers that a request has.
pub(super) fn kept_headers(headers: &http::HeaderMap) -> BTreeMap<String, String> {
    let mut kept = BTreeMap::new();
    for name in KEPT_HEADERS {
        let Some(value) = headers.get(name).and_then(|value| value.to_str().ok()) else { continue };
        // The transfer's own encoding is no property of the object.
        let value = if name == "content-encoding" {
            value.split(',').map(str::trim).filter(|part| *part != "aws-chunked").collect::<Vec<_>>().join(",")
        } else {
            value.to_owned()
        };
        if !value.is_empty() {
            kept.insert(name.to_owned(), value);
        }
    }
    kept
}

fn header<T: std::str::FromStr>(footer: &Footer, name: &str) -> Option<T> {
    footer.headers.get(name).and_then(|value| value.parse().ok())
}

fn expires(footer: &Footer) -> Option<Timestamp> {
    let text = footer.headers.get("expires")?;
    Timestamp::parse(s3s::dto::TimestampFormat::HttpDate, text).ok()
}

/// What a listing shows as a key when the client asked for `url` encoding.
pub(super) fn listed(text: &str, encoding: Option<&EncodingType>) -> String {
    if encoding.is_none_or(|encoding| encoding.as_str() != EncodingType::URL) {
        return text.to_owned();
    }
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            use std::fmt::Write as _;
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn limit(max_keys: Option<i32>) -> S3Result<i32> {
    match max_keys {
        Some(number) if number < 0 => Err(s3_error!(InvalidArgument, "max-keys can't be negative")),
        Some(number) => Ok(number.min(MAX_KEYS)),
        None => Ok(MAX_KEYS),
    }
}

struct Listing {
    objects: Vec<Object>,
    common: Vec<CommonPrefix>,
    next: Option<String>,
}

impl Service {
    async fn list(
        &self,
        bucket: String,
        prefix: String,
        delimiter: String,
        after: String,
        limit: i32,
        encoding: Option<EncodingType>,
    ) -> S3Result<Listing> {
        self.blocking(move |disk| {
            let bucket = disk.bucket(&bucket)?;
            let limit = usize::try_from(limit).unwrap_or(0);
            let page =
                listing::page(bucket.walk(), &prefix, &delimiter, &after, limit).map_err(|error| internal(&error))?;
            let mut objects = Vec::with_capacity(page.objects.len());
            for (key, path) in page.objects {
                let footer = match std::fs::File::open(path).and_then(|mut file| read_footer(&mut file)) {
                    Ok(footer) => footer,
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(s3_error!(InternalError, "`{key}`: {error}")),
                };
                objects.push(Object {
                    key: Some(listed(&key, encoding.as_ref())),
                    size: i64::try_from(footer.size).ok(),
                    e_tag: Some(ETag::Strong(footer.etag.clone())),
                    last_modified: Some(timestamp(footer.modified)),
                    ..Object::default()
                });
            }
            let common = page
                .common_prefixes
                .iter()
                .map(|prefix| CommonPrefix { prefix: Some(listed(prefix, encoding.as_ref())) })
                .collect();
            Ok(Listing { objects, common, next: page.next })
        })
        .await
    }
}

#[async_trait::async_trait]
impl S3 for Service {
    async fn list_buckets(&self, _: S3Request<ListBucketsInput>) -> S3Result<S3Response<ListBucketsOutput>> {
        let buckets = self.blocking(|disk| disk.buckets().map_err(|error| internal(&error))).await?;
        let buckets = buckets
            .into_iter()
            .map(|(name, created)| s3s::dto::Bucket {
                name: Some(name),
                creation_date: Some(timestamp(created)),
                ..Default::default()
            })
            .collect();
        Ok(S3Response::new(ListBucketsOutput { buckets: Some(buckets), ..Default::default() }))
    }

    async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.blocking(move |disk| Ok(disk.bucket(&request.input.bucket).map(|_| ())?)).await?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.blocking(move |disk| Ok(disk.bucket(&request.input.bucket).map(|_| ())?)).await?;
        // Empty means us-east-1.
        let location_constraint = Some(BucketLocationConstraint::from(String::new()));
        Ok(S3Response::new(GetBucketLocationOutput { location_constraint }))
    }

    async fn get_object_lock_configuration(
        &self,
        _: S3Request<GetObjectLockConfigurationInput>,
    ) -> S3Result<S3Response<GetObjectLockConfigurationOutput>> {
        Err(s3_error!(ObjectLockConfigurationNotFoundError, "nothing can be locked here"))
    }

    async fn create_bucket(&self, request: S3Request<CreateBucketInput>) -> S3Result<S3Response<CreateBucketOutput>> {
        let location = Some(format!("/{}", request.input.bucket));
        self.blocking(move |disk| Ok(disk.create_bucket(&request.input.bucket)?)).await?;
        Ok(S3Response::new(CreateBucketOutput { location }))
    }

    async fn delete_bucket(&self, request: S3Request<DeleteBucketInput>) -> S3Result<S3Response<DeleteBucketOutput>> {
        self.blocking(move |disk| Ok(disk.delete_bucket(&request.input.bucket)?)).await?;
        Ok(S3Response::with_status(DeleteBucketOutput::default(), http::StatusCode::NO_CONTENT))
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let S3Request { input, headers, trailing_headers, .. } = request;
        let check = write_check(input.if_match.as_ref(), input.if_none_match.as_ref())?;
        let claims = Claims::of(&headers, input.content_length);
        let runtime = tokio::runtime::Handle::current();
        self.blocking(move |disk| {
            let bucket = disk.bucket(&input.bucket)?;
            let received = receive(&runtime, bucket.temporary()?, input.body, &claims, trailing_headers.as_ref())?;
            let footer = Footer {
                key: input.key,
                size: received.size,
                etag: hex(&received.md5),
                modified: now(),
                headers: kept_headers(&headers),
                metadata: input.metadata.unwrap_or_default().into_iter().collect(),
                checksums: received.checksums.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            };
            let mut temporary = received.temporary;
            write_footer(&mut temporary.file, &footer).map_err(|error| internal(&error))?;
            bucket.publish(temporary, &footer.key, &check)?;
            let checksum = |name: &str| footer.checksums.get(name).cloned();
            Ok(S3Response::new(PutObjectOutput {
                e_tag: Some(ETag::Strong(footer.etag.clone())),
                checksum_crc32: checksum("crc32"),
                checksum_crc32c: checksum("crc32c"),
                checksum_crc64nvme: checksum("crc64nvme"),
                checksum_sha1: checksum("sha1"),
                checksum_sha256: checksum("sha256"),
                ..Default::default()
            }))
        })
        .await
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        if input.part_number.is_some() {
            return Err(s3_error!(NotImplemented, "reading a single part is not supported"));
        }
        self.blocking(move |disk| {
            let (file, footer) = disk.bucket(&input.bucket)?.open(&input.key)?;
            check_read(
                &footer,
                input.if_match.as_ref(),
                input.if_none_match.as_ref(),
                input.if_modified_since.as_ref(),
                input.if_unmodified_since.as_ref(),
            )?;
            let (range, content_range) = wanted(&footer, input.range.as_ref())?;
            let whole = content_range.is_none() && input.checksum_mode.is_some();
            let checksum = |name: &str| whole.then(|| footer.checksums.get(name).cloned()).flatten();
            let content_length = i64::try_from(range.end - range.start).ok();
            Ok(S3Response::new(GetObjectOutput {
                accept_ranges: Some("bytes".to_owned()),
                body: Some(send(file, range).map_err(|error| internal(&error))?),
                cache_control: header(&footer, "cache-control"),
                checksum_crc32: checksum("crc32"),
                checksum_crc32c: checksum("crc32c"),
                checksum_crc64nvme: checksum("crc64nvme"),
                checksum_sha1: checksum("sha1"),
                checksum_sha256: checksum("sha256"),
                content_disposition: header(&footer, "content-disposition"),
                content_encoding: header(&footer, "content-encoding"),
                content_language: header(&footer, "content-language"),
                content_length,
                content_range,
                content_type: header(&footer, "content-type"),
                e_tag: Some(ETag::Strong(footer.etag.clone())),
                expires: expires(&footer),
                last_modified: Some(timestamp(footer.modified)),
                metadata: Some(footer.metadata.into_iter().collect()),
                ..Default::default()
            }))
        })
        .await
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        self.blocking(move |disk| {
            let (_, footer) = disk.bucket(&input.bucket)?.open(&input.key)?;
            check_read(
                &footer,
                input.if_match.as_ref(),
                input.if_none_match.as_ref(),
                input.if_modified_since.as_ref(),
                input.if_unmodified_since.as_ref(),
            )?;
            let (range, content_range) = wanted(&footer, input.range.as_ref())?;
            let checksum =
                |name: &str| input.checksum_mode.is_some().then(|| footer.checksums.get(name).cloned()).flatten();
            let status = content_range.is_some().then_some(http::StatusCode::PARTIAL_CONTENT);
            let mut response = S3Response::new(HeadObjectOutput {
                accept_ranges: Some("bytes".to_owned()),
                cache_control: header(&footer, "cache-control"),
                checksum_crc32: checksum("crc32"),
                checksum_crc32c: checksum("crc32c"),
                checksum_crc64nvme: checksum("crc64nvme"),
                checksum_sha1: checksum("sha1"),
                checksum_sha256: checksum("sha256"),
                content_disposition: header(&footer, "content-disposition"),
                content_encoding: header(&footer, "content-encoding"),
                content_language: header(&footer, "content-language"),
                content_length: i64::try_from(range.end - range.start).ok(),
                content_range,
                content_type: header(&footer, "content-type"),
                e_tag: Some(ETag::Strong(footer.etag.clone())),
                expires: expires(&footer),
                last_modified: Some(timestamp(footer.modified)),
                metadata: Some(footer.metadata.into_iter().collect()),
                ..Default::default()
            });
            response.status = status;
            Ok(response)
        })
        .await
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = request.input;
        if input.if_match_size.is_some() || input.if_match_last_modified_time.is_some() {
            return Err(s3_error!(NotImplemented, "a delete can be conditional on the ETag only"));
        }
        let check = write_check(input.if_match.as_ref(), None)?;
        self.blocking(move |disk| Ok(disk.bucket(&input.bucket)?.remove(&input.key, &check)?)).await?;
        Ok(S3Response::with_status(DeleteObjectOutput::default(), http::StatusCode::NO_CONTENT))
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let input = request.input;
        if input.delete.objects.len() > MAX_DELETE {
            return Err(s3_error!(MalformedXML, "at most {MAX_DELETE} keys can be deleted at once"));
        }
        self.blocking(move |disk| {
            let bucket = disk.bucket(&input.bucket)?;
            let (mut deleted, mut errors) = (Vec::new(), Vec::new());
            for object in input.delete.objects {
                let check = object.e_tag.map_or(Check::Nothing, |etag| Check::Matches(etag.into_value()));
                match bucket.remove(&object.key, &check) {
                    Ok(()) if input.delete.quiet == Some(true) => {}
                    Ok(()) => deleted.push(DeletedObject { key: Some(object.key), ..Default::default() }),
                    Err(error) => {
                        let error = S3Error::from(error);
                        errors.push(s3s::dto::Error {
                            code: Some(error.code().as_str().to_owned()),
                            key: Some(object.key),
                            message: error.message().map(str::to_owned),
                            version_id: None,
                        });
                    }
                }
            }
            let errors = (!errors.is_empty()).then_some(errors);
            Ok(S3Response::new(DeleteObjectsOutput { deleted: Some(deleted), errors, ..Default::default() }))
        })
        .await
    }

    async fn copy_object(&self, request: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        let S3Request { input, headers, .. } = request;
        self.blocking(move |disk| {
            let (mut source, old) = multipart::open_source(
                disk,
                &input.copy_source,
                input.copy_source_if_match.as_ref(),
                input.copy_source_if_none_match.as_ref(),
            )?;
            let replace = input
                .metadata_directive
                .as_ref()
                .is_some_and(|directive| directive.as_str() == MetadataDirective::REPLACE);
            let bucket = disk.bucket(&input.bucket)?;
            let mut temporary = bucket.temporary()?;
            multipart::copy(&mut source, 0..old.size, &mut temporary.file).map_err(|error| internal(&error))?;
            let footer = Footer {
                key: input.key,
                modified: now(),
                headers: if replace { kept_headers(&headers) } else { old.headers },
                metadata: if replace { input.metadata.unwrap_or_default().into_iter().collect() } else { old.metadata },
                ..old
            };
            write_footer(&mut temporary.file, &footer).map_err(|error| internal(&error))?;
            bucket.publish(temporary, &footer.key, &Check::Nothing)?;
            let result = CopyObjectResult {
                e_tag: Some(ETag::Strong(footer.etag)),
                last_modified: Some(timestamp(footer.modified)),
                ..Default::default()
            };
            Ok(S3Response::new(CopyObjectOutput { copy_object_result: Some(result), ..Default::default() }))
        })
        .await
    }

    async fn list_objects(&self, request: S3Request<ListObjectsInput>) -> S3Result<S3Response<ListObjectsOutput>> {
        let input = request.input;
        let max_keys = limit(input.max_keys)?;
        let prefix = input.prefix.clone().unwrap_or_default();
        let delimiter = input.delimiter.clone().unwrap_or_default();
        let marker = input.marker.clone().unwrap_or_default();
        let encoding = input.encoding_type.clone();
        let listing = self.list(input.bucket.clone(), prefix, delimiter, marker, max_keys, encoding.clone()).await?;
        let encode = |text: Option<String>| text.map(|text| listed(&text, encoding.as_ref()));
        Ok(S3Response::new(ListObjectsOutput {
            name: Some(input.bucket),
            prefix: encode(Some(input.prefix.unwrap_or_default())),
            marker: encode(Some(input.marker.unwrap_or_default())),
            max_keys: Some(max_keys),
            is_truncated: Some(listing.next.is_some()),
            // Without a delimiter clients go on from the last key; a marker more does no harm.
            next_marker: encode(listing.next),
            contents: Some(listing.objects),
            common_prefixes: Some(listing.common),
            delimiter: encode(input.delimiter),
            encoding_type: input.encoding_type,
            ..Default::default()
        }))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let max_keys = limit(input.max_keys)?;
        let after = match &input.continuation_token {
            Some(token) => multipart::decode_token(token)?,
            None => input.start_after.clone().unwrap_or_default(),
        };
        let prefix = input.prefix.clone().unwrap_or_default();
        let delimiter = input.delimiter.clone().unwrap_or_default();
        let encoding = input.encoding_type.clone();
        let listing = self.list(input.bucket.clone(), prefix, delimiter, after, max_keys, encoding.clone()).await?;
        let encode = |text: Option<String>| text.map(|text| listed(&text, encoding.as_ref()));
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: encode(Some(input.prefix.unwrap_or_default())),
            max_keys: Some(max_keys),
            key_count: i32::try_from(listing.objects.len() + listing.common.len()).ok(),
            continuation_token: input.continuation_token,
            is_truncated: Some(listing.next.is_some()),
            next_continuation_token: listing.next.as_deref().map(multipart::encode_token),
            contents: Some(listing.objects),
            common_prefixes: Some(listing.common),
            delimiter: encode(input.delimiter),
            encoding_type: input.encoding_type,
            start_after: encode(input.start_after),
            ..Default::default()
        }))
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        self.blocking(move |disk| multipart::create(disk, request)).await
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let runtime = tokio::runtime::Handle::current();
        self.blocking(move |disk| multipart::upload(disk, &runtime, request)).await
    }

    async fn upload_part_copy(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        self.blocking(move |disk| multipart::upload_copy(disk, request.input)).await
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        self.blocking(move |disk| multipart::complete(disk, request.input)).await
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.blocking(move |disk| multipart::abort(disk, &request.input)).await
    }

    async fn list_parts(&self, request: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        self.blocking(move |disk| multipart::list_parts(disk, request.input)).await
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        self.blocking(move |disk| multipart::list_uploads(disk, request.input)).await
    }
}

/// The bytes asked for, and the `Content-Range` to say so when they aren't all.
fn wanted(footer: &Footer, range: Option<&Range>) -> S3Result<(std::ops::Range<u64>, Option<String>)> {
    let Some(range) = range else { return Ok((0..footer.size, None)) };
    let bytes = range.check(footer.size)?;
    if bytes.is_empty() {
        return Err(s3_error!(InvalidRange));
    }
    let text = format!("bytes {}-{}/{}", bytes.start, bytes.end - 1, footer.size);
    Ok((bytes, Some(text)))
}
