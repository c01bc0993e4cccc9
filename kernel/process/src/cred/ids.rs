//! User and group ids: setuid(2), setreuid(2), setresuid(2), setfsuid(2), setgroups(2) and kin.

use alloc::vec::Vec;

use abi::{Errno, Result};
use collections::try_arc_slice;
use fs::{Capabilities, Credentials};

use super::securebits;

/// The `-1` that leaves an id as it is.
const KEEP: u32 = u32::MAX;

/// The most supplementary groups (`NGROUPS_MAX`).
const MAX_GROUPS: usize = 65536;

/// The four ids of one kind.
#[derive(Clone, Copy)]
struct Ids {
    real: u32,
    effective: u32,
    saved: u32,
    fs: u32,
}

impl Ids {
    fn users(cred: &Credentials) -> Self {
        Self {
            real: cred.uid,
            effective: cred.euid,
            saved: cred.suid,
            fs: cred.fsuid,
        }
    }

    fn groups(cred: &Credentials) -> Self {
        Self {
            real: cred.gid,
            effective: cred.egid,
            saved: cred.sgid,
            fs: cred.fsgid,
        }
    }

    /// setuid(2)/setgid(2).
    fn set(self, id: u32, privileged: bool) -> Result<Self> {
        if id == KEEP {
            return Err(Errno::EINVAL);
        }
        let mut new = self;
        if privileged {
            new.real = id;
            new.saved = id;
        } else if id != self.real && id != self.saved {
            return Err(Errno::EPERM);
        }
        new.effective = id;
        new.fs = id;
        Ok(new)
    }

    /// setreuid(2)/setregid(2). `saved_too`: whether the saved id may become the effective one.
    fn set_re(self, real: u32, effective: u32, privileged: bool, saved_too: bool) -> Result<Self> {
        let mut new = self;
        if real != KEEP {
            if !privileged && real != self.real && real != self.effective {
                return Err(Errno::EPERM);
            }
            new.real = real;
        }
        if effective != KEEP {
            let own = effective == self.real
                || effective == self.effective
                || saved_too && effective == self.saved;
            if !privileged && !own {
                return Err(Errno::EPERM);
            }
            new.effective = effective;
        }
        if real != KEEP || effective != KEEP && effective != self.real {
            new.saved = new.effective;
        }
        new.fs = new.effective;
        Ok(new)
    }

    /// setresuid(2)/setresgid(2).
    fn set_res(self, wanted: [u32; 3], privileged: bool) -> Result<Self> {
        let own = [self.real, self.effective, self.saved];
        let allowed = |id: &u32| *id == KEEP || own.contains(id);
        if !privileged && !wanted.iter().all(allowed) {
            return Err(Errno::EPERM);
        }
        let pick = |id: u32, old: u32| if id == KEEP { old } else { id };
        let effective = pick(wanted[1], self.effective);
        Ok(Self {
            real: pick(wanted[0], self.real),
            effective,
            saved: pick(wanted[2], self.saved),
            fs: effective,
        })
    }
}

fn with_users(old: &Credentials, ids: Ids) -> Credentials {
    let mut new = old.clone();
    new.uid = ids.real;
    new.euid = ids.effective;
    new.suid = ids.saved;
    new.fsuid = ids.fs;
    if old.securebits & securebits::NO_SETUID_FIXUP == 0 {
        fix_capabilities(old, &mut new);
    }
    new
}

fn with_groups(old: &Credentials, ids: Ids) -> Credentials {
    Credentials {
        gid: ids.real,
        egid: ids.effective,
        sgid: ids.saved,
        fsgid: ids.fs,
        ..old.clone()
    }
}

/// "Effect of user ID changes on capabilities", capabilities(7).
fn fix_capabilities(old: &Credentials, new: &mut Credentials) {
    let any_root = |cred: &Credentials| cred.uid == 0 || cred.euid == 0 || cred.suid == 0;
    if any_root(old) && !any_root(new) {
        if old.securebits & securebits::KEEP_CAPS == 0 {
            new.permitted = Capabilities::empty();
            new.effective = Capabilities::empty();
        }
        new.ambient = Capabilities::empty();
    }
    if old.euid == 0 && new.euid != 0 {
        new.effective = Capabilities::empty();
    }
    if old.euid != 0 && new.euid == 0 {
        new.effective = new.permitted;
    }
}

