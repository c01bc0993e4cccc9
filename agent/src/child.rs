//! What a forked child does before it becomes the program, and how it says what went wrong.
//!
//! The parent prepares everything in a [`Plan`]; the child only makes system calls. Its [`report`] closes when
//! `execve` succeeds: an empty one is success.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use rustix::fs::{Access, FileType, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::process::{Gid, Pid, Resource, Rlimit};

use crate::capabilities::Allowed;
use crate::enter::Enter;
use crate::report::{self, Report};
use crate::sys::{self, CStrings};

/// The process's stdin, stdout and stderr.
#[derive(Debug)]
pub(crate) enum Stdio {
    Streams([OwnedFd; 3]),
    /// The terminal's path inside the container, if it is there; otherwise the descriptor.
    Terminal {
        path: Option<CString>,
        fallback: OwnedFd,
    },
}

/// Whom the process runs as.
#[derive(Debug)]
pub(crate) struct Credentials {
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
    pub(crate) groups: Vec<Gid>,
}

/// How far the child goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Becomes the program.
    Run,
    /// Looks whether it could, and ends.
    Check,
}

/// Which system calls the program may make (seccomp(2)).
#[derive(Debug)]
pub(crate) struct Filter {
    /// `struct sock_filter` after `struct sock_filter`.
    pub(crate) program: Vec<u8>,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub(crate) flags: u32,
}

impl Filter {
    fn set(&self) -> Result<(), Failed> {
        sys::set_filter(&self.program, self.flags).map_err(|errno| Failed {
            stage: Stage::Filter,
            errno,
        })
    }
}

/// Everything the child needs, made before the fork.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) purpose: Purpose,
    pub(crate) enter: Enter,
    /// The door of the container's control group.
    pub(crate) cgroup: Option<OwnedFd>,
    pub(crate) stdio: Stdio,
    pub(crate) credentials: Credentials,
    pub(crate) umask: Option<Mode>,
    /// What goes to `oom_score_adj` (proc(5)); `None` leaves the agent's.
    pub(crate) oom_score_adj: Option<CString>,
    /// The working directory, after its parents; the first process's is made when it is not there.
    pub(crate) cwd: Vec<CString>,
    pub(crate) rlimits: Vec<(Resource, Rlimit)>,
    pub(crate) no_new_privileges: bool,
    /// `None` leaves the user's own.
    pub(crate) capabilities: Option<Allowed>,
    pub(crate) filter: Option<Filter>,
    /// Paths to try, in this order.
    pub(crate) programs: Vec<CString>,
    pub(crate) args: CStrings,
    pub(crate) env: CStrings,
}

/// Where in its preparations a child failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Session,
    OomScore,
    Namespaces,
    Sysctls,
    Root,
    Terminal,
    Stdio,
    Cwd,
    Rlimits,
    Groups,
    User,
    Capabilities,
    NoNewPrivileges,
    Filter,
    Exec,
}

const STAGES: [Stage; 15] = [
    Stage::Session,
    Stage::OomScore,
    Stage::Namespaces,
    Stage::Sysctls,
    Stage::Root,
    Stage::Terminal,
    Stage::Stdio,
    Stage::Cwd,
    Stage::Rlimits,
    Stage::Groups,
    Stage::User,
    Stage::Capabilities,
    Stage::NoNewPrivileges,
    Stage::Filter,
    Stage::Exec,
];

/// A record's tag when it is not a failed stage: the child has a mount namespace of its own.
const TAG_OWN_NAMESPACE: u8 = 0xff;
/// As that: the process is a sibling of the child, with this pid.
const TAG_SIBLING: u8 = 0xfe;

/// A started program.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) pid: Pid,
    /// Whether it has a mount namespace of its own, which others can join.
    pub(crate) own_namespace: bool,
}

/// Why a program was not started.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) stage: Stage,
    pub(crate) errno: Errno,
}

