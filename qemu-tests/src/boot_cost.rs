//! What a boot costs: under QEMU's `-icount shift=0` the time-stamp counter counts guest
//! instructions, and the kernel prints the difference between its entry and PID 1's first
//! instruction.

use std::path::Path;
use std::time::Duration;

use crate::Report;
use crate::qemu::{Boot, Configuration, Machine};

/// The most instructions from the kernel's entry to PID 1's first. A minimal Linux 6.1 takes
/// 91 million.
const LIMIT: u64 = 250_000;

const NAME: &str = "boot cost";

/// Boots the real image on a microvm with 256 MiB and counts.
///
/// # Errors
/// When QEMU cannot be started.
pub fn run(kernel: &Path, initramfs: &Path) -> anyhow::Result<Report> {
    let boot = Boot {
        configuration: Configuration {
            machine: Machine::Microvm,
            cpus: 1,
        },
        kernel: kernel.to_owned(),
        initramfs: initramfs.to_owned(),
        // The TSC's frequency is known, as it is from our VMM: counting it with the PIT takes half a million.
        command_line: "console=ttyS0 nacre.bootcost nacre.tsc_khz=1000000 nacre.zeroed".to_owned(),
        counts_instructions: true,
        extra_arguments: ["-cpu", "max,-erms"].map(str::to_owned).to_vec(),
        silence_limit: Duration::from_secs(60),
        limit: Duration::from_secs(60),
    };
    let mut log = Vec::new();
    let mut count = None;
    boot.run(|line| {
        count = instructions(line);
        log.push(line.trim_end().to_owned());
        count.is_none()
    })?;
    let mut report = Report::default();
    match count {
        Some(count) if count <= LIMIT => {
            println!("boot: {count} instructions to PID 1, of at most {LIMIT}");
            report.pass(NAME);
        }
        Some(count) => report.fail(NAME, &format!("{count} instructions, of at most {LIMIT}")),
        None => {
            let tail = log[log.len().saturating_sub(15)..].join("\n");
            report.fail(
                NAME,
                &format!("the kernel did not print its count:\n{tail}"),
            );
        }
    }
    Ok(report)
}

/// The number in `boot: N instructions to PID 1`.
fn instructions(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once("boot: ")?;
    let (number, _) = rest.split_once(" instructions to PID 1")?;
    number.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::instructions;

    #[test]
    fn finds_the_count() {
        assert_eq!(
            instructions("[0.1] boot: 123 instructions to PID 1\r\n"),
            Some(123)
        );
        assert_eq!(instructions("boot: many instructions to PID 1"), None);
        assert_eq!(instructions("boot: 12"), None);
    }
}
