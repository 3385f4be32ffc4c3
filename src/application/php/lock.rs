//! `composer.lock`: whether it was made from this `composer.json`, by the hash that Composer itself compares.

use std::collections::BTreeSet;

use md5::{Digest, Md5};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::application::ApplicationError;
use crate::application::folder::Folder;
use crate::application::foreign_json::{hex, push_text};

/// What of `composer.json` counts, beside `config.platform`.
const KEYS: [&str; 11] = [
    "name",
    "version",
    "require",
    "require-dev",
    "conflict",
    "replace",
    "provide",
    "minimum-stability",
    "prefer-stable",
    "repositories",
    "extra",
];

/// A lock file.
pub(super) struct Lock {
    hash: String,
    content: Value,
}

impl Lock {
    /// One that isn't valid is named and treated as absent.
    pub(super) fn read(folder: &Folder<'_>, warnings: &mut Vec<String>) -> Result<Option<Self>, ApplicationError> {
        let Some(text) = folder.text("composer.lock")? else { return Ok(None) };
        match serde_json::from_str::<Value>(&text) {
            Ok(content) => {
                let hash = content.get("content-hash").and_then(Value::as_str).unwrap_or_default().to_owned();
                Ok(Some(Self { hash, content }))
            }
            Err(error) => {
                warnings
                    .push(format!("`{}` can't be understood and is not used: {error}", folder.path("composer.lock")));
                Ok(None)
            }
        }
    }

    /// Whether it was made from a `composer.json`. Locks of Composer 1.2 and before don't say.
    pub(super) fn fits(&self, manifest: &str) -> bool {
        self.hash.is_empty() || content_hash(manifest).is_none_or(|hash| hash == self.hash)
    }

    /// What the manifest requires and the lock doesn't have: with that, `composer install` would refuse.
    pub(super) fn missing(&self, manifest: &Value) -> Option<String> {
        let of = |package: &Value, key: &str| -> Vec<String> {
            let names = package.get(key).and_then(Value::as_object).into_iter().flatten();
            names.map(|(name, _)| name.to_lowercase()).collect()
        };
        let mut locked: BTreeSet<String> = BTreeSet::new();
        for package in self.packages() {
            locked.extend(package.get("name").and_then(Value::as_str).map(str::to_lowercase));
            locked.extend(of(package, "provide"));
            locked.extend(of(package, "replace"));
        }
        // `php`, `ext-gd`, `composer-runtime-api` are the platform's.
        let wanted = of(manifest, "require").into_iter().filter(|name| name.contains('/'));
        let missing: Vec<String> =
            wanted.filter(|name| !locked.contains(name)).map(|name| format!("`{name}` is missing")).collect();
        (!missing.is_empty()).then(|| missing.join(", "))
    }

    /// The extensions that locked packages ask for.
    pub(super) fn extensions(&self) -> impl Iterator<Item = String> + '_ {
        self.packages().flat_map(extensions)
    }

    fn packages(&self) -> impl Iterator<Item = &Value> {
        self.content.get("packages").and_then(Value::as_array).into_iter().flatten()
    }
}

/// The extensions that a package requires, without `ext-`.
pub(super) fn extensions(package: &Value) -> impl Iterator<Item = String> + '_ {
    let required = package.get("require").and_then(Value::as_object).into_iter().flatten();
    required.filter_map(|(name, _)| Some(name.to_lowercase().strip_prefix("ext-")?.to_owned()))
}

/// See `Locker::getContentHash` in <https://github.com/composer/composer/blob/main/src/Composer/Package/Locker.php>.
/// `None` for what isn't a JSON object.
fn content_hash(manifest: &str) -> Option<String> {
    let Ordered::Map(entries) = serde_json::from_str(manifest).ok()? else { return None };
    let mut relevant: Vec<(String, Ordered)> = Vec::new();
    for (key, value) in entries {
        if KEYS.contains(&key.as_str()) {
            relevant.push((key, value));
        } else if let ("config", Ordered::Map(config)) = (key.as_str(), value) {
            let platform: Vec<_> = config.into_iter().filter(|(key, _)| key == "platform").collect();
            if !platform.is_empty() {
                relevant.push((key, Ordered::Map(platform)));
            }
        }
    }
    relevant.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut text = String::new();
    Ordered::Map(relevant).encode(&mut text);
    Some(hex(Md5::digest(text.as_bytes())))
}

