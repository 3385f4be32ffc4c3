//! What only Linux offers to a container's first process, each with a twin that does without.

use std::net::SocketAddr;

/// Asks for orphaned grandchildren, so that none stays a zombie even when this isn't process 1.
pub(super) fn adopt_orphans() {
    #[cfg(target_os = "linux")]
    {
        // Process 1 gets them anyway; elsewhere it is a courtesy that may be refused.
        let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    }
}

/// Keeps other processes of the same user, such as the application, from reading this one's environment and memory,
/// where the store's keys are.
pub fn hide_memory() {
    #[cfg(target_os = "linux")]
    {
        let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    }
}

/// Whether this is a container's first process.
pub(super) fn is_first_process() -> bool {
    std::process::id() == 1
}

/// Whether a process with this number exists.
pub fn is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    // Anything but "no such process" means that there is one.
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

/// The addresses that accept TCP connections here. `None` where that can't be found out.
pub fn listeners() -> Option<Vec<SocketAddr>> {
    #[cfg(target_os = "linux")]
    {
        let entries = procfs::net::tcp().ok()?.into_iter().chain(procfs::net::tcp6().unwrap_or_default());
        let mut addresses: Vec<SocketAddr> = entries
            .filter(|entry| entry.state == procfs::net::TcpState::Listen)
            .map(|entry| entry.local_address)
            // Docker's own name service inside a container.
            .filter(|address| address.ip() != std::net::Ipv4Addr::new(127, 0, 0, 11))
            .collect();
        addresses.sort_unstable();
        addresses.dedup();
        Some(addresses)
    }
    #[cfg(not(target_os = "linux"))]
    None
}
