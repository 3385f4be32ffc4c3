//! Trees in, plans out.

use std::collections::BTreeMap;

use super::*;

mod node;
mod php;
mod python;
mod sites;

struct Tree(BTreeMap<String, Vec<u8>>);

impl SourceTree for Tree {
    fn contains(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.get(path).cloned())
    }
    fn paths(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.0.keys().map(String::as_str))
    }
}

fn look(files: &[(&str, &str)]) -> Detection {
    try_look(files).unwrap()
}

fn try_look(files: &[(&str, &str)]) -> Result<Detection, ApplicationError> {
    detect(&Tree(files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect()))
}

fn plan(files: &[(&str, &str)]) -> Plan {
    look(files).plan.unwrap()
}

const EXPRESS: &str = r#"{"name":"a","scripts":{"start":"node server.js"},"engines":{"node":"20.x"},
    "dependencies":{"express":"^4.18.0"}}"#;
const EXPRESS_LOCK: &str = r#"{"lockfileVersion":3,"packages":{"":{"dependencies":{"express":"^4.18.0"}}}}"#;

/// The plan is stored with every version: this text may only ever grow.
#[test]
fn golden_plan() {
    let plan = plan(&[("package.json", EXPRESS), ("package-lock.json", EXPRESS_LOCK), ("server.js", "")]);
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(
        text,
        concat!(
            r#"{"runtime":"node","version":"20","package_manager":"npm","#,
            r#""install":[["npm","ci","--prefer-offline","--no-audit","--no-fund"]],"start":["node","server.js"],"port":3000,"#,
            r#""environment":{"NODE_ENV":"production"},"install_environment":{"npm_config_omit":"dev"},"#,
            r#""inputs":["package.json","package-lock.json"],"#,
            r#""reasons":[{"field":"runtime","because":"package.json"},{"field":"version","because":"engines.node is `20.x`"},"#,
            r#"{"field":"package_manager","because":"package-lock.json"},{"field":"start","because":"scripts.start"},"#,
            r#"{"field":"install","because":"package-lock.json"},"#,
            r#"{"field":"install_environment","because":"without development dependencies: nothing names one"}]}"#
        )
    );
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
}

