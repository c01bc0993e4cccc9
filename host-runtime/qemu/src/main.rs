//! The process of one microVM that runs on QEMU; started by the pod that owns it, never by hand.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    nacre_qemu::run()
}
