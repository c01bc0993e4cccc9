//! What happens between the machine's start and PID 1.

use machine::boot::BootConfig;
use machine::{log, power};

machine::entry!(main);

fn main(config: BootConfig) -> ! {
    log!(
        "nacre: {} bytes of archive, command line: {}",
        config.archive.len(),
        config.command_line
    );
    power::power_off()
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    log!("kernel panic on CPU {}: {info}", machine::cpu::current());
    power::panicked()
}
