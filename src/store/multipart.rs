//! Objects that are sent in parts, as they are made. Nobody sees one before it is completed.

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use md5::{Digest, Md5};

use super::{CONTENT_TYPE, IMMUTABLE, Store, StoreError, single_attempt};

/// Most parts of an object, as S3 has it.
pub const MOST_PARTS: i32 = 10_000;

/// Between two requests that begin the same object.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(600)];

/// An object under way. It takes room in the bucket until it is completed or aborted.
#[derive(Debug, Clone)]
pub struct Multipart {
    store: Store,
    key: String,
    id: String,
}

/// A part that the store has.
#[derive(Debug, Clone)]
pub struct SentPart {
    number: i32,
    etag: String,
}

impl Store {
    /// Begins an object that will never change.
    ///
    /// Each request is one: where a reply is lost the upload that it would have named is looked for and taken back, since nobody
    /// else would ever do it.
    pub async fn begin_parts(&self, key: &str) -> Result<Multipart, StoreError> {
        let mut lost = false;
        for pause in PAUSES {
            match self.begin_once(key).await {
                Ok(multipart) => {
                    if lost {
                        self.abort_others(key, Some(&multipart.id)).await?;
                    }
                    return Ok(multipart);
                }
                Err(error) => {
                    lost |= error.is_ambiguous();
                    if !error.is_ambiguous() && !error.is_retryable() {
                        return Err(error);
                    }
                }
            }
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
        }
        let last = self.begin_once(key).await;
        let own = last.as_ref().ok().map(|multipart| multipart.id.as_str());
        if lost || last.as_ref().is_err_and(StoreError::is_ambiguous) {
            self.abort_others(key, own).await?;
        }
        last
    }

    async fn begin_once(&self, key: &str) -> Result<Multipart, StoreError> {
        let request = self.request("CreateMultipartUpload", Some(key));
        let output = self
            .shared
            .client
            .create_multipart_upload()
            .bucket(&self.shared.bucket)
            .key(self.at(key))
            .content_type(CONTENT_TYPE)
            .cache_control(IMMUTABLE)
            .customize()
            .config_override(single_attempt())
            .send()
            .await
            .map_err(|error| request.explain(&error))?;
        match output.upload_id() {
            Some(id) => Ok(Multipart { store: self.clone(), key: key.to_owned(), id: id.to_owned() }),
            None => Err(StoreError::NotS3 {
                endpoint: self.shared.endpoint.clone(),
                reason: "an upload that was begun has no id".to_owned(),
            }),
        }
    }

    /// Takes back all uploads of an object that are under way, but for one.
    async fn abort_others(&self, key: &str, own: Option<&str>) -> Result<(), StoreError> {
        for id in self.uploads(key).await?.into_iter().filter(|id| Some(id.as_str()) != own) {
            Multipart { store: self.clone(), key: key.to_owned(), id }.abort().await?;
        }
        Ok(())
    }

    /// Takes back uploads in parts of objects whose keys begin with `prefix` that were begun before a time: whoever began them is
    /// gone, and they take room that no listing shows. Gives how many; a page of them, the next time brings the next.
    pub async fn abort_abandoned(&self, prefix: &str, before: jiff::Timestamp) -> Result<u64, StoreError> {
        let request = self.request("ListMultipartUploads", Some(prefix));
        let listing = self.shared.client.list_multipart_uploads().bucket(&self.shared.bucket).prefix(self.at(prefix));
        let output = listing.send().await.map_err(|error| request.explain(&error))?;
        let mut aborted = 0;
        for upload in output.uploads() {
            let (Some(key), Some(id)) = (upload.key(), upload.upload_id()) else { continue };
            let key = self.called(key);
            let old = upload.initiated().and_then(super::timestamp).is_some_and(|begun| begun < before);
            if old && key.starts_with(prefix) {
                Multipart { store: self.clone(), key, id: id.to_owned() }.abort().await?;
                aborted += 1;
            }
        }
        Ok(aborted)
    }

    /// The uploads in parts of an object that are under way: a page of them, far more than there ever are.
    async fn uploads(&self, key: &str) -> Result<Vec<String>, StoreError> {
        let request = self.request("ListMultipartUploads", Some(key));
        let output = self
            .shared
            .client
            .list_multipart_uploads()
            .bucket(&self.shared.bucket)
            .prefix(self.at(key))
            .send()
            .await
            .map_err(|error| request.explain(&error))?;
        let of_key =
            output.uploads().iter().filter(|upload| upload.key().is_some_and(|found| self.called(found) == key));
        Ok(of_key.filter_map(|upload| upload.upload_id().map(str::to_owned)).collect())
    }
}

impl Multipart {
    /// Sends a part; the first one has the number 1, and all but the last at least 5 MiB.
    pub async fn send(&self, number: i32, body: Bytes) -> Result<SentPart, StoreError> {
        let shared = &self.store.shared;
        let request = self.store.request("UploadPart", Some(&self.key));
        let output = shared
            .client
            .upload_part()
            .bucket(&shared.bucket)
            .key(self.store.at(&self.key))
            .upload_id(&self.id)
            .part_number(number)
            .content_md5(BASE64.encode(Md5::digest(&body)))
            .body(ByteStream::from(body))
            .send()
            .await
            .map_err(|error| request.explain(&error))?;
        match output.e_tag() {
            Some(etag) => Ok(SentPart { number, etag: etag.to_owned() }),
            None => Err(StoreError::NotS3 {
                endpoint: shared.endpoint.clone(),
                reason: "a part was answered without an ETag".to_owned(),
            }),
        }
    }

    /// Makes the object of its parts. After a failure it may be there all the same: the reply may have been lost.
    pub async fn complete(&self, mut parts: Vec<SentPart>) -> Result<(), StoreError> {
        let shared = &self.store.shared;
        let request = self.store.request("CompleteMultipartUpload", Some(&self.key));
        parts.sort_by_key(|part| part.number);
        let parts =
            parts.into_iter().map(|part| CompletedPart::builder().part_number(part.number).e_tag(part.etag).build());
        let completed = CompletedMultipartUpload::builder().set_parts(Some(parts.collect())).build();
        shared
            .client
            .complete_multipart_upload()
            .bucket(&shared.bucket)
            .key(self.store.at(&self.key))
            .upload_id(&self.id)
            .multipart_upload(completed)
            .send()
            .await
            .map_err(|error| request.explain(&error))?;
        Ok(())
    }

    /// Takes back what was sent. One that is gone already is fine.
    pub async fn abort(&self) -> Result<(), StoreError> {
        let shared = &self.store.shared;
        let request = self.store.request("AbortMultipartUpload", Some(&self.key));
        let sent = shared
            .client
            .abort_multipart_upload()
            .bucket(&shared.bucket)
            .key(self.store.at(&self.key))
            .upload_id(&self.id)
            .send()
            .await;
        match sent.map_err(|error| request.explain(&error)) {
            Ok(_) | Err(StoreError::NotFound { .. } | StoreError::Server { status: 404, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
