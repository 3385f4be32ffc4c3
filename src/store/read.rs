//! Reading objects: whole, in ranges, from the end, as they come; never more bytes than were asked for.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::error::{is_not_modified, short};
use super::{ETag, Object, Store, StoreError};

/// How often a body that broke off is asked for, unless some of it was of use.
const READ_ATTEMPTS: u32 = 3;
/// Room that is made at once for what is announced, in bytes: the announcement is the server's.
const ROOM: u64 = 32 << 20;
/// Largest object that is read whole where the caller knows no tighter limit, in bytes: packs have 24 MiB at most.
const LARGEST: u64 = 64 << 20;

/// Which bytes are asked for.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    /// The whole object, which has no more than this.
    All(u64),
    /// From here up to there.
    Range(u64, u64),
    /// So many at the end.
    End(u64),
}

impl Wanted {
    fn header(self) -> Option<String> {
        match self {
            Self::All(_) => None,
            Self::Range(start, end) => Some(format!("bytes={start}-{}", end - 1)),
            Self::End(length) => Some(format!("bytes=-{length}")),
        }
    }

    /// The most bytes that may come.
    fn most(self) -> u64 {
        match self {
            Self::All(most) => most,
            Self::Range(start, end) => end - start,
            Self::End(length) => length,
        }
    }

    /// Whether a whole object may be the answer, where it is small enough.
    fn takes_all(self) -> bool {
        !matches!(self, Self::Range(1.., _))
    }
}

/// Pieces of a range, each of which is given away once all of it is there.
struct Pieces<'a> {
    /// Where the next one begins in the object.
    start: u64,
    /// Where it and those after it end.
    ends: &'a [u64],
    take: &'a mut (dyn FnMut(Bytes) + Send),
}

impl Pieces<'_> {
    /// Gives away what is complete at the beginning of the body.
    fn give(&mut self, body: &mut BytesMut) {
        while let Some((&end, rest)) = self.ends.split_first() {
            let Some(length) = usize::try_from(end - self.start).ok().filter(|length| *length <= body.len()) else {
                break;
            };
            (self.take)(body.split_to(length).freeze());
            (self.start, self.ends) = (end, rest);
        }
    }
}

/// What came.
struct Came {
    object: Object,
    /// Bytes of the whole object, if the server said.
    total: Option<u64>,
}

impl Store {
    /// The whole object, of at most 64 MiB.
    pub async fn get(&self, key: &str) -> Result<Object, StoreError> {
        self.get_within(key, LARGEST).await
    }

    /// The whole object, of at most so many bytes: more of it is never held.
    pub async fn get_within(&self, key: &str, most: u64) -> Result<Object, StoreError> {
        Ok(self.read(key, Wanted::All(most), None).await?.object)
    }

    /// The whole object, of at most so many bytes, unless it is still the one that is known. A request either way, but an
    /// answer without a body.
    pub async fn get_if_changed(
        &self,
        key: &str,
        known: Option<&ETag>,
        most: u64,
    ) -> Result<Option<Object>, StoreError> {
        let Some(etag) = known else { return self.get_within(key, most).await.map(Some) };
        let object = match self.read_unless(key, Wanted::All(most), Some(etag), None, None).await {
            // Servers that refuse conditions, and those that ignore them, send all of it.
            Err(StoreError::Unsupported { .. }) => Some(self.get_within(key, most).await?),
            other => other?.map(|came| came.object),
        };
        Ok(object.filter(|object| object.etag != *etag))
    }

