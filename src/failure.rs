//! From an error to what the process says and ends with: the one place that knows exit codes and hints.

use std::process::ExitCode;

use crate::names::NameError;
use crate::output::Output;

/// How `workspace` ends. Part of the interface: scripts rely on these numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Success = 0,
    /// Failed for a reason that no other code names.
    Failure = 1,
    /// The command line or a setting is wrong; nothing was tried.
    Usage = 2,
    /// The workspace, version or bucket is not there.
    NotFound = 3,
    /// Somebody else changed it, or a target has content that isn't ours; nothing was changed.
    Conflict = 4,
    /// The store can't be reached or is failing; trying again may help.
    Unavailable = 5,
    /// Ended by Ctrl-C.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Says what failed, and what to do next.
pub fn report(output: &Output, error: &anyhow::Error) -> ExitCode {
    let (exit, hints) = classify(error);
    output.error(error, &hints);
    exit.into()
}

fn classify(error: &anyhow::Error) -> (Exit, Vec<String>) {
    if error.downcast_ref::<NameError>().is_some() {
        return (Exit::Usage, vec!["a name is made of a-z, 0-9, `.`, `_` and `-`, such as `my-app`".to_owned()]);
    }
    (Exit::Failure, Vec::new())
}
