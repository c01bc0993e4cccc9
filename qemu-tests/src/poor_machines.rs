//! Machines that the kernel cannot run on: each must say what is missing, in one line on the console, rather than
//! stand still. A loader that puts the image where there is no RAM, and a machine without a clock to measure by,
//! are met before the console driver and before PID 1; the early log is what is tested here.

use std::path::Path;
use std::time::Duration;

use crate::Report;
use crate::qemu::{Boot, Configuration, Machine};

/// A machine, what QEMU is told beside it, and what the kernel must say of it.
struct Poor {
    name: &'static str,
    machine: Machine,
    arguments: &'static [&'static str],
    /// Its memory beside the kernel and the archive, in KiB, if it is made to measure.
    beside_image: Option<u64>,
    says: &'static str,
}

const MACHINES: [Poor; 4] = [
    Poor {
        name: "q35 with 4 MiB",
        machine: Machine::Q35,
        arguments: &["-m", "4"],
        beside_image: None,
        says: "give the machine more",
    },
    Poor {
        name: "microvm with 4 MiB",
        machine: Machine::Microvm,
        arguments: &["-m", "4"],
        beside_image: None,
        says: "give the machine more",
    },
    Poor {
        name: "microvm with hardly more than the image",
        machine: Machine::Microvm,
        arguments: &[],
        beside_image: Some(2346),
        says: "of memory beside the kernel: give it more",
    },
    Poor {
        name: "microvm without a clock",
        machine: Machine::Microvm,
        arguments: &["-machine", "pit=off"],
        beside_image: None,
        says: "the command line has no nacre.tsc_khz=KHZ",
    },
];

/// Boots each machine until it says its sentence.
///
/// # Errors
/// When QEMU cannot be started.
pub fn run(kernel: &Path, initramfs: &Path) -> anyhow::Result<Report> {
    let mut report = Report::default();
    for poor in &MACHINES {
        let result = boot(poor, kernel, initramfs)?;
        report.note(format!("poor machines: {}", poor.name), result);
    }
    Ok(report)
}

fn boot(poor: &Poor, kernel: &Path, initramfs: &Path) -> anyhow::Result<Result<(), String>> {
    let memory = match poor.beside_image {
        None => Vec::new(),
        Some(beside) => {
            let image = kernel.metadata()?.len() + initramfs.metadata()?.len();
            let size = image.div_ceil(1024) + beside;
            // Whole pages.
            vec!["-m".to_owned(), format!("{}k", size.next_multiple_of(4))]
        }
    };
    let boot = Boot {
        configuration: Configuration {
            machine: poor.machine,
            cpus: 1,
        },
        kernel: kernel.to_owned(),
        initramfs: initramfs.to_owned(),
        command_line: "console=ttyS0".to_owned(),
        counts_instructions: false,
        extra_arguments: poor
            .arguments
            .iter()
            .map(|word| (*word).to_owned())
            .chain(memory)
            .collect(),
        silence_limit: Duration::from_secs(60),
        limit: Duration::from_secs(60),
    };
    let mut log = String::new();
    let mut is_said = false;
    let end = boot.run(|line| {
        is_said |= line.contains(poor.says);
        log.push_str(line);
        !is_said
    })?;
    Ok(if is_said {
        Ok(())
    } else {
        Err(format!("{end:?} without \"{}\":\n{log}", poor.says))
    })
}
