//! The first process.

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::{Vec, try_arc};
use fs::{FdTable, FsContext};
use machine::sync::SpinLock;
use machine::user_mode::NewContext;
use memory::AddressSpace;

use crate::exec::{self, Request, strings::Strings};
use crate::job_control::FromTree;
use crate::own::Own;
use crate::rlimit::Limits;
use crate::signal::{Actions, SignalSet};
use crate::task::ns_proxy::NsProxy;
use crate::task::pid::Pid;
use crate::task::pid_namespace::PidNamespace;
use crate::task::process::Process;
use crate::task::relations::{self, Relations};
use crate::task::thread::{Resources, SharedFs, Start, Thread};
use crate::task::tree;
use crate::{clone, ipc, timer, user_loop, uts};

/// What PID 1 starts with.
#[derive(Debug)]
pub struct InitRequest<'a> {
    /// Its program.
    pub path: &'a [u8],
    /// argv.
    pub args: &'a [&'a [u8]],
    /// envp.
    pub env: &'a [&'a [u8]],
    /// Its root and mounts.
    pub fs: Arc<FsContext>,
    /// Its descriptors: 0, 1 and 2 are the console.
    pub files: FdTable,
}

/// Makes PID 1 and has it run its program. Once, when file systems are mounted and
/// [`user_loop::set_syscall_entry`] has been called. A program that cannot be run ends the machine with a
/// sentence in the log.
///
/// # Errors
/// `ENOMEM`, `E2BIG`; `EAGAIN` when there was a first process already.
pub fn start_init(request: InitRequest<'_>) -> Result<()> {
    fs::job_control::set_job_control(&FromTree);
    timer::start_worker()?;
    let pid = Pid::new(&mut tree::lock(), &PidNamespace::INITIAL)?;
    if pid.number() != 1 {
        return Err(Errno::EAGAIN);
    }
    let memory = AddressSpace::new(true)?;
    let idle = Pid::idle()?;
    let relations = Relations {
        parent: None,
        group: idle.clone(),
        session: idle,
    };
    let actions = try_arc(SpinLock::new(Actions::default()))?;
    let process = Process::new(
        pid.clone(),
        Some(memory.clone()),
        actions,
        Limits::default(),
    )?;
    let thread = Thread::new(pid, &process, start_of(&request)?)?;
    let program = Program {
        path: Vec::try_from_slice(request.path)?,
        user: NewContext::new()?,
        args: Strings::from_list(request.args)?,
        env: Strings::from_list(request.env)?,
    };
    let (running, files) = (thread.clone(), request.files);
    let entry = move || {
        let own = Own::new(&running, files);
        program.run(&running, own);
    };
    let kernel = clone::builder_for(&thread, &memory, entry).prepare()?;
    thread.set_kernel(Some(kernel.clone()));
    {
        let mut tree = tree::lock();
        relations::add_thread(&mut tree, process.pid(), &thread)?;
        process.signals.lock().threads.push(&thread)?;
        relations::add_process(&mut tree, &process, relations, None);
    }
    sched::thread::start(&kernel);
    Ok(())
}

fn start_of(request: &InitRequest<'_>) -> Result<Start> {
    Ok(Start {
        resources: Resources {
            files: Some(request.files.view()),
            fs: Some(SharedFs::new(request.fs.clone())?),
        },
        credentials: try_arc(fs::Credentials::root())?,
        blocked: SignalSet::EMPTY,
        alternate_stack: Default::default(),
        no_new_privs: false,
        name: *b"init\0\0\0\0\0\0\0\0\0\0\0\0",
        namespaces: NsProxy {
            uts: uts::initial(),
            ipc: ipc::initial(),
            net: Default::default(),
            cgroup: None,
            pid_for_children: Default::default(),
        },
        undo_list: None,
    })
}

struct Program {
    path: Vec<u8>,
    user: NewContext,
    args: Strings,
    env: Strings,
}

impl Program {
    fn run(self, thread: &Arc<Thread>, mut own: Own) {
        let Program {
            path,
            user,
            args,
            env,
        } = self;
        let mut user = user.start();
        let ran = Vec::try_from_slice(&path).map_err(Errno::from);
        let ran = ran.and_then(|name| {
            let request = Request {
                file: exec::open(thread, &path)?,
                name,
                args,
                env,
                name_is_closed: false,
            };
            exec::exec(thread, &mut own, &mut user, &request)
        });
        if let Err(errno) = ran {
            machine::log!("init: cannot run {}: {errno}", path.escape_ascii());
            machine::power::panicked();
        }
        machine::user_mode::begin();
        user_loop::run(thread, user, own);
    }
}
