//! What /proc shows of an address space.

use alloc::sync::Arc;
use core::ops::Range;

use machine::UserAddr;

use super::area::{AreaFlags, Prot};
use crate::page_source::Origin;

/// One line of /proc/PID/maps.
#[derive(Clone)]
pub struct AreaInfo {
    /// Addresses.
    pub range: Range<UserAddr>,
    /// Protection.
    pub prot: Prot,
    /// Properties; `HEAP` and `STACK` name the line where there is no file.
    pub flags: AreaFlags,
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// The file.
    pub origin: Option<Arc<dyn Origin>>,
}

impl core::fmt::Debug for AreaInfo {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "AreaInfo({:?} {:?})", self.range, self.prot)
    }
}

/// Sizes in pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// All areas (VmSize).
    pub total: u64,
    /// The most `total` has been (VmPeak).
    pub peak: u64,
    /// Pages in memory (VmRSS).
    pub resident: u64,
    /// Resident pages that come from files or are shared.
    pub resident_file: u64,
    /// Private writable areas, the stack not among them (VmData).
    pub data: u64,
    /// Stack areas (VmStk).
    pub stack: u64,
    /// Executable file mappings (VmExe, VmLib).
    pub exec: u64,
    /// Locked (VmLck).
    pub locked: u64,
}

/// Addresses that exec and prctl(PR_SET_MM) set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "proc(5) documents each")]
pub struct Layout {
    pub start_code: u64,
    pub end_code: u64,
    pub start_data: u64,
    pub end_data: u64,
    pub start_brk: u64,
    pub brk: u64,
    pub start_stack: u64,
    pub arg_start: u64,
    pub arg_end: u64,
    pub env_start: u64,
    pub env_end: u64,
}
