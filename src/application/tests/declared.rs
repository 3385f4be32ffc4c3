//! `workspace.yaml` and `Procfile`.

use super::*;

#[test]
fn workspace_yaml_wins() {
    let yaml = "\
runtime: node
version: 18
dir: ./api/
install: []
build:
  - npm run compile
  - [node, two words.js]
start: node other.js
port: 8123
health: /healthz
environment: {A: 1, B: true, C: x}
";
    let plan = plan(&[("workspace.yaml", yaml), ("api/package.json", EXPRESS), ("api/other.js", "")]);
    assert_eq!(plan.dir.as_deref(), Some("api"));
    assert_eq!((plan.version.as_deref(), plan.port), (Some("18"), 8123));
    assert_eq!(plan.install, Vec::new());
    assert_eq!(plan.build[1], Command::Exec(vec!["node".to_owned(), "two words.js".to_owned()]));
    assert_eq!(plan.health.unwrap().path, "/healthz");
    assert_eq!((plan.environment["A"].as_str(), plan.environment["B"].as_str()), ("1", "true"));
}

#[test]
fn procfile_names_the_processes() {
    let plan = plan(&[
        ("package.json", EXPRESS),
        ("Procfile", "# x\nweb: node web.js $PORT\nrelease: node migrate.js\nworker: node work.js\n"),
        ("web.js", ""),
    ]);
    assert_eq!(plan.start, Some(Command::Shell("node web.js $PORT".to_owned())));
    assert_eq!(plan.release.unwrap().to_string(), "node migrate.js");
    assert_eq!(plan.processes["worker"].to_string(), "node work.js");
}

#[test]
fn mistakes_in_workspace_yaml_are_named_with_their_line() {
    for (yaml, message) in [
        ("start: a\nprot: 1\n", "`workspace.yaml` line 2: unknown key `prot`; did you mean `port`?"),
        ("port: 70000\n", "`workspace.yaml` line 1: `port` must be a number from 1 to 65535"),
        ("\nruntime: nodejs\n", "`workspace.yaml` line 2: `runtime` names no runtime: `nodejs`; did you mean `node`?"),
        ("dir: ../up\n", "`workspace.yaml` line 1: `dir` must be a folder inside the tree, not `../up`"),
        ("health: up\n", "`workspace.yaml` line 1: `health` must be a path such as `/health`, not `up`"),
        ("start: a\nreplica: 2\n", "`workspace.yaml` line 2: unknown key `replica`; did you mean `replicas`?"),
        ("replicas: 33\n", "`workspace.yaml` line 1: `replicas` must be a number from 1 to 32"),
        ("replicas: 0\n", "`workspace.yaml` line 1: `replicas` must be a number from 1 to 32"),
    ] {
        assert_eq!(try_look(&[("workspace.yaml", yaml)]).unwrap_err().to_string(), message);
    }
    let unknown = try_look(&[("workspace.yaml", "zzz: 1")]).unwrap_err().to_string();
    assert!(unknown.contains("known keys are runtime"), "{unknown}");
}