/// Forks and waits until the program runs or has failed to.
///
/// `forked` learns of the child at once, before it can have ended. A child that fails becomes a
/// zombie for the reaper like any other.
pub(crate) fn start(plan: &Plan, forked: impl FnOnce(Pid)) -> Result<Started, Failed> {
    let fork = |report: Report<'_>| plan.enter.fork(plan.purpose, || run(plan, report));
    let (mut pid, records) = report::of_child(fork, forked).map_err(|errno| Failed {
        stage: Stage::Session,
        errno,
    })?;
    let mut own_namespace = false;
    for record in records {
        let errno = record.errno();
        match STAGES.get(usize::from(record.tag)) {
            Some(&stage) => return Err(Failed { stage, errno }),
            None if record.tag == TAG_SIBLING => pid = Pid::from_raw(record.value).unwrap_or(pid),
            None => own_namespace = true,
        }
    }
    Ok(Started { pid, own_namespace })
}

fn run(plan: &Plan, report: Report<'_>) {
    // First of all, so that everything else is the container's, and charged to it.
    if let Some(door) = plan
        .cgroup
        .as_ref()
        .filter(|_| plan.purpose == Purpose::Run)
        && let Err(errno) = enter_cgroup(door)
    {
        return fail(report, Stage::Session, errno);
    }
    match plan.enter.join_pids(plan.purpose) {
        Ok(None) => {}
        // This one is done: its sibling goes on.
        Ok(Some(sibling)) => return report.send(TAG_SIBLING, 0, sibling.as_raw_pid()),
        Err(errno) => return fail(report, Stage::Root, errno),
    }
    if let Err(Failed { stage, errno }) = become_program(plan, report) {
        fail(report, stage, errno);
    }
}

fn fail(report: Report<'_>, stage: Stage, errno: Errno) {
    let tag = STAGES
        .iter()
        .position(|known| *known == stage)
        .unwrap_or_default();
    report.send(
        u8::try_from(tag).unwrap_or_default(),
        0,
        errno.raw_os_error(),
    );
}

/// The steps in an order in which each still has the rights and the view that it needs.
fn become_program(plan: &Plan, report: Report<'_>) -> Result<(), Failed> {
    let at = |stage| move |errno| Failed { stage, errno };
    rustix::process::setsid().map_err(at(Stage::Session))?;
    // Before the root changes: the container need not have a /proc.
    if let Some(score) = &plan.oom_score_adj {
        set_oom_score(score).map_err(at(Stage::OomScore))?;
    }
    let enter = &plan.enter;
    enter.enter_namespaces().map_err(at(Stage::Namespaces))?;
    enter.set_sysctls().map_err(at(Stage::Sysctls))?;
    if enter.enter(plan.purpose).map_err(at(Stage::Root))? {
        report.send(TAG_OWN_NAMESPACE, 0, 0);
    }
    attach(plan)?;
    enter_cwd(plan).map_err(at(Stage::Cwd))?;
    for (resource, limit) in &plan.rlimits {
        rustix::process::setrlimit(*resource, *limit).map_err(at(Stage::Rlimits))?;
    }
    if let Some(umask) = plan.umask {
        rustix::process::umask(umask);
    }
    // What may still have to be done when the container's filter holds already is as little as can be.
    sys::reset_signals();
    sys::keep_only_stdio();
    let filter = plan
        .filter
        .as_ref()
        .filter(|_| plan.purpose == Purpose::Run);
    // Only who has privileges sets a filter without giving up new ones; runc has the same order.
    if let Some(filter) = filter.filter(|_| !plan.no_new_privileges) {
        filter.set()?;
    }
    if let Some(capabilities) = &plan.capabilities {
        capabilities.bound().map_err(at(Stage::Capabilities))?;
    }
    let credentials = &plan.credentials;
    rustix::thread::set_thread_groups(&credentials.groups).map_err(at(Stage::Groups))?;
    rustix::thread::set_thread_gid(credentials.gid).map_err(at(Stage::User))?;
    rustix::thread::set_thread_uid(credentials.uid).map_err(at(Stage::User))?;
    if let Some(capabilities) = &plan.capabilities {
        capabilities.apply().map_err(at(Stage::Capabilities))?;
    }
    if plan.no_new_privileges {
        rustix::thread::set_no_new_privs(true).map_err(at(Stage::NoNewPrivileges))?;
    }
    if plan.purpose == Purpose::Check {
        return find_program(plan).map_err(at(Stage::Exec));
    }
    if let Some(filter) = filter.filter(|_| plan.no_new_privileges) {
        filter.set()?;
    }
    Err(Failed {
        stage: Stage::Exec,
        errno: exec_first(plan),
    })
}

