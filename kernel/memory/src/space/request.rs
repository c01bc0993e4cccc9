//! What mmap(2) asks for, decoded.

use alloc::sync::Arc;

use abi::{Errno, Result};
use machine::{PAGE_SIZE, UserAddr};

use super::area::{AreaFlags, Prot};
use super::attach::Attachment;
use crate::page_source::{Origin, PageSource};

/// Where a mapping may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Placement {
    /// At the address if it is free (0: no wish), else anywhere.
    #[default]
    Anywhere,
    /// Exactly there, in place of what is there (`MAP_FIXED`).
    Fixed,
    /// Exactly there, `EEXIST` when something is (`MAP_FIXED_NOREPLACE`).
    FixedNoReplace,
    /// As `Anywhere`, but where a signed 32-bit number reaches (`MAP_32BIT`).
    Low,
}

/// A mapping to be made.
pub struct MapRequest {
    /// The address asked for.
    pub addr: UserAddr,
    /// Whether it has to be there.
    pub placement: Placement,
    /// Length in bytes, not yet rounded up to pages.
    pub len: u64,
    /// Protection.
    pub prot: Prot,
    /// What mprotect may allow later: without `WRITE` for a shared mapping of a file opened read-only.
    pub max_prot: Prot,
    /// Properties, `SHARED` among them.
    pub flags: AreaFlags,
    /// Where the pages come from; `None` is anonymous memory, private or (with `SHARED`) shared with
    /// children.
    pub source: Option<Arc<dyn PageSource>>,
    /// Where in the source it starts: page-aligned.
    pub offset: u64,
    /// The file, for /proc/PID/maps.
    pub origin: Option<Arc<dyn Origin>>,
    /// What counts it (shmat(2)).
    pub attachment: Option<Attachment>,
    /// Makes every page present at once (`MAP_POPULATE`).
    pub populate: bool,
    /// Whether the caller may lock more than its limit (CAP_IPC_LOCK).
    pub may_lock: bool,
}

impl core::fmt::Debug for MapRequest {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "MapRequest({:?} {:?} {:#x} {:?})",
            self.addr, self.placement, self.len, self.prot
        )
    }
}

/// mmap(2) flags; the ones Linux ignores are accepted and ignored.
mod flag {
    pub(super) const SHARED: u32 = 0x01;
    pub(super) const PRIVATE: u32 = 0x02;
    pub(super) const SHARED_VALIDATE: u32 = 0x03;
    pub(super) const TYPE: u32 = 0x0f;
    pub(super) const FIXED: u32 = 0x10;
    pub(super) const ANONYMOUS: u32 = 0x20;
    pub(super) const BITS_32: u32 = 0x40;
    pub(super) const GROWS_DOWN: u32 = 0x100;
    pub(super) const DENY_WRITE: u32 = 0x800;
    pub(super) const EXECUTABLE: u32 = 0x1000;
    pub(super) const LOCKED: u32 = 0x2000;
    pub(super) const NO_RESERVE: u32 = 0x4000;
    pub(super) const POPULATE: u32 = 0x8000;
    pub(super) const NON_BLOCK: u32 = 0x1_0000;
    pub(super) const STACK: u32 = 0x2_0000;
    pub(super) const HUGE_TLB: u32 = 0x4_0000;
    pub(super) const SYNC: u32 = 0x8_0000;
    /// The size of huge pages, with `HUGE_TLB` alone.
    pub(super) const HUGE_SIZE: u32 = 0x3f << 26;
    pub(super) const FIXED_NO_REPLACE: u32 = 0x10_0000;
    /// What `MAP_SHARED_VALIDATE` knows; `MAP_SYNC` needs a DAX file, which there is none of.
    pub(super) const VALIDATED: u32 = TYPE
        | FIXED
        | ANONYMOUS
        | GROWS_DOWN
        | DENY_WRITE
        | EXECUTABLE
        | LOCKED
        | NO_RESERVE
        | POPULATE
        | NON_BLOCK
        | STACK
        | BITS_32
        | HUGE_TLB
        | HUGE_SIZE
        | FIXED_NO_REPLACE;
}

