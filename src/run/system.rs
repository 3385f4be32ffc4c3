//! What only Linux offers to a container's first process, each with a twin that does without.

use std::net::SocketAddr;
use std::path::Path;

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

/// Whether a program is made for another kind of machine. Left to itself, the C library would hand it to a shell as a script.
///
/// By the header of the file, as <https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html> has it: byte 5 tells the
/// order of bytes, 18 and 19 the machine.
#[cfg(target_os = "linux")]
pub(super) fn is_for_another_machine(program: &str, folder: &Path, path: Option<&str>) -> bool {
    const OURS: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    let file = if program.contains('/') {
        std::fs::File::open(folder.join(program)).ok()
    } else {
        let mut folders = path.unwrap_or_default().split(':');
        folders.find_map(|found| std::fs::File::open(folder.join(found).join(program)).ok())
    };
    let mut header = [0; 20];
    let Some(Ok(())) = file.map(|mut file| std::io::Read::read_exact(&mut file, &mut header)) else { return false };
    let machine = [header[18], header[19]];
    let machine = if header[5] == 2 { u16::from_be_bytes(machine) } else { u16::from_le_bytes(machine) };
    let known = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));
    known && header.starts_with(b"\x7fELF") && machine != OURS
}

/// The same where programs look different.
#[cfg(not(target_os = "linux"))]
pub(super) fn is_for_another_machine(_: &str, _: &Path, _: Option<&str>) -> bool {
    false
}

/// How many processes of this container the kernel has killed for want of memory. `None` where it doesn't count.
pub(super) fn out_of_memory_kills() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        groups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?.trim_end_matches('/'));
            // The second version has one tree without controllers, the first a tree of its own for memory.
            let (root, file) = if controllers.is_empty() {
                ("/sys/fs/cgroup", "memory.events")
            } else if controllers.split(',').any(|controller| controller == "memory") {
                ("/sys/fs/cgroup/memory", "memory.oom_control")
            } else {
                return None;
            };
            // Inside a container its own group may be mounted as the root, under the path that it has outside.
            let text = std::fs::read_to_string(format!("{root}{path}/{file}"))
                .or_else(|_| std::fs::read_to_string(format!("{root}/{file}")));
            count_of_kills(&text.ok()?)
        })
    }
    #[cfg(not(target_os = "linux"))]
    None
}

#[cfg(target_os = "linux")]
fn count_of_kills(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// Whether there is such a folder, and this user may write to it.
pub(super) fn is_writable(folder: &std::path::Path) -> bool {
    folder.is_dir() && rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok()
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn kills_are_counted_in_both_versions_of_control_groups() {
        assert_eq!(count_of_kills("low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\noom_group_kill 0\n"), Some(2));
        assert_eq!(count_of_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"), Some(7));
        assert_eq!(count_of_kills("oom_kill_disable 0\nunder_oom 0\n"), None);
    }
}
