//! Signals: actions, masks, sending, waiting.

use abi::{Errno, Result};
use process::futex;
use process::restart::RestartBlock;
use process::signal;
use process::signal::frame::StackT;
use process::signal::{
    Action, Disposition, Flags, Payload, SigInfo, Signal, SignalSet, code, send, state, wait,
};
use process::task::tree;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::context::Context;
use crate::entry::Entry;
use crate::process::read_info;
use crate::structs::{Timespec, read_sigset};

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(13, "rt_sigaction", sys_rt_sigaction),
    Entry::new(14, "rt_sigprocmask", sys_rt_sigprocmask),
    Entry::new(15, "rt_sigreturn", sys_rt_sigreturn),
    Entry::new(34, "pause", sys_pause),
    Entry::new(62, "kill", sys_kill),
    Entry::new(127, "rt_sigpending", sys_rt_sigpending),
    Entry::new(128, "rt_sigtimedwait", sys_rt_sigtimedwait),
    Entry::new(129, "rt_sigqueueinfo", sys_rt_sigqueueinfo),
    Entry::new(130, "rt_sigsuspend", sys_rt_sigsuspend),
    Entry::new(131, "sigaltstack", sys_sigaltstack),
    Entry::new(200, "tkill", sys_tkill),
    Entry::new(219, "restart_syscall", sys_restart_syscall),
    Entry::new(234, "tgkill", sys_tgkill),
    Entry::new(297, "rt_tgsigqueueinfo", sys_rt_tgsigqueueinfo),
];

/// `struct kernel_sigaction`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct UserAction {
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
}

impl From<UserAction> for Action {
    fn from(user: UserAction) -> Self {
        Action {
            disposition: match user.handler {
                0 => Disposition::Default,
                1 => Disposition::Ignore,
                handler => Disposition::Handler(handler),
            },
            flags: Flags::from_bits_truncate(user.flags),
            restorer: user.restorer,
            mask: SignalSet(user.mask),
        }
    }
}

impl From<Action> for UserAction {
    fn from(action: Action) -> Self {
        UserAction {
            handler: match action.disposition {
                Disposition::Default => 0,
                Disposition::Ignore => 1,
                Disposition::Handler(handler) => handler,
            },
            flags: action.flags.bits(),
            restorer: action.restorer,
            mask: action.mask.0,
        }
    }
}

fn sys_rt_sigaction(cx: &mut Context<'_>) -> Result<u64> {
    if cx.size(3) != 8 {
        return Err(Errno::EINVAL);
    }
    let signal = Signal::new(cx.int(0))?;
    let new = cx
        .optional_addr(1)
        .map(memory::user::read::<UserAction>)
        .transpose()?;
    if new.is_some() && signal.is_unmaskable() {
        return Err(Errno::EINVAL);
    }
    let old = state::set_action(cx.process(), signal, new.map(Action::from));
    if let Some(addr) = cx.optional_addr(2) {
        memory::user::write(addr, &UserAction::from(old))?;
    }
    Ok(0)
}

fn sys_rt_sigprocmask(cx: &mut Context<'_>) -> Result<u64> {
    const SIG_BLOCK: i32 = 0;
    const SIG_UNBLOCK: i32 = 1;
    const SIG_SETMASK: i32 = 2;
    if cx.size(3) != 8 {
        return Err(Errno::EINVAL);
    }
    let old = cx.thread.blocked();
    if let Some(addr) = cx.optional_addr(1) {
        let set = read_sigset(addr, 8)?;
        let mask = match cx.int(0) {
            SIG_BLOCK => old.union(set),
            SIG_UNBLOCK => old.without(set),
            SIG_SETMASK => set,
            _ => return Err(Errno::EINVAL),
        };
        state::set_mask(cx.thread, mask);
    }
    if let Some(addr) = cx.optional_addr(2) {
        memory::user::write(addr, &old.0)?;
    }
    Ok(0)
}

fn sys_rt_sigreturn(cx: &mut Context<'_>) -> Result<u64> {
    let restored = signal::frame::sigreturn(cx.thread, cx.user);
    if restored.is_err() {
        let fault = SigInfo {
            code: code::SI_KERNEL,
            ..SigInfo::fault(Signal::SEGV, 0, 0)
        };
        send::force(cx.thread, &fault);
        return Ok(0);
    }
    restored
}

fn sys_rt_sigpending(cx: &mut Context<'_>) -> Result<u64> {
    if cx.size(1) > 8 {
        return Err(Errno::EINVAL);
    }
    let (own, shared) = state::pending(cx.thread);
    let set = own.union(shared).intersection(cx.thread.blocked());
    memory::user::write_bytes(cx.addr(0), &set.0.to_ne_bytes()[..cx.size(1)])?;
    Ok(0)
}

fn sys_rt_sigtimedwait(cx: &mut Context<'_>) -> Result<u64> {
    let wanted = read_sigset(cx.addr(0), cx.size(3))?;
    let deadline = Timespec::read_deadline(cx.optional_addr(2))?;
    let info = wait::timed_wait(cx.thread, wanted, deadline)?;
    if let Some(addr) = cx.optional_addr(1) {
        memory::user::write_bytes(addr, &info.to_bytes())?;
    }
    Ok(u64::from(info.signal.number()))
}