/// setuid(2).
///
/// # Errors
/// `EPERM`, or `EINVAL` for -1.
pub fn set_uid(old: &Credentials, uid: u32) -> Result<Credentials> {
    let ids = Ids::users(old).set(uid, old.has(Capabilities::SETUID))?;
    Ok(with_users(old, ids))
}

/// setgid(2).
///
/// # Errors
/// `EPERM`, or `EINVAL` for -1.
pub fn set_gid(old: &Credentials, gid: u32) -> Result<Credentials> {
    let ids = Ids::groups(old).set(gid, old.has(Capabilities::SETGID))?;
    Ok(with_groups(old, ids))
}

/// setreuid(2).
///
/// # Errors
/// `EPERM`.
pub fn set_reuid(old: &Credentials, real: u32, effective: u32) -> Result<Credentials> {
    let ids = Ids::users(old).set_re(real, effective, old.has(Capabilities::SETUID), true)?;
    Ok(with_users(old, ids))
}

/// setregid(2).
///
/// # Errors
/// `EPERM`.
pub fn set_regid(old: &Credentials, real: u32, effective: u32) -> Result<Credentials> {
    let ids = Ids::groups(old).set_re(real, effective, old.has(Capabilities::SETGID), true)?;
    Ok(with_groups(old, ids))
}

/// setresuid(2): real, effective, saved.
///
/// # Errors
/// `EPERM`.
pub fn set_resuid(old: &Credentials, wanted: [u32; 3]) -> Result<Credentials> {
    let ids = Ids::users(old).set_res(wanted, old.has(Capabilities::SETUID))?;
    Ok(with_users(old, ids))
}

/// setresgid(2): real, effective, saved.
///
/// # Errors
/// `EPERM`.
pub fn set_resgid(old: &Credentials, wanted: [u32; 3]) -> Result<Credentials> {
    let ids = Ids::groups(old).set_res(wanted, old.has(Capabilities::SETGID))?;
    Ok(with_groups(old, ids))
}

/// What setfsuid(2) changes: `None` when it is not allowed, which it does not report.
#[must_use]
pub fn set_fsuid(old: &Credentials, uid: u32) -> Option<Credentials> {
    let own = [old.uid, old.euid, old.suid, old.fsuid].contains(&uid);
    if uid == KEEP || !own && !old.has(Capabilities::SETUID) {
        return None;
    }
    let mut new = old.clone();
    new.fsuid = uid;
    if old.securebits & securebits::NO_SETUID_FIXUP == 0 {
        let files = Capabilities::CHOWN
            | Capabilities::DAC_OVERRIDE
            | Capabilities::DAC_READ_SEARCH
            | Capabilities::FOWNER
            | Capabilities::FSETID
            | Capabilities::LINUX_IMMUTABLE
            | Capabilities::MKNOD
            | Capabilities::MAC_OVERRIDE;
        if old.fsuid == 0 && uid != 0 {
            new.effective -= files;
        }
        if old.fsuid != 0 && uid == 0 {
            new.effective |= old.permitted & files;
        }
    }
    Some(new)
}

/// What setfsgid(2) changes: `None` when it is not allowed, which it does not report.
#[must_use]
pub fn set_fsgid(old: &Credentials, gid: u32) -> Option<Credentials> {
    let own = [old.gid, old.egid, old.sgid, old.fsgid].contains(&gid);
    (gid != KEEP && (own || old.has(Capabilities::SETGID))).then(|| Credentials {
        fsgid: gid,
        ..old.clone()
    })
}

/// setgroups(2).
///
/// # Errors
/// `EPERM`, `EINVAL` for too many or for -1, `ENOMEM`.
pub fn set_groups(old: &Credentials, mut groups: Vec<u32>) -> Result<Credentials> {
    if !old.has(Capabilities::SETGID) {
        return Err(Errno::EPERM);
    }
    if groups.len() > MAX_GROUPS || groups.contains(&KEEP) {
        return Err(Errno::EINVAL);
    }
    groups.sort_unstable();
    Ok(Credentials {
        groups: try_arc_slice(&groups)?,
        ..old.clone()
    })
}
