//! How long a call can keep its CPU: `gaps/long_calls.c` makes the calls whose length the caller sets, on one CPU and
//! under QEMU's `-icount`, where time is instructions; a thread that has to have the CPU each millisecond measures
//! how late it gets it. What is too late lacks a `sched::cond_resched()`.

use std::path::Path;
use std::time::Duration;

use crate::Report;
use crate::archive::{self, Item, Tree};
use crate::programs;
use crate::qemu::{Boot, Configuration, Machine};

/// The most instructions between two places where the CPU can be given away.
const LIMIT: u64 = 10_000_000;

/// Boots `kernel` and measures; everything that is built goes to `work_dir`. `family`: only the calls of this name.
///
/// # Errors
/// When gcc or QEMU cannot be started.
pub fn run(kernel: &Path, work_dir: &Path, family: Option<&str>) -> anyhow::Result<Report> {
    let source = programs::source_dir().join("gaps/long_calls.c");
    let init = programs::compile(&source, &work_dir.join("bin/long_calls"))?.file;
    let mut tree: Tree = ["dev", "tmp", "proc"]
        .map(|name| (name.to_owned(), Item::Directory))
        .to_vec();
    tree.push(("init".to_owned(), Item::File(std::fs::read(init)?, true)));
    let initramfs = work_dir.join("gaps.img");
    archive::write_archive(&tree, &initramfs)?;
    let only = family.map_or_else(String::new, |name| format!("NACRE_FAMILY={name}"));
    let boot = Boot {
        configuration: Configuration {
            machine: Machine::Microvm,
            cpus: 1,
        },
        kernel: kernel.to_owned(),
        initramfs,
        command_line: format!("console=ttyS0 quiet panic=-1 nacre.tsc_khz=1000000 {only}"),
        counts_instructions: false,
        // A byte of REP MOVSB is an instruction here; hardware that has ERMS moves many at once.
        extra_arguments: [
            "-cpu",
            "max,-erms",
            "-m",
            "512M",
            "-icount",
            "shift=0,sleep=off",
        ]
        .map(str::to_owned)
        .to_vec(),
        silence_limit: Duration::from_secs(120),
        limit: Duration::from_secs(300),
    };
    let mut report = Report::default();
    let mut log = Vec::new();
    let mut is_done = false;
    boot.run(|line| {
        let line = line.trim_end();
        log.push(line.to_owned());
        is_done |= line == "done";
        if let Some(result) = result_of(line) {
            let name = line.split_whitespace().nth(1).unwrap_or_default();
            report.note(format!("gaps/{}", name.trim_end_matches(':')), result);
        }
        true
    })?;
    if !is_done {
        let tail = log[log.len().saturating_sub(15)..].join("\n");
        report.fail(
            "gaps",
            &format!("the machine did not end by itself:\n{tail}"),
        );
    }
    Ok(report)
}

/// What a line of the program's says of a family, if it is about one.
fn result_of(line: &str) -> Option<Result<(), String>> {
    if line.starts_with("failed ") {
        return Some(Err(line.to_owned()));
    }
    let (_, rest) = line.strip_prefix("gap ")?.split_once(' ')?;
    let (gap, call) = rest.split_once(' ')?;
    let gap: u64 = gap.parse().ok()?;
    if gap <= LIMIT {
        return Some(Ok(()));
    }
    Some(Err(format!(
        "the CPU could not be given away for {gap} instructions, {LIMIT} are allowed: {call}"
    )))
}

#[cfg(test)]
mod tests {
    use super::result_of;

    #[test]
    fn long_gaps_and_calls_that_fail_are_failures() {
        assert_eq!(result_of("gap zero 9999999 read(0)"), Some(Ok(())));
        assert!(result_of("gap zero 10000001 read(0)").is_some_and(|result| result.is_err()));
        assert!(result_of("failed zero: signal 11").is_some_and(|result| result.is_err()));
        assert_eq!(result_of("gap zero 1"), None);
        assert_eq!(result_of("[0.1] boot"), None);
    }
}
