//! Static sites.

use super::*;

#[test]
fn the_folder_with_an_index_is_served() {
    for (file, dir) in [("index.html", "."), ("public/index.html", "public"), ("dist/index.html", "dist")] {
        let found = look(&[(file, "")]);
        assert_eq!(found.warnings, Vec::<String>::new());
        assert_eq!(found.plan.unwrap().start.unwrap().to_string(), format!("workspace static {dir}"));
    }
}

#[test]
fn unknown_paths_lead_to_the_root_only_when_asked() {
    let spa = |yaml: &str| plan(&[("public/index.html", ""), ("workspace.yaml", yaml)]).start.unwrap().to_string();
    assert_eq!(spa("static: {spa: true}"), "workspace static public --spa");
    assert_eq!(spa("static: true"), "workspace static public");
    assert_eq!(spa("static: ."), "workspace static .");
}

#[test]
fn a_package_json_for_tools_alone_leaves_a_site_a_site() {
    let tools = r#"{"devDependencies":{"prettier":"3"},"scripts":{"format":"prettier ."}}"#;
    assert_eq!(plan(&[("package.json", tools), ("index.html", "")]).runtime, Runtime::Static);
    assert_eq!(plan(&[("package.json", EXPRESS), ("index.html", ""), ("server.js", "")]).runtime, Runtime::Node);
}
