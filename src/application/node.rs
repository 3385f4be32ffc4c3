//! Node: which package manager, which version, what to install, build and start.

mod lock;
mod version;

use serde::Deserialize;
use std::collections::BTreeMap;

use super::folder::Folder;
use super::{ApplicationError, Command, Given, Plan, Runtime, WORKSPACE_YAML};
use lock::Lock;

/// The parts of `package.json` that matter here. What has an unexpected type is treated as absent, as npm does.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the names are npm's")]
pub(super) struct Package {
    scripts: Texts,
    main: serde_json::Value,
    engines: Texts,
    package_manager: serde_json::Value,
    dependencies: Texts,
    dev_dependencies: Texts,
    optional_dependencies: Texts,
    workspaces: serde_json::Value,
}

/// An object whose values are texts; entries of any other type are dropped.
#[derive(Debug, Default, Deserialize)]
#[serde(from = "serde_json::Value")]
struct Texts(BTreeMap<String, String>);

impl From<serde_json::Value> for Texts {
    fn from(value: serde_json::Value) -> Self {
        let serde_json::Value::Object(object) = value else {
            return Self::default();
        };
        Self(object.into_iter().filter_map(|(key, value)| Some((key, value.as_str()?.to_owned()))).collect())
    }
}

impl Texts {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|text| !text.trim().is_empty())
    }
}

/// Flags of both `npm ci` and `npm install`: no audit and no funding notes, which each cost a request.
const NPM_FLAGS: [&str; 3] = ["--prefer-offline", "--no-audit", "--no-fund"];

/// Scripts that npm runs by itself while it installs.
const LIFECYCLE: [&str; 6] = ["preinstall", "install", "postinstall", "preprepare", "prepare", "postprepare"];

pub(super) fn detect(
    folder: &Folder<'_>,
    given: &Given<'_>,
    warnings: &mut Vec<String>,
) -> Result<Option<Plan>, ApplicationError> {
    let mut plan = Plan::new(Runtime::Node);
    plan.because("runtime", "package.json");
    let text = folder.text("package.json")?.unwrap_or_default();
    let package: Package = match serde_json::from_str(&text) {
        Ok(package) => package,
        Err(error) => {
            warnings
                .push(format!("`{}` isn't valid JSON, so nothing is started: {error}", folder.path("package.json")));
            plan.package_manager = Some("npm".to_owned());
            return Ok(Some(plan));
        }
    };
    if let Some((version, because)) = version::demanded(folder, package.engines.get("node"))? {
        plan.version = Some(version);
        plan.because("version", because);
    }
    plan.environment.insert("NODE_ENV".to_owned(), "production".to_owned());
    let (manager, because) = package_manager(folder, &package, warnings);
    plan.package_manager = Some(manager.to_owned());
    plan.because("package_manager", because);
    if manager != "npm" && given.declared.install.is_none() {
        if given.has_start() {
            warnings.push(format!(
                "`{manager}` isn't run by itself so far, so nothing is installed: say how in `{WORKSPACE_YAML}`, such as \
                 `install: npx --yes {manager} install`"
            ));
        } else {
            warnings.push(format!(
                "this Node app uses `{manager}`, which isn't run by itself so far: it is stored but not started. To run it, say \
                 how in `{WORKSPACE_YAML}`, such as `install: npx --yes {manager} install` and `start: node server.js`"
            ));
        }
        return Ok(Some(plan));
    }
    start(folder, &package, &mut plan)?;
    if let Some(build) = package.scripts.get("build") {
        let mut commands = Vec::new();
        for name in ["prebuild", "build", "postbuild"] {
            commands.extend(package.scripts.get(name).map(Command::parse));
        }
        plan.because("build", format!("scripts.build is `{build}`"));
        plan.build = commands;
    }
    if manager == "npm" {
        install(folder, &package, &mut plan, warnings)?;
    }
    if let Some(main) = package.main.as_str().filter(|main| !main.is_empty()) {
        let target = plan.start.as_ref().and_then(script_of);
        let main_is_start = target.as_deref().is_some_and(|target| clean(target) == clean(main));
        if plan.build.is_empty() && !main_is_start && !resolves(folder, main) {
            warnings.push(format!("`main` in package.json is `{main}`, which is not among the files to upload"));
        }
    }
    if plan.start.is_none() && !given.has_start() {
        warnings.push(format!(
            "no start command found: package.json has no `start` script, and there is no server.js; the tree is stored, not run. \
             Add a `start` script, or `start:` in `{WORKSPACE_YAML}`"
        ));
    }
    Ok(Some(plan))
}

