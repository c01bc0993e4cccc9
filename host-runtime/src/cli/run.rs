//! `nacre run`, from its arguments to an exit code.
//!
//! Whatever goes wrong, the sandbox is dropped on the way out and its VMM with it, and the root
//! file system was only ever shared, never mounted here: nothing stays.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use super::RunError;
use super::args::RunArgs;
use super::session::{Force, LocalStdio, Session};
use super::signals::Caught;
use super::terminal::RawTerminal;
use super::timings::Marks;
use crate::agent::protocol::{CreateContainerRequest, Mount, StartProcessRequest, User};
use crate::agent::{Agent, AgentError, GuestLink, ProcessExit};
use crate::images;
use crate::printing::tell;
use crate::sandbox::{ExitReason, LogTarget, Sandbox, SandboxConfig, SandboxError};

/// How long a guest may take from its start until its agent answers.
const BOOT_BOUND: Duration = Duration::from_secs(60);
/// How long a guest may take to write back and power off.
const POWER_OFF_BOUND: Duration = Duration::from_secs(10);
/// How long the reason of a guest's end may take to be known once its streams have broken.
const REASON_BOUND: Duration = Duration::from_secs(3);
/// The container's name within its pod.
const CONTAINER: &str = "run";
/// What a program finds in `PATH` unless told otherwise.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs the program and gives the code to exit with.
pub(super) fn run(args: &RunArgs) -> Result<u8, RunError> {
    check_rootfs(args)?;
    if args.tty && args.interactive && !rustix::termios::isatty(io::stdin()) {
        return Err(RunError::NotATerminal);
    }
    let config = config(args)?;
    let request = process_request(args)?;
    let caught = Caught::start()?;
    let mut marks = Marks::new();
    let aborted = |error| {
        caught
            .aborted()
            .map_or(error, |signal| RunError::Interrupted { signal })
    };
    let sandbox = Sandbox::start(&config).map_err(|error| aborted(error.into()))?;
    let sandbox = Arc::new(sandbox);
    caught.ends(&sandbox);
    marks.note("VMM ready");
    let outcome = run_in(&sandbox, args, request, &caught, &mut marks);
    let outcome = outcome.map_err(|error| reason_of(&sandbox, error));
    // Threads may still hold the sandbox; its VMM is to be gone when this process is.
    sandbox.kill();
    marks.note("microVM gone");
    if args.timings {
        // As in `tell`: what was measured is no reason to lose the exit code.
        let _ = write!(io::stderr(), "{}", marks.table(&sandbox.timings()));
    }
    outcome.map(ProcessExit::shell_code).map_err(aborted)
}

fn run_in(
    sandbox: &Arc<Sandbox>,
    args: &RunArgs,
    request: StartProcessRequest,
    caught: &Caught,
    marks: &mut Marks,
) -> Result<ProcessExit, RunError> {
    let link: Arc<dyn GuestLink> = Arc::clone(sandbox) as Arc<dyn GuestLink>;
    let agent = Arc::new(Agent::connect(link, BOOT_BOUND)?);
    marks.note("agent answered");
    agent.create_container(&container_request())?;
    marks.note("container mounted");
    let stdio = local_stdio(args.interactive)?;
    // Before the program starts, so that it never sees a half-cooked key.
    let raw = (args.tty && args.interactive)
        .then(|| RawTerminal::enter(io::stdin()))
        .transpose()
        .map_err(|_| RunError::NotATerminal)?;
    let forced = Arc::new(AtomicU8::new(0));
    let force = force(sandbox, &forced);
    let session = Session::start(&agent, request, stdio, caught.forward(), force)?;
    marks.note("program runs");
    let exit = session.wait();
    drop(raw);
    if forced.load(Ordering::Acquire) != 0 {
        return Err(RunError::Interrupted {
            signal: forced.load(Ordering::Acquire),
        });
    }
    // Lost output is no reason to lose what the program wrote to files.
    let is_guest_there = !matches!(exit, Err(RunError::Agent(_)));
    if is_guest_there {
        marks.note("program ended");
        power_off(sandbox, &agent);
    }
    exit
}

/// What ends the microVM when the program ignores being asked.
fn force(sandbox: &Arc<Sandbox>, forced: &Arc<AtomicU8>) -> Force {
    let (sandbox, forced) = (Arc::clone(sandbox), Arc::clone(forced));
    Box::new(move |signal| {
        forced.store(signal, Ordering::Release);
        sandbox.kill();
    })
}

/// Ends the guest in order, so that nothing it wrote is lost; otherwise at once, and says so.
fn power_off(sandbox: &Sandbox, agent: &Agent) {
    let asked = agent.shutdown(Duration::ZERO);
    match ended_within(sandbox, POWER_OFF_BOUND) {
        Some(reason) if reason.is_orderly() => {}
        Some(reason) => tell(format_args!(
            "nacre: the microVM did not power off in order: {reason}"
        )),
        None => {
            sandbox.kill();
            let why = asked
                .err()
                .map_or_else(String::new, |error| format!(": {error}"));
            let waited = POWER_OFF_BOUND.as_secs();
            tell(format_args!(
                "nacre: waited {waited} s for the microVM to power off, ended it{why}"
            ));
        }
    }
}

/// A broken connection is how a dead guest shows; its end says more.
fn reason_of(sandbox: &Sandbox, error: RunError) -> RunError {
    let lost = matches!(
        error,
        RunError::Agent(
            AgentError::Transport { .. }
                | AgentError::Stream { .. }
                | AgentError::Link(SandboxError::Ended { .. })
        )
    );
    if !lost {
        return error;
    }
    match ended_within(sandbox, REASON_BOUND) {
        Some(reason) => RunError::Ended { reason },
        None => error,
    }
}

