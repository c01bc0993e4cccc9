//! What the processes of a microVM give up before its guest runs, on either machine.
//!
//! [`run`] is such a process from its first instruction: alone with its descriptors, in a namespace of processes of its
//! own. What it starts is a [`gofer`] that opens [`files`] for it, and on the QEMU machine QEMU
//! ([`confine::seclude_program`]); then it leaves the host ([`confine::seclude`]), and its threads get their filters
//! ([`seccomp`]). Nothing here knows what a machine is made of.

#![deny(unsafe_code)]

pub mod confine;
mod error;
pub mod files;
pub mod gofer;
pub mod net;
pub mod seccomp;
#[expect(unsafe_code, reason = "the one place for it; see the module")]
mod sys;

use std::process::ExitCode;

pub use error::JailError;

/// Runs a machine's process, whose `machine` is told what came of confining it; with the word [`gofer::WORD`] as its
/// argument it serves files to one.
#[must_use]
pub fn run(machine: impl FnOnce(Result<(), JailError>) -> ExitCode) -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == gofer::WORD) {
        return gofer::run();
    }
    match confine::begin().and_then(|()| confine::own_processes()) {
        Ok(Some(code)) => code,
        Ok(None) => machine(Ok(())),
        Err(error) => machine(Err(error)),
    }
}
