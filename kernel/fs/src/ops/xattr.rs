//! Extended attributes: name spaces and who may use them (xattr(7)).

use alloc::vec::Vec;

use abi::{Errno, Result};

use crate::cred::Capabilities;
use crate::inode::{Inode, XattrMode};
use crate::metadata::{FileKind, S_ISVTX};
use crate::path::Path;
use crate::permission::{self, Access};
use crate::walk::Caller;

/// The longest name, without the NUL (`XATTR_NAME_MAX`).
pub const XATTR_NAME_MAX: usize = 255;
/// The longest value (`XATTR_SIZE_MAX`).
pub const XATTR_SIZE_MAX: usize = 65536;

impl Caller<'_> {
    /// getxattr(2).
    ///
    /// # Errors
    /// `ENODATA`, `EOPNOTSUPP`, `EACCES`, `ERANGE` for a bad name.
    pub fn xattr(&self, path: &Path, name: &[u8]) -> Result<Vec<u8>> {
        let inode = path.inode()?;
        self.check_xattr(inode.as_ref(), name, Access::READ)?;
        inode.xattr(name)
    }

    /// setxattr(2).
    ///
    /// # Errors
    /// `EROFS`, `EPERM`, `EACCES`, `EEXIST`, `ENODATA`, `E2BIG`.
    pub fn set_xattr(&self, path: &Path, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        if value.len() > XATTR_SIZE_MAX {
            return Err(Errno::E2BIG);
        }
        permission::check_mount_writable(path)?;
        let inode = path.inode()?;
        self.check_xattr(inode.as_ref(), name, Access::WRITE)?;
        inode.set_xattr(name, value, mode)?;
        inode.body().forget_privileges();
        Ok(())
    }

    /// removexattr(2).
    ///
    /// # Errors
    /// `EROFS`, `EPERM`, `EACCES`, `ENODATA`.
    pub fn remove_xattr(&self, path: &Path, name: &[u8]) -> Result<()> {
        permission::check_mount_writable(path)?;
        let inode = path.inode()?;
        self.check_xattr(inode.as_ref(), name, Access::WRITE)?;
        inode.remove_xattr(name)
    }

    /// listxattr(2): names with a NUL behind each; `trusted.` ones only for those who may use them,
    /// `system.` ones for nobody.
    ///
    /// # Errors
    /// `EOPNOTSUPP`.
    pub fn list_xattrs(&self, path: &Path) -> Result<Vec<u8>> {
        let all = path.inode()?.list_xattrs()?;
        let is_admin = self.credentials.has(Capabilities::SYS_ADMIN);
        let visible = all.split_inclusive(|byte| *byte == 0);
        Ok(visible
            .filter(|name| is_admin || !name.starts_with(b"trusted."))
            .filter(|name| !name.starts_with(b"system."))
            .flatten()
            .copied()
            .collect())
    }

    fn check_xattr(&self, inode: &dyn Inode, name: &[u8], access: Access) -> Result<()> {
        if name.is_empty() || name.len() > XATTR_NAME_MAX {
            return Err(Errno::ERANGE);
        }
        let is_write = access == Access::WRITE;
        if name.starts_with(b"system.") {
            // Access control lists are not looked at when permission is asked for, so none can be set.
            return Err(Errno::EOPNOTSUPP);
        }
        if name == b"security.capability" {
            let may = !is_write || self.credentials.has(Capabilities::SETFCAP);
            return if may { Ok(()) } else { Err(Errno::EPERM) };
        }
        if name.starts_with(b"security.") {
            let may = !is_write || self.credentials.has(Capabilities::SYS_ADMIN);
            return if may { Ok(()) } else { Err(Errno::EPERM) };
        }
        if name.starts_with(b"trusted.") {
            let refusal = if is_write {
                Errno::EPERM
            } else {
                Errno::ENODATA
            };
            return if self.credentials.has(Capabilities::SYS_ADMIN) {
                Ok(())
            } else {
                Err(refusal)
            };
        }
        if !name.starts_with(b"user.") {
            return Err(Errno::EOPNOTSUPP);
        }
        let meta = inode.metadata()?;
        match meta.kind {
            FileKind::Regular => {}
            FileKind::Directory => {
                let is_sticky = meta.mode & S_ISVTX != 0;
                if is_sticky
                    && is_write
                    && !permission::is_owner_or_capable(&meta, self.credentials)
                {
                    return Err(Errno::EPERM);
                }
            }
            _ => {
                return Err(if is_write {
                    Errno::EPERM
                } else {
                    Errno::ENODATA
                });
            }
        }
        permission::check_metadata(&meta, self.credentials, access)
    }
}
