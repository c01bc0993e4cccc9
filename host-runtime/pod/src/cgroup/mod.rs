//! The host's cgroup of a pod: a leaf with the processes of its machine, which holds them to the pod's limits.
//!
//! [`Leaf::make`] makes one directory of the same path in each hierarchy that has one of the controllers that we use
//! ([`hierarchy`]): one on a host with cgroup v2, several on one with v1, both kinds on one between. The owner is not in
//! it; the machine's process enters it ([`Leaf::machine`]) before it starts others. Which directories there are to
//! remove ([`Directories`]) is in the pod's state before the first is made, so that whoever finds the pod dead can
//! ([`Directories::remove`]).
//!
//! By hand and not by the crate `cgroups-rs`, which adds processes by number and not by themselves, and does not say
//! which directories it has made: with both added there is nothing left that it would save.

mod hierarchy;
mod path;
#[cfg(test)]
mod tests;

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use host_machine::printing::said;
use host_machine::{CgroupLeaf, MachineKind, MachineSpec, bounds};
use serde::{Deserialize, Serialize};

use hierarchy::{Controller, Hierarchy};

const PAUSE: Duration = Duration::from_millis(2);
/// What the processes of a machine have beside the guest's memory, in bytes: their own pages and those of the kernel.
const OF_VMM: u64 = 32 << 20;
/// The same of QEMU, which keeps what it has translated: an eighth of the guest's memory, at most this much.
const OF_QEMU: u64 = 128 << 20;
const TRANSLATED: u64 = 1 << 30;
/// What the tables of guest memory take of it: less than this part.
const TABLES: u64 = 64;
/// Threads of a machine beside its CPUs, at most, with room for the short-lived.
const THREADS: u64 = 64;

/// Why a pod has no cgroup that it needs. `Display` gives one sentence.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No path.
    #[error("the cgroup path {path:?} (linux.cgroupsPath) {what}")]
    Path {
        /// As given.
        path: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The host has none.
    #[error(
        "{what} needs a cgroup, and this host has no cgroup tree with the controllers memory, cpu or pids; mount one on /sys/fs/cgroup"
    )]
    None {
        /// What was asked for.
        what: &'static str,
    },
    /// One that has processes.
    #[error("the cgroup {} has processes already; name another by linux.cgroupsPath, or end them", path.display())]
    Taken {
        /// Its directory.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot {what} {}: {}; a pod's limits on the host need a cgroup tree that may be written to", path.display(), said(.source))]
    System {
        /// "make the cgroup" and so on.
        what: &'static str,
        /// What.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
}

impl CgroupError {
    fn of(what: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::System {
            what,
            path: path.clone(),
            source,
        }
    }
}

/// What a leaf holds its processes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: u64,
    /// Processor time, when it is not only the number of virtual CPUs that bounds it.
    pub cpu: Option<Quota>,
    /// A weight against others on the host, as v1 has it: 2 to 262144, usually 1024.
    pub shares: Option<u64>,
    /// Processes and threads.
    pub processes: u64,
}

/// So many microseconds of processor time in each period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// In each period, of all CPUs together.
    pub quota_us: u64,
    /// The period.
    pub period_us: u64,
}

impl Quota {
    /// As much as so many CPUs have.
    #[must_use]
    pub fn of_cpus(cpus: u32) -> Self {
        let period_us = 100_000;
        Self {
            quota_us: period_us * u64::from(cpus),
            period_us,
        }
    }
}

impl Limits {
    /// What a machine needs for what it promises its guest.
    #[must_use]
    pub fn of(spec: &MachineSpec) -> Self {
        Self {
            memory: Self::memory(spec.kind, spec.memory.size),
            cpu: None,
            shares: None,
            processes: u64::from(spec.cpus) + THREADS,
        }
    }

    /// The bytes of memory of the processes of a machine whose guest has so many.
    #[must_use]
    pub fn memory(kind: MachineKind, guest: u64) -> u64 {
        let own = match kind {
            MachineKind::Kvm => OF_VMM,
            MachineKind::Qemu => OF_QEMU + (guest / 8).min(TRANSLATED),
        };
        guest + guest / TABLES + own
    }
}

/// Where a pod's cgroup is to be.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// `linux.cgroupsPath`, as cgroupfs or systemd has it; `None` for the pod's own place.
    pub path: Option<&'a str>,
    /// What cannot do without, for messages; `None`: a pod on a host that gives no cgroup has none.
    pub needs: Option<&'static str>,
}

/// The directories of a leaf, for whoever removes them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directories {
    /// Of this pod alone.
    leaves: Vec<PathBuf>,
    /// Above them, made for it: to be removed by the last that is in them.
    parents: Vec<PathBuf>,
}

impl Directories {
    /// Removes them once the processes in them are gone, which have ended or are ending.
    ///
    /// # Errors
    /// When there are still processes after a while.
    pub(crate) fn remove(&self) -> Result<(), (PathBuf, io::Error)> {
        self.remove_within(bounds::CGROUP_EMPTY.get())
    }

    /// Removes those that nobody is in.
    pub(crate) fn remove_empty(&self) {
        // The others are somebody else's.
        let _ = self.remove_within(Duration::ZERO);
    }

