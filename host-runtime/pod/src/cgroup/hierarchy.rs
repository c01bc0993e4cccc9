//! One tree of cgroups, of v1 or v2, with the controllers that we use: what its files are called.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{CgroupError, Limits};

/// What can be limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Controller {
    Memory,
    Cpu,
    Pids,
}

const CONTROLLERS: [(Controller, &str); 3] = [
    (Controller::Memory, "memory"),
    (Controller::Cpu, "cpu"),
    (Controller::Pids, "pids"),
];

/// A mounted tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub(super) mount: PathBuf,
    is_v2: bool,
    controllers: Vec<Controller>,
}

/// The trees of this host that have a controller that we use, each controller in one of them.
pub(super) fn of_host() -> Vec<Hierarchy> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let controllers =
        |mount: &Path| fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
    parse(&mounts, controllers)
}

/// As [`of_host`]; `controllers` gives those that a tree of v2 has.
pub(super) fn parse(mounts: &str, controllers: impl Fn(&Path) -> String) -> Vec<Hierarchy> {
    let mut hierarchies: Vec<Hierarchy> = Vec::new();
    for line in mounts.lines() {
        // proc_pid_mountinfo(5): what is optional ends at a dash.
        let Some((before, after)) = line.split_once(" - ") else {
            continue;
        };
        let (mut before, mut after) = (before.split(' ').skip(4), after.split(' '));
        let (Some(mount), kind, options) = (before.next(), after.next(), after.nth(1)) else {
            continue;
        };
        let mount = PathBuf::from(mount);
        let (is_v2, names) = match kind {
            Some("cgroup2") => (true, controllers(&mount)),
            Some("cgroup") => (false, options.unwrap_or_default().replace(',', " ")),
            _ => continue,
        };
        let names: Vec<_> = names.split_whitespace().collect();
        let is_new =
            |controller: Controller| hierarchies.iter().all(|other| !other.has(controller));
        let own = CONTROLLERS.iter();
        let own = own.filter(|(controller, name)| names.contains(name) && is_new(*controller));
        let controllers: Vec<_> = own.map(|(controller, _)| *controller).collect();
        if !controllers.is_empty() {
            hierarchies.push(Hierarchy {
                mount,
                is_v2,
                controllers,
            });
        }
    }
    hierarchies
}

impl Hierarchy {
    pub(super) fn has(&self, controller: Controller) -> bool {
        self.controllers.contains(&controller)
    }

    pub(super) fn file(&self, leaf: &Path, name: &str) -> PathBuf {
        self.mount.join(leaf).join(name)
    }

    pub(super) fn memory_file(&self) -> &'static str {
        self.of_version("memory.current", "memory.usage_in_bytes")
    }

    pub(super) fn memory_limit_file(&self) -> &'static str {
        self.of_version("memory.max", "memory.limit_in_bytes")
    }

    pub(super) fn oom_file(&self) -> &'static str {
        self.of_version("memory.events", "memory.oom_control")
    }

    fn of_version(&self, v2: &'static str, v1: &'static str) -> &'static str {
        if self.is_v2 { v2 } else { v1 }
    }

    /// Makes the directory of a leaf and those above it, from the top, where v2 hands controllers down.
    pub(super) fn make(&mut self, leaf: &Path) -> Result<(), CgroupError> {
        let mut dir = self.mount.clone();
        for part in leaf {
            if self.is_v2 {
                for (_, name) in CONTROLLERS
                    .iter()
                    .filter(|(controller, _)| self.has(*controller))
                {
                    // What is not handed down is seen to be missing below.
                    let _ = fs::write(dir.join("cgroup.subtree_control"), format!("+{name}"));
                }
            }
            dir.push(part);
            match fs::create_dir(&dir) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(CgroupError::of("make the cgroup", &dir)(error));
                }
                _ => {}
            }
        }
        let procs = dir.join("cgroup.procs");
        let processes = fs::read_to_string(&procs).map_err(CgroupError::of("read", &procs))?;
        if !processes.is_empty() {
            return Err(CgroupError::Taken { path: dir });
        }
        if self.is_v2 {
            let names = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
            let names: Vec<_> = names.split_whitespace().collect();
            let known = CONTROLLERS.iter().filter(|(_, name)| names.contains(name));
            let known: Vec<_> = known.map(|(controller, _)| *controller).collect();
            self.controllers
                .retain(|controller| known.contains(controller));
        }
        Ok(())
    }

    /// Writes the limits of the controllers that it has.
    pub(super) fn limit(&self, leaf: &Path, limits: &Limits) -> Result<(), CgroupError> {
        let write = |name: &str, value: String| {
            let path = self.file(leaf, name);
            fs::write(&path, value).map_err(CgroupError::of("write", &path))
        };
        if self.has(Controller::Memory) {
            write(self.memory_limit_file(), limits.memory.to_string())?;
        }
        if self.has(Controller::Pids) {
            write("pids.max", limits.processes.to_string())?;
        }
        if !self.has(Controller::Cpu) {
            return Ok(());
        }
        match limits.cpu.map(|cpu| (cpu.quota_us, cpu.period_us)) {
            None => {}
            Some((quota, period)) if self.is_v2 => write("cpu.max", format!("{quota} {period}"))?,
            Some((quota, period)) => {
                write("cpu.cfs_period_us", period.to_string())?;
                write("cpu.cfs_quota_us", quota.to_string())?;
            }
        }
        match limits.shares {
            None => Ok(()),
            Some(shares) if self.is_v2 => write("cpu.weight", weight(shares).to_string()),
            Some(shares) => write("cpu.shares", shares.to_string()),
        }
    }
}

/// v2's weight (1 to 10000) for v1's shares (2 to 262144), as runc has it.
fn weight(shares: u64) -> u64 {
    let shares = shares.clamp(2, 262_144);
    1 + ((shares - 2) * 9999) / 262_142
}
