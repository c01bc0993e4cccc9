//! The bits of page-table entries (Intel SDM volume 3, section 4.5), and how an address is taken apart.
//! Plain numbers: what walks tables is built on them, on the bare machine and in tests.
//!
//! An entry that nobody may use ([`Perms::NO_ACCESS`]) is not present for the CPU and keeps its page in the
//! bits that are software's then. Its address is inverted, so that a CPU which speculates past
//! the missing present bit (L1TF) finds an address where there is no memory.

use x86_64::structures::paging::PageTableFlags;

use super::Perms;

pub(crate) const PRESENT: u64 = PageTableFlags::PRESENT.bits();
pub(crate) const WRITE: u64 = PageTableFlags::WRITABLE.bits();
pub(crate) const USER: u64 = PageTableFlags::USER_ACCESSIBLE.bits();
/// The CPU has used the entry.
pub(crate) const ACCESSED: u64 = PageTableFlags::ACCESSED.bits();
/// The CPU has stored through the entry.
pub(crate) const DIRTY: u64 = PageTableFlags::DIRTY.bits();
/// In an entry above the leaves: it maps a large page itself.
pub(crate) const LARGE: u64 = PageTableFlags::HUGE_PAGE.bits();
/// Free for software: the page is boot memory, which is not counted.
pub(crate) const BOOT_MEMORY: u64 = PageTableFlags::BIT_9.bits();
/// Free for software, in an entry that is not present: it keeps a page that nobody may access.
pub(crate) const KEPT: u64 = PageTableFlags::BIT_11.bits();
pub(crate) const NO_EXEC: u64 = PageTableFlags::NO_EXECUTE.bits();
/// The physical address in an entry.
pub(crate) const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Entries of a table.
pub(crate) const ENTRIES: usize = 512;
/// The level whose entries map 4 KiB pages.
pub(crate) const LEAF: u32 = 1;
/// The level of the root table.
pub(crate) const ROOT: u32 = 4;

/// The index into the table of `level` for `addr`.
pub(crate) fn index(addr: u64, level: u32) -> usize {
    (addr >> (12 + 9 * (level - 1))) as usize & (ENTRIES - 1)
}

/// Bytes that an entry of `level` spans.
pub(crate) fn span(level: u32) -> u64 {
    1 << (12 + 9 * (level - 1))
}

/// Whether an entry has a page or, further up, a table.
pub(super) fn is_used(entry: u64) -> bool {
    entry & (PRESENT | KEPT) != 0
}

/// Whether an entry above the leaves has a page itself.
pub(super) fn is_large(entry: u64) -> bool {
    is_used(entry) && entry & LARGE != 0
}

/// What makes entries of pages, all with the same permissions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Encoder {
    /// The bits of a present entry; `KEPT` of one that nobody may access.
    bits: u64,
    /// What is inverted of the address.
    inverted: u64,
}

impl Encoder {
    pub(super) fn new(perms: Perms) -> Self {
        if perms.contains(Perms::NO_ACCESS) {
            return Self {
                bits: KEPT,
                inverted: ADDRESS,
            };
        }
        let mut bits = PRESENT | USER;
        if perms.contains(Perms::WRITE) {
            bits |= WRITE;
        }
        if !perms.contains(Perms::EXEC) {
            bits |= NO_EXEC;
        }
        Self { bits, inverted: 0 }
    }

    /// Whether a used entry is surely as this would make it.
    #[inline]
    pub(super) fn is_like(self, entry: u64) -> bool {
        (entry ^ self.bits) & (PRESENT | KEPT | WRITE | NO_EXEC) == 0
    }

    /// The entry for a page: its physical address, with [`BOOT_MEMORY`] and [`LARGE`] where that holds. Boot memory is
    /// constant: its entry never gives [`Perms::WRITE`], so that a store faults and finds a copy.
    #[inline]
    pub(super) fn encode(self, page: u64) -> u64 {
        const { assert!(BOOT_MEMORY >> 8 == WRITE) };
        (page ^ self.inverted) | self.bits & !((page & BOOT_MEMORY) >> 8)
    }
}

/// One entry, as [`Encoder::encode`] makes it.
pub(super) fn encode(page: u64, perms: Perms) -> u64 {
    Encoder::new(perms).encode(page)
}

/// An entry without [`Perms::WRITE`]; it is as present as before.
pub(super) fn read_only(entry: u64) -> u64 {
    entry & !WRITE
}

/// An entry without what the CPU noted in it.
pub(super) fn unmarked(entry: u64) -> u64 {
    entry & !(ACCESSED | DIRTY)
}

/// Whether entry `new` allows less than CPUs may know that have used `old`.
pub(super) fn takes_away(old: u64, new: u64) -> bool {
    let is_lost = old & !new & (PRESENT | WRITE) | !old & new & NO_EXEC;
    old & PRESENT != 0 && is_lost != 0
}

/// What [`encode`] was given for the page of an entry.
pub(super) fn page_of(entry: u64) -> u64 {
    let address = if entry & PRESENT != 0 {
        entry
    } else {
        entry ^ ADDRESS
    };
    address & ADDRESS | entry & (BOOT_MEMORY | LARGE)
}

/// The permissions that a leaf entry gives.
pub(super) fn perms_of(entry: u64) -> Perms {
    if entry & PRESENT == 0 {
        return Perms::NO_ACCESS;
    }
    let mut perms = Perms::empty();
    perms.set(Perms::WRITE, entry & WRITE != 0);
    perms.set(Perms::EXEC, entry & NO_EXEC == 0);
    perms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaf_entries_give_back_page_and_permissions() {
        let (boot, large) = (0x1234_5000 | BOOT_MEMORY, 0x1240_0000 | LARGE);
        for page in [0x1000, 0x000f_ffff_ffff_f000, boot, large] {
            for perms in [
                Perms::empty(),
                Perms::WRITE,
                Perms::WRITE | Perms::EXEC,
                Perms::NO_ACCESS,
            ] {
                let entry = encode(page, perms);
                assert!(is_used(entry));
                let kept = if page & BOOT_MEMORY == 0 {
                    perms
                } else {
                    perms - Perms::WRITE
                };
                assert_eq!((page_of(entry), perms_of(entry)), (page, kept));
                assert_eq!(entry & PRESENT == 0, perms == Perms::NO_ACCESS);
                let is_as_wished = kept == perms;
                assert_eq!(Encoder::new(perms).is_like(entry | ACCESSED), is_as_wished);
                assert!(!takes_away(entry, entry | DIRTY));
                let silent = encode(page, Perms::NO_ACCESS);
                assert_eq!(takes_away(entry, silent), entry & PRESENT != 0);
                assert!(!takes_away(silent, entry));
                assert_eq!(perms_of(read_only(entry)), kept - Perms::WRITE);
                assert_eq!(unmarked(entry | ACCESSED | DIRTY), entry);
            }
        }
    }
}
