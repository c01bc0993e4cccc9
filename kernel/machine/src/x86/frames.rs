//! Who called whom on the kernel stack that is in use: return addresses, by the chain of frame pointers. Builds without frame
//! pointers (all but those with `checks`) find nothing, or nonsense.

use core::arch::asm;

use super::stack;
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
