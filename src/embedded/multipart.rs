//! Multipart uploads and copies.
//!
//! An upload in progress is a folder named by its id: `upload.json`, and one file per part of the same form as an
//! object's (content, then footer). Completing one copies the parts into one file and publishes it like any other.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use md5::{Digest, Md5};
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput, CompleteMultipartUploadOutput,
    CopyPartResult, CopySource, CreateMultipartUploadInput, CreateMultipartUploadOutput, ETag, ETagCondition,
    ListMultipartUploadsInput, ListMultipartUploadsOutput, ListPartsInput, ListPartsOutput, MultipartUpload, Part,
    Range, UploadPartCopyInput, UploadPartCopyOutput, UploadPartInput, UploadPartOutput,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::content::{Claims, hex, receive};
use super::disk::{Bucket, Disk, DiskError, create_private, sync_folder, write_private};
use super::file::{Footer, read_footer, write_footer};
use super::service::{internal, kept_headers, listed, now, timestamp, write_check};

/// Every part but the last has at least this, as S3 has it.
const MIN_PART: u64 = 5 * 1024 * 1024;
/// How often the folder of an upload is removed, as parts come in.
const REMOVALS: u32 = 100;
/// Parts are numbered from 1 to this, as S3 has it.
const MAX_PARTS: i32 = 10_000;
/// Entries in one page of a listing, as S3 has it.
const MAX_LISTED: i32 = 1000;

/// `upload.json`.
#[derive(Serialize, Deserialize)]
struct Upload {
    key: String,
    created: i64,
    headers: BTreeMap<String, String>,
    metadata: BTreeMap<String, String>,
}

fn folder_of(bucket: &Bucket<'_>, id: &str) -> S3Result<PathBuf> {
    // Only what we made ourselves may become a path.
    let id: Ulid = id.parse().map_err(|_| s3_error!(NoSuchUpload, "there is no such upload"))?;
    Ok(bucket.uploads().join(id.to_string()))
}

fn open_upload(bucket: &Bucket<'_>, id: &str, key: &str) -> S3Result<(PathBuf, Upload)> {
    let folder = folder_of(bucket, id)?;
    let missing = || s3_error!(NoSuchUpload, "there is no such upload");
    let text = match fs::read(folder.join("upload.json")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
        other => other.map_err(|error| internal(&error))?,
    };
    let upload: Upload = serde_json::from_slice(&text).map_err(|error| internal(&error.into()))?;
    if upload.key == key { Ok((folder, upload)) } else { Err(missing()) }
}

fn part_path(folder: &std::path::Path, number: i32) -> S3Result<PathBuf> {
    if !(1..=MAX_PARTS).contains(&number) {
        return Err(s3_error!(InvalidArgument, "a part's number is from 1 to {MAX_PARTS}"));
    }
    Ok(folder.join(format!("{number:05}")))
}

pub(super) fn create(
    disk: &Disk,
    request: S3Request<CreateMultipartUploadInput>,
) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
    let input = request.input;
    let bucket = disk.bucket(&input.bucket)?;
    let id = Ulid::generate().to_string();
    let upload = Upload {
        key: input.key.clone(),
        created: now(),
        headers: kept_headers(&request.headers),
        metadata: input.metadata.unwrap_or_default().into_iter().collect(),
    };
    let folder = bucket.uploads().join(&id);
    let text = serde_json::to_vec(&upload).map_err(|error| internal(&error.into()))?;
    create_private(&folder)
        .and_then(|()| write_private(&folder.join("upload.json"), &text))
        .and_then(|()| sync_folder(&bucket.uploads()))
        .map_err(|error| internal(&error))?;
    Ok(S3Response::new(CreateMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(id),
        checksum_algorithm: input.checksum_algorithm,
        checksum_type: input.checksum_type,
        ..Default::default()
    }))
}

