//! Node's package managers.

use super::*;

const MONOREPO: &str = r#"{"private":true,"workspaces":["packages/*"],"packageManager":"npm@10.8.0"}"#;

fn installs(files: &[(&str, &str)]) -> Vec<String> {
    plan(files).install.iter().map(ToString::to_string).collect()
}

#[test]
fn each_manager_is_brought_by_npm_and_installs_frozen() {
    let package = |manager: &str| {
        format!(
            r#"{{"packageManager":"{manager}","scripts":{{"start":"node server.js"}},"dependencies":{{"a":"^1.0.0"}}}}"#
        )
    };
    let pnpm = package("pnpm@9.12.0+sha512.abc");
    let lock = "lockfileVersion: '9.0'\nimporters:\n  .:\n    dependencies:\n      a:\n        specifier: ^1.0.0\n";
    assert_eq!(
        installs(&[("package.json", &pnpm), ("pnpm-lock.yaml", lock), ("server.js", "")]),
        [
            "npm install --prefix .workspace/tools --no-save --prefer-offline --no-audit --no-fund pnpm@9.12.0",
            "pnpm install --frozen-lockfile --prefer-offline --prod",
        ]
    );
    let yarn = package("yarn@1.22.22");
    assert_eq!(
        installs(&[("package.json", &yarn), ("yarn.lock", "# yarn lockfile v1\na@^1.0.0:\n"), ("server.js", "")])[1],
        "yarn install --frozen-lockfile --prefer-offline --non-interactive --production"
    );
    let bun = package("bun@1.2.0");
    let lock = r#"{"workspaces":{"":{"dependencies":{"a":"^1.0.0",},},},}"#;
    assert_eq!(
        installs(&[("package.json", &bun), ("bun.lock", lock), ("server.js", "")])[1],
        "bun install --frozen-lockfile --production"
    );
}

#[test]
fn a_version_follows_from_the_lock_file_where_none_is_named() {
    let tool = |file: &str, lock: &str| {
        let install = installs(&[("package.json", EXPRESS), (file, lock), ("server.js", "")]);
        install[0].rsplit(' ').next().unwrap().to_owned()
    };
    assert_eq!(tool("pnpm-lock.yaml", "lockfileVersion: 5.4\n"), "pnpm@7");
    assert_eq!(tool("pnpm-lock.yaml", "lockfileVersion: '6.0'\n"), "pnpm@8");
    assert_eq!(tool("pnpm-lock.yaml", "lockfileVersion: '9.0'\n"), "pnpm@9");
    assert_eq!(tool("yarn.lock", "# yarn lockfile v1\n"), "yarn@1");
    assert_eq!(tool("yarn.lock", "# x\n\n__metadata:\n  version: 6\n"), "@yarnpkg/cli-dist@3");
    assert_eq!(tool("yarn.lock", "# x\n\n__metadata:\n  version: 8\n"), "@yarnpkg/cli-dist@4");
}

#[test]
fn the_yarn_that_lies_in_the_tree_is_used() {
    let files = [
        ("package.json", EXPRESS),
        (
            "yarn.lock",
            "\n__metadata:\n  version: 8\n\n\"a@workspace:.\":\n  resolution: \"a@workspace:.\"\n  dependencies:\n    express: \"npm:^4.18.0\"\n",
        ),
        (".yarnrc.yml", "yarnPath: .yarn/releases/yarn-4.5.0.cjs\nnodeLinker: node-modules\n"),
        (".yarn/releases/yarn-4.5.0.cjs", ""),
        ("server.js", ""),
    ];
    let found = plan(&files);
    assert!(found.install[0].to_string().contains("exec node \"%s/.yarn/releases/yarn-4.5.0.cjs\""));
    assert_eq!(found.install[1].to_string(), "yarn install --immutable");
    assert_eq!(found.start.unwrap().to_string(), "node server.js");
    assert_eq!(found.path, [".workspace/tools/node_modules/.bin"]);
}

#[test]
fn only_yarn_can_run_what_it_keeps_in_archives() {
    let package =
        r#"{"packageManager":"yarn@4.5.0","scripts":{"prestart":"x","start":"node server.js","build":"tsc"}}"#;
    let found = plan(&[("package.json", package), ("yarn.lock", "\n__metadata:\n  version: 8\n"), ("server.js", "")]);
    assert_eq!(found.start.unwrap().to_string(), "yarn run start");
    assert_eq!(found.build[0].to_string(), "yarn run build");
}

