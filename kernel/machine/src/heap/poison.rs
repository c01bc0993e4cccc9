//! Marks in free objects, in builds with `checks`: an object that is freed twice, or changed while it is free, is found.
//!
//! A free object's second word is [`FREE`], and what follows is filled; its first word is the allocator's link.

use core::ptr::NonNull;

pub(super) const IS_ON: bool = cfg!(feature = "checks");
const FREE: u64 = 0x6b6b_f4ee_6b6b_f4ee;
const FILL: u8 = 0x6b;

/// Marks an object that nobody has used yet.
pub(super) fn fill(object: NonNull<u8>, size: usize) {
    if IS_ON {
        // SAFETY: the object is `size` bytes, 16 at least, and the allocator's.
        let second = unsafe { object.add(8) };
        // SAFETY: as above.
        unsafe { second.write_bytes(FILL, size - 8) };
        // SAFETY: as above; objects are aligned to 16 bytes.
        unsafe { second.cast::<u64>().write(FREE) };
    }
}

/// Marks an object that is freed.
pub(super) fn free(object: NonNull<u8>, size: usize) {
    if IS_ON {
        assert!(
            mark_of(object) != FREE,
            "an object of {size} bytes was freed twice"
        );
        fill(object, size);
    }
}

/// Looks at an object that is given out, and takes the mark away.
pub(super) fn check(object: NonNull<u8>, size: usize) {
    if IS_ON {
        assert!(
            mark_of(object) == FREE,
            "an object of {size} bytes was changed while it was free"
        );
        for offset in 16..size {
            // SAFETY: the object is `size` bytes, and the allocator's until it is given out.
            let at = unsafe { object.add(offset) };
            // SAFETY: as above.
            let byte = unsafe { at.read() };
            assert!(
                byte == FILL,
                "byte {offset} of an object of {size} bytes was changed while it was free"
            );
        }
        // SAFETY: as above.
        let second = unsafe { object.add(8) };
        // SAFETY: as above; objects are aligned to 16 bytes.
        unsafe { second.cast::<u64>().write(0) };
    }
}

fn mark_of(object: NonNull<u8>) -> u64 {
    // SAFETY: objects are 16 bytes at least, aligned to that.
    let second = unsafe { object.add(8) };
    // SAFETY: as above.
    unsafe { second.cast::<u64>().read() }
}
