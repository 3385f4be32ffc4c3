//! From an error to what the process says and ends with: the one place that knows exit codes and hints.

use std::process::ExitCode;

use crate::archive::{ArchiveError, BadUrl, FromUrlError};
use crate::checkout::CheckoutError;
use crate::difference::DifferenceError;
use crate::embedded::EmbeddedError;
use crate::embedded::server::ServeError;
use crate::engine::EngineError;
use crate::format::FormatError;
use crate::format::archive::BuildError;
use crate::format::pack::PackError;
use crate::monitor::{MonitorError, RecordError};
use crate::names::NameError;
use crate::output::{Output, escape};
use crate::publish::{DecisionError, PublishError};
use crate::run::OrderError;
use crate::run::state::StateError;
use crate::settings::SettingsError;
use crate::source::SourceError;
use crate::store::StoreError;
use crate::store::bucket::BucketError;
use crate::upkeep::collect::CollectError;
use crate::upkeep::lock::LockError;
use crate::upkeep::recover::RecoverError;
use crate::version::VersionError;
use crate::watch::WatchError;

/// How `workspace` ends. Part of the interface: scripts rely on these numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Success = 0,
    /// Failed for a reason that no other code names.
    Failure = 1,
    /// The command line or a setting is wrong; nothing was tried.
    Usage = 2,
    /// The workspace, version or bucket is not there.
    NotFound = 3,
    /// Somebody else changed it, or a target has content that isn't ours; nothing was changed.
    Conflict = 4,
    /// The store can't be reached or is failing; trying again may help.
    Unavailable = 5,
    /// Ended by Ctrl-C.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Says what failed, and what to do next.
pub fn report(output: &Output, error: &anyhow::Error) -> ExitCode {
    let (exit, hints) = classify(error);
    output.error(error, &hints);
    exit.into()
}

fn classify(error: &anyhow::Error) -> (Exit, Vec<String>) {
    if error.downcast_ref::<NameError>().is_some() {
        return (Exit::Usage, vec!["a name is made of a-z, 0-9, `.`, `_` and `-`, such as `my-app`".to_owned()]);
    }
    if error.downcast_ref::<BadUrl>().is_some() {
        return (
            Exit::Usage,
            vec!["`workspace presign NAME` prints one; put it between quotes, or read it by `-`".to_owned()],
        );
    }
    // The first of these in the chain decides: whoever adds context above it knows less about it.
    for cause in error.chain() {
        let cause = peel(cause);
        if let Some(found) = of_domain(cause) {
            return found;
        }
        let found = cause
            .downcast_ref()
            .map(of_bucket)
            .or_else(|| cause.downcast_ref().map(of_store))
            .or_else(|| cause.downcast_ref().map(of_settings));
        if let Some((exit, hint)) = found {
            return (exit, hint.map(str::to_owned).into_iter().collect());
        }
    }
    (Exit::Failure, Vec::new())
}

