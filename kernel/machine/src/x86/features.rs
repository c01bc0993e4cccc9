//! What CPUID offers of what the kernel can use. Read once on the boot CPU; each user has a fallback.

use core::arch::x86_64::__cpuid_count;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

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
static PHYSICAL_END: AtomicU64 = AtomicU64::new(1 << 36);
static LEAF1_EDX: AtomicU32 = AtomicU32::new(0);
static IS_EMULATED: AtomicBool = AtomicBool::new(false);

/// The registers of a CPUID leaf: EAX, EBX, ECX, EDX.
pub(crate) fn cpuid(leaf: u32, sub_leaf: u32) -> [u32; 4] {
    let found = __cpuid_count(leaf, sub_leaf);
    [found.eax, found.ebx, found.ecx, found.edx]
}

/// The highest basic leaf.
pub(crate) fn highest_leaf() -> u32 {
    cpuid(0, 0)[0]
}

/// What the host says may be used, as masks of leaf 1 ECX and EDX, leaf 7 EBX and ECX, and leaf
/// `0x8000_0001` EDX: on some hosts CPUID names instructions that fail in the kernel.
pub(crate) type Masks = [u32; 5];

/// Reads the masks of a command-line word's value: five hexadecimal numbers between colons.
pub(crate) fn parse_masks(value: &str) -> Option<Masks> {
    let mut masks = [0; 5];
    let mut numbers = value.split(':');
    for mask in &mut masks {
        *mask = u32::from_str_radix(numbers.next()?, 16).ok()?;
    }
    numbers.next().is_none().then_some(masks)
}

/// Asks CPUID, once.
pub(crate) fn detect(masks: Option<Masks>) {
    IS_EMULATED.store(masks.is_some(), Ordering::Relaxed);
    let [first_ecx, first_edx, seventh_ebx, seventh_ecx, extended_edx] =
        masks.unwrap_or([u32::MAX; 5]);
    let [_, _, ecx, edx] = cpuid(1, 0);
    let (ecx, edx) = (ecx & first_ecx, edx & first_edx);
    let [_, ebx7, ecx7, _] = if highest_leaf() >= 7 {
        cpuid(7, 0)
    } else {
        [0; 4]
    };
    let (ebx7, ecx7) = (ebx7 & seventh_ebx, ecx7 & seventh_ecx);
    let highest_extended = cpuid(0x8000_0000, 0)[0];
    if highest_extended >= 0x8000_0008 {
        let bits = cpuid(0x8000_0008, 0)[0] & 0xff;
        PHYSICAL_END.store(1 << bits.clamp(36, 52), Ordering::Relaxed);
    }
    let has_extended = highest_extended >= 0x8000_0001;
    let extended = if has_extended {
        cpuid(0x8000_0001, 0)[3] & extended_edx
    } else {
        0
    };
    let mut found = Features::empty();
    for (feature, register, bit) in [
        (Features::XSAVE, ecx, 26),
        (Features::X2APIC, ecx, 21),
        (Features::TSC_DEADLINE, ecx, 24),
        (Features::RDRAND, ecx, 30),
        (Features::PGE, edx, 13),
        (Features::FSGSBASE, ebx7, 0),
        (Features::SMEP, ebx7, 7),
        (Features::RDSEED, ebx7, 18),
        (Features::SMAP, ebx7, 20),
        (Features::UMIP, ecx7, 2),
        (Features::GIB_PAGES, extended, 26),
    ] {
        found.set(feature, register & (1 << bit) != 0);
    }
    FOUND.store(found.bits(), Ordering::Relaxed);
    LEAF1_EDX.store(edx, Ordering::Relaxed);
}

/// Whether the host emulates kernel code: it gave masks, since its CPUID is not to be relied on.
pub(crate) fn is_emulated() -> bool {
    IS_EMULATED.load(Ordering::Relaxed)
}

/// The end of the addresses that page-table entries can hold on this CPU.
pub(crate) fn physical_end() -> u64 {
    PHYSICAL_END.load(Ordering::Relaxed)
}

/// Whether a feature was found.
pub(crate) fn has(feature: Features) -> bool {
    FOUND.load(Ordering::Relaxed) & feature.bits() != 0
}

/// CPUID leaf 1 EDX.
pub(crate) fn leaf1_edx() -> u32 {
    LEAF1_EDX.load(Ordering::Relaxed)
}
