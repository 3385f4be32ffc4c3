//! Where a version comes from: commit, branch, run and author, from the CI system's variables or from git.

use std::path::Path;

use super::git;
use crate::environment::{
    CI_COMMIT_REF_NAME, CI_COMMIT_SHA, CI_JOB_URL, Environment, GITHUB_ACTOR, GITHUB_REF_NAME, GITHUB_REPOSITORY,
    GITHUB_RUN_ID, GITHUB_SERVER_URL, GITHUB_SHA, GITLAB_USER_LOGIN, USER,
};

/// Where a version comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Provenance {
    /// The commit's id.
    pub commit: Option<String>,
    /// The branch or tag.
    pub branch: Option<String>,
    /// The CI run: an address.
    pub run: Option<String>,
    /// Who publishes.
    pub author: Option<String>,
}

impl Provenance {
    /// Of a folder. A CI system's word on branch and run goes before git's, since CI checks out detached commits.
    pub fn of(folder: &Path, environment: &Environment) -> Self {
        let commit = git::commit_of(folder);
        let own = Self {
            commit: commit.id,
            branch: commit.branch,
            run: None,
            author: commit.author.or_else(|| environment.get(USER).map(str::to_owned)),
        };
        own.refined(environment)
    }

    fn refined(self, environment: &Environment) -> Self {
        let get = |name: &str| environment.get(name).filter(|value| !value.is_empty()).map(str::to_owned);
        if let Some(commit) = get(GITHUB_SHA) {
            let run = match (get(GITHUB_SERVER_URL), get(GITHUB_REPOSITORY), get(GITHUB_RUN_ID)) {
                (Some(server), Some(repository), Some(run)) => {
                    Some(format!("{server}/{repository}/actions/runs/{run}"))
                }
                _ => None,
            };
            return Self {
                // The tree is what is checked out, which need not be the commit that started the run.
                commit: self.commit.or(Some(commit)),
                branch: get(GITHUB_REF_NAME).or(self.branch),
                run,
                author: get(GITHUB_ACTOR).or(self.author),
            };
        }
        if let Some(commit) = get(CI_COMMIT_SHA) {
            return Self {
                commit: self.commit.or(Some(commit)),
                branch: get(CI_COMMIT_REF_NAME).or(self.branch),
                run: get(CI_JOB_URL),
                author: get(GITLAB_USER_LOGIN).or(self.author),
            };
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ci_systems_say_where_a_run_is() {
        let github = Environment::from_pairs([
            ("GITHUB_SHA", "a1"),
            ("GITHUB_REF_NAME", "main"),
            ("GITHUB_SERVER_URL", "https://github.example"),
            ("GITHUB_REPOSITORY", "o/r"),
            ("GITHUB_RUN_ID", "7"),
            ("GITHUB_ACTOR", "ada"),
        ]);
        let expected = Provenance {
            commit: Some("a1".into()),
            branch: Some("main".into()),
            run: Some("https://github.example/o/r/actions/runs/7".into()),
            author: Some("ada".into()),
        };
        assert_eq!(Provenance::default().refined(&github), expected);
        let gitlab = Environment::from_pairs([("CI_COMMIT_SHA", "b2"), ("CI_JOB_URL", "https://gitlab.example/j/1")]);
        let read = Provenance { commit: Some("c3".into()), ..Provenance::default() }.refined(&gitlab);
        assert_eq!(read.commit.as_deref(), Some("c3"));
        assert_eq!(read.run.as_deref(), Some("https://gitlab.example/j/1"));
        assert_eq!(Provenance::default().refined(&Environment::default()), Provenance::default());
    }
}
