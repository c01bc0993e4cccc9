//! Kernel stacks, each with an unmapped page below it. Stacks of ended tasks are kept for new ones, so
//! nothing is ever unmapped.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use super::{layout, paging};
use crate::addr::PAGE_SIZE;
use crate::frame::OutOfMemory;
use crate::frame::bare::take_contiguous;
use crate::sync::IrqLock;

/// Bytes of a kernel stack.
pub(crate) const STACK_LEN: u64 = 32 * 1024;
/// Bytes from one stack to the next: the stack and a guard as long, so that it is aligned.
const SLOT_LEN: u64 = 2 * STACK_LEN;

static NEXT: AtomicU64 = AtomicU64::new(layout::STACKS_START);
static KEPT: IrqLock<Vec<u64>> = IrqLock::new(Vec::new());

/// A mapped stack.
#[derive(Debug)]
pub(crate) struct Stack {
    top: u64,
}

impl Stack {
    /// A stack with unknown contents.
    pub(crate) fn new() -> Result<Stack, OutOfMemory> {
        if let Some(top) = KEPT.lock().pop() {
            return Ok(Stack { top });
        }
        let phys = take_contiguous(STACK_LEN as usize / PAGE_SIZE).ok_or(OutOfMemory)?;
        let slot = NEXT.fetch_add(SLOT_LEN, Ordering::Relaxed);
        paging::map_kernel(slot + STACK_LEN, phys.0, STACK_LEN, paging::DATA)?;
        Ok(Stack {
            top: slot + SLOT_LEN,
        })
    }

    /// The address above its highest byte.
    pub(crate) fn top(&self) -> u64 {
        self.top
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let mut kept = KEPT.lock();
        if kept.try_reserve(1).is_ok() {
            kept.push(self.top);
        }
    }
}
