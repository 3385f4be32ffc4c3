//! The Compose files that we write, as text, and as Docker Compose reads them.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::collections::BTreeMap;
use std::process::Command;

use workspace::application::{self, Plan, Runtime};
use workspace::compose::{Application, ComposeError, ComposeOptions, Keys, Store, render};
use workspace::names::{Selector, Version};

fn node() -> Plan {
    let mut plan = Plan::new(Runtime::Node);
    plan.package_manager = Some("npm".to_owned());
    plan.start = Some(application::Command::parse("node server.js"));
    plan
}

fn application(selector: &str, plan: Plan) -> Application {
    let selector: Selector = selector.parse().unwrap();
    let number = if let Version::Number(number) = selector.version { number } else { 7 };
    Application { selector, number, plan: Some(plan) }
}

fn store() -> Store {
    Store {
        endpoint: Some("http://127.0.0.1:9000".to_owned()),
        container_endpoint: None,
        bucket: Some("workspaces".to_owned()),
        region: Some("us-east-1".to_owned()),
        keys: Keys::S3,
    }
}

fn everything() -> (Vec<Application>, Store, ComposeOptions) {
    let mut plan = node();
    plan.version = Some("20".to_owned());
    plan.processes.insert("worker".to_owned(), application::Command::parse("node work.js"));
    let store = Store { container_endpoint: Some("https://s3.internal".to_owned()), keys: Keys::Aws, ..store() };
    let options = ComposeOptions {
        image: None,
        port: Some(8080),
        domain: Some("shop.example.com".to_owned()),
        network: Some("traefik".to_owned()),
        memory: Some("512m".to_owned()),
        cpus: Some("1.5".to_owned()),
        environment: BTreeMap::from([
            ("DATABASE_URL".to_owned(), None),
            ("PRICE".to_owned(), Some("5$ or ${more}".to_owned())),
        ]),
        ca_bundle: Some("/etc/ssl/company.pem".into()),
        cdn: Some("https://cdn.example.com/?presigned".to_owned()),
        follow: false,
    };
    (vec![application("my.shop@v2.0", plan)], store, options)
}

#[test]
fn a_name_follows_the_newest_version() {
    let rendered = render(&[application("myapp", node())], &store(), &ComposeOptions::default()).unwrap();
    insta::assert_snapshot!(rendered.text);
    assert_eq!(rendered.warnings, Vec::<String>::new());
}

#[test]
fn everything_that_can_be_wished_for() {
    let (applications, store, options) = everything();
    let rendered = render(&applications, &store, &options).unwrap();
    insta::assert_snapshot!(format!("{}---\n{}", rendered.text, rendered.warnings.join("\n")));
}

fn declared() -> Plan {
    let mut plan = node();
    plan.domains = vec!["shop.example.com".to_owned(), "www.example.com".to_owned()];
    plan.replicas = Some(3);
    plan.volumes = BTreeMap::from([("db".to_owned(), "/data".to_owned())]);
    plan.memory = Some("768m".to_owned());
    plan.cpus = Some("0.5".to_owned());
    plan
}

#[test]
fn what_is_followed_says_so_and_a_number_is_refused() {
    let follow = ComposeOptions { follow: true, ..ComposeOptions::default() };
    let command = |version: Version| {
        let mut application = application("app", node());
        application.selector.version = version;
        let rendered = render(&[application], &store(), &follow)?;
        let lines: Vec<String> = rendered.text.lines().map(str::to_owned).collect();
        let at = lines.iter().position(|line| line.trim() == "command:").unwrap();
        Ok::<_, ComposeError>(lines[at + 1..at + 4].concat())
    };
    assert_eq!(command(Version::Current).unwrap(), "    - run    - app    - --follow");
    assert_eq!(command(Version::Tag("staging".parse().unwrap())).unwrap(), "    - run    - app@staging    - --follow");
    assert!(matches!(command(Version::Number(7)), Err(ComposeError::Fixed { .. })));
}