fn sys_rt_sigsuspend(cx: &mut Context<'_>) -> Result<u64> {
    let mask = read_sigset(cx.addr(0), cx.size(1))?;
    Err(wait::suspend(cx.thread, mask))
}

fn sys_pause(_: &mut Context<'_>) -> Result<u64> {
    wait::wait_for_any();
    Err(Errno::ERESTARTNOHAND)
}

fn sys_sigaltstack(cx: &mut Context<'_>) -> Result<u64> {
    let sp = cx.user.regs.rsp;
    let old = cx.thread.alternate_stack();
    if let Some(addr) = cx.optional_addr(0) {
        let new = memory::user::read::<StackT>(addr)?.parse()?;
        if old.contains(sp) {
            return Err(Errno::EPERM);
        }
        cx.thread.set_alternate_stack(new);
    }
    if let Some(addr) = cx.optional_addr(1) {
        memory::user::write(addr, &StackT::of(old, sp))?;
    }
    Ok(0)
}

/// A signal argument; 0 is "only check".
fn optional_signal(number: i32) -> Result<Option<Signal>> {
    if number == 0 {
        Ok(None)
    } else {
        Signal::new(number).map(Some)
    }
}

fn sys_kill(cx: &mut Context<'_>) -> Result<u64> {
    let signal = optional_signal(cx.int(1))?;
    send::kill(cx.thread, cx.int(0), signal, None).map(|()| 0)
}

fn sys_tkill(cx: &mut Context<'_>) -> Result<u64> {
    let (tid, signal) = (cx.int(0), optional_signal(cx.int(1))?);
    kill_thread(cx, None, tid, signal, None)
}

fn sys_tgkill(cx: &mut Context<'_>) -> Result<u64> {
    let (pid, tid, signal) = (cx.int(0), cx.int(1), optional_signal(cx.int(2))?);
    if pid <= 0 {
        return Err(Errno::EINVAL);
    }
    kill_thread(cx, Some(pid), tid, signal, None)
}

fn kill_thread(
    cx: &Context<'_>,
    pid: Option<process::PidNumber>,
    tid: process::PidNumber,
    signal: Option<Signal>,
    info: Option<SigInfo>,
) -> Result<u64> {
    if tid <= 0 {
        return Err(Errno::EINVAL);
    }
    let target = cx.find_thread(tid).ok_or(Errno::ESRCH)?;
    if pid.is_some_and(|pid| cx.shown(target.process().pid()) != pid) {
        return Err(Errno::ESRCH);
    }
    state::check_permission(&tree::lock(), cx.thread, target.process(), signal)?;
    let Some(signal) = signal else {
        return Ok(0);
    };
    let own = SigInfo {
        signal,
        errno: 0,
        code: code::SI_TKILL,
        payload: Payload::Sender {
            pid: target.process().shown(cx.process().pid()),
            uid: target.process().shown_uid(cx.credentials().uid),
        },
    };
    send::to_thread(&target, &info.unwrap_or(own)).map(|()| 0)
}

fn sys_rt_sigqueueinfo(cx: &mut Context<'_>) -> Result<u64> {
    let (pid, number) = (cx.int(0), cx.int(1));
    if pid <= 0 {
        return Err(Errno::ESRCH);
    }
    let signal = optional_signal(number)?;
    let target = cx.find_pid(pid).ok_or(Errno::ESRCH)?;
    // What may not be said may not be said with no signal, either.
    let info = read_info(cx, cx.addr(2), signal.unwrap_or(Signal::HUP), &target)?;
    send::kill(cx.thread, pid, signal, Some(&info)).map(|()| 0)
}

fn sys_rt_tgsigqueueinfo(cx: &mut Context<'_>) -> Result<u64> {
    let (pid, tid, number) = (cx.int(0), cx.int(1), cx.int(2));
    if pid <= 0 {
        return Err(Errno::EINVAL);
    }
    let signal = optional_signal(number)?;
    let target = cx.find_pid(pid).ok_or(Errno::ESRCH)?;
    let info = read_info(cx, cx.addr(3), signal.unwrap_or(Signal::HUP), &target)?;
    kill_thread(cx, Some(pid), tid, signal, Some(info))
}

fn sys_restart_syscall(cx: &mut Context<'_>) -> Result<u64> {
    match cx.thread.take_restart() {
        None => Err(Errno::EINTR),
        Some(block @ RestartBlock::Sleep { .. }) => crate::time::restart_sleep(cx, block),
        Some(block @ RestartBlock::Futex { .. }) => {
            futex::restart_wait(cx.thread, block).map(|()| 0)
        }
        Some(RestartBlock::Poll {
            fds,
            count,
            deadline_ns,
        }) => crate::file::poll::restartable(cx, fds, count, deadline_ns),
    }
}
