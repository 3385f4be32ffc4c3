//! `workspace static` as a process, asked by the real curl.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

struct Site {
    folder: TempDir,
    child: Child,
    address: String,
}

/// What curl got.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.headers.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Site {
    fn new(files: &[(&str, &str)], flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join("site").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_workspace"));
        command.arg("static").arg(folder.path().join("site")).args(flags).env_clear();
        let (child, address) = start(command.env("HOST", "127.0.0.1").env("PORT", "0"));
        Self { folder, child, address }
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.folder.path().join("site").join(path)
    }

    fn get(&self, path: &str, options: &[&str]) -> Answer {
        curl(&format!("http://{}{path}", self.address), options)
    }

    fn status(&self, path: &str) -> u16 {
        self.get(path, &[]).status
    }

    fn terminate(&self) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(command: &mut Command) -> (Child, String) {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let line = BufReader::new(child.stderr.take().unwrap()).lines().next().unwrap().unwrap();
    let address = line.split_once("http://").unwrap_or_else(|| panic!("{line}")).1.to_owned();
    (child, address)
}

fn curl(url: &str, options: &[&str]) -> Answer {
    let folder = tempfile::tempdir().unwrap();
    let (headers, body) = (folder.path().join("headers"), folder.path().join("body"));
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--path-as-is", "--max-time", "30", "--write-out", "%{http_code}"])
        .arg("--dump-header")
        .arg(&headers)
        .arg("--output")
        .arg(&body)
        .args(options)
        .arg(url)
        .output()
        .unwrap();
    assert!(output.status.success(), "{url}: {}", String::from_utf8_lossy(&output.stderr));
    Answer {
        status: String::from_utf8(output.stdout).unwrap().parse().unwrap(),
        headers: std::fs::read_to_string(headers).unwrap(),
        body: std::fs::read(body).unwrap_or_default(),
    }
}

fn link(target: impl AsRef<Path>, at: &Path) {
    std::os::unix::fs::symlink(target, at).unwrap();
}

#[test]
fn pages_and_what_they_load() {
    let site = Site::new(
        &[
            ("index.html", "<h1>home</h1>"),
            ("docs/index.html", "docs"),
            ("about.html", "about"),
            ("app.js", "1"),
            ("style.css", "a{}"),
            ("picture.svg", "<svg/>"),
            ("data.json", "{}"),
            ("app.wasm", "x"),
            ("font.woff2", "x"),
            ("site.webmanifest", "{}"),
            ("a b/ü.txt", "umlaut"),
            ("unknown", "bytes"),
        ],
        &[],
    );
    let home = site.get("/", &[]);
    assert_eq!((home.status, home.text()), (200, "<h1>home</h1>"));
    assert_eq!(home.header("content-length"), Some("13"));
    assert_eq!(home.header("cache-control"), Some("no-cache"));
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/picture.svg", "image/svg+xml"),
        ("/data.json", "application/json"),
        ("/app.wasm", "application/wasm"),
        ("/font.woff2", "font/woff2"),
        ("/site.webmanifest", "application/manifest+json; charset=utf-8"),
        ("/a%20b/%C3%BC.txt", "text/plain; charset=utf-8"),
        ("/unknown", "application/octet-stream"),
    ] {
        let answer = site.get(path, &[]);
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(kind)), "{path}: {answer:?}");
    }
    let folder = site.get("/docs?a=b", &[]);
    assert_eq!((folder.status, folder.header("location")), (307, Some("/docs/?a=b")));
    assert_eq!(site.get("//docs", &[]).header("location"), Some("/docs/"), "not a host named docs");
    assert_eq!(site.get("/docs", &["--location"]).text(), "docs");
    assert_eq!(site.get("/about", &[]).text(), "about");
    for missing in ["/about/", "/index.html/", "/missing", "/docs/missing.js", "/index.html/x"] {
        assert_eq!(site.status(missing), 404, "{missing}");
    }
    assert_eq!(site.get("/missing", &[]).text(), "not found\n");
    // What is added later is served, too.
    std::fs::write(site.path("later.txt"), "later").unwrap();
    assert_eq!(site.get("/later.txt", &[]).text(), "later");
}

