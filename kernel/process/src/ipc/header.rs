//! What the three kinds of System V objects have in common (`struct ipc_perm`).

use fs::{Credentials, Kgid, Kuid};
use machine::sync::SpinLock;

/// The permission bits of a mode.
const MODE: u32 = 0o777;

/// Who may use an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permission {
    /// What it is looked for by; 0 for nothing (`IPC_PRIVATE`).
    pub key: i32,
    /// The owner.
    pub uid: Kuid,
    /// Its group.
    pub gid: Kgid,
    /// Who made it.
    pub creator: (Kuid, Kgid),
    /// Permission bits, and those that say something of a segment.
    pub mode: u32,
}

impl Permission {
    /// Of what `maker` makes by the flags of a `*get` call.
    #[must_use]
    pub fn new(key: i32, maker: &Credentials, flags: u32) -> Self {
        Self {
            key,
            uid: maker.euid,
            gid: maker.egid,
            creator: (maker.euid, maker.egid),
            mode: flags & MODE,
        }
    }

    /// Whether the bits for `caller` have all that `wanted` has for anybody.
    #[must_use]
    pub fn grants(&self, caller: &Credentials, wanted: u32) -> bool {
        let wanted = wanted >> 6 | wanted >> 3 | wanted;
        let granted = if [self.uid, self.creator.0].contains(&caller.euid) {
            self.mode >> 6
        } else if caller.in_group(self.creator.1) || caller.in_group(self.gid) {
            self.mode >> 3
        } else {
            self.mode
        };
        wanted & !granted & 7 == 0
    }
}

/// What every object begins with.
#[derive(Debug)]
pub struct Header {
    id: i32,
    permission: SpinLock<Permission>,
}

impl Header {
    /// Of an object that will have this id.
    #[must_use]
    pub fn new(id: i32, permission: Permission) -> Self {
        Self {
            id,
            permission: SpinLock::new(permission),
        }
    }

    /// What the calls know it by.
    #[must_use]
    pub fn id(&self) -> i32 {
        self.id
    }

    /// Who may use it.
    #[must_use]
    pub fn permission(&self) -> Permission {
        *self.permission.lock()
    }

    /// Changes owner and permission bits (`IPC_SET`).
    pub fn set(&self, uid: Kuid, gid: Kgid, mode: u32) {
        let mut permission = self.permission.lock();
        permission.uid = uid;
        permission.gid = gid;
        permission.mode = permission.mode & !MODE | mode & MODE;
    }

    /// Sets and clears bits of the mode.
    pub(super) fn change_mode(&self, set: u32, clear: u32) {
        let mut permission = self.permission.lock();
        permission.mode = permission.mode & !clear | set;
    }

    /// It is found by no key any more.
    pub(super) fn forget_key(&self) {
        self.permission.lock().key = 0;
    }
}
