//! What is left out without anybody saying so.

/// Left out where it is not tracked, in gitignore syntax. `vendor/` counts only beside a `composer.json`.
pub const PATTERNS: &[&str] = &[
    "node_modules/",
    "__pycache__/",
    "dist/",
    "build/",
    ".venv/",
    ".vscode/",
    ".idea/",
    "*.log",
    "*~",
    "*.swp",
    "*.swo",
    ".#*",
    "\\#*#",
    ".DS_Store",
    "Thumbs.db",
    ".svn/",
    ".hg/",
];

/// Names of lock files, which make an installation repeatable.
pub const LOCK_FILES: &[&str] = &[
    "package-lock.json",
    "npm-shrinkwrap.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    "bun.lock",
    "bun.lockb",
    "deno.lock",
    "poetry.lock",
    "uv.lock",
    "Pipfile.lock",
    "composer.lock",
    "Gemfile.lock",
    "Cargo.lock",
    "go.sum",
];

/// Environment files that hold examples rather than secrets.
const EXAMPLES: &[&str] = &["example", "sample", "template", "dist", "defaults", "schema"];

/// Names under which private keys lie.
const KEY_NAMES: &[&str] = &["id_rsa", "id_dsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk"];
const KEY_EXTENSIONS: &[&str] = &["p12", "pfx", "ppk", "jks", "keystore"];
/// These may also hold certificates, so their first bytes decide.
const PERHAPS_KEY_EXTENSIONS: &[&str] = &["pem", "key"];

/// Whether a text is one of these, whatever the case of letters of ASCII.
fn is_any(text: &str, of: &[&str]) -> bool {
    of.iter().any(|one| one.eq_ignore_ascii_case(text))
}

/// What comes before an end, whatever the case of letters of ASCII.
fn before<'t>(text: &'t str, end: &str) -> Option<&'t str> {
    let (before, tail) = text.split_at_checked(text.len().checked_sub(end.len())?)?;
    tail.eq_ignore_ascii_case(end).then_some(before)
}

/// What follows the last dot, or nothing.
fn extension_of(name: &str) -> &str {
    memchr::memrchr(b'.', name.as_bytes()).map_or("", |dot| &name[dot + 1..])
}

/// What a name says about a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suspicion {
    /// Nothing.
    None,
    /// It is one.
    Certain,
    /// Its content tells: see [`is_private_key`].
    LookInside,
}

/// Whether a file's name is one of a secret, in whatever case: some file systems don't tell `.ENV` from `.env`.
pub fn suspicion(name: &str) -> Suspicion {
    if is_any(name, &[".env", ".envrc"]) {
        return Suspicion::Certain;
    }
    let extension = extension_of(name);
    if name.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(".env.")) {
        return if is_any(extension, EXAMPLES) { Suspicion::None } else { Suspicion::Certain };
    }
    if is_any(name, KEY_NAMES) || is_any(extension, KEY_EXTENSIONS) {
        Suspicion::Certain
    } else if is_any(extension, PERHAPS_KEY_EXTENSIONS) {
        Suspicion::LookInside
    } else {
        Suspicion::None
    }
}

/// Whether the first bytes of a file are those of a private key in PEM form (RFC 7468, section 10).
pub fn is_private_key(head: &[u8]) -> bool {
    let text = String::from_utf8_lossy(head);
    text.lines().any(|line| line.starts_with("-----BEGIN ") && line.contains("PRIVATE KEY"))
}

/// Names of files that mostly hold credentials, and are sometimes meant: they go, and are named.
const CREDENTIALS: &[&str] = &[
    ".netrc",
    "_netrc",
    ".pgpass",
    ".git-credentials",
    ".pypirc",
    ".vault-token",
    ".htpasswd",
    ".dockercfg",
    ".docker/config.json",
    ".aws/credentials",
    "config/master.key",
];
const CREDENTIAL_EXTENSIONS: &[&str] = &["kdbx", "tfstate"];

/// What a path says about credentials that are no secret for certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clue {
    /// Nothing.
    None,
    /// It mostly holds some.
    Name,
    /// Its content tells: see [`has_credentials`].
    Content,
}

/// Whether a path, relative to the tree, looks like that of credentials.
pub fn clue(path: &str) -> Clue {
    let name = memchr::memrchr(b'/', path.as_bytes()).map_or(path, |slash| &path[slash + 1..]);
    let ends = |end: &&str| before(path, end).is_some_and(|before| before.is_empty() || before.ends_with('/'));
    let extension = extension_of(name);
    if CREDENTIALS.iter().any(ends) || is_any(extension, CREDENTIAL_EXTENSIONS) {
        return Clue::Name;
    }
    let key_of_account = extension.eq_ignore_ascii_case("json") && {
        let name = name.to_ascii_lowercase();
        ["service-account", "service_account", "serviceaccount", "credentials", "adminsdk"]
            .iter()
            .any(|word| name.contains(word))
    };
    if key_of_account || is_any(name, &[".npmrc", ".yarnrc.yml"]) { Clue::Content } else { Clue::None }
}

/// Whether the beginning of such a file holds a private key or a token, rather than the name of a variable.
pub fn has_credentials(head: &[u8]) -> bool {
    let text = String::from_utf8_lossy(head);
    text.lines().any(|line| {
        let token = ["_authToken", "_auth", "_password", "npmAuthToken", "npmAuthIdent"].iter().find_map(|word| {
            let rest = line.split_once(word)?.1.trim_start();
            rest.strip_prefix('=')
                .or_else(|| rest.strip_prefix(':'))
                .map(|value| value.trim().trim_matches(['"', '\'']))
        });
        line.contains("PRIVATE KEY-----") || token.is_some_and(|value| !value.is_empty() && !value.starts_with("${"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_by_path_and_content() {
        for path in [".netrc", "a/.netrc", ".aws/credentials", "x/config/master.key", "terraform.tfstate"] {
            assert_eq!(clue(path), Clue::Name, "{path}");
        }
        for path in ["credentials", "my.netrc", "config.json", "master.key", "tsconfig.json"] {
            assert_eq!(clue(path), Clue::None, "{path}");
        }
        assert_eq!(clue("a/.npmrc"), Clue::Content);
        assert_eq!(clue("gcp-service-account.json"), Clue::Content);
        assert!(has_credentials(b"//registry.example/:_authToken=abc\n"));
        assert!(has_credentials(b"npmAuthToken: \"abc\"\n"));
        assert!(has_credentials(b"{\"private_key\": \"-----BEGIN PRIVATE KEY-----\\n"));
        assert!(!has_credentials(b"//registry.example/:_authToken=${NPM_TOKEN}\nsave-exact=true\n"));
    }

    #[test]
    fn secrets_by_name() {
        for secret in
            [".env", ".ENV", "server.P12", ".env.local", ".env.production", ".envrc", "id_rsa", "id_ed25519", "x.p12"]
        {
            assert_eq!(suspicion(secret), Suspicion::Certain, "{secret}");
        }
        for plain in [".env.example", ".env.local.sample", "id_rsa.pub", "environment.js", "env", "x.crt"] {
            assert_eq!(suspicion(plain), Suspicion::None, "{plain}");
        }
        assert_eq!(suspicion("server.pem"), Suspicion::LookInside);
    }

    #[test]
    fn keys_by_content() {
        assert!(is_private_key(b"-----BEGIN RSA PRIVATE KEY-----\nMII"));
        assert!(is_private_key(b"comment\n-----BEGIN PRIVATE KEY-----\n"));
        assert!(!is_private_key(b"-----BEGIN CERTIFICATE-----\n"));
    }
}
