//! The tools, and how each is told to do the same work.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use crate::results::said;
use crate::servers::Server;

/// A tool, or a yardstick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// Ours.
    Workspace,
    /// One object a file.
    S5cmd,
    /// One object a file, with 64 transfers.
    Rclone,
    /// One object a file.
    Aws,
    /// Packs of chunks, encrypted.
    Restic,
    /// `tar | zstd -3 -T0 | PUT` and its inverse.
    Pipe,
    /// What the work costs without a network: `tar | zstd -3` and BLAKE3 of each file; `tar x` of what lies in memory.
    Bare,
    /// `git status`.
    Git,
}

/// What a tool is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// To send a tree that the bucket doesn't have.
    First,
    /// To send a tree of which the bucket has a version.
    Again,
    /// To fetch into a folder that isn't there.
    Fetch,
    /// To fetch into a folder that has a version.
    FetchAgain,
}

impl Tool {
    /// Everything but ours.
    pub const PEERS: [Self; 7] =
        [Self::S5cmd, Self::Rclone, Self::Aws, Self::Restic, Self::Pipe, Self::Bare, Self::Git];

    /// Tools that keep one object a file.
    pub const FILE_BY_FILE: [Self; 3] = [Self::S5cmd, Self::Rclone, Self::Aws];
}

impl fmt::Display for Tool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Workspace => "workspace",
            Self::S5cmd => "s5cmd",
            Self::Rclone => "rclone",
            Self::Aws => "aws",
            Self::Restic => "restic",
            Self::Pipe => "tar-zstd",
            Self::Bare => "bare",
            Self::Git => "git-status",
        })
    }
}

impl FromStr for Tool {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::PEERS.into_iter().chain([Self::Workspace]).find(|tool| tool.to_string() == name).ok_or_else(|| {
            format!("no tool `{name}`: there are {}", Self::PEERS.map(|tool| format!("`{tool}`")).join(", "))
        })
    }
}

/// What each tool calls itself.
pub fn versions(binary: &Path, tools: &[Tool]) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    let mut ask = |name: &str, program: &Path, argument: &str| {
        versions.insert(name.to_owned(), said(Command::new(program).arg(argument)));
    };
    for tool in tools {
        match tool {
            Tool::Workspace => ask("workspace", binary, "--version"),
            Tool::S5cmd => ask("s5cmd", Path::new("s5cmd"), "version"),
            Tool::Rclone => ask("rclone", Path::new("rclone"), "version"),
            Tool::Aws => ask("aws", Path::new("aws"), "--version"),
            Tool::Restic => ask("restic", Path::new("restic"), "version"),
            Tool::Git => ask("git", Path::new("git"), "--version"),
            Tool::Pipe => {
                ask("tar", Path::new("tar"), "--version");
                ask("zstd", Path::new("zstd"), "--version");
            }
            Tool::Bare => ask("b3sum", Path::new("b3sum"), "--version"),
        }
    }
    ask("seaweedfs", Path::new("weed"), "version");
    versions
}

/// One tool at work on one tree.
pub struct Worker {
    /// Which.
    pub tool: Tool,
    /// `workspace` itself.
    pub binary: PathBuf,
    /// Its caches; a fresh machine is another folder.
    pub home: PathBuf,
    /// Its bucket; the workspace's name for `workspace`.
    pub remote: String,
    /// Where it fetches to.
    pub target: PathBuf,
}

impl Worker {
    /// A command in its environment.
    fn command(&self, server: &Server, endpoint: &str, program: impl AsRef<Path>) -> Command {
        let mut command = server.tool(program.as_ref().to_str().unwrap());
        command
            .env("HOME", &self.home)
            .env("XDG_CACHE_HOME", &self.home)
            .env("AWS_ENDPOINT_URL", endpoint)
            .env("S3_ENDPOINT_URL", endpoint)
            .env("RCLONE_CONFIG_STORE_ENDPOINT", endpoint)
            .env("RESTIC_PASSWORD", "bench")
            .env("RESTIC_REPOSITORY", format!("s3:{endpoint}/{}", self.remote));
        if self.tool == Tool::Workspace {
            command
                .env("S3_ENDPOINT", endpoint)
                .env("S3_BUCKET", "workspaces")
                .env("S3_ACCESS_KEY", &server.access_key)
                .env("S3_SECRET_KEY", &server.secret_key);
        }
        command
    }

