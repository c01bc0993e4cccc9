//! What CPUID offers of what the kernel can use. Read once on the boot CPU; each user has a fallback.

use core::arch::x86_64::__cpuid_count;
use core::sync::atomic::{AtomicU32, Ordering};

bitflags::bitflags! {
    /// Optional features that were found.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct Features: u32 {
        const XSAVE = 1;
        const FSGSBASE = 1 << 1;
        const SMEP = 1 << 2;
        const SMAP = 1 << 3;
        const UMIP = 1 << 4;
        const X2APIC = 1 << 5;
        const TSC_DEADLINE = 1 << 6;
        const GIB_PAGES = 1 << 7;
        const RDRAND = 1 << 8;
        const RDSEED = 1 << 9;
        const PGE = 1 << 10;
    }
}

static FOUND: AtomicU32 = AtomicU32::new(0);
static LEAF1_EDX: AtomicU32 = AtomicU32::new(0);

/// The registers of a CPUID leaf: EAX, EBX, ECX, EDX.
pub(crate) fn cpuid(leaf: u32, sub_leaf: u32) -> [u32; 4] {
    let found = __cpuid_count(leaf, sub_leaf);
    [found.eax, found.ebx, found.ecx, found.edx]
}

/// The highest basic leaf.
pub(crate) fn highest_leaf() -> u32 {
    cpuid(0, 0)[0]
}

/// Asks CPUID, once, and believes it as far as the command line does.
///
/// A KVM that emulates kernel code may show the kernel the processor's own CPUID, with features that
/// its emulator lacks. The VMM then says by `nacre.cpuid=` what holds: leaf 1 ECX and EDX, leaf 7 EBX
/// and ECX, leaf 0x80000001 EDX, in hexadecimal with commas between.
pub(crate) fn detect(command_line: &str) {
    let [mask_ecx, mask_edx, mask_ebx7, mask_ecx7, mask_extended] = masks(command_line);
    let [_, _, ecx, edx] = cpuid(1, 0);
    let (ecx, edx) = (ecx & mask_ecx, edx & mask_edx);
    let mut ebx7 = if highest_leaf() >= 7 {
        cpuid(7, 0)
    } else {
        [0; 4]
    };
    ebx7[1] &= mask_ebx7;
    ebx7[2] &= mask_ecx7;
    let extended = if cpuid(0x8000_0000, 0)[0] >= 0x8000_0001 {
        cpuid(0x8000_0001, 0)[3] & mask_extended
    } else {
        0
    };
    let mut found = Features::empty();
    found.set(Features::XSAVE, ecx & (1 << 26) != 0);
    found.set(Features::X2APIC, ecx & (1 << 21) != 0);
    found.set(Features::TSC_DEADLINE, ecx & (1 << 24) != 0);
    found.set(Features::RDRAND, ecx & (1 << 30) != 0);
    found.set(Features::PGE, edx & (1 << 13) != 0);
    found.set(Features::FSGSBASE, ebx7[1] & 1 != 0);
    found.set(Features::SMEP, ebx7[1] & (1 << 7) != 0);
    found.set(Features::RDSEED, ebx7[1] & (1 << 18) != 0);
    found.set(Features::SMAP, ebx7[1] & (1 << 20) != 0);
    found.set(Features::UMIP, ebx7[2] & (1 << 2) != 0);
    found.set(Features::GIB_PAGES, extended & (1 << 26) != 0);
    FOUND.store(found.bits(), Ordering::Relaxed);
    LEAF1_EDX.store(edx, Ordering::Relaxed);
}

/// The registers' masks that the command line gives; all ones where it gives none.
fn masks(command_line: &str) -> [u32; 5] {
    let mut masks = [u32::MAX; 5];
    let mut words = command_line.split_ascii_whitespace();
    if let Some(given) = words.find_map(|word| word.strip_prefix("nacre.cpuid=")) {
        for (mask, digits) in masks.iter_mut().zip(given.split(',')) {
            *mask = u32::from_str_radix(digits, 16).unwrap_or(u32::MAX);
        }
    }
    masks
}

/// Whether a feature was found.
pub(crate) fn has(feature: Features) -> bool {
    FOUND.load(Ordering::Relaxed) & feature.bits() != 0
}

/// CPUID leaf 1 EDX.
pub(crate) fn leaf1_edx() -> u32 {
    LEAF1_EDX.load(Ordering::Relaxed)
}
