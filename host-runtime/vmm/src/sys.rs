//! The VMM's only unsafe code: what the crates it builds on leave to their caller.
//!
//! Each function is safe to call; the comment above each unsafe block says who keeps its promise.

use std::os::fd::{AsRawFd, BorrowedFd};

use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::{VcpuFd, VmFd};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap};
use vm_memory::{GuestAddress, GuestMemory, GuestMemoryRegion};
use vmm_sys_util::eventfd::EventFd;

use crate::layout::PAGE;
use crate::memory::Memory;

/// A virtual machine together with the memory it runs in, so that neither outlives the other.
#[derive(Debug)]
pub struct Vm {
    // Dropped in this order: the machine before its memory.
    fd: VmFd,
    _memory: std::sync::Arc<Memory>,
}

/// Maps a part of a file over guest memory, privately: what the guest changes is its own.
///
/// # Errors
/// `EFAULT` when that is not within one range of memory, or what mmap(2) says.
pub fn map_file(
    memory: &Memory,
    at: GuestAddress,
    file: BorrowedFd<'_>,
    offset: u64,
    length: u64,
) -> Result<(), Errno> {
    let region = memory.find_region(at).ok_or(Errno::FAULT)?;
    let start = at.0 - region.start_addr().0;
    if region.len() - start < length {
        return Err(Errno::FAULT);
    }
    let from = usize::try_from(start).map_err(|_| Errno::FAULT)?;
    let length = usize::try_from(length).map_err(|_| Errno::FAULT)?;
    let address = region.as_ptr().wrapping_add(from);
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
    // SAFETY: the pages that are replaced lie within one mapping of `memory`, checked above, and stay mapped until
    // `memory` unmaps all of it; Rust code reaches them through vm-memory's volatile accesses only, never as references.
    unsafe { mmap(address.cast(), length, protection, flags, file, offset) }.map(drop)
}

impl Vm {
    /// Gives a machine its memory, one slot a region; the one at `read_only` is the guest's to read only.
    ///
    /// # Errors
    /// What KVM said.
    pub fn new(
        vm: VmFd,
        memory: std::sync::Arc<Memory>,
        read_only: u64,
    ) -> Result<Self, kvm_ioctls::Error> {
        for (slot, region) in (0u32..).zip(memory.iter()) {
            let start = region.start_addr().0;
            let slot = kvm_userspace_memory_region {
                slot,
                flags: if start == read_only {
                    KVM_MEM_READONLY
                } else {
                    0
                },
                guest_phys_addr: start,
                memory_size: region.len(),
                userspace_addr: region.as_ptr().addr() as u64,
            };
            // SAFETY: the slot names exactly one mapping of `memory`, which the `Vm` owns and drops
            // after the VM; nothing else is mapped there, and Rust code reaches those bytes through
            // vm-memory's volatile accesses only, never as references.
            unsafe { vm.set_user_memory_region(slot) }?;
        }
        Ok(Self {
            fd: vm,
            _memory: memory,
        })
    }

    /// KVM's side.
    #[must_use]
    pub fn fd(&self) -> &VmFd {
        &self.fd
    }
}

/// Gives the host's memory behind a range of the guest's RAM up: it is zero from now on. But for what was mapped there
/// from the kernel's file, which is as it is in there: a guest that reports its own kernel harms itself.
///
/// # Errors
/// `EINVAL` when that is not whole pages of one region of RAM; what the kernel said.
pub fn discard(memory: &Memory, start: GuestAddress, bytes: u64) -> Result<(), Errno> {
    let refused = || Errno::INVAL;
    // The archive is a file's; its pages are not the guest's.
    let region = memory.find_region(start).ok_or_else(refused)?;
    let at = region.to_region_addr(start).ok_or_else(refused)?;
    let fits =
        at.0.checked_add(bytes)
            .is_some_and(|end| end <= region.len());
    let is_whole = bytes > 0 && start.0.is_multiple_of(PAGE) && bytes.is_multiple_of(PAGE);
    if region.file_offset().is_some() || !fits || !is_whole {
        return Err(refused());
    }
    let host = region.get_host_address(at).map_err(|_| refused())?;
    let length = usize::try_from(bytes).map_err(|_| refused())?;
    // SAFETY: the pages are within one private mapping, as just checked, which `memory` owns and keeps mapped; they turn
    // into zeroes or what their file has, as if the guest had written that, and Rust code reaches them by vm-memory's
    // volatile accesses only.
    unsafe { madvise(host.cast(), length, Advice::LinuxDontNeed) }
}

