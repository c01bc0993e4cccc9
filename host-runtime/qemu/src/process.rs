//! The QEMU process: its start, its last words, its end.
//!
//! It begins as another process of this program, which confines itself as no other program would and then executes
//! QEMU ([`become_qemu`]). It is killed when this process ends, however that happens (PR_SET_PDEATHSIG). Its standard output, which it
//! writes nothing to, is our standard error, so that the owner, who waits for that to hang up, sees the end of both.

use std::ffi::OsString;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, Command, ExitCode, ExitStatus, Stdio};
use std::thread::JoinHandle;

use host_machine::ExitReason;
use host_machine::printing::{printable, tell};
use jail::confine;
use rustix::io::FdFlags;
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::command::{self, Inherited};
use crate::error::{QemuError, io};
use host_machine::control::VmConfig;

/// How much of what QEMU says is kept, in bytes.
const SAID: u64 = 4096;

/// What says on the command line that this is to become QEMU, for a parent and as a user that are named next.
pub const WORD: &str = "qemu";

/// Goes on as QEMU, with those arguments, confined; with an exit code only when it cannot.
pub fn become_qemu(mut words: impl Iterator<Item = OsString>) -> ExitCode {
    let mut number = || words.next()?.to_str()?.parse::<u32>().ok();
    let (Some(parent), Some(user)) = (number(), number()) else {
        return ExitCode::FAILURE;
    };
    let confined = confine::seclude_program(user).map_err(QemuError::from);
    let bound = confined.and_then(|()| bind_to(parent));
    let error = match bound {
        Ok(()) => Command::new(command::PROGRAM)
            .args(words)
            .exec()
            .to_string(),
        Err(error) => error.to_string(),
    };
    // Its parent reads it as QEMU's last words.
    tell(format_args!("{}: {error}", command::PROGRAM));
    ExitCode::FAILURE
}

/// Ends with this parent; a change of users forgets that, so it is the last.
fn bind_to(parent: u32) -> Result<(), QemuError> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(io("bind QEMU to its parent"))?;
    // It may have ended before it could tell by that signal.
    match std::os::unix::process::parent_id() == parent {
        true => Ok(()),
        false => Err(io("find QEMU's parent")(rustix::io::Errno::SRCH)),
    }
}

/// Says that there is no QEMU while that can be told from one that did not start.
fn find() -> Result<(), QemuError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path);
    match folders.any(|folder| folder.join(command::PROGRAM).exists()) {
        true => Ok(()),
        false => Err(QemuError::Spawn {
            program: command::PROGRAM,
            source: std::io::ErrorKind::NotFound.into(),
        }),
    }
}

/// A running QEMU. Dropping it kills and reaps it.
#[derive(Debug)]
pub struct Qemu {
    child: Child,
    /// Readable once it has ended.
    pidfd: OwnedFd,
    said: Option<JoinHandle<String>>,
}

