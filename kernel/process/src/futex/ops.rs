//! The operations of futex(2) on user memory.

use abi::{Errno, Result};
use machine::UserAddr;
use memory::AddressSpace;

use super::table::{self, Key, Look};
use crate::restart::RestartBlock;
use crate::task::thread::Thread;

/// The key of the word at `addr` in the calling thread's address space.
fn key(addr: UserAddr, shared: bool) -> Result<Key> {
    if !addr.0.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    if addr >= UserAddr::LIMIT {
        return Err(Errno::EFAULT);
    }
    key_of(addr, shared)
}

/// The key of the futex word at `addr` in the calling thread's address space.
fn key_of(addr: UserAddr, shared: bool) -> Result<Key> {
    let kernel = sched::thread::current();
    let Some(memory) = kernel.memory() else {
        return Err(Errno::EFAULT);
    };
    let space = memory.downcast_ref::<AddressSpace>().ok_or(Errno::EFAULT)?;
    let own = space.serial();
    if !shared {
        return Ok(Key::Private(own, addr.0));
    }
    // Who says that others may be meant has to name memory that is there.
    space.frame_at(addr, false).ok_or(Errno::EFAULT)?;
    Ok(match space.shared_key(addr) {
        Some((source, offset)) => Key::Shared(source, offset),
        None => Key::Unshared(own, addr.0),
    })
}

/// Brings the page of a word in, so that a look under a lock succeeds.
fn resolve(addr: UserAddr) -> Result<()> {
    memory::user::read::<u32>(addr).map(drop)
}

fn look_for(addr: UserAddr, expected: u32) -> Result<Look> {
    match machine::user::load_u32(addr) {
        Ok(value) if value == expected => Ok(Look::Wait),
        Ok(_) => Err(Errno::EAGAIN),
        Err(_) => Ok(Look::Fault),
    }
}

/// FUTEX_WAIT and FUTEX_WAIT_BITSET: waits while the word holds `expected`. With `restartable` (a relative
/// timeout) an interrupted wait goes on with the time that is left.
///
/// # Errors
/// `EAGAIN` when the word differs, `ETIMEDOUT`, `EFAULT`, `EINVAL`, a restart code.
pub fn wait(
    thread: &Thread,
    addr: UserAddr,
    shared: bool,
    expected: u32,
    bitset: u32,
    deadline_ns: Option<u64>,
) -> Result<()> {
    if bitset == 0 {
        return Err(Errno::EINVAL);
    }
    let key = key(addr, shared)?;
    let look = || look_for(addr, expected);
    match table::wait(key, bitset, deadline_ns, look, || resolve(addr)) {
        Err(Errno::ERESTARTSYS) if deadline_ns.is_some() => {
            thread.set_restart(RestartBlock::Futex {
                addr,
                expected,
                bitset,
                shared,
                deadline_ns,
            });
            Err(Errno::ERESTART_RESTARTBLOCK)
        }
        other => other,
    }
}

/// Goes on with a wait that was interrupted.
///
/// # Errors
/// As [`wait`]; `EINTR` when `block` is not of a futex.
pub fn restart_wait(thread: &Thread, block: RestartBlock) -> Result<()> {
    let RestartBlock::Futex {
        addr,
        expected,
        bitset,
        shared,
        deadline_ns,
    } = block
    else {
        return Err(Errno::EINTR);
    };
    wait(thread, addr, shared, expected, bitset, deadline_ns)
}

/// FUTEX_WAKE and FUTEX_WAKE_BITSET; how many were woken.
///
/// # Errors
/// `EFAULT`, `EINVAL`.
pub fn wake(addr: UserAddr, shared: bool, count: usize, bitset: u32) -> Result<usize> {
    if bitset == 0 {
        return Err(Errno::EINVAL);
    }
    Ok(table::wake(key(addr, shared)?, count, bitset))
}

