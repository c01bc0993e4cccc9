//! Control groups of version 2 (cgroups(7)): the hierarchy, and what is counted in it.
//!
//! A [`Cgroup`] is a node of the one hierarchy. The thread refers to its group; that it has none means the root, so that
//! who makes no groups pays for none. A group does not know its members: they are looked for among all threads, and only
//! counted here. [`members`] has how threads come, move and go, [`hierarchy`] the rules of the tree, [`freezer`] how
//! threads are held, [`memory_groups`] whom their memory is charged to. The files by which programs see all that are in [`crate::cgroup`], which is above threads.
//!
//! Locking: [`HIERARCHY`], which sleeps, is held around every change of the tree of groups and of their settings, and
//! around moves of threads. Then the lock of the [`Tree`], under which threads are counted; then a process's signal
//! state, or a group's `settings`, which is a leaf: it lets others look at them. A group's events are counted under
//! whatever lock and told to those that wait without one ([`Cgroup::tell`]).

pub(crate) mod freezer;
mod hierarchy;
pub(crate) mod members;
mod memory_groups;

use alloc::sync::Arc;
use core::ops::Bound;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use abi::Result;
use collections::{Map, Vec, try_arc, try_arc_slice};
use fs::{Kgid, Kuid, Timestamp};
use machine::sync::{LockedBy, SpinLock};
use memory::{Notifier, OwnedGroup};
use sched::Mutex;

use self::members::Members;
use super::tree::{TREE, Tree};

/// Held around changes of the tree of groups.
pub(crate) static HIERARCHY: Mutex<()> = Mutex::new(());

/// Made when somebody first looks.
static ROOT: SpinLock<Option<Arc<Cgroup>>> = SpinLock::new(None);

/// Between the numbers of two groups: their files have those in between.
const NUMBERS: u64 = 256;
static NEXT_ID: AtomicU64 = AtomicU64::new(1 + NUMBERS);

bitflags::bitflags! {
    /// A set of controllers.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Controllers: u32 {
        /// Numbers of tasks.
        const PIDS = 1;
        /// Memory: `memory::MemoryGroup`.
        const MEMORY = 2;
    }
}

impl Controllers {
    /// In the order in which they are listed, by name.
    pub const NAMES: [(Self, &'static str); 2] = [(Self::MEMORY, "memory"), (Self::PIDS, "pids")];
    /// Those that go by threads: they may be had in a threaded subtree.
    pub const THREADED: Self = Self::PIDS;
}

/// A control group.
#[derive(Debug)]
pub struct Cgroup {
    id: u64,
    name: Arc<[u8]>,
    /// None of the root.
    parent: Option<Arc<Cgroup>>,
    made: Timestamp,
    settings: SpinLock<Settings>,
    members: LockedBy<Members, Tree>,
    /// It is part of the domain of its parent (`cgroup.type`). For good.
    is_threaded: AtomicBool,
    /// Groups below it that were removed, and that something still refers to.
    dying: AtomicUsize,
    /// Who owns what in its directory.
    pub(crate) owners: SpinLock<Owners>,
    /// Of `cgroup.events`.
    pub(crate) events: Notifier,
    /// Of `pids.events`, and of `pids.events.local`.
    pub(crate) pids_events: [Notifier; 2],
    /// What its processes' memory is charged to, if it has the controller; else that of the next one above that has.
    memory: SpinLock<Option<Arc<OwnedGroup>>>,
}

/// What is set of a group and below it.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) is_removed: bool,
    /// By their numbers, in the order in which they were made.
    children: Map<u64, Arc<Cgroup>>,
    threaded_children: usize,
    /// Groups below it.
    pub(crate) descendants: usize,
    pub(crate) max_depth: usize,
    pub(crate) max_descendants: usize,
    /// Which controllers its children have.
    pub(crate) subtree_control: Controllers,
    /// `cgroup.freeze`.
    pub(crate) freezes: bool,
}

/// Who owns a directory and the files in it (chown(2), chmod(2)).
#[derive(Debug, Default)]
pub(crate) struct Owners {
    pub(crate) directory: Owner,
    /// Whom it was made for: who owns its files.
    pub(crate) made_for: Owner,
    /// Of files that were given to others or whose mode was changed, with their places in the list of files.
    pub(crate) files: Vec<(usize, Owner)>,
}

/// Owner and permission bits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner {
    pub(crate) uid: Kuid,
    pub(crate) gid: Kgid,
    pub(crate) mode: u32,
}

impl Default for Owner {
    fn default() -> Self {
        Self {
            uid: Kuid::ROOT,
            gid: Kgid::ROOT,
            mode: 0o555,
        }
    }
}

impl Settings {
    fn child(&self, name: &[u8]) -> Option<&Arc<Cgroup>> {
        self.children.values().find(|child| *child.name == *name)
    }
}