/// JSON whose objects keep their order, as PHP's arrays do.
#[derive(Debug)]
enum Ordered {
    Leaf(Value),
    List(Vec<Ordered>),
    Map(Vec<(String, Ordered)>),
}

impl Ordered {
    /// As PHP's `json_encode` writes it, without any of its options.
    fn encode(&self, out: &mut String) {
        match self {
            Self::Leaf(Value::String(text)) => encode_text(text, out),
            Self::Leaf(other) => out.push_str(&other.to_string()),
            Self::List(items) => encode_list(items.iter(), out),
            // To PHP an object whose keys count from 0 is a list.
            Self::Map(entries) if entries.iter().enumerate().all(|(at, (key, _))| *key == at.to_string()) => {
                encode_list(entries.iter().map(|(_, value)| value), out);
            }
            Self::Map(entries) => {
                out.push('{');
                for (at, (key, value)) in entries.iter().enumerate() {
                    out.push_str(if at == 0 { "" } else { "," });
                    encode_text(key, out);
                    out.push(':');
                    value.encode(out);
                }
                out.push('}');
            }
        }
    }
}

fn encode_list<'a>(items: impl Iterator<Item = &'a Ordered>, out: &mut String) {
    out.push('[');
    for (at, item) in items.enumerate() {
        out.push_str(if at == 0 { "" } else { "," });
        item.encode(out);
    }
    out.push(']');
}

fn encode_text(text: &str, out: &mut String) {
    let mut plain = String::new();
    push_text(text, &mut plain);
    out.push_str(&plain.replace('/', "\\/"));
}

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OrderedVisitor)
    }
}

struct OrderedVisitor;

impl<'de> Visitor<'de> for OrderedVisitor {
    type Value = Ordered;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("JSON")
    }
    fn visit_bool<E>(self, value: bool) -> Result<Ordered, E> {
        Ok(Ordered::Leaf(Value::from(value)))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Ordered, E> {
        Ok(Ordered::Leaf(Value::from(value)))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Ordered, E> {
        Ok(Ordered::Leaf(Value::from(value)))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Ordered, E> {
        Ok(Ordered::Leaf(Value::from(value)))
    }
    fn visit_str<E>(self, value: &str) -> Result<Ordered, E> {
        Ok(Ordered::Leaf(Value::from(value)))
    }
    fn visit_unit<E>(self) -> Result<Ordered, E> {
        Ok(Ordered::Leaf(Value::Null))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Ordered, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Ordered::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Ordered, A::Error> {
        let mut entries: Vec<(String, Ordered)> = Vec::new();
        while let Some((key, value)) = access.next_entry::<String, Ordered>()? {
            // To PHP the last one wins, at the place of the first.
            match entries.iter_mut().find(|(known, _)| *known == key) {
                Some(entry) => entry.1 = value,
                None => entries.push((key, value)),
            }
        }
        Ok(Ordered::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hashed_is_what_php_would_encode() {
        let manifest = r#"{"type":"project","require":{"php":">=8.1","a/b":"^1"},"name":"x/ü","extra":{},
            "config":{"sort-packages":true,"platform":{"php":"8.2.0"}}}"#;
        let expected = r#"{"config":{"platform":{"php":"8.2.0"}},"extra":[],"name":"x\/\u00fc","require":{"php":">=8.1","a\/b":"^1"}}"#;
        assert_eq!(content_hash(manifest), Some(hex(Md5::digest(expected.as_bytes()))));
    }
}
