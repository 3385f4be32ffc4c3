//! What can go wrong with the store, by meaning; and how the SDK's errors come to it.

use std::error::Error;
use std::path::PathBuf;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::granted::NoAddress;
use super::transport::{ConnectFailure, NoConnection};
use crate::embedded::EmbeddedError;

/// Why a request to the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no object with the key.
    #[error("`{key}` is not in the bucket")]
    NotFound {
        /// The key.
        key: String,
    },
    /// The condition of a conditional write didn't hold: somebody else was there first.
    #[error("`{key}` was changed by somebody else")]
    Precondition {
        /// The key.
        key: String,
    },
    /// The server answered 409: another write of the same key was under way.
    #[error("`{key}` is being changed by somebody else")]
    Conflict {
        /// The key.
        key: String,
    },
    /// The server asks to slow down (429 or 503).
    #[error("the store asks for fewer requests ({code})")]
    Throttled {
        /// Its code, such as `SlowDown`.
        code: String,
    },
    /// There is no such bucket.
    #[error("the bucket `{bucket}` does not exist")]
    NoBucket {
        /// The bucket.
        bucket: String,
    },
    /// The bucket's name is no name for a bucket.
    #[error("`{bucket}` is no name for a bucket")]
    BucketName {
        /// The bucket.
        bucket: String,
    },
    /// The bucket is in another region than the one configured.
    #[error("the bucket `{bucket}` is in {}", region.as_deref().map_or_else(|| "another region".to_owned(), |region| format!("the region `{region}`")))]
    WrongRegion {
        /// The bucket.
        bucket: String,
        /// Where it is, if the server says.
        region: Option<String>,
    },
    /// The keys are valid and not permitted to do this.
    #[error("the store does not permit {operation} on {resource}")]
    AccessDenied {
        /// What was tried, in the words of S3, such as `PutObject`.
        operation: &'static str,
        /// The key or bucket.
        resource: String,
    },
    /// The access key is unknown, its secret is wrong, or a token has expired.
    #[error("the store at {endpoint} does not accept the keys ({code})")]
    BadCredentials {
        /// Where.
        endpoint: String,
        /// The server's code, such as `SignatureDoesNotMatch`.
        code: String,
    },
    /// No keys are configured and none were found.
    #[error("there are no keys for the store")]
    NoCredentials {
        /// Why none were found, where a source failed rather than had none.
        reason: Option<String>,
    },
    /// The addresses of a grant work no longer.
    #[error("the grant expired at {expires}")]
    GrantExpired {
        /// When they were to.
        expires: jiff::Timestamp,
    },
    /// The object isn't among those that a grant gives.
    #[error("the grant has no address for `{key}`")]
    NotGranted {
        /// The key.
        key: String,
    },
    /// On AWS, no region is configured and none was found.
    #[error("no AWS region is set")]
    NoRegion,
    /// The clocks of the two machines are too far apart for signed requests.
    #[error("the clock of this machine and the store's differ by more than a signature allows")]
    ClockSkew {
        /// The time the server gave with its answer.
        server: Option<String>,
    },
    /// There is no connection.
    #[error("can't reach the store at {endpoint}: {reason}")]
    Unreachable {
        /// Where.
        endpoint: String,
        /// Why, in a few words.
        reason: String,
    },
    /// There was a connection, and it broke before the answer.
    #[error("the connection to the store at {endpoint} broke ({reason})")]
    Interrupted {
        /// Where.
        endpoint: String,
        /// How, in a few words.
        reason: String,
    },
    /// There was a connection, and no answer in time.
    #[error("the store at {endpoint} did not answer in time")]
    Timeout {
        /// Where.
        endpoint: String,
    },
    /// Something answered that isn't S3.
    #[error("what answers at {endpoint} is not S3 ({reason})")]
    NotS3 {
        /// Where.
        endpoint: String,
        /// What came instead, in a few words.
        reason: String,
    },
    /// The server doesn't know how to do this.
    #[error("the store does not support {operation} with these conditions")]
    Unsupported {
        /// What was tried, in the words of S3.
        operation: &'static str,
    },
    /// Parts of an object were asked for, and the whole of it was sent.
    #[error("what answers at {endpoint} does not serve parts of an object")]
    NoRanges {
        /// Where.
        endpoint: String,
    },
    /// The object is larger than any honest one with such a key. It was not read.
    #[error("`{key}` is larger than {}, the most that such an object may have", crate::output::size(*.limit))]
    TooLarge {
        /// The key.
        key: String,
        /// The most, in bytes.
        limit: u64,
    },
    /// Less came than was announced.
    #[error("`{key}` came incomplete: {received} of {expected} bytes")]
    Truncated {
        /// The key.
        key: String,
        /// Bytes announced.
        expected: u64,
        /// Bytes that came.
        received: u64,
    },
    /// What arrived at the store isn't what was sent.
    #[error("`{key}` was damaged on its way to the store ({code})")]
    Damaged {
        /// The key.
        key: String,
        /// The server's code, such as `BadDigest`.
        code: String,
    },
    /// The store has no room left.
    #[error("the store is full")]
    StorageFull,
    /// Some of many keys couldn't be deleted.
    #[error("{} of the objects could not be deleted, the first of them `{key}` ({code})", count)]
    Delete {
        /// How many.
        count: usize,
        /// The first of them.
        key: String,
        /// The server's code for it.
        code: String,
    },
    /// Any other answer.
    #[error("the store failed {operation} on {resource}: {status} {code}{}", if message.is_empty() { String::new() } else { format!(" ({message})") })]
    Server {
        /// What was tried, in the words of S3.
        operation: &'static str,
        /// The key or bucket.
        resource: String,
        /// HTTP status.
        status: u16,
        /// The server's code.
        code: String,
        /// The server's words, cut to one short line.
        message: String,
    },
    /// The file with certificates can't be used.
    #[error("can't use the certificates in `{}`: {reason}", path.display())]
    CaBundle {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The client can't be built from these settings.
    #[error("the store's settings can't be used: {reason}")]
    Configuration {
        /// Why.
        reason: String,
    },
    /// The embedded store can't be opened.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
}

