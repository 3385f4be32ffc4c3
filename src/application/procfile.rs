//! `Procfile`: one `name: command` a line. `web` takes traffic, `release` runs once before it, every other line is a
//! process of its own.

use std::collections::BTreeMap;

use super::folder::Folder;
use super::{ApplicationError, Command, Plan};

const PROCFILE: &str = "Procfile";

#[derive(Debug, Default)]
pub(super) struct Processes {
    pub(super) web: Option<Command>,
    release: Option<Command>,
    others: BTreeMap<String, Command>,
}

pub(super) fn read(folder: &Folder<'_>, warnings: &mut Vec<String>) -> Result<Processes, ApplicationError> {
    let mut processes = Processes::default();
    let Some(text) = folder.text(PROCFILE)? else {
        return Ok(processes);
    };
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name_is_plain = |name: &str| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
        };
        let Some((name, command)) = line
            .split_once(':')
            .map(|(name, command)| (name.trim(), command.trim()))
            .filter(|(name, command)| name_is_plain(name) && !command.is_empty())
        else {
            warnings.push(format!("`{PROCFILE}` line {} isn't `name: command` and is skipped: {line}", number + 1));
            continue;
        };
        let command = served_php(command).unwrap_or_else(|| Command::parse(command));
        match name {
            "web" => processes.web = Some(command),
            "release" => processes.release = Some(command),
            _ => {
                processes.others.insert(name.to_owned(), command);
            }
        }
    }
    Ok(processes)
}

/// `vendor/bin/heroku-php-apache2 public/`: what only Heroku has, by what the image of PHP has.
fn served_php(command: &str) -> Option<Command> {
    let mut words = command.split_whitespace();
    let program = words.next()?.rsplit('/').next()?;
    let is_theirs = ["heroku-php-apache2", "heroku-php-nginx"].contains(&program);
    let mut docroot = ".";
    while let Some(word) = words.next() {
        if word.starts_with('-') {
            // `-C nginx.conf`: a flag of one letter has a value.
            words.by_ref().take(usize::from(word.len() == 2)).for_each(drop);
        } else {
            docroot = word.trim_end_matches('/');
        }
    }
    is_theirs.then(|| Command::exec(["php-serve", docroot]))
}

pub(super) fn apply(processes: Processes, plan: &mut Plan) {
    if let Some(web) = processes.web {
        plan.start = Some(web);
        plan.because("start", format!("`web` in {PROCFILE}"));
    }
    if let Some(release) = processes.release {
        plan.release = Some(release);
        plan.because("release", format!("`release` in {PROCFILE}"));
    }
    if !processes.others.is_empty() {
        plan.processes = processes.others;
        plan.because("processes", PROCFILE);
    }
}
