//! User and group ids: setuid(2), setreuid(2), setresuid(2), setfsuid(2), setgroups(2) and kin.

use abi::{Errno, Result};
use collections::{Vec, try_arc_slice};
use fs::{Capabilities, Credentials, Kgid, Kuid};

use super::securebits;

/// The most supplementary groups (`NGROUPS_MAX`).
const MAX_GROUPS: usize = 65536;

/// The four ids of one kind.
#[derive(Clone, Copy)]
struct Ids<I> {
    real: I,
    effective: I,
    saved: I,
    fs: I,
}

impl Ids<Kuid> {
    fn users(cred: &Credentials) -> Self {
        Self {
            real: cred.uid,
            effective: cred.euid,
            saved: cred.suid,
            fs: cred.fsuid,
        }
    }
}

impl Ids<Kgid> {
    fn groups(cred: &Credentials) -> Self {
        Self {
            real: cred.gid,
            effective: cred.egid,
            saved: cred.sgid,
            fs: cred.fsgid,
        }
    }
}

impl<I: Copy + PartialEq> Ids<I> {
    /// setuid(2)/setgid(2).
    fn set(self, id: I, privileged: bool) -> Result<Self> {
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
    fn set_re(
        self,
        real: Option<I>,
        effective: Option<I>,
        privileged: bool,
        saved_too: bool,
    ) -> Result<Self> {
        let mut new = self;
        if let Some(real) = real {
            if !privileged && real != self.real && real != self.effective {
                return Err(Errno::EPERM);
            }
            new.real = real;
        }
        if let Some(effective) = effective {
            let own = effective == self.real
                || effective == self.effective
                || saved_too && effective == self.saved;
            if !privileged && !own {
                return Err(Errno::EPERM);
            }
            new.effective = effective;
        }
        if real.is_some() || effective.is_some_and(|effective| effective != self.real) {
            new.saved = new.effective;
        }
        new.fs = new.effective;
        Ok(new)
    }

    /// setresuid(2)/setresgid(2).
    fn set_res(self, wanted: [Option<I>; 3], privileged: bool) -> Result<Self> {
        let own = [self.real, self.effective, self.saved];
        let allowed = |id: &Option<I>| id.is_none_or(|id| own.contains(&id));
        if !privileged && !wanted.iter().all(allowed) {
            return Err(Errno::EPERM);
        }
        let effective = wanted[1].unwrap_or(self.effective);
        Ok(Self {
            real: wanted[0].unwrap_or(self.real),
            effective,
            saved: wanted[2].unwrap_or(self.saved),
            fs: effective,
        })
    }
}

fn with_users(old: &Credentials, ids: Ids<Kuid>) -> Credentials {
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

fn with_groups(old: &Credentials, ids: Ids<Kgid>) -> Credentials {
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
    let Some(root) = old.user_namespace.root() else {
        return;
    };
    let any_root = |cred: &Credentials| [cred.uid, cred.euid, cred.suid].contains(&root);
    if any_root(old) && !any_root(new) {
        if old.securebits & securebits::KEEP_CAPS == 0 {
            new.permitted = Capabilities::empty();
            new.effective = Capabilities::empty();
        }
        new.ambient = Capabilities::empty();
    }
    if old.euid == root && new.euid != root {
        new.effective = Capabilities::empty();
    }
    if old.euid != root && new.euid == root {
        new.effective = new.permitted;
    }
}

/// setuid(2).
///
/// # Errors
/// `EPERM`.
pub fn set_uid(old: &Credentials, uid: Kuid) -> Result<Credentials> {
    let ids = Ids::users(old).set(uid, old.own_ns_capable(Capabilities::SETUID))?;
    Ok(with_users(old, ids))
}

/// setgid(2).
///
/// # Errors
/// `EPERM`.
pub fn set_gid(old: &Credentials, gid: Kgid) -> Result<Credentials> {
    let ids = Ids::groups(old).set(gid, old.own_ns_capable(Capabilities::SETGID))?;
    Ok(with_groups(old, ids))
}

/// setreuid(2).
///
/// # Errors
/// `EPERM`.
pub fn set_reuid(
    old: &Credentials,
    real: Option<Kuid>,
    effective: Option<Kuid>,
) -> Result<Credentials> {
    let ids = Ids::users(old).set_re(
        real,
        effective,
        old.own_ns_capable(Capabilities::SETUID),
        true,
    )?;
    Ok(with_users(old, ids))
}

/// setregid(2).
///
/// # Errors
/// `EPERM`.
pub fn set_regid(
    old: &Credentials,
    real: Option<Kgid>,
    effective: Option<Kgid>,
) -> Result<Credentials> {
    let ids = Ids::groups(old).set_re(
        real,
        effective,
        old.own_ns_capable(Capabilities::SETGID),
        true,
    )?;
    Ok(with_groups(old, ids))
}

/// setresuid(2): real, effective, saved.
///
/// # Errors
/// `EPERM`.
pub fn set_resuid(old: &Credentials, wanted: [Option<Kuid>; 3]) -> Result<Credentials> {
    let ids = Ids::users(old).set_res(wanted, old.own_ns_capable(Capabilities::SETUID))?;
    Ok(with_users(old, ids))
}

/// setresgid(2): real, effective, saved.
///
/// # Errors
/// `EPERM`.
pub fn set_resgid(old: &Credentials, wanted: [Option<Kgid>; 3]) -> Result<Credentials> {
    let ids = Ids::groups(old).set_res(wanted, old.own_ns_capable(Capabilities::SETGID))?;
    Ok(with_groups(old, ids))
}

/// What setfsuid(2) changes: `None` when it is not allowed, which it does not report.
#[must_use]
pub fn set_fsuid(old: &Credentials, uid: Kuid) -> Option<Credentials> {
    let own = [old.uid, old.euid, old.suid, old.fsuid].contains(&uid);
    if !own && !old.own_ns_capable(Capabilities::SETUID) {
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
        let root = old.user_namespace.root();
        let (was_root, is_root) = (root == Some(old.fsuid), root == Some(uid));
        if was_root && !is_root {
            new.effective -= files;
        }
        if !was_root && is_root {
            new.effective |= old.permitted & files;
        }
    }
    Some(new)
}

/// What setfsgid(2) changes: `None` when it is not allowed, which it does not report.
#[must_use]
pub fn set_fsgid(old: &Credentials, gid: Kgid) -> Option<Credentials> {
    let own = [old.gid, old.egid, old.sgid, old.fsgid].contains(&gid);
    (own || old.own_ns_capable(Capabilities::SETGID)).then(|| Credentials {
        fsgid: gid,
        ..old.clone()
    })
}

/// setgroups(2).
///
/// # Errors
/// `EPERM`, `EINVAL` for too many, `ENOMEM`.
pub fn set_groups(old: &Credentials, mut groups: Vec<Kgid>) -> Result<Credentials> {
    if !old.own_ns_capable(Capabilities::SETGID) {
        return Err(Errno::EPERM);
    }
    if groups.len() > MAX_GROUPS {
        return Err(Errno::EINVAL);
    }
    groups.sort_unstable();
    Ok(Credentials {
        groups: try_arc_slice(&groups)?,
        ..old.clone()
    })
}