pub(super) fn upload(
    disk: &Disk,
    runtime: &tokio::runtime::Handle,
    request: S3Request<UploadPartInput>,
) -> S3Result<S3Response<UploadPartOutput>> {
    let S3Request { input, headers, trailing_headers, .. } = request;
    let bucket = disk.bucket(&input.bucket)?;
    let (folder, _) = open_upload(&bucket, &input.upload_id, &input.key)?;
    let path = part_path(&folder, input.part_number)?;
    let claims = Claims::of(&headers, input.content_length);
    let received = receive(runtime, bucket.temporary()?, input.body, &claims, trailing_headers.as_ref())?;
    let footer = Footer {
        key: input.key,
        size: received.size,
        etag: hex(&received.md5),
        modified: now(),
        checksums: received.checksums.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        ..Footer::default()
    };
    let mut temporary = received.temporary;
    write_footer(&mut temporary.file, &footer)
        .and_then(|()| temporary.file.sync_all())
        .map_err(|error| internal(&error))?;
    temporary.rename_to(&path).map_err(|error| match error {
        DiskError::NoBucket => s3_error!(NoSuchUpload, "the upload ended meanwhile"),
        other => other.into(),
    })?;
    sync_folder(&folder).map_err(|error| internal(&error))?;
    let checksum = |name: &str| footer.checksums.get(name).cloned();
    Ok(S3Response::new(UploadPartOutput {
        e_tag: Some(ETag::Strong(footer.etag.clone())),
        checksum_crc32: checksum("crc32"),
        checksum_crc32c: checksum("crc32c"),
        checksum_crc64nvme: checksum("crc64nvme"),
        checksum_sha1: checksum("sha1"),
        checksum_sha256: checksum("sha256"),
        ..Default::default()
    }))
}

pub(super) fn upload_copy(disk: &Disk, input: UploadPartCopyInput) -> S3Result<S3Response<UploadPartCopyOutput>> {
    let bucket = disk.bucket(&input.bucket)?;
    let (folder, _) = open_upload(&bucket, &input.upload_id, &input.key)?;
    let path = part_path(&folder, input.part_number)?;
    let (mut source, old) = open_source(
        disk,
        &input.copy_source,
        input.copy_source_if_match.as_ref(),
        input.copy_source_if_none_match.as_ref(),
    )?;
    let range = match &input.copy_source_range {
        Some(range) => {
            Range::parse(range).map_err(|_| s3_error!(InvalidArgument, "`{range}` is no range"))?.check(old.size)?
        }
        None => 0..old.size,
    };
    let mut temporary = bucket.temporary()?;
    let size = range.end - range.start;
    let written = copy(&mut source, range, &mut temporary.file);
    let hashed = written.and_then(|()| hash(&mut temporary.file));
    let footer = Footer {
        key: input.key,
        size,
        etag: hex(&hashed.map_err(|error| internal(&error))?),
        modified: now(),
        ..Footer::default()
    };
    write_footer(&mut temporary.file, &footer)
        .and_then(|()| temporary.file.sync_all())
        .map_err(|error| internal(&error))?;
    temporary.rename_to(&path)?;
    sync_folder(&folder).map_err(|error| internal(&error))?;
    let result = CopyPartResult {
        e_tag: Some(ETag::Strong(footer.etag)),
        last_modified: Some(timestamp(footer.modified)),
        ..Default::default()
    };
    Ok(S3Response::new(UploadPartCopyOutput { copy_part_result: Some(result), ..Default::default() }))
}

