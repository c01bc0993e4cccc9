//! Kernel stacks, each with an unmapped page below it. A few stacks of ended tasks are kept for new ones; the
//! memory of the others goes back.
//!
//! Locking: [`KEPT`], for a few instructions.

use core::ptr::NonNull;

use crate::addr::PAGE_SIZE;
use crate::fail;
use crate::frame::account::Charge;
use crate::frame::{Kind, OutOfMemory};
use crate::heap::vmalloc;
use crate::sync::IrqLock;

/// Pages of a kernel stack.
pub(crate) const PAGES: usize = 8;
/// Stacks that are kept: what a program that is started and ended over and over needs.
const MOST_KEPT: usize = 4;

/// Stacks without a task.
#[derive(Debug)]
struct Kept {
    stacks: [Option<Memory>; MOST_KEPT],
    count: usize,
}

static KEPT: IrqLock<Kept> = IrqLock::new(Kept {
    stacks: [const { None }; MOST_KEPT],
    count: 0,
});

/// A mapped stack.
#[derive(Debug)]
pub(crate) struct Stack {
    /// Gone only while the stack is dropped.
    memory: Option<Memory>,
    top: u64,
    /// Whose it is pays for it, not who had its frames first.
    _charge: Charge,
}

impl Stack {
    /// A stack with unknown contents.
    ///
    /// # Errors
    /// [`OutOfMemory`]; nothing stays behind.
    pub(crate) fn new() -> Result<Stack, OutOfMemory> {
        let charge = Charge::new(PAGES)?;
        let kept = KEPT.lock().take();
        let memory = match kept {
            Some(memory) => memory,
            None => {
                fail::check()?;
                Memory(vmalloc::take(PAGES, Kind::KernelStack)?)
            }
        };
        let top = (memory.0.addr().get() + PAGES * PAGE_SIZE) as u64;
        Ok(Stack {
            memory: Some(memory),
            top,
            _charge: charge,
        })
    }

    /// The address above its highest byte.
    pub(crate) fn top(&self) -> u64 {
        self.top
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let unkept = self
            .memory
            .take()
            .and_then(|memory| KEPT.lock().give(memory));
        // Without the lock.
        drop(unkept);
    }
}

/// Pages of the stacks that are kept.
pub(crate) fn pages_kept() -> usize {
    KEPT.lock().count * PAGES
}

/// Gives the stacks back that are kept.
pub(crate) fn release_kept() {
    loop {
        // Freed without the lock.
        let stack = KEPT.lock().take();
        if stack.is_none() {
            return;
        }
    }
}

impl Kept {
    fn take(&mut self) -> Option<Memory> {
        self.count = self.count.checked_sub(1)?;
        self.stacks[self.count].take()
    }

    /// Keeps a stack, or returns it.
    fn give(&mut self, memory: Memory) -> Option<Memory> {
        let Some(place) = self.stacks.get_mut(self.count) else {
            return Some(memory);
        };
        self.count += 1;
        place.replace(memory)
    }
}

/// The memory of a stack: its lowest byte.
#[derive(Debug)]
struct Memory(NonNull<u8>);

// SAFETY: the memory is the stack's alone, whichever CPU has it.
unsafe impl Send for Memory {}
// SAFETY: nothing is done through a shared reference.
unsafe impl Sync for Memory {}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: `Stack::new` took so many pages; whoever drops a stack does not run on it.
        unsafe { vmalloc::give(self.0, PAGES) };
    }
}
