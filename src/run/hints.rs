//! What to do about a failure, guessed from what it left behind.
//!
//! A guess is worth making where the words are a tool's own and mean one thing only. The words come from the tools as they are; a tool
//! that changes them costs a hint and nothing else.

use super::RunError;
use crate::application::Command;
use crate::names::WorkspaceName;
use crate::output::Output;

/// Signs in the last lines of a command, and what to do then. `{name}` stands for the workspace.
const SIGNS: [(&[&str], &str); 9] = [
    (
        &[
            "SELF_SIGNED_CERT",
            "UNABLE_TO_GET_ISSUER",
            "UNABLE_TO_VERIFY",
            "CERTIFICATE_VERIFY_FAILED",
            "self-signed certificate",
            "self signed certificate",
            "invalid peer certificate",
            "certificate verify failed",
            "SSL certificate problem",
        ],
        "a TLS proxy stands in between: set WORKSPACE_CA_BUNDLE to its certificates, then `workspace compose {name}` again",
    ),
    (
        &[
            "npm ci` can only install packages when",
            "ERR_PNPM_OUTDATED_LOCKFILE",
            "ERR_PNPM_LOCKFILE_CONFIG_MISMATCH",
            "Your lockfile needs to be updated",
            "YN0028",
            "lockfile had changes, but lockfile is frozen",
            "The lockfile at `uv.lock` needs to be updated",
            "pyproject.toml changed significantly since poetry.lock",
            "Pipfile.lock is out of date",
            "is not present in the lock file",
        ],
        "the lock file no longer fits: make it again and `workspace upload {name}`, or `lock: update` in workspace.yaml",
    ),
    (
        &["Your requirements could not be resolved", "is missing from your system. Install or enable PHP's"],
        "the image lacks what composer.json asks for: another version, or `image:` in workspace.yaml with one that has the \
         extension",
    ),
    (
        &[
            "EBADENGINE",
            "ERR_PNPM_UNSUPPORTED_ENGINE",
            "is incompatible with this module",
            "requires a different Python",
            "does not satisfy Python",
            "No interpreter found for Python",
            "is incompatible with the project's Python requirement",
        ],
        "the image has another version than the app asks for: build one with `--build-arg BASE_IMAGE=…`, and name it as `image:` in \
         workspace.yaml",
    ),
    (
        &[
            "gyp ERR! find Python",
            "gcc: not found",
            "make: not found",
            "error: command 'gcc' failed",
            "cc: not found",
            "g++: not found",
            "pg_config executable not found",
        ],
        "a package is compiled while it is installed, and the image has no compiler: take a release of it that comes \
         compiled, or name an image that has one as `image:` in workspace.yaml",
    ),
    (
        &[
            // npm and pnpm, Yarn, Bun, pip, uv, Composer.
            "spawn git",
            "Couldn't find the binary git",
            "\"git\" is not installed",
            "Cannot find command 'git'",
            "Git executable not found",
            "git was not found",
            "git: not found",
        ],
        "a dependency comes from a Git repository, and the image has no git: take a release or an archive of it (a .tar.gz or .zip over \
         https), or build an image of your own `FROM` the runtime's with git in it, and name that as `image:` in workspace.yaml",
    ),
    (&["Exec format error"], OTHER_MACHINE),
    (
        &["ENOSPC", "No space left on device"],
        "the disk is full: `docker system df` shows what takes the space; /tmp has 512 MiB",
    ),
    (
        &[
            "ENOTFOUND",
            "EAI_AGAIN",
            "Temporary failure in name resolution",
            "Could not resolve host",
            "ECONNREFUSED",
            "ETIMEDOUT",
            "Network is unreachable",
            "NewConnectionError",
        ],
        "the registry can't be reached from the container: try again, and see whether it needs a proxy (HTTPS_PROXY)",
    ),
];

const OTHER_MACHINE: &str = "it was made for another kind of machine, or lacks its `#!` line: let it be installed or built in the \
                             container, not brought along";

const MISSING: &str = "the image has no such program: add it to the dependencies, or name an image that has it as `image:` in \
                       workspace.yaml";

/// For an install, build or release command.
pub(super) fn of_step(reason: &str, tail: &[String], name: &WorkspaceName) -> Option<String> {
    let is_there =
        |signs: &[&str]| signs.iter().any(|sign| reason.contains(sign) || tail.iter().any(|line| line.contains(sign)));
    if let Some((_, hint)) = SIGNS.iter().find(|(signs, _)| is_there(signs)) {
        return Some(hint.replace("{name}", name.as_str()));
    }
    // 127 is what a shell ends with that doesn't find a program.
    let is_missing =
        reason.contains("on the image's PATH") || reason.ends_with("code 127") || is_there(&[": command not found"]);
    is_missing.then(|| MISSING.to_owned())
}

