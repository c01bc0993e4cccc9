//! Random system calls: `qemu-tests/driver` as PID 1, with a seed for each boot.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};

use super::{Jitter, SILENCE_LIMIT, Session};
use crate::archive::{self, Item, Tree};
use crate::programs;
use crate::qemu::{Boot, Configuration};

const SOURCES: [&str; 3] = ["main.c", "arguments.c", "calls.c"];
/// What may be missing of the free memory at the end, in KiB.
const LOSS_LIMIT: i64 = 3 * 1024;

/// The driver, compiled and packed.
#[derive(Debug)]
pub struct Driver {
    folder: PathBuf,
    kernel: PathBuf,
    initramfs: PathBuf,
}

/// One boot of it.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    /// The machine.
    pub configuration: Configuration,
    /// What the random sequences start from.
    pub seed: u64,
    /// How many calls to make, about.
    pub calls: u64,
    /// Who makes them.
    pub uid: u32,
    /// Whether the CPUs stand still now and then.
    pub jitter: Jitter,
    /// Whether each call is printed before it is made.
    pub is_traced: bool,
}

impl std::fmt::Display for Turn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            configuration,
            seed,
            uid,
            jitter,
            ..
        } = self;
        write!(f, "driver/{configuration}/uid-{uid}/seed-{seed}{jitter}")
    }
}

impl Driver {
    /// Compiles the driver for `kernel` into `folder`.
    ///
    /// # Errors
    /// When gcc refuses it or a file cannot be written.
    pub fn build(folder: &Path, kernel: &Path, is_linux: bool) -> anyhow::Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let source_dir = programs::source_dir().join("driver");
        let init = folder.join("driver");
        let output = Command::new("gcc")
            .args([
                "-O1",
                "-std=gnu17",
                "-Wall",
                "-Wextra",
                "-Wno-unused-result",
            ])
            .args(["-static", "-pthread", "-o"])
            .arg(&init)
            .args(SOURCES.map(|source| source_dir.join(source)))
            .output()
            .context("cannot start gcc")?;
        if !output.status.success() {
            bail!("gcc: {}", String::from_utf8_lossy(&output.stderr));
        }
        let exit = programs::source_dir().join("bench/exit.c");
        let exit = programs::compile(&exit, &folder.join("exit"))?.file;
        let mut tree: Tree = ["dev", "proc", "tmp", "bin", "sys"]
            .map(|name| (name.to_owned(), Item::Directory))
            .to_vec();
        for (name, file) in [("init", init), ("bin/exit", exit)] {
            tree.push((name.to_owned(), Item::File(fs::read(file)?, true)));
        }
        let initramfs = folder.join("driver.img");
        if is_linux {
            archive::write_cpio(&tree, &initramfs)?;
        } else {
            archive::write_archive(&tree, &initramfs)?;
        }
        Ok(Self {
            folder: folder.to_owned(),
            kernel: kernel.to_owned(),
            initramfs,
        })
    }

    /// Boots once.
    ///
    /// # Errors
    /// When QEMU cannot be started.
    pub fn run(&self, turn: &Turn) -> anyhow::Result<Result<(), String>> {
        let (seed, calls, uid) = (turn.seed, turn.calls, turn.uid);
        let traced = u8::from(turn.is_traced);
        let boot = Boot {
            configuration: turn.configuration,
            kernel: self.kernel.clone(),
            initramfs: self.initramfs.clone(),
            command_line: format!(
                "console=ttyS0 quiet panic=-1 nacre.watchdog DRIVER_SEED={seed} DRIVER_CALLS={calls} DRIVER_UID={uid} \
                 DRIVER_TRACE={traced}"
            ),
            counts_instructions: false,
            extra_arguments: turn.jitter.arguments(&self.folder, seed)?,
            silence_limit: SILENCE_LIMIT,
            limit: Duration::from_secs(600),
        };
        let session = Session::run(&boot)?;
        let log = self.folder.join(format!("{turn}.log").replace('/', "-"));
        fs::write(&log, session.lines.join("\n"))?;
        Ok(match (session.trouble(), loss(&session.lines)) {
            (Some(trouble), _) => Err(trouble),
            (None, None) => Err(format!("the driver did not end\n{}", session.tail())),
            (None, Some(lost)) if lost > LOSS_LIMIT => {
                Err(format!("{lost} KiB of memory are lost\n{}", session.tail()))
            }
            (None, Some(_)) => Ok(()),
        })
    }
}

/// The number in `[driver done calls N lost KIB]`.
fn loss(lines: &[String]) -> Option<i64> {
    lines.iter().find_map(|line| {
        let (_, rest) = line.split_once("[driver done calls ")?;
        let (_, lost) = rest.split_once(" lost ")?;
        lost.trim_end_matches(']').parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::loss;

    #[test]
    fn reads_what_is_lost() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            loss(&lines("x\n[driver done calls 100 lost -20]")),
            Some(-20)
        );
        assert_eq!(loss(&lines("[driver round 1 calls 100 free 7]")), None);
    }
}
