//! Node: which package manager, which version, what to install, build and start.

mod lock;
mod manager;
mod package;
mod site;
mod version;

use super::folder::Folder;
use super::lock_policy::Locked;
use super::{ApplicationError, Command, Given, Plan, Runtime, WORKSPACE_YAML};
use lock::Lock;
use manager::{Kind, Manager};
use package::Package;

pub(super) fn detect(
    folder: &Folder<'_>,
    given: &Given<'_>,
    warnings: &mut Vec<String>,
) -> Result<Option<Plan>, ApplicationError> {
    let mut plan = Plan::new(Runtime::Node);
    plan.because("runtime", "package.json");
    plan.dir = folder.dir().map(str::to_owned);
    let package = match read(folder)? {
        Ok(package) => package,
        Err(error) => {
            warnings
                .push(format!("`{}` isn't valid JSON, so nothing is started: {error}", folder.path("package.json")));
            plan.package_manager = Some("npm".to_owned());
            return Ok(Some(plan));
        }
    };
    // In a monorepo the lock file lies above, and everything is installed from there.
    let above = manager::root_of(folder)?;
    let root = above.as_ref().unwrap_or(folder);
    let root_package = if above.is_some() { read(root)?.unwrap_or_default() } else { Package::default() };
    let installed_by = if above.is_some() { &root_package } else { &package };
    let engine = package.engines.get("node");
    let demanded = match version::demanded(folder, engine)? {
        None if above.is_some() => version::demanded(root, root_package.engines.get("node"))?,
        demanded => demanded,
    };
    if let Some((version, because)) = demanded {
        plan.version = Some(version);
        plan.because("version", because);
    }
    plan.environment.insert("NODE_ENV".to_owned(), "production".to_owned());
    let manager = Manager::of(root, installed_by, warnings)?;
    plan.package_manager = Some(manager.kind.name().to_owned());
    plan.because("package_manager", &manager.because);
    start(folder, &package, &manager, &mut plan)?;
    build(&package, &manager, &mut plan);
    if !given.has_start() {
        site::start(folder, &package, &mut plan, warnings)?;
    }
    if given.declared.install.is_none() {
        install(folder, root, [&package, installed_by], &manager, given, &mut plan, warnings)?;
    }
    if let Some(main) = package.main() {
        let target = plan.start.as_ref().and_then(script_of);
        let main_is_start = target.as_deref().is_some_and(|target| clean(target) == clean(main));
        if plan.build.is_empty() && !main_is_start && !resolves(folder, main) {
            let why = match super::left_out_by(folder, main) {
                Some(rule) => format!("left out ({rule})"),
                None => "not among the files to upload".to_owned(),
            };
            warnings.push(format!("`main` in package.json is `{main}`, which is {why}"));
        }
    }
    if plan.start.is_none() && !given.has_start() {
        warnings.push(no_start(folder, &package, &plan));
    }
    Ok(Some(plan))
}

/// The folder's `package.json`, or why it can't be understood.
fn read(folder: &Folder<'_>) -> Result<serde_json::Result<Package>, ApplicationError> {
    let text = folder.text("package.json")?.unwrap_or_else(|| "{}".to_owned());
    Ok(serde_json::from_str(&text))
}

fn no_start(folder: &Folder<'_>, package: &Package, plan: &Plan) -> String {
    let members: Vec<&str> = folder.paths().filter_map(|path| path.strip_suffix("/package.json")).take(5).collect();
    let is_monorepo = !package.workspaces.is_null() || folder.contains("pnpm-workspace.yaml");
    // Made by the build, so whether it opens a port can't be seen.
    let main = package.main().map(clean).filter(|main| !plan.build.is_empty() && !resolves(folder, main));
    let advice = if is_monorepo && !members.is_empty() {
        format!("It is a monorepo: name the app as `dir:` in `{WORKSPACE_YAML}` (`{}`)", members.join("`, `"))
    } else if let Some(main) = main {
        format!("If `main` is what serves, add a `start` script: `node {main}`")
    } else if plan.build.is_empty() {
        format!("Add a `start` script, or `start:` in `{WORKSPACE_YAML}`")
    } else {
        format!(
            "Add a `start` script, or `start:` in `{WORKSPACE_YAML}`; if the build makes a static site, `static: dist`"
        )
    };
    format!(
        "no start command found: package.json has no `start` script, and there is no server.js; the tree is stored, not \
         run. {advice}"
    )
}

/// The build script, with those that run before and after it.
fn build(package: &Package, manager: &Manager, plan: &mut Plan) {
    let Some(build) = package.scripts.get("build") else { return };
    plan.because("build", format!("scripts.build is `{build}`"));
    plan.build = if manager.plug_and_play {
        vec![Command::exec(["yarn", "run", "build"])]
    } else {
        let names = if manager.kind.runs_hooks() { &["prebuild", "build", "postbuild"][..] } else { &["build"] };
        names.iter().filter_map(|name| package.scripts.get(name)).map(Command::parse).collect()
    };
}

