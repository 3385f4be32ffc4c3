//! What install, build and start find in their environment: what the container was given, without our own settings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::application::Plan;
use crate::environment::{Environment, STORAGE_MODE, WORKSPACE_CA_BUNDLE};

/// Our own settings, among them the store's keys: neither an installed package's script nor the application sees them.
fn is_ours(name: &str) -> bool {
    ["S3_", "AWS_", "WORKSPACE_"].iter().any(|prefix| name.starts_with(prefix)) || name == STORAGE_MODE
}

/// Variables by which programs are told about certificate authorities and that replace the system's list, so they need
/// the whole of it.
const BUNDLE_VARIABLES: [&str; 6] =
    ["SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "COMPOSER_CAFILE", "GIT_SSL_CAINFO"];

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
    /// `folder` is where the plan's commands run, `bundle` the file of authorities to trust.
    pub(super) fn new(environment: &Environment, plan: &Plan, folder: &Path, bundle: Option<&Bundle>) -> Self {
        let mut start: BTreeMap<String, String> = plan.environment.clone();
        if let Some(bundle) = bundle {
            let whole = bundle.whole.to_string_lossy().into_owned();
            start.extend(BUNDLE_VARIABLES.iter().map(|name| ((*name).to_owned(), whole.clone())));
            // Node and npm add this one to what they trust already.
            start.insert("NODE_EXTRA_CA_CERTS".to_owned(), bundle.extra.to_string_lossy().into_owned());
        }
        start.insert("HOST".to_owned(), "0.0.0.0".to_owned());
        // What the container was given wins over the plan's defaults.
        start.extend(
            environment
                .iter()
                .filter(|(name, _)| !is_ours(name))
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        let port = start.get("PORT").and_then(|port| port.parse().ok()).filter(|port| *port > 0).unwrap_or(plan.port);
        start.insert("PORT".to_owned(), port.to_string());
        let programs = folder.join("node_modules/.bin");
        let path =
            start.get("PATH").map_or("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", |path| path);
        start.insert("PATH".to_owned(), format!("{}:{path}", programs.display()));
        let mut install = start.clone();
        install.extend(plan.install_environment.clone());
        Self { start, install, port }
    }
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
        let found = ChildEnvironment::new(&environment, &plan, Path::new("/app"), None);
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
    fn a_given_port_wins() {
        let environment = Environment::from_pairs([("PORT", "8123")]);
        let found = ChildEnvironment::new(&environment, &Plan::new(Runtime::Node), Path::new("/app"), None);
        assert_eq!((found.port, found.start["PORT"].as_str()), (8123, "8123"));
    }
}
