//! Docker Compose: `docker compose` where the plugin is there, else `docker-compose`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::EngineError;
use crate::environment::Environment;

/// Longer than pulling a large image takes.
const LIMIT: Duration = Duration::from_mins(15);
/// How much of what it said is kept for a report, in bytes.
const LAST_WORDS: usize = 2000;

/// The Compose that was found.
#[derive(Debug, Clone)]
pub struct Compose {
    words: Vec<&'static str>,
    version: String,
    environment: Vec<(&'static str, String)>,
    socket: PathBuf,
}

impl Compose {
    /// Looks for the plugin, then for the program.
    pub async fn find(environment: &Environment, socket: PathBuf) -> Result<Self, EngineError> {
        // What finds and runs programs, and nothing else: keys of ours are none of Compose's business.
        let environment: Vec<(&'static str, String)> = ["PATH", "HOME", "TMPDIR", "DOCKER_CONFIG", "XDG_CONFIG_HOME"]
            .into_iter()
            .filter_map(|name| Some((name, environment.get(name)?.to_owned())))
            .collect();
        for words in [vec!["docker", "compose"], vec!["docker-compose"]] {
            let mut found =
                Self { words, version: String::new(), environment: environment.clone(), socket: socket.clone() };
            let asked = found.command().args(["version", "--short"]).stderr(Stdio::null()).output();
            let Ok(Ok(answer)) = tokio::time::timeout(Duration::from_secs(20), asked).await else { continue };
            if answer.status.success() {
                String::from_utf8_lossy(&answer.stdout).trim().clone_into(&mut found.version);
                return Ok(found);
            }
        }
        Err(EngineError::NoCompose)
    }

    /// How it is called.
    pub fn name(&self) -> String {
        self.words.join(" ")
    }

    /// Its version.
    pub fn version(&self) -> &str {
        &self.version
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.words[0]);
        command
            .args(&self.words[1..])
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (*name, value.as_str())))
            .env("DOCKER_HOST", format!("unix://{}", self.socket.display()))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Creates and starts what is missing of a project; what is there stays as it is.
    ///
    /// `variables` are what the file refers to.
    pub async fn up(&self, project: &str, file: &str, variables: &BTreeMap<String, String>) -> Result<(), EngineError> {
        self.run(project, file, variables, &["up", "--detach", "--no-build", "--no-recreate"]).await
    }

    /// Brings the images of a project.
    pub async fn pull(
        &self,
        project: &str,
        file: &str,
        variables: &BTreeMap<String, String>,
    ) -> Result<(), EngineError> {
        self.run(project, file, variables, &["pull", "--quiet"]).await
    }

    async fn run(
        &self,
        project: &str,
        file: &str,
        variables: &BTreeMap<String, String>,
        arguments: &[&str],
    ) -> Result<(), EngineError> {
        let failed = |reason: String| EngineError::Compose { project: project.to_owned(), reason };
        let io_error = |source| EngineError::Io { action: "run Docker Compose", source };
        let mut child = self
            .command()
            .envs(variables)
            // Without a folder of the project's own, the current one would be searched for `.env`.
            .args(["--project-name", project, "--project-directory", "/", "--file", "-"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(io_error)?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that ended early says why itself.
            let _ = stdin.write_all(file.as_bytes()).await;
        }
        match tokio::time::timeout(LIMIT, child.wait_with_output()).await {
            Err(_) => Err(failed(format!("it took longer than {} minutes", LIMIT.as_secs() / 60))),
            Ok(Err(error)) => Err(io_error(error)),
            Ok(Ok(ended)) if ended.status.success() => Ok(()),
            Ok(Ok(ended)) => {
                let text = String::from_utf8_lossy(&ended.stderr);
                let mut from = text.len().saturating_sub(LAST_WORDS);
                while !text.is_char_boundary(from) {
                    from += 1;
                }
                let lines: Vec<&str> = text[from..].lines().map(str::trim).filter(|line| !line.is_empty()).collect();
                // Its progress comes first, what failed last.
                let last = lines.len().saturating_sub(3);
                Err(failed(lines[last..].join("; ")))
            }
        }
    }
}