/// For a start command that can't be executed.
pub(super) fn of_start(reason: &str) -> String {
    if reason.contains("Exec format error") {
        OTHER_MACHINE.to_owned()
    } else if reason.contains("on the image's PATH") {
        MISSING.to_owned()
    } else if reason.contains("isn't executable") {
        "`chmod +x` it and upload again; the executable bit is part of a version".to_owned()
    } else {
        String::new()
    }
}

/// For an application that ended by itself.
pub(super) fn of_end(code: u8, start: &Command) -> &'static str {
    match (code, start) {
        (127, Command::Shell(_)) => MISSING,
        (126, Command::Shell(_)) => "it can't be executed: `chmod +x` it, or it was made for another kind of machine",
        _ => "the last lines of its log say more",
    }
}

/// For an application that never answered.
pub(super) fn of_silence(reason: &str, listening: Option<&str>) -> String {
    let listens = |address: &str| listening.is_some_and(|text| text.contains(address));
    let advice = if reason.contains("loopback") {
        "listen on the address in HOST (0.0.0.0), not on localhost"
    } else if reason.starts_with("GET ") {
        "`health:` in workspace.yaml names the path that is asked; without it, an open port is enough"
    } else if listens("127.0.0.1:") || listens("0.0.0.0:") || listens("[::") {
        "it listens on another port: take the one in PORT, or say which it is as `port:` in workspace.yaml"
    } else {
        "listen on the port in PORT, on the address in HOST"
    };
    format!("{advice}; `port:` and `health:` in workspace.yaml change what is asked")
}

/// Says what went wrong, with the last lines, what listens where, and what to do.
pub fn say(output: &Output, error: &RunError, name: &WorkspaceName) {
    output.error(&anyhow::anyhow!("{error}"), &[]);
    if let RunError::Step { tail, .. } = error
        && !tail.is_empty()
    {
        output.note("its last lines:");
        for line in tail {
            output.note(&format!("  | {}", crate::output::escape(line)));
        }
    }
    if let RunError::NeverReady { listening: Some(listening), .. } = error {
        output.note(&format!("listening: {listening}"));
    }
    let hint = error.hint(name);
    if !hint.is_empty() {
        output.hint(&hint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(line: &str) -> Option<String> {
        of_step("ended with code 1", &[line.to_owned()], &"shop".parse().unwrap())
    }

    #[test]
    fn what_a_tool_says_leads_to_its_mend() {
        for (line, words) in [
            ("npm error code SELF_SIGNED_CERT_IN_CHAIN", "WORKSPACE_CA_BUNDLE"),
            (" ERR_PNPM_OUTDATED_LOCKFILE  Cannot install with \"frozen-lockfile\"", "lock: update"),
            (
                "error: The lockfile at `uv.lock` needs to be updated, but `--locked` was provided.",
                "`workspace upload shop`",
            ),
            (
                "  - Root composer.json requires PHP extension ext-gd * but it is missing from your system. Install or enable PHP's gd",
                "image:",
            ),
            ("sh: 1: make: not found", "compiler"),
            ("./bin/tool: Exec format error", "another kind of machine"),
            ("npm error syscall spawn git", "no git"),
            ("pnpm: Command failed with ENOENT: git ls-remote git+ssh://…\nspawn git ENOENT", "no git"),
            ("error Couldn't find the binary git", "no git"),
            ("error: \"git\" is not installed (needed for \"a\")", "no git"),
            ("ERROR: Cannot find command 'git' - do you have 'git' installed and in your PATH?", "no git"),
            ("  cause: Git executable not found. Ensure that Git is installed and available.", "no git"),
            ("  git was not found in your PATH, skipping source download", "`FROM` the runtime's"),
            ("npm error ENOSPC: no space left on device, write", "disk is full"),
            ("sh: tsc: command not found", "no such program"),
        ] {
            assert!(hint(line).is_some_and(|hint| hint.contains(words)), "{line}: {:?}", hint(line));
        }
        assert_eq!(hint("something else"), None);
    }

    #[test]
    fn silence_is_told_by_what_listens() {
        assert!(of_silence("port 3000 is open on loopback only", None).contains("not on localhost"));
        assert!(of_silence("nothing listens on port 3000", Some("listening: 0.0.0.0:8080")).contains("another port"));
        assert!(
            of_silence("nothing listens on port 3000", Some("nothing listens on any port")).starts_with("listen on")
        );
        assert!(of_silence("GET /up on port 3000 answered 404", None).contains("`health:`"));
    }
}
