//! The kernel benchmark: a program in the manner of lmbench runs as PID 1 under QEMU, and a plugin
//! of QEMU counts the instructions of each of its rows, kernel and user together, and the kernel's
//! locked ones. No clock is read: the same kernel gives the same numbers on every host.
//!
//! [`Bench`] builds the program and boots kernels; [`Figures`] is what one kernel came to;
//! [`compare`] prints our kernel beside Linux, [`plot`] draws that, and [`budgets`] says what our kernel
//! may cost.

pub mod budgets;
pub mod compare;
mod counts;
pub mod plot;
mod pvh;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::archive::{self, Item, Tree};
use crate::programs;
use crate::qemu::{Boot, Configuration, Machine};

pub use counts::{Cost, Figures};

/// The sources of PID 1, in `qemu-tests/bench`.
const PROGRAM: [&str; 6] = [
    "main.c",
    "calls.c",
    "files.c",
    "memory.c",
    "messages.c",
    "processes.c",
];

/// The memory of [`Boot`]'s machines.
const MEMORY: u64 = 256 * 1024 * 1024;

/// A kernel to run the benchmark on.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// What to call it; also the name of its console's log.
    pub name: String,
    /// Its ELF file, with a PVH entry.
    pub file: PathBuf,
    /// Whether it is Linux, which takes another archive format.
    pub is_linux: bool,
}

/// The benchmark, compiled.
#[derive(Debug)]
pub struct Bench {
    folder: PathBuf,
    plugin: PathBuf,
    tree: Tree,
}

impl Bench {
    /// Compiles the programs and the plugin into `folder`.
    ///
    /// # Errors
    /// When gcc cannot be started or refuses one.
    pub fn build(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let init = gcc(
            &PROGRAM,
            &["-static", "-pthread", "-Wl,-e,bench_entry"],
            folder,
            "init",
        )?;
        let exit = gcc(&["exit.c"], &["-static"], folder, "exit")?;
        let plugin = gcc(&["plugin.c"], &["-shared", "-fPIC"], folder, "plugin.so")?;
        let mut tree: Tree = ["dev", "tmp", "bin"]
            .map(|name| (name.to_owned(), Item::Directory))
            .to_vec();
        for (name, file) in [("init", init), ("bin/exit", exit)] {
            tree.push((name.to_owned(), Item::File(fs::read(file)?, true)));
        }
        Ok(Self {
            folder: folder.to_owned(),
            plugin,
            tree,
        })
    }

    /// Boots `kernel` and counts.
    ///
    /// # Errors
    /// When QEMU cannot be started, or the benchmark does not run to its end.
    pub fn run(&self, kernel: &Kernel) -> anyhow::Result<Figures> {
        let initramfs = self.folder.join(format!("{}.img", kernel.name));
        archive::write(&self.tree, &initramfs, kernel.is_linux)?;
        let counts = self.folder.join(format!("{}.counts", kernel.name));
        let mut console = String::new();
        let boot = self.boot(kernel, initramfs, &counts)?;
        let end = boot.run(|line| {
            console.push_str(line);
            true
        })?;
        fs::write(self.folder.join(format!("{}.log", kernel.name)), &console)?;
        let counted = fs::read_to_string(&counts)
            .with_context(|| format!("QEMU's plugin did not write {}", counts.display()))?;
        match Figures::read(&console, &counted, MEMORY) {
            Ok(figures) => Ok(figures),
            Err(error) => bail!(
                "{}: {error}; the machine: {end:?}; its console's last lines:\n{}",
                kernel.name,
                tail(&console, 20)
            ),
        }
    }

    /// The machine. Each CPU feature that TCG has, but for ERMS: TCG counts each byte of REP MOVSB, which hardware
    /// with ERMS moves by cache lines.
    fn boot(&self, kernel: &Kernel, initramfs: PathBuf, counts: &Path) -> anyhow::Result<Boot> {
        let bytes = fs::read(&kernel.file)
            .with_context(|| format!("cannot read {}", kernel.file.display()))?;
        let entry = pvh::entry(&bytes)
            .with_context(|| format!("{} has no PVH entry", kernel.file.display()))?;
        let (plugin, counts) = (self.plugin.display(), counts.display());
        let plugin = format!("{plugin},out={counts},entry={entry:#x}");
        // Linux on one CPU patches its LOCK prefixes away, and mitigates what TCG does not have.
        let words = match kernel.is_linux {
            true => "noreplace-smp mitigations=off nokaslr",
            // As our VMM does; otherwise the kernel counts with the PIT, and clears memory that is clear.
            false => "quiet nacre.tsc_khz=1000000 nacre.zeroed",
        };
        Ok(Boot {
            configuration: Configuration {
                machine: Machine::Microvm,
                cpus: 1,
            },
            kernel: kernel.file.clone(),
            initramfs,
            command_line: format!("console=ttyS0 panic=-1 {words}"),
            counts_instructions: false,
            extra_arguments: [
                "-cpu",
                "max,-erms",
                "-icount",
                "shift=0,sleep=off",
                "-seed",
                "1",
                "-rtc",
                "base=2026-01-01T00:00:00,clock=vm",
                "-plugin",
                &plugin,
            ]
            .map(str::to_owned)
            .to_vec(),
            silence_limit: Duration::from_secs(120),
            limit: Duration::from_secs(300),
        })
    }
}

fn gcc(sources: &[&str], flags: &[&str], folder: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let source_dir = programs::source_dir().join("bench");
    let binary = folder.join(name);
    let output = Command::new("gcc")
        .args([
            "-O2",
            "-std=gnu17",
            "-Wall",
            "-Wextra",
            "-Wno-unused-result",
        ])
        .args(flags)
        .arg("-o")
        .arg(&binary)
        .args(sources.iter().map(|source| source_dir.join(source)))
        .output()
        .context("cannot start gcc")?;
    if !output.status.success() {
        bail!("gcc: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(binary)
}

fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
