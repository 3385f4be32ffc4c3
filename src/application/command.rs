//! One command of a plan, and the decision whether it needs a shell.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A command of a plan. In JSON a list is executed as it is, a text goes to `sh -c`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Command {
    /// Program and arguments, executed directly: signals reach the program itself.
    Exec(Vec<String>),
    /// Run by `sh -c`.
    Shell(String),
}

/// Words that only a shell understands when they come first.
const SHELL_WORDS: [&str; 27] = [
    ".", ":", "!", "{", "[[", "alias", "case", "cd", "command", "eval", "exec", "exit", "export", "for", "function",
    "if", "read", "return", "set", "shift", "source", "time", "trap", "ulimit", "umask", "unset", "while",
];

impl Command {
    /// Program and arguments, executed as they are.
    pub(super) fn exec<W: Into<String>>(words: impl IntoIterator<Item = W>) -> Self {
        Self::Exec(words.into_iter().map(Into::into).collect())
    }

    /// Executes directly what is one plain command, and leaves everything else to a shell.
    ///
    /// The test is strict on purpose: any character that a shell may treat specially, even inside quotes, makes it a
    /// shell command, which is always right and only one process more.
    pub fn parse(line: &str) -> Self {
        let line = line.trim();
        let special = |character: char| "|&;<>()$`\\*?[]#~{}!\n\r".contains(character);
        let words = if line.contains(special) { None } else { shlex::split(line) };
        match words {
            Some(words) if is_plain(&words) => Self::Exec(words),
            _ => Self::Shell(line.to_owned()),
        }
    }

    /// The words of the command, as far as they can be told without a shell.
    pub fn words(&self) -> Vec<String> {
        match self {
            Self::Exec(words) => words.clone(),
            Self::Shell(line) => line
                .split(|character: char| character.is_whitespace() || "|&;()".contains(character))
                .filter(|word| !word.is_empty())
                .map(|word| word.trim_matches(['"', '\'']).to_owned())
                .collect(),
        }
    }

    /// Whether there is nothing to run.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Exec(words) => words.is_empty(),
            Self::Shell(line) => line.trim().is_empty(),
        }
    }

    /// Program and arguments to execute.
    pub fn argv(&self) -> Vec<String> {
        match self {
            Self::Exec(words) => words.clone(),
            Self::Shell(line) => vec!["sh".to_owned(), "-c".to_owned(), line.clone()],
        }
    }
}

fn is_plain(words: &[String]) -> bool {
    let Some(first) = words.first() else {
        return false;
    };
    // `NODE_ENV=production node server.js` is for a shell.
    !first.is_empty() && !first.contains('=') && !SHELL_WORDS.contains(&first.as_str())
}

impl fmt::Display for Command {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exec(words) => {
                let text = shlex::try_join(words.iter().map(String::as_str)).unwrap_or_else(|_| words.join(" "));
                out.write_str(&text)
            }
            Self::Shell(line) => out.write_str(line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_commands_are_executed_directly() {
        let exec = |words: &[&str]| Command::Exec(words.iter().map(|word| (*word).to_owned()).collect());
        assert_eq!(Command::parse(" node server.js "), exec(&["node", "server.js"]));
        assert_eq!(Command::parse("node 'my server.js' --name=\"a b\""), exec(&["node", "my server.js", "--name=a b"]));
        for line in [
            "NODE_ENV=production node server.js",
            "node a.js && node b.js",
            "node server.js --port $PORT",
            "cd server",
            "node 'it",
            "node *.js",
            "exec node server.js",
        ] {
            assert_eq!(Command::parse(line), Command::Shell(line.to_owned()), "{line}");
        }
    }

    #[test]
    fn json_is_a_list_or_a_text() {
        let json = |command: &Command| serde_json::to_string(command).unwrap();
        assert_eq!(json(&Command::parse("node a.js")), r#"["node","a.js"]"#);
        assert_eq!(json(&Command::parse("a && b")), r#""a && b""#);
        assert_eq!(serde_json::from_str::<Command>(r#"["x"]"#).unwrap(), Command::Exec(vec!["x".into()]));
    }
}
