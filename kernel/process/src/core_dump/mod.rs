//! Core dumps (core(5)): what a signal kills leaves its memory and registers in a file that debuggers read.
//!
//! The thread that takes the signal writes the file, in [`write`](layout); all others of its process come to
//! [`join`] on their way to their end, put their registers down and wait until it is written. Another SIGKILL ends
//! the writing. [`pattern`] says where the file is, [`notes`] has the structures in it.
//!
//! Locking: what the threads put down is under a lock of its own, a leaf below the signal state's, where the process's
//! [`Dump`] stands while there is one.

mod file;
mod layout;
mod notes;
pub mod pattern;

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

use abi::{Errno, Result};
use collections::{Vec, try_arc};
use machine::sync::SpinLock;
use machine::user_mode::UserContext;
use sched::WaitQueue;

use crate::completion::Completion;
use crate::rlimit::Resource;
use crate::signal::{SigInfo, Signal};
use crate::task::thread::Thread;
use crate::trace::registers::{self, WORDS};
use file::Sink;

/// `suid_dumpable` of proc(5): 0 for no dumps of programs that hide themselves, 1 for dumps as of others, 2 for dumps that
/// only root reads.
static SUID_DUMPABLE: AtomicU32 = AtomicU32::new(0);

/// `suid_dumpable`: what exec makes of a program that must not be looked into.
#[must_use]
pub fn suid_dumpable() -> u32 {
    SUID_DUMPABLE.load(Ordering::Relaxed)
}

/// Sets `suid_dumpable`.
///
/// # Errors
/// `EINVAL` for more than 2.
pub fn set_suid_dumpable(value: u32) -> Result<()> {
    if value > 2 {
        return Err(Errno::EINVAL);
    }
    SUID_DUMPABLE.store(value, Ordering::Relaxed);
    Ok(())
}

/// A dump that is being made.
#[derive(Debug, Default)]
pub(crate) struct Dump {
    /// What the other threads have put down.
    threads: SpinLock<Vec<Registers>>,
    /// Where the writer waits for them.
    pub(crate) arrivals: WaitQueue,
    written: Completion,
}

/// A thread's registers.
#[derive(Debug)]
struct Registers {
    thread: Arc<Thread>,
    words: [u64; WORDS],
    fpu: Vec<u8>,
}

impl Registers {
    fn of(thread: &Arc<Thread>, user: &mut UserContext) -> Result<Self> {
        let mut saved = crate::trace::Saved {
            regs: user.regs,
            orig_rax: u64::MAX,
            ..crate::trace::Saved::default()
        };
        Ok(Self {
            thread: thread.clone(),
            words: registers::all(&mut saved),
            fpu: Vec::try_from_slice(user.fpu_bytes())?,
        })
    }
}

/// What a dump is made for, and under which conditions.
struct Reason {
    info: SigInfo,
    /// Bytes it may take.
    limit: u64,
    /// Only root may read it.
    is_hidden: bool,
}

impl Signal {
    /// Whether it leaves a core dump by default.
    pub(crate) fn dumps_core(self) -> bool {
        matches!(
            self,
            Signal::QUIT
                | Signal::ILL
                | Signal::ABRT
                | Signal::FPE
                | Signal::SEGV
                | Signal::BUS
                | Signal::SYS
                | Signal::TRAP
                | Signal::XCPU
                | Signal::XFSZ
        )
    }
}

/// The wait status of a process that has left a dump.
const DUMPED: i32 = 0x80;

/// Ends the process of the calling thread by a signal, with a dump if it may have one.
pub(crate) fn end_with_dump(thread: &Arc<Thread>, user: &mut UserContext, info: &SigInfo) {
    let process = thread.process();
    let status = i32::from(info.signal.number());
    let reason = reason_for(thread, info);
    let dump = reason.and_then(|reason| Some((try_arc(Dump::default()).ok()?, reason)));
    let Some((dump, reason)) = dump else {
        return crate::exit::kill_with_status(process, status);
    };
    let Some(kills) = begin(thread, &dump, status) else {
        return;
    };
    let written = write(thread, user, &dump, &reason, kills);
    {
        let mut state = process.signals.lock();
        state.dump = None;
        if written.is_ok() {
            state.exit = state.exit.map(|status| status | DUMPED);
        }
    }
    dump.written.complete();
    // What was put off for the time of the writing.
    thread.notify();
}

