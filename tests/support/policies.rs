//! The policies of `docs/permissions.md`, as they stand there.

#![allow(dead_code, reason = "no test file uses everything")]

/// The policy below a heading, for a bucket and a workspace.
pub fn policy(role: &str, bucket: &str, name: &str) -> String {
    let page = include_str!("../../docs/permissions.md");
    let (_, section) = page.split_once(&format!("\n## {role}\n")).expect("a heading of that role");
    let (_, block) = section.split_once("\n```json\n").expect("a policy below it");
    let (text, _) = block.split_once("\n```\n").expect("the end of the policy");
    let text = text.replace("BUCKET", bucket).replace("NAME", name);
    let policy: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    policy.to_string()
}