impl StoreError {
    /// Whether the request may have taken effect all the same: the answer was lost, or says nothing certain.
    ///
    /// Exact for single requests. Where the SDK tries again by itself, an earlier attempt may have taken effect too.
    pub fn is_ambiguous(&self) -> bool {
        match self {
            Self::Conflict { .. }
            | Self::Throttled { .. }
            | Self::Timeout { .. }
            | Self::Interrupted { .. }
            | Self::NotS3 { .. } => true,
            Self::Server { status, .. } => *status >= 500,
            _ => false,
        }
    }

    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Conflict { .. }
                | Self::Throttled { .. }
                | Self::Timeout { .. }
                | Self::Unreachable { .. }
                | Self::Interrupted { .. }
                | Self::Truncated { .. }
                | Self::Damaged { .. }
        ) || matches!(self, Self::Server { status, .. } if *status >= 500)
    }
}

/// What a request was about, for its error.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) operation: &'static str,
    pub(super) endpoint: &'a str,
    pub(super) bucket: &'a str,
    pub(super) key: Option<&'a str>,
    /// When the addresses expire by which the store is read, if it is.
    pub(super) granted_until: Option<jiff::Timestamp>,
}

impl Request<'_> {
    fn resource(&self) -> String {
        self.key.map_or_else(|| format!("the bucket `{}`", self.bucket), |key| format!("`{key}`"))
    }

    fn key_text(&self) -> String {
        self.key.unwrap_or(self.bucket).to_owned()
    }

    /// The meaning of what the SDK says.
    pub(super) fn explain<E>(&self, error: &SdkError<E, HttpResponse>) -> StoreError
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let endpoint = self.endpoint.to_owned();
        match error {
            SdkError::TimeoutError(_) => StoreError::Timeout { endpoint },
            SdkError::ServiceError(service) => {
                let meta = service.err().meta();
                self.explain_answer(service.raw(), meta.code(), meta.message())
            }
            SdkError::ResponseError(response) => {
                let raw = response.raw();
                if raw.status().as_u16() >= 400 {
                    return self.explain_answer(raw, None, None);
                }
                StoreError::NotS3 { endpoint, reason: describe(raw) }
            }
            SdkError::ConstructionFailure(_) => self.explain_connection(error, true),
            _ => self.explain_connection(error, false),
        }
    }

    fn explain_connection(&self, error: &(dyn Error + 'static), before_sending: bool) -> StoreError {
        let endpoint = self.endpoint.to_owned();
        if let Some(NoAddress { key }) = find(error) {
            return StoreError::NotGranted { key: key.clone() };
        }
        if let Some(failure) = find::<CredentialsError>(error) {
            let reason = match failure {
                CredentialsError::CredentialsNotLoaded(_) => None,
                other => Some(short(&last_cause(other))),
            };
            return StoreError::NoCredentials { reason };
        }
        if let Some(failure) = find::<ConnectFailure>(error) {
            let host = host_of(self.endpoint);
            let reason = match failure.kind {
                NoConnection::TimedOut => "no connection within the time limit".to_owned(),
                NoConnection::UnknownHost => format!("the host `{host}` is not known"),
                NoConnection::Tls => match short(&last_cause(failure)) {
                    reason if reason.contains("InvalidContentType") => {
                        "no TLS connection, it answers in something else (`http://`?)".to_owned()
                    }
                    reason => format!("no TLS connection, {reason}"),
                },
            };
            return StoreError::Unreachable { endpoint, reason };
        }
        let reason = short(&last_cause(error));
        if let Some(failure) = find::<std::io::Error>(error) {
            return match failure.kind() {
                std::io::ErrorKind::ConnectionRefused => {
                    StoreError::Unreachable { endpoint, reason: "the connection was refused".to_owned() }
                }
                std::io::ErrorKind::NetworkUnreachable | std::io::ErrorKind::HostUnreachable => {
                    StoreError::Unreachable { endpoint, reason: "there is no route to it".to_owned() }
                }
                _ => StoreError::Interrupted { endpoint, reason },
            };
        }
        if before_sending {
            let no_region = reason.to_ascii_lowercase().contains("region");
            return if no_region { StoreError::NoRegion } else { StoreError::Configuration { reason } };
        }
        if reason.contains("timeout") {
            return StoreError::Timeout { endpoint };
        }
        StoreError::Interrupted { endpoint, reason }
    }

    fn explain_answer(&self, raw: &HttpResponse, code: Option<&str>, message: Option<&str>) -> StoreError {
        let status = raw.status().as_u16();
        let endpoint = self.endpoint.to_owned();
        let code = code.unwrap_or_default();
        let operation = self.operation;
        if let Some(expires) = self.granted_until
            && matches!(status, 400 | 401 | 403)
        {
            // Servers have codes of their own for it, or none but the clock tells.
            let said = code == "ExpiredToken" || message.is_some_and(|text| text.to_lowercase().contains("expired"));
            if said || jiff::Timestamp::now() >= expires {
                return StoreError::GrantExpired { expires };
            }
        }
        match code {
            "NoSuchKey" => return StoreError::NotFound { key: self.key_text() },
            // A server that takes such names has the bucket; others say that it isn't there, and would refuse to make it.
            "NoSuchBucket" if is_unusual(self.bucket) => {
                return StoreError::BucketName { bucket: self.bucket.to_owned() };
            }
            "NoSuchBucket" => return StoreError::NoBucket { bucket: self.bucket.to_owned() },
            "InvalidBucketName" => return StoreError::BucketName { bucket: self.bucket.to_owned() },
            "PreconditionFailed" => return StoreError::Precondition { key: self.key_text() },
            "ConditionalRequestConflict" | "OperationAborted" => {
                return StoreError::Conflict { key: self.key_text() };
            }
            "RequestTimeTooSkewed" => {
                return StoreError::ClockSkew { server: raw.headers().get("date").map(str::to_owned) };
            }
            "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "ExpiredToken"
            | "InvalidToken"
            | "TokenRefreshRequired"
            | "NotSignedUp" => return StoreError::BadCredentials { endpoint, code: code.to_owned() },
            "AccessDenied" | "AllAccessDisabled" | "AccountProblem" => {
                return StoreError::AccessDenied { operation, resource: self.resource() };
            }
            "PermanentRedirect"
            | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException"
            | "TemporaryRedirect" => {
                let region = raw.headers().get("x-amz-bucket-region").map(str::to_owned);
                return StoreError::WrongRegion { bucket: self.bucket.to_owned(), region };
            }
            "SlowDown" | "TooManyRequests" | "Throttling" | "ThrottlingException" | "RequestLimitExceeded" => {
                return StoreError::Throttled { code: code.to_owned() };
            }
            "BadDigest" | "InvalidDigest" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch" => {
                return StoreError::Damaged { key: self.key_text(), code: code.to_owned() };
            }
            "InsufficientStorage" | "XMinioStorageFull" | "QuotaExceeded" | "InsufficientCapacity" => {
                return StoreError::StorageFull;
            }
            "NotImplemented" => return StoreError::Unsupported { operation },
            _ => {}
        }
        if is_html(raw) {
            return StoreError::NotS3 { endpoint, reason: describe(raw) };
        }
        let head = operation.starts_with("Head");
        match status {
            404 if head && self.key.is_none() => StoreError::NoBucket { bucket: self.bucket.to_owned() },
            404 if head => StoreError::NotFound { key: self.key_text() },
            412 => StoreError::Precondition { key: self.key_text() },
            409 if code.is_empty() => StoreError::Conflict { key: self.key_text() },
            429 => StoreError::Throttled { code: format!("{status} {code}").trim().to_owned() },
            503 if code.is_empty() => StoreError::Throttled { code: status.to_string() },
            507 => StoreError::StorageFull,
            501 => StoreError::Unsupported { operation },
            401 | 403 if head => StoreError::AccessDenied { operation, resource: self.resource() },
            301 | 307 => {
                let region = raw.headers().get("x-amz-bucket-region").map(str::to_owned);
                StoreError::WrongRegion { bucket: self.bucket.to_owned(), region }
            }
            // An S3 server always says why.
            _ if code.is_empty() && status < 500 && !head => StoreError::NotS3 { endpoint, reason: describe(raw) },
            _ => StoreError::Server {
                operation,
                resource: self.resource(),
                status,
                code: code.to_owned(),
                message: short(message.unwrap_or_default()),
            },
        }
    }
}

