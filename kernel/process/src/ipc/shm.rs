//! System V shared memory (shmget(2)): a [`Segment`] is a mapping without a file, and who has it attached.
//!
//! Each area that shows it counts ([`Attach`]). A removed segment stays, without a key, until the last of them goes.

use alloc::sync::{Arc, Weak};
use core::sync::atomic::Ordering;

use abi::{Errno, Result};
use collections::{Vec, try_format};
use fs::Credentials;
use machine::sync::SpinLock;
use machine::{PAGE_SIZE, UserAddr};
use memory::{
    AddressSpace, AreaFlags, Attach, Attachment, MapRequest, Mapping, Origin, Placement, Prot,
};

use super::header::{Header, Permission};
use super::table::{Found, Object};
use super::{IpcNamespace, add_within, caller_pid, now_s};
use crate::task::pid::Pid;
use crate::task::tree;

/// In the mode: it goes with the last that has it attached (`SHM_DEST`).
pub const REMOVED: u32 = 0o1000;
/// In the mode: it stays in memory (`SHM_LOCKED`), as all here does.
pub const LOCKED: u32 = 0o2000;

/// A segment.
#[derive(Debug)]
pub struct Segment {
    header: Header,
    size_bytes: u64,
    mapping: Arc<Mapping>,
    uses: SpinLock<Uses>,
    namespace: Weak<IpcNamespace>,
}

/// Who has used a segment, and when, in seconds of the real-time clock.
#[derive(Debug, Clone)]
pub struct Uses {
    /// Last attached.
    pub attached_s: u64,
    /// Last detached.
    pub detached_s: u64,
    /// Last changed (`IPC_SET`).
    pub changed_s: u64,
    /// Who made it.
    pub maker: Option<Arc<Pid>>,
    /// Who attached or detached it last.
    pub last: Option<Arc<Pid>>,
    /// Areas that show it.
    pub attached: u64,
}

impl Object for Segment {
    fn header(&self) -> &Header {
        &self.header
    }
}

/// Pages that `size_bytes` take.
fn pages(size_bytes: u64) -> u64 {
    size_bytes.div_ceil(PAGE_SIZE as u64)
}

/// shmget(2).
///
/// # Errors
/// As there.
pub fn get(
    namespace: &Arc<IpcNamespace>,
    caller: &Credentials,
    key: i32,
    size_bytes: u64,
    flags: u32,
) -> Result<i32> {
    let permission = Permission::new(key, caller, flags);
    let most = namespace.settings.shmmni.get();
    let make = |header| Segment::new(namespace, header, size_bytes);
    let found = namespace
        .segments
        .find_or_make(permission, flags, most, make)?;
    match found {
        Found::New(new) => Ok(new.header.id()),
        Found::Old(old) => {
            if old.size_bytes < size_bytes {
                return Err(Errno::EINVAL);
            }
            namespace.check(&old.header, caller, flags)?;
            Ok(old.header.id())
        }
    }
}

/// What shmat(2) is asked for.
#[derive(Debug, Clone, Copy)]
pub struct AttachAt {
    /// Where; `None` for anywhere.
    pub addr: Option<UserAddr>,
    /// In place of what is there (`SHM_REMAP`).
    pub replaces: bool,
    /// What user code may do. Without `WRITE`, never.
    pub prot: Prot,
}

impl Segment {
    fn new(namespace: &Arc<IpcNamespace>, header: Header, size_bytes: u64) -> Result<Self> {
        let settings = &namespace.settings;
        let is_too_large = size_bytes > settings.shmmax.load(Ordering::Relaxed)
            || size_bytes > i64::MAX.unsigned_abs();
        if size_bytes == 0 || is_too_large {
            return Err(Errno::EINVAL);
        }
        let most = settings.shmall.load(Ordering::Relaxed);
        if !add_within(&namespace.shm_pages, pages(size_bytes), most) {
            return Err(Errno::ENOSPC);
        }
        let mapping = Mapping::in_memory(None, size_bytes).inspect_err(|_| {
            namespace
                .shm_pages
                .fetch_sub(pages(size_bytes), Ordering::Relaxed);
        })?;
        Ok(Self {
            header,
            size_bytes,
            mapping,
            uses: SpinLock::new(Uses {
                attached_s: 0,
                detached_s: 0,
                changed_s: now_s(),
                maker: caller_pid(),
                last: None,
                attached: 0,
            }),
            namespace: Arc::downgrade(namespace),
        })
    }

