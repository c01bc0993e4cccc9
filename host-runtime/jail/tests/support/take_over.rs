//! Takes a thread over, as a debugger does, and has it make system calls; for the tests of both machines, which
//! include this file.

use std::ffi::CString;
use std::fs;
use std::time::Duration;

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// A call: its name, its number, and its arguments, of which a text stands for where it is in memory.
pub(crate) struct Call {
    pub(crate) name: &'static str,
    pub(crate) number: i64,
    pub(crate) arguments: Vec<Argument>,
}

pub(crate) enum Argument {
    Number(i64),
    Text(&'static str),
}

pub(crate) use Argument::{Number, Text};

/// What only a gofer may do at all.
pub(crate) fn opening() -> Call {
    let at = Number(libc::AT_FDCWD.into());
    Call {
        name: "openat",
        number: libc::SYS_openat,
        arguments: vec![at, Text("/etc/passwd"), Number(0)],
    }
}

/// The thread of a process that has this name, if there is one.
pub(crate) fn thread_named(process: u32, name: &str) -> Option<i32> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).ok()?;
    let tasks = tasks.filter_map(|task| Some(task.ok()?.path()));
    tasks
        .filter(|task| fs::read_to_string(task.join("comm")).is_ok_and(|is| is.trim() == name))
        .find_map(|task| task.file_name()?.to_str()?.parse().ok())
}

/// The processes that a process has started.
pub(crate) fn children(process: u32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{process}/task"));
    let tasks = tasks.into_iter().flatten().filter_map(Result::ok);
    let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let children = children.collect::<String>();
    let children = children.split_whitespace();
    children.filter_map(|pid| pid.parse().ok()).collect()
}

/// What no thread may do.
pub(crate) fn forbidden() -> Vec<Call> {
    let call = |name, number, arguments| Call {
        name,
        number,
        arguments,
    };
    let executable = i64::from(libc::PROT_READ | libc::PROT_EXEC);
    let private = i64::from(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    vec![
        call("socket", libc::SYS_socket, vec![Number(2), Number(1)]),
        call("kill", libc::SYS_kill, vec![Number(-1), Number(9)]),
        call(
            "tgkill",
            libc::SYS_tgkill,
            vec![Number(1), Number(1), Number(9)],
        ),
        call("fork", libc::SYS_fork, vec![]),
        call("clone", libc::SYS_clone, vec![Number(libc::SIGCHLD.into())]),
        call(
            "execve",
            libc::SYS_execve,
            vec![Text("/bin/sh"), Number(0), Number(0)],
        ),
        call("ptrace", libc::SYS_ptrace, vec![Number(16), Number(1)]),
        call(
            "process_vm_writev",
            libc::SYS_process_vm_writev,
            vec![Number(1)],
        ),
        call(
            "mount",
            libc::SYS_mount,
            vec![Text("none"), Text("/"), Text("proc")],
        ),
        call(
            "unshare",
            libc::SYS_unshare,
            vec![Number(libc::CLONE_NEWUSER.into())],
        ),
        call("setns", libc::SYS_setns, vec![Number(0), Number(0)]),
        call("chroot", libc::SYS_chroot, vec![Text("/")]),
        call("bpf", libc::SYS_bpf, vec![Number(0)]),
        call("io_uring_setup", libc::SYS_io_uring_setup, vec![Number(1)]),
        call(
            "mmap, executable",
            libc::SYS_mmap,
            vec![
                Number(0),
                Number(4096),
                Number(executable),
                Number(private),
                Number(-1),
            ],
        ),
        call(
            "ioctl, TIOCSTI",
            libc::SYS_ioctl,
            vec![Number(0), Number(0x5412)],
        ),
    ]
}

/// Stops a thread in a system call of its own: behind that is an instruction that makes calls.
pub(crate) fn seize(thread: Pid) {
    const SYSCALL: i64 = 0x050f;
    loop {
        ptrace::attach(thread).expect("root may");
        let stopped = waitpid(thread, Some(WaitPidFlag::__WALL)).expect("it stops");
        assert!(matches!(stopped, WaitStatus::Stopped(..)), "{stopped:?}");
        let rip = ptrace::getregs(thread).expect("it is stopped").rip;
        let at = std::ptr::without_provenance_mut(usize::try_from(rip - 2).expect("64 bits"));
        let code = ptrace::read(thread, at).expect("it runs there");
        if code & 0xffff == SYSCALL {
            return;
        }
        // It was between two calls.
        ptrace::detach(thread, None).expect("it is stopped");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What came of a call.
#[derive(Debug)]
pub(crate) enum Made {
    /// What it returned.
    Returned(i64),
    /// The thread died of SIGSYS, and was reaped here.
    Killed,
    /// The thread is no more: with its process, which the machine's owner has reaped.
    Gone,
}

/// Has a stopped thread make a call.
pub(crate) fn inject(thread: Pid, call: &Call) -> Made {
    let before = ptrace::getregs(thread).expect("it is stopped");
    let mut regs = before;
    // It goes over its own system-call instruction once more, and is in no call that could be restarted.
    regs.rip -= 2;
    regs.orig_rax = u64::MAX;
    regs.rax = call.number.cast_unsigned();
    let mut room = before.rsp - 4096;
    let mut place = |argument: &Argument| match argument {
        Number(number) => number.cast_unsigned(),
        Text(text) => {
            room -= 512;
            let text = CString::new(*text).expect("no NUL");
            let words = text.as_bytes_with_nul().chunks(8);
            for (at, word) in (room..).step_by(8).zip(words) {
                let mut bytes = [0; 8];
                bytes[..word.len()].copy_from_slice(word);
                let at = std::ptr::without_provenance_mut(usize::try_from(at).expect("64 bits"));
                ptrace::write(thread, at, i64::from_le_bytes(bytes)).expect("its stack");
            }
            room
        }
    };
    let mut values = call
        .arguments
        .iter()
        .map(&mut place)
        .chain(std::iter::repeat(0));
    for register in [
        &mut regs.rdi,
        &mut regs.rsi,
        &mut regs.rdx,
        &mut regs.r10,
        &mut regs.r8,
    ] {
        *register = values.next().expect("endless");
    }
    ptrace::setregs(thread, regs).expect("it is stopped");
    ptrace::step(thread, None).expect("it is stopped");
    loop {
        match waitpid(thread, Some(WaitPidFlag::__WALL)) {
            Ok(WaitStatus::Stopped(_, nix::sys::signal::Signal::SIGTRAP)) => break,
            Ok(WaitStatus::Stopped(..)) => ptrace::step(thread, None).expect("it is stopped"),
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                assert_eq!(signal, nix::sys::signal::Signal::SIGSYS, "{}", call.name);
                return Made::Killed;
            }
            // A whole process dies at once, and its owner is another thread of this one.
            Err(nix::Error::ECHILD) => return Made::Gone,
            other => panic!("{}: {other:?}", call.name),
        }
    }
    let after = ptrace::getregs(thread).expect("it is stopped");
    ptrace::setregs(thread, before).expect("it is stopped");
    Made::Returned(after.rax.cast_signed())
}
