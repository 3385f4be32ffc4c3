//! Below the SDK: what carries a request to the service, counted.
//!
//! [`Counted`] wraps whatever carries requests: it counts attempts and bytes, and turns a failure to connect into one
//! that says why. [`InProcess`] hands requests to the embedded service without a port.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use s3s::service::S3Service;

/// What this process has asked of the store so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestCounts {
    /// HTTP requests really sent, each attempt counted.
    pub requests: u64,
    /// Bytes sent in bodies.
    pub sent: u64,
    /// Bytes received in bodies.
    pub received: u64,
}

impl std::ops::Sub for RequestCounts {
    type Output = Self;
    fn sub(self, earlier: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            sent: self.sent.saturating_sub(earlier.sent),
            received: self.received.saturating_sub(earlier.received),
        }
    }
}

/// The counters behind [`RequestCounts`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    requests: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

impl Counters {
    pub(super) fn read(&self) -> RequestCounts {
        RequestCounts {
            requests: self.requests.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
        }
    }
}

/// Why there is no connection, found below the SDK, where the reason still has a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoConnection {
    /// No answer within the limit.
    TimedOut,
    /// The host's name has no address.
    UnknownHost,
    /// The certificate isn't trusted, or the port doesn't speak TLS.
    Tls,
}

impl fmt::Display for NoConnection {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::TimedOut => "no connection within the time limit",
            Self::UnknownHost => "the host is not known",
            Self::Tls => "no TLS connection",
        })
    }
}

/// [`NoConnection`] with what the transport said.
#[derive(Debug)]
pub(super) struct ConnectFailure {
    pub(super) kind: NoConnection,
    source: Box<dyn Error + Send + Sync>,
}

impl fmt::Display for ConnectFailure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(out)
    }
}

impl Error for ConnectFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.source.as_ref())
    }
}

/// Gives a failure to connect its reason, as an error that the SDK doesn't retry: a limit of 5 s would become 15.
fn explain(error: ConnectorError) -> ConnectorError {
    let mut texts = String::new();
    let mut next: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(cause) = next {
        texts.push_str(&cause.to_string());
        texts.push('\n');
        next = cause.source();
    }
    let kind = if texts.contains("HTTP connect timeout") {
        NoConnection::TimedOut
    } else if texts.contains("dns error") || texts.contains("failed to lookup address") {
        NoConnection::UnknownHost
    } else if texts.contains("certificate") || texts.contains("TLS") || texts.contains("corrupt message") {
        NoConnection::Tls
    } else {
        return error;
    };
    ConnectorError::user(Box::new(ConnectFailure { kind, source: error.into_source() }))
}

/// Counts what passes.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) inner: SharedHttpClient,
    pub(super) counters: Arc<Counters>,
}

impl HttpClient for Counted {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(CountedConnector {
            inner: self.inner.http_connector(settings, components),
            counters: Arc::clone(&self.counters),
        })
    }
}

#[derive(Debug)]
struct CountedConnector {
    inner: SharedHttpConnector,
    counters: Arc<Counters>,
}

impl HttpConnector for CountedConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        self.counters.sent.fetch_add(request.body().content_length().unwrap_or(0), Ordering::Relaxed);
        let counters = Arc::clone(&self.counters);
        let answer = self.inner.call(request);
        HttpConnectorFuture::new(async move {
            let mut response = answer.await.map_err(explain)?;
            let body = std::mem::replace(response.body_mut(), SdkBody::taken());
            *response.body_mut() = SdkBody::from_body_1_x(CountedBody { body, counters });
            Ok(response)
        })
    }
}

struct CountedBody {
    body: SdkBody,
    counters: Arc<Counters>,
}

impl http_body::Body for CountedBody {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.counters.received.fetch_add(data.len() as u64, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        http_body::Body::is_end_stream(&self.body)
    }

    fn size_hint(&self) -> SizeHint {
        http_body::Body::size_hint(&self.body)
    }
}

/// A body up to this size is copied into the request whole: some operations want theirs in one piece.
const SMALL: usize = 64 * 1024;

/// The embedded service as a transport.
#[derive(Debug, Clone)]
pub(super) struct InProcess(pub(super) S3Service);

impl HttpClient for InProcess {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for InProcess {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let service = self.0.clone();
        HttpConnectorFuture::new(async move {
            let mut request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
            // HTTP clients send the host; the signature covers it.
            if !request.headers().contains_key(http::header::HOST)
                && let Some(authority) = request.uri().authority()
                && let Ok(host) = http::HeaderValue::from_str(authority.as_str())
            {
                request.headers_mut().insert(http::header::HOST, host);
            }
            let request = request.map(|body| match body.bytes() {
                Some(bytes) if bytes.len() <= SMALL => s3s::Body::from(Bytes::copy_from_slice(bytes)),
                // Passed on without a copy.
                _ => s3s::Body::http_body(body),
            });
            let response = service.call(request).await.map_err(|error| ConnectorError::io(Box::from(error)))?;
            HttpResponse::try_from(response.map(SdkBody::from_body_1_x))
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}
