//! Paths in their order, and something of each.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A map from paths.
///
/// What comes in order is held as one text and one list: a hundred thousand paths cost no memory of their own for each, and
/// are read as fast as their bytes. Kept as a map.
#[derive(Debug, Clone)]
pub struct PathMap<T> {
    /// The paths of what came in order, one after the other.
    text: String,
    /// Where each path lies in the text, and what is kept of it.
    ordered: Vec<(Range<usize>, T)>,
    /// What came in whatever order. It counts first.
    others: BTreeMap<String, T>,
}

impl<T> Default for PathMap<T> {
    fn default() -> Self {
        Self { text: String::new(), ordered: Vec::new(), others: BTreeMap::new() }
    }
}

impl<T> PathMap<T> {
    /// What is kept of a path.
    pub fn get(&self, path: &str) -> Option<&T> {
        self.get_at(self.ordered.partition_point(|(range, _)| &self.text[range.clone()] < path), path)
    }

    /// The same, where it is known which of the ordered paths is the first that doesn't come before this one.
    fn get_at(&self, at: usize, path: &str) -> Option<&T> {
        let ordered = || self.ordered.get(at).filter(|(range, _)| &self.text[range.clone()] == path);
        if self.others.is_empty() { None } else { self.others.get(path) }.or_else(|| Some(&ordered()?.1))
    }

    /// The same for paths that are asked for in their order.
    pub fn in_order(&self) -> InOrder<'_, T> {
        InOrder { map: self, at: 0 }
    }

    /// Keeps something of a path, and nothing else of it.
    pub fn insert(&mut self, path: &str, value: T) {
        let last = self.ordered.last().map(|(range, _)| &self.text[range.clone()]);
        if last.is_none_or(|last| last < path) && self.others.is_empty() {
            let start = self.text.len();
            self.text.push_str(path);
            self.ordered.push((start..self.text.len(), value));
        } else {
            self.others.insert(path.to_owned(), value);
        }
    }

    /// How many paths there are, at most: one that was changed counts twice.
    pub fn at_most(&self) -> usize {
        self.ordered.len() + self.others.len()
    }

    /// Everything, in the order of paths.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        let mut ordered = self.ordered.iter().map(|(range, value)| (&self.text[range.clone()], value)).peekable();
        let mut others = self.others.iter().map(|(path, value)| (path.as_str(), value)).peekable();
        std::iter::from_fn(move || match (ordered.peek(), others.peek()) {
            (Some((old, _)), Some((new, _))) if old < new => ordered.next(),
            (Some((old, _)), Some((new, _))) => {
                if old == new {
                    ordered.next();
                }
                others.next()
            }
            (Some(_), None) => ordered.next(),
            (None, _) => others.next(),
        })
    }
}

impl<T: Clone> PathMap<T> {
    /// Forgets all paths but those that please. They are asked for in their order.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        let old = std::mem::take(self);
        for (path, value) in old.iter().filter(|(path, _)| keep(path)) {
            self.insert(path, value.clone());
        }
    }
}

/// See [`PathMap::in_order`].
pub struct InOrder<'m, T> {
    map: &'m PathMap<T>,
    at: usize,
}

impl<'m, T> InOrder<'m, T> {
    /// What is kept of a path. No path may come before the one asked for last: of such nothing is found.
    pub fn get(&mut self, path: &str) -> Option<&'m T> {
        let map = self.map;
        self.at += map.ordered[self.at..].iter().take_while(|(range, _)| &map.text[range.clone()] < path).count();
        map.get_at(self.at, path)
    }
}

impl<T: PartialEq> PartialEq for PathMap<T> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<T: Serialize> Serialize for PathMap<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.iter().count()))?;
        for (path, value) in self.iter() {
            map.serialize_entry(path, value)?;
        }
        map.end()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for PathMap<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = PathMap<T>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("paths and what is kept of them")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PathMap<T>, A::Error> {
                let mut paths = PathMap::default();
                // Maps that were kept in no order are still read.
                while let Some((path, value)) = map.next_entry::<&str, T>()? {
                    paths.insert(path, value);
                }
                Ok(paths)
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_later_counts_first() {
        let mut map = PathMap::default();
        for (path, value) in [("b", 1), ("a/c", 2), ("a", 3), ("z", 4)] {
            map.insert(path, value);
        }
        let bytes = postcard::to_allocvec(&map).unwrap();
        let mut read: PathMap<i32> = postcard::from_bytes(&bytes).unwrap();
        assert!(read.others.is_empty(), "what was kept in order is read without a detour");
        assert_eq!(read, map);
        read.insert("a/c", 5);
        read.insert("m", 6);
        read.retain(|path| path != "b");
        let mut in_order = read.in_order();
        for (path, value) in [("a", Some(3)), ("a/c", Some(5)), ("b", None), ("m", Some(6)), ("z", Some(4))] {
            assert_eq!(read.get(path).copied(), value, "{path}");
            assert_eq!(in_order.get(path).copied(), value, "{path}, in order");
        }
        assert_eq!(in_order.get("a"), None, "it comes before the one asked for last");
    }

    #[test]
    fn a_map_in_no_order_is_read() {
        // As older releases kept it: a map, whose order was an accident.
        let mut bytes = vec![3];
        for entry in [("b", 1), ("a", 2), ("c", 3)] {
            bytes.extend(postcard::to_allocvec(&entry).unwrap());
        }
        let map: PathMap<i32> = postcard::from_bytes(&bytes).unwrap();
        assert_eq!(map.iter().collect::<Vec<_>>(), [("a", &2), ("b", &1), ("c", &3)]);
        assert_eq!(map.get("a"), Some(&2));
    }
}
