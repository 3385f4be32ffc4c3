//! Each application of tests/corpus on a real Docker Engine, unchanged: uploaded, fetched, installed by the real tools,
//! started, asked over HTTP.
//!
//! Needs the images that `scripts/images` builds. With `WORKSPACE_MEASUREMENTS=FILE` each is started a second time, in a
//! new container with the caches of the first, and the seconds of both are added to the file: see scripts/measure-runtimes.

#![cfg(target_os = "linux")]
#![expect(clippy::print_stderr, reason = "what a failed test leaves to read")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/containers.rs"]
mod containers;
#[path = "support/corpus.rs"]
mod corpus;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use containers::{Site, get, image, succeed, wait_until};
use corpus::{APPS, App};

/// A test for each, in the table's order; `make test` leaves out those whose names say that they are slow.
macro_rules! apps {
    ($($test:ident = $name:literal,)*) => {
        $(
            #[test]
            fn $test() {
                run($name);
            }
        )*

        #[test]
        fn every_application_of_the_corpus_has_a_test() {
            let tested = [$((stringify!($test).to_owned(), $name)),*];
            let known = APPS.iter().filter(|app| app.starts).map(|app| (test_of(app), app.name));
            assert_eq!(known.collect::<Vec<_>>(), tested);
        }
    };
}

fn test_of(app: &App) -> String {
    format!("{}docker_{}", if app.quick { "" } else { "slow_" }, app.name.replace('-', "_"))
}

apps! {
    slow_docker_node_bun = "node-bun",
    slow_docker_node_hooks = "node-hooks",
    slow_docker_node_monorepo = "node-monorepo",
    docker_node_npm = "node-npm",
    slow_docker_node_npm_build = "node-npm-build",
    slow_docker_node_npm_drift = "node-npm-drift",
    slow_docker_node_npm_nolock = "node-npm-nolock",
    docker_node_pnpm = "node-pnpm",
    slow_docker_node_procfile = "node-procfile",
    slow_docker_node_vite_site = "node-vite-site",
    slow_docker_node_with_php_inside = "node-with-php-inside",
    slow_docker_node_yarn_berry = "node-yarn-berry",
    slow_docker_node_yarn_modules = "node-yarn-modules",
    slow_docker_node_yarn1 = "node-yarn1",
    slow_docker_php_composer = "php-composer",
    docker_php_declared = "php-declared",
    docker_php_plain = "php-plain",
    docker_python_declared = "python-declared",
    slow_docker_python_django = "python-django",
    slow_docker_python_django_runserver = "python-django-runserver",
    slow_docker_python_pip_fastapi = "python-pip-fastapi",
    docker_python_pip_flask = "python-pip-flask",
    slow_docker_python_pipenv = "python-pipenv",
    slow_docker_python_plain = "python-plain",
    slow_docker_python_poetry = "python-poetry",
    slow_docker_python_pyproject = "python-pyproject",
    slow_docker_python_two_locks = "python-two-locks",
    docker_python_uv = "python-uv",
    docker_static_declared = "static-declared",
    slow_docker_static_index = "static-index",
    docker_static_public = "static-public",
    slow_docker_static_spa = "static-spa",
}

fn run(name: &str) {
    let site = uploaded(name);
    let cold = started(&site, name);
    let Some(file) = std::env::var_os("WORKSPACE_MEASUREMENTS") else { return };
    // Without `--volumes`: caches are what a second container has of the first.
    succeed(&mut site.compose(&["down", "--timeout", "3"]));
    let warm = started(&site, name);
    let mut line = name.to_owned();
    for seconds in cold.iter().chain(&warm) {
        write!(line, "\t{}", seconds.as_deref().unwrap_or("-")).unwrap();
    }
    let mut file = std::fs::File::options().create(true).append(true).open(file).unwrap();
    writeln!(file, "{line}").unwrap();
}

/// The application in a store, and a Compose file for it.
fn uploaded(name: &str) -> Site {
    let app = APPS.iter().find(|app| app.name == name).unwrap_or_else(|| panic!("there is no `{name}` in the table"));
    // The name begins with it.
    let image = image(name.split('-').next().unwrap());
    let site = Site::new(name);
    let tree = site.path("tree");
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name), &tree);
    if let Some(command) = app.prepare {
        prepare(&site, &image, command);
    }
    site.upload();
    site.write_compose(&["--image", &image]);
    site
}

/// Starts a container, and checks what it serves and how it is confined. Gives the seconds of each phase.
fn started(site: &Site, name: &str) -> [Option<String>; 4] {
    succeed(&mut site.compose(&["up", "--wait", "--wait-timeout", "600"]));
    site.answer_with("/", &format!("corpus {name}"));
    let format = "{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.Config.User}}";
    let confined = succeed(&mut site.docker(&["inspect", "--format", format, &site.container()]));
    assert_eq!(confined.trim(), "true [ALL] 10001:10001");
    seconds(&site.logs())
}

/// Of fetching, installing, building and becoming ready, as the log has them.
fn seconds(log: &str) -> [Option<String>; 4] {
    let after = |begin: &str, word: &str| {
        let line = log.lines().find(|line| line.starts_with(begin))?;
        let (_, rest) = line.split_once(word)?;
        Some(rest.split_whitespace().next()?.to_owned())
    };
    [
        after("workspace: fetched in ", " in "),
        after("workspace: install done in ", " in "),
        after("workspace: build done in ", " in "),
        after("workspace: ready on port ", " after "),
    ]
}

