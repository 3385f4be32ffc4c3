//! What the sources say, and what comes of it.

use std::path::Path;

use super::*;

fn environment(pairs: &[(&str, &str)]) -> Environment {
    Environment::from_pairs([("HOME", "/home/me")].into_iter().chain(pairs.iter().copied()))
}

fn resolved(
    flags: &[(&str, &str)],
    pairs: &[(&str, &str)],
    file: &str,
    purpose: Purpose,
) -> Result<Settings, SettingsError> {
    let flag = |name: &str| flags.iter().find(|(flag, _)| *flag == name).map(|(_, value)| (*value).to_owned());
    let global =
        Global { endpoint: flag("endpoint"), bucket: flag("bucket"), region: flag("region"), ..Global::default() };
    resolve(&global, &environment(pairs), &EnvFile::parse(Path::new(".env"), file).unwrap(), purpose)
}

/// The outcome as one line: endpoint, bucket, access key.
fn line(outcome: Result<Settings, SettingsError>) -> String {
    match outcome {
        Err(error) => format!("error: {error}"),
        Ok(settings) => match settings.store.backend {
            Backend::Embedded { directory } => format!("embedded {} {}", directory.display(), settings.store.bucket),
            Backend::S3(s3) => format!(
                "{} {} {} {}",
                s3.endpoint.as_deref().unwrap_or("aws"),
                settings.store.bucket,
                s3.keys.map_or_else(|| "chain".to_owned(), |keys| keys.access_key),
                s3.region.as_deref().unwrap_or("-"),
            ),
        },
    }
}

const FULL: &str = "S3_ENDPOINT=http://file:9000\nS3_BUCKET=filebucket\nS3_ACCESS_KEY=filekey\nS3_SECRET_KEY=x\n";

/// Flags, environment, file, outcome.
type Row<'a> = (Pairs<'a>, Pairs<'a>, &'a str, &'a str);
type Pairs<'a> = &'a [(&'a str, &'a str)];

