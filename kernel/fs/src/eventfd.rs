//! eventfd(2): a counter to wait for.

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::try_arc;
use machine::sync::SpinLock;
use memory::io::{IoReader, IoWriter};
use sched::WaitQueue;

use crate::anonymous::AnonymousInode;
use crate::cred::Credentials;
use crate::file::File;
use crate::file_ops::{FileOps, Io};
use crate::flags::OpenFlags;
use crate::poll::{Events, PollTable};

/// The largest count.
const MAX: u64 = u64::MAX - 1;

#[derive(Debug)]
struct EventFd {
    count: SpinLock<u64>,
    is_semaphore: bool,
    queue: WaitQueue,
}

/// An eventfd with `count`; a semaphore gives 1 a read.
///
/// # Errors
/// `ENOMEM`.
pub fn create(
    count: u64,
    is_semaphore: bool,
    flags: OpenFlags,
    credentials: &Arc<Credentials>,
) -> Result<Arc<File>> {
    memory::pressure::ensure_headroom()?;
    let ops = try_arc(EventFd {
        count: SpinLock::new(count),
        is_semaphore,
        queue: WaitQueue::new(),
    })?;
    let flags = (flags & OpenFlags::NONBLOCK) | OpenFlags::RDWR;
    File::anonymous(
        AnonymousInode::file_like("[eventfd]")?,
        ops,
        flags,
        credentials,
    )
}

impl EventFd {
    fn try_take(&self) -> Option<u64> {
        let mut count = self.count.lock();
        if *count == 0 {
            return None;
        }
        let taken = if self.is_semaphore { 1 } else { *count };
        *count -= taken;
        Some(taken)
    }

    fn try_add(&self, value: u64) -> Option<()> {
        let mut count = self.count.lock();
        let sum = count.checked_add(value).filter(|sum| *sum <= MAX)?;
        *count = sum;
        Some(())
    }
}

impl FileOps for EventFd {
    fn read(&self, to: &mut IoWriter<'_>, io: &Io) -> Result<usize> {
        if to.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let taken = match self.try_take() {
            Some(taken) => taken,
            None if io.nonblocking => return Err(Errno::EAGAIN),
            None => self.queue.wait_interruptible(|| self.try_take())?,
        };
        self.queue.wake_one();
        to.write(&taken.to_ne_bytes())
    }

    fn write(&self, from: &mut IoReader<'_>, io: &mut Io) -> Result<usize> {
        let mut bytes = [0; 8];
        if from.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        if from.read(&mut bytes)? < 8 {
            return Err(Errno::EFAULT);
        }
        let value = u64::from_ne_bytes(bytes);
        if value == u64::MAX {
            return Err(Errno::EINVAL);
        }
        match self.try_add(value) {
            Some(()) => {}
            None if io.nonblocking => return Err(Errno::EAGAIN),
            None => self.queue.wait_interruptible(|| self.try_add(value))?,
        }
        self.queue.wake_one();
        Ok(8)
    }

    fn poll(&self, table: Option<&mut PollTable>) -> Events {
        if let Some(table) = table {
            table.add(&self.queue);
        }
        let count = *self.count.lock();
        let mut events = Events::empty();
        // The man page's `POLLERR` on overflow needs the kernel itself to add; nothing here does.
        events.set(Events::IN, count > 0);
        events.set(Events::OUT, count < MAX);
        events
    }

    fn info(&self, to: &mut dyn core::fmt::Write) -> core::fmt::Result {
        writeln!(to, "eventfd-count: {:16x}", *self.count.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &File) -> Result<u64> {
        let mut bytes = [0; 8];
        file.read(&mut IoWriter::kernel(&mut bytes))?;
        Ok(u64::from_ne_bytes(bytes))
    }

    fn write(file: &File, value: u64) -> Result<usize> {
        file.write(&mut IoReader::kernel(&value.to_ne_bytes()))
    }

    fn make(count: u64, is_semaphore: bool) -> Arc<File> {
        create(
            count,
            is_semaphore,
            OpenFlags::NONBLOCK,
            &Arc::new(Credentials::root()),
        )
        .unwrap()
    }

    #[test]
    fn a_read_takes_everything_or_one() {
        let file = make(2, false);
        assert_eq!(write(&file, 3), Ok(8));
        assert_eq!((read(&file), read(&file)), (Ok(5), Err(Errno::EAGAIN)));
        let semaphore = make(2, true);
        assert_eq!((read(&semaphore), read(&semaphore)), (Ok(1), Ok(1)));
        assert_eq!(read(&semaphore), Err(Errno::EAGAIN));
    }

    #[test]
    fn the_counter_never_overflows() {
        let file = make(0, false);
        assert_eq!(write(&file, u64::MAX), Err(Errno::EINVAL));
        assert_eq!(write(&file, MAX), Ok(8));
        assert_eq!(write(&file, 1), Err(Errno::EAGAIN));
        assert_eq!(file.poll(None), Events::IN);
        assert_eq!(read(&file), Ok(MAX));
        assert_eq!(file.poll(None), Events::OUT);
    }

    #[test]
    fn short_buffers_are_refused() {
        let file = make(1, false);
        assert_eq!(
            file.read(&mut IoWriter::kernel(&mut [0; 7])),
            Err(Errno::EINVAL)
        );
        assert_eq!(
            file.write(&mut IoReader::kernel(&[0; 7])),
            Err(Errno::EINVAL)
        );
    }
}
