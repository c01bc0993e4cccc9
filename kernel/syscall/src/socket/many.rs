//! Several messages in one call: sendmmsg(2), recvmmsg(2).

use abi::{Errno, Result};
use machine::UserAddr;
use memory::user;
use net::ReceiveFlags;

use super::message::{field, receive_flags, receive_message, send_message};
use super::socket;
use crate::context::Context;

/// Most messages of one sendmmsg(2).
const MESSAGES_MAX: u64 = 1024;
/// recvmmsg(2): do not wait after the first message.
const MSG_WAITFORONE: u32 = 0x10000;
/// Size of `struct mmsghdr`, and where it has the length.
const MANY_LEN: u64 = 64;
const MANY_COUNT_AT: u64 = 56;
const NS_PER_S: u64 = 1_000_000_000;

fn write_count(at: UserAddr, count: usize) -> Result<()> {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    user::write(field(at, MANY_COUNT_AT)?, &count)
}

/// sendmmsg(fd, messages, count, flags).
pub(super) fn sys_sendmmsg(cx: &mut Context<'_>) -> Result<u64> {
    let (socket, nonblocking) = socket(cx, 0)?;
    let flags = cx.uint(3);
    let count = u64::from(cx.uint(2)).min(MESSAGES_MAX);
    let mut at = cx.addr(1);
    for done in 0..count {
        let step = send_message(cx, &socket, nonblocking, at, flags)
            .and_then(|(len, is_whole)| write_count(at, len).map(|()| is_whole));
        match step {
            // What is left of a message must not come behind the next one.
            Ok(false) => return Ok(done + 1),
            Ok(true) => {}
            Err(_) if done > 0 => return Ok(done),
            Err(errno) => return Err(errno),
        }
        at = field(at, MANY_LEN)?;
        sched::cond_resched();
    }
    Ok(count)
}

/// recvmmsg(fd, messages, count, flags, timeout). The time-out is looked at between messages.
pub(super) fn sys_recvmmsg(cx: &mut Context<'_>) -> Result<u64> {
    let timeout_at = cx.optional_addr(4);
    let deadline = timeout_at.map(read_deadline).transpose()?;
    let (socket, nonblocking) = socket(cx, 0)?;
    let bits = cx.uint(3);
    let mut flags = receive_flags(bits, nonblocking)?;
    if let Some(errno) = socket.take_error() {
        return Err(errno);
    }
    let count = u64::from(cx.uint(2));
    let mut at = cx.addr(1);
    let (mut done, mut left_ns) = (0, 0);
    while done < count {
        let step = receive_message(cx, &socket, at, flags);
        if let Err(errno) = step.and_then(|len| write_count(at, len)) {
            if done == 0 {
                return Err(errno);
            }
            if errno != Errno::EAGAIN {
                // Told by the next call.
                socket.set_error(errno);
            }
            break;
        }
        done += 1;
        at = field(at, MANY_LEN)?;
        if bits & MSG_WAITFORONE != 0 {
            flags |= ReceiveFlags::DONTWAIT;
        }
        if let Some(deadline) = deadline {
            left_ns = deadline.saturating_sub(sched::clock::monotonic_ns());
            if left_ns == 0 {
                break;
            }
        }
        sched::cond_resched();
    }
    // What was left of the time-out at the last message.
    if let Some(at) = timeout_at.filter(|_| done > 0) {
        user::write(at, &[left_ns / NS_PER_S, left_ns % NS_PER_S])?;
    }
    Ok(done)
}

fn read_deadline(at: UserAddr) -> Result<u64> {
    let [seconds, nanoseconds]: [i64; 2] = user::read(at)?;
    let seconds = u64::try_from(seconds).map_err(|_| Errno::EINVAL)?;
    let nanoseconds = u64::try_from(nanoseconds).map_err(|_| Errno::EINVAL)?;
    if nanoseconds >= NS_PER_S {
        return Err(Errno::EINVAL);
    }
    let timeout = seconds.saturating_mul(NS_PER_S).saturating_add(nanoseconds);
    Ok(sched::clock::monotonic_ns().saturating_add(timeout))
}
