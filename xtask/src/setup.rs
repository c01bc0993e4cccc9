//! `cargo xtask setup`: installs everything that any command needs. The other commands install
//! what they need themselves; this one is for preparing a machine ahead.

use crate::packages;
use crate::toolchain::Toolchain;

/// Installs what is missing.
pub(crate) fn run() -> anyhow::Result<()> {
    let all = [
        packages::STATIC_C,
        packages::BUSYBOX,
        packages::QEMU,
        packages::DEBIAN_ROOT,
        packages::CONTAINERD,
    ];
    packages::require("building, running and testing", &all.concat())?;
    Toolchain::choose()?;
    eprintln!("    everything is here: cargo xtask run");
    Ok(())
}
