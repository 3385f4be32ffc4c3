//! Which language a folder is written in, by the files that decide.

use super::folder::Folder;
use super::{ApplicationError, Given, Plan, Runtime, WORKSPACE_YAML, node, php, python, static_site};

/// First hit wins. A Rails, Django, Laravel or Go tree with a `package.json` is not a Node app, so Node comes late.
const MARKERS: [(Runtime, &[&str]); 10] = [
    (Runtime::Php, &php::MARKERS),
    (Runtime::Go, &["go.mod", "go.work"]),
    (Runtime::Rust, &["Cargo.toml"]),
    (Runtime::Ruby, &["Gemfile"]),
    (Runtime::Python, &python::MARKERS),
    (Runtime::Java, &["pom.xml", "build.gradle", "build.gradle.kts"]),
    (Runtime::Deno, &["deno.json", "deno.jsonc", "deno.lock"]),
    (Runtime::Node, &["package.json"]),
    // A file alone, which in a tree of anything else is a helper of some kind.
    (Runtime::Python, &python::MAINS),
    (Runtime::Static, &static_site::MARKERS),
];

pub(super) fn detect(
    folder: &Folder<'_>,
    given: &Given<'_>,
    warnings: &mut Vec<String>,
) -> Result<Option<Plan>, ApplicationError> {
    let site = given.declared.site.as_ref();
    let runtime = match &given.declared.runtime {
        Some(runtime) => Some(runtime.clone()),
        None => found(folder, given)?,
    };
    let Some(runtime) = runtime else {
        return Ok(None);
    };
    // What is declared needs no marker, but uses one if there is one.
    let files = MARKERS.iter().filter(|(known, _)| *known == runtime).flat_map(|(_, files)| files.iter().copied());
    let marker = files.into_iter().find(|file| folder.contains(file));
    match runtime {
        Runtime::Node if folder.contains("package.json") => return node::detect(folder, given, warnings),
        Runtime::Python => return python::detect(folder, given, warnings).map(Some),
        Runtime::Php => return php::detect(folder, given, warnings).map(Some),
        Runtime::Static => return Ok(Some(static_site::detect(folder, site))),
        _ => {}
    }
    let mut plan = Plan::new(runtime);
    if let Some(marker) = marker {
        plan.because("runtime", marker);
    }
    if !given.has_start() {
        warnings.push(no_start_known(&plan.runtime, marker));
    }
    Ok(Some(plan))
}

/// The runtime that the folder's files name.
fn found(folder: &Folder<'_>, given: &Given<'_>) -> Result<Option<Runtime>, ApplicationError> {
    let hit = MARKERS.iter().find(|(_, files)| folder.first_of(files).is_some()).map(|(runtime, _)| runtime.clone());
    let is_site = given.declared.site.is_some() || folder.first_of(&static_site::MARKERS).is_some();
    match hit {
        // A site whose `package.json` is there for tools alone.
        Some(Runtime::Node) if is_site && !given.starts() && !node::does_something(folder)? => {
            Ok(Some(Runtime::Static))
        }
        None if is_site => Ok(Some(Runtime::Static)),
        hit => Ok(hit),
    }
}

/// What to say of a folder in which nothing is known, where that has a way out.
pub(super) fn elsewhere(folder: &Folder<'_>) -> Option<String> {
    let apart = ["test", "tests", "docs", "examples", "scripts", "node_modules", "vendor"];
    let holder = |path: &str| {
        let (place, file) = path.rsplit_once('/').filter(|(place, _)| place.matches('/').count() < 2)?;
        // A file alone is a helper of some kind.
        let mut known = MARKERS.iter().filter(|(_, files)| *files != &python::MAINS[..]);
        let is_marked = known.any(|(_, files)| files.contains(&file));
        (is_marked && !place.split('/').any(|part| apart.contains(&part))).then(|| place.to_owned())
    };
    let mut places: Vec<String> = folder.paths().filter_map(holder).collect();
    places.sort_by_key(|place| (place.matches('/').count(), place.clone()));
    places.dedup();
    places.truncate(5);
    if !places.is_empty() {
        return Some(format!(
            "nothing in {} says how it would be started. If the app is in a folder below, name that as `dir:` in \
             `{WORKSPACE_YAML}`: `{}`",
            folder.dir().map_or_else(|| "the root".to_owned(), |dir| format!("`{dir}`")),
            places.join("`, `")
        ));
    }
    folder.contains("Dockerfile").then(|| {
        format!(
            "a Dockerfile is not used: what runs is one of the images that fetch the source. Name an image of your own, with the \
             `workspace` binary, as `image:` in `{WORKSPACE_YAML}`, and say how it starts as `start:`"
        )
    })
}

fn no_start_known(runtime: &Runtime, marker: Option<&str>) -> String {
    let seen = marker.map(|marker| format!(" (`{marker}`)")).unwrap_or_default();
    if runtime.has_image() {
        return format!(
            "nothing in this {runtime} tree{seen} says how it starts: it is stored, not started. `start:` in `{WORKSPACE_YAML}` says it"
        );
    }
    format!(
        "this is a {runtime} tree{seen}, for which there is no image so far: it is stored, not started. To run it, say how in \
         `{WORKSPACE_YAML}`: `image:` (one of your own, with {runtime} and the `workspace` binary), `install:` and `start:`"
    )
}
