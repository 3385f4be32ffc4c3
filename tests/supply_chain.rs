//! What this is built from: where each crate comes from, what build scripts do, which images are used. `deny.toml` has the
//! licences, the bans and the list of crates with build scripts; `scripts/lint` checks it.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What cargo knows of every package, of all platforms. It fetches what isn't here yet.
fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

#[test]
fn every_crate_comes_from_the_registry_by_its_checksum() {
    let lock: toml::Table = fs::read_to_string(root().join("Cargo.lock")).unwrap().parse().unwrap();
    let packages = lock["package"].as_array().unwrap();
    assert!(packages.len() > 100);
    for package in packages {
        let name = package["name"].as_str().unwrap();
        if name == "workspace" {
            continue;
        }
        let source = package.get("source").and_then(toml::Value::as_str);
        assert_eq!(source, Some("registry+https://github.com/rust-lang/crates.io-index"), "{name}");
        let checksum = package.get("checksum").and_then(toml::Value::as_str);
        assert!(checksum.is_some_and(|checksum| checksum.len() == 64), "{name} has no checksum");
    }
    let ignored = Command::new("git").args(["check-ignore", "-q", "Cargo.lock"]).current_dir(root()).status();
    assert!(ignored.is_ok_and(|status| status.code() != Some(0)), "Cargo.lock is not committed");
}

/// The sources of a crate's build script: the file, and what lies beside it under its name.
fn build_script(package: &Value) -> Option<PathBuf> {
    let targets = package["targets"].as_array().unwrap();
    let script = targets.iter().find(|target| target["kind"][0] == "custom-build")?;
    Some(PathBuf::from(script["src_path"].as_str().unwrap()))
}

#[test]
fn build_scripts_fetch_nothing_and_are_known() {
    let list: toml::Table = fs::read_to_string(root().join("deny.toml")).unwrap().parse().unwrap();
    let known: BTreeSet<&str> = list["bans"]["build"]["allow-build-scripts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    let network = ["TcpStream", "reqwest", "ureq", "hyper::", "curl", "wget", "git clone", "download(", "\"git\""];
    let mut looked_at = 0;
    let packages = packages();
    for package in &packages {
        let name = package["name"].as_str().unwrap();
        let Some(script) = build_script(package) else { continue };
        assert_ne!(name, "workspace", "this crate has a build script of its own now");
        // Others are for systems that nothing is built for; that the list has all that run, cargo-deny looks after.
        if !known.contains(name) {
            continue;
        }
        let text = fs::read_to_string(&script).unwrap();
        for word in network {
            assert!(!text.contains(word), "the build script of {name} has `{word}`: {}", script.display());
        }
        looked_at += 1;
    }
    assert!(looked_at > 20, "{looked_at}");
    let names: BTreeSet<&str> = packages.iter().map(|package| package["name"].as_str().unwrap()).collect();
    let gone: Vec<&&str> = known.iter().filter(|name| !names.contains(*name)).collect();
    assert!(gone.is_empty(), "deny.toml lists crates that are no dependencies any more: {gone:?}");
}

/// Names of images in a text: what follows `FROM`, `image:`, or an `ARG` whose name ends with `IMAGE`.
fn images(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim);
    lines
        .filter_map(|line| {
            let named = line.strip_prefix("FROM ").or_else(|| line.strip_prefix("image: "));
            let argument = line.strip_prefix("ARG ").and_then(|line| line.split_once("IMAGE=")).map(|(_, image)| image);
            let image = named.or(argument)?.split_whitespace().next()?;
            // `${NAME:-image}`, or a reference to an argument.
            let image = image.strip_prefix("${").map_or(Some(image), |rest| {
                rest.strip_suffix('}').and_then(|rest| rest.split_once(":-")).map(|(_, image)| image)
            })?;
            (image != "scratch").then(|| image.to_owned())
        })
        .collect()
}

#[test]
fn images_of_others_are_named_by_version() {
    let mut files: Vec<PathBuf> = Vec::new();
    for folder in ["docker", "examples"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            files.push(entry.unwrap().path().join("Dockerfile"));
        }
    }
    files.retain(|file| file.exists());
    files.extend(
        ["docker-compose.yml", "docker-compose.minio.yml", "docker-compose.rustfs.yml"].map(|name| root().join(name)),
    );
    let mut found = 0;
    for file in files {
        for image in images(&fs::read_to_string(&file).unwrap()) {
            found += 1;
            let (name, tag) = image.rsplit_once(':').unwrap_or((&image, ""));
            // Our own are built here.
            let own = name.starts_with("workspace");
            let pinned = tag.bytes().any(|byte| byte.is_ascii_digit()) || tag.starts_with("trixie");
            assert!(own || pinned, "{}: `{image}` names no version", file.display());
        }
    }
    assert!(found > 8, "{found}");
}
