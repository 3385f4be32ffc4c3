//! A folder of files over HTTP: what a site that has no server of its own is served by.
//!
//! Conditional and range requests and compression are those of `tower-http`. Here is decided what is asked of them: which
//! files may be seen (see [`fence`]), what tells their contents apart (see [`marks`]), and what answers an address that no file has.

mod fence;
mod marks;
mod server;

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_RANGE, LAST_MODIFIED, LOCATION,
    RANGE, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use tower_http::services::ServeDir;
use tower_http::services::fs::DefaultServeDirFallback;
use tower_service::Service;

use fence::Fence;

pub use server::{Server, bind};

/// The page of a folder.
const INDEX: &str = "/index.html";
/// A site's own page for addresses that it doesn't have.
const NOT_FOUND: &str = "/404.html";
/// Smaller answers grow when they are compressed.
const COMPRESSIBLE_SIZE: u64 = 512;

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A folder that is served.
#[derive(Debug, Clone)]
pub struct Site {
    files: ServeDir<DefaultServeDirFallback, Fence>,
    /// Whether its pages are made in the browser, so that every page's address leads to [`INDEX`].
    single_page: bool,
}

impl Site {
    /// A site of the files in `folder` that now and later are there.
    pub fn open(folder: &Path, single_page: bool) -> io::Result<Self> {
        // Below nothing: the fence knows the folder, and is asked for paths relative to it.
        let files = ServeDir::with_backend("", Fence::around(folder)?).ignore_multi_range_requests(true);
        Ok(Self { files, single_page })
    }

    async fn answer(mut self, method: Method, uri: Uri, headers: HeaderMap) -> Response<Body> {
        let uri = single_slash(uri);
        let mut response = self.file(&method, &uri, &headers).await;
        if response.status() == StatusCode::PARTIAL_CONTENT && !is_same(headers.get(IF_RANGE), response.headers()) {
            // The rest of a file that has changed would be glued to the beginning of the old one.
            response = self.file(&method, &uri, &without(&headers, &[RANGE])).await;
        }
        let path = uri.path();
        // To a folder's page; one without a page may stand beside a page of its name, for what belongs to that.
        let leads_on = response.status().is_redirection() && response.headers().contains_key(LOCATION);
        let is_dead_end = leads_on && !self.has_index(path).await;
        if response.status() != StatusCode::NOT_FOUND && !is_dead_end {
            return response;
        }
        if let Some(page) = with_extension(path) {
            let page = self.file(&method, &page, &headers).await;
            if page.status() != StatusCode::NOT_FOUND {
                return page;
            }
        }
        if is_dead_end {
            return response;
        }
        if self.single_page && is_page(path, headers.get(ACCEPT)) {
            let index = self.file(&method, &Uri::from_static(INDEX), &without(&headers, &[RANGE])).await;
            if index.status() != StatusCode::NOT_FOUND {
                return index;
            }
        }
        self.not_found(&method).await
    }

    /// What is in the folder under this address.
    async fn file(&mut self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Response<Body> {
        let mut request = Request::new(Empty::<Bytes>::new());
        (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) =
            (method.clone(), uri.clone(), headers.clone());
        let Ok(response) = self.files.call(request).await;
        let mut response = response.map(BodyExt::boxed_unsync);
        name_charset(response.headers_mut());
        // Asked for again each time, and mostly answered with 304: a new release is seen at once.
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
    }

    /// Whether the folder under this address, without a slash at its end, has a page.
    async fn has_index(&mut self, path: &str) -> bool {
        let Ok(index) = format!("{path}{INDEX}").parse() else { return false };
        self.file(&Method::HEAD, &index, &HeaderMap::new()).await.status() == StatusCode::OK
    }

    async fn not_found(&mut self, method: &Method) -> Response<Body> {
        let mut response = self.file(method, &Uri::from_static(NOT_FOUND), &HeaderMap::new()).await;
        if response.status() != StatusCode::OK {
            response = Response::new(Full::from("not found\n").map_err(|never| match never {}).boxed_unsync());
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        }
        *response.status_mut() = StatusCode::NOT_FOUND;
        for name in [ETAG, LAST_MODIFIED, ACCEPT_RANGES] {
            response.headers_mut().remove(name);
        }
        response
    }
}

impl<B> Service<Request<B>> for Site {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (parts, _) = request.into_parts();
        let answer = self.clone().answer(parts.method, parts.uri, parts.headers);
        Box::pin(async move { Ok(answer.await) })
    }
}

