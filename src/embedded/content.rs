//! Content on its way in and out: streamed, hashed while it passes, verified before anything is published.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures::StreamExt;
use http::HeaderMap;
use md5::{Digest, Md5};
use s3s::checksum::ChecksumHasher;
use s3s::crypto::Checksum as _;
use s3s::dto::StreamingBlob;
use s3s::{Body, S3Error, S3Result, TrailingHeaders, s3_error};
use tokio_util::io::ReaderStream;

use super::disk::Temporary;
use super::service::internal;

/// The algorithms S3 knows, by the ends of their header names.
pub(super) const ALGORITHMS: [&str; 5] = ["crc32", "crc32c", "crc64nvme", "sha1", "sha256"];
/// Content up to this size goes out in one piece.
const WHOLE: u64 = 1024 * 1024;
/// Larger content goes out in pieces of this size.
const PIECE: usize = 256 * 1024;

/// What the writer says about the content.
#[derive(Debug, Default)]
pub(super) struct Claims {
    length: Option<u64>,
    md5: Option<String>,
    checksums: Vec<(&'static str, Option<String>)>,
}

impl Claims {
    /// From the request's headers. A checksum that will come as a trailer is noted without its value.
    pub(super) fn of(headers: &HeaderMap, length: Option<i64>) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let trailer = text("x-amz-trailer").unwrap_or_default();
        let checksums = ALGORITHMS
            .into_iter()
            .filter_map(|algorithm| {
                let name = format!("x-amz-checksum-{algorithm}");
                let announced = trailer.split(',').any(|part| part.trim().eq_ignore_ascii_case(&name));
                let value = text(&name);
                (value.is_some() || announced).then_some((algorithm, value))
            })
            .collect();
        Self { length: length.and_then(|length| u64::try_from(length).ok()), md5: text("content-md5"), checksums }
    }
}

/// What arrived.
pub(super) struct Received {
    /// The file it lies in.
    pub temporary: Temporary,
    /// Bytes.
    pub size: u64,
    /// MD5.
    pub md5: [u8; 16],
    /// Verified checksums in base64, by algorithm.
    pub checksums: Vec<(&'static str, String)>,
}

/// Writes a body to a temporary file and verifies all claims about it. Blocks.
pub(super) fn receive(
    runtime: &tokio::runtime::Handle,
    mut temporary: Temporary,
    body: Option<StreamingBlob>,
    claims: &Claims,
    trailers: Option<&TrailingHeaders>,
) -> S3Result<Received> {
    let mut md5 = Md5::new();
    let mut size = 0;
    let mut hasher = ChecksumHasher::default();
    for (algorithm, _) in &claims.checksums {
        match *algorithm {
            "crc32" => hasher.crc32 = Some(s3s::crypto::Crc32::new()),
            "crc32c" => hasher.crc32c = Some(s3s::crypto::Crc32c::new()),
            "crc64nvme" => hasher.crc64nvme = Some(s3s::crypto::Crc64Nvme::new()),
            "sha1" => hasher.sha1 = Some(s3s::crypto::Sha1::new()),
            _ => hasher.sha256 = Some(s3s::crypto::Sha256::new()),
        }
    }
    if let Some(mut body) = body {
        while let Some(piece) = runtime.block_on(body.next()) {
            let piece = piece.map_err(|error| refused_body(error.as_ref()))?;
            md5.update(&piece);
            hasher.update(&piece);
            size += piece.len() as u64;
            temporary.file.write_all(&piece).map_err(|error| internal(&error))?;
        }
    }
    if claims.length.is_some_and(|length| length != size) {
        return Err(s3_error!(IncompleteBody, "the body has {size} bytes, not the number the request says"));
    }
    let md5: [u8; 16] = md5.finalize().into();
    if let Some(claimed) = &claims.md5 {
        let decoded = BASE64.decode(claimed).map_err(|_| s3_error!(InvalidDigest))?;
        if decoded != md5 {
            return Err(s3_error!(BadDigest, "the content is not the one Content-MD5 says"));
        }
    }
    let computed = hasher.finalize();
    let mut checksums = Vec::new();
    for (algorithm, claimed) in &claims.checksums {
        let value = match *algorithm {
            "crc32" => &computed.checksum_crc32,
            "crc32c" => &computed.checksum_crc32c,
            "crc64nvme" => &computed.checksum_crc64nvme,
            "sha1" => &computed.checksum_sha1,
            _ => &computed.checksum_sha256,
        };
        let claimed = claimed.clone().or_else(|| {
            let name = format!("x-amz-checksum-{algorithm}");
            let find =
                |headers: &HeaderMap| headers.get(&name).and_then(|value| value.to_str().ok().map(str::to_owned));
            trailers.and_then(|trailers| trailers.read(find)).flatten()
        });
        let (Some(value), Some(claimed)) = (value, claimed) else {
            return Err(s3_error!(InvalidRequest, "the announced trailer x-amz-checksum-{algorithm} did not come"));
        };
        if *value != claimed {
            return Err(s3_error!(BadDigest, "the content is not the one x-amz-checksum-{algorithm} says"));
        }
        checksums.push((*algorithm, claimed));
    }
    Ok(Received { temporary, size, md5, checksums })
}

/// A body that broke off, or whose signature or hash is wrong.
fn refused_body(error: &(dyn std::error::Error + Send + Sync + 'static)) -> S3Error {
    let text = error.to_string();
    if text.contains("Sha256Mismatch") {
        s3_error!(BadDigest, "the content is not the one x-amz-content-sha256 says")
    } else if text.contains("SignatureMismatch") {
        s3_error!(SignatureDoesNotMatch, "a piece of the body has a wrong signature")
    } else {
        s3_error!(IncompleteBody, "the body broke off: {text}")
    }
}

/// The bytes `range` of an open file as a body. Blocks for small content only.
pub(super) fn send(mut file: File, range: std::ops::Range<u64>) -> std::io::Result<StreamingBlob> {
    let length = range.end - range.start;
    file.seek(SeekFrom::Start(range.start))?;
    if length <= WHOLE {
        let mut bytes = vec![0; usize::try_from(length).map_err(std::io::Error::other)?];
        file.read_exact(&mut bytes)?;
        return Ok(Body::from(Bytes::from(bytes)).into());
    }
    let file = tokio::io::AsyncReadExt::take(tokio::fs::File::from_std(file), length);
    Ok(StreamingBlob::wrap(ReaderStream::with_capacity(file, PIECE)))
}

/// Bytes in small hexadecimal letters.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        use std::fmt::Write as _;
        let _ = write!(text, "{byte:02x}");
        text
    })
}