fn package_manager(folder: &Folder<'_>, package: &Package, warnings: &mut Vec<String>) -> (&'static str, String) {
    const MANAGERS: [(&str, &[&str]); 4] = [
        ("npm", &["package-lock.json", "npm-shrinkwrap.json"]),
        ("pnpm", &["pnpm-lock.yaml"]),
        ("yarn", &["yarn.lock", ".yarnrc.yml"]),
        ("bun", &["bun.lock", "bun.lockb"]),
    ];
    let asked = package.package_manager.as_str().map(|text| text.split('@').next().unwrap_or(text));
    if let Some((manager, _)) = MANAGERS.iter().find(|(manager, _)| asked == Some(manager)) {
        return (manager, "packageManager in package.json".to_owned());
    }
    let found: Vec<_> = MANAGERS
        .iter()
        .filter_map(|(manager, files)| Some((*manager, *files.iter().find(|file| folder.contains(file))?)))
        .collect();
    if let [(manager, file), (other, other_file), ..] = found[..] {
        warnings.push(format!(
            "both `{file}` and `{other_file}` are there: {manager} is used, not {other}; remove one of them or set \
             `packageManager` in package.json"
        ));
    }
    found.first().map_or(("npm", "no lock file".to_owned()), |(manager, file)| (manager, (*file).to_owned()))
}

fn install(
    folder: &Folder<'_>,
    package: &Package,
    plan: &mut Plan,
    warnings: &mut Vec<String>,
) -> Result<(), ApplicationError> {
    let lock = Lock::read(folder, warnings)?;
    let drift = lock.as_ref().and_then(|lock| lock.drift(package));
    let verb = match (&lock, drift) {
        (Some(lock), None) => {
            plan.because("install", lock.file);
            "ci"
        }
        (Some(lock), Some(drift)) => {
            warnings.push(format!(
                "`{}` is out of step with package.json ({drift}): it will be installed unfrozen, with whatever versions fit then. \
                 Run `npm install` and upload again",
                lock.file
            ));
            plan.because("install", format!("{} is out of step with package.json", lock.file));
            "install"
        }
        (None, _) => {
            warnings.push(
                "there is no package-lock.json: every install may bring other versions. Run `npm install` and keep the file, or \
                 upload with `--include-lock` if it is ignored"
                    .to_owned(),
            );
            plan.because("install", "no lock file");
            "install"
        }
    };
    let words = ["npm", verb].into_iter().chain(NPM_FLAGS).map(str::to_owned).collect();
    plan.install = vec![Command::Exec(words)];
    let because = development_dependencies(package, plan, lock.as_ref());
    let (variable, reason) = match because {
        Some(because) => ("npm_config_include", format!("with development dependencies: {because}")),
        None => ("npm_config_omit", "without development dependencies: nothing names one".to_owned()),
    };
    plan.install_environment.insert(variable.to_owned(), "dev".to_owned());
    plan.because("install_environment", reason);
    plan.inputs = inputs(folder, package, lock.as_ref());
    Ok(())
}

/// Why development dependencies are needed at run time, if they are.
fn development_dependencies(package: &Package, plan: &Plan, lock: Option<&Lock>) -> Option<String> {
    if !plan.build.is_empty() {
        return Some("the build script may need them".to_owned());
    }
    if let Some(script) = LIFECYCLE.iter().find(|script| package.scripts.get(script).is_some()) {
        return Some(format!("the {script} script may need them"));
    }
    let Some(lock) = lock else {
        return Some("no lock file tells what they are for".to_owned());
    };
    let words = plan.start.as_ref().map(Command::words).unwrap_or_default();
    let named = |word: &String| {
        let mut parts = word.trim_start_matches("node_modules/").split('/');
        let scope = parts.next().unwrap_or_default();
        let name = if scope.starts_with('@') {
            format!("{scope}/{}", parts.next().unwrap_or_default())
        } else {
            scope.to_owned()
        };
        package.dev_dependencies.get(&name).is_some() || lock.is_development_program(word)
    };
    words.iter().find(|word| named(word)).map(|word| format!("the start command names `{word}`"))
}