/// A plan of a newer release: unknown fields are skipped, unknown runtimes kept.
#[test]
fn newer_plans_are_read() {
    let text = r#"{"runtime":"elixir","port":4000,"start":"mix phx.server","replicas":3,"health":{"path":"/up","status":204}}"#;
    let plan: Plan = serde_json::from_str(text).unwrap();
    assert_eq!(plan.runtime, Runtime::Other("elixir".to_owned()));
    assert_eq!(plan.health.unwrap().path, "/up");
    assert_eq!(serde_json::to_string(&plan.runtime).unwrap(), r#""elixir""#);
}

#[test]
fn an_empty_tree_has_no_plan() {
    assert_eq!(look(&[("README", "")]), Detection::default());
}

#[test]
fn pre_and_post_scripts_are_part_of_start() {
    let plan =
        plan(&[("package.json", r#"{"scripts":{"prestart":"node seed.js # x","start":"node a.js"}}"#), ("a.js", "")]);
    assert_eq!(plan.start, Some(Command::Shell("{\nnode seed.js # x\n} && {\nnode a.js\n}".to_owned())));
}

#[test]
fn main_is_started_only_if_it_is_a_server() {
    let main = r#"{"main":"./lib/app.js"}"#;
    let server = look(&[("package.json", main), ("lib/app.js", "http.createServer(f).listen(3000)")]);
    assert_eq!(server.plan.unwrap().start.unwrap().to_string(), "node lib/app.js");
    let library = look(&[("package.json", main), ("lib/app.js", "module.exports = 1")]);
    assert_eq!(library.plan, None);
    let library = look(&[("package.json", r#"{"main":"index.js"}"#), ("index.js", "module.exports = 1")]);
    assert_eq!(library.plan, None);
    assert!(library.warnings.iter().any(|text| text.contains("no start command")), "{:?}", library.warnings);
}

#[test]
fn a_lock_file_out_of_step_is_said_and_not_frozen() {
    let lock = r#"{"packages":{"":{"dependencies":{"express":"^3.0.0"}}}}"#;
    let found = look(&[("package.json", EXPRESS), ("package-lock.json", lock), ("server.js", "")]);
    assert_eq!(found.plan.unwrap().install[0].to_string(), "npm install --prefer-offline --no-audit --no-fund");
    assert!(found.warnings[0].contains("`express` is ^3.0.0, not ^4.18.0"), "{:?}", found.warnings);
}

#[test]
fn development_dependencies_come_along_when_something_needs_them() {
    let with = |package: &str, lock: &str| {
        plan(&[("package.json", package), ("package-lock.json", lock), ("server.js", "")]).install_environment
    };
    let lock = r#"{"packages":{"":{"devDependencies":{"typescript":"5","tsx":"4"}},
        "node_modules/typescript":{"dev":true,"bin":{"tsc":"bin/tsc"}},"node_modules/tsx":{"dev":true,"bin":"x"}}}"#;
    let dev = r#""devDependencies":{"typescript":"5","tsx":"4"}"#;
    for script in
        [r#""start":"tsx server.ts""#, r#""start":"tsc && node x""#, r#""start":"node server.js","build":"tsc""#]
    {
        let found = with(&format!(r#"{{"scripts":{{{script}}},{dev}}}"#), lock);
        assert!(found.contains_key("npm_config_include"), "{script}: {found:?}");
    }
    let found = with(&format!(r#"{{"scripts":{{"start":"node server.js"}},{dev}}}"#), lock);
    assert!(found.contains_key("npm_config_omit"), "{found:?}");
}

#[test]
fn a_start_target_that_is_not_uploaded_is_named() {
    let found =
        look(&[("package.json", r#"{"scripts":{"start":"node dist/server.js"}}"#), ("package-lock.json", "{}")]);
    assert!(found.warnings.iter().any(|text| text.contains("`dist/server.js`")), "{:?}", found.warnings);
    let built = look(&[
        ("package.json", r#"{"scripts":{"start":"node dist/server.js","build":"tsc"}}"#),
        ("package-lock.json", "{}"),
    ]);
    assert_eq!(built.warnings, Vec::<String>::new());
}

#[test]
fn what_has_no_image_says_so_and_names_the_way_out() {
    for (file, runtime) in [
        ("go.mod", Runtime::Go),
        ("Gemfile", Runtime::Ruby),
        ("Cargo.toml", Runtime::Rust),
        ("pom.xml", Runtime::Java),
        ("deno.json", Runtime::Deno),
    ] {
        let found = look(&[("package.json", EXPRESS), (file, "")]);
        let plan = found.plan.unwrap();
        assert_eq!((&plan.runtime, &plan.start), (&runtime, &None));
        assert!(found.warnings[0].contains("`image:`"), "{:?}", found.warnings);
    }
    let started = look(&[("go.mod", ""), ("workspace.yaml", "start: ./app\n")]);
    assert!(started.warnings[0].contains("no image for go"), "{:?}", started.warnings);
    let own = look(&[("go.mod", ""), ("workspace.yaml", "start: ./app\nimage: go:1\n")]);
    assert_eq!(own.warnings, Vec::<String>::new());
}

#[test]
fn a_file_inside_a_dependency_decides_nothing() {
    let plan = plan(&[("package.json", EXPRESS), ("lib/index.php", ""), ("sub/go.mod", ""), ("server.js", "")]);
    assert_eq!(plan.runtime, Runtime::Node);
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
    let unknown = try_look(&[("workspace.yaml", "zzz: 1")]).unwrap_err().to_string();
    assert!(unknown.contains("known keys are runtime"), "{unknown}");
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
         domains, replicas, volumes, ports, memory, cpus, lock, static"
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
