//! ASGI and WSGI objects: `app = FastAPI()` at the outermost level of a file that exists.
//!
//! The file is read line by line, as far as that tells: assignments at the start of a line, what is imported from where.
//! Nothing inside strings that span lines or behind `#` counts.

use std::collections::BTreeMap;

use crate::application::ApplicationError;
use crate::application::folder::Folder;

/// By which a server talks to an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Asgi,
    Wsgi,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framework {
    FastApi,
    Starlette,
    Litestar,
    Quart,
    Flask,
    Bottle,
    Falcon,
    FalconAsgi,
}

/// Module, class, and what it is.
const CLASSES: [(&str, &str, Framework); 8] = [
    ("fastapi", "FastAPI", Framework::FastApi),
    ("starlette.applications", "Starlette", Framework::Starlette),
    ("litestar", "Litestar", Framework::Litestar),
    ("quart", "Quart", Framework::Quart),
    ("flask", "Flask", Framework::Flask),
    ("bottle", "Bottle", Framework::Bottle),
    ("falcon", "App", Framework::Falcon),
    ("falcon.asgi", "App", Framework::FalconAsgi),
];

/// Names that an app has most often, the likeliest first.
const NAMES: [&str; 4] = ["app", "application", "api", "server"];
/// Functions that make one.
const FACTORIES: [&str; 5] = ["create_app", "make_app", "get_app", "get_application", "create_application"];

impl Framework {
    pub(super) fn protocol(self) -> Protocol {
        match self {
            Self::FastApi | Self::Starlette | Self::Litestar | Self::Quart | Self::FalconAsgi => Protocol::Asgi,
            Self::Flask | Self::Bottle | Self::Falcon => Protocol::Wsgi,
        }
    }
}

/// An app in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) file: String,
    /// As it is imported.
    pub(super) module: String,
    /// The variable or function.
    pub(super) name: String,
    /// A function makes it.
    pub(super) is_factory: bool,
    pub(super) framework: Framework,
}

impl Object {
    /// What to say when nothing serves it.
    pub(super) fn no_server(&self) -> String {
        let server = match self.framework.protocol() {
            Protocol::Asgi => "uvicorn",
            Protocol::Wsgi => "gunicorn",
        };
        format!(
            "`{}` in {} is an app for a server, but no server is among the dependencies, so the file itself is run; add {server} \
             to have it served",
            self.name, self.file
        )
    }
}

/// The first file, in the usual order, that has an app. `package` is the project's own.
pub(super) fn find(folder: &Folder<'_>, package: Option<&str>) -> Result<Option<Object>, ApplicationError> {
    let stems = ["main", "app", "asgi", "wsgi", "server", "api", "application", "__init__"];
    let mut places = vec![String::new(), "app/".to_owned(), "src/".to_owned(), "api/".to_owned()];
    places.extend(package.iter().flat_map(|package| [format!("{package}/"), format!("src/{package}/")]));
    // Any other package, but what tests it.
    let packages = folder.paths().filter_map(|path| path.strip_suffix("__init__.py"));
    let packages = packages.filter(|place| place.matches('/').count() == 1 && !place.starts_with("test"));
    places.extend(packages.map(str::to_owned));
    for place in places {
        for stem in stems {
            let file = format!("{place}{stem}.py");
            if place.is_empty() && stem == "__init__" || !folder.contains(&file) {
                continue;
            }
            let text = folder.text(&file)?.unwrap_or_default();
            if let Some((name, is_factory, framework)) = object_in(&text) {
                // What lies in `src/NAME` is installed as NAME; a file in `src` itself is not.
                let path = match package {
                    Some(package) => file.strip_prefix("src/").filter(|_| place == format!("src/{package}/")),
                    None => None,
                };
                let path = path.unwrap_or(&file).trim_end_matches(".py").trim_end_matches("/__init__");
                return Ok(Some(Object { module: path.replace('/', "."), file, name, is_factory, framework }));
            }
        }
    }
    Ok(None)
}

/// The app of a file: its name, whether a function makes it, and of what kind.
fn object_in(text: &str) -> Option<(String, bool, Framework)> {
    let mut known: BTreeMap<String, Framework> = BTreeMap::new();
    let mut found: Vec<(String, bool, Framework)> = Vec::new();
    let mut factory: Option<String> = None;
    // An import that goes on until its parenthesis closes.
    let mut import: Option<String> = None;
    for line in code_lines(text) {
        let statement = line.trim();
        if let Some(mut open) = import.take() {
            open.push_str(statement);
            if statement.contains(')') {
                learn_import(&open, &mut known);
            } else {
                import = Some(open);
            }
            continue;
        }
        if statement.starts_with("from ") && statement.contains('(') && !statement.contains(')') {
            import = Some(statement.to_owned());
            continue;
        }
        learn_import(statement, &mut known);
        if line.starts_with([' ', '\t']) {
            // Within a function that makes one.
            let value =
                statement.split_once('=').map_or_else(|| statement.strip_prefix("return "), |(_, value)| Some(value));
            if let (Some(name), Some(framework)) = (&factory, value.and_then(|value| constructed(value, &known))) {
                found.push((name.clone(), true, framework));
            }
            continue;
        }
        let function = statement.strip_prefix("def ").and_then(|rest| rest.split('(').next());
        factory = function.filter(|name| FACTORIES.contains(name)).map(str::to_owned);
        let Some((target, value)) = statement.split_once('=') else { continue };
        let name = target.split(':').next().unwrap_or_default().trim();
        let is_name = !name.is_empty() && name.chars().all(|character| character.is_alphanumeric() || character == '_');
        if let Some(framework) = constructed(value, &known).filter(|_| is_name) {
            found.push((name.to_owned(), false, framework));
        } else if is_name && value.trim().ends_with(".server") && text.contains("Dash(") {
            // Dash keeps the app of Flask that it is made of there.
            found.push((name.to_owned(), false, Framework::Flask));
        } else if let Some(made) = value.trim().split('(').next().filter(|name| FACTORIES.contains(name) && is_name) {
            // `app = create_app()`
            let framework = found.iter().find(|(name, is_factory, _)| *is_factory && name == made).map(|found| found.2);
            found.extend(framework.map(|framework| (name.to_owned(), false, framework)));
        }
    }
    let rank = |(name, is_factory, _): &(String, bool, Framework)| {
        (*is_factory, NAMES.iter().position(|known| known == name).unwrap_or(NAMES.len()))
    };
    found.into_iter().min_by_key(rank)
}