/// The files that `npm` reads while it installs.
fn inputs(folder: &Folder<'_>, package: &Package, lock: Option<&Lock>) -> Vec<String> {
    let reads_tree = LIFECYCLE.iter().any(|script| package.scripts.get(script).is_some())
        || !package.workspaces.is_null()
        || [&package.dependencies, &package.dev_dependencies, &package.optional_dependencies]
            .iter()
            .any(|texts| texts.0.values().any(|range| range.starts_with("file:") || range.starts_with("link:")));
    if reads_tree {
        return vec![folder.whole()];
    }
    let files = [Some("package.json"), lock.map(|lock| lock.file), Some(".npmrc")];
    let mut inputs: Vec<String> =
        files.into_iter().flatten().filter(|file| folder.contains(file)).map(|file| folder.path(file)).collect();
    if folder.paths().any(|path| path.starts_with("patches/")) {
        inputs.push(folder.path("patches/"));
    }
    inputs
}

fn start(folder: &Folder<'_>, package: &Package, plan: &mut Plan) -> Result<(), ApplicationError> {
    if let Some(script) = package.scripts.get("start") {
        let (before, after) = (package.scripts.get("prestart"), package.scripts.get("poststart"));
        plan.start = Some(match (before, after) {
            (None, None) => Command::parse(script),
            // Newlines inside the braces: a script may end in a comment.
            _ => Command::Shell(
                [before, Some(script), after]
                    .into_iter()
                    .flatten()
                    .map(|line| format!("{{\n{line}\n}}"))
                    .collect::<Vec<_>>()
                    .join(" && "),
            ),
        });
        plan.because("start", "scripts.start");
        return Ok(());
    }
    let main = package.main.as_str().filter(|main| !main.is_empty());
    let main_is = |file: &str| main.is_some_and(|main| clean(main) == file);
    if folder.contains("server.js") {
        plan.start = Some(Command::Exec(vec!["node".to_owned(), "server.js".to_owned()]));
        plan.because("start", "server.js");
    } else if folder.contains("index.js") && (!main_is("index.js") || is_server(folder, "index.js")?) {
        plan.start = Some(Command::Exec(vec!["node".to_owned(), "index.js".to_owned()]));
        plan.because("start", "index.js");
    } else if let Some(main) = main.map(clean)
        && is_server(folder, main)?
    {
        plan.start = Some(Command::Exec(vec!["node".to_owned(), main.to_owned()]));
        plan.because("start", "`main` in package.json, which opens a port");
    }
    Ok(())
}

/// Whether a file opens a port by itself: a library's `main` doesn't.
fn is_server(folder: &Folder<'_>, path: &str) -> Result<bool, ApplicationError> {
    let text = folder.text(path)?.unwrap_or_default();
    Ok([".listen(", "createServer(", "createSecureServer("].iter().any(|call| text.contains(call)))
}

fn clean(path: &str) -> &str {
    path.trim_start_matches("./")
}

/// The file that a `node FILE` command runs.
pub(super) fn script_of(command: &Command) -> Option<String> {
    let Command::Exec(words) = command else {
        return None;
    };
    let (program, arguments) = words.split_first()?;
    if program != "node" {
        return None;
    }
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "-e" | "--eval" | "-p" | "--print" | "-" | "--test" | "--run" => return None,
            "-r" | "--require" | "--import" | "--loader" | "--experimental-loader" | "--env-file" | "-C" => {
                arguments.next();
            }
            flag if flag.starts_with('-') => {}
            script => return Some(script.to_owned()),
        }
    }
    None
}

/// Whether `node PATH` would find a file: as written, with an extension, or as a folder's index or package.
pub(super) fn resolves(folder: &Folder<'_>, path: &str) -> bool {
    let path = clean(path).trim_end_matches('/');
    if path.starts_with('/') || path.starts_with("../") || path.starts_with("node_modules/") {
        return true;
    }
    if path.is_empty() || path == "." {
        return ["index.js", "package.json"].iter().any(|file| folder.contains(file));
    }
    ["", ".js", ".mjs", ".cjs", ".json", ".node", "/index.js", "/package.json"]
        .iter()
        .any(|ending| folder.contains(&format!("{path}{ending}")))
}
