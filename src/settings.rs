//! Settings: what the store is, from flags, environment and `.env`.

pub mod types;

pub use types::{Backend, Keys, Limits, S3Settings, Secret, StoreSettings};
