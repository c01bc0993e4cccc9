//! Tests that boot the kernel.
//!
//! What the kernel must do is defined by small programs (`programs/`, C, one topic each). Each
//! first runs on the host's Linux in a sandbox (`host`), and what it prints there is what it must
//! print in the guest (`suite`), on every machine of [`qemu::CONFIGURATIONS`]. `boot_cost` counts
//! the instructions of a boot, `gaps` those for which a call keeps its CPU; `poor_machines` boots where the kernel
//! cannot run. `kvm` runs real work through `nacre run` and compares it with a chroot on the host; `containerd` compares the shim with runc under real containerd. `cargo
//! xtask qemu-test` and `cargo xtask test` call their `run` functions.
#![forbid(unsafe_code)]

pub mod archive;
pub mod bench;
pub mod boot_cost;
pub mod containerd;
pub mod diff;
pub mod gaps;
pub mod host;
mod idle;
pub mod kvm;
pub mod poor_machines;
pub mod programs;
pub mod qemu;
pub mod report;
pub mod stress;
pub mod suite;
pub mod transcript;

pub use report::Report;
