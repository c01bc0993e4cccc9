//! IPC namespaces (ipc_namespaces(7)): System V shared memory, semaphores and message queues (sysvipc(7)).
//!
//! An [`IpcNamespace`] has a [`Table`] of each of the three, and their limits. Each object begins with a [`Header`]:
//! its id, its key and who may use it. An object that was removed is in no table, and says so to who waits on it.
//!
//! Locking: a table sleeps; what an object says of itself is under spin locks, which are leaves. User memory is touched
//! with none of them held.

pub mod header;
pub mod msg;
pub mod sem;
pub mod settings;
pub mod shm;
pub mod table;
pub mod undo;

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::{Errno, Result};
use collections::try_arc;
use fs::{Capabilities, Credentials, UserNamespace};
use machine::sync::SpinLock;

use self::header::Header;
use self::msg::Queue;
use self::sem::Set;
use self::settings::Settings;
use self::shm::Segment;
use self::table::Table;
use crate::task::pid::Pid;
use crate::task::thread;

/// Make one if there is none (`IPC_CREAT`).
pub const CREATE: u32 = 0o1000;
/// There must be none (`IPC_EXCL`).
pub const EXCLUSIVE: u32 = 0o2000;
/// Do not wait (`IPC_NOWAIT`).
pub const NO_WAIT: u32 = 0o4000;
/// Read permission of all three classes, of which one's is looked for.
pub const READ: u32 = 0o444;
/// Write permission.
pub const WRITE: u32 = 0o222;

/// See the module.
#[derive(Debug)]
pub struct IpcNamespace {
    /// `None` for the initial one.
    ino: Option<u32>,
    /// Whose capabilities count in it.
    owner: UserNamespace,
    /// /proc/sys/kernel.
    pub settings: Settings,
    /// Shared memory.
    pub segments: Table<Segment>,
    /// Semaphore sets.
    pub sets: Table<Set>,
    /// Message queues.
    pub queues: Table<Queue>,
    /// Pages of all segments.
    shm_pages: AtomicU64,
    /// Semaphores of all sets.
    semaphores: AtomicU64,
    /// Bytes in all queues, and messages.
    message_bytes: AtomicU64,
    messages: AtomicU64,
}

static INITIAL: SpinLock<Option<Arc<IpcNamespace>>> = SpinLock::new(None);

/// The initial namespace.
pub fn initial() -> Arc<IpcNamespace> {
    // infallible: made by the first process, at start-up.
    let make = || Arc::new(IpcNamespace::empty(None, UserNamespace::INITIAL));
    INITIAL.lock().get_or_insert_with(make).clone()
}

impl IpcNamespace {
    const fn empty(ino: Option<u32>, owner: UserNamespace) -> Self {
        Self {
            ino,
            owner,
            settings: Settings::new(),
            segments: Table::new(),
            sets: Table::new(),
            queues: Table::new(),
            shm_pages: AtomicU64::new(0),
            semaphores: AtomicU64::new(0),
            message_bytes: AtomicU64::new(0),
            messages: AtomicU64::new(0),
        }
    }

    /// A new one without objects, owned by `owner`.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(owner: &UserNamespace) -> Result<Arc<Self>> {
        Ok(try_arc(Self::empty(
            Some(fs::next_namespace_id()),
            owner.clone(),
        ))?)
    }

    /// Its number; `None` for the initial one.
    #[must_use]
    pub fn ino(&self) -> Option<u32> {
        self.ino
    }

    /// The user namespace whose capabilities count in it.
    #[must_use]
    pub fn owner(&self) -> &UserNamespace {
        &self.owner
    }

    /// Whether `caller` has a capability in it.
    #[must_use]
    pub fn capable(&self, caller: &Credentials, wanted: Capabilities) -> bool {
        caller.ns_capable(&self.owner, wanted)
    }

    /// Whether `caller` may do to an object what `wanted` has the bits of (`ipcperms`).
    ///
    /// # Errors
    /// `EACCES`.
    pub fn check(&self, header: &Header, caller: &Credentials, wanted: u32) -> Result<()> {
        let is_granted = header.permission().grants(caller, wanted);
        if is_granted || self.capable(caller, Capabilities::IPC_OWNER) {
            Ok(())
        } else {
            Err(Errno::EACCES)
        }
    }

    /// Whether `caller` may change or remove an object: it is its owner or creator.
    ///
    /// # Errors
    /// `EPERM`.
    pub fn check_owner(&self, header: &Header, caller: &Credentials) -> Result<()> {
        let permission = header.permission();
        let is_owner = [permission.uid, permission.creator.0].contains(&caller.euid);
        if is_owner || self.capable(caller, Capabilities::SYS_ADMIN) {
            Ok(())
        } else {
            Err(Errno::EPERM)
        }
    }

    /// Pages of all segments.
    #[must_use]
    pub fn shm_pages(&self) -> u64 {
        self.shm_pages.load(Ordering::Relaxed)
    }

    /// Semaphores of all sets.
    #[must_use]
    pub fn semaphores(&self) -> u64 {
        self.semaphores.load(Ordering::Relaxed)
    }

    /// Messages in all queues, and their bytes.
    #[must_use]
    pub fn messages(&self) -> (u64, u64) {
        let count = self.messages.load(Ordering::Relaxed);
        (count, self.message_bytes.load(Ordering::Relaxed))
    }
}

/// Adds to a sum that must not exceed `most`; whether it could be.
fn add_within(sum: &AtomicU64, more: u64, most: u64) -> bool {
    let within = |sum: u64| sum.checked_add(more).filter(|sum| *sum <= most);
    sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within)
        .is_ok()
}

/// The calling process, as an object remembers who used it last.
fn caller_pid() -> Option<Arc<Pid>> {
    Some(thread::current()?.process().pid().clone())
}

/// Seconds of the real-time clock, as objects remember when.
fn now_s() -> u64 {
    sched::clock::realtime_ns() / 1_000_000_000
}

#[cfg(test)]
mod tests;
