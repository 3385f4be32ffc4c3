//! Building the one client of a process.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use aws_config::BehaviorVersion;
use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Builder, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedCredentialsProvider,
    StalledStreamProtectionConfig,
};
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use super::StoreError;
use super::granted::{Addressed, Addresses};
use super::presign::SeenCredentials;
use super::transport::{Counted, Counters, InProcess};
use crate::embedded::Embedded;
use crate::settings::{Backend, Limits, S3Settings, StoreSettings};

/// What the SDK does by default is that of this date, whatever version of it is used.
fn behavior() -> BehaviorVersion {
    BehaviorVersion::v2026_01_12()
}

/// Where custom endpoints are, unless told otherwise: nearly all servers take any region, and all of them this one.
const CUSTOM_REGION: &str = "us-east-1";
/// The host that requests inside the process are addressed to.
const IN_PROCESS: &str = "http://embedded.invalid";
/// The host of requests that get another address before they are sent.
const NOWHERE: &str = "http://granted.invalid";

/// The client, the region it will use, if that is known before asking, and where its keys come from.
pub(super) async fn client(
    settings: &StoreSettings,
    counters: &Arc<Counters>,
) -> Result<(aws_sdk_s3::Client, Option<String>, SeenCredentials), StoreError> {
    let counted = |inner| SharedHttpClient::new(Counted { inner, counters: Arc::clone(counters) });
    let (builder, credentials) = match &settings.backend {
        Backend::Embedded { directory } => {
            let embedded = Embedded::open(directory)?;
            let keys = embedded.credentials();
            let builder = custom(IN_PROCESS, CUSTOM_REGION)
                .http_client(counted(SharedHttpClient::new(InProcess(embedded.service()))));
            (builder, static_credentials(&keys.access_key, keys.secret_key.expose()))
        }
        Backend::S3(s3) => {
            let tls = s3.endpoint.as_deref().is_none_or(|endpoint| endpoint.starts_with("https://"));
            let http = counted(http_client(settings.ca_bundle.as_deref(), tls)?);
            match &s3.endpoint {
                Some(endpoint) => {
                    let region = s3.region.as_deref().unwrap_or(CUSTOM_REGION);
                    (custom(endpoint, region).http_client(http.clone()), credentials(s3, &http, region))
                }
                None => aws(s3, http).await,
            }
        }
    };
    let credentials = SeenCredentials::new(credentials);
    let config = limited(builder, &settings.limits)
        .credentials_provider(credentials.clone())
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .build();
    let region = config.region().map(ToString::to_string);
    if region.is_none() {
        // The SDK would say so at the first request, as if the network were at fault.
        return Err(StoreError::NoRegion);
    }
    Ok((aws_sdk_s3::Client::from_conf(config), region, credentials))
}

/// A client without keys that reads by addresses.
pub(super) fn addressed(
    addresses: Addresses,
    inner: SharedHttpClient,
    limits: &Limits,
    counters: &Arc<Counters>,
) -> aws_sdk_s3::Client {
    let addressed = SharedHttpClient::new(Addressed { inner, addresses });
    let counted = Counted { inner: addressed, counters: Arc::clone(counters) };
    let builder = custom(NOWHERE, CUSTOM_REGION).http_client(SharedHttpClient::new(counted)).allow_no_auth();
    let config = limited(builder, limits)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .build();
    aws_sdk_s3::Client::from_conf(config)
}

/// Whether nobody on the way to an endpoint can change what is sent.
pub(super) fn is_private(endpoint: &str) -> bool {
    let Ok(endpoint) = endpoint.parse::<http::Uri>() else { return false };
    let host = endpoint.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let is_loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    is_loopback || endpoint.scheme() == Some(&http::uri::Scheme::HTTPS)
}

fn custom(endpoint: &str, region: &str) -> Builder {
    aws_sdk_s3::Config::builder()
        .behavior_version(behavior())
        .endpoint_url(endpoint)
        .force_path_style(true)
        .region(Region::new(region.to_owned()))
}

