//! What exec does to credentials: set-id bits, capabilities of the file, the root user's, ambient ones
//! ("Transformation of capabilities during execve()", capabilities(7)).

use abi::{Errno, Result};
use fs::{Capabilities, Credentials, Kgid, Kuid};

use super::file_capabilities::FileCapabilities;
use super::securebits;

/// What the executed file gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FilePrivileges {
    /// Owner, when the set-user-id bit counts.
    pub set_uid: Option<Kuid>,
    /// Group, when the set-group-id bit counts.
    pub set_gid: Option<Kgid>,
    /// Its capabilities, when they count.
    pub capabilities: Option<FileCapabilities>,
    /// Another process shares root and working directory with the caller: it gets no more than it has.
    pub is_shared: bool,
    /// The caller may not gain privileges (`PR_SET_NO_NEW_PRIVS`): it gets no more than it has, whatever it
    /// could do by itself.
    pub no_new_privs: bool,
}

/// The credentials after exec, and whether the program must not trust its environment (`AT_SECURE`).
///
/// # Errors
/// `EPERM` when the file wants capabilities in effect that the bounding set keeps from it.
pub fn for_exec(old: &Credentials, file: FilePrivileges) -> Result<(Credentials, bool)> {
    let mut new = old.clone();
    new.euid = file.set_uid.unwrap_or(old.euid);
    new.egid = file.set_gid.unwrap_or(old.egid);
    let is_set_id = new.euid != old.uid || new.egid != old.gid;

    let mut is_effective = take_file_capabilities(&mut new, file.capabilities)?;
    is_effective |= take_root_capabilities(old, &mut new, file.capabilities.is_some());

    let gains = !old.permitted.contains(new.permitted);
    if (file.is_shared || file.no_new_privs) && (is_set_id || gains) {
        take_back(old, &mut new, file.no_new_privs);
    }
    new.suid = new.euid;
    new.sgid = new.egid;
    new.fsuid = new.euid;
    new.fsgid = new.egid;
    if file.capabilities.is_some() || is_set_id {
        new.ambient = Capabilities::empty();
    }
    let exceeds_ambient = !new.ambient.contains(new.permitted);
    new.permitted |= new.ambient;
    new.effective = if is_effective {
        new.permitted
    } else {
        new.ambient
    };
    new.securebits &= !securebits::KEEP_CAPS;
    let is_secure = is_set_id || !is_root(&new, new.uid) && (is_effective || exceeds_ambient);
    Ok((new, is_secure))
}

/// `P'(permitted)` of the file's capabilities; whether they are in effect at once.
fn take_file_capabilities(new: &mut Credentials, file: Option<FileCapabilities>) -> Result<bool> {
    new.permitted = Capabilities::empty();
    let Some(file) = file else {
        return Ok(false);
    };
    new.permitted = (new.bounding & file.permitted) | (new.inheritable & file.inheritable);
    // A program that knows nothing of capabilities would not notice that some are missing.
    if file.is_effective && !new.permitted.contains(file.permitted) {
        return Err(Errno::EPERM);
    }
    Ok(file.is_effective)
}

/// Whether `user` is root where these credentials are.
fn is_root(credentials: &Credentials, user: Kuid) -> bool {
    credentials.user_namespace.root() == Some(user)
}

/// The root user has what the bounding set allows; whether that is in effect at once.
fn take_root_capabilities(old: &Credentials, new: &mut Credentials, has_file: bool) -> bool {
    if old.securebits & securebits::NOROOT != 0 {
        return false;
    }
    // The file's own capabilities go before those of its set-user-id bit.
    let (is_real, is_effective) = (is_root(new, new.uid), is_root(new, new.euid));
    if has_file && !is_real && is_effective {
        return false;
    }
    if is_real || is_effective {
        new.permitted = new.bounding | old.inheritable;
    }
    is_effective
}

/// What Linux's cap_bprm_creds_from_file() leaves of a gain of privileges that is not safe.
fn take_back(old: &Credentials, new: &mut Credentials, no_new_privs: bool) {
    if no_new_privs || !old.own_ns_capable(Capabilities::SETUID) {
        new.euid = new.uid;
        new.egid = new.gid;
    }
    new.permitted &= old.permitted;
}