#[test]
fn what_can_not_be_deployed_is_named_with_its_line() {
    for (yaml, message) in [
        (
            "domains: '*.example.com'\n",
            "`workspace.yaml` line 1: `domains` has `*.example.com`: every name has to be listed, `*` is not known here",
        ),
        (
            "domains: [https://a.b]\n",
            "`workspace.yaml` line 1: `domains` has `https://a.b`: a host name alone, without `http://`",
        ),
        ("domains: a.b:80\n", "`workspace.yaml` line 1: `domains` has `a.b:80`: a host name alone, without a port"),
        ("domains: a.b/c\n", "`workspace.yaml` line 1: `domains` has `a.b/c`: a host name alone, without a path"),
        (
            "domains: a..b\n",
            "`workspace.yaml` line 1: `domains` has `a..b`, which is no host name such as `shop.example.com`",
        ),
        (
            "volumes: {db: /app}\n",
            "`workspace.yaml` line 1: `volumes` puts `db` at `/app`, which the container needs itself; take another \
             folder, such as `/db`",
        ),
        (
            "volumes: {db: /x/../etc}\n",
            "`workspace.yaml` line 1: `volumes` puts `db` at `/x/../etc`, which is no absolute path in the container \
             such as `/db`",
        ),
        (
            "volumes: {db: data}\n",
            "`workspace.yaml` line 1: `volumes` puts `db` at `data`, which is no absolute path in the container such as \
             `/db`",
        ),
        (
            "volumes: {db: /app/./data}\n",
            "`workspace.yaml` line 1: `volumes` puts `db` at `/app/data`, below `/app`, which belongs to each version \
             alone and goes with it; take a folder outside, such as `/db`",
        ),
        (
            "volumes: ['./db:/db']\n",
            "`workspace.yaml` line 1: `volumes` has `./db`, a folder of the host, which can't be had: a volume has a \
             name, as in `data:/data`",
        ),
        (
            "environment: {PORT: 80}\nport: 8080\n",
            "`workspace.yaml` line 1: `environment` sets `PORT`, which `port: 8080` decides: leave `PORT` out of it",
        ),
        (
            "environment: {PORT: 80}\n",
            "`workspace.yaml` line 1: `environment` sets `PORT`, which whoever leads traffic here has to know: write \
             `port: 80` instead",
        ),
        (
            "start: a\nenvironment:\n  HOST: '::'\n",
            "`workspace.yaml` line 2: `environment` sets `HOST`, which is 0.0.0.0 in every container: leave it out",
        ),
        (
            "static:\n  dir: x\ndir: ../up\n",
            "`workspace.yaml` line 3: `dir` must be a folder inside the tree, not `../up`",
        ),
        (
            "start: a\nport: 1\nstart: b\n",
            "`workspace.yaml` line 3: `start` stands on line 1 already; leave one of them out",
        ),
        (
            "start: a\nenvironment:\n  A: 1\n  B: 2\n  A: 3\n",
            "`workspace.yaml` can't be understood: line 5: `environment` has `A` twice; leave one of them out",
        ),
        (
            "volumes: {npm: /x}\n",
            "`workspace.yaml` line 1: `volumes` has `npm`, which is what the cache of npm is called; take another name",
        ),
        ("volumes: [a:/x, b:/x/]\n", "`workspace.yaml` line 1: `volumes` has two volumes at `/x`"),
        (
            "volumes: {Db: /x}\n",
            "`workspace.yaml` line 1: `volumes` has `Db`, which is no volume's name: a-z, 0-9, `_`, a letter or digit \
             first",
        ),
        (
            "volumes: {a-b: /x}\n",
            "`workspace.yaml` line 1: `volumes` has `a-b`, which is no volume's name: a-z, 0-9, `_`, a letter or digit \
             first",
        ),
        (
            "volumes: /data\n",
            "`workspace.yaml` line 1: `volumes` must be `name: /path` lines, or a list of `name:/path`",
        ),
        ("memory: 8m\n", "`workspace.yaml` line 1: `memory` must be at least `16m`, not `8m`"),
        ("memory: 2x\n", "`workspace.yaml` line 1: `memory` must be a size such as `512m` or `2g`, not `2x`"),
        ("cpus: -1\n", "`workspace.yaml` line 1: `cpus` must be a number of processors such as `1.5`, not `-1`"),
        ("- a\n", "`workspace.yaml` can't be understood: it must be `key: value` lines"),
    ] {
        assert_eq!(try_look(&[("workspace.yaml", yaml)]).unwrap_err().to_string(), message);
    }
}

#[test]
fn a_file_that_says_nothing_is_no_mistake() {
    for text in ["", "\n", "# start: later\n", "---\n"] {
        assert!(try_look(&[("workspace.yaml", text), ("server.js", "")]).is_ok(), "{text:?}");
    }
}

#[test]
fn all_mistakes_are_named_at_once() {
    let yaml = "prot: 1\nstart: a\nhealth: up\nzzz: 1\nstart: b\nreplica: 2\n";
    assert_eq!(
        try_look(&[("workspace.yaml", yaml)]).unwrap_err().to_string(),
        "`workspace.yaml` has 5 mistakes:
  line 1: unknown key `prot`; did you mean `port`?
  line 3: `health` must be a path such as `/health`, not `up`
  line 4: unknown key `zzz`
  line 5: `start` stands on line 2 already; leave one of them out
  line 6: unknown key `replica`; did you mean `replicas`?
  known keys are runtime, version, image, dir, install, build, release, start, port, health, environment, secrets, \
         domains, replicas, volumes, ports, memory, cpus, lock, static, reload, cache_dependencies"
    );
}

#[test]
fn a_folder_that_is_not_uploaded_is_refused() {
    let error = |files: &[(&str, &str)]| try_look(files).unwrap_err().to_string();
    assert_eq!(
        error(&[("workspace.yaml", "start: node a.js\ndir: apps/ap1\n"), ("packages/api/package.json", EXPRESS)]),
        "`workspace.yaml` line 2: `dir` names the folder `apps/ap1`, of which nothing will be uploaded: it isn't there, or \
         an ignore rule leaves it out; did you mean `packages/api`?"
    );
    let missing = "`workspace.yaml` line 1: `static` names the folder `nope`, of which nothing will be uploaded: it isn't \
                   there, or an ignore rule leaves it out. ";
    assert_eq!(
        error(&[("workspace.yaml", "static: nope\n"), ("public/index.html", "")]),
        format!("{missing}`static: public` would serve public/index.html")
    );
    assert_eq!(
        error(&[("workspace.yaml", "static: nope\n"), ("a/b.html", "")]),
        format!("{missing}name the folder that has the index.html, or say as `build:` what makes `nope`")
    );
    let built = look(&[("workspace.yaml", "static: nope\nbuild: make\n"), ("index.html", "")]);
    assert_eq!(built.warnings, Vec::<String>::new());
    let installed = look(&[("workspace.yaml", "static: nope\ninstall: make\n"), ("index.html", "")]);
    assert!(installed.warnings[0].contains("`nope`"), "{:?}", installed.warnings);
}

