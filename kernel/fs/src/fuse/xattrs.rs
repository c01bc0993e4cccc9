//! Extended attributes at the server. They are not cached: a server that has none says so once (`ENOSYS`), and is not
//! asked again. That a file has no `security.capability`, which each exec looks for, is remembered until the file changes.

use abi::{Errno, Result};
use collections::Vec;
use zerocopy::IntoBytes;

use super::inode::{FuseInode, without};
use super::wire::{GetXattrIn, GetXattrOut, Op, SetXattrIn};
use crate::inode::XattrMode;
use crate::ops::CAPABILITY;

/// The most bytes of `security.capability` (`struct vfs_ns_cap_data`).
const CAPABILITIES_MAX: u32 = 24;
/// The largest extended attribute, and list of their names (xattr(7)).
const XATTR_MAX: usize = 64 * 1024;

impl FuseInode {
    /// The value of `security.capability`.
    pub(super) fn read_capabilities(&self) -> Result<Vec<u8>> {
        let seen = self.attributes.capabilities_seen();
        if let Some((_, true)) = seen {
            return Err(Errno::ENODATA);
        }
        // It is asked for at once: its length is bounded.
        let arg = GetXattrIn {
            size: CAPABILITIES_MAX,
            padding: 0,
        };
        let args = [arg.as_bytes(), CAPABILITY, b"\0"];
        let room = CAPABILITIES_MAX as usize;
        let answer = self.ask_optional(Op::GetXattr, &args, room);
        if let (Err(Errno::ENODATA), Some((ctime, _))) = (&answer, seen) {
            self.attributes.note_no_capabilities(ctime);
        }
        answer
            .map(|reply| reply.body)
            .map_err(|errno| without(errno, Errno::EOPNOTSUPP))
    }

    /// The answer to GETXATTR or LISTXATTR.
    pub(super) fn read_xattr(&self, op: Op, name: &[&[u8]]) -> Result<Vec<u8>> {
        // Once for the length, once for the value; a value that grew in between is ERANGE.
        let sized = |size: u32, room: usize| {
            let arg = GetXattrIn { size, padding: 0 };
            let mut args = Vec::try_from([arg.as_bytes()])?;
            args.try_extend_from_slice(name)?;
            self.ask_optional(op, &args, room)
                .map_err(|errno| without(errno, Errno::EOPNOTSUPP))
        };
        let out: GetXattrOut = sized(0, size_of::<GetXattrOut>())?.parse()?;
        let len = out.size as usize;
        if len == 0 {
            return Ok(Vec::new());
        }
        if len > XATTR_MAX {
            return Err(Errno::E2BIG);
        }
        Ok(sized(out.size, len)?.body)
    }

    /// setxattr(2).
    pub(super) fn store_xattr(&self, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        let flags = match mode {
            XattrMode::Either => 0,
            XattrMode::Create => 1,
            XattrMode::Replace => 2,
            XattrMode::Never => 3,
        };
        let size = u32::try_from(value.len()).map_err(|_| Errno::E2BIG)?;
        let arg = SetXattrIn { size, flags };
        self.changed();
        self.ask_optional(Op::SetXattr, &[arg.as_bytes(), name, b"\0", value], 0)
            .map(drop)
            .map_err(|errno| without(errno, Errno::EOPNOTSUPP))
    }

    /// removexattr(2).
    pub(super) fn drop_xattr(&self, name: &[u8]) -> Result<()> {
        self.ask_optional(Op::RemoveXattr, &[name, b"\0"], 0)
            .map_err(|errno| without(errno, Errno::EOPNOTSUPP))?;
        self.changed();
        Ok(())
    }
}
