//! Python's managers and ways to start.

use super::*;

const FLASK: &str = "from flask import Flask\napp = Flask(__name__)\n";

fn starts(files: &[(&str, &str)]) -> String {
    plan(files).start.unwrap().to_string()
}

#[test]
fn the_server_among_the_dependencies_serves_the_app_in_the_file_that_exists() {
    let with = |requirements: &str| starts(&[("requirements.txt", requirements), ("wsgi.py", FLASK)]);
    assert_eq!(with("flask\ngunicorn==22\n"), "gunicorn wsgi:app");
    assert_eq!(with("flask\nwaitress\n"), "exec waitress-serve --host=\"$HOST\" --port=\"$PORT\" wsgi:app");
    assert_eq!(with("flask\n"), "exec flask --app wsgi:app run --host \"$HOST\" --port \"$PORT\"");
    let fastapi = "from fastapi import FastAPI\napi = FastAPI()\n";
    let with = |requirements: &str| starts(&[("requirements.txt", requirements), ("app/main.py", fastapi)]);
    assert_eq!(with("fastapi\nuvicorn\n"), "exec uvicorn app.main:api --host \"$HOST\" --port \"$PORT\"");
    assert_eq!(with("fastapi[standard]\n"), "exec uvicorn app.main:api --host \"$HOST\" --port \"$PORT\"");
}

#[test]
fn names_that_only_look_like_a_server_are_none() {
    let files = [("requirements.txt", "flask\ngunicorn-logger\n# gunicorn\n"), ("main.py", FLASK)];
    let found = look(&files);
    assert!(found.plan.unwrap().start.unwrap().to_string().contains("flask --app main:app"));
    assert!(found.warnings[0].contains("for development"), "{:?}", found.warnings);
}

#[test]
fn requirements_may_lie_in_other_files() {
    let files = [
        ("requirements.txt", "-r requirements/production.txt\n"),
        ("requirements/production.txt", "-r base.txt\ngunicorn\n"),
        ("requirements/base.txt", "flask\n"),
        ("app.py", FLASK),
    ];
    assert_eq!(starts(&files), "gunicorn app:app");
    assert_eq!(plan(&files).inputs, ["./"]);
}

#[test]
fn django_is_served_by_gunicorn_if_that_is_there() {
    let manage = "import os\nos.environ.setdefault(\"DJANGO_SETTINGS_MODULE\", \"site.settings\")\n";
    let tree = |requirements: &'static str| {
        vec![
            ("manage.py", manage),
            ("site/wsgi.py", ""),
            ("site/settings.py", "STATIC_ROOT = 'static'\n"),
            ("package.json", EXPRESS),
            ("requirements.txt", requirements),
        ]
    };
    assert_eq!(starts(&tree("Django\ngunicorn\n")), "gunicorn site.wsgi:application");
    let found = look(&tree("Django\n"));
    assert_eq!(
        found.plan.unwrap().start.unwrap().to_string(),
        "exec python manage.py runserver --noreload \"$HOST:$PORT\""
    );
    assert!(found.warnings[0].contains("gunicorn"), "{:?}", found.warnings);
    let collected = plan(&tree("Django\ngunicorn\nwhitenoise\n"));
    assert_eq!(collected.build[0].to_string(), "python manage.py collectstatic --noinput");
}

#[test]
fn one_manager_is_used_and_the_choice_is_said() {
    let found = look(&[
        ("pyproject.toml", "[project]\nname='a'\nversion='1'\n"),
        ("uv.lock", ""),
        ("requirements.txt", ""),
        ("main.py", ""),
    ]);
    assert!(found.warnings[0].contains("uv is used"), "{:?}", found.warnings);
    let plan = found.plan.unwrap();
    assert_eq!(
        (plan.package_manager.as_deref(), plan.install[0].to_string().as_str()),
        (Some("uv"), "uv sync --locked --no-dev")
    );
    assert_eq!(plan.path, [".venv/bin"]);
    assert_eq!(plan.environment["PYTHONUNBUFFERED"], "1");
}

#[test]
fn poetry_installs_no_project_that_has_no_package() {
    let manifest = "[tool.poetry]\nname = 'my-app'\nversion = '1'\n[tool.poetry.dependencies]\nflask = '*'\n";
    let last = |files: &[(&str, &str)]| plan(files).install.pop().unwrap().to_string();
    assert_eq!(
        last(&[("pyproject.toml", manifest), ("poetry.lock", ""), ("main.py", "")]),
        "uv tool run --from 'poetry>=2,<3' poetry sync --only main --no-root --no-interaction"
    );
    assert_eq!(
        last(&[("pyproject.toml", manifest), ("my_app/__init__.py", ""), ("main.py", "")]),
        "uv tool run --from 'poetry>=2,<3' poetry install --only main --no-interaction"
    );
}

#[test]
fn a_stale_poetry_lock_is_locked_again() {
    let manifest = "[tool.poetry]\nname = 'a'\nversion = '1'\n";
    let lock = format!("[metadata]\ncontent-hash = \"{}\"\n", "0".repeat(64));
    let found = look(&[("pyproject.toml", manifest), ("poetry.lock", &lock), ("main.py", "")]);
    assert!(found.warnings[0].contains("`poetry lock`"), "{:?}", found.warnings);
    assert!(found.plan.unwrap().install[1].to_string().ends_with("poetry lock --no-interaction"));
}

