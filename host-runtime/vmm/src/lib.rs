//! The VMM: what runs inside the `nacre-vmm` process of one microVM.
//!
//! [`run`] takes the start request from the control channel, has [`machine`] build everything, starts a
//! thread a CPU and one for the file system, and stays in [`event_loop`] until the guest or the parent
//! ends. Nothing here trusts the guest; nothing outlives the process.

#![deny(unsafe_code)]

pub mod boot_info;
pub mod cmdline;
pub mod cpuid;
pub mod elf;
pub mod error;
pub mod event_loop;
pub mod jail;
pub mod layout;
pub mod load;
pub mod machine;
pub mod memory;
pub mod page_tables;
pub mod pause;
pub mod ports;
pub mod probe;
pub mod reporter;
pub mod seccomp;
#[expect(unsafe_code, reason = "the one place for it; see the module")]
pub mod sys;
pub mod vcpu;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;

use host_machine::control::{
    self, Call, Event, FIRST_CALL, MAX_MESSAGE, Reply, Request, ShareConfig, VERSION, VmConfig,
};
use host_machine::{ExitReason, Phase};

use error::VmmError;
use reporter::Reporter;

/// The files that come with a start request.
#[derive(Debug)]
pub struct Files {
    /// The guest kernel.
    pub kernel: File,
    /// The archive.
    pub initramfs: File,
    /// The console log's target.
    pub log: File,
    /// The shared directory, if there is one.
    pub share: Option<(ShareConfig, OwnedFd)>,
}

/// Runs one microVM over the control channel on standard input.
#[must_use]
pub fn run() -> ExitCode {
    let jailed = jail::begin();
    let Ok(control) = std::io::stdin().as_fd().try_clone_to_owned() else {
        return ExitCode::FAILURE;
    };
    let Ok(for_events) = control.try_clone() else {
        return ExitCode::FAILURE;
    };
    let reporter = Arc::new(Reporter::new(for_events));
    report_panics(&reporter);
    reporter.phase(Phase::VmmRunning);
    let mut has_started = false;
    let outcome = jailed.and_then(|()| {
        let (config, files) = receive_start(&control)?;
        let ready = machine::build(&config, files, control, &reporter)?;
        ready.run(|| {
            has_started = true;
            reporter.answer(FIRST_CALL, Ok(Reply::Done));
        })
    });
    let (reason, code) = match outcome {
        Ok(reason) => (reason, ExitCode::SUCCESS),
        Err(error) if !has_started => {
            reporter.answer(FIRST_CALL, Err(error.to_string()));
            return ExitCode::FAILURE;
        }
        Err(error) => {
            let message = error.to_string();
            (ExitReason::VmmFailed { message }, ExitCode::FAILURE)
        }
    };
    reporter.phase(Phase::Exit);
    reporter.event(Event::Exit { reason });
    code
}

fn receive_start(control: &OwnedFd) -> Result<(VmConfig, Files), VmmError> {
    let bad = |what| VmmError::Start { what };
    let mut buffer = vec![0; MAX_MESSAGE];
    let message = control::receive::<Call>(control.as_fd(), &mut buffer);
    let Ok(Some((call, fds))) = message else {
        return Err(bad("the first message is not one"));
    };
    if call.version != VERSION {
        return Err(bad("it is of another version of the protocol"));
    }
    let Request::Start(config) = call.request else {
        return Err(bad("the first message is another one"));
    };
    let mut fds = fds.into_iter();
    let mut next = || fds.next().ok_or_else(|| bad("a descriptor is missing"));
    let (kernel, initramfs, log) = (next()?.into(), next()?.into(), next()?.into());
    let share = match &config.shares[..] {
        [] => None,
        [share] => Some((share.clone(), next()?)),
        _ => return Err(bad("it has several shares")),
    };
    let files = Files {
        kernel,
        initramfs,
        log,
        share,
    };
    Ok((config, files))
}

/// A panic anywhere in the VMM ends it, and the parent hears why.
fn report_panics(reporter: &Arc<Reporter>) {
    let reporter = Arc::clone(reporter);
    std::panic::set_hook(Box::new(move |info| {
        let message = format!("{info}; please report it");
        reporter.event(Event::Exit {
            reason: ExitReason::VmmFailed { message },
        });
        std::process::exit(101);
    }));
}
