//! The trees that are sent, cut out of a real one: the Linux source as Debian packs it.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

/// A tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TreeName {
    /// Some 800 files, 15 MB.
    Small,
    /// Some 12,000 files, 110 MB.
    Medium,
    /// All of Linux: 79,000 files, 1.3 GB; a git work tree.
    Linux,
    /// One file of 1 GiB that nothing compresses.
    Random,
    /// One file of 1 GiB of source text.
    Text,
    /// 50,000 files of 200 bytes.
    Tiny,
}

/// Parts of Linux that make the smaller trees.
const SMALL: &[&str] = &["kernel", "security"];
const MEDIUM: &[&str] = &["Documentation", "fs", "kernel", "security", "crypto", "mm", "block"];
const GIB: u64 = 1 << 30;

impl TreeName {
    /// Each.
    pub const ALL: [Self; 6] = [Self::Small, Self::Medium, Self::Linux, Self::Random, Self::Text, Self::Tiny];

    /// Whether it is one large file.
    pub fn is_one_file(self) -> bool {
        matches!(self, Self::Random | Self::Text)
    }
}

impl fmt::Display for TreeName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Small => "small",
            Self::Medium => "medium",
            Self::Linux => "linux",
            Self::Random => "random-1GiB",
            Self::Text => "text-1GiB",
            Self::Tiny => "tiny-50000",
        })
    }
}

impl FromStr for TreeName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|tree| tree.to_string() == name).ok_or_else(|| {
            format!("no tree `{name}`: there are {}", Self::ALL.map(|tree| format!("`{tree}`")).join(", "))
        })
    }
}

/// A tree on disk that may be changed.
pub struct Tree {
    /// Its folder.
    pub folder: PathBuf,
    /// Its files, sorted.
    pub files: Vec<PathBuf>,
    /// Bytes in them.
    pub bytes: u64,
}

impl Tree {
    /// Makes it anew in a folder that isn't there yet. `cache` has the Linux source in `linux`.
    pub fn make(name: TreeName, cache: &Path, folder: &Path) -> Self {
        let linux = cache.join("linux");
        assert!(linux.join("kernel").is_dir(), "{} is missing: scripts/bench brings it", linux.display());
        fs::create_dir_all(folder).unwrap();
        match name {
            TreeName::Small => copy(&linux, SMALL, folder),
            TreeName::Medium => copy(&linux, MEDIUM, folder),
            TreeName::Linux => {
                copy(&linux, &["."], folder);
                // The only private key in it, which no upload takes: what is fetched is compared with the tree.
                fs::remove_file(folder.join("tools/testing/selftests/sgx/sign_key.pem")).unwrap();
                // Debian has added rules by which git passes over everything that is not tracked without looking for it.
                let rules = fs::read_to_string(folder.join(".gitignore")).unwrap();
                let upstream = rules.split("#\n# Debian packaging").next().unwrap();
                fs::write(folder.join(".gitignore"), upstream).unwrap();
                commit(folder);
            }
            TreeName::Random => random(&folder.join("random.bin")),
            TreeName::Text => text(&linux, &folder.join("text.txt")),
            TreeName::Tiny => tiny(&linux, folder),
        }
        let mut files = Vec::new();
        list(folder, &mut files);
        files.sort();
        let bytes = files.iter().map(|file| file.symlink_metadata().unwrap().len()).sum();
        Self { folder: folder.to_owned(), files, bytes }
    }

    /// Appends a line to one file, another one each time; changes a hundred bytes in the middle of a large one.
    pub fn change_one(&self, round: usize) {
        let file = &self.files[(round * 7_919 + 13) % self.files.len()];
        if file.metadata().unwrap().len() < 64 << 20 {
            return append(file, round);
        }
        let mut file = File::options().write(true).open(file).unwrap();
        file.seek(SeekFrom::Start(GIB / 2 + round as u64 * 5_000_000)).unwrap();
        file.write_all(format!("{:<100}", format!("changed in round {round}")).as_bytes()).unwrap();
    }

    /// Appends a line to each hundredth file, others each time.
    pub fn change_one_percent(&self, round: usize) {
        self.files.iter().skip(round % 100).step_by(100).for_each(|file| append(file, round));
    }

    /// Puts a byte in front of the first file.
    pub fn insert_front(&self) {
        let file = &self.files[0];
        let new = file.with_extension("new");
        let mut writer = File::create(&new).unwrap();
        writer.write_all(b"+").unwrap();
        io::copy(&mut File::open(file).unwrap(), &mut writer).unwrap();
        fs::rename(new, file).unwrap();
    }
}

fn append(file: &Path, round: usize) {
    // Links are followed to what they lead to in the tree; those that lead nowhere stay as they are.
    if let Ok(mut file) = File::options().append(true).open(file) {
        writeln!(file, "changed in round {round}").unwrap();
    }
}

/// Every file and link beneath a folder, but for git's own.
fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            list(&entry.path(), files);
        } else if entry.file_type().unwrap().is_file() && entry.file_name() != ".git" {
            files.push(entry.path());
        }
    }
}

fn must(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn copy(linux: &Path, parts: &[&str], folder: &Path) {
    must(Command::new("cp").arg("-a").args(parts.iter().map(|part| linux.join(part))).arg(folder));
}

/// Makes it a git work tree whose repository lies beside it, so that tools which know nothing of git don't send it.
fn commit(folder: &Path) {
    let git = |arguments: &[&str]| {
        must(
            Command::new("git")
                .args(["-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "gc.auto=0"])
                .args(["-c", "core.looseCompression=0", "-C"])
                .arg(folder)
                .args(arguments),
        );
    };
    let repository = folder.with_extension("git");
    git(&["init", "--quiet", "--separate-git-dir", repository.to_str().unwrap()]);
    git(&["add", "--all", "--force"]);
    git(&["commit", "--quiet", "--message", "linux"]);
}

fn random(file: &Path) {
    let mut random = fastrand::Rng::with_seed(1);
    let mut writer = BufWriter::with_capacity(1 << 20, File::create(file).unwrap());
    for _ in 0..GIB / 8 {
        writer.write_all(&random.u64(..).to_le_bytes()).unwrap();
    }
    writer.flush().unwrap();
}

/// The Linux source, file after file.
fn text(linux: &Path, file: &Path) {
    let mut sources = Vec::new();
    list(linux, &mut sources);
    sources.sort();
    let mut writer = BufWriter::with_capacity(1 << 20, File::create(file).unwrap());
    let mut left = GIB;
    for source in sources {
        left -= io::copy(&mut File::open(source).unwrap().take(left), &mut writer).unwrap();
    }
    assert_eq!(left, 0, "the Linux source is smaller than 1 GiB");
    writer.flush().unwrap();
}

/// 200 bytes each of one long text, 100 files a folder.
fn tiny(linux: &Path, folder: &Path) {
    let mut sources = Vec::new();
    list(&linux.join("kernel"), &mut sources);
    sources.sort();
    let text: Vec<u8> = sources.iter().flat_map(|source| fs::read(source).unwrap()).collect();
    for (number, content) in text.chunks_exact(200).take(50_000).enumerate() {
        let folder = folder.join(format!("{:03}", number / 100));
        if number % 100 == 0 {
            fs::create_dir(&folder).unwrap();
        }
        fs::write(folder.join(format!("{number}.c")), content).unwrap();
    }
}
