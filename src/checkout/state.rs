//! What earlier checkouts wrote: `<target>/.workspace/tree`, and the journal of one that is under way.
//!
//! The journal is written and synced before the first rename, so that after a crash everything the interrupted checkout
//! may have put in place still counts as ours.

use std::borrow::Cow;
use std::io::{self, Read, Write};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::CheckoutError;
use super::spelling::Spellings;
use super::target::{PRIVATE, Target, create, open_to_read, open_to_write, remove};
use crate::cache::{Index, PathMap};
use crate::format::{Entry, FORMAT, FormatError, Hash, Kind};

const TREE: &str = "tree";
/// The next [`TREE`], until it takes its place.
const NEXT: &str = "tree.next";
const JOURNAL: &str = "journal";

/// What we put at a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Ours {
    /// A file with this content.
    File(Hash),
    /// A link with this text.
    Link(String),
    /// A folder, empty when we made it.
    Directory,
}

impl Ours {
    /// What an entry leaves behind.
    pub fn of(entry: &Entry) -> Self {
        match &entry.kind {
            Kind::File { hash, .. } => Self::File(*hash),
            Kind::Link { target } => Self::Link(target.to_string()),
            Kind::Directory => Self::Directory,
        }
    }
}

/// What counts as ours at a path: mostly one thing, several where a checkout was interrupted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Ours>", into = "Vec<Ours>")]
pub enum Put {
    /// This one.
    One(Ours),
    /// Each of these.
    Several(Vec<Ours>),
}

impl From<Vec<Ours>> for Put {
    fn from(mut all: Vec<Ours>) -> Self {
        match (all.pop(), all.is_empty()) {
            (Some(one), true) => Self::One(one),
            (last, _) => Self::Several(all.into_iter().chain(last).collect()),
        }
    }
}

impl From<Put> for Vec<Ours> {
    fn from(put: Put) -> Self {
        match put {
            Put::One(one) => vec![one],
            Put::Several(all) => all,
        }
    }
}

impl Put {
    fn has(&self, what: &Ours) -> bool {
        match self {
            Self::One(one) => one == what,
            Self::Several(all) => all.contains(what),
        }
    }

    fn and(self, what: Ours) -> Self {
        if self.has(&what) {
            return self;
        }
        let mut all = Vec::from(self);
        all.push(what);
        Self::Several(all)
    }
}

/// Everything that counts as ours.
#[derive(Debug, Default)]
pub struct State {
    /// What we put where.
    ours: PathMap<Put>,
    /// Whether a checkout was interrupted.
    interrupted: bool,
    /// Digests that need no reading.
    pub index: Index,
    /// How the paths of `ours` are spelled, in a target where that counts less; nothing where spelling is all that counts.
    pub spelled: Spellings,
}

#[derive(Serialize, Deserialize)]
struct Tree {
    ours: PathMap<Put>,
    index: Index,
}

impl State {
    /// Reads both files.
    pub fn load(target: &Target) -> Result<Self, CheckoutError> {
        let mut state = Self::default();
        if let Some(bytes) = read(target, TREE)? {
            let damaged = |source| CheckoutError::State { path: target.state_path(TREE), source };
            let (&format, rest) =
                bytes.split_first().ok_or_else(|| damaged(FormatError::Damaged("it is empty".to_owned())))?;
            if u32::from(format) > FORMAT {
                return Err(damaged(FormatError::Newer { found: format.into() }));
            }
            let tree: Tree =
                postcard::from_bytes(rest).map_err(|error| damaged(FormatError::Damaged(error.to_string())))?;
            state = Self { ours: tree.ours, index: tree.index, ..Self::default() };
        }
        if target.knows_no_case() {
            for (path, _) in state.ours.iter() {
                state.spelled.add(path);
            }
        }
        if let Some(bytes) = read(target, JOURNAL)? {
            state.interrupted = true;
            // Synced before the first rename: a torn end means that nothing of it was done.
            for line in bytes.split_inclusive(|byte| *byte == b'\n') {
                if let Ok((path, ours)) = serde_json::from_slice::<(String, Ours)>(line) {
                    if target.knows_no_case() {
                        state.spelled.add(&path);
                    }
                    // By the same name as in the tree: either content may be there.
                    let path = state.spelling(&path).into_owned();
                    let put = match state.ours.get(&path) {
                        Some(put) => put.clone().and(ours),
                        None => Put::One(ours),
                    };
                    state.ours.insert(&path, put);
                }
            }
        }
        Ok(state)
    }

    /// How we spelled the path when we put something there, as far as we did.
    pub fn spelling<'p>(&'p self, path: &'p str) -> Cow<'p, str> {
        if self.spelled.is_empty() || self.ours.get(path).is_some() {
            return path.into();
        }
        if let Some(spelled) = self.spelled.get(path) {
            return spelled.into();
        }
        match path.rsplit_once('/') {
            Some((parent, name)) => format!("{}/{name}", self.spelling(parent)).into(),
            None => path.into(),
        }
    }

    /// Whether that is what we put at the path.
    pub fn is_ours(&self, path: &str, what: &Ours) -> bool {
        self.ours.get(&self.spelling(path)).is_some_and(|put| put.has(what))
    }

    /// Whether we put anything at the path.
    pub fn knows(&self, path: &str) -> bool {
        self.ours.get(&self.spelling(path)).is_some()
    }

    /// All paths where we put something, in order.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.ours.iter().map(|(path, _)| path)
    }

    /// Whether this is all that is written down, and no more than this.
    pub fn is(&self, ours: &PathMap<Put>) -> bool {
        !self.interrupted && self.ours == *ours
    }

    /// Writes down what is about to be put in place.
    pub fn journal<'e>(target: &Target, entries: impl Iterator<Item = &'e Entry>) -> Result<(), CheckoutError> {
        let path = target.state_path(JOURNAL);
        let write = || -> io::Result<()> {
            let file = open_to_write(target.state(), JOURNAL, OFlags::APPEND)?;
            let mut out = io::BufWriter::new(&file);
            // Ends a line that a crash may have torn.
            out.write_all(b"\n")?;
            for entry in entries {
                serde_json::to_writer(&mut out, &(entry.path.as_str(), Ours::of(entry)))?;
                out.write_all(b"\n")?;
            }
            out.flush()?;
            drop(out);
            file.sync_all()?;
            Ok(rustix::fs::fsync(target.state())?)
        };
        write().map_err(CheckoutError::io("write", &path))
    }

    /// Replaces both files by what is ours now.
    pub fn save(target: &Target, ours: PathMap<Put>, index: Index) -> Result<(), CheckoutError> {
        let path = target.state_path(TREE);
        let write = || -> io::Result<()> {
            let format = u8::try_from(FORMAT).unwrap_or(u8::MAX);
            let bytes = postcard::to_extend(&Tree { ours, index }, vec![format])
                .map_err(|error| io::Error::other(error.to_string()))?;
            let mut file = create(target.state(), NEXT, PRIVATE)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            rustix::fs::renameat(target.state(), NEXT, target.state(), TREE)?;
            // On disk before the journal goes: after a power cut one of the two is there.
            rustix::fs::fsync(target.state())?;
            remove(target.state(), JOURNAL)
        };
        write().map_err(CheckoutError::io("write", &path))
    }

    /// What is ours at a path, for carrying over.
    pub fn get(&self, path: &str) -> Option<&Put> {
        self.ours.get(path)
    }
}

fn read(target: &Target, name: &str) -> Result<Option<Vec<u8>>, CheckoutError> {
    let path = target.state_path(name);
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        open_to_read(target.state(), name)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CheckoutError::io("read", path)(error)),
    }
}