#[test]
fn other_methods() {
    let site = Site::new(&[("index.html", "home")], &[]);
    let head = site.get("/", &["--head"]);
    assert_eq!((head.status, head.header("content-length")), (200, Some("4")), "{head:?}");
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer = site.get("/", &["--request", method]);
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET,HEAD")), "{method}");
    }
}

#[test]
fn conditions_and_ranges() {
    let site = Site::new(&[("file.txt", "0123456789")], &[]);
    let first = site.get("/file.txt", &[]);
    let etag = first.header("etag").unwrap().to_owned();
    let modified = first.header("last-modified").unwrap().to_owned();
    for condition in [format!("If-None-Match: {etag}"), format!("If-Modified-Since: {modified}")] {
        let again = site.get("/file.txt", &["--header", &condition]);
        assert_eq!(
            (again.status, again.body.len(), again.header("etag")),
            (304, 0, Some(etag.as_str())),
            "{condition}"
        );
    }
    assert_eq!(site.get("/file.txt", &["--header", "If-None-Match: \"other\""]).status, 200);

    let part = site.get("/file.txt", &["--range", "2-4"]);
    assert_eq!((part.status, part.text(), part.header("content-range")), (206, "234", Some("bytes 2-4/10")));
    assert_eq!(site.get("/file.txt", &["--range", "-3"]).text(), "789");
    assert_eq!(site.get("/file.txt", &["--range", "20-"]).status, 416);
    let several = site.get("/file.txt", &["--range", "0-1,4-5"]);
    assert_eq!((several.status, several.text()), (200, "0123456789"), "allowed: a range may be ignored");

    // Going on with a download: only with the file that it began with.
    let same = site.get("/file.txt", &["--range", "5-", "--header", &format!("If-Range: {etag}")]);
    assert_eq!((same.status, same.text()), (206, "56789"));
    std::fs::write(site.path("file.txt"), "another one").unwrap();
    let changed = site.get("/file.txt", &["--range", "5-", "--header", &format!("If-Range: {etag}")]);
    assert_eq!((changed.status, changed.text()), (200, "another one"));
    assert_eq!(site.get("/file.txt", &["--header", &format!("If-None-Match: {etag}")]).status, 200);
}

