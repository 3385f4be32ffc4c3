//! The application's life: started, ready, asked to stop, ended.
//!
//! One `select!` turns every source into an [`Event`]; [`Life`] decides, without any waiting, what each one means.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use super::probe::{Target, probe};
use super::processes::{Ended, Group, Processes};
use super::signals::Signals;

/// What a run of the application came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It ended by itself.
    Ended { ended: Ended, was_ready: bool },
    /// It ended after it was asked to.
    Stopped { ended: Ended, was_ready: bool },
    /// It ended to make room for another version.
    Replaced,
    /// It never became ready and was stopped.
    NeverReady { last: String },
}

/// What is told while it lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum News {
    Ready { after: Duration },
    Stopping,
    Killing,
}

#[derive(Debug)]
enum Event {
    Ended(Ended),
    Replace,
    Signal(Signal, bool),
    Probed(Result<(), String>),
    Deadline,
}

/// What is to be done about an event.
#[derive(Debug, PartialEq, Eq)]
enum Action {
    Nothing,
    Tell(News),
    /// Sends a signal to the whole group, and says so where it is news.
    Signal(Signal, Option<News>),
    Finish(Ended),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    Starting { last: String },
    Ready,
    Stopping { reason: Reason, was_ready: bool },
}

/// Why it is asked to end.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Reason {
    /// Somebody asked this process to.
    Asked,
    /// It never answered; what the last probe said.
    NeverReady(String),
    /// Another version takes its place.
    Replaced,
}

/// The limits of one life.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// From the start until it answers.
    pub(super) ready: Duration,
    /// From the signal until it is killed.
    pub(super) grace: Duration,
}

/// How to tell that an application is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Readiness {
    /// It answers.
    Answers(Target),
    /// It has been up for so long: there is no port to ask.
    StaysUp(Duration),
}

struct Life {
    stage: Stage,
    started: Instant,
    limits: Limits,
    deadline: Option<Instant>,
}

impl Life {
    fn new(started: Instant, limits: Limits) -> Self {
        let stage = Stage::Starting { last: "it was not asked yet".to_owned() };
        Self { stage, started, limits, deadline: Some(started + limits.ready) }
    }

    fn handle(&mut self, event: Event, now: Instant) -> Action {
        match (event, &mut self.stage) {
            (Event::Ended(ended), _) => Action::Finish(ended),
            (Event::Signal(signal, false), _) => Action::Signal(signal, None),
            (Event::Signal(signal, true), Stage::Starting { .. } | Stage::Ready) => {
                self.stop(signal, Reason::Asked, now)
            }
            (Event::Replace, Stage::Starting { .. } | Stage::Ready) => self.stop(Signal::TERM, Reason::Replaced, now),
            // It ends already; now for good.
            (Event::Signal(_, true), Stage::Stopping { reason: reason @ Reason::Replaced, .. }) => {
                *reason = Reason::Asked;
                Action::Nothing
            }
            // Whoever asks twice is in a hurry.
            (Event::Signal(_, true) | Event::Deadline, Stage::Stopping { .. }) => self.kill(),
            (Event::Probed(Ok(())), Stage::Starting { .. }) => {
                self.stage = Stage::Ready;
                self.deadline = None;
                Action::Tell(News::Ready { after: now - self.started })
            }
            (Event::Probed(Err(reason)), Stage::Starting { last }) => {
                *last = reason;
                Action::Nothing
            }
            (Event::Probed(_) | Event::Replace, _) | (Event::Deadline, Stage::Ready) => Action::Nothing,
            (Event::Deadline, Stage::Starting { last }) => {
                let last = std::mem::take(last);
                self.stop(Signal::TERM, Reason::NeverReady(last), now)
            }
        }
    }

    fn stop(&mut self, signal: Signal, reason: Reason, now: Instant) -> Action {
        self.stage = Stage::Stopping { reason, was_ready: self.stage == Stage::Ready };
        self.deadline = Some(now + self.limits.grace);
        Action::Signal(signal, Some(News::Stopping))
    }

