//! git's ignore rules, with git itself as the oracle: over trees and ignore files made at random, and over the ignore files
//! of real projects. Nothing may differ: neither what goes nor the line that decides, with git and without it.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/cli.rs"]
mod cli;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cli::{Ran, TestEnvironment};
use fastrand::Rng;

const NAMES: &[&str] = &[
    "a", "b", "ab", "A", "aB", "a b", "a ", " b", "#a", "!b", "é", "[a]", "a.o", "b.O", "x.o", "{a,b}", "a\\b", "-",
    "a\t", "0",
];
const PARTS: &[&str] = &[
    "a",
    "b",
    "ab",
    "A",
    "a b",
    "é",
    "x.o",
    "*",
    "?",
    "**",
    "*.o",
    "*.[oO]",
    "[ab]",
    "[!a]",
    "[^a]",
    "[a-c]*",
    "[B-a]",
    "[]a]",
    "[[:alpha:]]",
    "[[:upper:]]*",
    "[[:space:]]*",
    "[[:nope:]]",
    "[a",
    "a*b",
    "**b",
    "a**",
    "***",
    "??",
    "{a,b}",
    "\\a",
    "\\A",
    "\\#a",
    "\\!b",
    "\\*",
    "a\\",
    "\\[a\\]",
    "[\\]a]",
    "[a-]",
    "[-a]",
    "*b*",
    "#a",
    "!b",
    "a\\ b",
    "[!-~]*",
    "a[!b]b",
    "[+-9]*",
    "[a-c-]",
    "[[:punct:]]*",
    "[é-ж]*",
    "\\{a,b\\}",
    "a\\\\b",
];
const BEGINNINGS: &[&str] = &["", "", "", "", "!", "!", "/", "!/", "**/", "!**/", "\\", " "];
const ENDS: &[&str] =
    &["", "", "", "", "/", "/", "/*", "/**", "/**/", " ", "  ", "\\ ", "\\  ", "\t", "\r", "//", "\\"];

/// What one side says: what goes, and the rule on each entry that does not.
type Said = (BTreeSet<String>, BTreeMap<String, String>);

fn said(environment: &TestEnvironment, folder: &Path, path: Option<&str>) -> Said {
    let mut command = environment.workspace(["upload", "x", folder.to_str().unwrap(), "--dry-run", "--json"]);
    path.map(|path| command.env("PATH", path));
    let ran = Ran::from(command.output().unwrap()).ok();
    assert_eq!(ran.stderr.contains("git is not installed"), path.is_some(), "{ran:?}");
    let report = ran.json();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let goes = report["files"].as_array().unwrap().iter().map(|file| text(&file["path"])).collect();
    let stays = report["excluded"].as_array().unwrap().iter();
    (goes, stays.map(|entry| (text(&entry["path"]), text(&entry["rule"]))).collect())
}

/// git's own list, without what our defaults and the rule about secrets take from it.
fn listed(environment: &TestEnvironment, folder: &Path, stays: &BTreeMap<String, String>) -> BTreeSet<String> {
    let output = environment
        .program("git")
        .arg("-C")
        .arg(folder)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let ours = |path: &str| {
        stays.iter().any(|(left_out, rule)| {
            let decides = left_out == path || (left_out.ends_with('/') && path.starts_with(left_out.as_str()));
            decides && (rule.starts_with("default: ") || rule == "secret")
        })
    };
    // What is tracked need not be there any more.
    let there = |path: &str| folder.join(path).symlink_metadata().is_ok();
    text.split('\0').filter(|path| !path.is_empty() && there(path) && !ours(path)).map(str::to_owned).collect()
}

const NONE: Vec<String> = Vec::new();

fn differences(one: &BTreeSet<String>, other: &BTreeSet<String>) -> Vec<String> {
    let more = one.difference(other).map(|path| format!("+ {path:?}"));
    more.chain(other.difference(one).map(|path| format!("- {path:?}"))).collect()
}

fn compare(environment: &TestEnvironment, folder: &Path, what: &str) {
    let with = said(environment, folder, None);
    let without = said(environment, folder, Some("/nowhere"));
    assert_eq!(differences(&with.0, &listed(environment, folder, &with.1)), NONE, "{what}: we with git (+), git (-)");
    assert_eq!(differences(&without.0, &with.0), NONE, "{what}: we without git (+), we with git (-)");
    let only = |one: &Said, other: &Said| -> Vec<String> {
        let differs = |(path, rule): &(&String, &String)| other.1.get(*path) != Some(rule);
        one.1.iter().filter(differs).map(|(path, rule)| format!("{path:?} by {rule:?}")).collect()
    };
    assert_eq!(only(&without, &with), only(&with, &without), "{what}: the rules named without git, and with it");
}

