//! Boot: entry from the VMM or by PVH, and what was learnt on the way.

use alloc::string::String;

/// What the boot path hands to the kernel binary.
#[derive(Debug)]
pub struct BootConfig {
    /// The command line, as given.
    pub command_line: String,
    /// The initramfs archive, where the host put it; empty when there is none.
    pub archive: &'static [u8],
}

// `machine::entry!(main)` names the `fn(BootConfig) -> !` that runs on the boot CPU once the
// heap, frames, traps and timers work. `boot::start_other_cpus(f)` runs `f` (an idle loop) on
// each other CPU.

/// Starts the other CPUs; each runs `main` once it is set up and never returns from it.
pub fn start_other_cpus(main: fn() -> !) {
    let _ = main;
    todo!()
}