#[test]
fn compression() {
    let text = "all work and no play makes jack a dull boy\n".repeat(200);
    let site = Site::new(&[("index.html", &text), ("small.txt", "small"), ("picture.png", &text)], &[]);
    let plain = site.get("/", &[]);
    assert_eq!((plain.header("content-encoding"), plain.header("vary")), (None, Some("accept-encoding")));
    let etag = plain.header("etag").unwrap();
    for encoding in ["gzip", "zstd"] {
        let header = format!("Accept-Encoding: {encoding}");
        let answer = site.get("/", &["--header", &header]);
        assert_eq!(answer.header("content-encoding"), Some(encoding));
        assert!(answer.body.len() < text.len() / 5, "{} bytes", answer.body.len());
        let program = if encoding == "gzip" { "gzip" } else { "zstd" };
        let mut child = Command::new(program)
            .args(["--decompress", "--stdout"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&answer.body).unwrap();
        assert_eq!(String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap(), text);
        // Other bytes, so another ETag; and yet it finds out that nothing has changed.
        let weak = format!("W/{etag}");
        assert_eq!(answer.header("etag"), Some(weak.as_str()));
        let condition = format!("If-None-Match: {weak}");
        let again = site.get("/", &["--header", &header, "--header", &condition]);
        assert_eq!((again.status, again.header("vary")), (304, Some("accept-encoding")));
        // A range is of the plain file.
        let part = site.get("/", &["--header", &header, "--range", "0-9"]);
        assert_eq!((part.status, part.header("content-encoding"), part.text()), (206, None, &text[..10]));
        let head = site.get("/", &["--header", &header, "--head"]);
        assert_eq!((head.status, head.header("content-encoding")), (200, Some(encoding)));
        for path in ["/small.txt", "/picture.png"] {
            assert_eq!(site.get(path, &["--header", &header]).header("content-encoding"), None, "{path}");
        }
    }
}

#[test]
fn what_is_not_of_the_site_stays_unseen() {
    let files = [
        ("index.html", "home"),
        (".env", "SECRET=1"),
        (".git/config", "secret"),
        ("docs/.htaccess", "secret"),
        (".well-known/security.txt", "contact"),
        ("workspace.yaml", "environment:"),
        ("../secret.txt", "outside"),
        ("../site-secret/x.txt", "outside"),
        ("sub/page.txt", "page"),
    ];
    for flags in [&[][..], &["--spa"]] {
        let site = Site::new(&files, flags);
        link("../secret.txt", &site.path("out.txt"));
        link(site.folder.path().join("site-secret"), &site.path("out"));
        link("/etc", &site.path("etc"));
        link("sub/page.txt", &site.path("in.txt"));
        assert_eq!(site.get("/in.txt", &[]).text(), "page", "a link that stays within");
        assert_eq!(site.get("/.well-known/security.txt", &[]).text(), "contact");
        let paths = [
            "/.env",
            "/%2Eenv",
            "/.git/config",
            "/docs/.htaccess",
            "/workspace.yaml",
            "/../secret.txt",
            "/%2e%2e/secret.txt",
            "/..%2fsecret.txt",
            "/sub/..%2f..%2fsecret.txt",
            "/sub/%2e%2e/%2e%2e/secret.txt",
            "/..%5csecret.txt",
            "/%2fetc/passwd.txt",
            "//etc/passwd.txt",
            "/out.txt",
            "/out/x.txt",
            "/etc/hostname.txt",
            "/index.html%00.txt",
        ];
        for path in paths {
            let answer = site.get(path, &[]);
            assert_eq!((answer.status, answer.text()), (404, "not found\n"), "{path} {flags:?}");
        }
        assert!(!site.get("/etc/passwd", &[]).text().contains("root"));
        // An encoded slash is one.
        assert_eq!(site.get("/sub%2fpage.txt", &[]).text(), "page");
        assert_eq!(site.status(&format!("/{}.txt", "x".repeat(5000))), 404);
    }
}

#[test]
fn addresses_without_a_file() {
    let files = [("index.html", "application"), ("404.html", "lost"), ("app.js", "1")];
    let plain = Site::new(&files, &[]);
    let lost = plain.get("/orders/12", &["--header", "Accept: text/html"]);
    assert_eq!((lost.status, lost.text(), lost.header("etag")), (404, "lost", None));
    assert_eq!(lost.header("content-type"), Some("text/html; charset=utf-8"));
    // The page itself is one like others, and whoever asks for parts of a missing file gets all of the page.
    assert_eq!(plain.status("/404.html"), 200);
    assert_eq!(plain.get("/orders", &["--range", "0-1"]).text(), "lost");

    let single = Site::new(&files, &["--spa"]);
    for (path, accept) in [("/orders/12", "*/*"), ("/orders/", "*/*"), ("/people/john.doe", "text/html,*/*;q=0.8")] {
        let answer = single.get(path, &["--header", &format!("Accept: {accept}")]);
        assert_eq!((answer.status, answer.text()), (200, "application"), "{path}");
    }
    let etag = single.get("/orders/12", &[]).header("etag").unwrap().to_owned();
    assert_eq!(single.get("/orders/13", &["--header", &format!("If-None-Match: {etag}")]).status, 304);
    // A part of the application that is missing is no page: HTML in its place would be taken for a script.
    assert_eq!(single.get("/assets/old.js", &[]).status, 404);
    assert_eq!(single.get("/app.js", &[]).text(), "1");
}

#[test]
fn a_download_under_way_is_finished_after_sigterm() {
    let mut site = Site::new(&[("index.html", "home")], &[]);
    let size = 64 * 1024 * 1024;
    std::fs::File::create(site.path("large.bin")).unwrap().set_len(size).unwrap();
    let mut stream = TcpStream::connect(&site.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(b"GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut begin = [0; 1024];
    stream.read_exact(&mut begin).unwrap();
    // Another one that asks nothing must not hold it up.
    let idle = TcpStream::connect(&site.address).unwrap();
    site.terminate();
    let deadline = Instant::now() + Duration::from_secs(5);
    while TcpStream::connect(&site.address).is_ok() {
        assert!(Instant::now() < deadline, "it still accepts");
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    let header = begin.windows(4).position(|part| part == b"\r\n\r\n").unwrap() + 4;
    assert_eq!((begin.len() + rest.len() - header) as u64, size);
    assert_eq!(site.child.wait().unwrap().code(), Some(0));
    drop(idle);
}

#[test]
fn what_cannot_be_served_says_why() {
    let run = |arguments: &[&str], port: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_workspace"));
        let output = command.arg("static").args(arguments).env_clear().env("PORT", port).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text) = run(&["/no/such/folder"], "0");
    assert!(code == Some(1) && text.contains("can't serve `/no/such/folder`"), "{text}");
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    let (code, text) = run(&[folder], "eighty");
    assert!(code == Some(2) && text.contains("PORT in the environment: `eighty` is not a port"), "{text}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, text) = run(&[folder, "--listen", &address], "0");
    assert!(code == Some(1) && text.contains("can't listen on port"), "{text}");
}

/// What builds repeatably sets all times to one.
#[test]
fn contents_of_one_size_and_one_time_have_etags_of_their_own() {
    let site = Site::new(&[("index.html", "app-1111.js")], &[]);
    let other = Site::new(&[("index.html", "app-1111.js")], &[]);
    let same_time = |site: &Site| {
        let file = std::fs::File::options().write(true).open(site.path("index.html")).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
    };
    same_time(&site);
    same_time(&other);
    let old = site.get("/", &[]).header("etag").unwrap().to_owned();
    assert_eq!(other.get("/", &[]).header("etag"), Some(old.as_str()), "the same in every container");
    std::fs::write(site.path("index.html"), "app-2222.js").unwrap();
    same_time(&site);
    let new = site.get("/", &["--header", &format!("If-None-Match: {old}")]);
    assert_eq!((new.status, new.text()), (200, "app-2222.js"));
    assert_ne!(new.header("etag"), Some(old.as_str()));
    let head = site.get("/", &["--head"]);
    assert_eq!(head.header("etag"), new.header("etag"));
    let rest = site.get("/", &["--range", "4-", "--header", &format!("If-Range: {old}")]);
    assert_eq!((rest.status, rest.text()), (200, "app-2222.js"));
}

#[test]
fn a_folder_without_a_page_does_not_hide_the_page_of_its_name() {
    let site = Site::new(
        &[("about.html", "about"), ("about/team.html", "team"), ("docs.html", "x"), ("docs/index.html", "docs")],
        &[],
    );
    std::fs::create_dir(site.path("empty")).unwrap();
    std::fs::write(site.path("empty.html"), "empty").unwrap();
    assert_eq!((site.get("/about", &[]).text(), site.get("/empty?x=1", &[]).text()), ("about", "empty"));
    assert_eq!(site.get("/about/team", &[]).text(), "team");
    assert_eq!(site.get("/docs", &["--location"]).text(), "docs");
    assert_eq!(site.get("/about", &["--head"]).status, 200);
}
