//! Making a release: its grant, its volumes, its containers, and its release command.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::super::lease::{Asking, Standing};
use super::super::observe::{Observed, ReconcileError};
use super::super::plan::Who;
use super::super::situation::{Container, InsidePhase, ReleaseCommand, Role, Target};
use super::super::{Monitor, labels, lock};
use crate::application::Plan;
use crate::compose::release::{
    ContainerSpec, GRANT_CA_BUNDLE, GRANT_DIR, GRANT_FILE, ReleaseSpec, cache_dir, image_of, render_release,
    secret_variable,
};
use crate::compose::{cache_volume, data_volume};
use crate::engine::{ContainerState, EngineError, NewContainer};
use crate::format::Keys;
use crate::format::host::Failure;
use crate::grant::Issuer;
use crate::names::WorkspaceName;

impl Monitor {
    /// Makes what is missing of a release, and starts it.
    pub(super) async fn create(&self, name: &WorkspaceName, target: &Target) -> Result<(), ReconcileError> {
        // Whoever waits here is woken in turn; the semaphore is never closed.
        let _place = self.preparing.acquire().await;
        let row = target.row.id;
        let engine = &self.with.engine;
        let mut volumes = Vec::new();
        let volume_labels = |purpose| labels::volume(purpose, self.bucket, name);
        if let Some(manager) = &target.plan.package_manager {
            let volume = cache_volume(name, manager);
            engine.ensure_volume(&volume, labels::as_map(&volume_labels(labels::CACHE))).await?;
            volumes.push((volume, cache_dir().to_owned()));
        }
        let mut persistent = Vec::new();
        for (volume, path) in &target.plan.volumes {
            let volume = data_volume(name, volume);
            engine.ensure_volume(&volume, labels::as_map(&volume_labels(labels::DATA))).await?;
            persistent.push(volume.clone());
            volumes.push((volume, path.clone()));
        }
        let mut release_labels = labels::common(labels::RELEASE, self.bucket, name);
        release_labels.insert(labels::ROW.to_owned(), row.to_string());
        release_labels.insert(labels::VERSION.to_owned(), target.number().to_string());
        release_labels.insert(labels::PORT.to_owned(), target.plan.port.to_string());
        let grant_volume = labels::grant_volume(row);
        let mut grant_labels = volume_labels(labels::GRANT);
        grant_labels.insert(labels::ROW.to_owned(), row.to_string());
        engine.ensure_volume(&grant_volume, labels::as_map(&grant_labels)).await?;
        let alias = labels::alias(row);
        let containers = containers(name, target);
        let spec = ReleaseSpec {
            name,
            number: target.number(),
            plan: &target.plan,
            network: labels::NETWORK,
            alias: &alias,
            grant_volume: &grant_volume,
            volumes: &volumes,
            ca_bundle: self.options.ca_bundle.is_some(),
            cdn: self.options.cdn.as_deref(),
            hold: target.plan.release.is_some() || target.is_exclusive(),
            follow: self.is_followed(name),
            install_limit: self.options.install_limit,
            ready_limit: self.options.limits.ready.as_secs(),
            labels: &release_labels,
            containers: &containers,
        };
        let file = render_release(&spec)?;
        let secrets = self.secrets(&target.plan)?;
        let project = labels::project(name, row);
        let image = image_of(name, &target.plan)?;
        if engine.image_id(&image).await?.is_none() {
            self.with.compose.pull(&project, &file, &secrets).await?;
        }
        self.own_volumes(name, &image, &persistent).await?;
        self.write_grant(name, row, target).await?;
        self.with.compose.up(&project, &file, &secrets).await?;
        let tended = self.tended(name);
        let mut memory = lock(&tended.memory);
        memory.created.insert(row, Timestamp::now());
        // Made anew, it begins with its own version.
        memory.fed = memory.fed.take().filter(|(release, _)| *release != row);
        drop(memory);
        Ok(())
    }

