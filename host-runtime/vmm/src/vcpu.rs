//! One virtual CPU: its registers at entry, and the loop that runs it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};
use kvm_ioctls::{VcpuExit, VcpuFd};

use devices::mmio::MmioBus;

use super::load::Entry;
use super::memory::SharedMemory;
use super::pause::Gate;
use super::ports::Ports;
use crate::sys;
use host_machine::ExitReason;

const CR0_PE: u64 = 1;
const CR0_MP: u64 = 1 << 1;
const CR0_ET: u64 = 1 << 4;
const CR0_NE: u64 = 1 << 5;
const CR0_WP: u64 = 1 << 16;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
const EFER_NXE: u64 = 1 << 11;

/// A CPU and what its exits reach.
#[derive(Debug)]
pub struct Vcpu {
    /// Its number, which is its APIC id.
    pub index: u32,
    /// KVM's side.
    pub fd: VcpuFd,
    /// I/O ports.
    pub ports: Arc<Ports>,
    /// Passed before each entry to the guest.
    pub gate: Arc<Gate>,
    /// How often it came out of the guest.
    pub exits: Arc<AtomicU64>,
    /// Device registers in memory.
    pub mmio: Arc<MmioBus<SharedMemory>>,
}

impl Vcpu {
    /// Runs until the machine ends and says how.
    pub fn run(&mut self) -> ExitReason {
        loop {
            self.gate.pass();
            let exit = self.fd.run();
            self.exits.fetch_add(1, Ordering::Relaxed);
            match exit {
                Ok(VcpuExit::IoOut(port, data)) => {
                    if let Some(reason) = self.ports.write(port, data) {
                        return reason;
                    }
                }
                Ok(VcpuExit::IoIn(port, data)) => self.ports.read(port, data),
                Ok(VcpuExit::MmioRead(address, data)) => self.mmio.read(address, data),
                Ok(VcpuExit::MmioWrite(address, data)) => self.mmio.write(address, data),
                Ok(VcpuExit::Shutdown) => {
                    self.log_registers();
                    let rip = self.fd.get_regs().ok().map(|regs| regs.rip);
                    return ExitReason::TripleFault {
                        cpu: self.index,
                        rip,
                    };
                }
                // The halt is KVM's with the in-kernel APIC; an interrupted run is run again.
                Ok(VcpuExit::Hlt | VcpuExit::Intr | VcpuExit::IrqWindowOpen) => {}
                Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {}
                Ok(VcpuExit::InternalError) => return self.internal_error(),
                Ok(other) => {
                    let what = format!("it stopped with {other:?}");
                    return self.unable(what);
                }
                Err(error) => {
                    let what = format!("KVM_RUN failed: {error}");
                    return self.unable(what);
                }
            }
        }
    }

    /// Writes the registers to the console log, for whoever repairs the guest kernel.
    fn log_registers(&self) {
        let (Ok(regs), Ok(sregs)) = (self.fd.get_regs(), self.fd.get_sregs()) else {
            return;
        };
        let values = [
            ("rip", regs.rip),
            ("rsp", regs.rsp),
            ("rflags", regs.rflags),
            ("rax", regs.rax),
            ("rbx", regs.rbx),
            ("rcx", regs.rcx),
            ("rdx", regs.rdx),
            ("rsi", regs.rsi),
            ("rdi", regs.rdi),
            ("rbp", regs.rbp),
            ("r8", regs.r8),
            ("r9", regs.r9),
            ("r10", regs.r10),
            ("r11", regs.r11),
            ("r12", regs.r12),
            ("r13", regs.r13),
            ("r14", regs.r14),
            ("r15", regs.r15),
            ("cs", sregs.cs.selector.into()),
            ("cr2", sregs.cr2),
            ("cr3", sregs.cr3),
            ("cr4", sregs.cr4),
            ("gs", sregs.gs.base),
        ];
        let text: Vec<String> = values
            .iter()
            .map(|(name, value)| format!("{name}={value:x}"))
            .collect();
        self.ports.note(&format!(
            "CPU {} stopped with {}",
            self.index,
            text.join(" ")
        ));
    }

    fn internal_error(&mut self) -> ExitReason {
        self.log_registers();
        let (kind, bytes) = sys::internal_error(&mut self.fd);
        let rip = self.fd.get_regs().map_or(0, |regs| regs.rip);
        let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let what = match kind {
            1 => format!(
                "its emulator does not know the instruction at {rip:#x} ({})",
                bytes.join(" ")
            ),
            kind => format!("internal error {kind} at {rip:#x}"),
        };
        self.unable(what)
    }

    /// KVM cannot go on. When the kernel had not even said that it runs, that is no matter of this kernel's.
    fn unable(&self, what: String) -> ExitReason {
        let cpu = self.index;
        match self.ports.kernel_has_run() {
            true => ExitReason::Kvm { cpu, what },
            false => ExitReason::KvmUnfit { what },
        }
    }
}

/// Gives the boot CPU its registers as the boot contract has them.
///
/// # Errors
/// What KVM said.
pub fn enter_at(vcpu: &VcpuFd, entry: &Entry) -> Result<(), kvm_ioctls::Error> {
    set_long_mode(vcpu, entry.page_tables)?;
    vcpu.set_regs(&kvm_regs {
        rip: entry.rip,
        rdi: entry.boot_info,
        rsi: entry.command_line,
        rdx: entry.command_line_length,
        rflags: 2,
        ..kvm_regs::default()
    })
}

/// Switches a CPU to 64-bit mode with these page tables and flat segments.
///
/// # Errors
/// What KVM said.
pub fn set_long_mode(vcpu: &VcpuFd, page_tables: u64) -> Result<(), kvm_ioctls::Error> {
    let mut sregs = vcpu.get_sregs()?;
    set_segments(&mut sregs);
    sregs.cr3 = page_tables;
    sregs.cr4 = CR4_PAE;
    sregs.cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
    sregs.efer = EFER_LME | EFER_LMA | EFER_NXE;
    vcpu.set_sregs(&sregs)
}

/// Linux's kernel selectors; the kernel loads its own descriptor table before it uses any.
fn set_segments(sregs: &mut kvm_sregs) {
    let flat = kvm_segment {
        limit: 0xffff_ffff,
        present: 1,
        s: 1,
        g: 1,
        ..kvm_segment::default()
    };
    let data = kvm_segment {
        selector: 0x18,
        type_: 3,
        db: 1,
        ..flat
    };
    sregs.cs = kvm_segment {
        selector: 0x10,
        type_: 11,
        l: 1,
        ..flat
    };
    (sregs.ds, sregs.es, sregs.ss, sregs.fs, sregs.gs) = (data, data, data, data, data);
    // A busy 64-bit TSS, which the processor wants to see.
    sregs.tr = kvm_segment {
        limit: 0x67,
        type_: 11,
        present: 1,
        ..kvm_segment::default()
    };
    sregs.ldt = kvm_segment {
        unusable: 1,
        ..kvm_segment::default()
    };
    (sregs.gdt.base, sregs.gdt.limit) = (0, 0);
    (sregs.idt.base, sregs.idt.limit) = (0, 0);
}
