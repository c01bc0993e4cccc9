//! What the guest's CPUID says: what KVM supports, less what the start-up probe found missing, plus
//! this machine's topology.

use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};
use kvm_ioctls::Kvm;

use super::error::VmmError;
use super::probe::{self, Feature};

/// The features of one host, from which each CPU's leaves are made.
#[derive(Debug, Clone)]
pub struct CpuidTemplate {
    entries: Vec<kvm_cpuid_entry2>,
    /// Advertised, but found missing by the probe.
    pub missing: Vec<&'static str>,
    /// Whether user programs see processor state that the guest kernel cannot switch.
    pub hides_xsave: bool,
}

impl CpuidTemplate {
    /// Asks KVM, and on a host that looks as if it emulated, tries what it says.
    ///
    /// # Errors
    /// When KVM does not answer.
    pub fn of_host(kvm: &Kvm) -> Result<Self, VmmError> {
        let failed = |source| VmmError::Kvm {
            what: "list its CPU features",
            source,
        };
        let supported = kvm.get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES);
        let mut entries = supported.map_err(failed)?.as_slice().to_vec();
        let hides_xsave = probe::host_has_xsave() && !probe::XSAVE.is_in(&entries);
        let missing = if hides_xsave {
            probe::missing(kvm, &entries)
        } else {
            Vec::new()
        };
        for feature in &missing {
            feature.clear(&mut entries);
        }
        entries.retain(|entry| !matches!(entry.function, 0xb | 0x1f));
        let missing = missing.iter().map(Feature::name).collect();
        Ok(Self {
            entries,
            missing,
            hides_xsave,
        })
    }

    /// What the guest's kernel may use, as masks of CPUID leaf 1 ECX and EDX, leaf 7 EBX and ECX, and leaf
    /// `0x8000_0001` EDX. `None` where CPUID itself tells the guest: a KVM that emulates kernel code shows
    /// the guest more of the processor than was set.
    #[must_use]
    pub fn features(&self) -> Option<[u32; 5]> {
        let leaf = |function| {
            let mut all = self.entries.iter();
            all.find(|entry| entry.function == function && entry.index == 0)
                .copied()
                .unwrap_or_default()
        };
        let (first, seventh, extended) = (leaf(1), leaf(7), leaf(0x8000_0001));
        self.hides_xsave
            .then_some([first.ecx, first.edx, seventh.ebx, seventh.ecx, extended.edx])
    }

    /// The leaves of one CPU out of `cpus`.
    ///
    /// # Errors
    /// When KVM's list is full, which it is not.
    pub fn for_cpu(&self, cpu: u32, cpus: u32) -> Result<CpuId, VmmError> {
        let mut entries = self.entries.clone();
        let shift = cpus.next_power_of_two().trailing_zeros();
        for entry in &mut entries {
            match entry.function {
                0 => entry.eax = entry.eax.max(0xb),
                1 => {
                    entry.ebx = (entry.ebx & 0xffff) | (cpus << 16) | (cpu << 24);
                    set(&mut entry.edx, 28, cpus > 1);
                }
                // Cores a package (bits 26 on) and threads a cache (bits 14 on), each less one.
                4 if entry.eax & 0x1f != 0 => {
                    entry.eax = (entry.eax & 0x3fff) | ((1 << shift) - 1) << 26;
                }
                0x8000_0008 => entry.ecx = (shift << 12) | (cpus - 1),
                _ => {}
            }
        }
        // One thread a core, `cpus` cores a package.
        entries.push(topology(0, 0, 1, 1, cpu));
        entries.push(topology(1, shift, cpus, 2, cpu));
        CpuId::from_entries(&entries).map_err(|_| VmmError::Kvm {
            what: "take so many CPUID leaves",
            source: kvm_ioctls::Error::new(libc::E2BIG),
        })
    }
}

/// A sub-leaf of the extended topology: the shift to the next level, its CPUs, its kind.
fn topology(index: u32, shift: u32, cpus: u32, kind: u32, cpu: u32) -> kvm_cpuid_entry2 {
    kvm_cpuid_entry2 {
        function: 0xb,
        index,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax: shift,
        ebx: cpus,
        ecx: (kind << 8) | index,
        edx: cpu,
        ..kvm_cpuid_entry2::default()
    }
}

fn set(register: &mut u32, bit: u32, on: bool) {
    *register = (*register & !(1 << bit)) | (u32::from(on) << bit);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(function: u32) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 {
            function,
            ..kvm_cpuid_entry2::default()
        }
    }

    #[test]
    fn each_cpu_has_its_own_apic_id() {
        let template = CpuidTemplate {
            entries: vec![leaf(0), leaf(1), leaf(0x8000_0008)],
            missing: Vec::new(),
            hides_xsave: false,
        };
        let cpuid = template.for_cpu(2, 3).expect("few leaves");
        let find = |function, index| {
            let mut all = cpuid.as_slice().iter();
            *all.find(|e| e.function == function && e.index == index)
                .expect("there")
        };
        assert_eq!(find(1, 0).ebx >> 16, 2 << 8 | 3);
        assert_ne!(find(1, 0).edx & 1 << 28, 0);
        let cores = find(0xb, 1);
        assert_eq!(
            (cores.eax, cores.ebx, cores.ecx >> 8, cores.edx),
            (2, 3, 2, 2)
        );
        assert_eq!(find(0, 0).eax, 0xb);
    }
}
