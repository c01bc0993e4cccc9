//! The host runtime's only unsafe code: what the crates it builds on leave to their caller.
//!
//! Each function is safe to call; the comment above each unsafe block says who keeps its promise.

use std::os::fd::{AsRawFd, BorrowedFd};

use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::{VcpuFd, VmFd};
use vm_memory::{GuestMemory, GuestMemoryRegion};
use vmm_sys_util::eventfd::EventFd;

use crate::vmm::memory::Memory;

/// A virtual machine together with the memory it runs in, so that neither outlives the other.
#[derive(Debug)]
pub struct Machine {
    // Dropped in this order: the machine before its memory.
    vm: VmFd,
    _memory: std::sync::Arc<Memory>,
}

impl Machine {
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
            // SAFETY: the slot names exactly one mapping of `memory`, which the `Machine` owns and drops
            // after the VM; nothing else is mapped there, and Rust code reaches those bytes through
            // vm-memory's volatile accesses only, never as references.
            unsafe { vm.set_user_memory_region(slot) }?;
        }
        Ok(Self {
            vm,
            _memory: memory,
        })
    }

    /// The KVM machine.
    #[must_use]
    pub fn vm(&self) -> &VmFd {
        &self.vm
    }
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
