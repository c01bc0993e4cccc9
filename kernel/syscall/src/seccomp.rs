//! seccomp(2), and the two options of prctl(2) that do the same.

use abi::{Errno, Result};
use bpf::{Instruction, MOST_INSTRUCTIONS, Program, Use};
use fs::Capabilities;
use machine::UserAddr;
use process::seccomp::{self, Action, Failure, NewFilter, Notifier};
use zerocopy::{FromBytes, IntoBytes};

use crate::context::Context;
use crate::entry::Entry;
use crate::file::install;

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[Entry::new(317, "seccomp", sys_seccomp)];

bitflags::bitflags! {
    /// `SECCOMP_FILTER_FLAG_*`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct FilterFlags: u32 {
        const TSYNC = 1;
        const LOG = 2;
        const SPEC_ALLOW = 4;
        const NEW_LISTENER = 8;
        const TSYNC_ESRCH = 0x10;
        const WAIT_KILLABLE_RECV = 0x20;
    }
}

impl FilterFlags {
    /// Whether it can be told what failed, and each has what it is about.
    fn is_consistent(self) -> bool {
        let is_ambiguous =
            self.contains(Self::TSYNC | Self::NEW_LISTENER) && !self.contains(Self::TSYNC_ESRCH);
        let lacks_listener =
            self.contains(Self::WAIT_KILLABLE_RECV) && !self.contains(Self::NEW_LISTENER);
        !is_ambiguous && !lacks_listener
    }
}

/// `struct sock_fprog`.
#[derive(Debug, FromBytes, IntoBytes)]
#[repr(C)]
struct FilterProgram {
    len: u16,
    padding: [u16; 3],
    filter: u64,
}

fn sys_seccomp(cx: &mut Context<'_>) -> Result<u64> {
    const SET_MODE_STRICT: u32 = 0;
    const SET_MODE_FILTER: u32 = 1;
    const GET_ACTION_AVAIL: u32 = 2;
    const GET_NOTIF_SIZES: u32 = 3;
    let flags = cx.uint(1);
    match cx.uint(0) {
        SET_MODE_STRICT if flags == 0 && cx.arg(2) == 0 => {
            seccomp::set_strict(cx.thread).map(|()| 0)
        }
        SET_MODE_FILTER => {
            let flags = cx.flags(1)?;
            set_filter(cx, flags, cx.addr(2))
        }
        GET_ACTION_AVAIL if flags == 0 => {
            let action: u32 = memory::user::read(cx.addr(2))?;
            Action::find(action).map(|_| 0).ok_or(Errno::EOPNOTSUPP)
        }
        GET_NOTIF_SIZES if flags == 0 => {
            memory::user::write(cx.addr(2), &seccomp::NOTIFICATION_SIZES).map(|()| 0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// `PR_SET_SECCOMP`.
pub(crate) fn set_mode(cx: &mut Context<'_>) -> Result<u64> {
    const STRICT: u64 = 1;
    const FILTER: u64 = 2;
    match cx.arg(1) {
        STRICT => seccomp::set_strict(cx.thread).map(|()| 0),
        FILTER => set_filter(cx, FilterFlags::empty(), cx.addr(2)),
        _ => Err(Errno::EINVAL),
    }
}

fn set_filter(cx: &mut Context<'_>, flags: FilterFlags, from: UserAddr) -> Result<u64> {
    if !flags.is_consistent() {
        return Err(Errno::EINVAL);
    }
    let program = read_program(cx, from)?;
    let listener = if flags.contains(FilterFlags::NEW_LISTENER) {
        let notifier = Notifier::new(flags.contains(FilterFlags::WAIT_KILLABLE_RECV))?;
        let file = seccomp::open_listener(&notifier, cx.own)?;
        Some((notifier, install(cx, file, true)?))
    } else {
        None
    };
    let (notifier, fd) = listener.unzip();
    let new = NewFilter {
        program,
        logs: flags.contains(FilterFlags::LOG),
        for_all_threads: flags.contains(FilterFlags::TSYNC),
        notifier,
    };
    let Err(failure) = seccomp::set_filter(cx.thread, cx.own, new) else {
        return Ok(fd.unwrap_or(0));
    };
    if let Some(fd) = fd.and_then(|fd| i32::try_from(fd).ok()) {
        drop(cx.own.files.remove(fd));
    }
    match failure {
        Failure::Errno(errno) => Err(errno),
        Failure::Thread(_) if flags.contains(FilterFlags::TSYNC_ESRCH) => Err(Errno::ESRCH),
        Failure::Thread(tid) => u64::try_from(tid).map_err(|_| Errno::ESRCH),
    }
}

fn read_program(cx: &Context<'_>, from: UserAddr) -> Result<Program> {
    let given: FilterProgram = memory::user::read(from)?;
    let len = usize::from(given.len);
    if !(1..=MOST_INSTRUCTIONS).contains(&len) {
        return Err(Errno::EINVAL);
    }
    // A program that it starts may have privileges that its filters would betray.
    if !cx.thread.no_new_privs() && !may_filter(cx) {
        return Err(Errno::EACCES);
    }
    if given.filter == 0 {
        return Err(Errno::EINVAL);
    }
    let instructions = memory::user::read_array::<Instruction>(UserAddr(given.filter), len)?;
    Program::new(&instructions, Use::SystemCalls)
}

fn may_filter(cx: &Context<'_>) -> bool {
    let credentials = cx.credentials();
    credentials.ns_capable(&credentials.user_namespace, Capabilities::SYS_ADMIN)
}
