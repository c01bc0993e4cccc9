//! The VMM process of one microVM; started by the pod that owns it, never by hand.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    nacre_vmm::run()
}
