//! Node apps that say only for development how they are started: what the framework builds tells how it is served.

use serde_json::Value;

use super::package::Package;
use crate::application::folder::Folder;
use crate::application::{ApplicationError, Command, Plan};

/// The package that builds, what must lie in the tree for it to be a site and not a library, and where the site is then.
const BUILDERS: [(&str, &[&str], &str); 9] = [
    ("react-scripts", &["public/index.html"], "build"),
    ("@vue/cli-service", &["public/index.html"], "dist"),
    ("gatsby", &["gatsby-config.js", "gatsby-config.ts", "gatsby-config.mjs"], "public"),
    ("@docusaurus/core", &["docusaurus.config.js", "docusaurus.config.ts"], "build"),
    ("vitepress", &[".vitepress/config.js", ".vitepress/config.ts", ".vitepress/config.mts"], ".vitepress/dist"),
    ("@11ty/eleventy", &["eleventy.config.js", ".eleventy.js", "eleventy.config.mjs", "eleventy.config.cjs"], "_site"),
    // Behind those that are built on it.
    ("parcel", &["index.html", "src/index.html"], "dist"),
    ("astro", &["astro.config.mjs", "astro.config.ts", "astro.config.js"], "dist"),
    ("vite", &["index.html"], "dist"),
];

/// The package that makes a server, and how that is started. Each listens on `HOST` and `PORT`.
const SERVERS: [(&str, &[&str]); 7] = [
    ("@sveltejs/adapter-node", &["node", "build"]),
    ("@astrojs/node", &["node", "dist/server/entry.mjs"]),
    ("@remix-run/serve", &["remix-serve", "build/server/index.js"]),
    ("@react-router/serve", &["react-router-serve", "build/server/index.js"]),
    ("nuxt", &["node", ".output/server/index.mjs"]),
    ("next", &["next", "start"]),
    ("@nestjs/core", &["node", "dist/main.js"]),
];

/// Programs that serve what is being worked on, and the words with which they do; an empty one stands for none.
const DEVELOPMENT: [(&str, &[&str]); 13] = [
    ("vite", &["", "dev", "serve", "preview"]),
    ("astro", &["", "dev", "preview"]),
    ("react-scripts", &["start"]),
    ("vue-cli-service", &["serve"]),
    ("gatsby", &["develop", "serve"]),
    ("docusaurus", &["start", "serve"]),
    ("vitepress", &["", "dev", "preview", "serve"]),
    ("eleventy", &["--serve"]),
    ("parcel", &["", "serve", "index.html", "src/index.html"]),
    ("ng", &["serve"]),
    ("next", &["dev"]),
    ("nuxt", &["", "dev", "preview"]),
    ("remix", &["dev", "vite:dev"]),
];

/// Starts what the build script makes, where that is known and `scripts.start` says nothing else.
pub(super) fn start(
    folder: &Folder<'_>,
    package: &Package,
    plan: &mut Plan,
    warnings: &mut Vec<String>,
) -> Result<(), ApplicationError> {
    let script = package.scripts.get("start");
    let exports = exports_pages(folder, package)?;
    let develops = script.filter(|script| is_for_development(script) || exports && script.contains("next start"));
    if plan.start.is_some() && develops.is_none() {
        return Ok(());
    }
    let found = if plan.build.is_empty() { None } else { built(folder, package, exports)? };
    match (found, develops) {
        (Some((start, because)), None) => {
            plan.start = Some(start);
            plan.because("start", because);
        }
        (Some((start, because)), Some(script)) => {
            plan.start = Some(start);
            plan.because("start", format!("{because}; `{script}` in scripts.start is for development"));
        }
        (None, Some(script)) => warnings.push(format!(
            "`{script}` in scripts.start is for development: it may listen where nobody reaches it. Add a `build` script, and say \
             what serves the result, as `start:` or `static:` in `workspace.yaml`"
        )),
        (None, None) => {}
    }
    Ok(())
}

