//! The control groups of containers (cgroups(7), version 2): each container has one, in which all of its processes are,
//! and by which its limits are kept, its processes found, frozen and killed, and what they use is told.
//!
//! The hierarchy is mounted when the first container comes. On a kernel without, containers have no group, and limits are
//! refused. A container may divide its group further: what is said of it here goes for all below it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::mount::MountFlags;

use crate::refusal::{Answer, Refusal};

/// Where the hierarchy is mounted: out of the way of containers.
const AT: &str = "/run/nacre/cgroup";
/// How long a frozen container's processes may take to come to rest.
const FREEZE_BOUND: Duration = Duration::from_secs(10);

/// A container's group.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
}

/// The mounted hierarchy, with all its controllers for containers to have; `None` where there is none.
fn hierarchy() -> Option<&'static Path> {
    static MOUNTED: OnceLock<bool> = OnceLock::new();
    MOUNTED
        .get_or_init(|| mount().is_ok())
        .then(|| Path::new(AT))
}

fn mount() -> Result<(), Errno> {
    // Only PID 1 of a guest has the guest's hierarchy to itself.
    if rustix::process::getpid().as_raw_pid() != 1 {
        return Err(Errno::PERM);
    }
    match rustix::fs::mkdir(AT, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount(c"cgroup2", AT, c"cgroup2", flags, c"nsdelegate")?;
    let controllers = read(&Path::new(AT).join("cgroup.controllers"));
    for controller in controllers.split_whitespace() {
        // One that cannot be had is missed by whoever sets a limit of it.
        let _ = write(
            &Path::new(AT).join("cgroup.subtree_control"),
            &format!("+{controller}"),
        );
    }
    Ok(())
}

impl Cgroup {
    /// Makes the group of a container and writes its `settings`: names of files, and what goes there. `None` without a
    /// hierarchy, when nothing is set.
    pub(crate) fn make(id: &str, settings: &HashMap<String, String>) -> Answer<Option<Self>> {
        let Some(hierarchy) = hierarchy() else {
            return match settings.keys().min() {
                Some(name) => Err(Refusal::unsupported(format!(
                    "the guest's kernel has no control groups, so {name} cannot be set"
                ))),
                None => Ok(None),
            };
        };
        // A container's name has no slash; two names must not be one group's.
        let group = Self {
            path: hierarchy.join(format!("nacre-{}", id.replace('/', "\\x2f"))),
        };
        // What is left of a container that could not be made.
        group.remove();
        if let Err(error) = fs::create_dir(&group.path) {
            return Err(Refusal::io(
                &format!("make a control group for container \"{id}\""),
                &error,
            ));
        }
        match group.set(settings) {
            Ok(()) => Ok(Some(group)),
            Err(refusal) => {
                group.remove();
                Err(refusal)
            }
        }
    }

    /// Writes settings.
    pub(crate) fn set(&self, settings: &HashMap<String, String>) -> Answer<()> {
        let mut names: Vec<_> = settings.iter().collect();
        names.sort();
        for (name, value) in names {
            let is_plain = name.split_once('.').is_some() && !name.contains('/');
            // What moves and ends processes is not for settings.
            if !is_plain || name.starts_with("cgroup.") {
                return Err(Refusal::invalid(format!(
                    "\"{name}\" is no setting of a control group"
                )));
            }
            write(&self.path.join(name), value).map_err(|error| match error.kind() {
                ErrorKind::NotFound => Refusal::unsupported(format!(
                    "the guest's kernel does not have {name} of control groups"
                )),
                _ => Refusal::io(
                    &format!("set {name} of the container to \"{value}\""),
                    &error,
                ),
            })?;
        }
        Ok(())
    }

    /// The file by which a process comes into the group: it writes 0.
    pub(crate) fn door(&self) -> Answer<OwnedFd> {
        let file = File::options()
            .write(true)
            .open(self.path.join("cgroup.procs"));
        let what = |error| Refusal::io("open the container's control group", &error);
        file.map(OwnedFd::from).map_err(what)
    }

    /// The living processes in it and below.
    pub(crate) fn members(&self) -> Vec<i32> {
        let mut pids = Vec::new();
        each(&self.path, &mut |group| {
            let text = read(&group.join("cgroup.procs"));
            pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        });
        pids.retain(|pid| *pid > 0);
        pids.sort_unstable();
        pids
    }

    /// Kills all of them.
    pub(crate) fn kill(&self) {
        // It fails when the group is gone, with all that was in it.
        let _ = write(&self.path.join("cgroup.kill"), "1");
    }

    /// Has all of them stand still, or go on.
    pub(crate) fn freeze(&self, freezes: bool) -> Answer<()> {
        let (text, wanted) = if freezes {
            ("1", "frozen 1")
        } else {
            ("0", "frozen 0")
        };
        let failed = |error| Refusal::io("freeze or thaw the container", &error);
        write(&self.path.join("cgroup.freeze"), text).map_err(failed)?;
        let events = self.path.join("cgroup.events");
        let deadline = Instant::now() + FREEZE_BOUND;
        let mut file = File::open(&events).map_err(failed)?;
        loop {
            let mut now = String::new();
            file.read_to_string(&mut now).map_err(failed)?;
            if now.lines().any(|line| line == wanted) {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Refusal::state(format!(
                    "the container's processes did not come to rest within {} s",
                    FREEZE_BOUND.as_secs()
                )));
            }
            let left = rustix::event::Timespec::try_from(left).ok();
            let mut changed = [PollFd::from_borrowed_fd(file.as_fd(), PollFlags::PRI)];
            // Interrupted or not: it looks again.
            let _ = rustix::event::poll(&mut changed, left.as_ref());
            file = File::open(&events).map_err(failed)?;
        }
    }

    /// How many of its processes died for want of memory.
    pub(crate) fn oom_kills(&self) -> u64 {
        self.keyed("memory.events", "oom_kill")
    }

    /// A number of a file that has one; `None` for `max` and for a file that is not there.
    pub(crate) fn number(&self, file: &str) -> Option<u64> {
        read(&self.path.join(file)).trim().parse().ok()
    }

    /// A number of a file of names and numbers; 0 for one that is not there.
    pub(crate) fn keyed(&self, file: &str, key: &str) -> u64 {
        let text = read(&self.path.join(file));
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        let found = lines.find(|(name, _)| *name == key);
        found.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
    }

    /// Removes it and those below it, which have no processes any more.
    pub(crate) fn remove(&self) {
        let mut all = Vec::new();
        each(&self.path, &mut |group| all.push(group.to_owned()));
        for group in all.iter().rev() {
            // One that still has somebody stays, as the machine's end is near or the container's name is not used again.
            let _ = fs::remove_dir(group);
        }
    }
}

