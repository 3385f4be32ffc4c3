//! Commands inside of running containers.

use bollard::container::LogOutput;
use bollard::exec::StartExecResults;
use bollard::models::ExecConfig;
use futures::StreamExt;
use futures::stream::BoxStream;

use super::{Engine, EngineError};

/// Longest line that is kept, in bytes.
const MAX_LINE: usize = 256 << 10;

/// The lines that a command prints, as they come.
pub struct Lines {
    output: BoxStream<'static, Result<LogOutput, bollard::errors::Error>>,
    open: Vec<u8>,
}

impl Lines {
    /// The next line on its standard output. `None`: it ended, or the Engine went away.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.open.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.open.drain(..=end).collect();
                return Some(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            match self.output.next().await {
                Some(Ok(LogOutput::StdOut { message } | LogOutput::Console { message })) => {
                    self.open.extend_from_slice(&message);
                    if self.open.len() > MAX_LINE {
                        return None;
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }
}

impl Engine {
    /// Runs a command in a container and gives its lines as they come.
    pub async fn follow(&self, id: &str, command: &[&str]) -> Result<Lines, EngineError> {
        let (_, output) = self.begin(id, command).await?;
        Ok(Lines { output, open: Vec::new() })
    }

    /// Runs a command in a container to its end: its exit code, and what it printed.
    pub async fn exec(&self, id: &str, command: &[&str]) -> Result<(i64, String), EngineError> {
        let (exec, mut output) = self.begin(id, command).await?;
        let mut text = Vec::new();
        while let Some(Ok(piece)) = output.next().await {
            if text.len() < MAX_LINE {
                text.extend_from_slice(&piece.into_bytes());
            }
        }
        let ended =
            self.docker.inspect_exec(&exec).await.map_err(EngineError::of("look at a command in a container"))?;
        Ok((ended.exit_code.unwrap_or(-1), String::from_utf8_lossy(&text).into_owned()))
    }

    async fn begin(
        &self,
        id: &str,
        command: &[&str],
    ) -> Result<(String, BoxStream<'static, Result<LogOutput, bollard::errors::Error>>), EngineError> {
        let failed = EngineError::of("run a command in a container");
        let config = ExecConfig {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(command.iter().map(|word| (*word).to_owned()).collect()),
            ..ExecConfig::default()
        };
        let exec = self.docker.create_exec(id, config).await.map_err(&failed)?.id;
        match self.docker.start_exec(&exec, None).await.map_err(&failed)? {
            StartExecResults::Attached { output, .. } => Ok((exec, output.boxed())),
            StartExecResults::Detached => Ok((exec, futures::stream::empty().boxed())),
        }
    }
}