pub(super) fn complete(
    disk: &Disk,
    input: CompleteMultipartUploadInput,
) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
    let check = write_check(input.if_match.as_ref(), input.if_none_match.as_ref())?;
    let bucket = disk.bucket(&input.bucket)?;
    let (folder, upload) = open_upload(&bucket, &input.upload_id, &input.key)?;
    let parts = input.multipart_upload.and_then(|list| list.parts).unwrap_or_default();
    if parts.is_empty() {
        return Err(s3_error!(MalformedXML, "an upload has at least one part"));
    }
    let mut temporary = bucket.temporary()?;
    let mut hashes = Md5::new();
    let (mut size, mut last, count) = (0, 0, parts.len());
    for (position, part) in parts.into_iter().enumerate() {
        let number = part.part_number.unwrap_or(0);
        if number <= last {
            return Err(s3_error!(InvalidPartOrder, "the parts must be listed in ascending order"));
        }
        last = number;
        let invalid = || s3_error!(InvalidPart, "part {number} was not uploaded, or with another ETag");
        let mut file = match File::open(part_path(&folder, number)?) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(invalid()),
            other => other.map_err(|error| internal(&error))?,
        };
        let footer = read_footer(&mut file).map_err(|error| internal(&error))?;
        if part.e_tag.is_none_or(|etag| etag.value() != footer.etag) {
            return Err(invalid());
        }
        if position + 1 < count && footer.size < MIN_PART {
            return Err(s3_error!(EntityTooSmall, "part {number} is smaller than 5 MiB and not the last"));
        }
        hashes.update(unhex(&footer.etag).ok_or_else(invalid)?);
        size += footer.size;
        copy(&mut file, 0..footer.size, &mut temporary.file).map_err(|error| internal(&error))?;
    }
    let footer = Footer {
        key: upload.key,
        size,
        etag: format!("{}-{count}", hex(&hashes.finalize())),
        modified: now(),
        headers: upload.headers,
        metadata: upload.metadata,
        checksums: BTreeMap::new(),
    };
    write_footer(&mut temporary.file, &footer).map_err(|error| internal(&error))?;
    bucket.publish(temporary, &footer.key, &check)?;
    remove(&folder).map_err(|error| internal(&error))?;
    Ok(S3Response::new(CompleteMultipartUploadOutput {
        location: Some(format!("/{}/{}", input.bucket, footer.key)),
        bucket: Some(input.bucket),
        key: Some(footer.key),
        e_tag: Some(ETag::Strong(footer.etag)),
        ..Default::default()
    }))
}

/// Removes the folder of an upload. A part that comes in meanwhile goes with it; later ones find no upload.
fn remove(folder: &Path) -> io::Result<()> {
    for _ in 0..REMOVALS {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => return other,
        }
    }
    fs::remove_dir_all(folder)
}

pub(super) fn abort(
    disk: &Disk,
    input: &AbortMultipartUploadInput,
) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
    let bucket = disk.bucket(&input.bucket)?;
    let (folder, _) = open_upload(&bucket, &input.upload_id, &input.key)?;
    remove(&folder).map_err(|error| internal(&error))?;
    Ok(S3Response::with_status(AbortMultipartUploadOutput::default(), http::StatusCode::NO_CONTENT))
}

pub(super) fn list_parts(disk: &Disk, input: ListPartsInput) -> S3Result<S3Response<ListPartsOutput>> {
    let bucket = disk.bucket(&input.bucket)?;
    let (folder, _) = open_upload(&bucket, &input.upload_id, &input.key)?;
    let limit = input.max_parts.unwrap_or(MAX_LISTED).clamp(0, MAX_LISTED);
    let after = input.part_number_marker.unwrap_or(0);
    let mut numbers: Vec<i32> = fs::read_dir(&folder)
        .map_err(|error| internal(&error))?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number > after)
        .collect();
    numbers.sort_unstable();
    let truncated = numbers.len() > usize::try_from(limit).unwrap_or(0);
    numbers.truncate(usize::try_from(limit).unwrap_or(0));
    let mut parts = Vec::with_capacity(numbers.len());
    for number in &numbers {
        let footer = File::open(part_path(&folder, *number)?)
            .and_then(|mut file| read_footer(&mut file))
            .map_err(|error| internal(&error))?;
        parts.push(Part {
            part_number: Some(*number),
            e_tag: Some(ETag::Strong(footer.etag)),
            size: i64::try_from(footer.size).ok(),
            last_modified: Some(timestamp(footer.modified)),
            ..Part::default()
        });
    }
    Ok(S3Response::new(ListPartsOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        max_parts: Some(limit),
        part_number_marker: Some(after),
        next_part_number_marker: numbers.last().copied(),
        is_truncated: Some(truncated),
        parts: Some(parts),
        ..Default::default()
    }))
}

