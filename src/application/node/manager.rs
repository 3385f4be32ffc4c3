//! Who installs a Node app's dependencies: npm, pnpm, Yarn in its two kinds, Bun; and how each is called.
//!
//! The image has Node and npm. Every other manager is installed by npm first, in the version that the tree asks for, into
//! a folder of the run's own; that folder is on `PATH` from then on, because scripts call their manager by name.

use super::package::Package;
use crate::application::folder::Folder;
use crate::application::{ApplicationError, Command, Plan};

/// Where managers that the image doesn't have are installed, from the tree's root. Below the folder that is ours in every
/// tree: it outlives restarts of the container, as what was installed does, and no version ever has it.
const TOOLS: &str = ".workspace/tools";

/// Flags of every npm installation: no audit and no funding notes, which each cost a request.
const NPM_FLAGS: [&str; 3] = ["--prefer-offline", "--no-audit", "--no-fund"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Npm,
    Pnpm,
    /// Yarn 1.
    Yarn,
    /// Yarn 2 and later.
    Berry,
    Bun,
}

/// The lock files of each, in the order in which they are believed.
const LOCKS: [(Kind, &[&str]); 4] = [
    (Kind::Npm, &["npm-shrinkwrap.json", "package-lock.json"]),
    (Kind::Pnpm, &["pnpm-lock.yaml"]),
    (Kind::Yarn, &["yarn.lock"]),
    (Kind::Bun, &["bun.lock", "bun.lockb"]),
];

impl Kind {
    /// The name by which people and volumes know it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Npm => "npm",
            Self::Pnpm => "pnpm",
            Self::Yarn | Self::Berry => "yarn",
            Self::Bun => "bun",
        }
    }

    /// Its lock files.
    pub(super) fn locks(self) -> &'static [&'static str] {
        let kind = if self == Self::Berry { Self::Yarn } else { self };
        LOCKS.iter().find(|(known, _)| *known == kind).map_or(&[], |(_, files)| files)
    }

    /// Files beside manifest and lock file that its installation reads.
    fn settings(self) -> &'static [&'static str] {
        match self {
            Self::Npm => &[".npmrc"],
            Self::Pnpm => &[".npmrc", "pnpm-workspace.yaml", ".pnpmfile.cjs"],
            Self::Yarn => &[".npmrc", ".yarnrc"],
            Self::Berry => &[".yarnrc.yml", ".yarn/"],
            Self::Bun => &[".npmrc", "bunfig.toml"],
        }
    }

    /// Whether it runs `prestart` before `start`: Yarn 2 and later don't.
    pub(super) fn runs_hooks(self) -> bool {
        self != Self::Berry
    }
}

/// The manager of a tree.
#[derive(Debug)]
pub(super) struct Manager {
    pub(super) kind: Kind,
    /// The folder in which it installs, as [`Plan::dir`] has it.
    dir: Option<String>,
    way_to_root: String,
    /// The lock file, if there is one.
    pub(super) lock: Option<&'static str>,
    /// Why it is this one.
    pub(super) because: String,
    tool: Tool,
    /// Yarn 2 and later: packages stay in archives, and only `yarn` knows how to run with them.
    pub(super) plug_and_play: bool,
    /// A `.npmrc` that may name another registry.
    has_npmrc: bool,
}

/// Where the program comes from.
#[derive(Debug, PartialEq, Eq)]
enum Tool {
    /// The image has it.
    Image,
    /// npm installs it.
    Package(String),
    /// It lies in the tree.
    File(String),
}

/// The nearest folder, upwards from `folder`, that has a lock file or names the packages of a monorepo.
pub(super) fn root_of<'a>(folder: &Folder<'a>) -> Result<Option<Folder<'a>>, ApplicationError> {
    let is_root = |folder: &Folder<'_>| {
        folder.contains("pnpm-workspace.yaml")
            || LOCKS.iter().any(|(_, files)| files.iter().any(|file| folder.contains(file)))
    };
    if is_root(folder) {
        return Ok(None);
    }
    let mut above = folder.parent();
    while let Some(candidate) = above {
        // A monorepo without a lock file is one, too: elsewhere, its packages would be asked of the registry.
        let text = candidate.text("package.json")?;
        let package = text.map(|text| serde_json::from_str::<Package>(&text).unwrap_or_default());
        if package.is_some_and(|package| is_root(&candidate) || !package.workspaces.is_null()) {
            return Ok(Some(candidate));
        }
        above = candidate.parent();
    }
    Ok(None)
}