/// Calls `act` with a group and those below it, parents first.
fn each(group: &Path, act: &mut dyn FnMut(&Path)) {
    act(group);
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            each(&entry.path(), act);
        }
    }
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    File::options()
        .write(true)
        .open(path)?
        .write_all(text.as_bytes())
}

/// What cannot be read says nothing.
fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_files_of_controllers() {
        let directory = std::env::temp_dir().join(format!("nacre-cgroups-{}", std::process::id()));
        fs::create_dir_all(directory.join("below")).unwrap();
        let group = Cgroup {
            path: directory.clone(),
        };
        fs::write(directory.join("pids.max"), "").unwrap();
        let set = |name: &str| group.set(&[(name.to_owned(), "5".to_owned())].into());
        set("pids.max").unwrap();
        assert_eq!(group.number("pids.max"), Some(5));
        assert!(set("cpu.max").unwrap_err().to_string().contains("cpu.max"));
        for bad in ["cgroup.procs", "../pids.max", "pids", "a.b/c"] {
            assert!(
                set(bad).unwrap_err().to_string().contains("no setting"),
                "{bad}"
            );
        }
        fs::write(directory.join("memory.events"), "oom 3\noom_kill 2\n").unwrap();
        assert_eq!(group.oom_kills(), 2);
        fs::write(directory.join("cgroup.procs"), "7\n0\n").unwrap();
        fs::write(directory.join("below/cgroup.procs"), "3\n").unwrap();
        assert_eq!(group.members(), [3, 7]);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn without_a_hierarchy_nothing_can_be_set() {
        // A test is no PID 1.
        assert!(Cgroup::make("one", &HashMap::new()).unwrap().is_none());
        let settings = [("pids.max".to_owned(), "5".to_owned())].into();
        let said = Cgroup::make("one", &settings).unwrap_err().to_string();
        assert!(said.contains("pids.max"), "{said}");
    }
}