#[test]
fn workspace_yaml_says_where_and_how_large() {
    let yaml = "\
start: node x.js
domains: [Shop.example.com, www.shop.example.com, shop.example.com]
replicas: 2
volumes: {db: /data/db/, up: /uploads}
memory: 512M
cpus: 1.5
";
    let plan = plan(&[("workspace.yaml", yaml), ("package.json", EXPRESS)]);
    assert_eq!(plan.domains, ["shop.example.com", "www.shop.example.com"]);
    assert_eq!((plan.replicas, plan.memory.as_deref(), plan.cpus.as_deref()), (Some(2), Some("512m"), Some("1.5")));
    assert_eq!((plan.volumes["db"].as_str(), plan.volumes["up"].as_str()), ("/data/db", "/uploads"));
}

#[test]
fn workspace_yaml_takes_one_domain_and_a_list_of_volumes() {
    let yaml = "domains: a.example.com\nvolumes:\n  - db:/data\nmemory: 33554432\ncpus: 2\n";
    let plan = plan(&[("workspace.yaml", yaml), ("package.json", EXPRESS)]);
    assert_eq!(plan.domains, ["a.example.com"]);
    assert_eq!((plan.volumes["db"].as_str(), plan.memory.as_deref()), ("/data", Some("33554432")));
}

#[test]
fn workspace_yaml_names_secrets_and_ports() {
    let plan_of = |yaml: &str| plan(&[("workspace.yaml", yaml), ("package.json", EXPRESS)]);
    let plan = plan_of("secrets: [DATABASE_URL]\nports: '5432:5432'\n");
    assert_eq!(plan.secrets["DATABASE_URL"], "DATABASE_URL");
    assert_eq!(plan.ports, ["5432:5432"]);
    let plan = plan_of("secrets: {DATABASE_URL: SHOP_DATABASE_URL}\nports: ['127.0.0.1:53:53/udp', '53:53']\n");
    assert_eq!(plan.secrets["DATABASE_URL"], "SHOP_DATABASE_URL");
    assert_eq!(plan.ports, ["127.0.0.1:53:53/udp", "53:53"]);
}

#[test]
fn what_can_be_no_secret_and_no_port_is_refused() {
    for (yaml, message) in [
        (
            "secrets: [S3_SECRET_KEY]",
            "`workspace.yaml` line 1: `secrets` has `S3_SECRET_KEY`, which is a setting of `workspace` itself: take another name",
        ),
        (
            "secrets: {A: 'postgres://u:p@h/db'}",
            "`workspace.yaml` line 1: `secrets` has something that can't be a variable's name: letters, digits and `_`",
        ),
        (
            "secrets: A",
            "`workspace.yaml` line 1: `secrets` must be a list of variables' names, or `NAME: NAME_OUTSIDE` lines",
        ),
        (
            "ports: 5432",
            "`workspace.yaml` line 1: `ports` has `5432`, which isn't HOST:CONTAINER such as `5432:5432` or `127.0.0.1:53:53/udp`",
        ),
        ("ports: ['1:2', '1:3']", "`workspace.yaml` line 1: `ports` has one port of the host twice, in `1:3`"),
        ("replicas: 2\nports: ['1:2']", "`workspace.yaml` line 2: `ports` can't be shared by several `replicas`"),
        ("lock: stric", "`workspace.yaml` line 1: `lock` is `stric`, which is no policy; did you mean `strict`?"),
        ("static: 7", "`workspace.yaml` line 1: `static` must be a folder, `true`, or `{dir: dist, spa: true}`"),
    ] {
        assert_eq!(try_look(&[("workspace.yaml", yaml)]).unwrap_err().to_string(), message);
    }
}

/// A value that was written by mistake is not repeated, wherever the message goes.
#[test]
fn a_secret_in_the_wrong_place_is_not_shown() {
    let error = try_look(&[("workspace.yaml", "secrets: {A: hunter2!}")]).unwrap_err().to_string();
    assert!(!error.contains("hunter2"), "{error}");
}
