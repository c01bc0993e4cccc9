//! What a boot costs: under QEMU's `-icount shift=0` the time-stamp counter counts guest
//! instructions, and the kernel prints the difference between its entry and PID 1's first
//! instruction, and the memory that is in use then.
//!
//! A pod's memory is to be a limit, not a machine: the same boot with a map of 64 GiB may cost hardly more.

use std::path::Path;
use std::time::Duration;

use crate::Report;
use crate::archive;
use crate::qemu::{Boot, Configuration, Machine};

/// The most instructions from the kernel's entry to PID 1's first. A minimal Linux 6.1 takes
/// 91 million.
const LIMIT: u64 = 250_000;
/// What a large map may cost more: a tenth of the instructions, and 1 MiB.
const MORE_KIB: u64 = 1024;

const NAME: &str = "boot cost";

/// What the kernel prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cost {
    instructions: u64,
    kib: u64,
    /// What may be in use.
    total_kib: u64,
}

/// Boots the real image on a microvm with 256 MiB and counts; then with 64 GiB, on CPUs with and without pages of a GiB.
///
/// # Errors
/// When QEMU cannot be started.
pub fn run(kernel: &Path, initramfs: &Path) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let result = boot(kernel, initramfs, "256M", "max,-erms", "")?.and_then(|cost| {
        let count = cost.instructions;
        println!("boot: {count} instructions to PID 1, of at most {LIMIT}");
        if count <= LIMIT {
            Ok(())
        } else {
            Err(format!("{count} instructions, of at most {LIMIT}"))
        }
    });
    report.note(NAME, result);
    for (what, cpu) in [
        ("pages of a GiB", "max,-erms"),
        ("pages of 2 MiB", "max,-erms,-pdpe1gb"),
    ] {
        let small = boot(kernel, initramfs, "256M", cpu, "")?;
        let large = boot(kernel, initramfs, "64G", cpu, "")?;
        let result = small.and_then(|small| compare(small, large?));
        report.note(format!("{NAME}, 64 GiB with {what}"), result);
    }
    let cpio = initramfs.with_extension("cpio");
    archive::write_cpio(&archive::read_archive(initramfs)?, &cpio)?;
    let booted = boot(kernel, &cpio, "256M", "max,-erms", "");
    std::fs::remove_file(&cpio)?;
    report.note("boot from a cpio archive", booted?.map(drop));
    let limited = boot(kernel, initramfs, "64G", "max,-erms", "nacre.memory=100M")?;
    let result = limited.and_then(|cost| match cost.total_kib {
        102_400 if cost.kib < 10_240 => Ok(()),
        _ => Err(format!("{cost:?}, of a limit of 100 MiB")),
    });
    report.note(
        format!("{NAME}, 64 GiB of which 100 MiB may be used"),
        result,
    );
    Ok(report)
}

/// Whether a large map costs little more than a small one.
fn compare(small: Cost, large: Cost) -> Result<(), String> {
    println!("boot: 256 MiB: {small:?}; 64 GiB: {large:?}");
    let most = small.instructions + small.instructions / 10;
    if large.instructions <= most && large.kib <= small.kib + MORE_KIB {
        Ok(())
    } else {
        Err(format!("256 MiB: {small:?}; 64 GiB: {large:?}"))
    }
}

/// Boots and reads what it cost, or says why there is no answer.
fn boot(
    kernel: &Path,
    initramfs: &Path,
    memory: &str,
    cpu: &str,
    words: &str,
) -> anyhow::Result<Result<Cost, String>> {
    // More than the host has: it is never touched.
    let object = format!("memory-backend-ram,id=memory,size={memory},reserve=off");
    let arguments = ["-cpu", cpu, "-m", memory, "-object", &object];
    let machine = ["-machine", "memory-backend=memory"];
    let boot = Boot {
        configuration: Configuration {
            machine: Machine::Microvm,
            cpus: 1,
        },
        kernel: kernel.to_owned(),
        initramfs: initramfs.to_owned(),
        // The TSC's frequency is known, as it is from our VMM: counting it with the PIT takes half a million.
        command_line: format!(
            "console=ttyS0 nacre.bootcost nacre.tsc_khz=1000000 nacre.zeroed {words}"
        ),
        counts_instructions: true,
        extra_arguments: arguments
            .into_iter()
            .chain(machine)
            .map(str::to_owned)
            .collect(),
        silence_limit: Duration::from_secs(60),
        limit: Duration::from_secs(60),
    };
    let mut log = Vec::new();
    let mut cost = None;
    boot.run(|line| {
        cost = read_cost(line);
        log.push(line.trim_end().to_owned());
        cost.is_none()
    })?;
    Ok(cost.ok_or_else(|| {
        let tail = log[log.len().saturating_sub(15)..].join("\n");
        format!("the kernel did not print its cost:\n{tail}")
    }))
}

/// The numbers in `boot: N instructions to PID 1, M KiB in use of T`.
fn read_cost(line: &str) -> Option<Cost> {
    let (_, rest) = line.split_once("boot: ")?;
    let (instructions, rest) = rest.split_once(" instructions to PID 1, ")?;
    let (kib, total) = rest.split_once(" KiB in use of ")?;
    Some(Cost {
        instructions: instructions.trim().parse().ok()?,
        kib: kib.trim().parse().ok()?,
        total_kib: total.trim().parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::{Cost, compare, read_cost};

    const SMALL: Cost = Cost {
        instructions: 100,
        kib: 10,
        total_kib: 20,
    };

    #[test]
    fn finds_the_count() {
        assert_eq!(
            read_cost("[0.1] boot: 100 instructions to PID 1, 10 KiB in use of 20\r\n"),
            Some(SMALL)
        );
        assert_eq!(read_cost("boot: many instructions to PID 1, 10 KiB"), None);
        assert_eq!(read_cost("boot: 12"), None);
    }

    #[test]
    fn a_large_map_may_cost_a_little_more() {
        let large = |instructions, kib| Cost {
            instructions,
            kib,
            total_kib: 9999,
        };
        assert_eq!(compare(SMALL, large(110, 1034)), Ok(()));
        assert!(compare(SMALL, large(111, 10)).is_err());
        assert!(compare(SMALL, large(100, 1035)).is_err());
    }
}
