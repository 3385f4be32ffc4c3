//! What this process knows stays in its memory: keys of a store must not lie about in a core dump.

/// From now on a crash leaves no core dump of this process, and no other process of this user can read its memory or the
/// environment that it was started with. Programs that it starts are not affected: they are given no keys.
pub fn keep_memory_private() {
    // Where the system refuses, nothing is worse than it was.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    #[cfg(not(target_os = "linux"))]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let maximum = getrlimit(Resource::Core).maximum;
        let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum });
    }
}
