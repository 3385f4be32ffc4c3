//! The URL of an archive: as good as a key while it lasts, so it is never shown.

use std::fmt;
use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::settings::Secret;

/// Longest that is taken, in bytes: ten times what a presigned one has.
const LONGEST: usize = 16 << 10;

/// A URL that reads an archive.
#[derive(Clone, PartialEq, Eq)]
pub struct ArchiveUrl {
    text: Secret,
    endpoint: String,
    expires: Option<Timestamp>,
}

/// A text that is no such URL. It isn't repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the URL can't be used: {0}")]
pub struct BadUrl(&'static str);

impl fmt::Debug for ArchiveUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ArchiveUrl").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl FromStr for ArchiveUrl {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Self, BadUrl> {
        let text = text.trim();
        if text.is_empty() {
            return Err(BadUrl("it is empty"));
        }
        if text.len() > LONGEST {
            return Err(BadUrl("it is far longer than any"));
        }
        let uri: http::Uri = text.parse().map_err(|_| BadUrl("it is not a URL"))?;
        let (Some(scheme @ ("http" | "https")), Some(host)) = (uri.scheme_str(), uri.host()) else {
            return Err(BadUrl("it does not begin with http:// or https:// and a host"));
        };
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(BadUrl("it has a user or password in front of the host"));
        }
        // Shown in messages: nothing that belongs behind it, as in a URL that came in pieces.
        if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_[]:".contains(&byte)) {
            return Err(BadUrl("its host is none"));
        }
        let endpoint = match uri.port_u16() {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        };
        Ok(Self { text: Secret::new(text), endpoint, expires: expiry(uri.query().unwrap_or_default()) })
    }
}

impl ArchiveUrl {
    /// The URL itself, for whoever asks by it.
    pub fn expose(&self) -> &str {
        self.text.expose()
    }

    /// Scheme and host: nothing secret.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// When it stops working, if it says so.
    pub fn expires(&self) -> Option<Timestamp> {
        self.expires
    }
}

/// What the query of a presigned URL says:
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>.
fn expiry(query: &str) -> Option<Timestamp> {
    let find = |name: &str| {
        query
            .split('&')
            .find_map(|pair| pair.split_once('=').filter(|(found, _)| *found == name))
            .map(|(_, value)| value)
    };
    let signed = DateTime::strptime("%Y%m%dT%H%M%SZ", find("X-Amz-Date")?).ok()?;
    let seconds: u32 = find("X-Amz-Expires")?.parse().ok()?;
    let signed = signed.to_zoned(TimeZone::UTC).ok()?.timestamp();
    signed.checked_add(SignedDuration::from_secs(seconds.into())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_says_and_never_shows() {
        let text =
            "https://b.s3.test:8443/data/a?X-Amz-Date=20261125T100000Z&X-Amz-Expires=3600&X-Amz-Signature=secret";
        let url: ArchiveUrl = format!(" {text}\n").parse().unwrap();
        assert_eq!(url.expose(), text);
        assert_eq!(url.endpoint(), "https://b.s3.test:8443");
        assert_eq!(url.expires().unwrap().to_string(), "2026-11-25T11:00:00Z");
        assert!(!format!("{url:?}").contains("secret"));
        assert_eq!("http://h/x".parse::<ArchiveUrl>().unwrap().expires(), None);
        for wrong in ["", "ftp://secret", "h/secret", "https://me:secret@h/x", "http://h/se cret", &"x".repeat(20_000)]
        {
            assert!(!wrong.parse::<ArchiveUrl>().unwrap_err().to_string().contains("secret"), "{wrong}");
        }
    }
}