impl Qemu {
    /// Starts it, with copies of the descriptors `fds`, of which `inherited` names those that it is to use.
    ///
    /// # Errors
    /// When there is no QEMU or the host is out of processes or descriptors.
    pub fn start(
        config: &VmConfig,
        inherited: &Inherited,
        fds: &[BorrowedFd<'_>],
        epoch_ns: u64,
    ) -> Result<Self, QemuError> {
        for fd in fds {
            rustix::io::fcntl_setfd(fd, FdFlags::empty()).map_err(io("hand over a descriptor"))?;
        }
        let stderr = std::io::stderr().as_fd().try_clone_to_owned();
        let stderr = stderr.map_err(io("copy a descriptor"))?;
        find()?;
        // The new process is this program's file, whatever has its name by now.
        let mut command = Command::new("/proc/self/exe");
        command
            .args([WORD, &std::process::id().to_string()])
            .arg(confine::own_user().to_string())
            .args(command::arguments(config, inherited, epoch_ns)?)
            // It has no such filter.
            .env_remove("MALLOC_ARENA_MAX")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(stderr)
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|source| QemuError::Spawn {
            program: command::PROGRAM,
            source,
        })?;
        // All that takes this process's rights has been started, and there is one thread still.
        if let Err(error) = confine::seclude() {
            // Nobody else is there to end it.
            let _ = child.kill().and_then(|()| child.wait());
            return Err(error.into());
        }
        let said = child.stderr.take().map(listen);
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pidfd = pid.ok_or(rustix::io::Errno::SRCH);
        let pidfd = pidfd.and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()));
        match (pidfd, said.transpose()) {
            (Ok(pidfd), Ok(said)) => Ok(Self { child, pidfd, said }),
            (pidfd, said) => {
                // Nobody else is there to end it.
                let _ = child.kill().and_then(|()| child.wait());
                pidfd.map_err(io("watch QEMU"))?;
                said.map_err(io("start a thread"))?;
                Err(io("watch QEMU")(rustix::io::Errno::SRCH))
            }
        }
    }

    /// What becomes readable when it has ended.
    #[must_use]
    pub fn ended(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Ends it if it still runs, and gives its status and its last words.
    pub fn reap(&mut self) -> (Option<ExitStatus>, String) {
        // One that has ended is not signalled: it is reaped here only.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        let status = self.child.wait().ok();
        let said = self.said.take().and_then(|said| said.join().ok());
        (status, said.unwrap_or_default())
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.reap();
    }
}

/// Keeps the first of what QEMU says and reads on, so that it never waits for a reader.
fn listen(mut stderr: ChildStderr) -> std::io::Result<JoinHandle<String>> {
    let listen = move || {
        let mut words = Vec::new();
        let _ = stderr.by_ref().take(SAID).read_to_end(&mut words);
        let _ = std::io::copy(&mut stderr, &mut std::io::sink());
        printable(String::from_utf8_lossy(&words).trim())
    };
    std::thread::Builder::new()
        .name("qemu-said".to_owned())
        .spawn(listen)
}

/// How the microVM ended, from how QEMU did: `shutdown` is the reason in its last words on the monitor,
/// `panic_message` what the console says of a panic.
#[must_use]
pub fn reason(
    status: Option<ExitStatus>,
    said: &str,
    shutdown: Option<&str>,
    panic_message: impl FnOnce() -> String,
) -> ExitReason {
    let failed = |message: String| ExitReason::VmmFailed { message };
    let Some(status) = status else {
        return failed("QEMU could not be waited for".to_owned());
    };
    if let Some(signal) = status.signal() {
        return ExitReason::VmmKilled { signal };
    }
    match (status.code().unwrap_or(-1), shutdown) {
        (command::POWER_OFF, _) | (0, Some("guest-shutdown")) => ExitReason::PowerOff,
        (command::PANIC, _) | (0, Some("guest-panic")) => ExitReason::GuestPanic {
            message: panic_message(),
        },
        (0, Some("guest-reset")) => ExitReason::Reset,
        (0, why) => failed(format!(
            "QEMU was ended from outside ({})",
            why.unwrap_or("it gave no reason")
        )),
        (code, _) if said.is_empty() => {
            failed(format!("QEMU ended with code {code} and gave no reason"))
        }
        (code, _) => failed(format!("QEMU ended with code {code} and said: {said}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_of_qemu_is_one_of_the_microvm() {
        let reason = |raw: i32, shutdown: Option<&str>| {
            let status = Some(ExitStatus::from_raw(raw));
            reason(status, "no disk", shutdown, || "out of cheese".to_owned())
        };
        assert_eq!(reason(99 << 8, None), ExitReason::PowerOff);
        let message = "out of cheese".to_owned();
        assert_eq!(reason(103 << 8, None), ExitReason::GuestPanic { message });
        assert_eq!(reason(0, Some("guest-reset")), ExitReason::Reset);
        assert_eq!(reason(9, None), ExitReason::VmmKilled { signal: 9 });
        let sentence = reason(1 << 8, None).to_string();
        assert!(sentence.ends_with("QEMU ended with code 1 and said: no disk"));
        let sentence = reason(0, Some("host-signal")).to_string();
        assert!(sentence.ends_with("ended from outside (host-signal)"));
    }
}