/// A name is one thing only: a file where a folder stands, or the other way round, is left away.
fn write(folder: &Path, path: &str, content: &str) {
    let path = folder.join(path);
    if fs::create_dir_all(path.parent().unwrap()).is_ok() && !path.is_dir() {
        fs::write(path, content).unwrap();
    }
}

fn pick<'l>(random: &mut Rng, list: &[&'l str]) -> &'l str {
    list[random.usize(..list.len())]
}

fn some_path(random: &mut Rng) -> String {
    (0..=random.usize(..3)).map(|_| pick(random, NAMES)).collect::<Vec<_>>().join("/")
}

fn ignore_file(random: &mut Rng, lines: usize) -> String {
    let start = if random.u8(..8) == 0 { "\u{feff}" } else { "" };
    let line = |random: &mut Rng| {
        let parts: Vec<&str> = (0..=random.usize(..5) / 2).map(|_| pick(random, PARTS)).collect();
        format!("{}{}{}", pick(random, BEGINNINGS), parts.join("/"), pick(random, ENDS))
    };
    let lines: Vec<String> = (0..lines).map(|_| line(random)).collect();
    format!("{start}{}", lines.join("\n"))
}

/// A repository with a dozen trees at random, rules at each level and of each kind.
fn random_repository(environment: &TestEnvironment, folder: &Path, seed: u64) {
    let mut random = Rng::with_seed(seed);
    environment.git(folder, &["init", "-q"]);
    let anywhere = |random: &mut Rng| {
        let lines = 1 + random.usize(..2);
        let path = format!("t{}/{}", random.usize(..12), pick(random, NAMES));
        format!("{}\n/{path}\n!/kept\n", ignore_file(random, lines))
    };
    if random.bool() {
        fs::write(folder.join(".git/info/exclude"), anywhere(&mut random)).unwrap();
    }
    if random.bool() {
        write(folder, "../excludes", &anywhere(&mut random));
        environment.git(folder, &["config", "core.excludesFile", "../excludes"]);
    }
    if random.bool() {
        environment.git(folder, &["config", "core.ignoreCase", "true"]);
    }
    write(folder, "kept", "");
    for tree in (0..12).map(|number| format!("t{number}")) {
        for _ in 0..25 {
            write(folder, &format!("{tree}/{}", some_path(&mut random)), "");
        }
        let lines = 1 + random.usize(..6);
        write(folder, &format!("{tree}/.gitignore"), &ignore_file(&mut random, lines));
        for _ in 0..2 {
            let nested = format!("{tree}/{}/.gitignore", pick(&mut random, NAMES));
            if folder.join(&nested).parent().unwrap().is_dir() {
                write(folder, &nested, &ignore_file(&mut random, 3));
            }
        }
    }
}

#[test]
fn rules_made_at_random_decide_as_in_git() {
    for seed in 0..24 {
        let environment = TestEnvironment::new();
        let folder = environment.folder("repository");
        random_repository(&environment, &folder, seed);
        compare(&environment, &folder, &format!("seed {seed}"));
    }
}

#[test]
fn what_is_tracked_at_random_goes_as_in_git() {
    for seed in 100..106 {
        let environment = TestEnvironment::new();
        let folder = environment.folder("repository");
        random_repository(&environment, &folder, seed);
        let mut random = Rng::with_seed(seed);
        let all = environment.git(&folder, &["-c", "core.quotePath=false", "ls-files", "--others", "-z"]);
        for path in all.split('\0').filter(|path| !path.is_empty() && random.u8(..4) == 0) {
            environment.git(&folder, &["--literal-pathspecs", "add", "-f", "--", path]);
        }
        let with = said(&environment, &folder, None);
        assert_eq!(differences(&with.0, &listed(&environment, &folder, &with.1)), NONE, "seed {seed}");
    }
}

/// Paths that a project with these rules may have: each pattern made a file, a folder, deeper, and beside.
fn tempt(folder: &Path, rules: &str) {
    for (at, line) in rules.lines().enumerate() {
        let pattern = line.trim().trim_start_matches(['!', '\\']).trim_matches('/');
        if pattern.is_empty() || pattern.starts_with('#') || pattern.contains("..") {
            continue;
        }
        let mut plain = String::new();
        let mut class = false;
        for character in pattern.replace("**", "p/q").chars() {
            match character {
                '[' => class = true,
                ']' => class = false,
                '*' => plain.push_str("star"),
                '?' => plain.push('q'),
                '\\' => {}
                '!' | '^' if class => {}
                other => plain.push(other),
            }
        }
        let first = plain.split('/').next().unwrap();
        let as_folder = [format!("{plain}/in/side"), format!("sub/{plain}/x"), format!("{first}x/y")];
        let as_file = [plain.clone(), format!("sub/{plain}"), format!("sub/deep/{first}"), format!("{plain}.x")];
        for path in as_folder.iter().filter(|_| at % 2 == 0).chain(&as_file) {
            write(folder, path, "");
        }
        write(folder, &format!("other/{first}/x"), "");
    }
}