    /// Its size.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Pages of it that are in memory.
    #[must_use]
    pub fn resident(&self) -> u64 {
        self.mapping.pages_cached()
    }

    /// Who has used it.
    #[must_use]
    pub fn uses(&self) -> Uses {
        self.uses.lock().clone()
    }

    /// It was changed now.
    pub fn note_change(&self) {
        self.uses.lock().changed_s = now_s();
    }

    /// Says whether it is to stay in memory (`SHM_LOCK`).
    pub fn set_locked(&self, is_locked: bool) {
        let (set, clear) = if is_locked { (LOCKED, 0) } else { (0, LOCKED) };
        self.header.change_mode(set, clear);
    }

    /// Maps it (shmat(2)); where.
    ///
    /// # Errors
    /// `EINVAL` where something else is; as mmap(2).
    pub fn attach(self: &Arc<Self>, space: &AddressSpace, at: &AttachAt) -> Result<UserAddr> {
        let mut request = MapRequest::file(self.mapping.clone(), 0, self.size_bytes, at.prot);
        request.flags = AreaFlags::SHARED;
        if let Some(addr) = at.addr {
            request.addr = addr;
            request.placement = if at.replaces {
                Placement::Fixed
            } else {
                Placement::FixedNoReplace
            };
        }
        if !at.prot.contains(Prot::WRITE) {
            request.max_prot -= Prot::WRITE;
        }
        request.origin = Some(self.clone());
        request.attachment = Some(Attachment::new(self.clone()));
        space.map(request).map_err(|errno| match errno {
            Errno::EEXIST => Errno::EINVAL,
            errno => errno,
        })
    }

    /// Nobody finds it by its key any more, and it goes when nobody has it attached (`IPC_RMID`).
    pub fn remove(self: &Arc<Self>, namespace: &IpcNamespace) {
        namespace.segments.forget_key(self);
        self.header.change_mode(REMOVED, 0);
        self.end_if_unused(namespace);
    }

    fn end_if_unused(&self, namespace: &IpcNamespace) {
        let is_to_go = self.header.permission().mode & REMOVED != 0
            || namespace.settings.shm_rmid_forced.get() != 0;
        if is_to_go && self.uses.lock().attached == 0 && namespace.segments.remove(self) {
            namespace
                .shm_pages
                .fetch_sub(pages(self.size_bytes), Ordering::Relaxed);
        }
    }
}

/// Removes what nobody has attached, of one maker or of all that have ended (`shm_rmid_forced`).
pub fn end_unused(namespace: &IpcNamespace, maker: Option<&Arc<Pid>>) {
    if namespace.settings.shm_rmid_forced.get() == 0 {
        return;
    }
    for segment in namespace.segments.iter() {
        let its = segment.uses.lock().maker.clone();
        let is_meant = match (maker, its) {
            (None, its) => its.is_none_or(|maker| has_ended(&maker)),
            (Some(maker), Some(its)) => Arc::ptr_eq(maker, &its),
            _ => false,
        };
        if is_meant {
            segment.end_if_unused(namespace);
        }
    }
}

fn has_ended(maker: &Pid) -> bool {
    let tree = tree::lock();
    let node = maker
        .process(&tree)
        .and_then(|process| process.known(&tree));
    node.is_none_or(|node| node.zombie.is_some())
}

impl Attach for Segment {
    fn attached(&self) {
        let last = caller_pid();
        let mut uses = self.uses.lock();
        uses.attached += 1;
        uses.attached_s = now_s();
        let old = core::mem::replace(&mut uses.last, last);
        drop(uses);
        drop(old);
    }

    fn detached(&self) {
        let last = caller_pid();
        let mut uses = self.uses.lock();
        uses.attached -= 1;
        uses.detached_s = now_s();
        let old = core::mem::replace(&mut uses.last, last);
        drop(uses);
        drop(old);
        if let Some(namespace) = self.namespace.upgrade() {
            self.end_if_unused(&namespace);
        }
    }
}

impl Origin for Segment {
    fn path(&self) -> Result<Vec<u8>> {
        let key = self.header.permission().key;
        Ok(try_format!("/SYSV{key:08x} (deleted)")?.into_bytes())
    }

    fn identity(&self) -> ((u32, u32), u64) {
        ((0, 1), u64::from(self.header.id().cast_unsigned()))
    }
}
