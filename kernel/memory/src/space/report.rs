//! What /proc shows of an address space.

use alloc::sync::Arc;
use core::ops::Range;

use abi::Result;
use collections::Vec;
use machine::UserAddr;

use super::area::{AreaFlags, Prot};
use super::{AddressSpace, Areas, PAGE};
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
    /// Pages of its own may be mapped, beside those of the file.
    pub is_copied: bool,
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

impl AddressSpace {
    /// All areas.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn areas(&self) -> Result<Vec<AreaInfo>> {
        self.areas_from(UserAddr(0), usize::MAX)
    }

    /// The first `most` areas that end above `addr`: /proc/PID/maps is read a piece at a time, each from where
    /// the last one ended.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn areas_from(&self, addr: UserAddr, most: usize) -> Result<Vec<AreaInfo>> {
        let areas = self.areas.read();
        let mut infos = Vec::new();
        infos.try_reserve_exact(areas.tree.len().min(most))?;
        let found = areas.tree.from(addr.0).take(most);
        infos.try_extend(found.map(|(start, area)| AreaInfo {
            range: UserAddr(start)..UserAddr(area.end),
            prot: area.prot,
            flags: area.flags,
            is_copied: area.is_copied(),
            offset: if area.source.is_some() {
                area.offset
            } else {
                0
            },
            origin: area.origin.clone(),
        }))?;
        Ok(infos)
    }

    /// Sizes, for /proc/PID/statm and status. Nothing is walked.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let areas = self.areas.read();
        let totals = areas.tree.totals();
        Statistics {
            total: totals.all / PAGE,
            peak: areas.peak / PAGE,
            resident: self.resident(),
            resident_file: self.table.file_pages() as u64,
            data: totals.data / PAGE,
            stack: totals.stack / PAGE,
            exec: totals.exec / PAGE,
            locked: totals.locked / PAGE,
        }
    }

    /// Pages in memory now.
    #[must_use]
    pub fn resident(&self) -> u64 {
        self.table.resident() as u64
    }

    /// The most pages that were in memory at once (`ru_maxrss`, VmHWM).
    #[must_use]
    pub fn peak_resident(&self) -> u64 {
        let now = self.table.resident() as u64;
        self.areas.read().peak_resident.max(now)
    }

    /// Pages are about to be taken out.
    pub(super) fn note_peak(&self, areas: &mut Areas) {
        areas.peak_resident = areas.peak_resident.max(self.table.resident() as u64);
    }

    /// Where exec put things, for /proc/PID/stat, cmdline and prctl.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.areas.read().layout
    }

    /// See [`Self::layout`]. The heap (`start_brk`, `brk`) is [`Self::set_brk_start`]'s and stays as it is.
    pub fn set_layout(&self, layout: Layout) {
        let mut areas = self.areas.write();
        let Layout { start_brk, brk, .. } = areas.layout;
        areas.layout = Layout {
            start_brk,
            brk,
            ..layout
        };
    }
}
