//! How a Python app is started: Django, an ASGI or WSGI `app`, a script of the project, a file that is run.

mod objects;

use super::MAINS;
use super::dependencies::Dependencies;
use super::manager::{Kind, Manager};
use super::project::Project;
use crate::application::folder::Folder;
use crate::application::{ApplicationError, Command};
use objects::{Framework, Object, Protocol};

/// What starts, and why.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) start: Command,
    pub(super) because: String,
    /// What has to be run before, once it is installed.
    pub(super) build: Option<Command>,
    /// What the uploader ought to know.
    pub(super) warning: Option<String>,
}

impl Entry {
    fn new(start: Command, because: impl Into<String>) -> Self {
        Self { start, because: because.into(), build: None, warning: None }
    }

    fn warning(self, text: impl Into<String>) -> Self {
        Self { warning: Some(text.into()), ..self }
    }
}

/// For a shell: `exec`, so that signals reach the program itself.
fn with_address(line: &str) -> Command {
    Command::Shell(format!("exec {line}"))
}

pub(super) fn find(
    folder: &Folder<'_>,
    project: &Project,
    manager: Option<&Manager>,
    dependencies: &Dependencies,
) -> Result<Option<Entry>, ApplicationError> {
    if folder.contains("manage.py") {
        return Ok(Some(django(folder, "", dependencies)?));
    }
    if let Some(entry) = of_data_app(folder, dependencies)? {
        return Ok(Some(entry));
    }
    let package = project.name().map(|name| name.replace(['-', '.'], "_").to_lowercase());
    let object = objects::find(folder, package.as_deref())?;
    if let Some(entry) = object.as_ref().and_then(|object| serve(object, dependencies)) {
        return Ok(Some(entry));
    }
    if let Some(place) = django_below(folder) {
        return Ok(Some(django(folder, &place, dependencies)?));
    }
    let installed = manager.is_some_and(|manager| manager.installs_project(folder, project));
    let script = installed.then(|| script(project)).flatten();
    let main = MAINS.iter().find(|file| folder.contains(file)).map(|file| {
        let entry = Entry::new(Command::exec(["python", file]), *file);
        match &object {
            // An object that nothing serves, in the very file.
            Some(object) if object.file == *file => entry.warning(object.no_server()),
            _ => entry,
        }
    });
    // What is a project and nothing else is meant to be started by its script.
    let is_project = manager.is_some_and(|manager| manager.kind == Kind::Pip) && installed;
    let found = if is_project { script.or(main) } else { main.or(script) };
    if found.is_some() {
        return Ok(found);
    }
    if let Some(package) = package.filter(|_| installed)
        && ["", "src/"].iter().any(|place| folder.contains(&format!("{place}{package}/__main__.py")))
    {
        return Ok(Some(Entry::new(Command::exec(["python", "-m", &package]), format!("{package}/__main__.py"))));
    }
    Ok(None)
}

/// The one script of the project, or the one of several that is called as the project is.
fn script(project: &Project) -> Option<Entry> {
    let scripts = project.scripts();
    let name = match scripts[..] {
        [only] => only,
        _ => scripts.iter().copied().find(|script| Some(*script) == project.name())?,
    };
    Some(Entry::new(Command::exec([name]), format!("`{name}` among the project's scripts")))
}

/// Apps of one file that bring their server: Streamlit, and Gradio, which opens its port by itself.
fn of_data_app(folder: &Folder<'_>, dependencies: &Dependencies) -> Result<Option<Entry>, ApplicationError> {
    for file in MAINS.into_iter().chain(["streamlit_app.py", "Home.py"]).filter(|file| folder.contains(file)) {
        let text = folder.text(file)?.unwrap_or_default();
        let imports = |module: &str| {
            let words = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
            text.lines()
                .map(words)
                .any(|words| words == format!("import {module}") || words == format!("from {module}"))
        };
        let line = if dependencies.has("streamlit") && imports("streamlit") {
            format!(
                "exec streamlit run {file} --server.address \"$HOST\" --server.port \"$PORT\" --server.headless true"
            )
        } else if dependencies.has("gradio") && imports("gradio") && text.contains(".launch(") {
            format!("GRADIO_SERVER_NAME=\"$HOST\" GRADIO_SERVER_PORT=\"$PORT\" exec python {file}")
        } else {
            continue;
        };
        let name = if line.contains("streamlit") { "Streamlit" } else { "Gradio" };
        return Ok(Some(Entry::new(Command::Shell(line), format!("{file}, an app of {name}'s"))));
    }
    Ok(None)
}

/// The one folder below that has a `manage.py`, with a `/` at its end: the requirements often lie above it. A library has
/// one to show or to test itself.
fn django_below(folder: &Folder<'_>) -> Option<String> {
    let apart = |place: &str| ["test", "example", "demo", "sandbox", "doc"].iter().any(|name| place.starts_with(name));
    let below = folder.paths().filter_map(|path| path.strip_suffix("/manage.py"));
    let below: Vec<&str> = below.filter(|place| !place.contains('/') && !apart(place)).collect();
    if let [place] = below[..] { Some(format!("{place}/")) } else { None }
}