fn static_credentials(access_key: &str, secret_key: &str) -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(Credentials::new(access_key, secret_key, None, None, "settings"))
}

/// The keys of the settings, or the AWS chain without instance metadata: the machine a custom endpoint runs beside may
/// be an EC2 instance, whose role is none of that endpoint's business.
fn credentials(s3: &S3Settings, http: &SharedHttpClient, region: &str) -> SharedCredentialsProvider {
    if let Some(keys) = &s3.keys {
        return static_credentials(&keys.access_key, keys.secret_key.expose());
    }
    let config = ProviderConfig::without_region()
        .with_region(Some(Region::new(region.to_owned())))
        .with_behavior_version(Some(behavior()))
        .with_http_client(http.clone());
    let chain = CredentialsProviderChain::first_try("Environment", EnvironmentVariableCredentialsProvider::new())
        .or_else("Profile", ProfileFileCredentialsProvider::builder().configure(&config).build())
        .or_else("WebIdentityToken", WebIdentityTokenCredentialsProvider::builder().configure(&config).build())
        .or_else("EcsContainer", EcsCredentialsProvider::builder().configure(&config).build());
    SharedCredentialsProvider::new(chain)
}

async fn aws(s3: &S3Settings, http: SharedHttpClient) -> (Builder, SharedCredentialsProvider) {
    let mut loader = aws_config::defaults(behavior()).http_client(http);
    if let Some(region) = &s3.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(keys) = &s3.keys {
        loader = loader.credentials_provider(static_credentials(&keys.access_key, keys.secret_key.expose()));
    }
    let config = loader.load().await;
    let none = || SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new());
    let credentials = config.credentials_provider().unwrap_or_else(none);
    (Builder::from(&config), credentials)
}

fn limited(builder: Builder, limits: &Limits) -> Builder {
    builder
        .retry_config(RetryConfig::standard().with_max_attempts(limits.attempts))
        .timeout_config(
            TimeoutConfig::builder().connect_timeout(limits.connect).operation_attempt_timeout(limits.attempt).build(),
        )
        .stalled_stream_protection(StalledStreamProtectionConfig::enabled().grace_period(limits.stall).build())
}

/// The SDK panics at what it can't read.
fn check_certificates(pem: &[u8]) -> Result<(), String> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| "it is not PEM throughout".to_owned())?;
        roots.add(certificate).map_err(|error| format!("a certificate in it is broken ({error})"))?;
    }
    if roots.is_empty() { Err("it has no PEM certificate".to_owned()) } else { Ok(()) }
}

/// What speaks HTTP.
pub(super) fn http_client(ca_bundle: Option<&Path>, tls: bool) -> Result<SharedHttpClient, StoreError> {
    // Reading the system's certificates takes longer than a request to a server nearby: only where TLS is spoken.
    let mut trust = TrustStore::empty().with_native_roots(tls);
    if let Some(path) = ca_bundle {
        let failed = |reason: String| StoreError::CaBundle { path: path.to_owned(), reason };
        let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
        check_certificates(&pem).map_err(failed)?;
        trust.add_pem_certificate(pem);
    }
    let context = TlsContext::builder()
        .with_trust_store(trust)
        .build()
        .map_err(|error| StoreError::Configuration { reason: error.to_string() })?;
    Ok(aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(context)
        .build_https())
}

#[cfg(test)]
mod tests {
    use super::is_private;

    #[test]
    fn what_nobody_on_the_way_can_change() {
        for endpoint in ["https://s3.example", "http://localhost:9000", "http://127.0.0.1:9000", "http://[::1]:9000"] {
            assert!(is_private(endpoint), "{endpoint}");
        }
        for endpoint in
            ["http://s3.example", "http://localhost.example", "http://10.0.0.1:9000", "http://127.0.0.1.nip.io", "x"]
        {
            assert!(!is_private(endpoint), "{endpoint}");
        }
    }
}
