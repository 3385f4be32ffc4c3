//! Knowing the bucket before writing to it: asked once, remembered on this machine.

use crate::cache::Cache;
use crate::store::Store;
use crate::store::bucket::{Bucket, BucketError, BucketRecord, WriteConsent};

/// Asks the bucket, and gets it ready when it is new.
pub async fn open_for_writing(store: &Store, cache: &Cache, consent: &WriteConsent<'_>) -> Result<Bucket, BucketError> {
    let bucket = Bucket::open_for_writing(store, consent).await?;
    cache.save_bucket(&store.identity(), &bucket.record.to_bytes());
    Ok(bucket)
}

/// Takes what this machine remembers; asks where it remembers nothing. Only for a bucket that has just shown a ref of ours.
pub async fn open_known(store: &Store, cache: &Cache, consent: &WriteConsent<'_>) -> Result<Bucket, BucketError> {
    let known = cache.bucket(&store.identity());
    match known.and_then(|bytes| BucketRecord::from_bytes(&bytes, &store.location()).ok()) {
        Some(record) => {
            let bucket = Bucket { record };
            bucket.allow_writer(store, consent.single_writer)?;
            Ok(bucket)
        }
        None => open_for_writing(store, cache, consent).await,
    }
}