/// `from flask import Flask as F`, `import flask`.
fn learn_import(statement: &str, known: &mut BTreeMap<String, Framework>) {
    if let Some((module, names)) = statement.strip_prefix("from ").and_then(|rest| rest.split_once(" import ")) {
        for name in names.trim_matches(['(', ')', ' ']).split(',') {
            let (name, alias) = name.trim().split_once(" as ").unwrap_or((name.trim(), name.trim()));
            let class = CLASSES.iter().find(|(of, class, _)| module.trim() == *of && *class == name.trim());
            // `from starlette.applications import Starlette`, and the shorter way that some packages offer.
            known.extend(class.map(|(_, _, framework)| (alias.trim().to_owned(), *framework)));
        }
    } else if let Some(modules) = statement.strip_prefix("import ") {
        for module in modules.split(',') {
            let (module, alias) = module.trim().split_once(" as ").unwrap_or((module.trim(), module.trim()));
            let classes = CLASSES.iter().filter(|(of, _, _)| *of == module.trim());
            known.extend(classes.map(|(_, class, framework)| (format!("{}.{class}", alias.trim()), *framework)));
        }
    }
}

/// What `Flask(__name__)` makes.
fn constructed(value: &str, known: &BTreeMap<String, Framework>) -> Option<Framework> {
    let (class, _) = value.trim().split_once('(')?;
    known.get(class.trim()).copied()
}

/// The lines that are code, without comments: no docstring is.
fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    let mut open: Option<&str> = None;
    text.lines().filter_map(move |line| {
        let was_open = open.is_some();
        let mut rest = line;
        // Ends with the line: each turn takes a quote away.
        loop {
            // Only the quote that opened a text closes it.
            let quotes = ["\"\"\"", "'''"].into_iter().filter(|quote| open.is_none_or(|open| open == *quote));
            let next = quotes.filter_map(|quote| Some((rest.find(quote)?, quote))).min();
            let Some((at, quote)) = next else { break };
            rest = &rest[at + quote.len()..];
            open = if open.is_some() { None } else { Some(quote) };
        }
        let code = line.split('#').next().unwrap_or_default().trim_end();
        (!was_open && !code.is_empty()).then_some(code)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apps_are_found_where_they_are_made() {
        let found = object_in;
        let is = |name: &str, is_factory, framework| Some((name.to_owned(), is_factory, framework));
        for (text, expected) in [
            ("from fastapi import Depends, FastAPI\napp = FastAPI(title='x')\n", is("app", false, Framework::FastApi)),
            ("import flask\nweb: flask.Flask = flask.Flask(__name__)\n", is("web", false, Framework::Flask)),
            (
                "from flask import (Flask)\n# app = Flask(1)\nserver = Flask(__name__)",
                is("server", false, Framework::Flask),
            ),
            (
                "from flask import Flask\ndef create_app():\n    app = Flask(__name__)\n    return app\n",
                is("create_app", true, Framework::Flask),
            ),
            (
                "from flask import Flask\ndef create_app():\n    app = Flask(__name__)\n    return app\napp = create_app()",
                is("app", false, Framework::Flask),
            ),
            (
                "from fastapi import (\n    Depends,\n    FastAPI,\n)\napp = FastAPI(\n)\n",
                is("app", false, Framework::FastApi),
            ),
            (
                "from dash import Dash, html\napp = Dash(__name__)\nserver = app.server\n",
                is("server", false, Framework::Flask),
            ),
            (
                "from fastapi import FastAPI\ndef get_application() -> FastAPI:\n    return FastAPI()\napp = get_application()\n",
                is("app", false, Framework::FastApi),
            ),
            ("import falcon.asgi\napi = falcon.asgi.App()\n", is("api", false, Framework::FalconAsgi)),
        ] {
            assert_eq!(found(text), expected, "{text}");
        }
        for text in [
            "\"\"\"\nfrom flask import Flask\napp = Flask(__name__)\n\"\"\"\n",
            "from flask_cors import CORS\napp = CORS()\n",
            "from flask import Flask\ndef other():\n    app = Flask(__name__)\n",
            "app = Flask(__name__)\n",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }
}
