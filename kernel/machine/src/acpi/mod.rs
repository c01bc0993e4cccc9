//! The few ACPI tables that are looked at: MADT for the CPUs, MCFG for PCI configuration space.

#[cfg(target_os = "none")]
mod bare;

#[cfg(target_os = "none")]
pub(crate) use bare::{madt_entries, set_rsdp, table};

/// There are no tables on the host.
#[cfg(not(target_os = "none"))]
#[allow(dead_code, reason = "used by virtio on PCI")]
pub(crate) fn table(signature: [u8; 4]) -> Option<&'static [u8]> {
    let _ = signature;
    None
}
