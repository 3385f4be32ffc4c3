//! Node apps that are static sites once they are built: the build tool says where.

use super::package::Package;
use crate::application::folder::Folder;
use crate::application::{Command, Plan};

/// The package that builds, what must lie in the tree for it to be a site and not a library, and where the site is then.
const BUILDERS: [(&str, &[&str], &str); 8] = [
    ("react-scripts", &["public/index.html"], "build"),
    ("@vue/cli-service", &["public/index.html"], "dist"),
    ("gatsby", &["gatsby-config.js", "gatsby-config.ts", "gatsby-config.mjs"], "public"),
    ("@docusaurus/core", &["docusaurus.config.js", "docusaurus.config.ts"], "build"),
    ("vitepress", &[".vitepress/config.js", ".vitepress/config.ts", ".vitepress/config.mts"], ".vitepress/dist"),
    ("@11ty/eleventy", &["eleventy.config.js", ".eleventy.js", "eleventy.config.mjs", "eleventy.config.cjs"], "_site"),
    // Behind those that are built on it.
    ("parcel", &["index.html", "src/index.html"], "dist"),
    ("vite", &["index.html"], "dist"),
];

/// Starts serving what the build script makes, where that is known.
pub(super) fn start(folder: &Folder<'_>, package: &Package, plan: &mut Plan) {
    if plan.build.is_empty() {
        return;
    }
    let is_it =
        |(name, signs, _): &&(&str, &[&str], &str)| package.depends_on(name) && folder.first_of(signs).is_some();
    if let Some((name, _, dir)) = BUILDERS.iter().find(is_it) {
        plan.start = Some(Command::exec(["workspace", "static", dir]));
        plan.because("start", format!("{name} builds a static site into {dir}/"));
    }
}