fn django(folder: &Folder<'_>, place: &str, dependencies: &Dependencies) -> Result<Entry, ApplicationError> {
    let manage = folder.text(&format!("{place}manage.py"))?.unwrap_or_default();
    let settings = settings_module(&manage);
    let package = settings.and_then(|module| module.split('.').next());
    let module = |name: &str| {
        let package = package?;
        folder.contains(&format!("{place}{package}/{name}.py")).then(|| format!("{package}.{name}"))
    };
    let server = match (module("wsgi"), module("asgi")) {
        (Some(wsgi), _) if dependencies.has("gunicorn") => Some((format!("{wsgi}:application"), Protocol::Wsgi)),
        (_, Some(asgi)) if dependencies.has("uvicorn") => Some((format!("{asgi}:application"), Protocol::Asgi)),
        _ => None,
    };
    let mut entry = match server {
        Some((module, Protocol::Wsgi)) => {
            let there = (!place.is_empty()).then_some(["--chdir", place.trim_end_matches('/')]);
            let start = Command::exec(["gunicorn"].into_iter().chain(there.into_iter().flatten()).chain([module.as_str()]));
            Entry::new(start, format!("{place}manage.py, and gunicorn is among the dependencies"))
        }
        Some((module, Protocol::Asgi)) => {
            let there = if place.is_empty() { String::new() } else { format!(" --app-dir {}", place.trim_end_matches('/')) };
            let start = with_address(&format!("uvicorn {module}{there} --host \"$HOST\" --port \"$PORT\""));
            Entry::new(start, format!("{place}manage.py, and uvicorn is among the dependencies"))
        }
        None => Entry::new(
            with_address(&format!("python {place}manage.py runserver --noreload \"$HOST:$PORT\"")),
            format!("{place}manage.py"),
        )
        .warning(
            "Django's own server is started, which is for development: add gunicorn to the dependencies to have the app \
             served by it",
        ),
    };
    if dependencies.has("whitenoise") && has_static_root(folder, place, settings)? {
        entry.build = Some(Command::exec(["python", &format!("{place}manage.py"), "collectstatic", "--noinput"]));
    }
    Ok(entry)
}

/// `mysite.settings` in `os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")`.
fn settings_module(manage: &str) -> Option<&str> {
    let after = manage.lines().filter(|line| !line.trim_start().starts_with('#'));
    let after = after.filter_map(|line| line.split_once("DJANGO_SETTINGS_MODULE")).map(|(_, rest)| rest).next()?;
    let quote = after.trim_start_matches(['\'', '"', ',', ' ', ']', '=', ')']);
    let end = quote.find(['\'', '"'])?;
    Some(&quote[..end]).filter(|module| !module.is_empty())
}

/// Whether the settings say where static files are collected.
fn has_static_root(folder: &Folder<'_>, place: &str, settings: Option<&str>) -> Result<bool, ApplicationError> {
    let Some(settings) = settings else { return Ok(false) };
    let path = format!("{place}{}", settings.replace('.', "/"));
    // A module, or a package of several.
    let files = folder.paths().filter(|file| {
        let stem = file.strip_suffix(".py").and_then(|stem| stem.strip_prefix(&path));
        stem.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    for file in files.map(str::to_owned).collect::<Vec<_>>() {
        let text = folder.text(&file)?.unwrap_or_default();
        if text.lines().any(|line| line.trim_start().starts_with("STATIC_ROOT")) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// It listens on `0.0.0.0:$PORT` by itself: <https://docs.gunicorn.org/en/stable/settings.html#bind>.
fn gunicorn(object: &str) -> Command {
    Command::exec(["gunicorn", object])
}

fn uvicorn(object: &str, is_factory: bool) -> Command {
    let factory = if is_factory { " --factory" } else { "" };
    with_address(&format!("uvicorn {object}{factory} --host \"$HOST\" --port \"$PORT\""))
}

/// The server that is among the dependencies and speaks the object's protocol.
fn serve(object: &Object, dependencies: &Dependencies) -> Option<Entry> {
    let Object { module, name, file, is_factory, .. } = object;
    let target = format!("{module}:{name}");
    let entry = |start, server: &str| Some(Entry::new(start, format!("`{name}` in {file}, served by {server}")));
    let has = |server| dependencies.has(server);
    match object.framework.protocol() {
        Protocol::Asgi => {
            let brought = dependencies.has_extra("fastapi", &["standard", "all"])
                || dependencies.has_extra("starlette", &["full"]);
            if has("uvicorn") || brought {
                return entry(uvicorn(&target, *is_factory), "uvicorn");
            }
            if has("hypercorn") && !is_factory {
                return entry(with_address(&format!("hypercorn {target} --bind \"$HOST:$PORT\"")), "hypercorn");
            }
            // Quart brings Hypercorn along.
            if object.framework == Framework::Quart && !is_factory {
                return entry(with_address(&format!("hypercorn {target} --bind \"$HOST:$PORT\"")), "hypercorn");
            }
            None
        }
        Protocol::Wsgi => {
            let call = if *is_factory { "()" } else { "" };
            if has("gunicorn") {
                return entry(gunicorn(&format!("{target}{call}")), "gunicorn");
            }
            if has("waitress") {
                let call = if *is_factory { " --call" } else { "" };
                let line = format!("waitress-serve --host=\"$HOST\" --port=\"$PORT\"{call} {target}");
                return entry(with_address(&line), "waitress");
            }
            if object.framework == Framework::Flask {
                let line = format!("flask --app {target} run --host \"$HOST\" --port \"$PORT\"");
                return entry(with_address(&line), "Flask").map(|entry| {
                    entry.warning(
                        "Flask's own server is started, which is for development: add gunicorn to the dependencies to have \
                         the app served by it",
                    )
                });
            }
            None
        }
    }
}