impl MapRequest {
    /// Private anonymous memory anywhere.
    #[must_use]
    pub fn anonymous(len: u64, prot: Prot) -> Self {
        Self {
            addr: UserAddr(0),
            placement: Placement::Anywhere,
            len,
            prot,
            max_prot: Prot::all(),
            flags: AreaFlags::empty(),
            source: None,
            offset: 0,
            origin: None,
            attachment: None,
            populate: false,
            may_lock: false,
        }
    }

    /// A part of a file, private, anywhere.
    #[must_use]
    pub fn file(source: Arc<dyn PageSource>, offset: u64, len: u64, prot: Prot) -> Self {
        Self {
            source: Some(source),
            offset,
            ..Self::anonymous(len, prot)
        }
    }

    /// Exactly at `addr`, in place of what is there.
    #[must_use]
    pub fn at(mut self, addr: UserAddr) -> Self {
        self.addr = addr;
        self.placement = Placement::Fixed;
        self
    }

    /// Whether `flags` of mmap(2) ask for a mapping without a file.
    #[must_use]
    pub const fn is_anonymous(flags: u32) -> bool {
        flags & flag::ANONYMOUS != 0
    }

    /// Decodes the arguments of mmap(2). Unless [`Self::is_anonymous`], the caller then sets `source`,
    /// `origin` and `max_prot` by the file (and answers `EACCES` or `ENODEV` where it must).
    ///
    /// # Errors
    /// `EINVAL`, `ENOMEM` (huge pages, of which there are none; a length that cannot be),
    /// `EOPNOTSUPP`, `EOVERFLOW`, as mmap(2).
    pub fn decode(addr: u64, len: u64, prot: u32, flags: u32, offset: u64) -> Result<Self> {
        let kind = flags & flag::TYPE;
        let shared = match kind {
            flag::SHARED | flag::SHARED_VALIDATE => AreaFlags::SHARED,
            flag::PRIVATE => AreaFlags::empty(),
            _ => return Err(Errno::EINVAL),
        };
        if kind == flag::SHARED_VALIDATE && flags & (flag::SYNC | !flag::VALIDATED) != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if len == 0 || !offset.is_multiple_of(PAGE_SIZE as u64) {
            return Err(Errno::EINVAL);
        }
        let is_anonymous = Self::is_anonymous(flags);
        // Only private anonymous memory can be a stack.
        let wrong_stack = flags & flag::GROWS_DOWN != 0 && (!shared.is_empty() || !is_anonymous);
        if wrong_stack || is_anonymous && kind == flag::SHARED_VALIDATE {
            return Err(Errno::EINVAL);
        }
        if flags & flag::HUGE_TLB != 0 || flags & flag::BITS_32 != 0 && len > 1 << 31 {
            return Err(Errno::ENOMEM);
        }
        if len > UserAddr::LIMIT.0 {
            return Err(Errno::ENOMEM);
        }
        // What a file can be asked for ends where offsets do (`loff_t`).
        let end = len
            .checked_next_multiple_of(PAGE_SIZE as u64)
            .and_then(|len| offset.checked_add(len));
        if !is_anonymous && end.is_none_or(|end| end > i64::MAX.unsigned_abs()) {
            return Err(Errno::EOVERFLOW);
        }
        let mut request = Self::anonymous(len, Prot::from_bits_truncate(prot));
        request.addr = UserAddr(addr);
        request.placement = placement(flags);
        request.offset = if is_anonymous { 0 } else { offset };
        request.flags = shared
            | when(flags, flag::GROWS_DOWN, AreaFlags::GROWS_DOWN)
            | when(flags, flag::LOCKED, AreaFlags::LOCKED)
            | when(flags, flag::NO_RESERVE, AreaFlags::NO_RESERVE)
            | when(flags, flag::STACK, AreaFlags::NO_LARGE);
        request.populate =
            flags & (flag::POPULATE | flag::LOCKED) != 0 && flags & flag::NON_BLOCK == 0;
        Ok(request)
    }
}

const fn placement(flags: u32) -> Placement {
    if flags & flag::FIXED_NO_REPLACE != 0 {
        Placement::FixedNoReplace
    } else if flags & flag::FIXED != 0 {
        Placement::Fixed
    } else if flags & flag::BITS_32 != 0 {
        Placement::Low
    } else {
        Placement::Anywhere
    }
}

fn when(flags: u32, bit: u32, then: AreaFlags) -> AreaFlags {
    if flags & bit == 0 {
        AreaFlags::empty()
    } else {
        then
    }
}