fn compare_projects(projects: &[(String, String)]) {
    for (number, batch) in projects.chunks(24).enumerate() {
        let environment = TestEnvironment::new();
        let folder = environment.folder("repository");
        environment.git(&folder, &["init", "-q"]);
        write(&folder, "kept", "");
        for (name, rules) in batch {
            let project = folder.join(name);
            write(&project, "README.md", "");
            tempt(&project, rules);
            write(&project, ".gitignore", rules);
        }
        compare(&environment, &folder, &format!("batch {number}"));
    }
}

/// As such projects write them: the usual idioms, not their files.
const STYLES: &[(&str, &str)] = &[
    (
        "node",
        "node_modules/\n.pnp.*\n.yarn/*\n!.yarn/patches\n!.yarn/releases\nnpm-debug.log*\n.env\n.env.*\n!.env.example\n*.tgz\n/coverage\n.next/\nout\n",
    ),
    (
        "python",
        "__pycache__/\n*.py[cod]\n*$py.class\n*.so\n.Python\nbuild/\nlib64/\n*.egg-info/\n.coverage.*\n.pytest_cache/\n*.mo\n[Vv]env/\nENV/\n/site\n",
    ),
    ("rust", "/target\n**/*.rs.bk\nCargo.lock\n!/cli/Cargo.lock\n*.pdb\n/fuzz/*/\n!/fuzz/corpus/\n"),
    (
        "kernel",
        "# comment\n.*\n*.[568]\n*.o\n*.o.*\n*.mod\n*.mod.[co]\nModules.symvers\n/vmlinux\n/vmlinux.32\n!.clang-format\n!.gitignore\n!.mailmap\n!/Documentation/*.o\n/debian/\n\\#*#\n*~\n/include/config/\n!/include/config/keep\n",
    ),
    (
        "django",
        "*.egg-info\n*.pot\n*.py[co]\n.tox/\nMANIFEST\ndist/\ndocs/_build/\ndocs/locale/\nnode_modules/\ntests/report/\ntests/.coverage*\n",
    ),
    (
        "rails",
        "/.bundle\n/log/*\n/tmp/*\n!/log/.keep\n!/tmp/.keep\n/tmp/pids/*\n!/tmp/pids/\n!/tmp/pids/.keep\n/storage/*\n/public/assets\n/config/master.key\n",
    ),
    (
        "vscode",
        ".DS_Store\nthumbs.db\nnode_modules/\nout*/\n/extensions/**/out/\nextensions/**/dist/\n/cli/target\n*.snap.actual\n.vscode-test\n!/build/lib/*.js\nbuild/**/*.map\n",
    ),
    ("go", "*.exe\n*.exe~\n*.test\n/bin/*\n!/bin/.keep\nvendor/\n!vendor/modules.txt\ncmd/*/main\ngo.work\n"),
    (
        "java",
        "*.class\n*.jar\n!gradle/wrapper/gradle-wrapper.jar\n**/build/\n!src/**/build/\n.gradle\n!**/src/main/**/build/\nhs_err_pid*\n",
    ),
    ("everything_but", "*\n!*/\n!*.c\n!/Makefile\n!.gitignore\n"),
    (
        "windows",
        "[Dd]ebug/\r\n[Rr]elease*/\r\n*.suo\r\n!**/[Pp]ackages/build/\r\n~$*\r\n*.[Cc]ache\r\n!?*.[Cc]ache/\r\n",
    ),
    ("spaces", "Icon\r\rtrailing   \nkept\\ \n/Application Data/\n*.tmp \t\n"),
];

#[test]
fn rules_in_the_style_of_many_projects_decide_as_in_git() {
    let projects: Vec<_> = STYLES.iter().map(|(name, rules)| ((*name).to_owned(), (*rules).to_owned())).collect();
    compare_projects(&projects);
}

/// The projects that this one is built from came with their ignore files, and Cargo keeps them.
#[test]
fn rules_of_real_projects_decide_as_in_git() {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.unwrap_or_else(|| std::env::home_dir().unwrap().join(".cargo"));
    let mut projects: BTreeMap<String, String> = BTreeMap::new();
    for registry in fs::read_dir(home.join("registry/src")).unwrap() {
        for package in fs::read_dir(registry.unwrap().path()).unwrap() {
            let package = package.unwrap();
            if let Ok(rules) = fs::read_to_string(package.path().join(".gitignore")) {
                // Most are two lines that all have: each text once.
                projects.insert(rules, package.file_name().into_string().unwrap());
            }
        }
    }
    assert!(projects.len() >= 5, "{projects:?}");
    let projects: Vec<_> = projects.into_iter().map(|(rules, name)| (name, rules)).collect();
    compare_projects(&projects);
}
