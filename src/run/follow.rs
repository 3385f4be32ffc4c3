//! `run --follow`: every version that comes is put in place of the one before, in the same container.
//!
//! The next version is staged and verified while the application goes on; then it is renamed into place in one burst,
//! installed only where a manifest or lock file changed, built, and the application is started again. Whatever a broken
//! version does, the container stays up: it says so in its log and its state, and the next version is the next chance.

use std::time::Duration;

use tokio::time::Instant;

use super::record::{Record, install_stamp};
use super::serve::{Application, Running, Teller};
use super::state::Phase;
use super::supervisor::{End, Turn};
use super::{Resolved, Run, RunError, STOPPED_EARLY, Source, hints};
use crate::application::Runtime;

/// Before an application that had been ready and ended by itself is started again.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest such pause, when it ends again and again.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Before a version that could not be fetched is looked for again.
const RETRY: Duration = Duration::from_secs(2);

/// What comes to one who follows.
enum Event {
    /// It is over: the code to end with.
    End(Result<u8, RunError>),
    /// Another version is meant.
    Next(Box<Resolved>),
    /// The application ended; whether it had been ready.
    Down { was_ready: bool },
    /// The pause after an end is over.
    Again,
}

impl Run<'_> {
    /// Serves the version that was fetched, and every one after it.
    pub(super) async fn serve_following(&mut self, source: &impl Source, mut record: Record) -> Result<u8, RunError> {
        let mut application = None;
        let mut running = None;
        let mut pause = PAUSE;
        let mut again = None;
        if let Some(code) = self.bring_up(&mut record, &mut application, &mut running).await? {
            return Ok(code);
        }
        loop {
            let event =
                self.event(source, &record.resolved.row, application.as_ref(), &mut running, again.take()).await;
            match event {
                Event::End(code) => return code,
                Event::Down { was_ready } => {
                    if was_ready {
                        self.output.note(&format!("workspace: started again in {} s", pause.as_secs()));
                        again = Some(Instant::now() + pause);
                        pause = (pause * 2).min(LONGEST_PAUSE);
                    } else {
                        self.output.note("workspace: waiting for the next version");
                    }
                }
                Event::Again => {
                    if let Some(application) = &application {
                        self.start(application, &mut running);
                    }
                }
                Event::Next(resolved) => {
                    pause = PAUSE;
                    let taken = self.take(source, *resolved, &mut record, &mut application, &mut running).await?;
                    if let Some(code) = taken {
                        return Ok(code);
                    }
                }
            }
        }
    }

    /// Waits for whatever comes first.
    async fn event(
        &mut self,
        source: &impl Source,
        row: &str,
        application: Option<&Application>,
        running: &mut Option<Running>,
        again: Option<Instant>,
    ) -> Event {
        let not_before = self.not_before.take();
        let next = async {
            if let Some(time) = not_before {
                tokio::time::sleep_until(time).await;
            }
            source.next(row).await
        };
        let (Some(up), Some(application)) = (running.as_mut(), application) else {
            let pause = async {
                match again {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            return tokio::select! {
                resolved = next => Event::Next(Box::new(resolved)),
                _ = self.signals.stop() => Event::End(Ok(STOPPED_EARLY)),
                () = pause => Event::Again,
            };
        };
        let (supervised, listening) = up.parts();
        let mut teller = Teller::of(self.output, &self.state_dir, &mut self.state, listening);
        let (processes, signals) = (&mut self.processes, &mut self.signals);
        let end = match supervised.until(next, processes, signals, |news| teller.tell(news)).await {
            Turn::Came(resolved) => return Event::Next(Box::new(resolved)),
            Turn::Ended(end) => end,
        };
        let Some(up) = running.take() else { return Event::Again };
        self.state.pid = None;
        match end {
            End::Stopped { .. } => Event::End(self.ended(application, up, end)),
            End::Ended { was_ready, .. } => {
                let _ = self.ended(application, up, end);
                let reason = self.outcome.take().map(|outcome| outcome.reason);
                self.is_broken(reason.unwrap_or_default(), false);
                Event::Down { was_ready }
            }
            End::NeverReady { .. } | End::Replaced => {
                if let Err(error) = self.ended(application, up, end) {
                    self.complain(&error, false);
                }
                Event::Down { was_ready: false }
            }
        }
    }

    /// Puts another version in place, and the application on it. A code: asked to end meanwhile.
    async fn take(
        &mut self,
        source: &impl Source,
        resolved: Resolved,
        record: &mut Record,
        application: &mut Option<Application>,
        running: &mut Option<Running>,
    ) -> Result<Option<u8>, RunError> {
        let began = Instant::now();
        let number = resolved.number;
        let dir = self.options.dir.clone();
        let io_error = |source| RunError::Io { path: dir.clone(), source };
        // Cut off in between, the next start doesn't take what is there for a whole version.
        Record::remove(&dir).map_err(io_error)?;
        let fetch = source.fetch(&resolved, &dir);
        let fetched = match running.as_mut() {
            None => tokio::select! {
                fetched = fetch => fetched,
                _ = self.signals.stop() => return Ok(Some(STOPPED_EARLY)),
            },
            Some(up) => {
                let (supervised, listening) = up.parts();
                let mut teller = Teller::of(self.output, &self.state_dir, &mut self.state, listening);
                let (processes, signals) = (&mut self.processes, &mut self.signals);
                let mut fetch = std::pin::pin!(fetch);
                match supervised.until(&mut fetch, processes, signals, |news| teller.tell(news)).await {
                    Turn::Came(fetched) => fetched,
                    Turn::Ended(End::Stopped { ended, .. }) => return Ok(Some(ended.exit_code())),
                    // It is started again anyway.
                    Turn::Ended(_) => {
                        *running = None;
                        self.state.pid = None;
                        fetch.await
                    }
                }
            }
        };
        if let Err(error) = fetched {
            // Not written down as whole: the next try makes it so.
            let error = error.into_inner();
            let reason = format!("version {number} could not be fetched: {error:#}");
            self.output.warn(&format!("{reason}; tried again in {} s", RETRY.as_secs()));
            self.is_broken(reason, running.is_some());
            self.not_before = Some(Instant::now() + RETRY);
            return Ok(None);
        }
        record.resolved = resolved;
        (record.started, record.released) = (None, None);
        record.write(&dir).map_err(io_error)?;
        let code = self.bring_up(record, application, running).await?;
        if code.is_none() && self.state.error.is_none() {
            self.output.note(&format!("workspace: version {number} after {} ms", began.elapsed().as_millis()));
        }
        Ok(code)
    }

    /// Installs and builds where it must, and starts anew where that makes a difference. What is wrong with the version is
    /// said, and is no error. A code: asked to end meanwhile.
    async fn bring_up(
        &mut self,
        record: &mut Record,
        application: &mut Option<Application>,
        running: &mut Option<Running>,
    ) -> Result<Option<u8>, RunError> {
        let next = match self.application(record) {
            Ok(next) => next,
            Err(error) => {
                self.complain(&error, running.is_some());
                return Ok(None);
            }
        };
        let installed = next.plan.install.is_empty() || self.is_installed(&next, record).await;
        let same = application.as_ref().is_some_and(|before| {
            (&before.start, &before.environment, &before.folder) == (&next.start, &next.environment, &next.folder)
        });
        let reloads = next.plan.runtime == Runtime::Static || next.plan.reload;
        let stays = installed && same && reloads && next.plan.build.is_empty() && running.is_some();
        if !installed
            && running.is_some()
            && let Some(code) = self.replace(application.as_ref(), running).await
        {
            return Ok(Some(code));
        }
        if running.is_none() {
            self.is_now(record, &next);
        }
        // A build may fail: until it has succeeded, what runs goes on.
        self.serving = running.is_some();
        let prepared = self.prepare(&next, record).await;
        self.serving = false;
        match prepared {
            Ok(true) => {}
            Ok(false) => {
                let code = self.replace(application.as_ref(), running).await;
                return Ok(Some(code.unwrap_or(STOPPED_EARLY)));
            }
            Err(error @ (RunError::Io { .. } | RunError::State(_))) => return Err(error),
            Err(error) => {
                self.complain(&error, running.is_some());
                self.output.note("workspace: waiting for the next version");
                *application = Some(next);
                return Ok(None);
            }
        }
        // Only the first version: those after it are put in place while somebody watches.
        if application.is_none() && !self.hold(&next, record).await? {
            return Ok(Some(STOPPED_EARLY));
        }
        self.state.error = None;
        if stays {
            self.is_now(record, &next);
            let phase = self.state.phase;
            *application = Some(next);
            self.enter(phase)?;
            return Ok(None);
        }
        if let Some(code) = self.replace(application.as_ref(), running).await {
            return Ok(Some(code));
        }
        self.is_now(record, &next);
        self.start(&next, running);
        *application = Some(next);
        Ok(None)
    }

    /// Whether what is installed serves this version, too.
    async fn is_installed(&mut self, application: &Application, record: &Record) -> bool {
        let Some(installed) = &record.installed else { return false };
        let Application { plan, folder, environment, .. } = application;
        let runtime = self.runtime_version(plan, folder, environment).await;
        let stamp = install_stamp(plan, &runtime, &record.resolved.row, &self.options.dir);
        stamp.is_ok_and(|stamp| stamp == *installed)
    }

    /// Starts it; what can't be started is said.
    fn start(&mut self, application: &Application, running: &mut Option<Running>) {
        match self.launch(application) {
            Ok(up) => *running = Some(up),
            Err(error) => self.complain(&error, false),
        }
    }

    /// Ends what runs, to make room. A code: asked to end for good meanwhile.
    async fn replace(&mut self, application: Option<&Application>, running: &mut Option<Running>) -> Option<u8> {
        let mut up = running.take()?;
        let (supervised, listening) = up.parts();
        let mut teller = Teller::of(self.output, &self.state_dir, &mut self.state, listening);
        let (processes, signals) = (&mut self.processes, &mut self.signals);
        let end = supervised.replace(processes, signals, |news| teller.tell(news)).await;
        self.state.pid = None;
        match end {
            End::Stopped { .. } => application.and_then(|application| self.ended(application, up, end).ok()),
            _ => None,
        }
    }

    /// Says what is wrong with a version.
    fn complain(&mut self, error: &RunError, serving: bool) {
        hints::say(self.output, error, &self.options.selector.name);
        self.is_broken(error.to_string(), serving);
    }

    /// Writes down what is wrong. `serving`: what ran before goes on.
    fn is_broken(&mut self, reason: String, serving: bool) {
        self.state.error = Some(reason);
        let phase = if serving { self.state.phase } else { Phase::Failed };
        if let Err(error) = self.enter(phase) {
            self.output.warn(&error.to_string());
        }
    }
}
