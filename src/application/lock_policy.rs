//! What is done about a lock file that is missing, or that no longer fits its manifest.

use super::{ApplicationError, Plan, WORKSPACE_YAML};

/// Differences that are named; of the others it is said how many they are.
const MOST_LISTED: usize = 3;

/// `lock:` in `workspace.yaml`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum LockPolicy {
    /// The upload is refused.
    Strict,
    /// It is said, and what fits is installed.
    #[default]
    Warn,
    /// What fits is installed, always.
    Update,
}

/// The names in `workspace.yaml`.
pub(super) const POLICIES: [(&str, LockPolicy); 3] =
    [("strict", LockPolicy::Strict), ("warn", LockPolicy::Warn), ("update", LockPolicy::Update)];

/// A lock file, and what it is compared with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Locked<'a> {
    /// The lock file, as the manager calls it.
    pub(super) file: &'a str,
    /// Whether it is there.
    pub(super) exists: bool,
    /// Whether there is anything to lock.
    pub(super) wanted: bool,
    /// The manifest that it is made from.
    pub(super) manifest: &'a str,
    /// What the manifest demands and it doesn't have.
    pub(super) drift: Option<&'a str>,
    /// The command that mends it.
    pub(super) mend: &'a str,
}

/// The first few of the differences between a lock file and its manifest, as one text; `None` where there are none.
pub(super) fn listed(mut differences: Vec<String>) -> Option<String> {
    differences.dedup();
    let more = differences.len().saturating_sub(MOST_LISTED);
    differences.truncate(MOST_LISTED);
    if more > 0 {
        differences.push(format!("{more} more"));
    }
    (!differences.is_empty()).then(|| differences.join(", "))
}

impl LockPolicy {
    /// Whether exactly what the lock file says is to be installed.
    pub(super) fn freezes(
        self,
        lock: Locked<'_>,
        plan: &mut Plan,
        warnings: &mut Vec<String>,
    ) -> Result<bool, ApplicationError> {
        let Locked { file, manifest, mend, .. } = lock;
        let problem = match (lock.exists, lock.drift) {
            (true, None) => None,
            (true, Some(drift)) => Some(format!("`{file}` is out of step with {manifest} ({drift})")),
            (false, _) => Some(format!("there is no {file}")),
        };
        match (self, problem) {
            (Self::Update, _) => {
                plan.because("install", format!("`lock: update` in {WORKSPACE_YAML}"));
                Ok(false)
            }
            (_, Some(_)) if !lock.exists && !lock.wanted => {
                plan.because("install", "nothing to lock");
                Ok(false)
            }
            (_, None) => {
                plan.because("install", file);
                Ok(true)
            }
            (Self::Strict, Some(problem)) => Err(ApplicationError::Lock { problem, mend: mend.to_owned() }),
            (Self::Warn, Some(problem)) if lock.exists => {
                warnings.push(format!(
                    "{problem}: it will be installed unfrozen, with whatever versions fit then. Run `{mend}` and upload again"
                ));
                plan.because("install", format!("{file} is out of step with {manifest}"));
                Ok(false)
            }
            (Self::Warn, Some(problem)) => {
                warnings.push(format!(
                    "{problem}: every install may bring other versions. Run `{mend}` and keep the file, or upload with \
                     `--include-lock` if it is ignored"
                ));
                plan.because("install", "no lock file");
                Ok(false)
            }
        }
    }
}
