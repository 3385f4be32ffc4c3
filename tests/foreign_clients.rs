//! Tools that others wrote, against `workspace serve`.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/servers.rs"]
mod servers;

use std::path::Path;
use std::process::Command;

use servers::Server;

/// Runs a tool and gives what it printed; panics with what it said if it failed.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// Small files, odd names, and one large enough for a multipart upload.
fn tree(root: &Path) {
    std::fs::create_dir_all(root.join("sub folder/deep")).unwrap();
    std::fs::write(root.join("plain.txt"), "plain").unwrap();
    std::fs::write(root.join("empty"), "").unwrap();
    std::fs::write(root.join("sub folder/ümlaut & plus+.txt"), "odd").unwrap();
    std::fs::write(root.join("sub folder/deep/100%.txt"), "percent").unwrap();
    let large: Vec<u8> = (0..20_000_003_u32).map(|position| u8::try_from(position % 251).unwrap()).collect();
    std::fs::write(root.join("large.bin"), large).unwrap();
}

fn same(one: &Path, other: &Path) {
    run(Command::new("diff").arg("-r").args([one, other]));
}

#[test]
fn aws() {
    let (data, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::workspace(data.path());
    let aws = |args: &[&str]| run(server.tool("aws").args(args).current_dir(work.path()));
    tree(&work.path().join("in"));
    aws(&["s3", "mb", "s3://tools"]);
    aws(&["s3", "sync", "--no-progress", "in", "s3://tools/tree"]);
    let listed = aws(&["s3", "ls", "--recursive", "s3://tools/"]);
    assert_eq!(listed.lines().count(), 5, "{listed}");
    aws(&["s3", "sync", "--no-progress", "s3://tools/tree", "out"]);
    same(&work.path().join("in"), &work.path().join("out"));
    // Nothing changed, so nothing is sent.
    assert_eq!(aws(&["s3", "sync", "--no-progress", "in", "s3://tools/tree", "--size-only"]), "");
    aws(&["s3", "cp", "--no-progress", "s3://tools/tree/large.bin", "s3://tools/copy.bin"]);
    let head = aws(&["s3api", "head-object", "--bucket", "tools", "--key", "copy.bin", "--query", "ContentLength"]);
    assert_eq!(head.trim(), "20000003");
    let etag = aws(&[
        "s3api",
        "put-object",
        "--bucket",
        "tools",
        "--key",
        "meta",
        "--body",
        "in/plain.txt",
        "--content-type",
        "text/x-own",
        "--metadata",
        "owner=me",
        "--checksum-algorithm",
        "SHA256",
        "--query",
        "ChecksumSHA256",
        "--output",
        "text",
    ]);
    assert!(!etag.trim().is_empty());
    let meta = aws(&[
        "s3api",
        "get-object",
        "--bucket",
        "tools",
        "--key",
        "meta",
        "--checksum-mode",
        "ENABLED",
        "--query",
        "[ContentType,Metadata.owner]",
        "--output",
        "text",
        "got",
    ]);
    assert_eq!(meta.trim(), "text/x-own\tme");
    let url = aws(&["s3", "presign", "s3://tools/tree/plain.txt"]);
    assert_eq!(run(Command::new("curl").args(["-sf", url.trim()])), "plain");
    aws(&["s3", "rm", "--recursive", "s3://tools/"]);
    aws(&["s3", "rb", "s3://tools"]);
    assert_eq!(aws(&["s3", "ls"]), "");
}

#[test]
fn s5cmd() {
    let (data, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::workspace(data.path());
    let s5cmd = |args: &[&str]| run(server.tool("s5cmd").args(args).current_dir(work.path()));
    tree(&work.path().join("in"));
    s5cmd(&["mb", "s3://tools"]);
    s5cmd(&["cp", "in/", "s3://tools/tree/"]);
    assert_eq!(s5cmd(&["ls", "s3://tools/tree/*"]).lines().count(), 5);
    s5cmd(&["cp", "s3://tools/tree/*", "out/"]);
    same(&work.path().join("in"), &work.path().join("out"));
    s5cmd(&["rm", "s3://tools/*"]);
    s5cmd(&["rb", "s3://tools"]);
}

#[test]
fn rclone() {
    let (data, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::workspace(data.path());
    let rclone = |args: &[&str]| run(server.tool("rclone").args(args).current_dir(work.path()));
    tree(&work.path().join("in"));
    rclone(&["mkdir", "store:tools"]);
    rclone(&["copy", "--s3-upload-cutoff", "6M", "--s3-chunk-size", "6M", "in", "store:tools/tree"]);
    rclone(&["check", "--download", "in", "store:tools/tree"]);
    rclone(&["sync", "store:tools/tree", "store:tools/copied"]);
    rclone(&["copy", "store:tools/copied", "out"]);
    same(&work.path().join("in"), &work.path().join("out"));
    rclone(&["purge", "store:tools/copied"]);
    rclone(&["purge", "store:tools"]);
}

#[test]
fn nothing_goes_without_a_signature() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::workspace(data.path());
    let body = run(Command::new("curl").args(["-s", "-w", "%{http_code}", &format!("{}/tools/key", server.endpoint)]));
    assert!(body.contains("AccessDenied") && body.ends_with("403"), "{body}");
}