/// How the result of the build is served, and why so.
fn built(folder: &Folder<'_>, package: &Package, exports: bool) -> Result<Option<(Command, String)>, ApplicationError> {
    let site = |name: &str, dir: &str| {
        Some((Command::exec(["workspace", "static", dir]), format!("{name} builds a static site into {dir}/")))
    };
    let builds_pages = package.scripts.get("build").is_some_and(|build| build.contains("nuxt generate"));
    if exports {
        return Ok(site("next", "out"));
    }
    if builds_pages {
        return Ok(site("nuxt", ".output/public"));
    }
    if package.depends_on("@sveltejs/adapter-static") {
        return Ok(site("@sveltejs/adapter-static", "build"));
    }
    if let Some((name, words)) = SERVERS.iter().find(|(name, _)| package.depends_on(name)) {
        return Ok(Some((Command::exec(words.iter().copied()), format!("{name} builds a server"))));
    }
    if let Some(dir) = angular(folder)? {
        return Ok(site("Angular", &dir));
    }
    let is_it =
        |(name, signs, _): &&(&str, &[&str], &str)| package.depends_on(name) && folder.first_of(signs).is_some();
    Ok(BUILDERS.iter().find(is_it).and_then(|(name, _, dir)| site(name, dir)))
}

/// Whether a script's first program is one that only serves what is being worked on.
fn is_for_development(script: &str) -> bool {
    let words = Command::parse(script).words();
    let mut words =
        words.iter().map(String::as_str).filter(|word| !word.contains('=') && *word != "cross-env" && *word != "npx");
    let (program, word) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let word = if word.starts_with('-') && word != "--serve" { "" } else { word };
    DEVELOPMENT.iter().any(|(known, with)| *known == program && with.contains(&word))
}

/// Whether Next.js makes pages alone, for which it has no server.
fn exports_pages(folder: &Folder<'_>, package: &Package) -> Result<bool, ApplicationError> {
    let configuration = folder.first_of(&["next.config.js", "next.config.mjs", "next.config.ts", "next.config.cjs"]);
    let Some(file) = configuration.filter(|_| package.depends_on("next")) else { return Ok(false) };
    let text = folder.text(file)?.unwrap_or_default();
    let mut lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    Ok(lines.any(|line| {
        let value = line.split_once("output:").map(|(_, value)| value.trim_start());
        value.is_some_and(|value| value.starts_with("'export'") || value.starts_with("\"export\""))
    }))
}

/// Where Angular puts the pages of the only or first project: <https://angular.dev/reference/configs/workspace-config>.
fn angular(folder: &Folder<'_>) -> Result<Option<String>, ApplicationError> {
    let Some(text) = folder.text("angular.json")? else { return Ok(None) };
    let workspace: Value = serde_json::from_str(&text).unwrap_or_default();
    let projects = workspace.get("projects").and_then(Value::as_object);
    let is_application = |project: &Value| project.get("projectType").is_none_or(|kind| kind == "application");
    let Some((name, project)) = projects.into_iter().flatten().find(|(_, project)| is_application(project)) else {
        return Ok(None);
    };
    let build = ["architect", "targets"].into_iter().find_map(|key| project.get(key)?.get("build"));
    let builder = build.and_then(|build| build.get("builder")?.as_str()).unwrap_or(":application");
    let path = build.and_then(|build| build.pointer("/options/outputPath"));
    let base = path.and_then(|path| path.as_str().or_else(|| path.get("base")?.as_str()));
    let base = base.map_or_else(|| format!("dist/{name}"), |base| base.trim_end_matches('/').to_owned());
    // The older builder makes no server beside it, so it needs no folder of its own.
    let inner = path.and_then(|path| path.get("browser")?.as_str()).unwrap_or("browser");
    Ok(Some(if builder.ends_with(":application") && !inner.is_empty() { format!("{base}/{inner}") } else { base }))
}
