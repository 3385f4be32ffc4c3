//! Static sites: served by the `workspace` binary, which every image has.

use super::folder::Folder;
use super::{Command, Plan, Runtime, WORKSPACE_YAML};

/// Where a site's files may lie, in this order: the folder, and the file that makes it one.
const PLACES: [(&str, &str); 3] = [("public", "public/index.html"), ("dist", "dist/index.html"), (".", "index.html")];

/// The files by which a static site is known.
pub(super) const MARKERS: [&str; 3] = [PLACES[0].1, PLACES[1].1, PLACES[2].1];

/// `static:` in `workspace.yaml`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct StaticSite {
    /// The folder that is served; `None`: the one that has an `index.html`.
    pub(super) dir: Option<String>,
    /// Whether paths that lead nowhere are answered with the root's `index.html`.
    pub(super) spa: bool,
}

pub(super) fn detect(folder: &Folder<'_>, site: Option<&StaticSite>) -> Plan {
    let mut plan = Plan::new(Runtime::Static);
    let marker = folder.first_of(&MARKERS).map(str::to_owned);
    let declared = site.map(|_| format!("`static:` in {WORKSPACE_YAML}"));
    if let Some(because) = declared.or(marker) {
        plan.because("runtime", because);
    }
    plan.start = Some(start(folder, site));
    plan.because("start", "served by `workspace static`");
    plan
}

/// What is wrong with a folder that is to be served and that nothing brings or builds.
pub(super) fn missing(folder: &Folder<'_>, site: &StaticSite, plan: &Plan) -> Option<String> {
    let dir = site.dir.as_deref().filter(|dir| *dir != "." && !folder.has_folder(dir))?;
    let found = PLACES.iter().find(|(_, file)| folder.contains(file));
    let advice = match found {
        _ if !plan.build.is_empty() => return None,
        Some((dir, file)) => format!("`static: {dir}` would serve {file}"),
        None => format!("name the folder that has the index.html, or say as `build:` what makes `{dir}`"),
    };
    Some(format!("{}. {advice}", folder.lacks(dir)))
}

/// The command that serves it.
pub(super) fn start(folder: &Folder<'_>, site: Option<&StaticSite>) -> Command {
    let found = PLACES.iter().find(|(_, file)| folder.contains(file)).map_or(".", |(dir, _)| dir);
    let dir = site.and_then(|site| site.dir.as_deref()).unwrap_or(found);
    let spa = site.is_some_and(|site| site.spa).then_some("--spa");
    Command::exec(["workspace", "static", dir].into_iter().chain(spa))
}