#[test]
fn a_drift_is_seen_in_every_lock_file() {
    for (file, lock) in [
        ("package-lock.json", r#"{"packages":{"":{}}}"#),
        ("pnpm-lock.yaml", "lockfileVersion: '9.0'\nimporters:\n  .: {}\n"),
        ("yarn.lock", "# yarn lockfile v1\n\nother@^1.0.0:\n"),
        ("yarn.lock", "\n__metadata:\n  version: 8\n\n\"a@workspace:.\":\n  resolution: \"a@workspace:.\"\n"),
        ("bun.lock", r#"{"workspaces":{"":{}}}"#),
    ] {
        let files = [("package.json", EXPRESS), (file, lock), ("server.js", "")];
        let found = look(&files);
        assert!(found.warnings[0].contains("is out of step"), "{file}: {:?}", found.warnings);
        let install = found.plan.unwrap().install.pop().unwrap().to_string();
        assert!(
            !install.contains(" --frozen") && !install.contains(" --immutable") && !install.contains(" ci "),
            "{install}"
        );
        let strict = [files[0], files[1], files[2], ("workspace.yaml", "lock: strict\n")];
        let error = try_look(&strict).unwrap_err().to_string();
        assert!(error.contains("`express") && error.contains("lock: strict"), "{error}");
        let update = [files[0], files[1], files[2], ("workspace.yaml", "lock: update\n")];
        assert_eq!(look(&update).warnings, Vec::<String>::new());
    }
}

/// As Yarn 4 and Yarn 3 write it; both refuse `--immutable` for each of the changes.
#[test]
fn a_changed_range_is_seen_in_the_lock_of_yarn_2_and_later() {
    let package = |dependencies: &str| {
        format!(
            r#"{{"scripts":{{"start":"node server.js"}},"dependencies":{{{dependencies}}},"devDependencies":{{"b":"^2.0.0"}}}}"#
        )
    };
    let lock = |a: &str, b: &str| {
        format!(
            "\n__metadata:\n  version: 8\n\n\"x@workspace:.\":\n  resolution: \"x@workspace:.\"\n  dependencies:\n    a: {a}\n    b: {b}\n"
        )
    };
    let warnings =
        |package: &str, lock: &str| look(&[("package.json", package), ("yarn.lock", lock), ("server.js", "")]).warnings;
    // Listed twice, the one for development counts.
    let fitting = package(r#""a":"1.x || >=2","b":"^1.0.0""#);
    for lock in [lock("\"npm:1.x || >=2\"", "\"npm:^2.0.0\""), lock("1.x || >=2", "^2.0.0"), lock("1", "^2.0.0")] {
        assert_eq!(warnings(&fitting, &lock), Vec::<String>::new(), "{lock}");
    }
    let lock = lock("\"npm:^1.0.0\"", "\"npm:^2.0.0\"");
    for (dependencies, words) in [(r#""a":"^1.1.0""#, "`a` is ^1.0.0, not ^1.1.0"), ("", "`a` is no longer asked for")]
    {
        let found = warnings(&package(dependencies), &lock);
        assert!(found[0].contains(words), "{found:?}");
    }
}

#[test]
fn a_monorepo_is_installed_where_its_lock_file_is() {
    let files = [
        ("workspace.yaml", "dir: packages/api\n"),
        ("package.json", MONOREPO),
        ("package-lock.json", r#"{"packages":{"":{},"packages/api":{"dependencies":{"express":"^4.18.0"}}}}"#),
        (".nvmrc", "20"),
        ("packages/api/package.json", r#"{"scripts":{"start":"node api.js"},"dependencies":{"express":"^4.18.0"}}"#),
        ("packages/api/api.js", ""),
    ];
    let found = look(&files);
    assert_eq!(found.warnings, Vec::<String>::new());
    let plan = found.plan.unwrap();
    assert_eq!((plan.dir.as_deref(), plan.install_dir.as_deref()), (Some("packages/api"), Some(".")));
    assert_eq!(plan.install[0].to_string(), "npm ci --prefer-offline --no-audit --no-fund");
    assert_eq!((plan.version.as_deref(), &plan.inputs[..]), (Some("20"), &["./".to_owned()][..]));
    let without = look(&files[1..]);
    assert!(without.warnings.iter().any(|text| text.contains("`dir:`") && text.contains("packages/api")));
}

#[test]
fn the_tools_of_a_monorepo_lie_at_its_root() {
    let found = plan(&[
        ("workspace.yaml", "dir: apps/web\n"),
        ("apps/package.json", r#"{"packageManager":"pnpm@9.1.0"}"#),
        ("apps/pnpm-lock.yaml", "lockfileVersion: '9.0'\n"),
        ("apps/web/package.json", r#"{"scripts":{"start":"node a.js"}}"#),
        ("apps/web/a.js", ""),
    ]);
    assert_eq!(found.install_dir.as_deref(), Some("apps"));
    assert!(found.install[0].to_string().contains("--prefix ../.workspace/tools"), "{}", found.install[0]);
}

#[test]
fn a_build_that_makes_a_site_is_served() {
    let package = r#"{"scripts":{"build":"vite build"},"devDependencies":{"vite":"^5.0.0"}}"#;
    let found = plan(&[("package.json", package), ("index.html", "")]);
    assert_eq!(found.start.unwrap().to_string(), "workspace static dist");
    assert_eq!(found.install_environment["npm_config_include"], "dev");
    let declared = plan(&[("package.json", package), ("workspace.yaml", "static: {dir: out, spa: true}\n")]);
    assert_eq!(
        (declared.runtime, declared.start.unwrap().to_string()),
        (Runtime::Node, "workspace static out --spa".to_owned())
    );
}

fn framework(scripts: &str, packages: &[&str], more: &[(&str, &str)]) -> Detection {
    let packages: Vec<String> = packages.iter().map(|name| format!("\"{name}\":\"1\"")).collect();
    let package = format!(r#"{{"scripts":{{{scripts}}},"dependencies":{{{}}}}}"#, packages.join(","));
    let mut files = vec![("package.json", package.as_str())];
    files.extend(more);
    look(&files)
}

#[test]
fn a_server_for_development_is_not_what_serves_the_result() {
    let angular = r#"{"projects":{"shop":{"architect":{"build":{"builder":"@angular/build:application"}}}}}"#;
    let older =
        r#"{"projects":{"shop":{"architect":{"build":{"builder":"x:browser","options":{"outputPath":"out"}}}}}}"#;
    for (script, package, file, dir) in [
        ("vite", "vite", ("index.html", ""), "dist"),
        ("vite --host", "vite", ("index.html", ""), "dist"),
        ("PORT=3001 react-scripts start", "react-scripts", ("public/index.html", ""), "build"),
        ("astro dev", "astro", ("astro.config.mjs", ""), "dist"),
        ("ng serve", "@angular/core", ("angular.json", angular), "dist/shop/browser"),
        ("ng serve", "@angular/core", ("angular.json", older), "out"),
        ("next start", "next", ("next.config.js", "module.exports = { output: 'export' }"), "out"),
    ] {
        let found = framework(&format!(r#""start":"{script}","build":"x""#), &[package], &[file]).plan.unwrap();
        assert_eq!(found.start.unwrap().to_string(), format!("workspace static {dir}"), "{script}");
    }
    let given =
        framework(r#""start":"vite build --watch","build":"x""#, &["vite"], &[("index.html", "")]).plan.unwrap();
    assert_eq!(given.start.unwrap().to_string(), "vite build --watch");
    let unbuilt = framework(r#""start":"vite""#, &["vite"], &[("index.html", "")]);
    assert!(unbuilt.warnings.iter().any(|text| text.contains("is for development")), "{:?}", unbuilt.warnings);
    let declared = [("index.html", ""), ("workspace.yaml", "start: npm start\n")];
    let declared = framework(r#""start":"vite","build":"x""#, &["vite"], &declared);
    assert_eq!(declared.plan.unwrap().start.unwrap().to_string(), "npm start");
}

#[test]
fn what_a_framework_builds_is_started_where_no_script_does() {
    for (packages, start) in [
        (&["next"][..], "next start"),
        (&["nuxt"], "node .output/server/index.mjs"),
        (&["@sveltejs/kit", "@sveltejs/adapter-node", "vite"], "node build"),
        (&["@sveltejs/kit", "@sveltejs/adapter-static", "vite"], "workspace static build"),
        (&["astro", "@astrojs/node"], "node dist/server/entry.mjs"),
    ] {
        let found = framework(r#""build":"x""#, packages, &[]).plan.unwrap();
        assert_eq!(found.start.unwrap().to_string(), start);
    }
    let pages = framework(r#""build":"nuxt generate""#, &["nuxt"], &[]).plan.unwrap();
    assert_eq!(pages.start.unwrap().to_string(), "workspace static .output/public");
    assert_eq!(framework("", &["next"], &[]).plan, None);
}

#[test]
fn what_is_missing_to_start_is_named() {
    let advice = |files: &[(&str, &str)]| look(files).warnings.pop().unwrap();
    let built = advice(&[("package.json", r#"{"main":"dist/index.js","scripts":{"build":"tsc"}}"#)]);
    assert!(built.contains("`node dist/index.js`"), "{built}");
    let pnpm = [
        ("package.json", "{}"),
        ("pnpm-workspace.yaml", "packages: [apps/*]\n"),
        ("apps/api/package.json", r#"{"scripts":{"start":"node a.js"}}"#),
    ];
    let pnpm = advice(&pnpm);
    assert!(pnpm.contains("`dir:`") && pnpm.contains("`apps/api`"), "{pnpm}");
}

/// Elsewhere, npm would ask the registry for whatever has the name of a package of the monorepo.
#[test]
fn a_monorepo_without_a_lock_file_is_installed_at_its_root() {
    let found = plan(&[
        ("workspace.yaml", "dir: packages/api\n"),
        ("package.json", MONOREPO),
        ("packages/api/package.json", r#"{"scripts":{"start":"node a.js"},"dependencies":{"lib":"*"}}"#),
        ("packages/api/a.js", ""),
        ("packages/lib/package.json", r#"{"name":"lib"}"#),
    ]);
    assert_eq!(found.install_dir.as_deref(), Some("."));
}