impl Cgroup {
    /// The root of the hierarchy.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn root() -> Result<Arc<Self>> {
        if let Some(root) = ROOT.lock().clone() {
            return Ok(root);
        }
        let new = Self::new(None, &[], 1, Owner::default())?;
        Ok(ROOT.lock().get_or_insert(new).clone())
    }

    fn new(parent: Option<&Arc<Self>>, name: &[u8], id: u64, owner: Owner) -> Result<Arc<Self>> {
        Ok(try_arc(Self {
            id,
            name: try_arc_slice(name)?,
            parent: parent.cloned(),
            made: Timestamp::now(),
            settings: SpinLock::new(Settings {
                is_removed: false,
                children: Map::new(),
                threaded_children: 0,
                descendants: 0,
                max_depth: usize::MAX,
                max_descendants: usize::MAX,
                subtree_control: Controllers::empty(),
                freezes: false,
            }),
            members: LockedBy::new(&TREE, Members::default()),
            is_threaded: AtomicBool::new(false),
            dying: AtomicUsize::new(0),
            owners: SpinLock::new(Owners {
                directory: owner,
                made_for: owner,
                files: Vec::new(),
            }),
            events: Notifier::new(),
            pids_events: [const { Notifier::new() }; 2],
            memory: SpinLock::new(None),
        })?)
    }

    /// The inode number of its directory; those of its files are behind it.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its name in its parent's directory; empty for the root.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The group above.
    #[must_use]
    pub fn parent(&self) -> Option<&Arc<Self>> {
        self.parent.as_ref()
    }

    /// When it was made.
    #[must_use]
    pub fn made(&self) -> Timestamp {
        self.made
    }

    /// Whether its directory was removed.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.settings.lock().is_removed
    }

    /// Whether it belongs to the domain of its parent.
    #[must_use]
    pub fn is_threaded(&self) -> bool {
        self.is_threaded.load(Ordering::Relaxed)
    }

    /// It and those above it.
    pub(crate) fn up(&self) -> impl Iterator<Item = &Self> {
        core::iter::successors(Some(self), |group| group.parent.as_deref())
    }

    /// Whether it is `other` or below it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.up().any(|group| core::ptr::eq(group, other))
    }

    /// The group whose processes its threads are of: itself unless it is threaded.
    #[must_use]
    pub fn domain(&self) -> &Self {
        self.up().find(|group| !group.is_threaded()).unwrap_or(self)
    }

    /// The nearest group that both are in.
    #[must_use]
    pub fn common_ancestor(self: &Arc<Self>, other: &Self) -> Arc<Self> {
        let mut at = self;
        while !other.is_within(at) {
            match &at.parent {
                Some(parent) => at = parent,
                None => break,
            }
        }
        at.clone()
    }

    pub(crate) fn settings(&self) -> impl core::ops::Deref<Target = Settings> {
        self.settings.lock()
    }

    /// Groups below it that were removed and are still referred to.
    pub(crate) fn dying(&self) -> usize {
        self.dying.load(Ordering::Relaxed)
    }

    /// The child of this name.
    #[must_use]
    pub fn child(&self, name: &[u8]) -> Option<Arc<Self>> {
        self.settings.lock().child(name).cloned()
    }

    /// Its children.
    #[must_use]
    pub fn child_count(&self) -> usize {
        self.settings.lock().children.len()
    }

    /// The first child whose number is at least `id`.
    #[must_use]
    pub fn child_from(&self, id: u64) -> Option<Arc<Self>> {
        let settings = self.settings.lock();
        settings
            .children
            .first_from(&id)
            .map(|(_, child)| child.clone())
    }

    /// It and all below it, parents before children: those that there are when it is their turn.
    pub(crate) fn subtree(self: &Arc<Self>) -> impl Iterator<Item = Arc<Self>> {
        let top = self.clone();
        let mut last: Option<Arc<Self>> = None;
        core::iter::from_fn(move || {
            let next = match &last {
                None => Some(top.clone()),
                Some(last) => last.child_from(0).or_else(|| next_beside(last, &top)),
            };
            last.clone_from(&next);
            next
        })
    }

    /// Tells those that wait for events of it and of those above it, if there were some. Without a lock held.
    pub(crate) fn tell(&self) {
        for group in self.up() {
            group.events.tell();
            group.pids_events.iter().for_each(Notifier::tell);
        }
    }
}

/// The next group behind `group` and all below it, within `top`.
fn next_beside(group: &Arc<Cgroup>, top: &Arc<Cgroup>) -> Option<Arc<Cgroup>> {
    let mut at = group;
    while !Arc::ptr_eq(at, top) {
        let parent = at.parent.as_ref()?;
        let behind = (Bound::Excluded(at.id), Bound::Unbounded);
        let settings = parent.settings.lock();
        if let Some((_, next)) = settings.children.range(behind).next() {
            return Some(next.clone());
        }
        drop(settings);
        at = parent;
    }
    None
}

impl Cgroup {
    /// It is no longer one of the removed groups below others that something refers to.
    fn uncount_dying(&self) {
        if self.settings.lock().is_removed {
            for above in self.up().skip(1) {
                above.dying.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for Cgroup {
    /// Those above it one after the other: they may be very many, and all gone.
    fn drop(&mut self) {
        self.uncount_dying();
        let mut next = self.parent.take();
        while let Some(mut last) = next.and_then(Arc::into_inner) {
            last.uncount_dying();
            next = last.parent.take();
        }
    }
}
