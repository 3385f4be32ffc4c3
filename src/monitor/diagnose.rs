//! Why a release failed: from what its container left behind to a report, and to whether the release is to blame.

use std::time::Duration;

use jiff::Timestamp;
use ulid::Ulid;

use super::plan::Why;
use crate::engine::ContainerDetail;
use crate::format::host::Failure;
use crate::run::outcome::Outcome;

/// How often an installation is tried before the release counts as bad.
const INSTALL_TRIES: u32 = 3;
/// Between two of these.
const INSTALL_PAUSE: Duration = Duration::from_mins(15);
/// Before the first new try after an outage; doubled each time.
const OUTAGE_PAUSE: Duration = Duration::from_secs(5);
/// Longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// What is known of a failed container.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// Its name.
    pub container: Option<String>,
    /// What Docker says of it.
    pub detail: Option<ContainerDetail>,
    /// Its own last words.
    pub outcome: Option<Outcome>,
    /// The end of its log.
    pub log: Vec<String>,
}

/// Which release, and what happened to it before.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// Its row.
    pub row: Ulid,
    /// Its number.
    pub number: u64,
    /// The failure that is remembered.
    pub earlier: Option<&'a Failure>,
    /// The ref's mark of the last `retry`: with a new one, tries are counted anew.
    pub retry: Option<Ulid>,
    /// The time.
    pub now: Timestamp,
}

impl Case<'_> {
    /// The how-manieth try this was.
    fn tries(&self) -> u32 {
        let same = |earlier: &&Failure| earlier.row == self.row && earlier.retry == self.retry;
        self.earlier.filter(same).map_or(0, |earlier| earlier.tries).saturating_add(1)
    }
}

/// Puts a report together.
pub fn diagnose(case: Case<'_>, why: Why, evidence: &Evidence) -> Failure {
    let tries = case.tries();
    let mut failure = Failure {
        row: case.row,
        number: case.number,
        step: "run".to_owned(),
        reason: String::new(),
        tail: evidence.log.clone(),
        listening: None,
        hint: String::new(),
        at: case.now,
        bad: true,
        tries,
        next_try: None,
        retry: case.retry,
    };
    let outage = |failure: &mut Failure| {
        failure.bad = false;
        failure.next_try = Some(later(case.now, outage_pause(tries)));
    };
    match why {
        Why::NoStart => {
            "start".clone_into(&mut failure.step);
            "it has no start command".clone_into(&mut failure.reason);
            "add a `start` script to package.json, or `start:` to workspace.yaml, and upload again"
                .clone_into(&mut failure.hint);
            return failure;
        }
        Why::TooSlow => {
            "install".clone_into(&mut failure.step);
            "it was not installed in time".clone_into(&mut failure.reason);
            install_again(&mut failure, case.now);
            return failure;
        }
        Why::Unsteady => "watch".clone_into(&mut failure.step),
        Why::Ended => {}
    }
    let code = evidence.detail.as_ref().and_then(|detail| detail.exit_code);
    if let Some(outcome) = &evidence.outcome {
        let words = Words::of(outcome);
        failure.reason = words.reason;
        failure.listening = words.listening;
        failure.hint = words.hint;
        // How `run` said the same at the end of its log.
        let said = format!("error: {}", failure.reason);
        if let Some(end) = failure.tail.iter().rposition(|line| *line == said) {
            failure.tail.truncate(end);
        }
        if !words.tail.is_empty() {
            failure.tail = words.tail;
        }
        if why != Why::Unsteady {
            failure.step.clone_from(&words.step);
        }
        match words.step.as_str() {
            // Somebody asked it to end: no fault of its own.
            "stopped" if why != Why::Unsteady => {
                "it was stopped from outside before it had traffic".clone_into(&mut failure.reason);
                outage(&mut failure);
            }
            "fetch" => outage(&mut failure),
            "install" => install_again(&mut failure, case.now),
            _ => {}
        }
    } else if let Some(error) = evidence.detail.as_ref().and_then(|detail| detail.error.clone()) {
        "start".clone_into(&mut failure.step);
        failure.reason = format!("Docker could not start its container: {error}");
        outage(&mut failure);
    } else if why == Why::Unsteady {
        let who = evidence.container.as_ref().map_or_else(|| "it".to_owned(), |name| format!("`{name}`"));
        let code = code.filter(|code| *code != 0).map(|code| format!(" with code {code}")).unwrap_or_default();
        failure.reason = format!("{who} crashed{code}, was killed, or stopped answering, while it was watched");
    } else {
        // Without a word: killed from outside, with the engine or by hand.
        failure.reason = match code {
            Some(code) => format!("its container ended with code {code} and left no word"),
            None => "its container ended and left no word".to_owned(),
        };
        outage(&mut failure);
    }
    if evidence.detail.as_ref().is_some_and(|detail| detail.out_of_memory)
        || evidence.outcome.as_ref().is_some_and(|outcome| outcome.out_of_memory)
    {
        failure.reason = format!("it ran out of memory: {}", failure.reason);
        "`memory:` in workspace.yaml gives it more".clone_into(&mut failure.hint);
        failure.bad = true;
        failure.next_try = None;
    }
    if failure.hint.is_empty() && failure.bad {
        "mend it where you uploaded from and upload again".clone_into(&mut failure.hint);
    }
    failure
}