/// What KVM says of its last internal error: the kind, and the bytes it could not emulate.
#[must_use]
pub fn internal_error(vcpu: &mut VcpuFd) -> (u32, Vec<u8>) {
    let run = vcpu.get_kvm_run();
    // SAFETY: every bit pattern is a valid value of this variant, all of whose fields are integers; KVM
    // has filled it, as the caller has just seen KVM_EXIT_INTERNAL_ERROR.
    let error = unsafe { run.__bindgen_anon_1.internal };
    // For KVM_INTERNAL_ERROR_EMULATION data[0] is a flag word and data[1..] the length and the bytes.
    let bytes = error
        .data
        .iter()
        .skip(1)
        .take(2)
        .flat_map(|word| word.to_le_bytes());
    let bytes: Vec<u8> = bytes.collect();
    let length = bytes
        .first()
        .map_or(0, |length| usize::from(*length).min(15));
    (
        error.suberror,
        bytes.into_iter().skip(1).take(length).collect(),
    )
}

/// An event descriptor as the standard library borrows descriptors.
#[must_use]
pub fn borrow_event(event: &EventFd) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is open for as long as `event` lives, which the result's lifetime is bound to.
    unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) }
}

#[cfg(test)]
mod tests {
    use bootloader_api::BootInfo;
    use bootloader_api::info::{MemoryRegion, MemoryRegionKind};

    use crate::boot_info::{BootData, Region, RegionKind};

    #[test]
    fn boot_information_reads_back_as_the_kernel_reads_it() {
        let usable = Region {
            start: 0x1000,
            end: 0x20_0000,
            kind: RegionKind::Usable,
        };
        let used = Region {
            start: 0x20_0000,
            end: 0x30_0000,
            kind: RegionKind::Bootloader,
        };
        let data = BootData {
            regions: vec![usable, used],
            physical_memory_offset: 0xffff_8880_0000_0000,
            ramdisk: (0xffff_8880_e000_0000, 4711),
            kernel: (0x20_0000, 0x8000),
            kernel_image_offset: 0xffff_ffff_8020_0000,
        };
        // Words, so that the structure is aligned; the bytes must be made for where they lie.
        let mut words = vec![0u64; BootData::size(2) / 8];
        let bytes = data.bytes(words.as_ptr().addr() as u64);
        assert_eq!(bytes.len(), words.len() * 8);
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_ne_bytes(bytes.try_into().expect("eight"));
        }
        // SAFETY: `words` is aligned, initialised and lives to the end; that its bytes are a valid
        // `BootInfo`, whose memory map points behind it into `words`, is what this test is for.
        let info = unsafe { &*words.as_ptr().cast::<BootInfo>() };
        let expected = [
            MemoryRegion {
                start: 0x1000,
                end: 0x20_0000,
                kind: MemoryRegionKind::Usable,
            },
            MemoryRegion {
                start: 0x20_0000,
                end: 0x30_0000,
                kind: MemoryRegionKind::Bootloader,
            },
        ];
        assert_eq!(info.memory_regions[..], expected);
        let offset = info.physical_memory_offset.into_option();
        assert_eq!(offset, Some(0xffff_8880_0000_0000));
        assert_eq!(info.ramdisk_addr.into_option(), Some(0xffff_8880_e000_0000));
        assert_eq!(
            (info.ramdisk_len, info.kernel_addr, info.kernel_len),
            (4711, 0x20_0000, 0x8000)
        );
        assert_eq!(info.kernel_image_offset, 0xffff_ffff_8020_0000);
        assert!(info.rsdp_addr.into_option().is_none() && info.framebuffer.as_ref().is_none());
        assert!(info.tls_template.into_option().is_none());
        let fresh = BootInfo::new((&mut [] as &'static mut [MemoryRegion]).into());
        assert_eq!(info.api_version, fresh.api_version);
    }
}