/// The error that a transparent one stands for: its `source` would skip it.
fn peel<'e>(error: &'e (dyn std::error::Error + 'static)) -> &'e (dyn std::error::Error + 'static) {
    let inner: &'e (dyn std::error::Error + 'static) = if let Some(error) = error.downcast_ref::<PublishError>() {
        match error {
            PublishError::Source(inner) => inner,
            PublishError::Application(inner) => inner,
            PublishError::Store(inner) => inner,
            PublishError::Bucket(inner) => inner,
            PublishError::Version(inner) => inner,
            _ => return error,
        }
    } else if let Some(error) = error.downcast_ref::<CheckoutError>() {
        match error {
            CheckoutError::Version(inner) => inner,
            CheckoutError::Store(inner) => inner,
            _ => return error,
        }
    } else if let Some(error) = error.downcast_ref::<DifferenceError>() {
        match error {
            DifferenceError::Version(inner) => inner,
            DifferenceError::Checkout(inner) => inner,
            DifferenceError::Publish(inner) => inner,
            DifferenceError::Alone { .. } | DifferenceError::Changed { .. } | DifferenceError::Task(_) => return error,
        }
    } else if let Some(error) = error.downcast_ref::<MonitorError>() {
        match error {
            MonitorError::Store(inner) | MonitorError::Record(RecordError::Store(inner)) => inner,
            MonitorError::Bucket(inner) => inner,
            MonitorError::Engine(inner) => inner,
            MonitorError::Record(inner) => inner,
            MonitorError::Poll(inner) => inner,
            _ => return error,
        }
    } else if let Some(error) = error.downcast_ref::<CollectError>() {
        match error {
            CollectError::Version(inner) => inner,
            CollectError::Remove(inner) => inner,
            _ => return error,
        }
    } else if let Some(error) = error.downcast_ref::<ArchiveError>() {
        match error {
            ArchiveError::Version(inner) => inner,
            ArchiveError::Store(inner) => inner,
            ArchiveError::Content(inner) => inner,
            _ => return error,
        }
    } else if let Some(FromUrlError::Target(inner)) = error.downcast_ref() {
        inner
    } else if let Some(RecoverError::Version(inner)) = error.downcast_ref() {
        inner
    } else if let Some(error) = error.downcast_ref::<LockError>() {
        match error {
            LockError::Version(inner) => inner,
            LockError::Decision(inner) => inner,
            _ => return error,
        }
    } else if let Some(DecisionError::Version(inner)) = error.downcast_ref() {
        inner
    } else if let Some(WatchError::Publish(inner)) = error.downcast_ref() {
        inner
    } else if let Some(VersionError::Store(inner)) = error.downcast_ref() {
        inner
    } else {
        return error;
    };
    peel(inner)
}

/// Something destructive, and nobody to ask.
#[derive(Debug, thiserror::Error)]
#[error("this needs a yes, and nobody can be asked here: {question}")]
pub struct NeedsYes {
    /// What would be asked.
    pub question: String,
}

/// A host is named that the bucket knows nothing of.
#[derive(Debug, thiserror::Error)]
#[error("there is no host `{host}` in {location}")]
pub struct NoHost {
    /// What was asked for.
    pub host: String,
    /// Where it was looked for.
    pub location: String,
}

/// Somebody's own file is where one is to be written.
#[derive(Debug, thiserror::Error)]
#[error("`{}` is there, and `workspace compose` has not made it", path.display())]
pub struct ForeignFile {
    /// The file.
    pub path: std::path::PathBuf,
}

/// Workspaces are asked for where nobody knows the store.
#[derive(Debug, thiserror::Error)]
#[error("this container has no settings of the store, so nothing is known here of `{name}` on the hosts")]
pub struct NoStoreHere {
    /// What was asked for.
    pub name: crate::names::WorkspaceName,
}