/// Whether there may be a dump at all.
fn reason_for(thread: &Thread, info: &SigInfo) -> Option<Reason> {
    const LEAST: u64 = 4096;
    let process = thread.process();
    let limit = process.limits().soft(Resource::Core);
    let dumpable = process.dumpable.load(Ordering::Relaxed);
    let reason = Reason {
        info: *info,
        limit,
        is_hidden: dumpable == 2,
    };
    (limit >= LEAST && dumpable != 0).then_some(reason)
}

/// All other threads are to end, and come to [`join`]; the caller writes. How often SIGKILL had come. `None` when the
/// process is ending already.
fn begin(thread: &Arc<Thread>, dump: &Arc<Dump>, status: i32) -> Option<u64> {
    let process = thread.process();
    let mut state = process.signals.lock();
    if state.exit.is_some() || state.exec.is_some() {
        return None;
    }
    state.exit = Some(status);
    state.stop = None;
    state.dump = Some(dump.clone());
    process.stop_queue.wake_all();
    for other in state.threads.iter() {
        if !Arc::ptr_eq(other, thread) {
            other.notify_of_end();
        }
    }
    // The writer is not to be interrupted by what is still pending.
    thread.attention.store(false, Ordering::SeqCst);
    if let Some(kernel) = thread.kernel() {
        kernel.clear_interrupt();
    }
    Some(state.kills)
}

/// A thread of a process that is dumped puts its registers down and waits until that is written.
pub(crate) fn join(thread: &Arc<Thread>, user: &mut UserContext) {
    let Some(dump) = thread.process().signals.lock().dump.clone() else {
        return;
    };
    let put = Registers::of(thread, user).and_then(|own| {
        let mut threads = dump.threads.lock();
        Ok(threads.try_push(own)?)
    });
    if put.is_err() {
        // Without memory it is missing in the dump; who waits for it looks again when it has left.
        return;
    }
    dump.arrivals.wake_all();
    let written = || dump.written.is_complete().then_some(());
    dump.written.queue.wait_until(written);
}

fn write(
    thread: &Arc<Thread>,
    user: &mut UserContext,
    dump: &Dump,
    reason: &Reason,
    kills: u64,
) -> Result<()> {
    let own = Registers::of(thread, user)?;
    wait_for_others(thread, dump, kills)?;
    let name = name_of(thread, reason)?;
    let mut sink = Sink::open(thread, &name, reason)?;
    let others = core::mem::take(&mut *dump.threads.lock());
    let result = layout::write(&mut sink, &own, &others, reason);
    match result {
        // Cut off at the limit: what there is is left, as on Linux.
        Ok(()) | Err(Errno::EFBIG) => sink.finish(thread),
        Err(errno) => Err(errno),
    }
}

/// Until all others have put their registers down or are gone; `EINTR` when SIGKILL comes.
fn wait_for_others(thread: &Thread, dump: &Dump, kills: u64) -> Result<()> {
    let state = || thread.process().signals.lock();
    let have_come = || {
        let arrived = dump.threads.lock().len();
        (arrived + 1 >= state().threads.len()).then_some(())
    };
    while dump.arrivals.wait_interruptible(have_come).is_err() {
        if let Some(kernel) = thread.kernel() {
            kernel.clear_interrupt();
        }
        if state().kills != kills {
            return Err(Errno::EINTR);
        }
    }
    Ok(())
}

fn name_of(thread: &Thread, reason: &Reason) -> Result<Vec<u8>> {
    let process = thread.process();
    let pid = thread.read_pid();
    let credentials = thread.credentials();
    let uts = thread.namespaces().uts;
    let host = uts.hostname();
    let command = thread.name();
    let end = command.iter().position(|byte| *byte == 0);
    let path = match process.image().exe {
        Some(exe) => exe.display(&thread.fs().root())?,
        None => Vec::new(),
    };
    let kernel = thread.kernel();
    let values = pattern::Values {
        pid: process.pid().number(),
        global_pid: process.pid().global(),
        tid: pid.number(),
        global_tid: pid.global(),
        uid: process.shown_uid(credentials.uid),
        gid: credentials.user_namespace.shown_gid(credentials.gid),
        dumpable: process.dumpable.load(Ordering::Relaxed),
        signal: reason.info.signal.number(),
        seconds: sched::clock::realtime_ns() / 1_000_000_000,
        limit: reason.limit,
        cpu: kernel.map_or(0, |kernel| kernel.cpu()),
        host: host.as_bytes(),
        command: &command[..end.unwrap_or(command.len())],
        path: &path,
    };
    pattern::expand(&pattern::setting(), &values)
}
