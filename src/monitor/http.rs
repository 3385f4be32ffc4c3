//! `GET /healthz` and `GET /metrics`, from the first moment: a monitor that waits for its store or for the first upload is
//! asked how it is, too.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::{Monitor, MonitorError, UNHEALTHY_AFTER, lock};

/// Connections served at once.
const MAX_CONNECTIONS: usize = 32;
/// For a request's header.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// The media type of Prometheus' text.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is served.
pub trait Reports: Send + Sync + 'static {
    /// Whether all is well, and a line about it.
    fn health(&self) -> (bool, String);
    /// Metrics in Prometheus' text format.
    fn metrics(&self) -> String;
}

/// The port, served until this is dropped.
#[derive(Debug)]
pub struct Endpoint {
    front: Arc<Front>,
    serving: JoinHandle<()>,
}

impl Endpoint {
    /// Listens, before anything else begins, so that a port that is taken is noticed at once.
    pub async fn listen(address: SocketAddr) -> Result<Self, MonitorError> {
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|source| MonitorError::Listen { address, source })?;
        let front = Arc::new(Front(Mutex::new(Standing::Waiting { since: Instant::now(), why: None })));
        let serving = tokio::spawn(serve(listener, Arc::clone(&front) as Arc<dyn Reports>));
        Ok(Self { front, serving })
    }

    /// Says why nothing has begun yet.
    pub fn waits(&self, error: &MonitorError) {
        let mut standing = lock(&self.front.0);
        if let Standing::Waiting { why, .. } = &mut *standing {
            *why = Some(Wait { reason: error.to_string(), calm: error.is_first_upload_awaited() });
        }
    }

    /// Lets a monitor answer from now on.
    pub fn answers_for(&self, monitor: &Arc<Monitor>) {
        *lock(&self.front.0) = Standing::Working(Arc::clone(monitor) as Arc<dyn Reports>);
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Who answers now.
struct Front(Mutex<Standing>);

enum Standing {
    Waiting { since: Instant, why: Option<Wait> },
    Working(Arc<dyn Reports>),
}

struct Wait {
    reason: String,
    /// Nothing is wrong: there is nothing to run yet.
    calm: bool,
}

impl std::fmt::Debug for Front {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Front")
    }
}

impl Reports for Front {
    fn health(&self) -> (bool, String) {
        match &*lock(&self.0) {
            Standing::Working(reports) => reports.health(),
            Standing::Waiting { why: None, .. } => (true, "ok: starting".to_owned()),
            Standing::Waiting { since, why: Some(wait) } => {
                (wait.calm || since.elapsed() < UNHEALTHY_AFTER, format!("waiting: {}", wait.reason))
            }
        }
    }

    fn metrics(&self) -> String {
        match &*lock(&self.0) {
            Standing::Working(reports) => reports.metrics(),
            // An empty exposition, in the format's own words.
            Standing::Waiting { .. } => "# EOF\n".to_owned(),
        }
    }
}

/// Serves until it is dropped.
async fn serve(listener: TcpListener, reports: Arc<dyn Reports>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let reports = Arc::clone(&reports);
        tokio::spawn(async move {
            let handler = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let answer = answer(reports.as_ref(), request.method(), request.uri().path());
                async move { Ok::<_, Infallible>(answer) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), handler)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(place);
        });
    }
}

fn answer(reports: &dyn Reports, method: &http::Method, path: &str) -> Response<Full<Bytes>> {
    let (status, kind, body) = match (method, path) {
        (&http::Method::GET, "/healthz") => {
            let (well, line) = reports.health();
            let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            (status, "text/plain; charset=utf-8", format!("{line}\n"))
        }
        (&http::Method::GET, "/metrics") => (StatusCode::OK, OPEN_METRICS, reports.metrics()),
        (&http::Method::GET, _) => {
            (StatusCode::NOT_FOUND, "text/plain", "there are /healthz and /metrics\n".to_owned())
        }
        _ => (StatusCode::METHOD_NOT_ALLOWED, "text/plain", String::new()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}
