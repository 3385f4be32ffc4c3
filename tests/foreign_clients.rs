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

/// Runs a tool that has to fail, and gives what it said.
fn refused(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{command:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn slow_aws_api() {
    let (data, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::workspace(data.path());
    let words = |line: &str| {
        let mut tool = server.tool("aws");
        tool.arg("s3api").args(line.split(' ')).args(["--output", "text"]).current_dir(work.path());
        tool
    };
    let api = |line: &str| run(&mut words(line)).trim().to_owned();
    let fails = |line: &str, code: &str| {
        let said = refused(&mut words(line));
        assert!(said.contains(code), "{line}\n{said}");
    };
    std::fs::write(work.path().join("one"), "one").unwrap();
    std::fs::write(work.path().join("two"), "two").unwrap();
    std::fs::write(work.path().join("part"), vec![7; 5 * 1024 * 1024]).unwrap();
    api("create-bucket --bucket tools");
    for key in ["a/1", "a/2", "b", "c/1", "d"] {
        api(&format!("put-object --bucket tools --key {key} --body one"));
    }

    // Both versions of the listing, in pages of one; the tool prints a line for each page.
    let flat = |text: &str| text.split_whitespace().filter(|word| *word != "None").collect::<Vec<_>>().join(" ");
    for operation in ["list-objects", "list-objects-v2"] {
        let listing = format!("{operation} --bucket tools --delimiter / --page-size 1");
        assert_eq!(flat(&api(&format!("{listing} --query Contents[].Key"))), "b d");
        assert_eq!(flat(&api(&format!("{listing} --query CommonPrefixes[].Prefix"))), "a/ c/");
        assert_eq!(api(&format!("{operation} --bucket tools --prefix a/ --query Contents[].Key")), "a/1\ta/2");
    }

    // Damaged content replaces nothing.
    fails("put-object --bucket tools --key b --body two --content-md5 AAAAAAAAAAAAAAAAAAAAAA==", "BadDigest");
    fails("put-object --bucket tools --key b --body two --checksum-crc32 AAAAAA==", "BadDigest");
    assert_eq!(api("head-object --bucket tools --key b --query ETag"), "\"f97c5d29941bfb1b2fdab0874906ab82\"");

    // Conditions on reading.
    let etag = "f97c5d29941bfb1b2fdab0874906ab82";
    fails(&format!("get-object --bucket tools --key b --if-none-match {etag} got"), "304");
    fails("get-object --bucket tools --key b --if-match 00000000000000000000000000000000 got", "PreconditionFailed");
    fails("get-object --bucket tools --key b --if-modified-since 2999-01-01 got", "304");
    api(&format!("get-object --bucket tools --key b --if-match {etag} --range bytes=1-9 got"));
    assert_eq!(std::fs::read(work.path().join("got")).unwrap(), b"ne");
    fails("get-object --bucket tools --key b --range bytes=9-12 got", "InvalidRange");

    // A multipart upload, step by step.
    let id = api("create-multipart-upload --bucket tools --key large --content-type text/x-own --query UploadId");
    assert_eq!(api("list-multipart-uploads --bucket tools --query Uploads[].Key"), "large");
    let part = |number, body| {
        api(&format!(
            "upload-part --bucket tools --key large --upload-id {id} --part-number {number} --body {body} --query ETag"
        ))
    };
    let (first, second) = (part(1, "part"), part(2, "one"));
    assert_eq!(
        api(&format!("list-parts --bucket tools --key large --upload-id {id} --query Parts[].Size")),
        "5242880\t3"
    );
    let complete = |parts: &str, more: &str| {
        format!(
            "complete-multipart-upload --bucket tools --key large --upload-id {id}{more} --multipart-upload {parts}"
        )
    };
    let parts = |one: &str, other: &str| {
        format!("{{\"Parts\":[{{\"PartNumber\":1,\"ETag\":{one}}},{{\"PartNumber\":2,\"ETag\":{other}}}]}}")
    };
    fails(&complete(&parts(&second, &first), ""), "InvalidPart");
    api("put-object --bucket tools --key large --body one");
    fails(&complete(&parts(&first, &second), " --if-none-match *"), "PreconditionFailed");
    api("delete-object --bucket tools --key large");
    api(&complete(&parts(&first, &second), " --if-none-match *"));
    let head = api("head-object --bucket tools --key large --query [ContentLength,ContentType]");
    assert_eq!(head, "5242883\ttext/x-own");
    assert_eq!(api("list-multipart-uploads --bucket tools --query Uploads"), "None");
    let id = api("create-multipart-upload --bucket tools --key given-up --query UploadId");
    api(&format!("abort-multipart-upload --bucket tools --key given-up --upload-id {id}"));
    fails(&format!("abort-multipart-upload --bucket tools --key given-up --upload-id {id}"), "NoSuchUpload");

    // Copies keep what describes the content, unless told otherwise.
    api("copy-object --bucket tools --key copied --copy-source tools/large");
    assert_eq!(api("head-object --bucket tools --key copied --query ContentType"), "text/x-own");
    fails("delete-bucket --bucket tools", "BucketNotEmpty");
    fails("create-bucket --bucket tools", "BucketAlreadyOwnedByYou");
    assert_eq!(api("get-bucket-location --bucket tools"), "None");
    fails("head-object --bucket tools --key missing", "404");
    fails("get-object --bucket missing --key missing got", "NoSuchBucket");
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