/// Whether an answer is worth compressing.
fn is_compressible(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let size = headers.get(http::header::CONTENT_LENGTH).and_then(|size| size.to_str().ok()?.parse::<u64>().ok());
    let text = kind.starts_with("text/")
        || kind.ends_with("+json")
        || kind.ends_with("+xml")
        || matches!(
            kind,
            "application/javascript"
                | "application/json"
                | "application/xml"
                | "application/wasm"
                | "font/ttf"
                | "font/otf"
                | "image/bmp"
                | "image/x-icon"
        );
    text && size.is_none_or(|size| size >= COMPRESSIBLE_SIZE)
}

/// Makes an answer's headers true after compression: other bytes need another ETag, and what a cache may do with an answer
/// depends on the encodings that were asked for, also where there is no body.
fn after_compression(headers: &mut HeaderMap, status: StatusCode) {
    if headers.contains_key(CONTENT_ENCODING)
        && let Some(strong) = headers.get(ETAG).filter(|etag| !etag.as_bytes().starts_with(b"W/"))
        && let Ok(weak) = HeaderValue::from_bytes(&[b"W/", strong.as_bytes()].concat())
    {
        headers.insert(ETAG, weak);
    }
    if status == StatusCode::NOT_MODIFIED {
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    }
}

/// Two slashes at the beginning would make a redirect to a folder one to another host.
fn single_slash(uri: Uri) -> Uri {
    let text = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    if !text.starts_with("//") {
        return uri;
    }
    format!("/{}", text.trim_start_matches('/')).parse().unwrap_or(uri)
}

/// The address of `about.html` for `/about`: generators of sites write the one and link to the other.
fn with_extension(path: &str) -> Option<Uri> {
    let last = path.rsplit('/').next().filter(|last| !last.is_empty() && !last.contains('.'))?;
    debug_assert!(!last.is_empty());
    format!("{path}.html").parse().ok()
}

/// Whether a browser goes there, rather than a page that loads one of its parts.
fn is_page(path: &str, accept: Option<&HeaderValue>) -> bool {
    let hidden = path.contains("/.") || path.to_ascii_lowercase().contains("%2e");
    let navigates = accept.is_some_and(|accept| accept.as_bytes().windows(9).any(|part| part == b"text/html"));
    let names_file = path.rsplit('/').next().is_some_and(|last| last.contains('.'));
    !hidden && (navigates || !names_file)
}

/// Whether a range may be of the answer that `If-Range` means.
fn is_same(if_range: Option<&HeaderValue>, found: &HeaderMap) -> bool {
    let Some(expected) = if_range else { return true };
    [ETAG, LAST_MODIFIED].iter().any(|name| found.get(name) == Some(expected))
}

fn without(headers: &HeaderMap, names: &[http::HeaderName]) -> HeaderMap {
    let mut headers = headers.clone();
    for name in names {
        headers.remove(name);
    }
    headers
}

/// Sources are UTF-8; without a word, browsers take text for something older.
fn name_charset(headers: &mut HeaderMap) {
    let Some(kind) = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()) else { return };
    let text = kind.starts_with("text/") || kind == "application/javascript" || kind == "application/manifest+json";
    if text
        && !kind.contains("charset")
        && let Ok(kind) = HeaderValue::from_str(&format!("{kind}; charset=utf-8"))
    {
        headers.insert(CONTENT_TYPE, kind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_told_from_their_parts() {
        let html = HeaderValue::from_static("application/xhtml+xml,text/html;q=0.9");
        let any = HeaderValue::from_static("*/*");
        assert!(is_page("/orders/12", Some(&any)));
        assert!(is_page("/people/john.doe", Some(&html)));
        assert!(is_page("/", None));
        assert!(!is_page("/assets/missing.js", Some(&any)));
        assert!(!is_page("/.env", Some(&html)));
        assert!(!is_page("/%2Eenv", Some(&html)));
        assert!(!is_page("/a/../b", Some(&html)));
    }

    #[test]
    fn no_redirect_leads_to_another_host() {
        assert_eq!(single_slash(Uri::from_static("//evil.example/x?y")), "/evil.example/x?y");
        assert_eq!(single_slash(Uri::from_static("/a//b")), "/a//b");
    }

    #[test]
    fn only_extensions_are_added_that_are_missing() {
        assert_eq!(with_extension("/about").unwrap(), "/about.html");
        assert_eq!(with_extension("/a.b/c").unwrap(), "/a.b/c.html");
        for path in ["/", "/a/", "/a.js", "/.well-known"] {
            assert_eq!(with_extension(path), None, "{path}");
        }
    }
}