/// `packages` are the app's own, and the one where the lock file lies.
fn install(
    folder: &Folder<'_>,
    root: &Folder<'_>,
    packages: [&Package; 2],
    manager: &Manager,
    given: &Given<'_>,
    plan: &mut Plan,
    warnings: &mut Vec<String>,
) -> Result<(), ApplicationError> {
    let [package, root_package] = packages;
    let is_member = root.dir() != folder.dir();
    if manager.kind == Kind::Npm && !is_member && !package.wants_something() {
        plan.because("package_manager", format!("{}; nothing to install", manager.because));
        plan.inputs = manager.inputs(folder, package);
        return Ok(());
    }
    let lock = Lock::read(root, manager, warnings)?;
    let importer = if is_member { folder.path("").trim_end_matches('/').to_owned() } else { String::new() };
    let importer = importer.strip_prefix(&root.path("")).unwrap_or(&importer);
    let drift = lock.as_ref().and_then(|lock| {
        let of_root = lock.drift(root_package, "").filter(|_| is_member);
        lock.drift(package, importer).or(of_root)
    });
    let mend = format!("{} install", manager.kind.name());
    let locked = Locked {
        file: lock.as_ref().map_or_else(|| manager.kind.locks().last().copied().unwrap_or_default(), |lock| lock.file),
        exists: lock.is_some(),
        wanted: is_member || package.wants_something(),
        manifest: "package.json",
        drift: drift.as_deref(),
        mend: &mend,
    };
    let frozen = given.declared.lock.freezes(locked, plan, warnings)?;
    let because = if is_member {
        Some("other packages of the monorepo may need them".to_owned())
    } else {
        development_dependencies(package, plan, manager, lock.as_ref())
    };
    manager.install(plan, frozen, because.is_some());
    let reason = match because {
        Some(because) => format!("with development dependencies: {because}"),
        None => "without development dependencies: nothing names one".to_owned(),
    };
    plan.because("install_environment", reason);
    plan.inputs = if is_member { vec![root.whole()] } else { manager.inputs(folder, package) };
    Ok(())
}

/// Why development dependencies are needed at run time, if they are.
fn development_dependencies(package: &Package, plan: &Plan, manager: &Manager, lock: Option<&Lock>) -> Option<String> {
    if !plan.build.is_empty() {
        return Some("the build script may need them".to_owned());
    }
    if let Some(script) = package.lifecycle_script() {
        return Some(format!("the {script} script may need them"));
    }
    if manager.kind == Kind::Berry {
        return Some("Yarn installs everything".to_owned());
    }
    let Some(lock) = lock else {
        return Some("no lock file tells what they are for".to_owned());
    };
    // Only npm's lock file says which package brings a program.
    let starts_node = plan.start.as_ref().is_some_and(|start| script_of(start).is_some());
    if manager.kind != Kind::Npm && !starts_node && !package.dev_dependencies.0.is_empty() {
        return Some("the start command may need them".to_owned());
    }
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

fn start(folder: &Folder<'_>, package: &Package, manager: &Manager, plan: &mut Plan) -> Result<(), ApplicationError> {
    if let Some(script) = package.scripts.get("start") {
        let hook = |name| package.scripts.get(name).filter(|_| manager.kind.runs_hooks());
        plan.start = Some(match (hook("prestart"), hook("poststart")) {
            _ if manager.plug_and_play => Command::exec(["yarn", "run", "start"]),
            (None, None) => Command::parse(script),
            // Newlines inside the braces: a script may end in a comment.
            (before, after) => Command::Shell(
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
    let program = |file: &str| match manager.kind {
        Kind::Bun => Command::exec(["bun", file]),
        _ if manager.plug_and_play => Command::exec(["yarn", "node", file]),
        _ => Command::exec(["node", file]),
    };
    let main = package.main();
    let main_is = |file: &str| main.is_some_and(|main| clean(main) == file);
    let servers: &[&str] =
        if manager.kind == Kind::Bun { &["server.js", "server.ts", "index.ts"] } else { &["server.js"] };
    if let Some(file) = folder.first_of(servers) {
        plan.start = Some(program(file));
        plan.because("start", file);
    } else if folder.contains("index.js") && (!main_is("index.js") || is_server(folder, "index.js")?) {
        plan.start = Some(program("index.js"));
        plan.because("start", "index.js");
    } else if let Some(main) = main.map(clean)
        && is_server(folder, main)?
    {
        plan.start = Some(program(main));
        plan.because("start", "`main` in package.json, which opens a port");
    }
    Ok(())
}

/// Whether a file opens a port by itself: a library's `main` doesn't.
fn is_server(folder: &Folder<'_>, path: &str) -> Result<bool, ApplicationError> {
    let text = folder.text(path)?.unwrap_or_default();
    Ok([".listen(", "createServer(", "createSecureServer("].iter().any(|call| text.contains(call)))
}

/// Whether `package.json` has anything to build or to start.
pub(super) fn does_something(folder: &Folder<'_>) -> Result<bool, ApplicationError> {
    // What can't be read is said where it is detected.
    let Ok(package) = read(folder)? else { return Ok(true) };
    let scripted = ["start", "build"].iter().any(|script| package.scripts.get(script).is_some());
    let mut plan = Plan::new(Runtime::Node);
    start(folder, &package, &Manager::of(folder, &package, &mut Vec::new())?, &mut plan)?;
    Ok(scripted || plan.start.is_some())
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
