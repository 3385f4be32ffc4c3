//! Small apps of every kind, and the plans that come of them.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/corpus.rs"]
mod corpus;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use corpus::{APPS, App};
use workspace::application::Command;
use workspace::publish::{self, Preview};
use workspace::source::SourceOptions;

fn preview(app: &App) -> Preview {
    publish::preview(&app.folder(), &SourceOptions::default()).unwrap()
}

/// What is decided about an app, as text.
fn text(app: &App) -> String {
    let Preview { plan, warnings, .. } = preview(app);
    let mut text = format!("{}: {}\n", app.name, app.about);
    match plan {
        None => text.push_str("  no plan\n"),
        Some(plan) => {
            let version = plan.version.as_deref().map(|version| format!(" {version}")).unwrap_or_default();
            let manager = plan.package_manager.as_deref().map(|name| format!(", {name}")).unwrap_or_default();
            writeln!(text, "  {}{version}{manager}, port {}", plan.runtime, plan.port).unwrap();
            let mut line = |what: &str, command: &Command| writeln!(text, "  {what}: {command}").unwrap();
            plan.install.iter().for_each(|command| line("install", command));
            plan.build.iter().for_each(|command| line("build", command));
            plan.release.iter().for_each(|command| line("release", command));
            plan.start.iter().for_each(|command| line("start", command));
            plan.processes.iter().for_each(|(name, command)| line(name, command));
            for (what, folders) in [("path", &plan.path), ("inputs", &plan.inputs)] {
                if !folders.is_empty() {
                    writeln!(text, "  {what}: {}", folders.join(" ")).unwrap();
                }
            }
        }
    }
    for warning in warnings {
        writeln!(text, "  warning: {warning}").unwrap();
    }
    text
}

#[test]
fn every_app_has_the_plan_that_is_written_down() {
    insta::assert_snapshot!(APPS.iter().map(text).collect::<Vec<_>>().join("\n"));
}

#[test]
fn every_folder_has_a_row_and_every_row_a_folder() {
    let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")).unwrap();
    let folders = entries.map(Result::unwrap).filter(|entry| entry.path().is_dir());
    let folders: BTreeSet<String> = folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
    let rows: BTreeSet<String> = APPS.iter().map(|app| app.name.to_owned()).collect();
    assert_eq!(folders, rows);
    let quick = APPS.iter().filter(|app| app.quick && !app.name.ends_with("-declared"));
    assert_eq!(quick.count(), 6);
}

#[test]
fn what_is_said_to_start_has_a_start_command() {
    for app in APPS.iter().filter(|app| app.starts) {
        let plan = preview(app).plan.unwrap();
        assert!(plan.start.is_some() && plan.runtime.has_image(), "{}", app.name);
    }
}

/// A lock file must lead to whichever registry the reader has.
#[test]
fn no_lock_file_names_a_registry() {
    for app in APPS {
        for file in
            ["package-lock.json", "pnpm-lock.yaml", "yarn.lock", "bun.lock", "uv.lock", "poetry.lock", "composer.lock"]
        {
            let text = fs::read_to_string(app.folder().join(file)).unwrap_or_default();
            assert!(!text.contains("://"), "{}/{file}", app.name);
        }
    }
}