pub(super) fn list_uploads(
    disk: &Disk,
    input: ListMultipartUploadsInput,
) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
    if input.delimiter.as_ref().is_some_and(|delimiter| !delimiter.is_empty()) {
        return Err(s3_error!(NotImplemented, "uploads can't be listed with a delimiter"));
    }
    let bucket = disk.bucket(&input.bucket)?;
    let prefix = input.prefix.clone().unwrap_or_default();
    let limit = input.max_uploads.unwrap_or(MAX_LISTED).clamp(0, MAX_LISTED);
    let after = (input.key_marker.clone().unwrap_or_default(), input.upload_id_marker.clone());
    let mut found = Vec::new();
    for entry in fs::read_dir(bucket.uploads()).map_err(|error| internal(&error))? {
        let entry = entry.map_err(|error| internal(&error))?;
        // An upload that ended meanwhile, or one cut off while it began.
        let Ok(text) = fs::read(entry.path().join("upload.json")) else { continue };
        let upload: Upload = serde_json::from_slice(&text).map_err(|error| internal(&error.into()))?;
        let id = entry.file_name().to_string_lossy().into_owned();
        let later = match &after {
            (key, Some(marker)) => (&upload.key, &id) > (key, marker),
            (key, None) => upload.key > *key,
        };
        if upload.key.starts_with(&prefix) && later {
            found.push((upload.key, id, upload.created));
        }
    }
    found.sort();
    let truncated = found.len() > usize::try_from(limit).unwrap_or(0);
    found.truncate(usize::try_from(limit).unwrap_or(0));
    let encoding = input.encoding_type;
    let last = found.last().filter(|_| truncated).cloned();
    let uploads = found
        .into_iter()
        .map(|(key, id, created)| MultipartUpload {
            key: Some(listed(&key, encoding.as_ref())),
            upload_id: Some(id),
            initiated: Some(timestamp(created)),
            ..MultipartUpload::default()
        })
        .collect();
    Ok(S3Response::new(ListMultipartUploadsOutput {
        bucket: Some(input.bucket),
        prefix: input.prefix.map(|prefix| listed(&prefix, encoding.as_ref())),
        max_uploads: Some(limit),
        is_truncated: Some(truncated),
        next_key_marker: last.as_ref().map(|(key, _, _)| listed(key, encoding.as_ref())),
        next_upload_id_marker: last.map(|(_, id, _)| id),
        uploads: Some(uploads),
        encoding_type: encoding,
        ..Default::default()
    }))
}

/// Opens what a copy copies.
pub(super) fn open_source(
    disk: &Disk,
    source: &CopySource,
    matches: Option<&ETagCondition>,
    none: Option<&ETagCondition>,
) -> S3Result<(File, Footer)> {
    let CopySource::Bucket { bucket, key, version_id: None } = source else {
        return Err(s3_error!(NotImplemented, "only `bucket/key` can be copied from"));
    };
    let (file, footer) = disk.bucket(bucket)?.open(key)?;
    let is = |condition: &ETagCondition| condition.as_etag().is_none_or(|etag| etag.value() == footer.etag);
    if matches.is_some_and(|condition| !is(condition)) || none.is_some_and(is) {
        return Err(s3_error!(PreconditionFailed, "the condition on the source does not hold"));
    }
    Ok((file, footer))
}

/// Appends the bytes `range` of one file to another.
pub(super) fn copy(source: &mut File, range: std::ops::Range<u64>, target: &mut File) -> io::Result<()> {
    source.seek(SeekFrom::Start(range.start))?;
    let length = range.end - range.start;
    if io::copy(&mut source.take(length), target)? == length {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// MD5 of a file; leaves it positioned at its end.
fn hash(file: &mut File) -> io::Result<[u8; 16]> {
    file.rewind()?;
    let mut md5 = Md5::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(md5.finalize().into());
        }
        md5.update(&buffer[..read]);
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

/// Where a listing goes on, as a token that survives any client's handling.
pub(super) fn encode_token(after: &str) -> String {
    BASE64.encode(after)
}

pub(super) fn decode_token(token: &str) -> S3Result<String> {
    BASE64
        .decode(token)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| s3_error!(InvalidArgument, "the continuation token is not one of ours"))
}
