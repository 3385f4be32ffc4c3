//! The commands: each file holds one command's flags, calls the library, and says what came of it.

pub mod compose;
pub mod confirm_removals;
mod decision;
pub mod delete;
pub mod download;
mod duration;
mod failure_report;
pub mod gc;
pub mod health;
pub mod init;
mod interrupt;
pub mod list;
pub mod lock;
pub mod monitor;
pub mod plan;

pub mod proceed;
mod publication;
pub mod recover;
pub mod relay;
pub mod retention;
pub mod retry;
pub mod route;
pub mod run;
pub mod serve;
pub mod start;
pub mod static_site;
pub mod status;
pub mod stop;
pub mod sync;
pub mod unlock;
pub mod upload;
pub mod verify;
mod wait;