    /// What the file of a release refers to: the values of its secrets, by the names that the file has for them.
    fn secrets(&self, plan: &Plan) -> Result<BTreeMap<String, String>, ReconcileError> {
        let value = |outside: &str| self.options.secrets.get(outside);
        let missing: Vec<String> = plan
            .secrets
            .values()
            .filter(|outside| value(outside).is_none())
            .map(|outside| format!("`{outside}`"))
            .collect();
        if !missing.is_empty() {
            return Err(ReconcileError::Secrets { names: missing });
        }
        let given = plan
            .secrets
            .iter()
            .filter_map(|(inside, outside)| Some((secret_variable(inside), value(outside)?.to_owned())));
        Ok(given.collect())
    }

    /// Gives volumes to the user that the containers run as: Docker makes new ones for root.
    async fn own_volumes(&self, name: &WorkspaceName, image: &str, volumes: &[String]) -> Result<(), ReconcileError> {
        const PARENT: &str = "/run/volumes";
        let engine = &self.with.engine;
        if volumes.is_empty() {
            return Ok(());
        }
        let Some(owner) = engine.image_user(image).await? else { return Ok(()) };
        let writer = NewContainer {
            image: image.to_owned(),
            labels: labels::common(labels::WRITER, self.bucket, name),
            volumes: volumes.iter().map(|volume| (volume.clone(), format!("{PARENT}/{volume}"))).collect(),
            ..NewContainer::default()
        };
        let id = engine.create(writer).await?;
        let owned =
            futures::future::try_join_all(volumes.iter().map(|volume| engine.own_folder(&id, PARENT, volume, owner)))
                .await;
        engine.remove(&id).await?;
        owned?;
        Ok(())
    }

    /// Writes a grant of a version into a release's volume, through a container that exists only for that and never runs.
    pub(super) async fn write_grant(
        &self,
        name: &WorkspaceName,
        row: ulid::Ulid,
        target: &Target,
    ) -> Result<(), ReconcileError> {
        let now = Timestamp::now();
        let (store, presigner) = (&self.with.store, &self.with.presigner);
        let before = store.counts();
        let issuer = Issuer { store, presigner, cache: &self.with.cache };
        let issued = issuer.issue(name, target.root, &target.row, self.options.grant_lifetime, now).await;
        self.metrics.store_requests.inc_by((store.counts() - before).requests);
        let grant = issued?;
        let engine = &self.with.engine;
        let mut writer_labels = labels::common(labels::WRITER, self.bucket, name);
        writer_labels.insert(labels::ROW.to_owned(), row.to_string());
        let writer = NewContainer {
            image: image_of(name, &target.plan)?,
            labels: writer_labels,
            volumes: vec![(labels::grant_volume(row), GRANT_DIR.to_owned())],
            ..NewContainer::default()
        };
        let id = engine.create(writer).await?;
        let written = async {
            if let Some(bundle) = &self.options.ca_bundle {
                engine.write_file(&id, GRANT_DIR, GRANT_CA_BUNDLE, 0o444, bundle).await?;
            }
            engine.write_file(&id, GRANT_DIR, GRANT_FILE, 0o444, &grant.to_bytes()).await
        }
        .await;
        engine.remove(&id).await?;
        written?;
        let life = grant.expires.duration_since(now);
        let half = Duration::try_from(life).unwrap_or_default() / 2;
        let renew = jiff::SignedDuration::try_from(half).ok().and_then(|half| now.checked_add(half).ok());
        let tended = self.tended(name);
        lock(&tended.memory).renew.insert(row, renew.unwrap_or(now));
        Ok(())
    }

