//! The list of a collection in progress: `data/<name>/<root>/gc/<ulid>.json`.

use serde::{Deserialize, Serialize};

/// What a collection is about to delete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// Format number.
    pub format: u32,
    /// Keys of objects.
    pub keys: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let list = List { format: 1, keys: vec!["data/a/R/packs/P.tar.zst".into()] };
        insta::assert_snapshot!(serde_json::to_string(&list).unwrap(), @r#"{"format":1,"keys":["data/a/R/packs/P.tar.zst"]}"#);
    }
}
