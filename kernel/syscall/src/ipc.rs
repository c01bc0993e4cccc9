//! System V IPC (sysvipc(7)): one file for each kind; here what they have in common.

mod msg;
mod sem;
mod shm;

use alloc::sync::Arc;

use abi::{Errno, Result};
use fs::{Kgid, Kuid};
use process::ipc::header::{Header, Permission};
use process::ipc::table::{Object, Table};
use process::ipc::{IpcNamespace, READ};
use process::task::pid::Pid;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::context::Context;
use crate::entry::Entry;

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(29, "shmget", shm::sys_shmget),
    Entry::new(30, "shmat", shm::sys_shmat),
    Entry::new(31, "shmctl", shm::sys_shmctl),
    Entry::new(64, "semget", sem::sys_semget),
    Entry::new(65, "semop", sem::sys_semop),
    Entry::new(66, "semctl", sem::sys_semctl),
    Entry::new(67, "shmdt", shm::sys_shmdt),
    Entry::new(68, "msgget", msg::sys_msgget),
    Entry::new(69, "msgsnd", msg::sys_msgsnd),
    Entry::new(70, "msgrcv", msg::sys_msgrcv),
    Entry::new(71, "msgctl", msg::sys_msgctl),
    Entry::new(220, "semtimedop", sem::sys_semtimedop),
];

/// Commands that all three kinds have.
const IPC_RMID: i32 = 0;
const IPC_SET: i32 = 1;
const IPC_STAT: i32 = 2;
const IPC_INFO: i32 = 3;

/// `struct ipc64_perm`.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Perm {
    key: i32,
    uid: u32,
    gid: u32,
    cuid: u32,
    cgid: u32,
    mode: u32,
    seq: u16,
    padding: [u16; 3],
    unused: [u64; 2],
}

impl Perm {
    fn of(cx: &Context<'_>, header: &Header) -> Self {
        let Permission {
            key,
            uid,
            gid,
            creator,
            mode,
        } = header.permission();
        Self {
            key,
            uid: cx.shown_uid(uid),
            gid: cx.shown_gid(gid),
            cuid: cx.shown_uid(creator.0),
            cgid: cx.shown_gid(creator.1),
            mode,
            seq: u16::try_from(header.id() >> 15).unwrap_or(0),
            ..Self::default()
        }
    }

    /// Owner and group as the caller calls them.
    fn owner(&self, cx: &Context<'_>) -> Result<(Kuid, Kgid)> {
        let names = &cx.credentials().user_namespace;
        let uid = names.kuid(self.uid).ok_or(Errno::EINVAL)?;
        Ok((uid, names.kgid(self.gid).ok_or(Errno::EINVAL)?))
    }
}

/// How an object is named to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// By its id (`IPC_STAT`).
    Id,
    /// By its place, which gives its id (`SHM_STAT` and kin).
    Place,
    /// As `Place`, whoever may read it (`SHM_STAT_ANY` and kin).
    PlaceForAll,
}

/// The object that is to be looked at, and what the call returns.
fn look_at<T: Object>(
    cx: &Context<'_>,
    namespace: &IpcNamespace,
    table: &Table<T>,
    by: By,
) -> Result<(Arc<T>, u64)> {
    let number = cx.int(0);
    let object = match by {
        By::Id => table.find(number)?,
        By::Place | By::PlaceForAll => table.at_place(number)?,
    };
    let header = object.header();
    if by != By::PlaceForAll {
        namespace.check(header, cx.credentials(), READ)?;
    }
    let result = if by == By::Id { 0 } else { header.id() };
    Ok((object, u64::from(result.cast_unsigned())))
}

/// Sets owner and mode of an object.
fn set_owner(
    cx: &Context<'_>,
    namespace: &IpcNamespace,
    header: &Header,
    wanted: &Perm,
) -> Result<()> {
    namespace.check_owner(header, cx.credentials())?;
    let (uid, gid) = wanted.owner(cx)?;
    header.set(uid, gid, wanted.mode);
    Ok(())
}

/// What the caller calls a process that an object remembers.
fn shown(cx: &Context<'_>, pid: Option<&Arc<Pid>>) -> i32 {
    pid.map_or(0, |pid| cx.shown(pid))
}

fn id(id: i32) -> u64 {
    u64::from(id.cast_unsigned())
}

fn saturated(value: impl TryInto<i32>) -> i32 {
    value.try_into().unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_linux_sizes() {
        assert_eq!(size_of::<Perm>(), 48);
        assert_eq!(size_of::<shm::Stat>(), 112);
        assert_eq!(size_of::<sem::Stat>(), 104);
        assert_eq!(size_of::<msg::Stat>(), 120);
        assert_eq!(size_of::<msg::Info>(), 32);
    }
}