#[test]
fn a_project_is_started_by_its_script() {
    let manifest =
        "[project]\nname = 'shop'\nversion = '1'\n[project.scripts]\nshop = 'shop:main'\nother = 'shop:other'\n";
    assert_eq!(starts(&[("pyproject.toml", manifest), ("shop/__init__.py", ""), ("main.py", "")]), "shop");
}

#[test]
fn versions_come_from_where_they_are_written() {
    let version = |file: &str, text: &str| plan(&[("requirements.txt", ""), ("main.py", ""), (file, text)]).version;
    assert_eq!(version(".python-version", "3.11.4\n").as_deref(), Some("3.11"));
    assert_eq!(version("pyproject.toml", "[project]\nrequires-python = '>=3.9,<3.12'\n").as_deref(), Some("3.11"));
    assert_eq!(version("Pipfile", "[requires]\npython_version = '3.10'\n").as_deref(), Some("3.10"));
    assert_eq!(version("pyproject.toml", "[project]\nrequires-python = '>=3.9'\n"), None);
}

/// A lone file is a helper in a tree of anything else.
#[test]
fn a_python_file_beside_a_package_json_decides_nothing() {
    let found = plan(&[("package.json", EXPRESS), ("main.py", ""), ("server.js", "")]);
    assert_eq!(found.runtime, Runtime::Node);
    assert_eq!(starts(&[("main.py", "print()")]), "python main.py");
}

#[test]
fn a_dependency_that_no_lock_file_has_is_a_drift() {
    let project = "[project]\nname = 'a'\nversion = '1'\ndependencies = ['Flask>=3']\n";
    for (manifest, text, lock, locked) in [
        ("pyproject.toml", project, "uv.lock", "[[package]]\nname = \"other\"\n"),
        ("Pipfile", "[packages]\nflask = '*'\n", "Pipfile.lock", r#"{"default":{"other":{}}}"#),
    ] {
        let found = look(&[(manifest, text), (lock, locked), ("main.py", "")]);
        assert!(found.warnings[0].contains("`flask` is missing"), "{:?}", found.warnings);
        assert!(try_look(&[(manifest, text), (lock, locked), ("workspace.yaml", "lock: strict")]).is_err());
    }
}

#[test]
fn django_may_lie_in_a_folder_below_its_requirements() {
    let manage = "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')\n";
    let tree = |requirements: &'static str, place: &str| {
        let in_it = |file: &str| format!("{place}/{file}");
        let files = [
            ("requirements.txt".to_owned(), requirements),
            (in_it("manage.py"), manage),
            (in_it("shop/wsgi.py"), ""),
            (in_it("shop/asgi.py"), ""),
            (in_it("shop/settings.py"), "STATIC_ROOT = 'static'\n"),
        ];
        look(&files.iter().map(|(path, text)| (path.as_str(), *text)).collect::<Vec<_>>()).plan
    };
    let start = |requirements| tree(requirements, "web").unwrap().start.unwrap().to_string();
    assert_eq!(start("django\ngunicorn\n"), "gunicorn --chdir web shop.wsgi:application");
    let uvicorn = "exec uvicorn shop.asgi:application --app-dir web --host \"$HOST\" --port \"$PORT\"";
    assert_eq!(start("django\nuvicorn\n"), uvicorn);
    assert_eq!(start("django\n"), "exec python web/manage.py runserver --noreload \"$HOST:$PORT\"");
    let collected = tree("django\ngunicorn\nwhitenoise\n", "web").unwrap();
    assert_eq!(collected.build[0].to_string(), "python web/manage.py collectstatic --noinput");
    assert_eq!(tree("django\ngunicorn\n", "example"), None, "what a library shows itself by");
}

#[test]
fn a_factory_is_found_in_a_package_of_any_name() {
    let factory = "from flask import Flask\ndef create_app(config=None):\n    app = Flask(__name__)\n    return app\n";
    let files = [
        ("requirements.txt", "flask\ngunicorn\n"),
        ("tests/__init__.py", factory),
        ("shop/__init__.py", factory),
        ("wsgi.py", "from shop import create_app\napp = create_app()\n"),
    ];
    assert_eq!(starts(&files), "gunicorn 'shop:create_app()'");
}

#[test]
fn apps_that_bring_their_server_are_told_where_to_listen() {
    let streamlit = [("requirements.txt", "streamlit\n"), ("app.py", "import streamlit as st\nst.title('x')\n")];
    assert_eq!(
        starts(&streamlit),
        "exec streamlit run app.py --server.address \"$HOST\" --server.port \"$PORT\" --server.headless true"
    );
    let gradio = [("requirements.txt", "gradio\n"), ("app.py", "import gradio as gr\ngr.Blocks().launch()\n")];
    assert_eq!(starts(&gradio), "GRADIO_SERVER_NAME=\"$HOST\" GRADIO_SERVER_PORT=\"$PORT\" exec python app.py");
}

#[test]
fn requirements_that_are_split_by_purpose_are_installed() {
    let files = [
        ("requirements/prod.txt", "-r base.txt\ngunicorn\n"),
        ("requirements/base.txt", "flask\n"),
        ("setup.cfg", "[flake8]\n"),
        ("app.py", FLASK),
    ];
    let found = plan(&files);
    assert_eq!(found.install[1].to_string(), "pip install -r requirements/prod.txt");
    assert_eq!(
        (found.start.unwrap().to_string().as_str(), &found.inputs[..]),
        ("gunicorn app:app", &["./".to_owned()][..])
    );
    let root = [files[0], files[1], ("requirements.txt", "waitress\nflask\n"), files[3]];
    assert_eq!(plan(&root).install[1].to_string(), "pip install -r requirements.txt");
}
