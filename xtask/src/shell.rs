//! Running other programs: what is run is shown when it fails, and Cargo's own environment does
//! not leak into another Cargo.

use std::env;
use std::ffi::OsStr;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// Tells the user what is happening; for anything that may take more than a second.
pub(crate) fn step(what: &str) {
    eprintln!("==> {what}");
}

/// Runs `command` with our terminal and fails when it does.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    check(command, status)
}

/// Runs `command` and returns what it printed, without the last line end.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    if !output.status.success() {
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
    }
    check(command, output.status)?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned())
}

/// Waits for `child` for at most `limit`, then kills it. Returns nothing when it was killed.
pub(crate) fn wait_for(child: &mut Child, limit: Duration) -> anyhow::Result<Option<ExitStatus>> {
    let start = Instant::now();
    while start.elapsed() < limit {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

/// Whether `program` is in one of PATH's folders.
pub(crate) fn is_in_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Whether this process runs as root.
pub(crate) fn is_root() -> bool {
    output(Command::new("id").arg("-u")).is_ok_and(|uid| uid == "0")
}

/// The Cargo that runs this xtask.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    forget_outer_cargo(&mut command);
    command
}

/// Removes what `cargo run` and rustup's proxies set for their children: an inner Cargo, above
/// all one of another toolchain, must not take it for its own. CARGO_HOME and the settings of
/// registries and networks stay.
pub(crate) fn forget_outer_cargo(command: &mut Command) {
    let is_kept = |name: &str| {
        const KEPT: [&str; 4] = ["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR"];
        KEPT.iter().any(|kept| name.starts_with(kept))
    };
    for (name, _) in env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        let is_cargos = name == "CARGO" || name.starts_with("CARGO_");
        let is_rusts = ["RUSTC", "RUSTDOC", "RUSTFLAGS", "RUSTC_WRAPPER"].contains(&name);
        if (is_cargos && !is_kept(name)) || is_rusts {
            command.env_remove(name);
        }
    }
}

/// A command as a person would type it, near enough.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

fn check(command: &Command, status: ExitStatus) -> anyhow::Result<()> {
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(())
}
