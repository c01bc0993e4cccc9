//! Classic BPF (Linux's `Documentation/networking/filter.rst`): programs that users give the kernel, for system calls
//! (seccomp(2)) and for packets (`SO_ATTACH_FILTER`).
//!
//! [`Program::new`] checks the [`Instruction`]s for the [`Use`] they are for, and translates them to dense steps;
//! [`Program::run`] computes a verdict from a [`Source`] of words. Jumps only lead forward, so a run takes at most as many
//! steps as the program has: [`MOST_INSTRUCTIONS`] bound it. Nothing here locks, or knows what a verdict means.
#![cfg_attr(target_os = "none", no_std)]
#![forbid(unsafe_code)]

mod check;
mod instruction;
mod program;
mod run;

pub use check::{MOST_INSTRUCTIONS, Use};
pub use instruction::{Instruction, code};
pub use program::Program;
pub use run::{Packet, Source};
