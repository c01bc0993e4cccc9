//! pipe, pipe2.

use abi::{Errno, Result};
use fs::OpenFlags;
use fs::pipe::pipe;
use machine::UserAddr;
use memory::user;

use super::descriptor_limit;
use crate::context::Context;
use crate::entry::Entry;

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(22, "pipe", sys_pipe),
    Entry::new(293, "pipe2", sys_pipe2),
];

fn sys_pipe(cx: &mut Context<'_>) -> Result<u64> {
    make(cx, cx.addr(0), OpenFlags::empty())
}

fn sys_pipe2(cx: &mut Context<'_>) -> Result<u64> {
    let flags: OpenFlags = cx.flags(1)?;
    // Packet mode (O_DIRECT) is not there; a pipe without it would join what must stay apart.
    if !(OpenFlags::CLOEXEC | OpenFlags::NONBLOCK).contains(flags) {
        return Err(Errno::EINVAL);
    }
    make(cx, cx.addr(0), flags)
}

fn make(cx: &mut Context<'_>, addr: UserAddr, flags: OpenFlags) -> Result<u64> {
    let (reader, writer) = pipe(flags, cx.credentials())?;
    let close_on_exec = flags.contains(OpenFlags::CLOEXEC);
    let limit = descriptor_limit(cx);
    let files = &mut cx.own.files;
    let read_fd = files.insert(reader, close_on_exec, limit)?;
    let write_fd = match files.insert(writer, close_on_exec, limit) {
        Ok(fd) => fd,
        Err(errno) => {
            drop(files.remove(read_fd));
            return Err(errno);
        }
    };
    if let Err(errno) = user::write(addr, &[read_fd, write_fd]) {
        drop(files.remove(read_fd));
        drop(files.remove(write_fd));
        return Err(errno);
    }
    Ok(0)
}
