//! What install, build and start find in their environment: what the container was given, without our own settings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::application::Plan;
use crate::environment::{Environment, WORKSPACE_CA_BUNDLE, is_ours};

/// Variables by which programs are told about certificate authorities and that replace the system's list, so they need
/// the whole of it.
const BUNDLE_VARIABLES: [&str; 7] = [
    // OpenSSL, and with it Python, PHP and Ruby; uv.
    "SSL_CERT_FILE",
    "PIP_CERT",
    // Poetry, Pipenv, and whatever else is built on Python's requests.
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "COMPOSER_CAFILE",
    "GIT_SSL_CAINFO",
    // Yarn from 3.2 on.
    "YARN_HTTPS_CA_FILE_PATH",
];

/// Variables by which package managers are told where to keep what they fetched, and the folder of each below that of all.
const CACHE_VARIABLES: [(&str, &str); 8] = [
    ("npm_config_cache", "npm"),
    ("YARN_GLOBAL_FOLDER", "yarn-berry"),
    ("BUN_INSTALL_CACHE_DIR", "bun"),
    ("PIP_CACHE_DIR", "pip"),
    ("UV_CACHE_DIR", "uv"),
    ("POETRY_CACHE_DIR", "poetry"),
    ("COMPOSER_CACHE_DIR", "composer"),
    // Yarn 1, Pipenv, node-gyp, and the rest of those who keep to the rules of XDG.
    ("XDG_CACHE_HOME", ""),
];

/// The same for pnpm. Where it isn't used, npm would warn of a setting that it doesn't know.
const PNPM_CACHE: (&str, &str) = ("npm_config_store_dir", "pnpm");

/// Questions that nobody is there to answer: Composer's, and pnpm's.
const ANSWER: (&str, &str) = ("COMPOSER_NO_INTERACTION", "1");
const PNPM_ANSWER: (&str, &str) = ("npm_config_confirm_modules_purge", "false");

/// Where Debian, Alpine and Red Hat keep the system's authorities.
const SYSTEM_BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/cert.pem", "/etc/pki/tls/certs/ca-bundle.crt"];

/// The environments of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ChildEnvironment {
    /// For the application.
    pub(super) start: BTreeMap<String, String>,
    /// For install and build.
    pub(super) install: BTreeMap<String, String>,
    /// What the application is to listen on.
    pub(super) port: u16,
}

impl ChildEnvironment {
    /// `root` is where the tree is, `bundle` the file of authorities to trust, `cache` a folder for package managers.
    pub(super) fn new(
        environment: &Environment,
        plan: &Plan,
        root: &Path,
        bundle: Option<&Bundle>,
        cache: Option<&Path>,
    ) -> Self {
        let mut start: BTreeMap<String, String> = plan.environment.clone();
        if let Some(bundle) = bundle {
            let whole = bundle.whole.to_string_lossy().into_owned();
            start.extend(BUNDLE_VARIABLES.iter().map(|name| ((*name).to_owned(), whole.clone())));
            // What runs on Node adds this one to what it trusts already.
            start.insert("NODE_EXTRA_CA_CERTS".to_owned(), bundle.extra.to_string_lossy().into_owned());
        }
        start.insert("HOST".to_owned(), "0.0.0.0".to_owned());
        // What the container was given wins over the plan's defaults.
        let given = environment.iter().filter(|(name, _)| !is_ours(name));
        start.extend(given.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let port = start.get("PORT").and_then(|port| port.parse().ok()).filter(|port| *port > 0).unwrap_or(plan.port);
        start.insert("PORT".to_owned(), port.to_string());
        if let Some(venv) = plan.path.iter().find_map(|folder| folder.strip_suffix("/bin")).filter(|_| is_python(plan))
        {
            start.insert("VIRTUAL_ENV".to_owned(), root.join(venv).display().to_string());
        }
        start.insert("PATH".to_owned(), path(plan, root, start.get("PATH")));
        let is_pnpm = plan.package_manager.as_deref() == Some("pnpm");
        let answers = [ANSWER].into_iter().chain(is_pnpm.then_some(PNPM_ANSWER));
        let mut install: BTreeMap<String, String> =
            answers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        if let Some(cache) = cache {
            let folders = CACHE_VARIABLES.into_iter().chain(is_pnpm.then_some(PNPM_CACHE));
            install.extend(folders.map(|(name, folder)| (name.to_owned(), cache.join(folder).display().to_string())));
        }
        install.extend(start.clone());
        install.extend(plan.install_environment.clone());
        Self { start, install, port }
    }
}

fn is_python(plan: &Plan) -> bool {
    plan.runtime == crate::application::Runtime::Python
}

/// Where programs are looked for: what the plan names, then what Node's packages bring to the folder and to those above it,
/// then the image's own.
fn path(plan: &Plan, root: &Path, given: Option<&String>) -> String {
    let mut folders: Vec<PathBuf> = plan.path.iter().map(|folder| root.join(folder)).collect();
    let dir = PathBuf::from(plan.dir.as_deref().unwrap_or_default());
    folders.extend(dir.ancestors().map(|dir| root.join(dir).join("node_modules/.bin")));
    let given = given.map_or("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", |path| path);
    let folders: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
    format!("{}:{given}", folders.join(":"))
}

/// The files of certificate authorities that `WORKSPACE_CA_BUNDLE` leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bundle {
    /// The file that was named.
    extra: PathBuf,
    /// The system's authorities and the named ones.
    whole: PathBuf,
}