/// Runs a command in the tree, in an image.
fn prepare(site: &Site, image: &str, command: &str) {
    let bundle = containers::ca_bundle().display().to_string();
    let (tree, bundle_volume) = (site.path("tree").display().to_string(), format!("{bundle}:/ca-bundle.pem:ro"));
    let user = format!("{}:{}", rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let mut arguments = vec!["run", "--rm", "--user", &user, "--entrypoint", "sh", "--workdir", "/app"];
    let tree_volume = format!("{tree}:/app");
    arguments.extend(["--volume", &tree_volume, "--volume", &bundle_volume, "--tmpfs", "/cache:exec,mode=1777"]);
    let trust: Vec<String> =
        ["SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "YARN_HTTPS_CA_FILE_PATH"]
            .map(|name| format!("{name}=/ca-bundle.pem"))
            .into();
    arguments.extend(trust.iter().flat_map(|variable| ["--env", variable]));
    arguments.extend([image, "-c", command]);
    succeed(&mut site.docker(&arguments));
}

/// Copies a folder with its links.
fn copy(from: &Path, to: &Path) {
    assert!(from.is_dir(), "`{}` is missing", from.display());
    succeed(std::process::Command::new("cp").arg("-a").arg("--").args([from, to]));
}

fn php_declared() -> (Site, String) {
    let site = uploaded("php-declared");
    started(&site, "php-declared");
    let address = site.address().unwrap();
    (site, address)
}

/// What any application may expect of the server in front of PHP.
#[test]
fn docker_php_serve_serves_files_scripts_and_a_front_controller() {
    let (site, address) = php_declared();
    let text = |path: &str| get(&address, path).unwrap_or_else(|| panic!("no 200 for {path}"));
    assert_eq!(text("/any/path?x=1"), "corpus php-declared /any/path?x=1 hello\n", "with the plan's environment");
    assert_eq!(text("/no-such.php"), "corpus php-declared /no-such.php hello\n");
    assert_eq!((text("/page.php").as_str(), text("/page.php/a/b").as_str()), ("page ", "page /a/b"));
    assert_eq!(text("/style.css"), "h1 { color: red }\n");
    assert_eq!(get(&address, "/.htaccess"), None);
    text("/log");
    wait_until("the line in the log", || site.logs().contains("a line for the log").then_some(()));

    // What is under way when it is asked to stop is finished.
    let slow = std::thread::spawn({
        let address = address.clone();
        move || get(&address, "/slow")
    });
    wait_until("the request to be under way", || {
        let open = site.docker(&["exec", &site.container(), "cat", "/proc/net/tcp"]).output().ok()?;
        let port = format!(":{:04X}", 8080);
        let open = String::from_utf8_lossy(&open.stdout).into_owned();
        // 01: established; its second column is this side.
        open.lines()
            .any(|line| {
                line.split_whitespace().nth(1).is_some_and(|local| local.ends_with(&port))
                    && line.split_whitespace().nth(3) == Some("01")
            })
            .then_some(())
    });
    succeed(&mut site.docker(&["stop", &site.container()]));
    assert_eq!(slow.join().unwrap().as_deref(), Some("corpus php-declared /slow hello\n"));
    let code = succeed(&mut site.docker(&["inspect", "--format", "{{.State.ExitCode}}", &site.container()]));
    assert_eq!(code.trim(), "0", "{}", site.logs());
}

/// One server without the other is of no use: the container ends, and is started anew by its restart policy.
#[test]
fn docker_php_serve_ends_with_either_of_its_servers() {
    for program in ["nginx", "php-fpm"] {
        let (site, _) = php_declared();
        succeed(&mut site.docker(&["update", "--restart", "no", &site.container()]));
        succeed(&mut site.docker(&["exec", &site.container(), "pkill", "--oldest", program]));
        let ended = wait_until("the end of the container", || {
            let format = "{{.State.Status}} {{.State.ExitCode}}";
            let state = succeed(&mut site.docker(&["inspect", "--format", format, &site.container()]));
            state.starts_with("exited").then_some(state)
        });
        assert_eq!(ended.trim(), "exited 1", "{program}: {}", site.logs());
        assert!(site.logs().contains("ended by itself"), "{program}: {}", site.logs());
    }
}

/// An image of one's own on top of a runtime: examples/typescript-base, compiled in a stage of its own.
#[test]
fn docker_an_image_of_ones_own_still_fetches() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/typescript-base");
    let site = Site::new("typescript");
    let base = succeed(
        std::process::Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/base-image")).arg("node"),
    );
    let own = format!("test-pages-base:{}", std::process::id());
    let _remove = Image { name: own.clone() };
    let (build, runtime) = (format!("BUILD_IMAGE={}", base.trim()), format!("RUNTIME_IMAGE={}", image("node")));
    let arguments = ["build", "--tag", &own, "--build-arg", &build, "--build-arg", &runtime];
    succeed(site.docker(&arguments).arg(&example));
    copy(&example.join("app"), &site.path("tree"));
    site.upload();
    site.write_compose(&["--image", &own]);
    succeed(&mut site.compose(&["up", "--wait", "--wait-timeout", "120"]));
    site.answer_with("/", "Hello from TypeScript in the image, and JSON from the workspace");
}

/// Removed when the test is over.
struct Image {
    name: String,
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = std::process::Command::new("docker").args(["rmi", "--force", &self.name]).output();
    }
}

#[test]
fn the_log_tells_how_long_each_phase_took() {
    let log = "workspace: fetch app@1\nworkspace: fetched in 0.2 s\nnpm\nworkspace: install done in 4.1 s\n\
        workspace: ready on port 3000 after 0.3 s\n";
    assert_eq!(seconds(log), [Some("0.2".into()), Some("4.1".into()), None, Some("0.3".into())]);
}
