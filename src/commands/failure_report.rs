//! Why a release failed on a host, for a person: the same lines in `status` and while an upload waits.

use jiff::Timestamp;

use crate::format::host::{Failure, Host};
use crate::names::WorkspaceName;
use crate::output::{escape, relative_time};

/// The lines of the report. What comes from the host is escaped.
pub fn lines(name: &WorkspaceName, host: &Host, failure: &Failure, now: Timestamp) -> Vec<String> {
    let Failure { number, step, reason, .. } = failure;
    let hostname = &host.hostname;
    let when = relative_time(failure.at, now);
    let mut lines = vec![format!("{name}@{number} failed on {hostname} in step {step}, {when}: {reason}")];
    lines.extend(failure.tail.iter().map(|line| format!("  | {line}")));
    if let Some(listening) = &failure.listening {
        lines.push(format!("  listening: {listening}"));
    }
    if !failure.hint.is_empty() {
        lines.push(format!("  hint: {}", failure.hint));
    }
    let tries = if failure.tries > 1 { format!(" after {} tries", failure.tries) } else { String::new() };
    lines.push(match (failure.bad, failure.next_try) {
        (true, _) => format!("  not tried again{tries}; `workspace retry {name}` has it tried again"),
        (false, Some(next)) => {
            let seconds = next.duration_since(now).as_secs().max(0);
            format!("  tried again in {seconds} s{tries}")
        }
        (false, None) => format!("  tried again{tries}"),
    });
    lines.iter().map(|line| escape(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::host::tests::{at, failure, host};

    #[test]
    fn a_report_has_everything_that_it_takes_to_mend_it() {
        let name: WorkspaceName = "app".parse().unwrap();
        insta::assert_snapshot!(lines(&name, &host(), &failure(3), at(140)).join("\n"), @"
        app@3 failed on one in step ready, 2m ago: nothing listens on port 3000
          | Server on 127.0.0.1:4000
          listening: 127.0.0.1:4000
          hint: listen on the port that PORT names
          not tried again; `workspace retry app` has it tried again
        ");
        let again = Failure {
            bad: false,
            tries: 2,
            next_try: Some(at(170)),
            tail: vec!["\u{1b}[2J".into()],
            listening: None,
            hint: String::new(),
            ..failure(3)
        };
        insta::assert_snapshot!(lines(&name, &host(), &again, at(140)).join("\n"), @r"
        app@3 failed on one in step ready, 2m ago: nothing listens on port 3000
          | \u{1b}[2J
          tried again in 30 s after 2 tries
        ");
    }
}
