//! The I/O ports of the machine: a transmit-only serial port, boot phase marks, and the ways to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use devices::console::ConsoleLog;
use host_machine::far_end::Reporter;
use host_machine::{ExitReason, Phase};

const COM1: u16 = 0x3f8;
const PHASE_MARK: u16 = 0x80;
const PVPANIC: u16 = 0x505;
const ACPI_SLEEP: u16 = 0x604;
const KEYBOARD_COMMAND: u16 = 0x64;

/// Sleep enable with sleep type 5's encoding, as QEMU has it.
const POWER_OFF: u16 = 0x2000;
const RESET: u8 = 0xfe;
/// Line-control bit that turns the data register into the divisor's.
const DIVISOR_LATCH: u8 = 0x80;
/// Line status: the transmitter is empty and idle.
const TRANSMIT_EMPTY: u8 = 0x60;

/// What the ports reach.
#[derive(Debug)]
pub struct Ports {
    log: Arc<ConsoleLog>,
    reporter: Arc<Reporter>,
    line_control: AtomicU8,
}

impl Ports {
    /// Ports that write to this log and report phases here.
    #[must_use]
    pub fn new(log: Arc<ConsoleLog>, reporter: Arc<Reporter>) -> Self {
        Self {
            log,
            reporter,
            line_control: AtomicU8::new(0),
        }
    }

    /// Adds a line of the VMM's own to the console log.
    pub fn note(&self, text: &str) {
        self.log.write(format!("nacre-vmm: {text}\n").as_bytes());
    }

    /// Whether the guest's kernel has said that it runs.
    #[must_use]
    pub fn kernel_has_run(&self) -> bool {
        self.reporter.has_reported(Phase::KernelEntry)
    }

    /// Handles a write; some writes end the machine.
    pub fn write(&self, port: u16, data: &[u8]) -> Option<ExitReason> {
        let first = *data.first()?;
        match port {
            COM1 => self.transmit(data),
            0x3fb => self.line_control.store(first, Ordering::Relaxed),
            PHASE_MARK => {
                if let Some(phase) = Phase::from_mark(first) {
                    self.reporter.phase(phase);
                }
            }
            PVPANIC if first & 1 != 0 => {
                return Some(ExitReason::GuestPanic {
                    message: self.log.panic_message(),
                });
            }
            ACPI_SLEEP if data == POWER_OFF.to_le_bytes() => return Some(ExitReason::PowerOff),
            KEYBOARD_COMMAND if first == RESET => return Some(ExitReason::Reset),
            _ => {}
        }
        None
    }

    /// Handles a read; what is not there reads as ones, as on an empty bus.
    pub fn read(&self, port: u16, data: &mut [u8]) {
        data.fill(0xff);
        let Some(first) = data.first_mut() else {
            return;
        };
        match port {
            0x3f9 | 0x3fa | 0x3fc | 0x3fe => *first = 0,
            0x3fb => *first = self.line_control.load(Ordering::Relaxed),
            0x3fd => *first = TRANSMIT_EMPTY,
            // Offers the panicked event.
            PVPANIC => *first = 1,
            KEYBOARD_COMMAND => *first = 0,
            _ => {}
        }
    }

    fn transmit(&self, data: &[u8]) {
        let line_control = self.line_control.load(Ordering::Relaxed);
        if line_control & DIVISOR_LATCH == 0 {
            self.log.write(data);
        }
    }
}