impl Bundle {
    /// Reads the named file and writes the joined one into `state_dir`. `Err` says what to warn about.
    pub(super) fn prepare(environment: &Environment, state_dir: &Path) -> Result<Option<Self>, String> {
        let Some(extra) = environment.path(WORKSPACE_CA_BUNDLE) else {
            return Ok(None);
        };
        let problem = |error: std::io::Error| format!("{WORKSPACE_CA_BUNDLE}: `{}`: {error}", extra.display());
        let added = std::fs::read(&extra).map_err(problem)?;
        let system = SYSTEM_BUNDLES.iter().find_map(|path| std::fs::read(path).ok()).unwrap_or_default();
        let whole = state_dir.join("ca-bundle.pem");
        let joined = [system.as_slice(), b"\n", added.as_slice()].concat();
        std::fs::create_dir_all(state_dir).and_then(|()| std::fs::write(&whole, joined)).map_err(problem)?;
        Ok(Some(Self { extra, whole }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::application::Runtime;

    #[test]
    fn our_settings_stay_here_and_theirs_go_through() {
        let environment = Environment::from_pairs([
            ("S3_SECRET_KEY", "s"),
            ("AWS_SESSION_TOKEN", "s"),
            ("WORKSPACE_STATE_DIR", "/x"),
            ("STORAGE_MODE", "s3"),
            ("DATABASE_URL", "d"),
            ("NODE_ENV", "staging"),
            ("PATH", "/bin"),
        ]);
        let mut plan = Plan::new(Runtime::Node);
        plan.environment.insert("NODE_ENV".to_owned(), "production".to_owned());
        plan.install_environment.insert("npm_config_omit".to_owned(), "dev".to_owned());
        let found = ChildEnvironment::new(&environment, &plan, Path::new("/app"), None, None);
        let expected = [
            ("DATABASE_URL", "d"),
            ("HOST", "0.0.0.0"),
            ("NODE_ENV", "staging"),
            ("PATH", "/app/node_modules/.bin:/bin"),
            ("PORT", "3000"),
        ];
        assert_eq!(found.start, expected.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect());
        assert_eq!(found.install["npm_config_omit"], "dev");
    }

    #[test]
    fn programs_are_found_where_they_were_installed() {
        let mut plan = Plan::new(Runtime::Python);
        plan.dir = Some("packages/api".to_owned());
        plan.path = vec!["packages/api/.venv/bin".to_owned()];
        let environment = Environment::from_pairs([("PATH", "/bin"), ("PIP_CACHE_DIR", "/elsewhere")]);
        let found = ChildEnvironment::new(&environment, &plan, Path::new("/app"), None, Some(Path::new("/cache")));
        assert_eq!(
            found.start["PATH"],
            "/app/packages/api/.venv/bin:/app/packages/api/node_modules/.bin:/app/packages/node_modules/.bin:\
             /app/node_modules/.bin:/bin"
        );
        assert_eq!(found.start["VIRTUAL_ENV"], "/app/packages/api/.venv");
        assert_eq!((found.install["UV_CACHE_DIR"].as_str(), found.start.get("UV_CACHE_DIR")), ("/cache/uv", None));
        assert_eq!(found.install["PIP_CACHE_DIR"], "/elsewhere");
    }

    #[test]
    fn a_bundle_reaches_every_manager() {
        let bundle = Bundle { extra: "/extra.pem".into(), whole: "/whole.pem".into() };
        let plan = Plan::new(Runtime::Node);
        let found = ChildEnvironment::new(&Environment::default(), &plan, Path::new("/app"), Some(&bundle), None);
        assert!(BUNDLE_VARIABLES.iter().all(|name| found.install[*name] == "/whole.pem"), "{found:?}");
        assert_eq!(found.install["NODE_EXTRA_CA_CERTS"], "/extra.pem");
    }

    #[test]
    fn what_only_pnpm_knows_is_said_to_pnpm_only() {
        let of = |manager: &str| {
            let plan = Plan { package_manager: Some(manager.to_owned()), ..Plan::new(Runtime::Node) };
            let cache = Some(Path::new("/cache"));
            ChildEnvironment::new(&Environment::default(), &plan, Path::new("/app"), None, cache).install
        };
        let [npm, pnpm] = ["npm", "pnpm"].map(of);
        assert_eq!((pnpm[PNPM_CACHE.0].as_str(), pnpm[PNPM_ANSWER.0].as_str()), ("/cache/pnpm", "false"));
        let more: Vec<&String> = pnpm.keys().filter(|name| !npm.contains_key(*name)).collect();
        assert_eq!(more, [PNPM_ANSWER.0, PNPM_CACHE.0]);
    }

    #[test]
    fn a_given_port_wins() {
        let environment = Environment::from_pairs([("PORT", "8123")]);
        let found = ChildEnvironment::new(&environment, &Plan::new(Runtime::Node), Path::new("/app"), None, None);
        assert_eq!((found.port, found.start["PORT"].as_str()), (8123, "8123"));
    }
}