    fn kill(&mut self) -> Action {
        self.deadline = None;
        Action::Signal(Signal::KILL, Some(News::Killing))
    }

    fn end(&mut self, ended: Ended) -> End {
        match std::mem::replace(&mut self.stage, Stage::Ready) {
            Stage::Starting { .. } => End::Ended { ended, was_ready: false },
            Stage::Ready => End::Ended { ended, was_ready: true },
            Stage::Stopping { reason: Reason::NeverReady(last), .. } => End::NeverReady { last },
            Stage::Stopping { reason: Reason::Asked, was_ready } => End::Stopped { ended, was_ready },
            Stage::Stopping { reason: Reason::Replaced, .. } => End::Replaced,
        }
    }
}

/// What waiting for the application came to.
#[derive(Debug)]
pub(super) enum Turn<T> {
    /// Nothing of it is left.
    Ended(End),
    /// It goes on, and something else has come.
    Came(T),
}

/// A running application.
pub(super) struct Supervised {
    group: Group,
    life: Life,
    readiness: Readiness,
    probes: Pin<Box<dyn Future<Output = Result<(), String>>>>,
}

impl Supervised {
    /// One that was started just now.
    pub(super) fn new(group: Group, readiness: Readiness, limits: Limits) -> Self {
        let probes = Box::pin(probe_soon(readiness.clone(), Duration::ZERO));
        Self { group, life: Life::new(Instant::now(), limits), readiness, probes }
    }

    /// Follows it until nothing of it is left.
    pub(super) async fn follow(
        &mut self,
        processes: &mut Processes,
        signals: &mut Signals,
        tell: impl FnMut(&News),
    ) -> End {
        match self.until(std::future::pending::<Infallible>(), processes, signals, tell).await {
            Turn::Ended(end) => end,
            Turn::Came(never) => match never {},
        }
    }

    /// Asks it to end, because another version takes its place, and follows it until nothing of it is left.
    pub(super) async fn replace(
        &mut self,
        processes: &mut Processes,
        signals: &mut Signals,
        mut tell: impl FnMut(&News),
    ) -> End {
        let action = self.life.handle(Event::Replace, Instant::now());
        self.act(action, &mut tell);
        self.follow(processes, signals, tell).await
    }

    /// Follows it until nothing of it is left, or something else comes. May be called again after that.
    pub(super) async fn until<T>(
        &mut self,
        other: impl Future<Output = T>,
        processes: &mut Processes,
        signals: &mut Signals,
        mut tell: impl FnMut(&News),
    ) -> Turn<T> {
        let mut other = pin!(other);
        let ended = loop {
            let asking = matches!(self.life.stage, Stage::Starting { .. });
            let deadline = self.life.deadline;
            let event = tokio::select! {
                ended = processes.ended(self.group) => Event::Ended(ended),
                (signal, stops) = signals.next() => Event::Signal(signal, stops),
                answer = &mut self.probes, if asking => {
                    // Often at first, when most applications come up, then at ease.
                    let least = Duration::from_millis(50);
                    let pause = (self.life.started.elapsed() / 10).clamp(least, Duration::from_secs(1));
                    self.probes = Box::pin(probe_soon(self.readiness.clone(), pause));
                    Event::Probed(answer)
                }
                () = sleep_until(deadline) => Event::Deadline,
                came = &mut other => return Turn::Came(came),
            };
            let action = self.life.handle(event, Instant::now());
            if let Some(ended) = self.act(action, &mut tell) {
                break ended;
            }
        };
        // The leader may be a shell that died before the server it started.
        let left = self.life.deadline.filter(|_| matches!(self.life.stage, Stage::Stopping { .. }));
        if let Some(deadline) = left {
            let _ = tokio::time::timeout_at(deadline, processes.emptied(self.group)).await;
        }
        self.group.signal(Signal::KILL);
        Turn::Ended(self.life.end(ended))
    }

