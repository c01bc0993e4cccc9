//! The other end of the [`control`] channel: what every process that runs a machine does with it.
//!
//! [`serve`] is such a process from its first to its last message: it takes the start request, hands it to what
//! builds and runs the machine, and tells the owner through the [`Reporter`], which all threads share, what comes
//! of it.

use std::fmt::Display;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::time::ClockId;

use crate::control::{
    self, Call, Event, FIRST_CALL, MAX_MESSAGE, Message, Reply, Request, ShareConfig, VERSION,
    VmConfig,
};
use crate::printing::said;
use crate::{Attachment, ExitReason, NetConfig, Phase, cgroup};

/// What comes with a start request.
#[derive(Debug)]
pub struct Start {
    /// The machine to build.
    pub config: VmConfig,
    /// The guest kernel.
    pub kernel: OwnedFd,
    /// The archive.
    pub initramfs: OwnedFd,
    /// The console log's target.
    pub log: OwnedFd,
    /// The shared directory, if there is one.
    pub share: Option<(ShareConfig, OwnedFd)>,
    /// The disks' files, with their names for messages.
    pub disks: Vec<(String, OwnedFd)>,
    /// The networks, with what their frames go through.
    pub nets: Vec<(NetConfig, OwnedFd)>,
}

/// What can be attached to a machine that runs, and detached: directories.
pub trait Directories {
    /// Lets the guest mount this directory by a name.
    ///
    /// # Errors
    /// `EEXIST` for a name that is taken.
    fn attach(&self, name: &str, directory: OwnedFd, read_only: bool) -> io::Result<()>;

    /// Takes it back.
    ///
    /// # Errors
    /// `ENOENT` for a name that is not known.
    fn detach(&self, name: &str) -> io::Result<()>;
}

/// The answer to [`Request::Attach`], of a machine with these directories, if it has any.
///
/// # Errors
/// A sentence that names what was to be attached.
pub fn attach<D: Directories + ?Sized>(
    what: &Attachment,
    mut fds: Vec<OwnedFd>,
    directories: Option<&D>,
) -> Result<Reply, String> {
    let refused = |why: &str| Err(format!("{} cannot be attached: {why}", what.name()));
    let Attachment::Share(tree) = what else {
        return refused("it can only be there from the start of the microVM");
    };
    match (directories, fds.pop()) {
        (Some(directories), Some(directory)) => {
            match directories.attach(&tree.name, directory, tree.read_only) {
                Ok(()) => Ok(Reply::Done),
                Err(error) => refused(&said(&error)),
            }
        }
        (None, _) => refused("the microVM was started without a shared directory"),
        (_, None) => refused("the request came without its descriptor"),
    }
}

/// The answer to [`Request::Detach`].
///
/// # Errors
/// As [`attach`].
pub fn detach<D: Directories + ?Sized>(
    what: &Attachment,
    directories: Option<&D>,
) -> Result<Reply, String> {
    let refused = |why: &str| Err(format!("{} cannot be detached: {why}", what.name()));
    match (what, directories) {
        (Attachment::Share(tree), Some(directories)) => match directories.detach(&tree.name) {
            Ok(()) => Ok(Reply::Done),
            Err(error) => refused(&said(&error)),
        },
        _ => refused("it was never attached"),
    }
}