/// Errors that carry names: their hints are made to measure. Nothing for those that only pass another one on.
fn of_domain(cause: &(dyn std::error::Error + 'static)) -> Option<(Exit, Vec<String>)> {
    if cause.downcast_ref::<StateError>().is_some() {
        return Some((Exit::Failure, vec!["`workspace status --settings` shows what is configured".to_owned()]));
    }
    if let Some(error) = cause.downcast_ref::<OrderError>() {
        let hint = match error {
            OrderError::Busy | OrderError::NotTaken => "try again".to_owned(),
            _ => "`workspace status` shows what runs here; WORKSPACE_HOLD=1 makes `workspace run` wait".to_owned(),
        };
        return Some((Exit::Conflict, vec![hint]));
    }
    if let Some(ServeError::Bind { source, .. }) = cause.downcast_ref() {
        let hint = match source.kind() {
            std::io::ErrorKind::AddrInUse => "another program listens there; `--listen ADDR` names another address",
            _ => "`--listen ADDR` names another address",
        };
        return Some((Exit::Failure, vec![hint.to_owned()]));
    }
    if cause.downcast_ref::<NeedsYes>().is_some() {
        return Some((Exit::Usage, vec!["`--yes` if you are sure".to_owned()]));
    }
    if cause.downcast_ref::<ForeignFile>().is_some() {
        return Some((Exit::Conflict, vec!["name another file, or remove this one; nothing was written".to_owned()]));
    }
    if cause.downcast_ref::<NoHost>().is_some() {
        return Some((Exit::NotFound, vec!["`workspace status` shows the hosts".to_owned()]));
    }
    if cause.downcast_ref::<NoStoreHere>().is_some() {
        let hint =
            "`workspace status` shows what runs in this container; with a name it works where S3_ENDPOINT is set";
        return Some((Exit::Usage, vec![hint.to_owned()]));
    }
    if let Some(WatchError::Overtaken { name, found, .. }) = cause.downcast_ref() {
        let hint = format!(
            "`workspace download {name}@{found} DIR` shows theirs; the same command again publishes this folder"
        );
        return Some((Exit::Conflict, vec![hint]));
    }
    if let Some(DifferenceError::Alone { name, .. }) = cause.downcast_ref() {
        return Some((Exit::NotFound, vec![format!("`workspace diff {name} DIR` compares it with a folder")]));
    }
    let (exit, hint) = cause
        .downcast_ref()
        .and_then(of_version)
        .or_else(|| cause.downcast_ref().and_then(of_decision))
        .or_else(|| cause.downcast_ref().and_then(of_collection))
        .or_else(|| cause.downcast_ref().and_then(of_recovery))
        .or_else(|| cause.downcast_ref().and_then(of_lock))
        .or_else(|| cause.downcast_ref().map(of_source))
        .or_else(|| cause.downcast_ref().and_then(of_publication))
        .or_else(|| cause.downcast_ref().and_then(of_checkout))
        .or_else(|| cause.downcast_ref().and_then(of_archive))
        .or_else(|| cause.downcast_ref().and_then(of_url))
        .or_else(|| cause.downcast_ref().and_then(of_engine))
        .or_else(|| cause.downcast_ref().and_then(of_monitor))
        .or_else(|| cause.downcast_ref().and_then(of_record))?;
    Some((exit, vec![hint]))
}

/// What may be done where this machine's memory, or this program, has changed what it was about to send.
const BAD_MEMORY: &str = "try again; if it comes back, test the memory of this machine, or report it as a bug";

fn of_version(error: &VersionError) -> Option<(Exit, String)> {
    Some(match error {
        VersionError::Store(_) => return None,
        VersionError::NoWorkspace { name, has_data: true, .. } => (
            Exit::NotFound,
            format!(
                "its data is there and its ref is not: `workspace recover {name} --dry-run` shows what can be had back"
            ),
        ),
        VersionError::NoWorkspace { similar, .. } => match similar.as_slice() {
            [] => (Exit::NotFound, "`workspace list` shows what there is".to_owned()),
            names => (Exit::NotFound, format!("did you mean `{}`?", names.join("`, `"))),
        },
        VersionError::NoVersion { selector, .. } => {
            (Exit::NotFound, format!("`workspace log {}` shows what is kept", selector.name))
        }
        VersionError::NoPath { selector, similar, .. } => match similar.as_slice() {
            [] => (Exit::NotFound, format!("`workspace show {selector} .` lists what is in it")),
            paths => (Exit::NotFound, format!("did you mean `{}`?", escape(&paths.join("`, `")))),
        },
        VersionError::Object { source: FormatError::Newer { .. }, .. } => {
            (Exit::Failure, "install a newer version of workspace".to_owned())
        }
        VersionError::Object { what: "ref", .. } => (
            Exit::Failure,
            "`workspace recover NAME` makes it again from the data; or restore the object from a backup".to_owned(),
        ),
        VersionError::BadMemory { .. } => (Exit::Failure, BAD_MEMORY.to_owned()),
        VersionError::Object { .. } => (
            Exit::Failure,
            "restore the object from a backup, take another version (NAME@NUMBER), or upload the tree again".to_owned(),
        ),
    })
}

fn of_source(error: &SourceError) -> (Exit, String) {
    match error {
        SourceError::NoSuchDirectory(_) | SourceError::NotADirectory(_) => {
            (Exit::Usage, "`workspace upload NAME DIR` takes a folder".to_owned())
        }
        SourceError::Empty { excluded: 0, .. } => {
            (Exit::Failure, "a version has at least a file, a link or an empty folder".to_owned())
        }
        SourceError::Empty { .. } => {
            (Exit::Failure, "a `!` pattern in .workspaceignore takes back what a rule leaves out".to_owned())
        }
        SourceError::Unreadable { .. } => {
            (Exit::Failure, "make it readable, or exclude it in .workspaceignore; nothing was published".to_owned())
        }
        SourceError::Git { .. } => (Exit::Failure, "`git status` in that folder says more".to_owned()),
        SourceError::NoSuchPath { .. } | SourceError::Outside { .. } => {
            (Exit::Usage, "`--explain` takes a path in the folder that is uploaded, as `--dry-run` lists it".to_owned())
        }
        SourceError::TooLarge { .. } => {
            (Exit::Failure, "a line in .workspaceignore leaves it out; nothing was published".to_owned())
        }
        SourceError::NotUtf8(_) | SourceError::Path(_) => (Exit::Failure, "nothing was published".to_owned()),
    }
}

fn of_publication(error: &PublishError) -> Option<(Exit, String)> {
    Some(match error {
        PublishError::Unreadable { .. } => {
            (Exit::Failure, "make it readable, or exclude it in .workspaceignore".to_owned())
        }
        PublishError::Restless { .. } | PublishError::Moving { .. } => {
            (Exit::Failure, "stop what writes there, or exclude it in .workspaceignore".to_owned())
        }
        PublishError::TooMuch { .. } => (
            Exit::Failure,
            "lines in .workspaceignore leave out what is no source; or upload parts of it as workspaces of their own"
                .to_owned(),
        ),
        PublishError::Strict(_) => (Exit::Failure, "mend what they name, or upload without `--strict`".to_owned()),
        PublishError::Expected { found: 0, .. } => {
            (Exit::Conflict, "there is no version yet: `--expect 0` publishes the first".to_owned())
        }
        PublishError::Expected { name, .. } => {
            (Exit::Conflict, format!("`workspace log {name}` shows what is there now"))
        }
        PublishError::NothingOlder { name, .. } => (
            Exit::NotFound,
            format!("`workspace log {name}` shows what is kept; `workspace rollback {name} V` takes any of them"),
        ),
        PublishError::Vanished { name, .. } => (Exit::Conflict, format!("`workspace log {name}` shows what is kept")),
        PublishError::Overtaken { name, .. } => (
            Exit::Conflict,
            format!("`workspace log {name}` shows it; `workspace rollback {name} V` names what is meant"),
        ),
        PublishError::DeletedMeanwhile { .. } => (Exit::Conflict, "upload again to make it anew".to_owned()),
        PublishError::Locked { name, number, .. } => {
            (Exit::Conflict, format!("`workspace unlock {name}@{number}`, if you may; or wait"))
        }
        PublishError::Pack(PackError::Compression | PackError::Damaged) => (Exit::Failure, BAD_MEMORY.to_owned()),
        PublishError::Contended { .. } => (Exit::Conflict, "try again".to_owned()),
        PublishError::TagsFull { .. } => {
            (Exit::Conflict, "upload without `--tag`, or reuse a tag: tags move".to_owned())
        }
        _ => return None,
    })
}

fn of_decision(error: &DecisionError) -> Option<(Exit, String)> {
    Some(match error {
        DecisionError::Version(_) => return None,
        DecisionError::Route { hint, .. } => (Exit::Conflict, hint.clone()),
        DecisionError::TagTaken { selector, tag, number, .. } => {
            (Exit::Conflict, format!("`workspace tag {}@{number} {tag} --force` moves it", selector.name))
        }
        DecisionError::NoTag { name, .. } => (Exit::NotFound, format!("`workspace tag {name}` lists them")),
        DecisionError::TagsFull { name } => (
            Exit::Conflict,
            format!("`workspace tag {name}` lists them, `workspace tag --delete {name} TAG` makes room"),
        ),
        DecisionError::Contended { .. } => (Exit::Conflict, "try again".to_owned()),
    })
}

fn of_collection(error: &CollectError) -> Option<(Exit, String)> {
    Some(match error {
        CollectError::Version(_) | CollectError::Remove(_) => return None,
        CollectError::NoConditions { .. } => (
            Exit::Failure,
            "`workspace delete NAME` and a new upload free the space; or move to a server with conditional writes"
                .to_owned(),
        ),
        CollectError::Host { .. } => (
            Exit::Failure,
            "install the release of workspace that runs there; or delete the record, if that host is gone".to_owned(),
        ),
        CollectError::Damaged { name, .. } => {
            (Exit::Failure, format!("`workspace verify {name}` says what is damaged, and which versions it hurts"))
        }
        CollectError::Contended { .. } => (Exit::Conflict, "try again".to_owned()),
    })
}

fn of_lock(error: &LockError) -> Option<(Exit, String)> {
    Some(match error {
        LockError::Version(_) | LockError::Decision(_) => return None,
        LockError::NoObjectLock { .. } => (
            Exit::Failure,
            "`workspace --bucket NEW init --object-lock` makes one that has it, where the server knows of it"
                .to_owned(),
        ),
        LockError::NoObjectLockHere { .. } => (
            Exit::Failure,
            "AWS, MinIO and SeaweedFS have it, the store on this machine doesn't; without `--object-lock` it makes the bucket"
                .to_owned(),
        ),
        LockError::Shorter { selector, .. } => {
            (Exit::Conflict, format!("`workspace unlock {selector}` first, if you may"))
        }
        LockError::NotLocked { selector } => {
            (Exit::Conflict, format!("`workspace lock {selector} --until DATE` locks it"))
        }
        LockError::Compliance { .. } => (Exit::Conflict, "wait".to_owned()),
        LockError::NoVersion { .. } => (Exit::Failure, "`workspace verify NAME` looks for damage".to_owned()),
    })
}

fn of_recovery(error: &RecoverError) -> Option<(Exit, String)> {
    Some(match error {
        RecoverError::Version(_) => return None,
        RecoverError::There { name, .. } => (Exit::Conflict, format!("`workspace verify {name}` looks for damage")),
        RecoverError::Deleted { name } => {
            (Exit::NotFound, format!("`workspace upload {name} DIR` makes it anew; a backup brings the data back"))
        }
        RecoverError::NoData { .. } => (Exit::NotFound, "`workspace list` shows what there is".to_owned()),
        RecoverError::NothingWhole { .. } => {
            (Exit::Failure, "restore what is missing from a backup, then the same command again".to_owned())
        }
        RecoverError::Overtaken { .. } => (Exit::Conflict, "`workspace list` shows what is there now".to_owned()),
    })
}

fn of_checkout(error: &CheckoutError) -> Option<(Exit, String)> {
    if error.is_full() {
        return Some((
            Exit::Failure,
            "make room, then the same command again; what was there before is untouched".to_owned(),
        ));
    }
    Some(match error {
        CheckoutError::Foreign { .. } => {
            (Exit::Conflict, "another folder, or `--force` to overwrite them; nothing was changed".to_owned())
        }
        CheckoutError::Repository { .. } => (
            Exit::Failure,
            "`workspace log` and `show` say who published it; somebody else may write to the bucket".to_owned(),
        ),
        CheckoutError::OneName { .. } => (
            Exit::Conflict,
            "a folder on a file system where case counts; or rename one of them and upload again".to_owned(),
        ),
        CheckoutError::ExternalLink { .. } => {
            (Exit::Conflict, "`workspace download --allow-external-links` if you trust this workspace; a container never makes such a link".to_owned())
        }
        CheckoutError::Busy(_) => (Exit::Conflict, "wait for it to end".to_owned()),
        CheckoutError::BadTarget { .. } => (Exit::Usage, "name another folder".to_owned()),
        CheckoutError::Damaged { .. }
        | CheckoutError::Unreadable { .. }
        | CheckoutError::NotTheFile { .. }
        | CheckoutError::Parts { .. } => (
            Exit::Failure,
            "restore the pack from a backup; or `workspace delete` and upload a good copy anew".to_owned(),
        ),
        CheckoutError::State { source: FormatError::Newer { .. }, .. } => (
            Exit::Failure,
            "install a newer version of workspace; if none was here, the file is damaged: remove it".to_owned(),
        ),
        CheckoutError::State { .. } => (
            Exit::Failure,
            "remove the file; then files in the folder count as foreign unless they are right".to_owned(),
        ),
        CheckoutError::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => (
            Exit::Failure,
            "make it writable for this user, or name another folder; the same command goes on where it stopped".to_owned(),
        ),
        CheckoutError::Io { .. } => (Exit::Failure, "the same command goes on where it stopped".to_owned()),
        CheckoutError::Version(_) | CheckoutError::Store(_) | CheckoutError::NoRoom { .. } | CheckoutError::Task(_) => {
            return None;
        }
    })
}

fn of_archive(error: &ArchiveError) -> Option<(Exit, String)> {
    Some(match error {
        ArchiveError::Gone { .. } => (Exit::NotFound, "`workspace list` shows what there is".to_owned()),
        ArchiveError::TooLarge { .. } => (Exit::Failure, "`workspace download` fetches it with keys".to_owned()),
        ArchiveError::Build(BuildError::Parts { .. }) => {
            (Exit::Failure, "`workspace verify NAME --deep` says what is damaged".to_owned())
        }
        _ => return None,
    })
}

fn of_url(error: &FromUrlError) -> Option<(Exit, String)> {
    let another = "ask for another URL: `workspace presign NAME` prints one";
    Some(match error {
        FromUrlError::Expired { .. } => (Exit::Failure, another.to_owned()),
        FromUrlError::Refused { .. } => (
            Exit::Failure,
            format!(
                "put the whole URL between quotes (it has `&`), or read it from standard input (`-`); else {another}"
            ),
        ),
        FromUrlError::Missing => (Exit::NotFound, another.to_owned()),
        FromUrlError::Foreign(FormatError::Newer { .. }) => {
            (Exit::Failure, "install a newer version of workspace".to_owned())
        }
        FromUrlError::Foreign(_) => (
            Exit::Failure,
            format!("{another}; if it is a tar, `curl -fsS 'URL' | zstd -d | tar x` unpacks it unverified"),
        ),
        FromUrlError::Damaged { .. } => (
            Exit::Failure,
            "try again; if it stays so, delete the archive in the bucket: `workspace presign NAME` writes it anew"
                .to_owned(),
        ),
        FromUrlError::NoRanges { .. } => {
            (Exit::Failure, "`curl -fsS 'URL' | zstd -d | tar x` unpacks it unverified".to_owned())
        }
        FromUrlError::Server(error) => {
            (of_store(error).0, "the same command goes on where it stopped; check the URL's host".to_owned())
        }
        FromUrlError::Target(_) | FromUrlError::Task(_) => return None,
    })
}

fn of_engine(error: &EngineError) -> Option<(Exit, String)> {
    Some(match error {
        EngineError::Unreachable { .. } => (
            Exit::Unavailable,
            "is Docker running, and may this user use its socket (group `docker`)? In a container, mount \
             /var/run/docker.sock"
                .to_owned(),
        ),
        EngineError::Host(_) => (Exit::Usage, "DOCKER_HOST=unix:///var/run/docker.sock, or take it away".to_owned()),
        EngineError::NoCompose => {
            (Exit::Failure, "install Docker's Compose plugin: <https://docs.docker.com/compose/install/>".to_owned())
        }
        _ => return None,
    })
}

fn of_monitor(error: &MonitorError) -> Option<(Exit, String)> {
    Some(match error {
        MonitorError::EmptyBucket { .. } => {
            (Exit::NotFound, "`workspace upload NAME DIR` first, or check S3_BUCKET".to_owned())
        }
        MonitorError::Listen { .. } => (Exit::Usage, "`--listen ADDR` names another address".to_owned()),
        MonitorError::Routes { .. } => {
            (Exit::Usage, "WORKSPACE_TRAEFIK_ROUTES names a folder that this process may write".to_owned())
        }
        _ => return None,
    })
}

fn of_record(error: &RecordError) -> Option<(Exit, String)> {
    Some(match error {
        RecordError::Held { .. } => (
            Exit::Conflict,
            "only one monitor works on an engine: stop that one first, or let it do the work".to_owned(),
        ),
        RecordError::TakenOver { .. } => (Exit::Conflict, "`workspace status` shows who holds it now".to_owned()),
        RecordError::Object { .. } => (
            Exit::Failure,
            "remove the object: a monitor writes it anew, but forgets which releases were bad".to_owned(),
        ),
        RecordError::Store(_) => return None,
    })
}

fn of_settings(error: &SettingsError) -> (Exit, Option<&'static str>) {
    let hint = match error {
        SettingsError::Empty { .. } => "give it a value, or take it away",
        SettingsError::Mode { .. } => {
            "`STORAGE_MODE=s3` for S3, `STORAGE_MODE=embedded` for the store on this machine; folders are moved into it \
             with `workspace upload NAME DIR`"
        }
        SettingsError::NotConfigured => {
            "set S3_ENDPOINT or S3_BUCKET, or STORAGE_MODE=embedded for the store on this machine"
        }
        SettingsError::Mixed { .. } => "set S3_ENDPOINT beside them, or take them away",
        SettingsError::NoKeysInFile { .. } => {
            "set S3_ACCESS_KEY and S3_SECRET_KEY in the same file, or S3_ENDPOINT in the environment"
        }
        SettingsError::NothingForS3 => "set S3_ENDPOINT for a server, S3_BUCKET for AWS",
        SettingsError::NoBucket => "set S3_BUCKET, or S3_ENDPOINT if it is not AWS you mean",
        SettingsError::NoDataFolder => "set WORKSPACE_DATA_DIR",
        SettingsError::Invalid { .. } | SettingsError::HalfKeys { .. } | SettingsError::File { .. } => {
            "`.env.example` describes every setting"
        }
    };
    (Exit::Usage, Some(hint))
}

fn of_bucket(error: &BucketError) -> (Exit, Option<&'static str>) {
    match error {
        BucketError::Store(error) => of_store(error),
        BucketError::Newer { .. } => (Exit::Failure, Some("install a newer version of workspace")),
        BucketError::Damaged { .. } => (Exit::Failure, Some("restore `bucket.json`, or use another bucket")),
        BucketError::NotOurs { example, .. } if example.starts_with("data/") || example.starts_with("refs/") => (
            Exit::Conflict,
            Some(
                "its `bucket.json` is gone, if workspace has used it: restore it from a backup, or `workspace init --yes` makes another",
            ),
        ),
        BucketError::NotOurs { .. } => (Exit::Conflict, Some("`--yes` to use it all the same, or another S3_BUCKET")),
        BucketError::NoConditions { .. } => {
            (Exit::Failure, Some("`--single-writer` if only one upload runs at a time, or another server"))
        }
        BucketError::CannotCreate { source, .. } => {
            let exit = of_store(source).0;
            (exit, Some("create the bucket with an account that may, or check S3_BUCKET"))
        }
    }
}

fn of_store(error: &StoreError) -> (Exit, Option<&'static str>) {
    match error {
        StoreError::NotFound { key } if key.starts_with("data/") => (
            Exit::NotFound,
            Some("part of a version is missing: `workspace verify NAME` says which versions and files that hurts"),
        ),
        StoreError::NotFound { .. } => (Exit::NotFound, None),
        StoreError::NoBucket { .. } => (Exit::NotFound, Some("check S3_BUCKET; `workspace upload` creates it")),
        StoreError::Precondition { .. } | StoreError::Conflict { .. } => (Exit::Conflict, Some("try again")),
        StoreError::BucketName { .. } => {
            (Exit::Usage, Some("3 to 63 of a-z, 0-9, `.` and `-`, a letter or digit at both ends"))
        }
        StoreError::WrongRegion { .. } => (Exit::Usage, Some("set S3_REGION to the bucket's region")),
        StoreError::NoRegion => (Exit::Usage, Some("set S3_REGION, or S3_ENDPOINT if it is not AWS you mean")),
        StoreError::AccessDenied { .. } => (
            Exit::Failure,
            Some("check what the key in S3_ACCESS_KEY may do; docs/permissions.md has a policy for each role"),
        ),
        StoreError::BadCredentials { .. } => {
            (Exit::Failure, Some("check that S3_ACCESS_KEY and S3_SECRET_KEY are those of this endpoint"))
        }
        StoreError::NoCredentials { .. } => {
            (Exit::Usage, Some("set S3_ACCESS_KEY and S3_SECRET_KEY in the same place as the endpoint"))
        }
        StoreError::GrantExpired { .. } => (
            Exit::Unavailable,
            Some(
                "the monitor that started this container renews its grant: see whether it runs, and this machine's clock",
            ),
        ),
        StoreError::NotGranted { .. } => (Exit::Failure, Some("the grant is for another version")),
        StoreError::ClockSkew { .. } => (Exit::Failure, Some("set this machine's clock")),
        StoreError::Unreachable { reason, .. } if reason.contains("certificate") => {
            (Exit::Unavailable, Some("set WORKSPACE_CA_BUNDLE to the authority that signed the server's certificate"))
        }
        StoreError::Unreachable { .. } => {
            (Exit::Unavailable, Some("check S3_ENDPOINT and the network; `workspace status --settings` tries it"))
        }
        StoreError::Timeout { .. }
        | StoreError::Interrupted { .. }
        | StoreError::Throttled { .. }
        | StoreError::Truncated { .. } => (Exit::Unavailable, Some("try again later")),
        StoreError::NotS3 { .. } => {
            (Exit::Failure, Some("check S3_ENDPOINT: it may name a console or a proxy instead of the S3 port"))
        }
        StoreError::NoRanges { .. } => {
            (Exit::Failure, Some("a proxy in between may drop the header `Range`: ask the store without it"))
        }
        StoreError::StorageFull => (Exit::Failure, Some("make room, or use another store")),
        StoreError::CaBundle { .. } => (Exit::Usage, Some("WORKSPACE_CA_BUNDLE names a file of PEM certificates")),
        StoreError::Server { status, .. } if *status >= 500 => (Exit::Unavailable, Some("try again later")),
        StoreError::Server { status: 404 | 405, .. } => {
            (Exit::Failure, Some("check S3_ENDPOINT: S3 doesn't answer like that here"))
        }
        StoreError::Embedded(EmbeddedError::Newer { .. }) => {
            (Exit::Failure, Some("install a newer version of workspace"))
        }
        StoreError::Embedded(EmbeddedError::Folder { .. }) => {
            (Exit::Failure, Some("WORKSPACE_DATA_DIR names another folder"))
        }
        StoreError::Embedded(EmbeddedError::Damaged { .. })
        | StoreError::Unsupported { .. }
        | StoreError::Damaged { .. }
        | StoreError::TooLarge { .. }
        | StoreError::Delete { .. }
        | StoreError::Server { .. }
        | StoreError::Configuration { .. } => (Exit::Failure, None),
    }
}
