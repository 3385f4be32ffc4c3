//! temporary shim
/// e
#[derive(Debug, thiserror::Error)]
pub enum BucketError { /// e
 #[error(transparent)] Store(#[from] super::StoreError) }
/// c
#[derive(Debug, Clone, Default)]
pub struct WriteConsent { /// y
 pub yes: bool }
