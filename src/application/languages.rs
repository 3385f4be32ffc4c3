//! Which language a folder is written in, by the files that decide.

use super::folder::Folder;
use super::{ApplicationError, Given, Plan, Runtime, WORKSPACE_YAML, node};

/// First hit wins. A Rails, Django, Laravel or Go tree with a `package.json` is not a Node app, so Node comes late.
const MARKERS: [(Runtime, &[&str]); 9] = [
    (Runtime::Php, &["composer.json", "index.php"]),
    (Runtime::Go, &["go.mod", "go.work"]),
    (Runtime::Rust, &["Cargo.toml"]),
    (Runtime::Ruby, &["Gemfile"]),
    (
        Runtime::Python,
        &["requirements.txt", "pyproject.toml", "Pipfile", "uv.lock", "poetry.lock", "setup.py", "manage.py"],
    ),
    (Runtime::Java, &["pom.xml", "build.gradle", "build.gradle.kts"]),
    (Runtime::Deno, &["deno.json", "deno.jsonc", "deno.lock"]),
    (Runtime::Node, &["package.json"]),
    (Runtime::Static, &["index.html", "public/index.html", "dist/index.html"]),
];

pub(super) fn detect(
    folder: &Folder<'_>,
    given: &Given<'_>,
    warnings: &mut Vec<String>,
) -> Result<Option<Plan>, ApplicationError> {
    let is_marked = |(_, files): &&(Runtime, &'static [&'static str])| files.iter().any(|file| folder.contains(file));
    let hit = match &given.declared.runtime {
        // What is declared needs no marker, but uses one if there is one.
        Some(runtime) => {
            let files = MARKERS.iter().find(|(known, _)| known == runtime).map_or(&[][..], |(_, files)| files);
            Some((runtime.clone(), files))
        }
        None => MARKERS.iter().find(is_marked).map(|(runtime, files)| (runtime.clone(), *files)),
    };
    let Some((runtime, files)) = hit else {
        return Ok(None);
    };
    let found = files.iter().copied().find(|file| folder.contains(file));
    if runtime == Runtime::Node && found.is_some() {
        return node::detect(folder, given, warnings);
    }
    let mut plan = Plan::new(runtime);
    if let Some(marker) = found {
        plan.because("runtime", marker);
    }
    if !given.has_start() {
        warnings.push(no_start_known(&plan.runtime, found));
    }
    Ok(Some(plan))
}

fn no_start_known(runtime: &Runtime, marker: Option<&str>) -> String {
    let seen = marker.map(|marker| format!(" (`{marker}`)")).unwrap_or_default();
    format!(
        "this is a {runtime} tree{seen}, which is stored but not started by itself: only Node apps with npm are so far. To run \
         it, say how in `{WORKSPACE_YAML}`: `image:` (one with {runtime} and the `workspace` binary), `install:` and `start:`"
    )
}
