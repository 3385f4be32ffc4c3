//! Presigned addresses: the right to read one object for a while, made without a request.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_credential_types::provider::{self, ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_s3::presigning::PresigningConfig;
use jiff::Timestamp;

use super::{Store, StoreError};
use crate::embedded::Embedded;
use crate::settings::{Backend, Keys, S3Settings, StoreSettings};

/// The longest that an address may last: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/ShareObjectPreSignedURL.html>.
pub const LONGEST: Duration = Duration::from_hours(7 * 24);

impl Store {
    /// An address that reads an object without keys for `lifetime`, at most [`LONGEST`], and no longer than the keys
    /// that sign it last. Nobody asks whether the object is there.
    pub async fn presign(&self, key: &str, lifetime: Duration) -> Result<String, StoreError> {
        let lifetime = lifetime.clamp(Duration::from_secs(1), LONGEST);
        let unusable = |reason: String| StoreError::Configuration { reason };
        let config = PresigningConfig::expires_in(lifetime).map_err(|error| unusable(error.to_string()))?;
        let request = self.request("GetObject", Some(key));
        let operation = self.shared.client.get_object().bucket(&self.shared.bucket).key(self.at(key));
        let signed = operation.presigned(config).await.map_err(|error| request.explain(&error))?;
        if let Some((name, _)) = signed.headers().next() {
            return Err(unusable(format!("a presigned address would need the header `{name}`")));
        }
        Ok(signed.uri().to_owned())
    }

    /// When the keys stop working that sign requests now; nothing for keys that last.
    pub async fn credentials_expire(&self) -> Result<Option<Timestamp>, StoreError> {
        let Some(seen) = &self.shared.credentials else { return Ok(None) };
        if seen.expiry() == Expiry::Unknown {
            let found = seen.provide_credentials().await;
            found.map_err(|error| StoreError::NoCredentials { reason: Some(super::short(&error.to_string())) })?;
        }
        match seen.expiry() {
            Expiry::At(time) => Ok(Some(time)),
            Expiry::Unknown | Expiry::Never => Ok(None),
        }
    }
}

/// How long keys last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Expiry {
    /// None were asked for yet.
    #[default]
    Unknown,
    /// For good.
    Never,
    /// Until then.
    At(Timestamp),
}

/// Remembers when the keys expire that the client was given last: it keeps them for itself.
#[derive(Clone)]
pub(super) struct SeenCredentials {
    inner: SharedCredentialsProvider,
    expiry: Arc<Mutex<Expiry>>,
}

impl SeenCredentials {
    pub(super) fn new(inner: SharedCredentialsProvider) -> Self {
        Self { inner, expiry: Arc::default() }
    }

    /// What the last keys said.
    fn expiry(&self) -> Expiry {
        *self.expiry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SeenCredentials {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(out)
    }
}

impl ProvideCredentials for SeenCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let ask = async move {
            let found: provider::Result = self.inner.provide_credentials().await;
            if let Ok(credentials) = &found {
                let time = credentials.expiry().and_then(|time| Timestamp::try_from(time).ok());
                *self.expiry.lock().unwrap_or_else(PoisonError::into_inner) = time.map_or(Expiry::Never, Expiry::At);
            }
            found
        };
        future::ProvideCredentials::new(ask)
    }

    fn fallback_on_interrupt(&self) -> Option<aws_credential_types::Credentials> {
        self.inner.fallback_on_interrupt()
    }
}

impl StoreSettings {
    /// The same store under another URL: what containers see of it. Addresses that they are to use are signed for it.
    ///
    /// The store on this machine becomes an S3 server with its own keys: what `workspace serve` makes of it.
    pub fn seen_from(&self, endpoint: &str) -> Result<Self, StoreError> {
        let endpoint = Some(endpoint.to_owned());
        let s3 = match &self.backend {
            Backend::Embedded { directory } => {
                let embedded = Embedded::open(directory)?;
                let own = embedded.credentials();
                let keys = Keys { access_key: own.access_key.clone(), secret_key: own.secret_key.clone() };
                S3Settings { endpoint, region: None, keys: Some(keys) }
            }
            Backend::S3(s3) => S3Settings { endpoint, ..s3.clone() },
        };
        Ok(Self { backend: Backend::S3(s3), ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_credential_types::Credentials;

    #[tokio::test]
    async fn temporary_keys_are_known_to_expire() {
        let end = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000);
        let provider = Credentials::new("key", "secret", Some("token".to_owned()), Some(end), "test");
        let seen = SeenCredentials::new(SharedCredentialsProvider::new(provider));
        assert_eq!(seen.expiry(), Expiry::Unknown);
        seen.provide_credentials().await.unwrap();
        assert_eq!(seen.expiry(), Expiry::At(Timestamp::from_second(2_000_000_000).unwrap()));
    }
}
