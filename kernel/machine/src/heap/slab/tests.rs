//! Slabs against a model: objects do not overlap, keep their bytes, and their pages come back.

use core::alloc::Layout;
use core::ptr::NonNull;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::vec::Vec;

use super::{Class, Pages, Place, SIZES, SPARE, Stock, class_of, place_of, stock_of};
use crate::addr::PAGE_SIZE;
use crate::frame::meta::Meta;

/// Pages of a block from std's allocator; the number is the place in it.
struct TestPages {
    block: NonNull<u8>,
    meta: Vec<Meta>,
    free: RefCell<Vec<u32>>,
}

impl TestPages {
    fn layout(count: usize) -> Layout {
        Layout::from_size_align(count * PAGE_SIZE, PAGE_SIZE).expect("a layout")
    }

    fn new(count: usize) -> Self {
        // SAFETY: the layout is not empty.
        let block = unsafe { std::alloc::alloc(Self::layout(count)) };
        Self {
            block: NonNull::new(block).expect("memory"),
            meta: (0..count).map(|_| Meta::default()).collect(),
            free: RefCell::new((0..u32::try_from(count).expect("few")).collect()),
        }
    }
}

impl Drop for TestPages {
    fn drop(&mut self) {
        // SAFETY: `new` allocated it with this layout.
        unsafe { std::alloc::dealloc(self.block.as_ptr(), Self::layout(self.meta.len())) };
    }
}

// SAFETY: a page is in `free` or with the slab, never both.
unsafe impl Pages for TestPages {
    fn take(&self) -> Option<u32> {
        self.free.borrow_mut().pop()
    }

    fn give(&self, page: u32) {
        self.free.borrow_mut().push(page);
    }

    fn at(&self, page: u32) -> NonNull<u8> {
        // SAFETY: pages are inside the block.
        unsafe { self.block.add(page as usize * PAGE_SIZE) }
    }

    fn page_of(&self, object: NonNull<u8>) -> u32 {
        let offset = object.addr().get() - self.block.addr().get();
        u32::try_from(offset / PAGE_SIZE).expect("few pages")
    }

    fn meta(&self, page: u32) -> &Meta {
        &self.meta[page as usize]
    }
}

/// Takes one object.
fn take(slab: &mut Class, pages: &TestPages, class: usize) -> Option<NonNull<u8>> {
    let mut stock = Stock::new();
    slab.fill(pages, class, &mut stock, 1)?;
    assert_eq!(stock.count(), 1);
    stock.take()
}

fn random(seed: &mut u64, end: usize) -> usize {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    (*seed >> 33) as usize % end
}

#[test]
fn classes_fit_their_layouts() {
    for size in 1..=2048 {
        for align in [1, 8, 16, 32, 64, 128, 1024, 2048] {
            let class = class_of(size, align).expect("a class");
            assert!(SIZES[class] >= size && SIZES[class].is_multiple_of(align));
            let smaller = SIZES[..class].iter();
            let fits = |it: &&usize| **it >= size && it.is_multiple_of(align);
            assert_eq!(smaller.filter(fits).count(), 0, "{size} {align}");
        }
    }
    assert_eq!((class_of(2049, 1), class_of(1, 4096)), (None, None));
}

#[test]
fn objects_keep_their_bytes_and_pages_come_back() {
    let mut seed = 0x9E37_79B9_7F4A_7C15;
    for (class, size) in SIZES.iter().enumerate() {
        let pages = TestPages::new(40);
        let mut slab = Class::new();
        let mut out: BTreeMap<usize, (NonNull<u8>, u8)> = BTreeMap::new();
        for round in 0..6000_u32 {
            // Grows for a while, then shrinks.
            let grows = random(&mut seed, 10) < if round % 2000 < 1000 { 7 } else { 3 };
            if grows {
                let Some(object) = take(&mut slab, &pages, class) else {
                    assert_eq!(out.len(), 40 * (PAGE_SIZE / size));
                    continue;
                };
                let at = object.addr().get();
                assert!(at.is_multiple_of(*size & size.wrapping_neg()));
                let before = out.range(..=at).next_back();
                assert!(before.is_none_or(|(other, _)| other + size <= at));
                let after = out.range(at..).next();
                assert!(after.is_none_or(|(other, _)| at + size <= *other));
                let byte = round as u8;
                // SAFETY: the object is `size` bytes and ours.
                unsafe { object.write_bytes(byte, *size) };
                out.insert(at, (object, byte));
            } else if !out.is_empty() {
                let at = *out.keys().nth(random(&mut seed, out.len())).expect("one");
                let (object, byte) = out.remove(&at).expect("it is there");
                for offset in 0..*size {
                    // SAFETY: as above.
                    let at = unsafe { object.add(offset) };
                    // SAFETY: as above; `at` is inside the object.
                    assert_eq!(unsafe { at.read() }, byte);
                }
                // SAFETY: it came from `take`, and is forgotten.
                unsafe { slab.give(&pages, class, object) };
            }
        }
        for (object, _) in out.into_values() {
            // SAFETY: it came from `take`, and is forgotten.
            unsafe { slab.give(&pages, class, object) };
        }
        assert_eq!(
            pages.free.borrow().len(),
            40 - SPARE as usize,
            "class of {size}"
        );
    }
}

#[test]
fn a_stock_returns_what_it_was_given() {
    let pages = TestPages::new(2);
    let (mut slab, mut stock) = (Class::new(), Stock::new());
    let (most, _) = stock_of(0);
    slab.fill(&pages, 0, &mut stock, most).expect("a page");
    let mut taken = Vec::new();
    stock.for_each(|object| taken.push(object));
    assert_eq!(stock.count(), most);
    for object in &taken {
        assert_eq!(stock.take(), Some(*object));
    }
    assert_eq!((stock.take(), stock.count()), (None, 0));
}

#[test]
fn what_is_aligned_to_more_than_a_page_is_never_mapped() {
    assert_eq!(place_of(100, 8), Place::Object(4));
    // What slots of mapped pages begin with is one that is not: their memory is aligned to a page.
    for (size, align, count, beside, mapped) in [
        (4096, 8, 1, true, true),
        (100, 4096, 1, true, true),
        (3 * 4096, 8192, 3, true, false),
        (100, 32768, 8, true, false),
        (1 << 20, 8, 256, false, true),
        (100, 65536, 16, false, false),
    ] {
        let expected = Place::Pages {
            count,
            beside,
            mapped,
        };
        assert_eq!(place_of(size, align), expected, "{size} aligned to {align}");
    }
}
