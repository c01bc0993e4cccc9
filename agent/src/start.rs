//! Starting a process: from a request to a [`Plan`], its stdio, and the answer.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use agent_protocol::root::{self, Root, Unrunnable};
use agent_protocol::{FailureKind, StartProcessRequest};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{PidfdFlags, Resource, Rlimit};
use rustix::thread::ThreadNameSpaceType;

use crate::capabilities::Allowed;
use crate::child::{self, Failed, Filter, Plan, Purpose, Stage, Stdio};
use crate::enter::Enter;
use crate::guest::{Namespaces, Which};
use crate::mounts::c_string;
use crate::pod::{Container, Master, Pod, Process, Table};
use crate::refusal::{Answer, Refusal};
use crate::stdio;
use crate::sys::CStrings;
use crate::terminal::{self, Terminal};
use crate::users;

/// A variable that the agent hands on: on some hosts programs fail without it.
const TUNABLES: &str = "GLIBC_TUNABLES";

/// The streams of one process, as far as the host wants them.
#[derive(Default)]
struct Claimed {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

/// A process's side of its stdio, and what moves the bytes once it runs.
struct Wired {
    stdio: Stdio,
    terminal: Option<Arc<Master>>,
    stdin: Option<Arc<OwnedFd>>,
    pumps: Vec<Pump>,
}

type Pump = Box<dyn FnOnce() -> Answer<()>>;

/// Starts a process and gives its pid.
pub(crate) fn start(pod: &Pod, request: &StartProcessRequest) -> Answer<i32> {
    let (container, exec) = (request.container_id.as_str(), request.exec_id.as_str());
    // First, so that a refused start leaves no streams waiting.
    let claimed = Claimed {
        stdin: pod.streams.claim(request.stdin_token, "stdin")?,
        stdout: pod.streams.claim(request.stdout_token, "stdout")?,
        stderr: pod.streams.claim(request.stderr_token, "stderr")?,
    };
    pod.begin_start(container, exec)?;
    match start_named(pod, request, claimed) {
        Ok(process) => {
            let pid = process.pid.map_or(0, |pid| pid.as_raw_pid());
            pod.end_start(container, exec, Some(process));
            Ok(pid)
        }
        Err(refusal) => {
            pod.end_start(container, exec, None);
            Err(refusal)
        }
    }
}

/// Says what would keep a process from being started, if that can be told beforehand.
pub(crate) fn check(pod: &Pod, request: &StartProcessRequest) -> Answer<()> {
    let root = pod.lock().container(&request.container_id)?.root.clone();
    let wired = wire_pipes(Claimed::default())
        .map_err(|errno| Refusal::system("open /dev/null for stdio", errno))?;
    let plan = Plan {
        purpose: Purpose::Check,
        ..plan(pod, request, &root, wired.stdio)?
    };
    child::start(&plan, |_| pod.forked())
        .map(drop)
        .map_err(|failed| refusal_of(&failed, request, &root))
}

/// The filter of system calls, as far as that can be told without the kernel.
fn filter(request: &StartProcessRequest) -> Answer<Option<Filter>> {
    /// Bytes of `struct sock_filter`.
    const INSTRUCTION: usize = 8;
    const MOST_INSTRUCTIONS: usize = 4096;
    let program = &request.seccomp;
    if program.is_empty() {
        return Ok(None);
    }
    if !program.len().is_multiple_of(INSTRUCTION) || program.len() / INSTRUCTION > MOST_INSTRUCTIONS
    {
        return Err(Refusal::invalid(format!(
            "a filter of system calls (seccomp) of {} bytes is no program",
            program.len()
        )));
    }
    Ok(Some(Filter {
        program: program.clone(),
        flags: request.seccomp_flags,
    }))
}

fn start_named(pod: &Pod, request: &StartProcessRequest, claimed: Claimed) -> Answer<Process> {
    let root = pod.lock().container(&request.container_id)?.root.clone();
    let wired = if request.terminal {
        wire_terminal(&root, request, claimed)?
    } else {
        wire_pipes(claimed).map_err(|errno| Refusal::system("make the pipes of stdio", errno))?
    };
    let Wired {
        stdio,
        terminal,
        stdin,
        pumps,
    } = wired;
    let plan = plan(pod, request, &root, stdio)?;
    let started = child::start(&plan, |_| pod.forked())
        .map_err(|failed| refusal_of(&failed, request, &root))?;
    // The agent's copies of the process's side: without them gone no pipe would ever end.
    drop(plan);
    for pump in pumps {
        pump()?;
    }
    if started.own_namespace {
        pod.lock()
            .container_mut(&request.container_id)?
            .own_namespace = true;
    }
    Ok(Process {
        pid: Some(started.pid),
        exit: None,
        terminal,
        stdin,
    })
}

fn wire_pipes(claimed: Claimed) -> Result<Wired, Errno> {
    let mut pumps: Vec<Pump> = Vec::new();
    let mut stdin_stream = None;
    let stdin = match claimed.stdin {
        None => null()?,
        Some(stream) => {
            let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
            let stream = Arc::new(stream);
            stdin_stream = Some(Arc::clone(&stream));
            pumps.push(Box::new(move || stdio::pump_in(stream, writer)));
            reader
        }
    };
    let mut output = |name, stream: Option<OwnedFd>| -> Result<OwnedFd, Errno> {
        let Some(stream) = stream else { return null() };
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        pumps.push(Box::new(move || stdio::pump_out(name, reader, stream)));
        Ok(writer)
    };
    let stdout = output("stdout", claimed.stdout)?;
    let stderr = output("stderr", claimed.stderr)?;
    Ok(Wired {
        stdio: Stdio::Streams([stdin, stdout, stderr]),
        terminal: None,
        stdin: stdin_stream,
        pumps,
    })
}

fn wire_terminal(root: &CString, request: &StartProcessRequest, claimed: Claimed) -> Answer<Wired> {
    if request.stderr_token != 0 {
        return Err(Refusal::invalid(
            "a process with a terminal has no stderr of its own",
        ));
    }
    let Terminal {
        master,
        slave,
        path,
    } = terminal::open(root, request.window_size.as_ref())?;
    let master = Arc::new(master);
    let mut pumps: Vec<Pump> = Vec::new();
    let stdin = claimed.stdin.map(Arc::new);
    if let Some(stream) = stdin.clone() {
        let master = Arc::clone(&master);
        pumps.push(Box::new(move || stdio::pump_in(stream, master)));
    }
    let kept = Arc::new(Master::new(Arc::clone(&master)));
    if let Some(stream) = claimed.stdout {
        let (stdin, kept) = (stdin.clone(), Arc::clone(&kept));
        pumps.push(Box::new(move || {
            stdio::pump_terminal(master, stream, stdin, move || kept.hang_up())
        }));
    }
    Ok(Wired {
        stdio: Stdio::Terminal {
            path,
            fallback: slave,
        },
        terminal: Some(kept),
        stdin,
        pumps,
    })
}

fn null() -> Result<OwnedFd, Errno> {
    rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
}

fn plan(pod: &Pod, request: &StartProcessRequest, root: &CString, stdio: Stdio) -> Answer<Plan> {
    let user = users::resolve(root, request.user.as_ref())?;
    let env = environment(&request.env, user.home.as_deref());
    let program = request.args.first().filter(|program| !program.is_empty());
    let program = program.ok_or_else(|| Refusal::invalid("no program to start was named"))?;
    let cwd = if request.cwd.is_empty() {
        "/"
    } else {
        request.cwd.as_str()
    };
    if !cwd.starts_with('/') {
        return Err(Refusal::invalid(format!(
            "the working directory \"{cwd}\" is not absolute"
        )));
    }
    let cgroup = pod.lock().container(&request.container_id)?.cgroup.clone();
    let umask = request
        .user
        .as_ref()
        .filter(|user| user.has_umask)
        .map(|user| user.umask);
    Ok(Plan {
        purpose: Purpose::Run,
        enter: enter(pod, request, root)?,
        cgroup: cgroup.map(|cgroup| cgroup.door()).transpose()?,
        stdio,
        credentials: user.credentials,
        umask: umask.map(|umask| Mode::from_raw_mode(umask & 0o777)),
        oom_score_adj: match request.oom_score_adj {
            0 => None,
            score => Some(c_string(score.to_string())?),
        },
        cwd: with_parents(cwd)?,
        rlimits: request.rlimits.iter().map(rlimit).collect::<Answer<_>>()?,
        no_new_privileges: request.no_new_privileges,
        capabilities: request.capabilities.as_ref().map(Allowed::new),
        filter: filter(request)?,
        programs: root::candidates(program, &env)
            .iter()
            .map(c_string)
            .collect::<Answer<_>>()?,
        args: c_strings(&request.args)?,
        env: c_strings(&env)?,
    })
}

/// The ancestors of a path from the top down, and then the path.
fn with_parents(path: &str) -> Answer<Vec<CString>> {
    let mut paths: Vec<_> = Path::new(path)
        .ancestors()
        .map(|ancestor| c_string(ancestor.to_string_lossy()))
        .collect::<Answer<_>>()?;
    paths.reverse();
    Ok(paths)
}

/// The first process makes the container's view, the others join it.
fn enter(pod: &Pod, request: &StartProcessRequest, root: &CString) -> Answer<Enter> {
    let table = pod.lock();
    let container = table.container(&request.container_id)?;
    let namespaces = &container.namespaces;
    if request.exec_id.is_empty() {
        return Ok(Enter::Own {
            root: root.clone(),
            pids: namespaces.pids == Which::Own,
            mounts: container.late_mounts.clone(),
            names: container.names.clone(),
            ipc: namespaces.ipc == Which::Own,
            sysctls: container.sysctls.clone(),
            shared: shared(&table, namespaces)?,
        });
    }
    if !container.own_namespace {
        return Ok(Enter::Chroot(root.clone()));
    }
    let mut others = ThreadNameSpaceType::empty();
    for (which, kind) in kinds(namespaces) {
        others.set(kind, *which != Which::Pod);
    }
    Ok(Enter::Join {
        first: first_of(container, &request.container_id)?,
        others,
    })
}

/// What a container can have other than the pod.
fn kinds(namespaces: &Namespaces) -> [(&Which, ThreadNameSpaceType); 3] {
    use ThreadNameSpaceType as Kind;
    [
        (&namespaces.pids, Kind::PROCESS_ID),
        (&namespaces.names, Kind::HOST_NAME_AND_NIS_DOMAIN_NAME),
        (&namespaces.ipc, Kind::INTER_PROCESS_COMMUNICATION),
    ]
}

/// The processes whose namespaces a container's first one is to be in.
fn shared(table: &Table, namespaces: &Namespaces) -> Answer<Vec<(OwnedFd, ThreadNameSpaceType)>> {
    let mut shared = Vec::new();
    for (which, kind) in kinds(namespaces) {
        if let Which::Of(other) = which {
            shared.push((first_of(table.container(other)?, other)?, kind));
        }
    }
    Ok(shared)
}

/// A pidfd of a container's first process. Under the lock, so that the pid is not reaped and given away meanwhile.
fn first_of(container: &Container, id: &str) -> Answer<OwnedFd> {
    let first = container.processes.get("").and_then(|first| first.pid);
    let gone = || format!("the first process of container \"{id}\" has gone or was not started");
    let first = first.ok_or_else(|| Refusal::state(gone()))?;
    rustix::process::pidfd_open(first, PidfdFlags::empty())
        .map_err(|errno| Refusal::system("find the container's first process", errno))
}

/// The process's environment: what was asked for, a home, and the agent's tunables.
fn environment(asked: &[String], home: Option<&str>) -> Vec<String> {
    let has = |name: &str| {
        asked
            .iter()
            .any(|entry| entry.split_once('=').is_some_and(|(key, _)| key == name))
    };
    let mut env = asked.to_vec();
    if !has("HOME") {
        env.push(format!(
            "HOME={}",
            home.filter(|home| !home.is_empty()).unwrap_or("/")
        ));
    }
    if let (false, Ok(tunables)) = (has(TUNABLES), std::env::var(TUNABLES)) {
        env.push(format!("{TUNABLES}={tunables}"));
    }
    env
}

fn c_strings(strings: &[String]) -> Answer<CStrings> {
    Ok(CStrings::new(
        strings.iter().map(c_string).collect::<Answer<_>>()?,
    ))
}

fn rlimit(limit: &agent_protocol::Rlimit) -> Answer<(Resource, Rlimit)> {
    let resource = match limit.type_.as_str() {
        "RLIMIT_AS" => Resource::As,
        "RLIMIT_CORE" => Resource::Core,
        "RLIMIT_CPU" => Resource::Cpu,
        "RLIMIT_DATA" => Resource::Data,
        "RLIMIT_FSIZE" => Resource::Fsize,
        "RLIMIT_LOCKS" => Resource::Locks,
        "RLIMIT_MEMLOCK" => Resource::Memlock,
        "RLIMIT_MSGQUEUE" => Resource::Msgqueue,
        "RLIMIT_NICE" => Resource::Nice,
        "RLIMIT_NOFILE" => Resource::Nofile,
        "RLIMIT_NPROC" => Resource::Nproc,
        "RLIMIT_RSS" => Resource::Rss,
        "RLIMIT_RTPRIO" => Resource::Rtprio,
        "RLIMIT_RTTIME" => Resource::Rttime,
        "RLIMIT_SIGPENDING" => Resource::Sigpending,
        "RLIMIT_STACK" => Resource::Stack,
        other => {
            return Err(Refusal::unsupported(format!(
                "the resource limit \"{other}\" is not supported"
            )));
        }
    };
    let value = |value: u64| (value != u64::MAX).then_some(value);
    Ok((
        resource,
        Rlimit {
            current: value(limit.soft),
            maximum: value(limit.hard),
        },
    ))
}

fn refusal_of(failed: &Failed, request: &StartProcessRequest, root: &CString) -> Refusal {
    let program = request.args.first().map_or("", String::as_str);
    let what = match failed.stage {
        Stage::Session => "start a process".to_owned(),
        Stage::OomScore => format!("set oom_score_adj to {}", request.oom_score_adj),
        Stage::Namespaces => "enter the container's namespaces".to_owned(),
        Stage::Sysctls => "set the container's sysctls".to_owned(),
        Stage::Root => "enter the container's root file system".to_owned(),
        Stage::Terminal => "give the process its terminal".to_owned(),
        Stage::Stdio => "give the process its stdio".to_owned(),
        Stage::Cwd => format!("enter the working directory \"{}\"", request.cwd),
        Stage::Rlimits => "set the resource limits".to_owned(),
        Stage::Groups => "set the supplementary groups".to_owned(),
        Stage::User => "become the user".to_owned(),
        Stage::Capabilities => "set the capabilities".to_owned(),
        Stage::NoNewPrivileges => "forbid new privileges".to_owned(),
        Stage::Filter => "set the filter of system calls (seccomp)".to_owned(),
        Stage::Exec => {
            let kind = match failed.errno {
                Errno::NOENT | Errno::NOTDIR => FailureKind::FAILURE_KIND_PROGRAM_NOT_FOUND,
                _ => FailureKind::FAILURE_KIND_PROGRAM_NOT_EXECUTABLE,
            };
            let refusal = Refusal::with_errno(kind, format!("run \"{program}\""), failed.errno);
            return match without_interpreter(failed.errno, request, root) {
                Some(sentence) => refusal.saying(sentence),
                None => refusal,
            };
        }
    };
    Refusal::system(what, failed.errno)
}

/// execve(2) says ENOENT also of a program that is there, when its interpreter is not.
fn without_interpreter(
    errno: Errno,
    request: &StartProcessRequest,
    root: &CString,
) -> Option<String> {
    if errno != Errno::NOENT {
        return None;
    }
    let program = request.args.first()?;
    let programs = root::candidates(program, &request.env);
    let cwd = match request.cwd.as_str() {
        "" => "/",
        cwd => cwd,
    };
    match Root::open(root.as_c_str())
        .ok()?
        .unrunnable(&programs, cwd)?
    {
        Unrunnable::Missing => None,
        lacking @ Unrunnable::Interpreter { .. } => {
            Some(format!("cannot run \"{program}\": {lacking}"))
        }
    }
}
