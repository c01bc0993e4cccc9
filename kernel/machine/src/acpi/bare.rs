//! Tables are found from the RSDP that the boot path named, and mapped where they lie: firmware keeps
//! them outside the RAM that the kernel may use.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::addr::PhysAddr;

const HEADER_LEN: usize = 36;
const RSDP_LEN: usize = 36;
const MAX_TABLE_LEN: usize = 1 << 20;
/// Where the entries of a MADT start.
const MADT_ENTRIES: usize = 44;

static RSDP: AtomicU64 = AtomicU64::new(0);

/// Tells where the RSDP is; 0 for no ACPI.
pub(crate) fn set_rsdp(phys: u64) {
    RSDP.store(phys, Ordering::Relaxed);
}

/// The bytes of the table with this signature (header included), found from the RSDP through
/// XSDT or RSDT with its length and checksum verified. `None` without ACPI.
pub(crate) fn table(signature: [u8; 4]) -> Option<&'static [u8]> {
    let rsdp = RSDP.load(Ordering::Relaxed);
    if rsdp == 0 {
        return None;
    }
    let rsdp = bytes_at(rsdp, RSDP_LEN)?;
    if !rsdp.starts_with(b"RSD PTR ") || !sums_to_zero(&rsdp[..20]) {
        return None;
    }
    let xsdt = if rsdp[15] >= 2 { word64(rsdp, 24)? } else { 0 };
    let (root, entry_len) = if xsdt == 0 {
        (u64::from(word32(rsdp, 16)?), 4)
    } else {
        (xsdt, 8)
    };
    let root = whole_table(root)?;
    root.get(HEADER_LEN..)?
        .chunks_exact(entry_len)
        .filter_map(|entry| {
            if entry_len == 8 {
                word64(entry, 0)
            } else {
                word32(entry, 0).map(u64::from)
            }
        })
        .filter_map(whole_table)
        .find(|table| table.starts_with(&signature))
}

/// The entries of the MADT: type, and the whole entry.
pub(crate) fn madt_entries() -> impl Iterator<Item = (u8, &'static [u8])> {
    let mut rest = table(*b"APIC")
        .and_then(|madt| madt.get(MADT_ENTRIES..))
        .unwrap_or_default();
    core::iter::from_fn(move || {
        let len = usize::from(*rest.get(1)?);
        let entry = rest.get(..len).filter(|entry| entry.len() >= 2)?;
        rest = &rest[len..];
        // Callers count from behind type and length.
        Some((entry[0], &entry[2..]))
    })
}

fn whole_table(phys: u64) -> Option<&'static [u8]> {
    let header = bytes_at(phys, HEADER_LEN)?;
    let len = word32(header, 4)? as usize;
    if !(HEADER_LEN..=MAX_TABLE_LEN).contains(&len) {
        return None;
    }
    let table = bytes_at(phys, len)?;
    sums_to_zero(table).then_some(table)
}

fn bytes_at(phys: u64, len: usize) -> Option<&'static [u8]> {
    let start = crate::mmio::map(PhysAddr(phys), len)?;
    // SAFETY: `map` maps the range for good. Firmware wrote it before the kernel started and
    // nothing writes it any more.
    Some(unsafe { core::slice::from_raw_parts(start.as_ptr(), len) })
}

fn sums_to_zero(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
        == 0
}

fn word32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn word64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
