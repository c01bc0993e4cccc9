//! Pipes and FIFOs (pipe(7), fifo(7)): [`Pipe`] is the buffer and its ends' counts, [`PipeEnd`] an open end; this file
//! makes pipes without a name, [`fifo`] opens those with one.

use alloc::sync::Arc;

use abi::Result;
use collections::try_arc;

use crate::anonymous::AnonymousInode;
use crate::cred::Credentials;
use crate::file::File;
use crate::file_ops::FileOps;
use crate::flags::OpenFlags;

pub(crate) mod buffer;
mod end;
mod fifo;
mod ring;
#[cfg(test)]
mod tests;

pub use buffer::{PIPE_BUF, Pipe};
pub use end::PipeEnd;
pub(crate) use fifo::open_fifo;

/// Opens a pipe without a name again, through /proc/PID/fd: nobody is waited for.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn reopen(pipe: &Arc<Pipe>, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
    let end = PipeEnd::new(pipe, flags.is_readable(), flags.is_writable());
    Ok(try_arc(end)?)
}

/// Makes a pipe: the end to read from and the end to write to (pipe2(2)).
///
/// # Errors
/// `ENOMEM`.
pub fn pipe(flags: OpenFlags, credentials: &Arc<Credentials>) -> Result<(Arc<File>, Arc<File>)> {
    memory::pressure::ensure_headroom()?;
    let pipe = Pipe::new()?;
    let inode = AnonymousInode::of_pipe(&pipe, (credentials.fsuid, credentials.fsgid))?;
    let kept = flags & (OpenFlags::NONBLOCK | OpenFlags::DIRECT);
    let reader = try_arc(PipeEnd::new(&pipe, true, false))?;
    let writer = try_arc(PipeEnd::new(&pipe, false, true))?;
    Ok((
        File::anonymous(inode.clone(), reader, kept, credentials)?,
        File::anonymous(inode, writer, kept | OpenFlags::WRONLY, credentials)?,
    ))
}
