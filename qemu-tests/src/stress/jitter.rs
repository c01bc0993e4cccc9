//! CPUs that stand still now and then: `qemu-tests/driver/jitter.c`, a plugin of QEMU that lets one
//! virtual CPU's thread sleep for a few milliseconds at random, as a busy host does.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use crate::programs;

/// Whether, and how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jitter {
    /// The CPUs run as the host lets them.
    None,
    /// Each CPU stands still for up to some milliseconds, after every few hundred blocks of code on the average.
    Stops,
}

impl std::fmt::Display for Jitter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "",
            Self::Stops => "/jitter",
        })
    }
}

impl Jitter {
    /// QEMU's arguments for it; the plugin is built in `folder`.
    ///
    /// # Errors
    /// When gcc refuses the plugin.
    pub fn arguments(self, folder: &Path, seed: u64) -> anyhow::Result<Vec<String>> {
        if self == Self::None {
            return Ok(Vec::new());
        }
        let plugin = folder.join("jitter.so");
        if !plugin.is_file() {
            let output = Command::new("gcc")
                .args([
                    "-O2",
                    "-std=gnu17",
                    "-Wall",
                    "-Wextra",
                    "-shared",
                    "-fPIC",
                    "-o",
                ])
                .arg(&plugin)
                .arg(programs::source_dir().join("driver/jitter.c"))
                .output()
                .context("cannot start gcc")?;
            if !output.status.success() {
                bail!("gcc: {}", String::from_utf8_lossy(&output.stderr));
            }
        }
        Ok(vec![
            "-plugin".to_owned(),
            format!("{},seed={seed}", plugin.display()),
        ])
    }
}