/// Runs one machine over the control channel on standard input.
///
/// `confined` is what came of confining the process, which has to be done before anything is opened. `machine`
/// builds the machine of the [`Start`] that it takes from the channel, calls the function when its CPUs are about
/// to run, and returns when it has ended.
pub fn serve<E: Display>(
    confined: Result<(), E>,
    machine: impl FnOnce(OwnedFd, &Arc<Reporter>, &mut dyn FnMut()) -> Result<ExitReason, E>,
) -> ExitCode {
    let Ok(control) = io::stdin().as_fd().try_clone_to_owned() else {
        return ExitCode::FAILURE;
    };
    let Ok(for_events) = control.try_clone() else {
        return ExitCode::FAILURE;
    };
    let reporter = Arc::new(Reporter::new(for_events));
    report_panics(&reporter);
    reporter.phase(Phase::VmmRunning);
    let mut has_started = false;
    let mut started = || {
        has_started = true;
        reporter.answer(FIRST_CALL, Ok(Reply::Done));
    };
    let outcome = confined.and_then(|()| machine(control, &reporter, &mut started));
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

impl Start {
    /// Takes the start request from the channel, and enters the cgroups that come with it.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub fn receive(control: &OwnedFd) -> Result<Self, &'static str> {
        let mut buffer = vec![0; MAX_MESSAGE];
        let message = control::receive::<Call>(control.as_fd(), &mut buffer);
        let Ok(Some((call, fds))) = message else {
            return Err("the first message is not one");
        };
        if call.version != VERSION {
            return Err("it is of another version of the protocol");
        }
        let Request::Start(config) = call.request else {
            return Err("the first message is another one");
        };
        let mut fds = fds.into_iter();
        let mut next = || fds.next().ok_or("a descriptor is missing");
        let (kernel, initramfs, log) = (next()?, next()?, next()?);
        let share = match &config.shares[..] {
            [] => None,
            [share] => Some((share.clone(), next()?)),
            _ => return Err("it has several shares"),
        };
        let names = config.disks.iter().cloned();
        let disks = names.map(|name| Ok((name, next()?)));
        let disks = disks.collect::<Result<_, _>>()?;
        let nets = config.nets.iter().cloned();
        let nets = nets.map(|net| Ok((net, next()?)));
        let nets = nets.collect::<Result<_, _>>()?;
        cgroup::enter(fds.collect())?;
        Ok(Self {
            config,
            kernel,
            initramfs,
            log,
            share,
            disks,
            nets,
        })
    }
}

/// A panic anywhere in the process ends it, and the owner hears why.
fn report_panics(reporter: &Arc<Reporter>) {
    let reporter = Arc::clone(reporter);
    std::panic::set_hook(Box::new(move |info| {
        reporter.fail(format!("{info}; please report it"));
    }));
}

/// Tells the owner what happens; shared by all threads of the process.
#[derive(Debug)]
pub struct Reporter {
    control: OwnedFd,
    /// One bit a phase that was reported: a guest cannot flood the owner.
    reported: AtomicU32,
}

impl Reporter {
    /// Reports over `control`.
    #[must_use]
    pub fn new(control: OwnedFd) -> Self {
        Self {
            control,
            reported: AtomicU32::new(0),
        }
    }

    /// Reports a phase, the first time only.
    pub fn phase(&self, phase: Phase) {
        let bit = 1 << (phase as u32);
        if self.reported.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            let ns = now_ns();
            self.event(Event::Phase { phase, ns });
        }
    }

    /// Whether a phase was reported.
    #[must_use]
    pub fn has_reported(&self, phase: Phase) -> bool {
        self.reported.load(Ordering::Relaxed) & (1 << (phase as u32)) != 0
    }

    /// Tells something unasked.
    pub fn event(&self, event: Event) {
        self.send(&Message::Event(event));
    }

    /// Answers the call of this number.
    pub fn answer(&self, id: u64, reply: Result<Reply, String>) {
        self.send(&Message::Answer { id, reply });
    }

    /// Answers a connect call once the guest accepted, or did not for a reason.
    pub fn connected(&self, id: u64, outcome: Result<(), &str>) {
        if outcome.is_ok() {
            self.phase(Phase::FirstConnection);
        }
        let reply = outcome.map(|()| Reply::Done).map_err(str::to_owned);
        self.answer(id, reply);
    }

    /// Ends the process, from any of its threads, because it cannot go on.
    pub fn fail(&self, message: String) -> ! {
        self.event(Event::Exit {
            reason: ExitReason::VmmFailed { message },
        });
        std::process::exit(101);
    }

    /// An owner that is gone is seen by who waits for its requests, not here.
    fn send(&self, message: &Message) {
        let _ = control::send(self.control.as_fd(), message, &[]);
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds, which the owner shares.
fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}