    fn act(&self, action: Action, tell: &mut impl FnMut(&News)) -> Option<Ended> {
        match action {
            Action::Nothing => {}
            Action::Tell(news) => tell(&news),
            Action::Signal(signal, news) => {
                // The news first: nobody may see a ready state after the signal.
                news.iter().for_each(tell);
                self.group.signal(signal);
            }
            Action::Finish(ended) => return Some(ended),
        }
        None
    }
}

async fn probe_soon(readiness: Readiness, pause: Duration) -> Result<(), String> {
    match readiness {
        Readiness::Answers(target) => {
            tokio::time::sleep(pause).await;
            probe(&target).await
        }
        // Its end would be heard of.
        Readiness::StaysUp(time) => {
            tokio::time::sleep(time).await;
            Ok(())
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life() -> (Life, Instant) {
        let now = Instant::now();
        let limits = Limits { ready: Duration::from_mins(1), grace: Duration::from_secs(10) };
        (Life::new(now, limits), now)
    }

    #[test]
    fn not_ready_at_once_when_asked_to_stop() {
        let (mut life, now) = life();
        assert!(matches!(life.handle(Event::Probed(Ok(())), now), Action::Tell(News::Ready { .. })));
        let action = life.handle(Event::Signal(Signal::TERM, true), now);
        assert_eq!(action, Action::Signal(Signal::TERM, Some(News::Stopping)));
        assert_eq!(life.handle(Event::Probed(Ok(())), now), Action::Nothing);
        assert_eq!(life.handle(Event::Deadline, now), Action::Signal(Signal::KILL, Some(News::Killing)));
        assert_eq!(life.end(Ended::Signal(9)), End::Stopped { ended: Ended::Signal(9), was_ready: true });
    }

    #[test]
    fn what_never_answers_is_stopped_with_the_last_reason() {
        let (mut life, now) = life();
        life.handle(Event::Probed(Err("refused".to_owned())), now);
        assert_eq!(life.handle(Event::Deadline, now), Action::Signal(Signal::TERM, Some(News::Stopping)));
        assert_eq!(life.end(Ended::Code(0)), End::NeverReady { last: "refused".to_owned() });
    }

    #[test]
    fn a_second_request_kills() {
        let (mut life, now) = life();
        life.handle(Event::Signal(Signal::INT, true), now);
        let action = life.handle(Event::Signal(Signal::INT, true), now);
        assert_eq!(action, Action::Signal(Signal::KILL, Some(News::Killing)));
        assert_eq!(life.end(Ended::Signal(9)), End::Stopped { ended: Ended::Signal(9), was_ready: false });
    }

    #[test]
    fn what_makes_room_for_another_version_may_still_be_asked_to_end_for_good() {
        let (mut life, now) = life();
        let action = life.handle(Event::Replace, now);
        assert_eq!(action, Action::Signal(Signal::TERM, Some(News::Stopping)));
        assert_eq!(life.handle(Event::Replace, now), Action::Nothing);
        assert_eq!(life.handle(Event::Signal(Signal::TERM, true), now), Action::Nothing);
        assert_eq!(life.end(Ended::Code(0)), End::Stopped { ended: Ended::Code(0), was_ready: false });
        let (mut life, now) = self::life();
        life.handle(Event::Replace, now);
        assert_eq!(life.handle(Event::Deadline, now), Action::Signal(Signal::KILL, Some(News::Killing)));
        assert_eq!(life.end(Ended::Signal(9)), End::Replaced);
    }

    #[test]
    fn other_signals_are_passed_on() {
        let (mut life, now) = life();
        assert_eq!(life.handle(Event::Signal(Signal::USR1, false), now), Action::Signal(Signal::USR1, None));
        assert_eq!(life.end(Ended::Code(3)), End::Ended { ended: Ended::Code(3), was_ready: false });
    }
}
