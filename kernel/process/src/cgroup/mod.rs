//! The file system of control groups (cgroups(7), `mount -t cgroup2`), and what is done to groups through it.
//!
//! There is one hierarchy ([`Cgroup`]); a mount shows it from the root of its mounter's cgroup namespace on. [`items`]
//! says which files a group has, [`inode`] makes inodes of groups and files, [`open`] has those that are open,
//! [`attach`] moves threads, [`numbers`] reads what was written.

mod attach;
mod inode;
mod items;
mod memory;
mod namespace;
mod numbers;
mod open;
mod pids;
#[cfg(test)]
mod tests;

use alloc::sync::{Arc, Weak};

use abi::{Errno, Result};
use collections::{String, Vec, try_arc};
use fs::{FileSystem, FileSystemType, FsFlags, Inode, MountRequest, StatFs, SuperBlock};
use machine::sync::SpinLock;

pub use self::attach::open_for_clone;
pub(crate) use self::attach::path;
use self::inode::Directory;
pub use self::namespace::CgroupNamespace;
use crate::exit;
use crate::signal::Signal;
use crate::task::cgroup::Cgroup;
use crate::task::thread::{self, Thread};
use crate::task::{relations, tree};

/// `CGROUP2_SUPER_MAGIC` of statfs(2).
const CGROUP2_MAGIC: u64 = 0x6367_7270;

/// Makes `cgroup2` known to mount(2). Once, at start-up.
///
/// # Errors
/// `ENOMEM`.
pub fn init() -> Result<()> {
    fs::register(try_arc(Cgroup2Type)?)
}

/// The root of a thread's cgroup namespace: what it sees of the hierarchy. `None` for the initial one's.
#[must_use]
pub fn namespace_root(thread: &Thread) -> Option<Arc<Cgroup>> {
    let own = thread.cgroup_namespace()?;
    Some(own.root().clone())
}

/// The type behind `mount -t cgroup2`: an instance for each root that a namespace has.
#[derive(Debug)]
struct Cgroup2Type;

static MOUNTED: SpinLock<Vec<(u64, Weak<SuperBlock>)>> = SpinLock::new(Vec::new());

impl FileSystemType for Cgroup2Type {
    fn name(&self) -> &'static str {
        "cgroup2"
    }

    fn mount(&self, request: &MountRequest<'_>) -> Result<Arc<SuperBlock>> {
        for option in request.options() {
            if option != (b"nsdelegate", b"") {
                return Err(Errno::EINVAL);
            }
        }
        let own = thread::current().and_then(|caller| namespace_root(&caller));
        let root = match own {
            Some(root) => root,
            None => Cgroup::root()?,
        };
        let id = root.id();
        let new = SuperBlock::new(try_arc(Cgroup2 { root })?)?;
        let mut all = MOUNTED.lock();
        all.retain(|(_, other)| other.strong_count() > 0);
        let same = all.iter().find(|(other, _)| *other == id);
        if let Some(same) = same.and_then(|(_, same)| same.upgrade()) {
            return Ok(same);
        }
        all.try_push((id, Arc::downgrade(&new)))?;
        Ok(new)
    }
}

/// The hierarchy from `root` on.
#[derive(Debug)]
struct Cgroup2 {
    root: Arc<Cgroup>,
}

impl FileSystem for Cgroup2 {
    fn name(&self) -> &'static str {
        "cgroup2"
    }

    fn root(&self) -> Result<Arc<dyn Inode>> {
        Ok(Directory::new(self.root.clone())?)
    }

    /// Files come and go with controllers, and other instances show the same groups.
    fn flags(&self) -> FsFlags {
        FsFlags::REVALIDATE | FsFlags::NO_NEGATIVE | FsFlags::NODEV
    }

    fn statfs(&self) -> Result<StatFs> {
        Ok(StatFs {
            magic: CGROUP2_MAGIC,
            block_size: 4096,
            name_max: 255,
            ..StatFs::default()
        })
    }

    fn options(&self) -> Result<String> {
        Ok(String::try_from_str(",nsdelegate")?)
    }
}

/// Kills all processes of a group and of those below it, and those that they make meanwhile.
pub(crate) fn kill(group: &Cgroup) {
    loop {
        let mut has_killed = false;
        for process in relations::processes() {
            let Some(first) = process.main_thread() else {
                continue;
            };
            let is_member = {
                let tree = tree::lock();
                let own = first.cgroup_in(&tree).as_ref();
                own.map_or(group.parent().is_none(), |own| own.is_within(group))
            };
            // The init of a PID namespace dies, too, as of a signal from above.
            if is_member && !process.is_exiting() {
                exit::kill_with_status(&process, i32::from(Signal::KILL.number()));
                has_killed = true;
            }
        }
        if !has_killed {
            return;
        }
    }
}

/// Who has opened a file, and so acts by it (cgroups(7), "delegation").
#[derive(Debug)]
struct Opener {
    credentials: Arc<fs::Credentials>,
    namespace_root: Option<Arc<Cgroup>>,
}

impl Opener {
    fn current() -> Result<Self> {
        let caller = thread::current().ok_or(Errno::ESRCH)?;
        Ok(Self {
            credentials: caller.credentials(),
            namespace_root: namespace_root(&caller),
        })
    }

    /// Whether a group is the root of the namespace that it looks from, and so another's to set.
    fn is_delegated(&self, group: &Arc<Cgroup>) -> bool {
        let own = self.namespace_root.as_ref();
        own.is_some_and(|own| Arc::ptr_eq(own, group))
    }

    /// Whether it sees a group.
    fn sees(&self, group: &Cgroup) -> bool {
        let own = self.namespace_root.as_deref();
        own.is_none_or(|own| group.is_within(own))
    }
}
