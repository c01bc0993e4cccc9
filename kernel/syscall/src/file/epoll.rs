//! epoll_create, epoll_ctl, epoll_wait and their kin.

use abi::raw::general as raw;
use abi::{Errno, Result};
use fs::epoll::{Epoll, Interest, Mode};
use fs::{Events, File};
use machine::UserAddr;
use memory::user;

use super::poll::{finish_masked, read_timeout, set_mask};
use super::{install, usable_file};
use crate::context::Context;
use crate::entry::Entry;
use crate::structs::deadline_after;

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(213, "epoll_create", sys_epoll_create),
    Entry::new(232, "epoll_wait", sys_epoll_wait),
    Entry::new(233, "epoll_ctl", sys_epoll_ctl),
    Entry::new(281, "epoll_pwait", sys_epoll_pwait),
    Entry::new(291, "epoll_create1", sys_epoll_create1),
    Entry::new(441, "epoll_pwait2", sys_epoll_pwait2),
];

/// Bytes of a packed `struct epoll_event`: events, then data.
const EVENT_SIZE: usize = 12;
/// Most events a call can ask for.
const EVENTS_MAX: usize = i32::MAX as usize / EVENT_SIZE;

fn sys_epoll_create(cx: &mut Context<'_>) -> Result<u64> {
    if cx.int(0) <= 0 {
        return Err(Errno::EINVAL);
    }
    install(cx, Epoll::create(cx.credentials())?, false)
}

fn sys_epoll_create1(cx: &mut Context<'_>) -> Result<u64> {
    let flags = cx.uint(0);
    if flags & !raw::EPOLL_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    install(cx, Epoll::create(cx.credentials())?, flags != 0)
}

fn instance(file: &File) -> Result<&Epoll> {
    file.downcast().ok_or(Errno::EINVAL)
}

fn sys_epoll_ctl(cx: &mut Context<'_>) -> Result<u64> {
    let operation = cx.uint(1);
    let interest = if operation == raw::EPOLL_CTL_DEL {
        None
    } else {
        let mut bytes = [0; EVENT_SIZE];
        user::read_bytes(cx.addr(3), &mut bytes)?;
        Some(decode(&bytes))
    };
    let epoll = usable_file(cx, cx.int(0))?;
    let fd = cx.int(2);
    let file = usable_file(cx, fd)?;
    if !file.ops().is_pollable() {
        return Err(Errno::EPERM);
    }
    let epoll = instance(&epoll)?;
    match (operation, interest) {
        (raw::EPOLL_CTL_ADD, Some(interest)) => epoll.add(fd, &file, check(interest)?)?,
        (raw::EPOLL_CTL_MOD, Some(interest)) => epoll.modify(fd, &file, interest)?,
        (raw::EPOLL_CTL_DEL, None) => epoll.remove(fd, &file)?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// With `EPOLLEXCLUSIVE` only some events and modes make sense.
fn check(interest: Interest) -> Result<Interest> {
    let events = Events::READABLE | Events::WRITABLE | Events::ALWAYS;
    let modes = Mode::EXCLUSIVE | Mode::EDGE | Mode::WAKEUP;
    let is_exclusive = interest.mode.contains(Mode::EXCLUSIVE);
    if is_exclusive && !(events.contains(interest.events) && modes.contains(interest.mode)) {
        return Err(Errno::EINVAL);
    }
    Ok(interest)
}

fn decode(bytes: &[u8; EVENT_SIZE]) -> Interest {
    let (mut events, mut data) = ([0; 4], [0; 8]);
    events.copy_from_slice(&bytes[..4]);
    data.copy_from_slice(&bytes[4..]);
    Interest::new(u32::from_ne_bytes(events), u64::from_ne_bytes(data))
}

fn sys_epoll_wait(cx: &mut Context<'_>) -> Result<u64> {
    wait(cx, deadline_ms(cx.int(3)))
}

fn sys_epoll_pwait(cx: &mut Context<'_>) -> Result<u64> {
    set_mask(cx, cx.optional_addr(4), cx.size(5))?;
    let result = wait(cx, deadline_ms(cx.int(3)));
    finish_masked(cx, result)
}

fn sys_epoll_pwait2(cx: &mut Context<'_>) -> Result<u64> {
    let deadline = read_timeout(cx.optional_addr(3))?;
    set_mask(cx, cx.optional_addr(4), cx.size(5))?;
    let result = wait(cx, deadline);
    finish_masked(cx, result)
}

fn deadline_ms(timeout: i32) -> Option<u64> {
    match timeout {
        0 => Some(0),
        ms => u64::try_from(ms)
            .ok()
            .map(|ms| deadline_after(ms * 1_000_000)),
    }
}

fn wait(cx: &Context<'_>, deadline_ns: Option<u64>) -> Result<u64> {
    let max = usize::try_from(cx.int(2))
        .ok()
        .filter(|max| *max > 0 && *max <= EVENTS_MAX);
    let max = max.ok_or(Errno::EINVAL)?;
    let file = usable_file(cx, cx.int(0))?;
    let to = cx.addr(1);
    let mut done = 0;
    instance(&file)?.wait(max, deadline_ns, &mut |events, data| {
        let mut bytes = [0; EVENT_SIZE];
        bytes[..4].copy_from_slice(&events.bits().to_ne_bytes());
        bytes[4..].copy_from_slice(&data.to_ne_bytes());
        user::write_bytes(UserAddr(to.0 + done * EVENT_SIZE as u64), &bytes)?;
        done += 1;
        Ok(())
    })?;
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_packed() {
        let bytes = [1, 0, 0, 0x80, 9, 0, 0, 0, 0, 0, 0, 0];
        let interest = decode(&bytes);
        assert_eq!(
            (interest.events, interest.mode, interest.data),
            (Events::IN, Mode::EDGE, 9)
        );
    }

    #[test]
    fn exclusive_interests_are_narrow() {
        let exclusive = Mode::EXCLUSIVE.bits();
        assert!(check(Interest::new(Events::IN.bits() | exclusive, 0)).is_ok());
        let one_shot = Mode::ONESHOT.bits();
        assert_eq!(
            check(Interest::new(exclusive | one_shot, 0)),
            Err(Errno::EINVAL)
        );
    }
}
