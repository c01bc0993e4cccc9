//! What exec does to credentials: set-id bits, the root user's capabilities, ambient ones.

use fs::{Capabilities, Credentials};

use super::securebits;

/// What the executed file gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FilePrivileges {
    /// Owner, when the set-user-id bit counts.
    pub set_uid: Option<u32>,
    /// Group, when the set-group-id bit counts.
    pub set_gid: Option<u32>,
    /// Another process shares root and working directory with the caller: it gets no more than it has.
    pub is_shared: bool,
}

/// The credentials after exec, and whether the program must not trust its environment (`AT_SECURE`).
///
/// Files have no capabilities of their own here: no file system keeps the attribute.
#[must_use]
pub fn for_exec(old: &Credentials, file: FilePrivileges) -> (Credentials, bool) {
    let mut new = old.clone();
    if let Some(uid) = file.set_uid {
        new.euid = uid;
    }
    if let Some(gid) = file.set_gid {
        new.egid = gid;
    }
    new.suid = new.euid;
    new.sgid = new.egid;
    new.fsuid = new.euid;
    new.fsgid = new.egid;
    new.securebits &= !securebits::KEEP_CAPS;

    let set_id = new.euid != old.euid || new.egid != old.egid;
    if set_id {
        new.ambient = Capabilities::empty();
    }
    let root_counts = old.securebits & securebits::NOROOT == 0;
    let is_root = root_counts && (new.euid == 0 || new.uid == 0);
    new.permitted = new.ambient;
    if is_root {
        new.permitted |= old.inheritable | old.bounding;
    }
    new.effective = if root_counts && new.euid == 0 {
        new.permitted
    } else {
        new.ambient
    };
    let gained = new.uid != 0 && is_root && !old.permitted.contains(new.permitted);
    if file.is_shared && (set_id || gained) {
        take_back(old, &mut new);
    }
    let secure = new.uid != new.euid || new.gid != new.egid || gained;
    (new, secure)
}

/// What Linux's cap_bprm_creds_from_file() leaves of an unsafe gain of privileges.
fn take_back(old: &Credentials, new: &mut Credentials) {
    if !old.has(Capabilities::SETUID) {
        new.euid = new.uid;
        new.egid = new.gid;
    }
    new.permitted &= old.permitted;
    new.effective &= new.permitted;
    new.suid = new.euid;
    new.sgid = new.egid;
    new.fsuid = new.euid;
    new.fsgid = new.egid;
}