    fn remove_within(&self, bound: Duration) -> Result<(), (PathBuf, io::Error)> {
        let mut busy = None;
        let begun = Instant::now();
        for leaf in &self.leaves {
            loop {
                match fs::remove_dir(leaf) {
                    Err(error) if is_busy(&error) && begun.elapsed() < bound => {
                        std::thread::sleep(PAUSE);
                    }
                    Err(error) if error.kind() != ErrorKind::NotFound => {
                        busy = Some((leaf.clone(), error));
                        break;
                    }
                    _ => break,
                }
            }
        }
        for parent in &self.parents {
            // Other pods' are in it, or somebody else removes it.
            let _ = fs::remove_dir(parent);
        }
        busy.map_or(Ok(()), Err)
    }
}

fn is_busy(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ResourceBusy | ErrorKind::DirectoryNotEmpty
    )
}

/// Where a leaf will be.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    hierarchies: Vec<Hierarchy>,
    directories: Directories,
}

impl Place {
    /// Finds the place, and changes nothing; `None` for a host without cgroups.
    pub(crate) fn find(wish: Wish<'_>, own: &Path) -> Result<Option<Self>, CgroupError> {
        let path = match wish.path {
            Some(path) => path::parse(path)?,
            None => own.to_owned(),
        };
        let hierarchies = hierarchy::of_host();
        match wish.needs {
            Some(what) if hierarchies.is_empty() => return Err(CgroupError::None { what }),
            None if hierarchies.is_empty() => return Ok(None),
            _ => {}
        }
        let is_ours = wish.path.is_none();
        let mut directories = Directories::default();
        for hierarchy in &hierarchies {
            let above = path.ancestors().skip(1);
            let above = above.filter(|above| !above.as_os_str().is_empty());
            let above = above.map(|above| hierarchy.mount.join(above));
            let made = above.filter(|above| is_ours || !above.exists());
            directories.parents.extend(made);
            directories.leaves.push(hierarchy.mount.join(&path));
        }
        Ok(Some(Self {
            path,
            hierarchies,
            directories,
        }))
    }

    pub(crate) fn directories(&self) -> &Directories {
        &self.directories
    }

    /// Makes the leaf with its limits; on failure the caller removes what is there.
    pub(crate) fn make(self, limits: &Limits) -> Result<Leaf, CgroupError> {
        let mut leaf = Leaf {
            path: self.path,
            hierarchies: self.hierarchies,
        };
        for hierarchy in &mut leaf.hierarchies {
            hierarchy.make(&leaf.path)?;
            hierarchy.limit(&leaf.path, limits)?;
        }
        Ok(leaf)
    }
}

/// A pod's leaf.
#[derive(Debug)]
pub struct Leaf {
    /// Within each hierarchy.
    path: PathBuf,
    hierarchies: Vec<Hierarchy>,
}

/// What a leaf counts; what it cannot is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of memory that its processes were first to use, the page cache among them.
    pub memory: Option<u64>,
    /// The limit.
    pub memory_limit: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
    /// For how long its processes had to wait for the next period, in nanoseconds.
    pub throttled_ns: Option<u64>,
    /// Processes that the host's out-of-memory killer ended.
    pub oom_kills: Option<u64>,
}

impl Leaf {
    /// Its path in the tree, as `/proc/PID/cgroup` has it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new("/").join(&self.path)
    }

    /// As the machine's process needs it.
    #[must_use]
    pub fn machine(&self) -> CgroupLeaf {
        let hierarchies = self.hierarchies.iter();
        CgroupLeaf {
            procs: hierarchies
                .map(|hierarchy| hierarchy.file(&self.path, "cgroup.procs"))
                .collect(),
            oom: self.file(Controller::Memory, |hierarchy| hierarchy.oom_file()),
        }
    }

    /// Moves the limit of memory, which has to be above what is used.
    ///
    /// # Errors
    /// What the kernel said; a host without the controller has no limit to move.
    pub fn set_memory(&self, bytes: u64) -> Result<(), CgroupError> {
        let path = self.file(Controller::Memory, |hierarchy| {
            hierarchy.memory_limit_file()
        });
        path.map_or(Ok(()), |path| {
            fs::write(&path, bytes.to_string()).map_err(CgroupError::of("write", &path))
        })
    }

    /// What it counts now.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let number = |controller, name: fn(&Hierarchy) -> &'static str| {
            let text = fs::read_to_string(self.file(controller, name)?).ok()?;
            text.trim().parse().ok()
        };
        let throttled = self.file(Controller::Cpu, |_| "cpu.stat");
        let throttled = throttled.and_then(|path| {
            counted(&path, "throttled_time")
                .or_else(|| counted(&path, "throttled_usec").map(|us| us.saturating_mul(1000)))
        });
        let oom = self.file(Controller::Memory, |hierarchy| hierarchy.oom_file());
        Usage {
            memory: number(Controller::Memory, |hierarchy| hierarchy.memory_file()),
            memory_limit: number(Controller::Memory, |hierarchy| {
                hierarchy.memory_limit_file()
            }),
            processes: number(Controller::Pids, |_| "pids.current"),
            throttled_ns: throttled,
            oom_kills: oom.and_then(|path| counted(&path, "oom_kill")),
        }
    }

    /// A file of the hierarchy that has a controller.
    fn file(
        &self,
        controller: Controller,
        name: impl Fn(&Hierarchy) -> &'static str,
    ) -> Option<PathBuf> {
        let mut hierarchies = self.hierarchies.iter();
        let hierarchy = hierarchies.find(|hierarchy| hierarchy.has(controller))?;
        Some(hierarchy.file(&self.path, name(hierarchy)))
    }
}

/// A line `NAME NUMBER` of a file.
fn counted(path: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let number = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    number.trim().parse().ok()
}
