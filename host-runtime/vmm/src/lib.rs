//! The VMM: what runs inside the `nacre-vmm` process of one microVM.
//!
//! [`run`] takes the start request from the control channel, has [`machine`] build everything, starts a
//! thread a CPU and one for the file system, and stays in [`event_loop`] until the guest or the parent
//! ends. The files of the shared directory are opened by a child, the [gofer](jail::gofer). Nothing here trusts the guest;
//! nothing outlives the process.

#![deny(unsafe_code)]

pub mod boot_info;
pub mod cmdline;
pub mod cpuid;
pub mod elf;
pub mod error;
pub mod event_loop;
pub mod layout;
pub mod load;
pub mod machine;
pub mod memory;
pub mod page_tables;
pub mod pause;
pub mod ports;
pub mod probe;
#[expect(unsafe_code, reason = "the one place for it; see the module")]
pub mod sys;
pub mod vcpu;

use std::process::ExitCode;

use host_machine::far_end::{self, Start};

use error::VmmError;

/// Runs one microVM over the control channel on standard input, or the gofer of one.
#[must_use]
pub fn run() -> ExitCode {
    jail::run(|confined| {
        let confined = confined.map_err(VmmError::from);
        far_end::serve(confined, |control, reporter, started| {
            let start = Start::receive(&control).map_err(|what| VmmError::Start { what })?;
            machine::build(start, control, reporter)?.run(started)
        })
    })
}