impl Manager {
    /// The manager of `folder`, where its lock file lies.
    pub(super) fn of(
        folder: &Folder<'_>,
        package: &Package,
        warnings: &mut Vec<String>,
    ) -> Result<Self, ApplicationError> {
        let asked = package.package_manager.as_str().and_then(|text| {
            let (name, version) = text.split_once('@').unwrap_or((text, ""));
            // What follows `+` is a hash of the archive, which npm has its own way to verify.
            Some((name, version.split('+').next()?))
        });
        let found: Vec<(Kind, &'static str)> =
            LOCKS.iter().filter_map(|(kind, files)| Some((*kind, folder.first_of(files)?))).collect();
        let asked_kind = asked.and_then(|(name, version)| match name {
            "npm" => Some(Kind::Npm),
            "pnpm" => Some(Kind::Pnpm),
            "yarn" if version.starts_with("1.") || version == "1" => Some(Kind::Yarn),
            "yarn" => Some(Kind::Berry),
            "bun" => Some(Kind::Bun),
            _ => None,
        });
        let (kind, because) = match (asked_kind, &found[..]) {
            (Some(kind), _) => (kind, "packageManager in package.json".to_owned()),
            (None, [(kind, file), others @ ..]) => {
                if let [(other, other_file), ..] = others {
                    warnings.push(format!(
                        "both `{file}` and `{other_file}` are there: {} is used, not {}; remove one of them or set \
                         `packageManager` in package.json",
                        kind.name(),
                        other.name()
                    ));
                }
                (*kind, (*file).to_owned())
            }
            (None, []) if folder.contains(".yarnrc.yml") => (Kind::Berry, ".yarnrc.yml".to_owned()),
            (None, []) if folder.contains("pnpm-workspace.yaml") => (Kind::Pnpm, "pnpm-workspace.yaml".to_owned()),
            (None, []) => (Kind::Npm, "no lock file".to_owned()),
        };
        let lock = folder.first_of(kind.locks());
        let lock_text = |kind| match lock {
            Some(lock) if kind != Kind::Bun => folder.text(lock),
            _ => Ok(None),
        };
        let text = lock_text(kind)?.unwrap_or_default();
        let kind = match kind {
            Kind::Yarn
                if asked_kind.is_none() && (folder.contains(".yarnrc.yml") || text.contains("\n__metadata:")) =>
            {
                Kind::Berry
            }
            kind => kind,
        };
        let settings = if kind == Kind::Berry { YarnSettings::read(folder)? } else { YarnSettings::default() };
        let version =
            asked.filter(|_| asked_kind.is_some()).map(|(_, version)| version).filter(|text| !text.is_empty());
        let version = version.or_else(|| package.engines.get(kind.name()).filter(|text| is_exact(text)));
        let tool = match (kind, settings.path) {
            (Kind::Npm, _) => Tool::Image,
            (Kind::Berry, Some(path)) if folder.contains(&path) => Tool::File(path),
            (kind, _) => Tool::Package(package_of(kind, version, &text, folder)?),
        };
        Ok(Self {
            kind,
            dir: folder.dir().map(str::to_owned),
            way_to_root: folder.way_to_root(),
            lock,
            because,
            tool,
            plug_and_play: kind == Kind::Berry && settings.plug_and_play,
            has_npmrc: folder.contains(".npmrc"),
        })
    }

    /// Lets a plan install with it. `frozen`: exactly what the lock file says. `development`: what only development needs,
    /// too.
    pub(super) fn install(&self, plan: &mut Plan, frozen: bool, development: bool) {
        let tools = format!("{}{TOOLS}", self.way_to_root);
        match &self.tool {
            Tool::Image => {}
            Tool::Package(package) => {
                let mut words = vec!["npm", "install", "--prefix", &tools, "--no-save"];
                words.extend(NPM_FLAGS);
                if self.has_npmrc {
                    words.extend(["--userconfig", ".npmrc"]);
                }
                words.push(package);
                plan.install.push(Command::exec(words));
            }
            // A file of the tree may lack the executable bit.
            Tool::File(path) => plan.install.push(Command::Shell(format!(
                "mkdir -p {tools}/node_modules/.bin && printf '#!/bin/sh\\nexec node \"%s/{path}\" \"$@\"\\n' \"$PWD\" > \
                 {tools}/node_modules/.bin/yarn && chmod 755 {tools}/node_modules/.bin/yarn"
            ))),
        }
        if self.tool != Tool::Image {
            plan.path.push(format!("{TOOLS}/node_modules/.bin"));
        }
        let flag = |yes: bool, flag, other| if yes { flag } else { other };
        let words: Vec<&str> = match self.kind {
            Kind::Npm => ["npm", flag(frozen, "ci", "install")].into_iter().chain(NPM_FLAGS).collect(),
            Kind::Pnpm => vec![
                "pnpm",
                "install",
                flag(frozen, "--frozen-lockfile", "--no-frozen-lockfile"),
                "--prefer-offline",
                flag(development, "--prod=false", "--prod"),
            ],
            Kind::Yarn => {
                let mut words = vec!["yarn", "install"];
                words.extend(frozen.then_some("--frozen-lockfile"));
                words.extend(["--prefer-offline", "--non-interactive"]);
                words.push(flag(development, "--production=false", "--production"));
                words
            }
            Kind::Berry => vec!["yarn", "install", flag(frozen, "--immutable", "--no-immutable")],
            Kind::Bun => {
                let mut words = vec!["bun", "install"];
                words.extend(frozen.then_some("--frozen-lockfile"));
                words.extend((!development).then_some("--production"));
                words
            }
        };
        plan.install.push(Command::exec(words));
        match self.kind {
            Kind::Npm => {
                let variable = flag(development, "npm_config_include", "npm_config_omit");
                plan.install_environment.insert(variable.to_owned(), "dev".to_owned());
            }
            Kind::Berry => {
                plan.install_environment.insert("YARN_ENABLE_TELEMETRY".to_owned(), "0".to_owned());
            }
            _ => {}
        }
        if self.dir != plan.dir {
            plan.install_dir = Some(self.dir.clone().unwrap_or_else(|| ".".to_owned()));
            plan.because("install_dir", "that is where the lock file is");
        }
    }

    /// The files that an installation in `folder` reads.
    pub(super) fn inputs(&self, folder: &Folder<'_>, package: &Package) -> Vec<String> {
        if package.reads_tree() || self.kind == Kind::Pnpm && folder.contains("pnpm-workspace.yaml") {
            return vec![folder.whole()];
        }
        let is_there = |file: &&str| {
            if file.ends_with('/') { folder.has_folder(file.trim_end_matches('/')) } else { folder.contains(file) }
        };
        ["package.json"]
            .into_iter()
            .chain(self.lock)
            .chain(self.kind.settings().iter().copied())
            .chain(["patches/"])
            .filter(is_there)
            .map(|file| folder.path(file))
            .collect()
    }
}

/// What npm is to install, where the tree names no exact version: the newest that reads the lock file as it is.
fn package_of(kind: Kind, version: Option<&str>, lock: &str, folder: &Folder<'_>) -> Result<String, ApplicationError> {
    let version = match (kind, version) {
        (_, Some(version)) => version.to_owned(),
        (Kind::Pnpm, None) => pnpm_of(lock, folder)?.to_owned(),
        (Kind::Berry, None) => match metadata_version(lock) {
            Some(..=4) => "2",
            Some(5 | 6) => "3",
            _ => "4",
        }
        .to_owned(),
        (Kind::Npm | Kind::Yarn | Kind::Bun, None) => "1".to_owned(),
    };
    let package = if kind == Kind::Berry { "@yarnpkg/cli-dist" } else { kind.name() };
    Ok(format!("{package}@{version}"))
}

/// See <https://pnpm.io/installation>: each format of the lock file belongs to a major.
fn pnpm_of(lock: &str, folder: &Folder<'_>) -> Result<&'static str, ApplicationError> {
    let format = lock.lines().find_map(|line| line.strip_prefix("lockfileVersion:"));
    Ok(match format.map(|format| format.trim().trim_matches(['\'', '"'])) {
        Some(format) if format.starts_with("5.") => "7",
        Some(format) if format.starts_with("6.") => "8",
        // Versions 9 and 10 write the same. 9 runs the scripts of every dependency, as npm does; settings in
        // pnpm-workspace.yaml are known to 10 only.
        Some(_) => {
            let settings = folder.text("pnpm-workspace.yaml")?.unwrap_or_default();
            let is_setting = |line: &str| {
                line.contains(':')
                    && !line.starts_with([' ', '#', '-'])
                    && !["packages:", "catalog:", "catalogs:"].iter().any(|key| line.starts_with(key))
            };
            if settings.lines().any(is_setting) { "10" } else { "9" }
        }
        None => "10",
    })
}

/// Yarn 4 writes 8, Yarn 3 writes 5 and 6, Yarn 2 writes 4.
fn metadata_version(lock: &str) -> Option<u32> {
    let metadata = lock.split("\n__metadata:").nth(1)?;
    metadata.lines().find_map(|line| line.trim().strip_prefix("version:")?.trim().parse().ok())
}

/// `9.12.0`: nothing that leaves a choice.
fn is_exact(version: &str) -> bool {
    version.split('.').count() == 3 && version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// What `.yarnrc.yml` says.
#[derive(Debug, Default)]
struct YarnSettings {
    path: Option<String>,
    plug_and_play: bool,
}

impl YarnSettings {
    fn read(folder: &Folder<'_>) -> Result<Self, ApplicationError> {
        let text = folder.text(".yarnrc.yml")?.unwrap_or_default();
        let value: serde_yaml::Value = serde_yaml::from_str(&text).unwrap_or_default();
        let setting = |key: &str| value.get(key).and_then(serde_yaml::Value::as_str);
        Ok(Self {
            path: setting("yarnPath").map(|path| path.trim_start_matches("./").to_owned()),
            plug_and_play: setting("nodeLinker").is_none_or(|linker| linker == "pnp"),
        })
    }
}