fn ended_within(sandbox: &Sandbox, bound: Duration) -> Option<ExitReason> {
    use rustix::event::{PollFd, PollFlags, Timespec};
    let deadline = Instant::now() + bound;
    loop {
        if let Some(reason) = sandbox.try_wait() {
            return Some(reason);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        let exit = sandbox.exit_fd();
        let timeout = Timespec::try_from(left).ok();
        // Interrupted or not, the loop looks again.
        let _ = rustix::event::poll(&mut [PollFd::new(&exit, PollFlags::IN)], timeout.as_ref());
    }
}

fn check_rootfs(args: &RunArgs) -> Result<(), RunError> {
    let path = &args.rootfs;
    let metadata = std::fs::metadata(path).map_err(|source| RunError::Rootfs {
        path: path.clone(),
        source,
    })?;
    if metadata.is_dir() {
        Ok(())
    } else {
        Err(RunError::NotADirectory { path: path.clone() })
    }
}

fn config(args: &RunArgs) -> Result<SandboxConfig, RunError> {
    let (kernel, initramfs) = image_files(args)?;
    // The kernel first: where it is not, an archive beside it is not either.
    std::fs::metadata(&kernel).map_err(|source| SandboxError::Open {
        what: "guest kernel",
        path: kernel.clone(),
        source,
    })?;
    images::check_archive(&initramfs)?;
    let mut config = SandboxConfig::new(kernel, initramfs);
    config.cpus = args.cpus;
    config.memory_bytes = args.memory.0;
    config.shared_dir = Some(args.rootfs.clone());
    config.log = args.log.clone().map_or(LogTarget::Discard, LogTarget::File);
    Ok(config)
}

/// The files as named; what is not named is found, the archive beside a named kernel.
fn image_files(args: &RunArgs) -> Result<(PathBuf, PathBuf), RunError> {
    match (&args.kernel, &args.initramfs) {
        (Some(kernel), Some(initramfs)) => Ok((kernel.clone(), initramfs.clone())),
        (Some(kernel), None) => Ok((kernel.clone(), kernel.with_file_name("initramfs.img"))),
        (None, named) => {
            let found = images::locate()?;
            Ok((found.kernel, named.clone().unwrap_or(found.initramfs)))
        }
    }
}

fn local_stdio(interactive: bool) -> Result<LocalStdio, RunError> {
    use std::os::fd::AsFd;
    let host = |source| RunError::Host {
        what: "duplicate stdio",
        source,
    };
    let stdin = io::stdin();
    Ok(LocalStdio {
        stdin: interactive
            .then(|| stdin.as_fd().try_clone_to_owned())
            .transpose()
            .map_err(host)?,
        stdout: io::stdout().as_fd().try_clone_to_owned().map_err(host)?,
        stderr: io::stderr().as_fd().try_clone_to_owned().map_err(host)?,
    })
}

/// The shared directory with what every Linux program expects mounted in it.
fn container_request() -> CreateContainerRequest {
    let mount = |destination: &str, kind: &str, options: &[&str], optional| Mount {
        destination: destination.to_owned(),
        type_: kind.to_owned(),
        source: kind.to_owned(),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        optional,
        ..Default::default()
    };
    let pts = [
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
        "gid=5",
    ];
    CreateContainerRequest {
        id: CONTAINER.to_owned(),
        mounts: vec![
            mount("/proc", "proc", &["nosuid", "noexec", "nodev"], false),
            mount(
                "/dev",
                "tmpfs",
                &["nosuid", "strictatime", "mode=755", "size=65536k"],
                false,
            ),
            mount("/dev/pts", "devpts", &pts, true),
            mount(
                "/dev/shm",
                "tmpfs",
                &["nosuid", "noexec", "nodev", "mode=1777"],
                false,
            ),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"], true),
        ],
        ..Default::default()
    }
}

fn process_request(args: &RunArgs) -> Result<StartProcessRequest, RunError> {
    let mut env = vec![PATH.to_owned()];
    if args.tty {
        let kind = std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned());
        env.push(format!("TERM={kind}"));
    }
    for given in &args.env {
        set_variable(&mut env, given)?;
    }
    let user = User {
        name: args.user.clone(),
        // Root's own group, as a login gives it; not read when there is a name.
        additional_gids: vec![0],
        ..Default::default()
    };
    Ok(StartProcessRequest {
        container_id: CONTAINER.to_owned(),
        args: args.program.clone(),
        env,
        cwd: args.cwd.clone(),
        user: Some(user).into(),
        terminal: args.tty,
        ..Default::default()
    })
}

/// Sets `NAME=VALUE`, or `NAME` to its value here if it has one, in place of an earlier one.
fn set_variable(env: &mut Vec<String>, given: &str) -> Result<(), RunError> {
    let (name, value) = match given.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (given, std::env::var(given).ok()),
    };
    if name.is_empty() {
        return Err(RunError::Variable {
            given: given.to_owned(),
        });
    }
    env.retain(|entry| entry.split_once('=').is_none_or(|(known, _)| known != name));
    env.extend(value.map(|value| format!("{name}={value}")));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::set_variable;

    #[test]
    fn variables_replace_and_need_a_name() {
        let mut env = vec!["PATH=/bin".to_owned(), "A=1".to_owned()];
        set_variable(&mut env, "PATH=/x=y").expect("a variable");
        set_variable(&mut env, "NACRE_SURELY_NOT_SET").expect("nothing to set");
        assert_eq!(env, ["A=1", "PATH=/x=y"]);
        assert!(set_variable(&mut env, "=x").is_err());
    }
}
