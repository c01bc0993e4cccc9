//! End to end with real containerd: the same `ctr` commands with runc and with Nacre.
//!
//! The test starts a containerd of its own ([`Daemon`]), imports an image it made ([`image`]) and plays
//! each scenario ([`scenarios`]) first with runc, then with Nacre; output, exit codes and the order
//! of events must be the same. What only Nacre can show ([`only_nacre`]) is checked on its own.

mod crashes;
mod daemon;
mod events;
pub mod image;
mod only_nacre;
mod scenarios;

use std::path::PathBuf;

use anyhow::Context;

use crate::{Report, diff};
use daemon::Daemon;

/// What the tests run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder with `containerd-shim-nacre-v2`, and the guest's images where it finds them.
    pub bin_dir: PathBuf,
    /// A root file system with busybox, which becomes the image.
    pub rootfs: PathBuf,
    /// Also what takes long.
    pub full: bool,
    /// A folder for logs and containerd's state; its path should be short.
    pub work_dir: PathBuf,
    /// Only the tests whose name contains this.
    pub filter: Option<String>,
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.filter
            .as_ref()
            .is_none_or(|filter| name.contains(filter.as_str()))
    }
}

/// containerd's names of the two runtimes.
const RUNC: &str = "io.containerd.runc.v2";
const NACRE: &str = "io.containerd.nacre.v2";

/// Runs everything.
///
/// # Errors
/// When containerd itself cannot be started or the image not be made.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    let mut report = Report::default();
    if !std::path::Path::new("/dev/kvm").exists() {
        for scenario in scenarios::ALL {
            report.skip(
                format_args!("containerd/{}", scenario.name),
                "/dev/kvm is not there",
            );
        }
        return Ok(report);
    }
    let mut daemon = Daemon::start(options)?;
    let archive = options.work_dir.join("image.tar");
    image::write(&options.rootfs, &archive).context("cannot make the test image")?;
    daemon.import(&archive)?;
    for scenario in scenarios::ALL.iter().filter(|one| options.wants(one.name)) {
        eprintln!("==> containerd: {}", scenario.name);
        let expected = daemon.play(RUNC, scenario);
        let actual = daemon.play(NACRE, scenario);
        let result = match (expected, actual) {
            (Ok(expected), Ok(actual)) => same(&expected, &actual),
            (Err(error), _) => Err(format!("with runc: {error:#}")),
            (_, Err(error)) => Err(format!("with Nacre: {error:#}\n{}", daemon.log_tail())),
        };
        report.note(format_args!("containerd/{}", scenario.name), result);
    }
    only_nacre::run(options, &mut daemon, &mut report);
    daemon.stop()?;
    Ok(report)
}

fn same(expected: &[String], actual: &[String]) -> Result<(), String> {
    let difference = diff::lines(expected, actual);
    if difference.is_empty() {
        Ok(())
    } else {
        Err(difference)
    }
}
