//! Who a program is once it runs: what its file and its mount say, to [`cred::for_exec`].

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::try_arc;
use fs::permission::{self, Access};
use fs::{Credentials, File, MountFlags, S_ISGID, S_ISUID};

use crate::cred::file_capabilities::{self, FileCapabilities};
use crate::cred::{self, FilePrivileges};
use crate::task::thread::Thread;

/// What the program starts with.
pub(super) struct New {
    pub(super) credentials: Arc<Credentials>,
    /// It must not trust its environment (`AT_SECURE`).
    pub(super) is_secure: bool,
    /// The caller may read the file; if not, it must not read the program's memory either.
    pub(super) is_readable: bool,
}

/// For a program in `file`; `is_shared` as in [`FilePrivileges`].
pub(super) fn of(thread: &Thread, file: &File, is_shared: bool) -> Result<New> {
    let meta = file.metadata()?;
    let old = thread.credentials();
    let is_nosuid = file
        .path()
        .is_none_or(|path| path.mount.flags().contains(MountFlags::NOSUID));
    let no_new_privs = thread.no_new_privs();
    let mut privileges = FilePrivileges {
        is_shared,
        no_new_privs,
        ..FilePrivileges::default()
    };
    if !is_nosuid {
        privileges.capabilities = capabilities_of(file)?;
    }
    if !is_nosuid && !no_new_privs {
        privileges.set_uid = (meta.mode & S_ISUID != 0).then_some(meta.uid);
        // Without group execution the bit means mandatory locking.
        privileges.set_gid =
            (meta.mode & S_ISGID != 0 && meta.mode & 0o10 != 0).then_some(meta.gid);
    }
    let (credentials, is_secure) = cred::for_exec(&old, privileges)?;
    Ok(New {
        credentials: try_arc(credentials)?,
        is_secure,
        is_readable: permission::check_with(file.inode()?.as_ref(), &meta, &old, Access::READ)
            .is_ok(),
    })
}

fn capabilities_of(file: &File) -> Result<Option<FileCapabilities>> {
    match file.inode()?.xattr(file_capabilities::ATTRIBUTE) {
        Ok(value) => FileCapabilities::parse(&value),
        Err(Errno::ENODATA | Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(None),
        Err(errno) => Err(errno),
    }
}
