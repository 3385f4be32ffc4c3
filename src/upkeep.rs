//! Keeping a bucket right: what lies in it, what of that is needed, and what to do about the rest.
//!
//! - [`inventory`]: what lies below a root, by kind;
//! - [`needs`]: what the kept versions, and those that hosts run, consist of;
//! - [`collect`]: what nobody needs is deleted, fenced by the ref;
//! - [`orphans`]: what lies below roots that no ref names;
//! - [`lock`]: a version that nobody can delete for a while;
//! - [`verify`]: whether everything that is needed is there, and whole;
//! - [`recover`]: a ref that was lost is made again from the manifests.

pub mod collect;
pub mod inventory;
pub mod lock;
pub mod needs;
pub mod orphans;
pub mod recover;
pub mod verify;
