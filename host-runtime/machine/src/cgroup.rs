//! The cgroup of a machine, as far as the machine has to do with it: its process enters it, and its owner reads there
//! whether the host's out-of-memory killer came by.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::MachineError;

/// A leaf of the host's cgroup tree, or of several trees, for the processes of one machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CgroupLeaf {
    /// The `cgroup.procs` of each tree.
    pub procs: Vec<PathBuf>,
    /// The file with a line `oom_kill COUNT`.
    pub oom: Option<PathBuf>,
}

impl CgroupLeaf {
    /// What the machine's process enters it by.
    pub(crate) fn open(&self) -> Result<Vec<OwnedFd>, MachineError> {
        let open = |path: &PathBuf| {
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| MachineError::Open {
                what: "pod's cgroup",
                path: path.clone(),
                source: errno.into(),
            })
        };
        self.procs.iter().map(open).collect()
    }
}

/// Puts this process, which has started no other yet, into the leaf.
pub(crate) fn enter(procs: Vec<OwnedFd>) -> Result<(), &'static str> {
    for procs in procs {
        // 0 is whoever writes.
        rustix::io::write(procs, b"0").map_err(|_| "the pod's cgroup does not take the process")?;
    }
    Ok(())
}

/// Whether the host's out-of-memory killer has ended a process of the leaf.
pub(crate) fn has_oom_kills(oom: &Path) -> bool {
    let text = fs::read_to_string(oom).unwrap_or_default();
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.is_some_and(|count| count.trim() != "0")
}

#[cfg(test)]
mod tests {
    use super::has_oom_kills;

    #[test]
    fn the_killer_is_found_in_both_versions_files() {
        let path = std::env::temp_dir().join(format!("nacre-oom-{}", std::process::id()));
        for (text, is_so) in [
            ("oom_kill_disable 0\nunder_oom 0\noom_kill 0\n", false),
            ("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n", true),
            ("max 12\noom 1\noom_kill 2\noom_group_kill 0\n", true),
            ("", false),
        ] {
            std::fs::write(&path, text).expect("room");
            assert_eq!(has_oom_kills(&path), is_so, "{text}");
        }
        std::fs::remove_file(&path).expect("still there");
        assert!(!has_oom_kills(&path));
    }
}
