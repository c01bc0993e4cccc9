//! Extended attributes: name spaces and who may use them (xattr(7)).

use abi::{Errno, Result};
use collections::Vec;

use crate::acl::{Acl, AclKind};
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

const ACCESS_ACL: &[u8] = b"system.posix_acl_access";
const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

fn acl_kind(name: &[u8]) -> Option<AclKind> {
    match name {
        ACCESS_ACL => Some(AclKind::Access),
        DEFAULT_ACL => Some(AclKind::Default),
        _ => None,
    }
}

/// Capabilities of a program (capabilities(7), "File capabilities").
pub(crate) const CAPABILITY: &[u8] = b"security.capability";

/// Whether this is a `struct vfs_cap_data` or `vfs_ns_cap_data` as they are set today.
fn is_capability_value(value: &[u8]) -> bool {
    let revision = value.get(3).copied();
    matches!((revision, value.len()), (Some(2), 20) | (Some(3), 24))
}

impl Caller<'_> {
    /// getxattr(2).
    ///
    /// # Errors
    /// `ENODATA`, `EOPNOTSUPP`, `EACCES`, `ERANGE` for a bad name.
    pub fn xattr(&self, path: &Path, name: &[u8]) -> Result<Vec<u8>> {
        let inode = path.inode()?;
        if let Some(kind) = acl_kind(name) {
            let acl = inode.acl(kind)?.ok_or(Errno::ENODATA)?;
            return acl.to_xattr(&self.credentials.user_namespace);
        }
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
        if name == CAPABILITY && !is_capability_value(value) {
            return Err(Errno::EINVAL);
        }
        let inode = path.inode()?;
        if let Some(kind) = acl_kind(name) {
            return self.set_acl(
                inode.as_ref(),
                kind,
                Acl::from_xattr(&self.credentials.user_namespace, value)?,
            );
        }
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
        if let Some(kind) = acl_kind(name) {
            return self.set_acl(inode.as_ref(), kind, None);
        }
        self.check_xattr(inode.as_ref(), name, Access::WRITE)?;
        inode.remove_xattr(name)
    }

    /// listxattr(2): names with a NUL behind each; `trusted.` ones only for those who may use them,
    /// `system.` ones where the kernel heeds them.
    ///
    /// # Errors
    /// `EOPNOTSUPP`, `ENOMEM`.
    pub fn list_xattrs(&self, path: &Path) -> Result<Vec<u8>> {
        let inode = path.inode()?;
        let all = inode.list_xattrs()?;
        let is_admin = self.credentials.capable(Capabilities::SYS_ADMIN);
        let mut names = Vec::new();
        for (kind, name) in [
            (AclKind::Access, ACCESS_ACL),
            (AclKind::Default, DEFAULT_ACL),
        ] {
            if let Ok(Some(_)) = inode.acl(kind) {
                names.try_extend_from_slice(name)?;
                names.try_push(0)?;
            }
        }
        for name in all.split_inclusive(|byte| *byte == 0) {
            let is_hidden = name.starts_with(b"trusted.") && !is_admin;
            if !is_hidden && !name.starts_with(b"system.") {
                names.try_extend_from_slice(name)?;
            }
        }
        Ok(names)
    }

    /// Sets an access control list, or takes it away.
    fn set_acl(&self, inode: &dyn Inode, kind: AclKind, acl: Option<Acl>) -> Result<()> {
        inode.acl(kind)?;
        let meta = inode.metadata()?;
        if kind == AclKind::Default && meta.kind != FileKind::Directory {
            return match acl {
                Some(_) => Err(Errno::EACCES),
                None => Ok(()),
            };
        }
        if !permission::is_owner_or_capable(&meta, self.credentials) {
            return Err(Errno::EPERM);
        }
        if let Some(acl) = &acl {
            acl.check()?;
        }
        let keeps_set_gid = self.credentials.in_group(meta.gid)
            || self.credentials.capable_over(&meta, Capabilities::FSETID);
        inode.set_acl(kind, acl, keeps_set_gid)?;
        inode.body().forget_privileges();
        Ok(())
    }

    fn check_xattr(&self, inode: &dyn Inode, name: &[u8], access: Access) -> Result<()> {
        if name.is_empty() || name.len() > XATTR_NAME_MAX {
            return Err(Errno::ERANGE);
        }
        self.check_name_space(inode, name, access)?;
        // A prefix alone is no name.
        let dot = name.iter().position(|byte| *byte == b'.');
        if dot == Some(name.len() - 1) {
            return Err(Errno::EINVAL);
        }
        Ok(())
    }

    /// Whether the caller may use attributes of the name's prefix.
    fn check_name_space(&self, inode: &dyn Inode, name: &[u8], access: Access) -> Result<()> {
        let is_write = access == Access::WRITE;
        if name.starts_with(b"system.") {
            // Access control lists are dealt with before; there is nothing else.
            return Err(Errno::EOPNOTSUPP);
        }
        if name == CAPABILITY {
            let may = !is_write
                || self
                    .credentials
                    .capable_over(&inode.metadata()?, Capabilities::SETFCAP);
            return if may { Ok(()) } else { Err(Errno::EPERM) };
        }
        if name.starts_with(b"security.") {
            let may = !is_write || self.credentials.capable(Capabilities::SYS_ADMIN);
            return if may { Ok(()) } else { Err(Errno::EPERM) };
        }
        if name.starts_with(b"trusted.") {
            let refusal = if is_write {
                Errno::EPERM
            } else {
                Errno::ENODATA
            };
            return if self.credentials.capable(Capabilities::SYS_ADMIN) {
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
        permission::check_with(inode, &meta, self.credentials, access)
    }
}
