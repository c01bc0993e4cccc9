//! Address spaces: mmap and its relatives, and the memory of other processes.

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::Vec;
use fs::MountFlags;
use machine::UserAddr;
use memory::io::UserSlice;
use memory::{AddressSpace, AreaFlags, MapRequest, Prot};
use process::access::{self, By};
use process::exec;

use crate::context::Context;
use crate::entry::Entry;

/// The family's rows.
pub(crate) const CALLS: &[Entry] = &[
    Entry::new(9, "mmap", sys_mmap),
    Entry::new(10, "mprotect", sys_mprotect),
    Entry::new(11, "munmap", sys_munmap),
    Entry::new(12, "brk", sys_brk),
    Entry::new(25, "mremap", sys_mremap),
    Entry::new(26, "msync", sys_msync),
    Entry::new(27, "mincore", sys_mincore),
    Entry::new(28, "madvise", sys_madvise),
    Entry::new(149, "mlock", sys_mlock),
    Entry::new(150, "munlock", |cx| {
        space(cx)?.unlock(cx.addr(0), cx.arg(1)).map(|()| 0)
    }),
    Entry::new(151, "mlockall", |cx| {
        space(cx)?.lock_all(cx.uint(0), may_lock(cx)).map(|()| 0)
    }),
    Entry::new(152, "munlockall", |cx| space(cx)?.unlock_all().map(|()| 0)),
    Entry::new(216, "remap_file_pages", sys_remap_file_pages),
    Entry::new(310, "process_vm_readv", |cx| transfer(cx, Direction::Read)),
    Entry::new(311, "process_vm_writev", |cx| {
        transfer(cx, Direction::Write)
    }),
    Entry::new(325, "mlock2", sys_mlock2),
];

fn space(cx: &Context<'_>) -> Result<Arc<AddressSpace>> {
    cx.process().memory().ok_or(Errno::ENOMEM)
}

fn sys_mmap(cx: &mut Context<'_>) -> Result<u64> {
    let flags = cx.uint(3);
    if !MapRequest::is_anonymous(flags) && cx.arg(5).is_multiple_of(4096) {
        // A bad descriptor is told before anything else that is wrong.
        cx.own.files.get(cx.int(4))?;
    }
    let mut request = MapRequest::decode(cx.arg(0), cx.arg(1), cx.uint(2), flags, cx.arg(5))?;
    request.may_lock = may_lock(cx);
    if reads_as_code(cx, request.prot) {
        request.prot |= Prot::EXEC;
    }
    if !MapRequest::is_anonymous(flags) {
        add_file(cx, &mut request)?;
    }
    space(cx)?.map(request).map(|addr| addr.0)
}

fn add_file(cx: &Context<'_>, request: &mut MapRequest) -> Result<()> {
    let file = cx.own.files.get(cx.int(4))?;
    if file.is_path_only() {
        return Err(Errno::EBADF);
    }
    let mode = file.flags();
    let shared = request.flags.contains(AreaFlags::SHARED);
    let stores = shared && request.prot.contains(Prot::WRITE);
    if !mode.is_readable() || stores && !mode.is_writable() {
        return Err(Errno::EACCES);
    }
    if shared && !mode.is_writable() {
        request.max_prot -= Prot::WRITE;
    }
    let mount = file.path().map(|path| path.mount.flags());
    if mount.is_some_and(|flags| flags.contains(MountFlags::NOEXEC)) {
        if reads_as_code(cx, request.prot) {
            request.prot -= Prot::EXEC;
        }
        if request.prot.contains(Prot::EXEC) {
            return Err(Errno::EPERM);
        }
        request.max_prot -= Prot::EXEC;
    }
    request.source = Some(file.ops().page_source()?);
    file.accessed();
    request.origin = exec::origin_of(&file);
    Ok(())
}

fn sys_mprotect(cx: &mut Context<'_>) -> Result<u64> {
    const PROT_SEM: u32 = 8;
    const PROT_GROWSDOWN: u32 = 0x0100_0000;
    let bits = cx.uint(2);
    if cx.addr(0).is_page_aligned() && cx.arg(1) == 0 {
        return Ok(0);
    }
    let mut prot = Prot::from_bits(bits & !(PROT_SEM | PROT_GROWSDOWN)).ok_or(Errno::EINVAL)?;
    if reads_as_code(cx, prot) {
        prot |= Prot::EXEC;
    }
    let grows_down = bits & PROT_GROWSDOWN != 0;
    space(cx)?
        .protect(cx.addr(0), cx.arg(1), prot, grows_down)
        .map(|()| 0)
}