#[test]
fn sources_are_not_mixed() {
    let interactive = |flags: &[_], pairs: &[_], file| line(resolved(flags, pairs, file, Purpose::Interactive));
    let table: &[Row] = &[
        (&[], &[], "", "embedded /home/me/.local/share/workspace workspaces"),
        (&[], &[("XDG_DATA_HOME", "/data")], "", "embedded /data/workspace workspaces"),
        (&[], &[("WORKSPACE_DATA_DIR", "/d")], "", "embedded /d workspaces"),
        (&[], &[("S3_ENDPOINT", "http://env:9000/")], "", "http://env:9000 workspaces chain -"),
        (&[], &[("S3_BUCKET", "bbb")], "", "aws bbb chain -"),
        (&[("bucket", "bbb")], &[], "", "aws bbb chain -"),
        (&[], &[], FULL, "http://file:9000 filebucket filekey -"),
        // A whole set in the environment replaces the file's.
        (&[], &[("S3_ENDPOINT", "http://env:1")], FULL, "http://env:1 workspaces chain -"),
        (
            &[("endpoint", "http://flag:1")],
            &[("S3_ENDPOINT", "http://env:1")],
            FULL,
            "http://flag:1 workspaces chain -",
        ),
        (
            &[("endpoint", "http://flag:1")],
            &[("S3_ACCESS_KEY", "envkey"), ("S3_SECRET_KEY", "x")],
            FULL,
            "http://flag:1 workspaces envkey -",
        ),
        // These two choose within the file's endpoint.
        (&[("bucket", "bbb")], &[], FULL, "http://file:9000 bbb filekey -"),
        (&[("region", "r")], &[], FULL, "http://file:9000 filebucket filekey r"),
        (
            &[],
            &[("S3_ACCESS_KEY", "envkey"), ("S3_SECRET_KEY", "x")],
            FULL,
            "error: S3_ACCESS_KEY, S3_SECRET_KEY in the environment and S3_ENDPOINT in `.env`: endpoint, bucket and \
             keys have to come from one source",
        ),
        (
            &[],
            &[("S3_BUCKET", "bbb")],
            FULL,
            "error: S3_BUCKET in the environment and S3_ENDPOINT in `.env`: endpoint, bucket and keys have to come \
             from one source",
        ),
        (
            &[],
            &[("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "x")],
            "S3_ENDPOINT=http://file:9000",
            "error: S3_ENDPOINT is set in `.env` and no keys are: those of the AWS tools are not sent to an endpoint \
             that a file names",
        ),
        (&[("endpoint", "http://flag:1")], &[], "S3_ENDPOINT=http://file:9000", "http://flag:1 workspaces chain -"),
        (&[], &[("STORAGE_MODE", "embedded")], FULL, "embedded /home/me/.local/share/workspace filebucket"),
        (&[], &[], "STORAGE_MODE=s3\nS3_BUCKET=bbb", "aws bbb chain -"),
        (
            &[],
            &[("STORAGE_MODE", "s3")],
            "",
            "error: STORAGE_MODE is `s3`, but neither S3_ENDPOINT nor S3_BUCKET is set",
        ),
        (
            &[],
            &[("STORAGE_MODE", "filesystem")],
            "",
            "error: STORAGE_MODE in the environment is `filesystem`, which is not a storage mode",
        ),
        (&[], &[("S3_BUCKET", " \n")], "", "error: S3_BUCKET is set to nothing in the environment"),
        (&[("bucket", "")], &[], "", "error: --bucket is set to nothing in the command line"),
        (&[], &[], "S3_SECRET_KEY=", "error: S3_SECRET_KEY is set to nothing in `.env`"),
        (
            &[],
            &[("S3_ENDPOINT", "http://e"), ("S3_ACCESS_KEY", "k")],
            "",
            "error: S3_ACCESS_KEY is set in the environment and S3_SECRET_KEY is not",
        ),
    ];
    for (flags, pairs, file, expected) in table {
        assert_eq!(interactive(flags, pairs, file), *expected, "{flags:?} {pairs:?} {file}");
    }
}

#[test]
fn nobody_falls_back_unseen() {
    let nothing =
        "error: no store is configured, and `sync`, `run` and CI never fall back to the store on this machine";
    assert_eq!(line(resolved(&[], &[], "", Purpose::Unattended)), nothing);
    assert_eq!(line(resolved(&[], &[("CI", "true")], "", Purpose::Interactive)), nothing);
    let explicit = [("CI", "true"), ("STORAGE_MODE", "embedded"), ("WORKSPACE_DATA_DIR", "/d")];
    assert_eq!(line(resolved(&[], &explicit, "", Purpose::Unattended)), "embedded /d workspaces");
    assert_eq!(
        line(resolved(&[("bucket", "bbb")], &[("CI", "true")], FULL, Purpose::Unattended)),
        "http://file:9000 bbb filekey -"
    );
}

#[test]
fn endpoints_are_checked() {
    for (text, reason) in [
        ("localhost:9000", "`localhost:9000` has no http:// or https:// in front"),
        ("minio", "`minio` has no http:// or https:// in front"),
        ("ftp://host", "`ftp://host` is neither http nor https"),
        ("http://", "`http://` is not a URL"),
        ("http://host/bucket", "`http://host/bucket` has a path; the bucket goes into S3_BUCKET"),
        ("http://host:99999", "`http://host:99999` has an impossible port"),
    ] {
        let outcome = line(resolved(&[], &[("S3_ENDPOINT", text)], "", Purpose::Interactive));
        assert_eq!(outcome, format!("error: S3_ENDPOINT in the environment: {reason}"));
    }
    let outcome = line(resolved(&[("endpoint", "http://me:hunter2@host")], &[], "", Purpose::Interactive));
    assert!(outcome.starts_with("error: --endpoint in the command line: a URL with a user"), "{outcome}");
    assert!(!outcome.contains("hunter2"));
}

#[test]
fn limits_are_checked() {
    let settings = resolved(&[], &[("S3_CONNECT_TIMEOUT", "2")], "S3_ATTEMPTS=5", Purpose::Interactive).unwrap();
    assert_eq!(settings.store.limits.connect, Duration::from_secs(2));
    assert_eq!(settings.store.limits.attempts, 5);
    for text in ["0", "-1", "1s", "100000"] {
        let outcome = resolved(&[], &[("S3_STALL_GRACE", text)], "", Purpose::Interactive);
        assert!(matches!(outcome, Err(SettingsError::Invalid { .. })), "{text}");
    }
}

#[test]
fn no_secret_is_ever_shown() {
    let file = "S3_ENDPOINT=http://h\nS3_ACCESS_KEY=key\nS3_SECRET_KEY=hunter2\n";
    let settings = resolved(&[], &[], file, Purpose::Interactive).unwrap();
    let shown = format!("{settings:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    let secret = settings.report.iter().find(|setting| setting.name == "S3_SECRET_KEY").unwrap();
    assert_eq!((secret.value.as_deref(), secret.source.as_str()), (Some("(secret)"), "`.env`"));
    let broken = EnvFile::parse(Path::new(".env"), "S3_BUCKET=b\nS3_SECRET_KEY='hunter2\n").unwrap_err();
    assert!(!broken.contains("hunter2"), "{broken}");
}

#[test]
fn a_named_file_has_to_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settings");
    assert!(matches!(EnvFile::read(Some(&path)), Err(SettingsError::File { .. })));
    std::fs::write(&path, "# a comment\nexport S3_BUCKET=\"b\"\nOTHER=x\n").unwrap();
    let file = EnvFile::read(Some(&path)).unwrap();
    assert_eq!(file.values, BTreeMap::from([("S3_BUCKET".to_owned(), "b".to_owned())]));
}

#[test]
fn the_example_file_has_every_setting_and_no_other() {
    let example = include_str!("../../.env.example");
    let mut named: Vec<&str> = example
        .lines()
        .filter_map(|line| line.trim_start_matches(['#', ' ']).split_once('='))
        .map(|(name, _)| name)
        .filter(|name| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || b"_0123456789".contains(&byte))
        })
        .collect();
    named.sort_unstable();
    named.dedup();
    let mut known = VARIABLES.to_vec();
    known.sort_unstable();
    assert_eq!(named, known);
    // Every constant of a store's setting is among the variables that are read.
    for constant in include_str!("../environment.rs").lines().filter_map(|line| line.strip_prefix("pub const ")) {
        let name = constant.split(':').next().unwrap_or_default();
        if name.starts_with("S3_") || name.starts_with("STORAGE_") {
            assert!(VARIABLES.contains(&name), "{name}");
        }
        if name.starts_with("WORKSPACE_") {
            assert!(example.contains(name), "{name} is not described");
        }
    }
    // As it stands, the file changes nothing.
    assert!(EnvFile::parse(Path::new(".env"), example).unwrap().values.is_empty());
}