/// Whether S3 would refuse to make a bucket of this name.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>
fn is_unusual(bucket: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = |byte: Option<u8>| byte.is_some_and(plain);
    !bucket.bytes().all(|byte| plain(byte) || byte == b'.' || byte == b'-')
        || !ends(bucket.bytes().next())
        || !ends(bucket.bytes().last())
        || bucket.contains("..")
}

fn is_html(raw: &HttpResponse) -> bool {
    raw.headers().get("content-type").is_some_and(|kind| kind.starts_with("text/html"))
}

/// An answer that isn't one of S3's, in a few words.
fn describe(raw: &HttpResponse) -> String {
    let status = raw.status().as_u16();
    match raw.headers().get("content-type") {
        Some(kind) => format!("status {status}, {}", short(kind)),
        None => format!("status {status}"),
    }
}

fn host_of(endpoint: &str) -> String {
    let authority = endpoint.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
    authority.unwrap_or_else(|| endpoint.to_owned())
}

/// The first cause of this type.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref() {
            return Some(found);
        }
        next = cause.source();
    }
    None
}

fn last_cause(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

/// One line of at most 200 characters.
pub(super) fn short(text: &str) -> String {
    let line: String = text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    let line = line.trim();
    if line.chars().count() <= 200 { line.to_owned() } else { line.chars().take(199).chain(['…']).collect() }
}

/// Whether the server says that the object is still the known one.
pub(super) fn is_not_modified<E>(error: &SdkError<E, HttpResponse>) -> bool {
    error.raw_response().is_some_and(|response| response.status().as_u16() == 304)
}
