//! What this layer asks of address spaces beside mapping: keys of futexes, peak sizes.

use abi::{Errno, Result};
use machine::{PAGE_SIZE, UserAddr};
use memory::AddressSpace;

use crate::futex::Key;

/// The largest resident set there was, in bytes.
pub(crate) fn peak_resident(memory: &AddressSpace) -> u64 {
    memory.peak_resident() * PAGE_SIZE as u64
}

/// The key of the futex word at `addr` in the calling thread's address space.
pub(crate) fn futex_key(addr: UserAddr, shared: bool) -> Result<Key> {
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
