//! signalfd, signalfd4: signals as bytes to read.
//!
//! The file reads the signals of whichever thread reads it, as on Linux; so it is made here, above
//! `process`, and not in `fs`.

use alloc::sync::Arc;

use abi::raw::general as raw;
use abi::{Errno, Result};
use collections::try_arc;
use fs::{AnonymousInode, Events, File, FileOps, Io, OpenFlags, PollTable};
use machine::sync::SpinLock;
use memory::io::IoWriter;
use memory::user;
use process::signal::{Payload, SigInfo, SignalSet, code, state, wait};
use process::task::thread::{self, Thread};

use super::{install, usable_file};
use crate::context::Context;
use crate::entry::Entry;

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(282, "signalfd", sys_signalfd),
    Entry::new(289, "signalfd4", sys_signalfd4),
];

/// Bytes of a `struct signalfd_siginfo`.
const RECORD: usize = 128;

#[derive(Debug)]
struct SignalFd {
    mask: SpinLock<SignalSet>,
}

impl SignalFd {
    fn mask(&self) -> SignalSet {
        *self.mask.lock()
    }
}

fn reader() -> Result<Arc<Thread>> {
    thread::current().ok_or(Errno::EINVAL)
}

impl FileOps for SignalFd {
    fn read(&self, to: &mut IoWriter<'_>, io: &Io) -> Result<usize> {
        if to.remaining() < RECORD {
            return Err(Errno::EINVAL);
        }
        let thread = reader()?;
        let first = match wait::take(&thread, self.mask()) {
            Some(info) => info,
            None if io.nonblocking => return Err(Errno::EAGAIN),
            None => {
                let arrived = &thread.process().signal_arrived;
                arrived.wait_interruptible(|| wait::take(&thread, self.mask()))?
            }
        };
        let mut done = to.write(&record(&first))?;
        while to.remaining() >= RECORD {
            let Some(next) = wait::take(&thread, self.mask()) else {
                break;
            };
            done += to.write(&record(&next))?;
        }
        Ok(done)
    }

    fn poll(&self, table: Option<&mut PollTable>) -> Events {
        let Ok(thread) = reader() else {
            return Events::empty();
        };
        if let Some(table) = table {
            table.add(&thread.process().signal_arrived);
        }
        let (private, shared) = state::pending(&thread);
        let is_pending = !private.union(shared).intersection(self.mask()).is_empty();
        if is_pending {
            Events::READABLE
        } else {
            Events::empty()
        }
    }

    fn info(&self, to: &mut dyn core::fmt::Write) -> core::fmt::Result {
        writeln!(to, "sigmask:\t{:016x}", self.mask().0)
    }
}

/// `struct signalfd_siginfo`.
fn record(info: &SigInfo) -> [u8; RECORD] {
    let mut out = [0; RECORD];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &u32::from(info.signal.number()).to_ne_bytes());
    put(4, &info.errno.to_ne_bytes());
    put(8, &info.code.to_ne_bytes());
    if let Some((pid, uid)) = info.sender() {
        put(12, &pid.to_ne_bytes());
        put(16, &uid.to_ne_bytes());
    }
    match &info.payload {
        Payload::Queued { value, .. } => {
            put(44, &value.to_ne_bytes()[..4]);
            put(48, &value.to_ne_bytes());
        }
        Payload::Timer { id, overrun, value } => {
            put(24, &id.to_ne_bytes());
            put(32, &overrun.to_ne_bytes());
            put(44, &value.to_ne_bytes()[..4]);
            put(48, &value.to_ne_bytes());
        }
        Payload::Child {
            status,
            utime,
            stime,
            ..
        } => {
            put(40, &status.to_ne_bytes());
            put(56, &utime.to_ne_bytes());
            put(64, &stime.to_ne_bytes());
        }
        Payload::Fault { addr } => put(72, &addr.to_ne_bytes()),
        Payload::Raw(raw) => {
            for (from, to, len) in raw_fields(info.code) {
                put(*to, &raw[*from..from + len]);
            }
        }
        Payload::Sender { .. } => {}
    }
    out
}

/// Where the fields of a `siginfo_t` whose bytes user space gave are from `si_pid` on, where they go, and how long
/// they are. The code tells which there are, as sigaction(2) has it.
fn raw_fields(code: i32) -> &'static [(usize, usize, usize)] {
    const SI_SIGIO: i32 = -5;
    match code {
        // Band and descriptor.
        1.. | SI_SIGIO => &[(0, 28, 4), (8, 20, 4)],
        // Timer, overrun, value as a number and as a pointer.
        code::SI_TIMER => &[(0, 24, 4), (4, 32, 4), (8, 44, 4), (8, 48, 8)],
        // Process and user.
        code::SI_USER => &[(0, 12, 4), (4, 16, 4)],
        // These, and the value.
        ..0 => &[(0, 12, 4), (4, 16, 4), (8, 44, 4), (8, 48, 8)],
    }
}

fn sys_signalfd(cx: &mut Context<'_>) -> Result<u64> {
    create(cx, 0)
}

fn sys_signalfd4(cx: &mut Context<'_>) -> Result<u64> {
    create(cx, cx.uint(3))
}

fn create(cx: &mut Context<'_>, flags: u32) -> Result<u64> {
    if flags & !(raw::O_CLOEXEC | raw::O_NONBLOCK) != 0 || cx.size(2) != size_of::<u64>() {
        return Err(Errno::EINVAL);
    }
    let mask = SignalSet(user::read(cx.addr(1))?).without(SignalSet::UNMASKABLE);
    if cx.int(0) != -1 {
        let file = usable_file(cx, cx.int(0))?;
        let existing: &SignalFd = file.downcast().ok_or(Errno::EINVAL)?;
        *existing.mask.lock() = mask;
        return Ok(u64::from(cx.uint(0)));
    }
    let open = OpenFlags::from_open(flags);
    let kept = (open & OpenFlags::NONBLOCK) | OpenFlags::RDWR;
    let ops = try_arc(SignalFd {
        mask: SpinLock::new(mask),
    })?;
    let inode = AnonymousInode::file_like("[signalfd]")?;
    let file = File::anonymous(inode, ops, kept, cx.credentials())?;
    install(cx, file, open.contains(OpenFlags::CLOEXEC))
}