fn sys_munmap(cx: &mut Context<'_>) -> Result<u64> {
    space(cx)?.unmap(cx.addr(0), cx.arg(1)).map(|()| 0)
}

fn sys_brk(cx: &mut Context<'_>) -> Result<u64> {
    Ok(space(cx)?.brk(cx.addr(0)).0)
}

fn sys_mremap(cx: &mut Context<'_>) -> Result<u64> {
    let (old_len, new_len, flags) = (cx.arg(1), cx.arg(2), cx.uint(3));
    space(cx)?
        .remap(
            cx.addr(0),
            old_len,
            new_len,
            flags,
            cx.addr(4),
            may_lock(cx),
        )
        .map(|addr| addr.0)
}

fn sys_remap_file_pages(cx: &mut Context<'_>) -> Result<u64> {
    const MAP_NONBLOCK: u32 = 0x1_0000;
    if cx.arg(2) != 0 {
        return Err(Errno::EINVAL);
    }
    let populate = cx.uint(4) & MAP_NONBLOCK == 0;
    space(cx)?
        .show_other_pages(cx.addr(0), cx.arg(1), cx.arg(3), populate, may_lock(cx))
        .map(|()| 0)
}

fn sys_msync(cx: &mut Context<'_>) -> Result<u64> {
    space(cx)?
        .sync(cx.addr(0), cx.arg(1), cx.uint(2))
        .map(|()| 0)
}

fn sys_mincore(cx: &mut Context<'_>) -> Result<u64> {
    /// As much as one look answers: a page of answers.
    const STEP: u64 = 4096 * 4096;
    let space = space(cx)?;
    let (mut at, mut to, mut left) = (cx.addr(0), cx.addr(2), cx.arg(1));
    loop {
        let residency = space.residency(at, left.min(STEP))?;
        memory::user::write_bytes(to, &residency)?;
        if left <= STEP {
            return Ok(0);
        }
        left -= STEP;
        at = at.checked_add(STEP).ok_or(Errno::ENOMEM)?;
        to = to
            .checked_add(residency.len() as u64)
            .ok_or(Errno::EFAULT)?;
    }
}

fn sys_madvise(cx: &mut Context<'_>) -> Result<u64> {
    space(cx)?
        .advise(cx.addr(0), cx.arg(1), cx.uint(2))
        .map(|()| 0)
}

/// Whether the caller may lock more memory than its limit says.
fn may_lock(cx: &Context<'_>) -> bool {
    cx.credentials().capable(fs::Capabilities::IPC_LOCK)
}

/// `READ_IMPLIES_EXEC` of personality(2).
fn reads_as_code(cx: &Context<'_>, prot: Prot) -> bool {
    const READ_IMPLIES_EXEC: u32 = 0x040_0000;
    let personality = &cx.process().personality;
    prot.contains(Prot::READ)
        && personality.load(core::sync::atomic::Ordering::Relaxed) & READ_IMPLIES_EXEC != 0
}

fn sys_mlock(cx: &mut Context<'_>) -> Result<u64> {
    space(cx)?
        .lock(cx.addr(0), cx.arg(1), may_lock(cx), false)
        .map(|()| 0)
}

fn sys_mlock2(cx: &mut Context<'_>) -> Result<u64> {
    const MLOCK_ONFAULT: u32 = 1;
    let flags = cx.uint(2);
    if flags & !MLOCK_ONFAULT != 0 {
        return Err(Errno::EINVAL);
    }
    space(cx)?
        .lock(cx.addr(0), cx.arg(1), may_lock(cx), flags != 0)
        .map(|()| 0)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Read,
    Write,
}

/// The most pieces of one transfer (`UIO_MAXIOV`).
const MAX_PIECES: usize = 1024;

