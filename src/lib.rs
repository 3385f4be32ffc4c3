//! `workspace` ships a source tree to S3 and runs it anywhere as an ephemeral container.
//!
//! Dependencies point one way, from commands down to plain data:
//!
//! ```text
//! cli → commands → watch, run, compose, relay, static_site, difference → archive, upkeep, dependencies → publish, checkout, grant → version → source, application → format → store → embedded → names
//! ```
//!
//! The format of everything that lies in a bucket is described in [`format`].

pub mod application;
pub mod archive;
pub mod budget;
pub mod cache;
pub mod checkout;
pub mod cli;
pub mod commands;
pub mod compose;
pub mod dependencies;
pub mod difference;
pub mod embedded;
pub mod engine;
pub mod environment;
pub mod failure;
pub mod format;
pub mod grant;
pub mod hosts;
pub mod monitor;
pub mod names;
pub mod output;
pub mod publish;
pub mod relay;
pub mod run;
pub mod secrecy;
pub mod settings;
pub mod source;
pub mod static_site;
pub mod store;
pub mod upkeep;
pub mod version;
pub mod watch;
