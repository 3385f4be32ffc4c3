//! The rules that keep the architecture readable, checked over the source itself.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};

fn sources() -> Vec<(PathBuf, String)> {
    fn collect(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().to_owned(), text));
            }
        }
    }
    let mut found = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.len() > 40);
    found
}

/// Files that use one of the words in code, outside of the rooms that may.
fn outside(words: &[&str], rooms: &[&str]) -> Vec<String> {
    sources()
        .iter()
        .filter(|(path, _)| !rooms.iter().any(|room| path.starts_with(room)))
        .flat_map(|(path, text)| {
            let code = text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
            code.filter(|(_, line)| words.iter().any(|word| line.contains(word)))
                .map(|(number, line)| format!("{}:{}: {}", path.display(), number + 1, line.trim()))
                .collect::<Vec<_>>()
        })
        .collect()
}

fn none(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

#[test]
fn only_the_store_names_the_sdk() {
    let found = outside(&["aws_sdk_s3", "aws_config", "aws_smithy", "aws_credential"], &["src/store", "src/store.rs"]);
    none(&found, "the SDK is named outside of src/store");
}

#[test]
fn only_the_engine_talks_to_docker() {
    none(&outside(&["bollard"], &["src/engine", "src/engine.rs"]), "Docker is talked to outside of src/engine");
}

#[test]
fn the_planner_is_pure() {
    let words = ["std::fs", "tokio", "Timestamp::now", "Instant::now", "Ulid::generate", "crate::store", "tracing"];
    let pure = ["src/monitor/plan.rs", "src/monitor/situation.rs", "src/monitor/diagnose.rs"];
    let found: Vec<String> =
        outside(&words, &[]).into_iter().filter(|line| pure.iter().any(|file| line.starts_with(file))).collect();
    none(&found, "the planner does I/O or reads a clock");
}

#[test]
fn only_the_output_prints() {
    let found = outside(
        &["println!", "eprintln!", "print!(", "io::stdout()", "io::stderr()"],
        &["src/output", "src/output.rs"],
    );
    none(&found, "something prints outside of src/output");
}

#[test]
fn only_one_module_reads_the_environment() {
    none(
        &outside(&["env::var", "env::vars"], &["src/environment.rs"]),
        "the environment is read outside of its module",
    );
}

#[test]
fn the_format_is_pure() {
    let words = ["std::fs", "tokio", "Timestamp::now", "SystemTime", "Instant::now", "Ulid::generate", "crate::store"];
    let found: Vec<String> = outside(&words, &[]).into_iter().filter(|line| line.starts_with("src/format")).collect();
    none(&found, "the format does I/O or reads a clock");
}

#[test]
fn patterns_and_guard_rails_are_pure() {
    let words = ["std::fs", "std::process", "tokio", "Instant::now", "crate::environment"];
    let pure = ["src/source/pattern.rs", "src/source/guard.rs", "src/source/defaults.rs"];
    let found: Vec<String> =
        outside(&words, &[]).into_iter().filter(|line| pure.iter().any(|file| line.starts_with(file))).collect();
    none(&found, "what decides on a path does I/O");
}

#[test]
fn what_differs_is_found_without_io() {
    let words = ["std::fs", "tokio", "crate::store", "crate::checkout", "Instant::now"];
    let pure = ["src/difference/entries.rs", "src/difference/patch.rs", "src/version/path.rs"];
    let found: Vec<String> =
        outside(&words, &[]).into_iter().filter(|line| pure.iter().any(|file| line.starts_with(file))).collect();
    none(&found, "what differs is found with I/O");
}

#[test]
fn lower_layers_know_nothing_of_higher_ones() {
    // From commands down to plain data.
    let layers: &[(&str, &[&str])] = &[
        ("src/names", &["crate::format", "crate::store", "crate::publish", "crate::checkout", "crate::commands"]),
        ("src/format", &["crate::store", "crate::publish", "crate::checkout", "crate::commands", "crate::cli"]),
        (
            "src/store",
            &["crate::format", "crate::publish", "crate::checkout", "crate::commands", "crate::cli", "clap::"],
        ),
        (
            "src/embedded",
            &["crate::store", "crate::publish", "crate::checkout", "crate::commands", "crate::cli", "clap::"],
        ),
        (
            "src/source",
            &["crate::store", "crate::publish", "crate::checkout", "crate::commands", "crate::cli", "clap::"],
        ),
        ("src/publish", &["crate::checkout", "crate::commands", "crate::cli", "crate::run", "clap::"]),
        ("src/checkout", &["crate::publish", "crate::commands", "crate::cli", "crate::run", "clap::"]),
        ("src/upkeep", &["crate::checkout", "crate::commands", "crate::cli", "crate::run", "crate::monitor", "clap::"]),
        ("src/dependencies.rs", &["crate::commands", "crate::cli", "crate::run", "crate::monitor", "clap::"]),
        ("src/archive", &["crate::publish", "crate::commands", "crate::cli", "crate::run", "crate::monitor", "clap::"]),
        ("src/grant.rs", &["crate::run", "crate::relay", "crate::commands", "crate::cli", "clap::"]),
        ("src/relay.rs", &["crate::store", "crate::run", "crate::commands", "crate::cli", "clap::"]),
        (
            "src/static_site",
            &["crate::store", "crate::publish", "crate::run", "crate::commands", "crate::cli", "clap::"],
        ),
        ("src/hosts", &["crate::publish", "crate::checkout", "crate::run", "crate::commands", "crate::cli", "clap::"]),
        ("src/compose", &["crate::commands", "crate::cli", "clap::"]),
        (
            "src/version",
            &["crate::publish", "crate::checkout", "crate::commands", "crate::cli", "crate::run", "clap::"],
        ),
        (
            "src/difference",
            &["crate::commands", "crate::cli", "crate::run", "crate::monitor", "crate::engine", "clap::"],
        ),
        ("src/watch", &["crate::commands", "crate::cli", "crate::run", "crate::monitor", "crate::engine", "clap::"]),
        ("src/run", &["crate::commands", "crate::cli", "crate::monitor", "crate::engine", "clap::"]),
        ("src/engine", &["crate::monitor", "crate::commands", "crate::cli", "crate::store", "crate::format", "clap::"]),
        ("src/monitor", &["crate::commands", "crate::cli", "clap::"]),
    ];
    let mut found = Vec::new();
    for (layer, forbidden) in layers {
        for line in outside(forbidden, &[]) {
            let path = line.split(':').next().unwrap();
            let inside =
                path.strip_suffix(".rs") == Some(layer) || path == *layer || path.starts_with(&format!("{layer}/"));
            if inside {
                found.push(line);
            }
        }
    }
    none(&found, "a lower layer knows a higher one");
}

#[test]
fn no_file_has_outgrown_its_room() {
    let found: Vec<String> = sources()
        .iter()
        .map(|(path, text)| (path.display().to_string(), text.lines().count()))
        .filter(|(_, lines)| *lines > 800)
        .map(|(path, lines)| format!("{path}: {lines} lines"))
        .collect();
    none(&found, "split it");
}

#[test]
fn every_test_behind_a_promise_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/promises.md")).unwrap();
    let inside: String = sources().into_iter().map(|(_, text)| text).collect();
    let (mut checked, mut missing) = (0, Vec::new());
    for name in page.split('`').skip(1).step_by(2).filter(|name| name.contains("::")) {
        let (file, function) = (name.split("::").next().unwrap(), name.rsplit("::").next().unwrap());
        let text =
            fs::read_to_string(root.join("tests").join(file).with_extension("rs")).unwrap_or_else(|_| inside.clone());
        checked += 1;
        // The last part may be a module of tests.
        if ![format!("fn {function}("), format!("mod {function};")].iter().any(|word| text.contains(word)) {
            missing.push(name);
        }
    }
    assert!(checked > 40 && missing.is_empty(), "{checked} names, of which there is no {missing:?}");
}