/// Comes into the container's control group, which is all that it sees of them.
fn enter_cgroup(door: &OwnedFd) -> Result<(), Errno> {
    rustix::io::write(door, b"0")?;
    sys::unshare_cgroups()
}

fn set_oom_score(score: &CString) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(c"/proc/self/oom_score_adj", flags, Mode::empty())?;
    rustix::io::write(file, score.as_bytes()).map(drop)
}

fn attach(plan: &Plan) -> Result<(), Failed> {
    let terminal = |errno| Failed {
        stage: Stage::Terminal,
        errno,
    };
    let stdio = |errno| Failed {
        stage: Stage::Stdio,
        errno,
    };
    match &plan.stdio {
        Stdio::Streams([stdin, stdout, stderr]) => {
            for stream in [stdin, stdout, stderr] {
                // The user may open what /dev/stdout leads to, as runc has it. Whoever cannot have it can use it still.
                let _ = rustix::fs::fchown(stream, Some(plan.credentials.uid), None);
            }
            rustix::stdio::dup2_stdin(stdin).map_err(stdio)?;
            rustix::stdio::dup2_stdout(stdout).map_err(stdio)?;
            rustix::stdio::dup2_stderr(stderr).map_err(stdio)
        }
        Stdio::Terminal { path, fallback } => {
            let opened = path.as_ref().map(|path| {
                let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
                rustix::fs::open(path, flags, Mode::empty())
            });
            let slave = match &opened {
                Some(opened) => opened.as_ref().map_err(|errno| terminal(*errno))?,
                None => fallback,
            };
            let uid = plan.credentials.uid;
            // Not every kernel's terminals have owners; the process can use its own anyhow.
            let _ = rustix::fs::fchown(slave, Some(uid), None);
            rustix::process::ioctl_tiocsctty(slave).map_err(terminal)?;
            rustix::stdio::dup2_stdin(slave).map_err(terminal)?;
            rustix::stdio::dup2_stdout(slave).map_err(terminal)?;
            rustix::stdio::dup2_stderr(slave).map_err(terminal)
        }
    }
}

/// Enters the working directory; the container's first process makes it, as runc does.
fn enter_cwd(plan: &Plan) -> Result<(), Errno> {
    let Some(cwd) = plan.cwd.last() else {
        return Ok(());
    };
    match (rustix::process::chdir(cwd), &plan.enter) {
        (Err(Errno::NOENT), Enter::Own { .. }) => {}
        (result, _) => return result,
    }
    for directory in &plan.cwd {
        match rustix::fs::mkdir(directory, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    rustix::process::chdir(cwd)
}

/// Tries the paths as a shell would and gives the errno that says most.
fn exec_first(plan: &Plan) -> Errno {
    first(plan, |program| {
        Err(sys::execve(program, &plan.args, &plan.env))
    })
    .err()
    .unwrap_or(Errno::IO)
}

/// Whether one of the paths can be executed, by what access(2) says of it.
fn find_program(plan: &Plan) -> Result<(), Errno> {
    first(plan, |program| {
        rustix::fs::access(program, Access::EXEC_OK)?;
        // For execve(2) a directory is a lack of permission.
        if is_directory(program) {
            return Err(Errno::ACCESS);
        }
        Ok(())
    })
}

/// The first path that `attempt` takes, or the errno that says most of why there is none.
fn first(plan: &Plan, attempt: impl Fn(&CString) -> Result<(), Errno>) -> Result<(), Errno> {
    let mut worst = Errno::NOENT;
    for program in &plan.programs {
        match attempt(program) {
            Ok(()) => return Ok(()),
            Err(Errno::NOENT) => {}
            Err(Errno::NOTDIR) if plan.programs.len() > 1 => {}
            Err(Errno::ACCESS) if is_directory(program) => worst = Errno::ISDIR,
            Err(Errno::ACCESS) => worst = Errno::ACCESS,
            Err(errno) => return Err(errno),
        }
    }
    Err(worst)
}

fn is_directory(path: &CString) -> bool {
    rustix::fs::stat(path)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}
