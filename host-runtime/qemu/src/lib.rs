//! The QEMU machine: what runs inside the `nacre-qemu` process of one microVM.
//!
//! To its owner it is the KVM machine's process with another name: it speaks the same control protocol. It starts
//! a `qemu-system-x86_64` ([`process`], [`command`]) that emulates the CPUs, the console and the random
//! generator, tells it when to stop and run on ([`monitor`]), and serves the guest's files and sockets itself, with
//! the devices of the KVM machine, as vhost-user back ends ([`backend`]). Between the two processes are descriptors
//! only; QEMU dies with this process, and this one with its owner.

#![deny(unsafe_code)]

pub mod backend;
pub mod command;
pub mod door;
pub mod error;
pub mod machine;
pub mod monitor;
pub mod process;
#[expect(unsafe_code, reason = "the one place for it; see the module")]
pub mod sys;

use std::process::ExitCode;

use host_machine::far_end::{self, Start};

use error::QemuError;

/// Runs one microVM over the control channel on standard input, or its gofer, or its QEMU.
#[must_use]
pub fn run() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == process::WORD) {
        return process::become_qemu(words);
    }
    jail::run(|confined| {
        let confined = confined.map_err(QemuError::from);
        far_end::serve(confined, |control, reporter, started| {
            let start = Start::receive(&control).map_err(|what| QemuError::Start { what })?;
            machine::start(start, control, reporter)?.run(started)
        })
    })
}
