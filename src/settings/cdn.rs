//! `WORKSPACE_CDN_URL`: where packs are read before the bucket is asked.

use std::fmt;

use super::SettingsError;
use super::sources::Value;
use crate::environment::WORKSPACE_CDN_URL;

/// What stands behind the URL of a CDN that passes signatures on to the bucket.
const PRESIGNED: &str = "presigned";

/// A CDN's URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CdnUrl {
    /// Scheme, host and path, without a final slash: a key follows after one.
    pub base: String,
    /// Whether each address has the query of a presigned one.
    pub presigned: bool,
}

/// As it is set.
impl fmt::Display for CdnUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { base, presigned } = self;
        if *presigned { write!(out, "{base}/?{PRESIGNED}") } else { out.write_str(base) }
    }
}

/// Reads the setting: `https://host`, with a path if need be, and with `?presigned`.
pub(super) fn cdn_url(value: &Value) -> Result<CdnUrl, SettingsError> {
    let invalid = |reason: String| SettingsError::Invalid {
        name: value.name(WORKSPACE_CDN_URL),
        place: value.source.to_string(),
        reason,
    };
    let text = value.text.as_str();
    // Before anything that would repeat the text: it may hold a password.
    if text.contains('@') {
        return Err(invalid("a URL with a user or password, which a CDN is not asked with".to_owned()));
    }
    let uri = text.parse::<http::Uri>().map_err(|_| invalid("it is not a URL".to_owned()))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
        return Err(invalid(format!("`{text}` is not `https://host`, with a path if need be")));
    }
    let presigned = match uri.query() {
        None => false,
        Some(PRESIGNED) => true,
        // Such as a token: it is not repeated.
        Some(_) => return Err(invalid(format!("its query can only be `?{PRESIGNED}`"))),
    };
    if text.contains('#') {
        return Err(invalid("it has a `#`, behind which nothing is sent".to_owned()));
    }
    let base = text.split('?').next().unwrap_or_default().trim_end_matches('/').to_owned();
    Ok(CdnUrl { base, presigned })
}

#[cfg(test)]
mod tests {
    use super::super::Source;
    use super::*;

    fn read(text: &str) -> Result<CdnUrl, String> {
        cdn_url(&Value { text: text.to_owned(), source: Source::Environment }).map_err(|error| error.to_string())
    }

    #[test]
    fn a_url_with_a_path_and_perhaps_presigned() {
        let url = |base: &str, presigned| Ok(CdnUrl { base: base.to_owned(), presigned });
        assert_eq!(read("https://cdn.test/"), url("https://cdn.test", false));
        assert_eq!(read("http://127.0.0.1:80/a/b"), url("http://127.0.0.1:80/a/b", false));
        assert_eq!(read("https://cdn.test/b/?presigned"), url("https://cdn.test/b", true));
        assert_eq!(read("https://cdn.test/b/?presigned").unwrap().to_string(), "https://cdn.test/b/?presigned");
        for wrong in ["cdn.test", "ftp://cdn.test", "https://", "https://me:secret@cdn.test", "https://c/?token=secret"]
        {
            let error = read(wrong).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
