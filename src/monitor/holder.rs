//! Which monitor holds an Engine: one at a time, told by the host's record in the bucket.
//!
//! A record alone can't say whether its writer still lives, and waiting for its beats to run out would keep a monitor that
//! was killed from coming back at once. So a holder says who it is in terms that others on the same machine can check: its
//! process, or the container that it runs in.

use jiff::Timestamp;
use ulid::Ulid;

use crate::engine::{ContainerState, Engine};
use crate::format::host::{Holder, Host};

/// This process, as a holder.
pub fn this_process() -> Holder {
    Holder {
        instance: Ulid::generate(),
        pid: std::process::id(),
        process: namespace()
            .zip(birth(std::process::id()))
            .map(|(space, birth)| format!("{space}/{birth}"))
            .unwrap_or_default(),
        container: container_id(),
    }
}

/// Whether the holder of a record is still at work, as far as it can be told from here.
pub async fn is_alive(host: &Host, own: &Holder, engine: &Engine, now: Timestamp) -> bool {
    if host.ended {
        return false;
    }
    let holder = &host.holder;
    let beats = host.is_alive(now);
    if !own.process.is_empty() && (holder.pid, &holder.process) == (own.pid, &own.process) {
        // This very process: it had begun before, and the reply was lost.
        return false;
    }
    if let Some((space, born)) = holder.process.rsplit_once('/')
        && namespace().as_deref() == Some(space)
    {
        // The same machine, boot and namespace: the process is there or it isn't.
        return birth(holder.pid).as_deref() == Some(born);
    }
    if let Some(container) = &holder.container {
        if own.container.as_ref() == Some(container) {
            // Our own container in an earlier life.
            return false;
        }
        return match engine.inspect(container).await {
            Ok(detail) => {
                let since = detail.started_at.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
                // One that was started again since the record was written hasn't said so yet.
                detail.state == ContainerState::Running && since.is_none_or(|since| since <= host.started) && beats
            }
            Err(error) if error.is_not_found() => false,
            Err(_) => beats,
        };
    }
    beats
}

/// Names this boot of this machine, and the namespace in which process numbers mean something.
#[cfg(target_os = "linux")]
fn namespace() -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let space = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{}/{}", boot.trim(), space.display()))
}

/// When a process was started, in ticks since the boot.
#[cfg(target_os = "linux")]
fn birth(pid: u32) -> Option<String> {
    let process = procfs::process::Process::new(i32::try_from(pid).ok()?).ok()?;
    Some(process.stat().ok()?.starttime.to_string())
}

/// The container that this process runs in.
#[cfg(target_os = "linux")]
fn container_id() -> Option<String> {
    // Docker mounts files of the container's own folder, whatever its host name is.
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.split("/containers/").skip(1).find_map(|rest| {
        let id = rest.split('/').next()?;
        (id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| id.to_owned())
    })
}

#[cfg(not(target_os = "linux"))]
fn namespace() -> Option<String> {
    None
}

#[cfg(not(target_os = "linux"))]
fn birth(_: u32) -> Option<String> {
    None
}

#[cfg(not(target_os = "linux"))]
fn container_id() -> Option<String> {
    None
}