    /// What must be there before the first upload, and isn't measured: buckets, and restic's repository.
    pub fn prepare(&self, server: &Server) {
        let run = |program: &Path, arguments: &[&str]| self.run(server, &server.endpoint, program, arguments);
        std::fs::create_dir_all(&self.home).unwrap();
        match self.tool {
            // The bucket has its record: the probe of what the server can do comes once in the life of a bucket.
            Tool::Workspace => {
                let _ = self.command(server, &server.endpoint, "s5cmd").args(["mb", "s3://workspaces"]).output();
                self.acquaint(server, &server.endpoint);
            }
            Tool::Restic => run(Path::new("restic"), &["init"]),
            Tool::S5cmd | Tool::Rclone | Tool::Aws | Tool::Pipe => {
                run(Path::new("s5cmd"), &["mb", &format!("s3://{}", self.remote)]);
            }
            Tool::Bare | Tool::Git => {}
        }
    }

    /// Lets this machine learn what the bucket's record says, which it remembers by the address: another upload does that.
    pub fn acquaint(&self, server: &Server, endpoint: &str) {
        let other = self.home.join("other");
        std::fs::create_dir_all(&other).unwrap();
        std::fs::write(other.join("a.txt"), endpoint).unwrap();
        self.run(server, endpoint, &self.binary, &["upload", "other", other.to_str().unwrap(), "--yes"]);
    }

    /// Does something that isn't measured.
    fn run(&self, server: &Server, endpoint: &str, program: &Path, arguments: &[&str]) {
        let mut command = self.command(server, endpoint, program);
        let output = command.args(arguments).output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// The command for some work; nothing where the tool has no such thing.
    pub fn command_for(&self, work: Work, tree: &Path, server: &Server, endpoint: &str) -> Option<Command> {
        let target = self.target.to_str().unwrap();
        let folder = format!("{}/", tree.display());
        let bucket = format!("s3://{}", self.remote);
        let new = |program: &str, arguments: &[&str]| {
            let mut command = self.command(server, endpoint, program);
            command.args(arguments);
            command
        };
        let shell = |script: &str| {
            let mut command = new("bash", &["-c", &format!("set -o pipefail; {script}")]);
            command.env("TREE", tree).env("TARGET", target).env("OBJECT", format!("{bucket}/tree.tar.zst"));
            command.env("TAR", tree.with_extension("tar"));
            command
        };
        let rclone = [
            "--transfers=64",
            "--checkers=64",
            "--fast-list",
            "--update",
            "--use-server-modtime",
            "--s3-no-check-bucket",
        ];
        let remote = format!("store:{}", self.remote);
        let command = match (self.tool, work) {
            (Tool::Workspace, Work::First | Work::Again) => {
                new(self.binary.to_str().unwrap(), &["upload", &self.remote, &folder])
            }
            (Tool::Workspace, _) => new(self.binary.to_str().unwrap(), &["download", &self.remote, target]),
            (Tool::S5cmd, Work::First | Work::Again) => new("s5cmd", &["sync", &folder, &format!("{bucket}/")]),
            (Tool::S5cmd, _) => new("s5cmd", &["sync", &format!("{bucket}/*"), &format!("{target}/")]),
            (Tool::Rclone, Work::First | Work::Again) => {
                new("rclone", &[&["sync", &folder, &remote], &rclone[..]].concat())
            }
            (Tool::Rclone, _) => new("rclone", &[&["sync", &remote, target], &rclone[..]].concat()),
            (Tool::Aws, Work::First | Work::Again) => {
                new("aws", &["s3", "sync", &folder, &bucket, "--only-show-errors"])
            }
            (Tool::Aws, _) => new("aws", &["s3", "sync", &bucket, target, "--only-show-errors"]),
            (Tool::Restic, Work::First | Work::Again) => {
                let mut command = new("restic", &["backup", "--quiet", "-o", "s3.connections=32", "."]);
                command.current_dir(tree);
                command
            }
            (Tool::Restic, _) => {
                new("restic", &["restore", "latest", "--quiet", "-o", "s3.connections=32", "--target", target])
            }
            (Tool::Pipe, Work::First) => {
                shell(r#"tar -C "$TREE" -cf - . | zstd -3 -T0 --quiet | s5cmd pipe "$OBJECT""#)
            }
            (Tool::Pipe, Work::Fetch) => {
                shell(r#"mkdir "$TARGET"; s5cmd cat "$OBJECT" | zstd -d --quiet | tar -C "$TARGET" -xf -"#)
            }
            (Tool::Bare, Work::First) => shell(
                r#"tar -C "$TREE" -cf - . | zstd -3 --quiet >/dev/null; find "$TREE" -type f -print0 | xargs -0 b3sum"#,
            ),
            (Tool::Bare, Work::Fetch) => shell(r#"mkdir "$TARGET"; tar -C "$TARGET" -xf "$TAR""#),
            (Tool::Git, Work::Again) => {
                let mut command = new("git", &["status", "--porcelain"]);
                command.current_dir(tree);
                command
            }
            (Tool::Pipe | Tool::Bare | Tool::Git, _) => return None,
        };
        Some(command)
    }
}
