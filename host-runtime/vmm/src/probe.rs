//! Tries the instructions that KVM says it supports, in a throw-away machine.
//!
//! A KVM without VMX or SVM emulates guest kernel code and lists features its emulator lacks. It is
//! recognised by not offering XSAVE although the processor has it; elsewhere nothing is tried and
//! the start costs nothing. Each probed instruction runs once, followed by HLT: anything but the halt
//! means that a guest kernel must not use it.

use std::sync::Arc;

use kvm_bindings::kvm_cpuid_entry2;
use kvm_ioctls::{Kvm, VcpuExit};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::page_tables::{Access, PageTables};
use super::vcpu;
use crate::sys::Vm;

/// A CPUID register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Register {
    Ebx,
    Ecx,
    Edx,
}

/// One feature bit, and an instruction that needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    name: &'static str,
    leaf: u32,
    register: Register,
    bit: u32,
    /// Machine code; RSI points to 16 aligned bytes.
    code: &'static [u8],
}

/// Extended processor state.
pub const XSAVE: Feature = Feature {
    name: "XSAVE",
    leaf: 1,
    register: Register::Ecx,
    bit: 26,
    code: &[],
};

/// What a guest kernel might use because CPUID says so.
const PROBED: [Feature; 6] = [
    Feature {
        name: "CMPXCHG16B",
        leaf: 1,
        register: Register::Ecx,
        bit: 13,
        code: &[0x48, 0x0f, 0xc7, 0x0e],
    },
    Feature {
        name: "MOVBE",
        leaf: 1,
        register: Register::Ecx,
        bit: 22,
        code: &[0x0f, 0x38, 0xf0, 0x06],
    },
    Feature {
        name: "POPCNT",
        leaf: 1,
        register: Register::Ecx,
        bit: 23,
        code: &[0xf3, 0x0f, 0xb8, 0xc0],
    },
    Feature {
        name: "RDRAND",
        leaf: 1,
        register: Register::Ecx,
        bit: 30,
        code: &[0x0f, 0xc7, 0xf0],
    },
    Feature {
        name: "RDSEED",
        leaf: 7,
        register: Register::Ebx,
        bit: 18,
        code: &[0x0f, 0xc7, 0xf8],
    },
    Feature {
        name: "RDTSCP",
        leaf: 0x8000_0001,
        register: Register::Edx,
        bit: 27,
        code: &[0x0f, 0x01, 0xf9],
    },
];

const CODE: u64 = 0x20_0000;
const DATA: u64 = 0x20_0800;
const TABLES: u64 = 0x1000;

impl Feature {
    /// The instruction's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether these leaves offer it.
    #[must_use]
    pub fn is_in(&self, entries: &[kvm_cpuid_entry2]) -> bool {
        let mut leaves = entries.iter().filter(|entry| self.is_leaf(entry));
        leaves.any(|entry| self.value(entry) & (1 << self.bit) != 0)
    }

    /// Takes it out of these leaves.
    pub fn clear(&self, entries: &mut [kvm_cpuid_entry2]) {
        for entry in entries.iter_mut().filter(|entry| self.is_leaf(entry)) {
            let register = match self.register {
                Register::Ebx => &mut entry.ebx,
                Register::Ecx => &mut entry.ecx,
                Register::Edx => &mut entry.edx,
            };
            *register &= !(1 << self.bit);
        }
    }

    fn is_leaf(&self, entry: &kvm_cpuid_entry2) -> bool {
        entry.function == self.leaf && entry.index == 0
    }

    fn value(&self, entry: &kvm_cpuid_entry2) -> u32 {
        match self.register {
            Register::Ebx => entry.ebx,
            Register::Ecx => entry.ecx,
            Register::Edx => entry.edx,
        }
    }
}

/// Whether the processor under us has XSAVE.
#[must_use]
pub fn host_has_xsave() -> bool {
    std::arch::is_x86_feature_detected!("xsave")
}

/// The features that are offered and do not work.
#[must_use]
pub fn missing(kvm: &Kvm, entries: &[kvm_cpuid_entry2]) -> Vec<Feature> {
    let offered = PROBED.into_iter().filter(|feature| feature.is_in(entries));
    offered
        .filter(|feature| !works(kvm, feature.code).unwrap_or(false))
        .collect()
}

/// Runs a few bytes of kernel-mode code and says whether they ended in the HLT put behind them.
fn works(kvm: &Kvm, code: &[u8]) -> Result<bool, kvm_ioctls::Error> {
    let no_memory = || kvm_ioctls::Error::new(libc::ENOMEM);
    let ranges = [(GuestAddress(0), 4 << 20)];
    let memory = Arc::new(GuestMemoryMmap::<()>::from_ranges(&ranges).map_err(|_| no_memory())?);
    let mut tables = PageTables::new(TABLES);
    tables.map(CODE, CODE, 2 << 20, Access::Image);
    for (page, at) in tables.bytes().zip((TABLES..).step_by(4096)) {
        memory
            .write_slice(&page, GuestAddress(at))
            .map_err(|_| no_memory())?;
    }
    let code = [code, &[0xf4]].concat();
    memory
        .write_slice(&code, GuestAddress(CODE))
        .map_err(|_| no_memory())?;
    let vm = Vm::new(kvm.create_vm()?, memory, u64::MAX)?;
    let mut cpu = vm.fd().create_vcpu(0)?;
    cpu.set_cpuid2(&kvm.get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES)?)?;
    vcpu::set_long_mode(&cpu, TABLES)?;
    cpu.set_regs(&kvm_bindings::kvm_regs {
        rip: CODE,
        rsi: DATA,
        rflags: 2,
        ..kvm_bindings::kvm_regs::default()
    })?;
    Ok(matches!(cpu.run()?, VcpuExit::Hlt))
}