    /// Some bytes of an object. Fewer than asked for are an error.
    pub async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let mut whole = Bytes::new();
        self.get_pieces(key, range.start, &[range.end], &mut |piece| whole = piece).await?;
        Ok(whole)
    }

    /// The same from `start` on, in pieces that end at `ends`, which ascend: each is given away once all of it has come, in
    /// order and never twice, whatever breaks off on the way.
    pub async fn get_pieces(
        &self,
        key: &str,
        start: u64,
        ends: &[u64],
        take: &mut (dyn FnMut(Bytes) + Send),
    ) -> Result<(), StoreError> {
        let Some(&end) = ends.last().filter(|end| **end > start) else { return Ok(()) };
        let mut pieces = Pieces { start, ends, take };
        let rest = self.read(key, Wanted::Range(start, end), Some(&mut pieces)).await?.object.body;
        if pieces.ends.is_empty() {
            return Ok(());
        }
        let received = pieces.start - start + rest.len() as u64;
        Err(StoreError::Truncated { key: key.to_owned(), expected: end - start, received })
    }

    /// The first bytes of an object: `length` of them, or all when it has fewer.
    pub async fn get_start(&self, key: &str, length: u64) -> Result<Bytes, StoreError> {
        Ok(self.read(key, Wanted::Range(0, length), None).await?.object.body)
    }

    /// The last bytes of an object, `length` of them or all when it has fewer, and the size of the whole. An empty object
    /// has none.
    pub async fn get_end(&self, key: &str, length: u64) -> Result<(Bytes, u64), StoreError> {
        match self.read(key, Wanted::End(length), None).await {
            Ok(came) => {
                let received = came.object.body.len() as u64;
                Ok((came.object.body, came.total.unwrap_or(received)))
            }
            Err(StoreError::Server { status: 416, .. }) => Ok((Bytes::new(), 0)),
            Err(error) => Err(error),
        }
    }

    async fn read(&self, key: &str, wanted: Wanted, mut pieces: Option<&mut Pieces<'_>>) -> Result<Came, StoreError> {
        let found = match self.read_unless(key, wanted, None, None, pieces.as_deref_mut()).await {
            Err(StoreError::NotFound { key }) if self.past_deletions => match self.deleted_version(&key).await {
                Some(version) => self.read_unless(&key, wanted, None, Some(&version), pieces).await?,
                None => return Err(StoreError::NotFound { key }),
            },
            other => other?,
        };
        // Nobody asked for anything else.
        found.ok_or_else(|| self.not_s3("an unconditional request was answered with 304"))
    }

    fn not_s3(&self, reason: &str) -> StoreError {
        StoreError::NotS3 { endpoint: self.shared.endpoint.clone(), reason: short(reason) }
    }

    /// Reads, and reads again when the body broke off: the SDK's own retries end with the first header.
    async fn read_unless(
        &self,
        key: &str,
        wanted: Wanted,
        known: Option<&ETag>,
        version: Option<&str>,
        mut pieces: Option<&mut Pieces<'_>>,
    ) -> Result<Option<Came>, StoreError> {
        let mut left = READ_ATTEMPTS;
        loop {
            left -= 1;
            let given = pieces.as_ref().map(|pieces| pieces.start);
            let wanted = match (given, wanted) {
                // What was given away does not come again.
                (Some(start), Wanted::Range(_, end)) => Wanted::Range(start, end),
                _ => wanted,
            };
            match self.read_once(key, wanted, known, version, pieces.as_deref_mut()).await {
                Err(StoreError::Truncated { .. }) if pieces.as_ref().map(|pieces| pieces.start) > given => {
                    left = READ_ATTEMPTS;
                }
                Err(StoreError::Truncated { .. }) if left > 0 => {}
                other => return other,
            }
        }
    }

    async fn read_once(
        &self,
        key: &str,
        wanted: Wanted,
        known: Option<&ETag>,
        version: Option<&str>,
        mut pieces: Option<&mut Pieces<'_>>,
    ) -> Result<Option<Came>, StoreError> {
        let request = self.request("GetObject", Some(key));
        let sent = self
            .shared
            .client
            .get_object()
            .bucket(&self.shared.bucket)
            .key(self.at(key))
            .set_range(wanted.header())
            .set_if_none_match(known.map(|etag| etag.0.clone()))
            .set_version_id(version.map(str::to_owned))
            .send()
            .await;
        let output = match sent {
            Ok(output) => output,
            Err(error) if known.is_some() && is_not_modified(&error) => return Ok(None),
            Err(error) => return Err(request.explain(&error)),
        };
        // Nothing here is stored as HTML: what comes as such is a login page or a console.
        if let Some(kind) = output.content_type().filter(|kind| kind.starts_with("text/html")) {
            return Err(self.not_s3(kind));
        }
        let etag = match output.e_tag() {
            Some(etag) => ETag::new(etag),
            // What an address leads to need not be S3.
            None if self.shared.credentials.is_none() => ETag::new(""),
            None => return Err(self.not_s3("an object without an ETag")),
        };
        let expected = output.content_length().and_then(|length| u64::try_from(length).ok());
        let total = output.content_range().and_then(|range| range.rsplit_once('/')?.1.parse().ok());
        let most = wanted.most();
        let too_much = || match wanted {
            Wanted::All(limit) => StoreError::TooLarge { key: key.to_owned(), limit },
            _ => StoreError::NoRanges { endpoint: self.shared.endpoint.clone() },
        };
        if expected.is_some_and(|expected| expected > most) || (output.content_range().is_none() && !wanted.takes_all())
        {
            return Err(too_much());
        }
        let mut stream = output.body;
        let mut body = BytesMut::new();
        body.reserve(usize::try_from(expected.unwrap_or(0).min(ROOM)).unwrap_or(0));
        let mut received = 0;
        loop {
            match stream.next().await {
                Some(Ok(piece)) => {
                    received += piece.len() as u64;
                    body.extend_from_slice(&piece);
                }
                None => break,
                // What was wanted is there.
                Some(Err(_)) if pieces.as_ref().is_some_and(|pieces| pieces.ends.is_empty()) => {
                    return Ok(Some(Came { object: Object { body: body.freeze(), etag }, total }));
                }
                Some(Err(error)) => {
                    tracing::debug!(key, %error, "the body broke off");
                    let expected = expected.unwrap_or(received + 1);
                    return Err(StoreError::Truncated { key: key.to_owned(), expected, received });
                }
            }
            if received > most {
                return Err(too_much());
            }
            if let Some(pieces) = &mut pieces {
                pieces.give(&mut body);
            }
        }
        match expected {
            Some(expected) if expected != received => {
                Err(StoreError::Truncated { key: key.to_owned(), expected, received })
            }
            _ => Ok(Some(Came { object: Object { body: body.freeze(), etag }, total })),
        }
    }
}