/// Reads an array of `struct iovec`.
///
/// # Errors
/// `EINVAL` when there are too many, or together too long; `EFAULT`.
fn read_pieces(addr: UserAddr, count: usize) -> Result<Vec<UserSlice>> {
    if count > MAX_PIECES {
        return Err(Errno::EINVAL);
    }
    let raw = memory::user::read_array::<[u64; 2]>(addr, count)?;
    let mut total = 0u64;
    let mut pieces = Vec::try_with_capacity(count)?;
    for [base, len] in raw {
        total = total
            .checked_add(len)
            .filter(|sum| *sum <= i64::MAX as u64)
            .ok_or(Errno::EINVAL)?;
        let len = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
        pieces.try_push(UserSlice {
            addr: UserAddr(base),
            len,
        })?;
    }
    Ok(pieces)
}

/// process_vm_readv(2) and process_vm_writev(2).
fn transfer(cx: &Context<'_>, direction: Direction) -> Result<u64> {
    if cx.arg(5) != 0 {
        return Err(Errno::EINVAL);
    }
    let own = read_pieces(cx.addr(1), cx.size(2))?;
    if own.iter().all(|piece| piece.len == 0) {
        return Ok(0);
    }
    let theirs = read_pieces(cx.addr(3), cx.size(4))?;
    if theirs.iter().all(|piece| piece.len == 0) {
        return Ok(0);
    }
    let target = cx.find_process(cx.int(0)).ok_or(Errno::ESRCH)?;
    let remote = access::memory_of(cx.thread, &target, By::Real)?.ok_or(Errno::ESRCH)?;
    let mut pairs = Pairs::new(&own, &theirs);
    let mut buffer = [0; 512];
    let mut done = 0u64;
    while let Some((here, there, len)) = pairs.next(buffer.len()) {
        if sched::thread::killed() {
            break;
        }
        let chunk = &mut buffer[..len];
        let copied = match direction {
            Direction::Read => {
                let got = remote.read_at(there, chunk, false);
                memory::user::write_some(here, &chunk[..got])
            }
            Direction::Write => memory::user::read_some(here, chunk)
                .map(|got| remote.write_at(there, &chunk[..got], false)),
        };
        sched::cond_resched();
        match copied {
            Ok(count) if count == len => done += count as u64,
            Ok(count) if done + count as u64 > 0 => return Ok(done + count as u64),
            _ if done > 0 => return Ok(done),
            _ => return Err(Errno::EFAULT),
        }
    }
    Ok(done)
}

/// Walks two lists of pieces side by side.
struct Pairs<'a> {
    own: &'a [UserSlice],
    theirs: &'a [UserSlice],
    /// Bytes of each list's first piece that are done.
    offsets: (usize, usize),
}

impl<'a> Pairs<'a> {
    fn new(own: &'a [UserSlice], theirs: &'a [UserSlice]) -> Self {
        Self {
            own,
            theirs,
            offsets: (0, 0),
        }
    }

    /// Where to copy next, and how much.
    fn next(&mut self, most: usize) -> Option<(UserAddr, UserAddr, usize)> {
        let (own, here) = front(&mut self.own, &mut self.offsets.0)?;
        let (theirs, there) = front(&mut self.theirs, &mut self.offsets.1)?;
        let len = own.min(theirs).min(most);
        self.offsets.0 += len;
        self.offsets.1 += len;
        Some((here, there, len))
    }
}

/// What is left of the first piece that is not done.
fn front(pieces: &mut &[UserSlice], offset: &mut usize) -> Option<(usize, UserAddr)> {
    while let Some((first, rest)) = pieces.split_first() {
        if *offset < first.len {
            let addr = UserAddr(first.addr.0.wrapping_add(*offset as u64));
            return Some((first.len - *offset, addr));
        }
        *pieces = rest;
        *offset = 0;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_different_lengths_are_walked_side_by_side() {
        let piece = |addr, len| UserSlice {
            addr: UserAddr(addr),
            len,
        };
        let own = [piece(100, 3), piece(200, 0), piece(300, 5)];
        let theirs = [piece(900, 6), piece(950, 9)];
        let mut pairs = Pairs::new(&own, &theirs);
        let mut steps = Vec::new();
        while let Some((here, there, len)) = pairs.next(4) {
            steps.try_push((here.0, there.0, len)).unwrap();
        }
        assert_eq!(steps, [(100, 900, 3), (300, 903, 3), (303, 950, 2)]);
    }
}
