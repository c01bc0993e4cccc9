//! Who called whom on the kernel stack that is in use.
//!
//! [`callers`] follows the chain of frame pointers, for builds that have them (those with `checks`); others find
//! nothing, or nonsense. [`Addresses`] takes every word for a return address that could be one: a reader sees the real
//! ones in their order, with stale ones between them, in every build.

use core::arch::asm;
use core::fmt;

use super::{layout, stack};
use crate::PAGE_SIZE;
use crate::heap::vmalloc;

/// The return addresses of up to `most` calls, the innermost first.
pub(crate) fn callers(most: usize) -> impl Iterator<Item = u64> {
    let mut frame: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rbp", out(reg) frame, options(nomem, nostack, preserves_flags)) };
    let here = core::ptr::from_ref(&frame).addr() as u64;
    let end = vmalloc::end_of(here, stack::PAGES).unwrap_or(0);
    let mut last = here;
    (0..most).map_while(move |_| {
        if frame <= last || frame + 16 > end || !frame.is_multiple_of(8) {
            return None;
        }
        last = frame;
        let words: *const [u64; 2] = core::ptr::with_exposed_provenance(frame as usize);
        // SAFETY: aligned, and between this function's own frame and the end of the stack that it runs on, which is
        // mapped; a frame pointer that is none gives nonsense.
        let [outer, caller] = unsafe { words.read_volatile() };
        frame = outer;
        Some(caller)
    })
}

/// What on the running task's stack, from this address on, looks like return addresses, as distances from the image's start.
#[derive(Debug)]
pub(crate) struct Addresses {
    pub(crate) from: u64,
}

impl Addresses {
    /// Words looked at: the innermost calls tell what is wrong, and the log may be a slow line.
    const MOST_WORDS: u64 = 512;

    /// Of the caller and what called it.
    #[inline(never)]
    pub(crate) fn here() -> Self {
        let here = 0_u64;
        Self {
            from: core::ptr::from_ref(&here).addr() as u64,
        }
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let image = layout::image();
        // 0 on a CPU that has no task yet.
        let top = crate::task::running_stack_top();
        let bottom = top.saturating_sub((stack::PAGES * PAGE_SIZE) as u64);
        if !(bottom..top).contains(&self.from) {
            // Another stack, as that of a double fault: its end is not known.
            return f.write_str(" (not on a task's stack)");
        }
        let end = top.min(self.from.saturating_add(Self::MOST_WORDS * 8));
        for at in (self.from..end.saturating_sub(7)).step_by(8) {
            let word: *const u64 = core::ptr::with_exposed_provenance(at as usize);
            // SAFETY: between an address on the running task's stack and the top of that, which is mapped.
            let word = unsafe { word.read_volatile() };
            if (image.text_start..image.text_end).contains(&word) {
                write!(f, " {:#x}", word.wrapping_sub(image.start))?;
            }
        }
        Ok(())
    }
}