struct Words {
    step: String,
    reason: String,
    tail: Vec<String>,
    listening: Option<String>,
    hint: String,
}

impl Words {
    fn of(outcome: &Outcome) -> Self {
        Self {
            step: outcome.step.as_str().to_owned(),
            reason: outcome.reason.clone(),
            tail: outcome.tail.clone(),
            listening: outcome.listening.clone(),
            hint: outcome.hint.clone(),
        }
    }
}

fn install_again(failure: &mut Failure, now: Timestamp) {
    if failure.tries < INSTALL_TRIES {
        failure.bad = false;
        failure.next_try = Some(later(now, INSTALL_PAUSE));
    }
}

/// A failure that nobody's code is to blame for.
pub fn outage(case: Case<'_>, step: &str, reason: String) -> Failure {
    let tries = case.tries();
    Failure {
        row: case.row,
        number: case.number,
        step: step.to_owned(),
        reason,
        tail: Vec::new(),
        listening: None,
        hint: String::new(),
        at: case.now,
        bad: false,
        tries,
        next_try: Some(later(case.now, outage_pause(tries))),
        retry: case.retry,
    }
}

fn outage_pause(tries: u32) -> Duration {
    OUTAGE_PAUSE.saturating_mul(1 << tries.saturating_sub(1).min(10)).min(LONGEST_PAUSE)
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    jiff::SignedDuration::try_from(by).ok().and_then(|by| time.checked_add(by).ok()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::outcome::Step;

    fn case(earlier: Option<&Failure>) -> Case<'_> {
        Case { row: Ulid::from_parts(1, 1), number: 7, earlier, retry: None, now: Timestamp::UNIX_EPOCH }
    }

    fn words(step: Step) -> Evidence {
        let outcome = serde_json::json!({ "step": step, "reason": "why", "at": "2026-01-01T00:00:00Z" });
        Evidence { outcome: Some(serde_json::from_value(outcome).unwrap()), ..Evidence::default() }
    }

    #[test]
    fn only_what_the_release_did_is_held_against_it() {
        for (step, bad) in [
            (Step::Fetch, false),
            (Step::Install, false),
            (Step::Build, true),
            (Step::Release, true),
            (Step::Start, true),
            (Step::Ready, true),
            (Step::Run, true),
            (Step::Stopped, false),
        ] {
            let failure = diagnose(case(None), Why::Ended, &words(step));
            assert_eq!((failure.bad, failure.next_try.is_some()), (bad, !bad), "{step:?}");
        }
        // Killed without a word, or never started.
        assert!(!diagnose(case(None), Why::Ended, &Evidence::default()).bad);
        assert!(diagnose(case(None), Why::Unsteady, &Evidence::default()).bad);
        assert!(diagnose(case(None), Why::NoStart, &Evidence::default()).bad);
    }

    #[test]
    fn nothing_is_said_twice() {
        let mut evidence = words(Step::Ready);
        evidence.log = ["its log", "error: why", "hint: what to do"].map(str::to_owned).to_vec();
        assert_eq!(diagnose(case(None), Why::Ended, &evidence).tail, ["its log"]);
    }

    #[test]
    fn an_installation_has_three_tries() {
        let first = diagnose(case(None), Why::Ended, &words(Step::Install));
        let second = diagnose(case(Some(&first)), Why::Ended, &words(Step::Install));
        let third = diagnose(case(Some(&second)), Why::Ended, &words(Step::Install));
        assert_eq!((first.tries, second.tries, third.tries), (1, 2, 3));
        assert_eq!((first.bad, second.bad, third.bad), (false, false, true));
        // Somebody who asks for it has three more.
        let asked = Case { retry: Some(Ulid::from_parts(3, 3)), ..case(Some(&second)) };
        let asked = diagnose(asked, Why::Ended, &words(Step::Install));
        assert_eq!((asked.tries, asked.bad), (1, false));
        // Another release begins anew.
        let other = Case { row: Ulid::from_parts(2, 2), ..case(Some(&third)) };
        assert_eq!(diagnose(other, Why::Ended, &words(Step::Install)).tries, 1);
    }

    #[test]
    fn lack_of_memory_is_named() {
        let mut evidence = words(Step::Run);
        if let Some(outcome) = &mut evidence.outcome {
            outcome.out_of_memory = true;
        }
        let failure = diagnose(case(None), Why::Ended, &evidence);
        assert!(failure.bad && failure.reason.contains("out of memory"), "{}", failure.reason);
        assert!(failure.hint.contains("memory:"), "{}", failure.hint);
    }

    #[test]
    fn outages_are_tried_again_ever_more_seldom() {
        let mut earlier = None;
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let failure = outage(case(earlier.as_ref()), "create", "away".to_owned());
            pauses.push(failure.next_try.unwrap().as_second());
            earlier = Some(failure);
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
    }
}
