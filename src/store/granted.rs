//! A store that is read by presigned addresses, without any key.
//!
//! The client above is the usual one: its retries, limits and checks stay in force. Below it each request is sent to the
//! address that was granted for its key.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use jiff::Timestamp;

use super::cdn::Below;
use crate::settings::Limits;

/// What stands in requests where a bucket's name has to: addresses have their own.
pub(super) const BUCKET: &str = "granted";

/// What a store that is read by presigned addresses is made of.
#[derive(Clone)]
pub struct Granted {
    /// A presigned GET for each key.
    pub addresses: BTreeMap<String, String>,
    /// When they stop working.
    pub expires: Timestamp,
    /// How long and how often.
    pub limits: Limits,
    /// A PEM file of certificate authorities to trust beside the system's.
    pub ca_bundle: Option<PathBuf>,
}

/// Addresses are as good as keys while they last.
impl fmt::Debug for Granted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Granted")
            .field("addresses", &self.addresses.len())
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

impl Granted {
    /// Scheme and host of the addresses: what errors name, and nothing secret.
    pub(super) fn endpoint(&self) -> String {
        let uri = self.addresses.values().next().and_then(|address| address.parse::<http::Uri>().ok());
        let parts = uri.as_ref().and_then(|uri| Some((uri.scheme_str()?, uri.host()?, uri.port_u16())));
        match parts {
            Some((scheme, host, Some(port))) => format!("{scheme}://{host}:{port}"),
            Some((scheme, host, None)) => format!("{scheme}://{host}"),
            // Nothing can be read by such a grant, and each request says so.
            None => "http://granted.invalid".to_owned(),
        }
    }
}

/// A request for which the grant has no address.
#[derive(Debug, thiserror::Error)]
#[error("the grant has no address for `{key}`")]
pub(super) struct NoAddress {
    pub(super) key: String,
}

/// Where keys are read.
#[derive(Clone)]
pub(super) enum Addresses {
    /// At addresses of their own.
    Granted(Arc<BTreeMap<String, String>>),
    /// Below a URL.
    Below(Arc<Below>),
}

impl Addresses {
    fn of(&self, key: &str) -> Option<String> {
        match self {
            Self::Granted(addresses) => addresses.get(key).cloned(),
            Self::Below(below) => below.address(key),
        }
    }
}

/// Sends each request to the address of its key.
#[derive(Clone)]
pub(super) struct Addressed {
    pub(super) inner: SharedHttpClient,
    pub(super) addresses: Addresses,
}

impl fmt::Debug for Addressed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Addressed").finish_non_exhaustive()
    }
}

impl HttpClient for Addressed {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(AddressedConnector {
            inner: self.inner.http_connector(settings, components),
            addresses: self.addresses.clone(),
        })
    }
}

struct AddressedConnector {
    inner: SharedHttpConnector,
    addresses: Addresses,
}

impl fmt::Debug for AddressedConnector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("AddressedConnector").finish_non_exhaustive()
    }
}

impl HttpConnector for AddressedConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        match readdress(request, &self.addresses) {
            Ok(request) => self.inner.call(request),
            // The SDK tries again what fails otherwise.
            Err(error) => HttpConnectorFuture::ready(Err(ConnectorError::user(Box::new(error)))),
        }
    }
}

fn readdress(mut request: HttpRequest, addresses: &Addresses) -> Result<HttpRequest, NoAddress> {
    let uri = request.uri().parse::<http::Uri>().unwrap_or_default();
    let below = uri.path().trim_start_matches('/');
    // Our keys consist of characters that no URL escapes.
    let key = below.strip_prefix(BUCKET).and_then(|rest| rest.strip_prefix('/')).unwrap_or_default();
    let missing = || NoAddress { key: key.to_owned() };
    let address = addresses.of(key).filter(|_| request.method() == "GET").ok_or_else(missing)?;
    request.set_uri(address.as_str()).map_err(|_| missing())?;
    // The address signs nothing but the host. Servers refuse headers of the protocol that a signature leaves out, and
    // two kinds of authorization at once.
    let foreign: Vec<String> = request
        .headers()
        .iter()
        .map(|(name, _)| name.to_ascii_lowercase())
        .filter(|name| name == "authorization" || name.starts_with("x-amz-") || name.starts_with("amz-sdk-"))
        .collect();
    for name in foreign {
        request.headers_mut().remove(name);
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> BTreeMap<String, String> {
        BTreeMap::from([("data/a/p.zst".to_owned(), "https://s3.test/b/data/a/p.zst?X-Amz-Signature=5".to_owned())])
    }

    fn addresses() -> Addresses {
        Addresses::Granted(Arc::new(map()))
    }

    #[test]
    fn a_request_goes_to_its_address_with_its_range_and_without_the_protocols_headers() {
        let mut request = HttpRequest::get("http://x/granted/data/a/p.zst?x-id=GetObject").unwrap();
        for (name, value) in
            [("range", "bytes=0-5"), ("x-amz-user-agent", "u"), ("amz-sdk-request", "a"), ("authorization", "s")]
        {
            request.headers_mut().insert(name, value);
        }
        let sent = readdress(request, &addresses()).unwrap();
        assert_eq!(sent.uri(), "https://s3.test/b/data/a/p.zst?X-Amz-Signature=5");
        assert_eq!(sent.headers().iter().collect::<Vec<_>>(), [("range", "bytes=0-5")]);
    }

    #[test]
    fn other_keys_and_other_methods_have_no_address() {
        let request = HttpRequest::get("http://x/granted/refs/a.json").unwrap();
        assert_eq!(readdress(request, &addresses()).unwrap_err().key, "refs/a.json");
        let mut request = HttpRequest::get("http://x/granted/data/a/p.zst").unwrap();
        request.set_method("DELETE").unwrap();
        assert_eq!(readdress(request, &addresses()).unwrap_err().key, "data/a/p.zst");
    }

    #[test]
    fn addresses_are_never_shown() {
        let granted =
            Granted { addresses: map(), expires: Timestamp::UNIX_EPOCH, limits: Limits::default(), ca_bundle: None };
        assert!(!format!("{granted:?}").contains("Signature"));
        assert_eq!(granted.endpoint(), "https://s3.test");
    }
}