/// FUTEX_REQUEUE; woken and moved together.
///
/// # Errors
/// `EFAULT`, `EINVAL`.
pub fn requeue(
    from: UserAddr,
    to: UserAddr,
    shared: bool,
    wake: usize,
    requeue: usize,
) -> Result<usize> {
    let done = table::requeue(key(from, shared)?, key(to, shared)?, wake, requeue, || {
        Ok(Look::Wait)
    })?;
    Ok(done.map_or(0, |(woken, moved)| woken + moved))
}

/// FUTEX_CMP_REQUEUE: only if the word at `from` holds `expected`.
///
/// # Errors
/// `EAGAIN` when it does not, `EFAULT`, `EINVAL`.
pub fn compare_requeue(
    from: UserAddr,
    to: UserAddr,
    shared: bool,
    counts: (usize, usize),
    expected: u32,
) -> Result<usize> {
    loop {
        let keys = (key(from, shared)?, key(to, shared)?);
        let look = || look_for(from, expected);
        match table::requeue(keys.0, keys.1, counts.0, counts.1, look)? {
            Some((woken, moved)) => return Ok(woken + moved),
            None => resolve(from)?,
        }
    }
}

/// The encoded operation of FUTEX_WAKE_OP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WakeOp {
    op: u32,
    operand: u32,
    compare: u32,
    against: u32,
}

impl WakeOp {
    /// From the last argument of futex(2).
    ///
    /// # Errors
    /// `ENOSYS` for an operation or a comparison that is not there.
    pub fn decode(encoded: u32) -> Result<Self> {
        const SHIFT: u32 = 8;
        let field = |at: u32| {
            // Twelve bits, signed.
            let raw = (encoded >> at) & 0xfff;
            if raw & 0x800 != 0 {
                raw | 0xffff_f000
            } else {
                raw
            }
        };
        let op = encoded >> 28;
        let operand = field(12);
        let this = Self {
            op: op & 7,
            operand: if op & SHIFT != 0 {
                1 << (operand & 31)
            } else {
                operand
            },
            compare: (encoded >> 24) & 15,
            against: field(0),
        };
        if this.op > 4 || this.compare > 5 {
            return Err(Errno::ENOSYS);
        }
        Ok(this)
    }

    /// The word after the operation.
    #[must_use]
    pub fn apply(&self, old: u32) -> u32 {
        match self.op {
            0 => self.operand,
            1 => old.wrapping_add(self.operand),
            2 => old | self.operand,
            3 => old & !self.operand,
            _ => old ^ self.operand,
        }
    }

    /// Whether the word before satisfies the comparison.
    #[must_use]
    pub fn holds(&self, old: u32) -> bool {
        let (old, against) = (old.cast_signed(), self.against.cast_signed());
        match self.compare {
            0 => old == against,
            1 => old != against,
            2 => old < against,
            3 => old <= against,
            4 => old > against,
            _ => old >= against,
        }
    }
}

/// FUTEX_WAKE_OP: changes the word at `second`, wakes at `first`, and at `second` if its old value says so.
///
/// # Errors
/// `EFAULT`, `EINVAL`.
pub fn wake_op(
    first: UserAddr,
    second: UserAddr,
    shared: bool,
    counts: (usize, usize),
    op: WakeOp,
) -> Result<usize> {
    loop {
        let keys = (key(first, shared)?, key(second, shared)?);
        let changed = table::wake_two(keys, counts, || Ok(change_word(second, op)))?;
        match changed {
            Some(woken) => return Ok(woken),
            // Writable, not only readable.
            None => {
                let value = memory::user::read::<u32>(second)?;
                memory::user::compare_exchange_u32(second, value, value)?.ok();
            }
        }
    }
}

/// Applies `op` atomically; whether the comparison holds, or `None` when a fault has to be resolved.
fn change_word(addr: UserAddr, op: WakeOp) -> Option<bool> {
    let mut old = machine::user::load_u32(addr).ok()?;
    loop {
        match machine::user::compare_exchange_u32(addr, old, op.apply(old)).ok()? {
            Ok(previous) => return Some(op.holds(previous)),
            Err(actual) => old = actual,
        }
    }
}