#[test]
fn what_is_declared_counts_where_nothing_says_otherwise() {
    let shown = |options: &ComposeOptions| {
        let rendered = render(&[application("shop", declared())], &store(), options).unwrap();
        let words = ["mem_limit", "cpus", "rule", "-db", "workspace.volume", "/data"];
        let lines = rendered.text.lines().filter(|line| words.iter().any(|word| line.contains(word)));
        let lines: Vec<&str> = lines.map(str::trim).chain(rendered.warnings.iter().map(String::as_str)).collect();
        lines.join("\n")
    };
    insta::assert_snapshot!(shown(&ComposeOptions::default()), @"
    - shop-volume-db:/data
    mem_limit: 768m
    cpus: '0.5'
    shop-volume-db:
    name: workspace-shop-Data-db
    workspace.volume: db
    `shop` asks for 3 replicas; a container with a name of its own is one only
    `shop` declares domains (shop.example.com, www.example.com); `--network` with Traefik's network routes them
    ");
    let traefik = ComposeOptions { network: Some("traefik".to_owned()), ..ComposeOptions::default() };
    insta::assert_snapshot!(shown(&traefik), @"
    - shop-volume-db:/data
    mem_limit: 768m
    cpus: '0.5'
    traefik.http.routers.shop.rule: Host(`shop.example.com`) || Host(`www.example.com`)
    shop-volume-db:
    name: workspace-shop-Data-db
    workspace.volume: db
    `shop` asks for 3 replicas; a container with a name of its own is one only
    ");
    let wishes = ComposeOptions {
        domain: Some("other.example.com".to_owned()),
        memory: Some("1g".to_owned()),
        cpus: Some("2".to_owned()),
        ..ComposeOptions::default()
    };
    insta::assert_snapshot!(shown(&wishes), @"
    - shop-volume-db:/data
    mem_limit: 1g
    cpus: '2'
    traefik.http.routers.shop.rule: Host(`other.example.com`)
    shop-volume-db:
    name: workspace-shop-Data-db
    workspace.volume: db
    `shop` asks for 3 replicas; a container with a name of its own is one only
    ");
}

#[test]
fn secrets_are_references_and_ports_are_published() {
    let mut plan = declared();
    plan.secrets = BTreeMap::from([("DATABASE_URL".to_owned(), "SHOP_DATABASE_URL".to_owned())]);
    plan.ports = vec!["5432:5432".to_owned()];
    let rendered = render(&[application("shop", plan.clone())], &store(), &ComposeOptions::default()).unwrap();
    let expected = "DATABASE_URL: ${SHOP_DATABASE_URL:?is not set, and the application needs it as DATABASE_URL}\n";
    assert!(rendered.text.contains(expected), "{}", rendered.text);
    assert!(rendered.text.contains("- 5432:5432\n"), "{}", rendered.text);
    // A plan is data from a bucket: what `workspace.yaml` refuses may still stand in one.
    plan.secrets.insert("STOLEN".to_owned(), "S3_SECRET_KEY".to_owned());
    let refused = render(&[application("shop", plan)], &store(), &ComposeOptions::default()).unwrap_err();
    assert!(matches!(refused, ComposeError::Secret { variable, .. } if variable == "S3_SECRET_KEY"));
}

#[test]
fn several_workspaces_are_one_project() {
    let applications = [application("api", node()), application("web@3", node())];
    let rendered = render(&applications, &store(), &ComposeOptions::default()).unwrap();
    insta::assert_snapshot!(rendered.text);
}

#[test]
fn what_cannot_be_rendered_says_why() {
    let options = ComposeOptions::default();
    let message = |applications: &[Application], options: &ComposeOptions| {
        render(applications, &store(), options).unwrap_err().to_string()
    };
    let stored = Application { plan: None, ..application("docs", node()) };
    assert_eq!(message(&[stored], &options), "`docs@7` has no start command: it is stored, not run");
    let mut custom = node();
    custom.runtime = Runtime::Custom;
    assert!(message(&[application("x", custom)], &options).contains("name one with `--image`"));
    let two = [application("a", node()), application("b", node())];
    let port = ComposeOptions { port: Some(1), ..ComposeOptions::default() };
    assert_eq!(message(&two, &port), "`--port` is for one workspace, and 2 were named");
    let twice = [application("a", node()), application("a@3", node())];
    assert!(matches!(render(&twice, &store(), &options), Err(ComposeError::Twice { .. })));
}

/// Docker Compose itself must understand the file, with and without the variables it refers to.
#[test]
fn docker_compose_understands_it() {
    let (applications, store_of_all, options) = everything();
    for (applications, store, options) in [
        (applications, store_of_all, options),
        (vec![application("myapp", node())], store(), ComposeOptions::default()),
        (vec![application("api", node()), application("web@3", node())], store(), ComposeOptions::default()),
        (vec![application("shop", declared())], store(), ComposeOptions::default()),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("compose.yml");
        std::fs::write(&file, render(&applications, &store, &options).unwrap().text).unwrap();
        let compose = |arguments: &[&str], keys: bool| {
            let mut command = Command::new("docker");
            command.args(["compose", "-f"]).arg(&file).args(arguments).env_remove("S3_ENDPOINT");
            for name in ["S3_ACCESS_KEY", "S3_SECRET_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "DATABASE_URL"]
            {
                if keys {
                    command.env(name, "made-up");
                } else {
                    command.env_remove(name);
                }
            }
            let output = command.output().expect("docker compose must be there: run scripts/setup");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            (output.status.success(), text, String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let (good, text, problem) = compose(&["config"], true);
        assert!(good, "{problem}");
        assert_eq!(problem, "", "no warnings either");
        let price = text.lines().find(|line| line.contains("PRICE"));
        assert!(price.is_none_or(|line| line.contains("5$$ or $${more}")), "{price:?}");
        let (good, _, problem) = compose(&["config"], false);
        assert!(!good && problem.contains("is not set, and the container needs it"), "{problem}");
    }
}
