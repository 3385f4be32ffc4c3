//! Trees in, plans out.

use std::collections::BTreeMap;

use super::*;

mod declared;
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
fn a_file_inside_a_dependency_decides_nothing() {
    let plan = plan(&[("package.json", EXPRESS), ("lib/index.php", ""), ("sub/go.mod", ""), ("server.js", "")]);
    assert_eq!(plan.runtime, Runtime::Node);
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
fn apps_below_are_named_where_the_root_has_none() {
    let found = look(&[
        ("README.md", ""),
        ("web/package.json", "{}"),
        ("api/requirements.txt", ""),
        ("tools/x/y/go.mod", ""),
        ("tests/package.json", "{}"),
    ]);
    assert_eq!(found.plan, None);
    assert_eq!(
        found.warnings,
        ["nothing in the root says how it would be started. If the app is in a folder below, name that as `dir:` in \
          `workspace.yaml`: `api`, `web`"]
    );
    let own = look(&[("Dockerfile", ""), ("main.c", "")]);
    assert!(own.warnings[0].contains("Dockerfile is not used"), "{:?}", own.warnings);
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
fn a_lock_file_out_of_step_is_said_and_not_frozen() {
    let lock = r#"{"packages":{"":{"dependencies":{"express":"^3.0.0"}}}}"#;
    let found = look(&[("package.json", EXPRESS), ("package-lock.json", lock), ("server.js", "")]);
    assert_eq!(found.plan.unwrap().install[0].to_string(), "npm install --prefer-offline --no-audit --no-fund");
    assert!(found.warnings[0].contains("`express` is ^3.0.0, not ^4.18.0"), "{:?}", found.warnings);
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
