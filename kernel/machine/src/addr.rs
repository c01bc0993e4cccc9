//! Kinds of address as types: physical and user. Kernel virtual addresses stay inside `machine`.

/// Bytes in a page.
pub const PAGE_SIZE: usize = 4096;

/// A guest-physical address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhysAddr(pub u64);

/// An address in user space as user code names it: a claim, not a fact. Any 64-bit value can be
/// held; whether something is mapped there is found out by using it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UserAddr(pub u64);

impl UserAddr {
    /// One past the highest address that can be mapped (Linux's `TASK_SIZE_MAX`).
    pub const LIMIT: UserAddr = UserAddr(0x7fff_ffff_f000);

    /// The address `offset` bytes on, or `None` past the end of the address space.
    #[must_use]
    pub fn checked_add(self, offset: u64) -> Option<UserAddr> {
        self.0.checked_add(offset).map(UserAddr)
    }

    /// The start of the page that holds this address.
    #[must_use]
    pub const fn page_base(self) -> UserAddr {
        UserAddr(self.0 & !(PAGE_SIZE as u64 - 1))
    }

    /// The offset within its page.
    #[must_use]
    pub const fn page_offset(self) -> usize {
        (self.0 & (PAGE_SIZE as u64 - 1)) as usize
    }

    /// Whether the address is page-aligned.
    #[must_use]
    pub const fn is_page_aligned(self) -> bool {
        self.page_offset() == 0
    }
}
