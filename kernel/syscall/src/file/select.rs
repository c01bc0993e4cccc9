//! select, pselect6.

use abi::{Errno, Result};
use collections::Vec;
use fs::Events;
use machine::UserAddr;
use memory::user;

use super::descriptor_limit;
use super::poll::{Watched, finish_masked, let_go, read_timeout, set_mask, wait};
use crate::context::Context;
use crate::entry::Entry;
use crate::structs::{Timespec, Timeval, deadline_after};

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(23, "select", sys_select),
    Entry::new(270, "pselect6", sys_pselect6),
];

const BITS: usize = 64;

/// Which events make a descriptor "readable", "writable", "exceptional" (select(2), "Correspondence").
const MEANINGS: [Events; 3] = [
    Events::IN
        .union(Events::RDNORM)
        .union(Events::RDBAND)
        .union(Events::HUP)
        .union(Events::ERR),
    Events::OUT
        .union(Events::WRNORM)
        .union(Events::WRBAND)
        .union(Events::ERR),
    Events::PRI,
];

fn sys_select(cx: &mut Context<'_>) -> Result<u64> {
    let timeout = cx.optional_addr(4);
    let deadline = match timeout {
        None => None,
        Some(addr) => {
            let ns = read_interval_ns(addr)?;
            Some(if ns == 0 { 0 } else { deadline_after(ns) })
        }
    };
    let result = select(cx, deadline);
    if let (Some(addr), Some(deadline)) = (timeout, deadline) {
        let left = deadline.saturating_sub(sched::clock::monotonic_ns());
        // A fault here is not an error.
        let _ = user::write(addr, &Timeval::from_ns(left));
    }
    match result {
        Err(Errno::ERESTARTSYS) => Err(Errno::ERESTARTNOHAND),
        result => result,
    }
}

/// A `struct timeval` whose microseconds may be more than a second's.
fn read_interval_ns(addr: UserAddr) -> Result<u64> {
    let [seconds, microseconds]: [i64; 2] = user::read(addr)?;
    let seconds = u64::try_from(seconds).map_err(|_| Errno::EINVAL)?;
    let microseconds = u64::try_from(microseconds).map_err(|_| Errno::EINVAL)?;
    Ok(seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(microseconds.saturating_mul(1000)))
}

fn sys_pselect6(cx: &mut Context<'_>) -> Result<u64> {
    let timeout = cx.optional_addr(4);
    let deadline = read_timeout(timeout)?;
    if let Some(addr) = cx.optional_addr(5) {
        let [mask, size]: [u64; 2] = user::read(addr)?;
        let mask = (mask != 0).then_some(UserAddr(mask));
        set_mask(cx, mask, usize::try_from(size).map_err(|_| Errno::EINVAL)?)?;
    }
    let result = select(cx, deadline);
    if let (Some(addr), Some(deadline)) = (timeout, deadline) {
        let left = deadline.saturating_sub(sched::clock::monotonic_ns());
        // A fault here is not an error.
        let _ = user::write(addr, &Timespec::from_ns(left));
    }
    finish_masked(cx, result)
}

/// Descriptor `fd`'s bit in the words of a set.
fn has(words: &[u64], fd: usize) -> bool {
    words
        .get(fd / BITS)
        .is_some_and(|word| word & (1 << (fd % BITS)) != 0)
}

fn select(cx: &Context<'_>, deadline_ns: Option<u64>) -> Result<u64> {
    let count = usize::try_from(cx.int(0)).map_err(|_| Errno::EINVAL)?;
    // Descriptors past the limit cannot be open; Linux cuts at the table's size.
    let count = count.min(descriptor_limit(cx));
    let words = count.div_ceil(BITS);
    let addrs = [
        cx.optional_addr(1),
        cx.optional_addr(2),
        cx.optional_addr(3),
    ];
    let mut sets: [Vec<u64>; 3] = Default::default();
    for (set, addr) in sets.iter_mut().zip(addrs) {
        if let Some(addr) = addr {
            *set = user::read_array(addr, words)?;
        }
    }
    let (fds, mut all) = watched(cx, &sets, count)?;
    wait(&mut all, deadline_ns)?;
    let mut total = 0;
    for ((set, addr), meaning) in sets.iter_mut().zip(addrs).zip(MEANINGS) {
        let Some(addr) = addr else { continue };
        let mut out = Vec::try_from_elem(0_u64, words)?;
        for (fd, found) in fds.iter().zip(&all) {
            if has(set, *fd) && found.found.intersects(meaning) {
                out[fd / BITS] |= 1 << (fd % BITS);
                total += 1;
            }
            sched::cond_resched();
        }
        for (at, word) in out.iter().enumerate() {
            user::write(UserAddr(addr.0 + at as u64 * 8), word)?;
        }
    }
    let_go(all);
    Ok(total)
}

/// The descriptors in any of the sets, and what is wanted of each.
fn watched<'a>(
    cx: &'a Context<'_>,
    sets: &[Vec<u64>; 3],
    count: usize,
) -> Result<(Vec<usize>, Vec<Watched<'a>>)> {
    let table = &cx.own.files;
    let (mut fds, mut all) = (Vec::new(), Vec::new());
    for fd in 0..count {
        if fd % BITS == 0 {
            sched::cond_resched();
        }
        let mut wanted = Events::empty();
        for (set, meaning) in sets.iter().zip(MEANINGS) {
            if has(set, fd) {
                wanted |= meaning;
            }
        }
        if !wanted.is_empty() {
            let number = i32::try_from(fd).map_err(|_| Errno::EBADF)?;
            fds.try_push(fd)?;
            all.try_push(Watched {
                file: Some(table.get(number)?),
                wanted,
                found: Events::empty(),
            })?;
        }
    }
    Ok((fds, all))
}