    pub(super) fn asking<'a>(&'a self, name: &WorkspaceName, target: &Target) -> Asking<'a> {
        let holder = self.holder();
        Asking {
            store: &self.with.store,
            key: Keys::new(name, target.root).lease(target.row.id),
            engine: self.with.engine.id(),
            holder,
            retry: self.retry(name),
            now: Timestamp::now(),
        }
    }

    /// Finds out how the release command stands, and runs it where nobody has.
    pub(super) async fn release_command(
        &self,
        name: &WorkspaceName,
        target: &Target,
        observed: &Observed,
    ) -> Result<(), ReconcileError> {
        let row = target.row.id;
        let asking = self.asking(name, target);
        let first = observed
            .releases
            .iter()
            .filter(|release| release.row == row)
            .flat_map(|release| &release.containers)
            .find(|container| container.role == Role::Web && container.replica == 1);
        let inside = first.and_then(|container| container.inside.clone());
        let standing = asking.acquire().await?;
        let state = match standing {
            Standing::Succeeded => ReleaseCommand::Done,
            Standing::Elsewhere(host) => ReleaseCommand::Elsewhere(host),
            Standing::Failed(outcome) => {
                self.remember(
                    name,
                    Failure {
                        row,
                        number: target.number(),
                        step: "release".to_owned(),
                        reason: outcome.reason,
                        tail: outcome.tail,
                        listening: None,
                        hint: format!("mend it and upload again, or `workspace retry {name}`"),
                        at: outcome.at,
                        bad: true,
                        tries: 1,
                        next_try: None,
                        retry: self.retry(name),
                    },
                );
                ReleaseCommand::Unknown
            }
            Standing::Mine => match inside {
                Some(inside) if inside.released => {
                    asking.finish(true, String::new(), Vec::new()).await?;
                    ReleaseCommand::Done
                }
                Some(inside) if inside.phase == InsidePhase::Held => {
                    if let Some(first) = first {
                        let (code, text) =
                            self.with.engine.exec(&first.id, &["workspace", "proceed", "release"]).await?;
                        if code != 0 {
                            tracing::warn!(workspace = %name, "the release command did not start: {}", text.trim());
                        }
                    }
                    ReleaseCommand::Here
                }
                _ => ReleaseCommand::Here,
            },
        };
        let tended = self.tended(name);
        let mut memory = lock(&tended.memory);
        let before = memory.release_command.insert(row, state.clone());
        drop(memory);
        if before.as_ref() != Some(&state) {
            // Somebody has to look at what that means.
            self.wake(name);
        }
        Ok(())
    }

    /// Gives a release the workspace's container name, and lets Docker keep it running.
    pub(super) async fn promote(
        &self,
        name: &WorkspaceName,
        row: ulid::Ulid,
        observed: &Observed,
    ) -> Result<(), ReconcileError> {
        let engine = &self.with.engine;
        let wanted = labels::container(name);
        for release in observed.releases.iter().filter(|release| release.row != row) {
            for container in release.containers.iter().filter(|container| container.name == wanted) {
                let former = labels::release_container(name, release.row, labels::WEB, container.replica);
                self.lay_aside(container, &former).await?;
            }
        }
        let containers = Self::containers_of(observed, row, Who::All);
        if let Some(first) = containers.iter().find(|container| container.role == Role::Web && container.replica == 1)
            && first.name != wanted
        {
            engine.rename(&first.id, &wanted).await?;
        }
        for container in containers {
            if !container.kept_running {
                engine.keep_running(&container.id, true).await?;
            }
        }
        lock(&self.tended(name).memory).moved = None;
        Ok(())
    }

    /// Gives a container another name. Between two crashes Docker knows nothing of its network and says that it isn't
    /// there: whatever crashes, also between the look and the rename, is stopped first.
    async fn lay_aside(&self, container: &Container, former: &str) -> Result<(), EngineError> {
        let engine = &self.with.engine;
        if container.state != ContainerState::Restarting {
            match engine.rename(&container.id, former).await {
                Err(error) if error.is_not_found() => {}
                done => return done,
            }
        }
        engine.keep_running(&container.id, false).await?;
        engine.stop(&container.id).await?;
        engine.rename(&container.id, former).await
    }
}

/// The containers of a release.
fn containers(name: &WorkspaceName, target: &Target) -> Vec<ContainerSpec> {
    let row = target.row.id;
    let web = (1..=target.replicas()).map(|replica| (labels::WEB.to_owned(), replica, None));
    let workers = target.plan.processes.keys().map(|process| (process.clone(), 1, Some(process.clone())));
    web.chain(workers)
        .map(|(label, replica, process)| ContainerSpec {
            service: labels::service(row, &label, replica),
            container: labels::release_container(name, row, &label, replica),
            labels: BTreeMap::from([
                (labels::PROCESS.to_owned(), label),
                (labels::REPLICA.to_owned(), replica.to_string()),
            ]),
            process,
        })
        .collect()
}
