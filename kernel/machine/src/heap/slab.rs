//! Objects of a few sizes cut from pages: the policy of the heap's small allocations.
//!
//! A [`Class`] has the pages that have free objects; a page whose objects are all free is given back, but for one a
//! class. In front of the classes each CPU has a [`Stock`] of free objects, linked through their first words.
//! Pages come from a [`Pages`], and a page's state is in its frame's metadata, so that the policy is tested on the host.
//!
//! Locking: the caller's: a class under its lock, a stock with interrupts off on its CPU.

use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use crate::addr::PAGE_SIZE;
use crate::frame::meta::Meta;

/// Object sizes; alignment is the size's own largest power of two, so powers of two only but for
/// three sizes that many objects have.
pub(crate) const SIZES: [usize; 11] = [16, 32, 64, 96, 128, 192, 256, 384, 512, 1024, 2048];
/// All sizes and all places in a page are multiples of it.
const UNIT: usize = 16;
/// Pages without an object in use that a class keeps.
const SPARE: u32 = 1;
const NO_OBJECT: u16 = u16::MAX;
const NO_PAGE: u32 = u32::MAX;

/// The class of each size in units, rounded up.
static CLASS_OF: [u8; 2048 / UNIT + 1] = classes();

const fn classes() -> [u8; 2048 / UNIT + 1] {
    let mut table = [0; 2048 / UNIT + 1];
    let (mut units, mut class) = (1, 0);
    while units < table.len() {
        if units * UNIT > SIZES[class as usize] {
            class += 1;
        }
        table[units] = class;
        units += 1;
    }
    table
}

/// The class whose objects are so large and so aligned. `None` for what needs pages of its own.
pub(crate) fn class_of(size: usize, align: usize) -> Option<usize> {
    let wanted = if align <= UNIT { size } else { size.max(align) };
    let class = usize::from(*CLASS_OF.get(wanted.div_ceil(UNIT))?);
    if align <= UNIT {
        return Some(class);
    }
    // 96, 192 and 384 are aligned to 32, 64 and 128.
    (class..SIZES.len()).find(|class| SIZES[*class].is_multiple_of(align))
}

/// Where the memory of a layout comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// An object of this class.
    Object(usize),
    /// So many pages.
    Pages {
        count: usize,
        /// Frames beside each other will do: what is there is aligned to its size rounded up to a power of two.
        beside: bool,
        /// Virtually contiguous memory will do: it is aligned to a page, no further.
        mapped: bool,
    },
}

/// Up to so many pages, frames beside each other are tried first.
const FEW_PAGES: usize = 8;

/// Where memory so large and so aligned comes from, and goes back to.
pub(crate) fn place_of(size: usize, align: usize) -> Place {
    match class_of(size, align) {
        Some(class) => Place::Object(class),
        None => {
            let count = size.max(align).div_ceil(PAGE_SIZE);
            Place::Pages {
                count,
                beside: count <= FEW_PAGES,
                mapped: align <= PAGE_SIZE,
            }
        }
    }
}

/// How many objects a stock keeps of a class, and how many go between it and the class at once.
pub(crate) fn stock_of(class: usize) -> (u32, u32) {
    if SIZES[class] <= 384 { (16, 8) } else { (4, 2) }
}

/// Where pages come from. Pages are frame numbers.
///
/// # Safety
/// A page that `take` gave is a page of memory at `at(page)` that is the slab's alone until `give`, with metadata whose
/// `owner` and `index` nobody else uses; `page_of` is the inverse for all addresses in it.
pub(crate) unsafe trait Pages {
    fn take(&self) -> Option<u32>;
    fn give(&self, page: u32);
    fn at(&self, page: u32) -> NonNull<u8>;
    fn page_of(&self, object: NonNull<u8>) -> u32;
    fn meta(&self, page: u32) -> &Meta;
}

/// What a page's metadata says of it.
#[derive(Debug, Clone, Copy)]
struct State {
    /// The first of its free objects, in units from its start; each has the next in its first two bytes.
    free: u16,
    /// Objects from this one on were never used.
    fresh: u16,
    /// Objects that are out.
    used: u16,
    class: u16,
}

impl State {
    fn of(meta: &Meta) -> State {
        let word = meta.index.load(Ordering::Relaxed);
        let [free, fresh, used, class] =
            [0, 16, 32, 48].map(|shift| (word >> shift & 0xffff) as u16);
        State {
            free,
            fresh,
            used,
            class,
        }
    }

    fn store(self, meta: &Meta) {
        let parts = [self.free, self.fresh, self.used, self.class];
        let word = parts
            .iter()
            .rev()
            .fold(0, |word, part| word << 16 | u64::from(*part));
        meta.index.store(word, Ordering::Relaxed);
    }
}

/// How a class of objects is used (/proc/slabinfo).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of an object.
    pub size: usize,
    /// Objects in use, or with a CPU for the next that wants one.
    pub out: usize,
    /// Pages.
    pub pages: usize,
    /// Objects that a page has room for.
    pub per_page: usize,
}

/// The pages of one class that have free objects. The class's number is the caller's to know.
#[derive(Debug)]
pub(crate) struct Class {
    first: u32,
    /// How many of them have no object in use.
    spare: u32,
    /// All of its pages, and the objects of them that are out.
    pages: u32,
    out: u32,
}

impl Class {
    pub(crate) const fn new() -> Self {
        Self {
            first: NO_PAGE,
            spare: 0,
            pages: 0,
            out: 0,
        }
    }

    /// How it is used.
    pub(crate) fn usage(&self, class: usize) -> Usage {
        Usage {
            size: SIZES[class],
            out: self.out as usize,
            pages: self.pages as usize,
            per_page: usize::from(per_page(class)),
        }
    }

    /// Moves up to `most` objects of one page to a stock, one at least. `None` when there is no page.
    pub(crate) fn fill(
        &mut self,
        pages: &impl Pages,
        class: usize,
        stock: &mut Stock,
        most: u32,
    ) -> Option<()> {
        if self.first == NO_PAGE {
            self.add_page(pages, class)?;
        }
        let (page, size) = (self.first, SIZES[class]);
        let (meta, start) = (pages.meta(page), pages.at(page));
        let mut state = State::of(meta);
        if state.used == 0 {
            self.spare -= 1;
        }
        for _ in 0..most {
            if state.used == per_page(class) {
                break;
            }
            let offset = if state.free == NO_OBJECT {
                state.fresh += 1;
                usize::from(state.fresh - 1) * size
            } else {
                usize::from(state.free) * UNIT
            };
            // SAFETY: `State` keeps offsets of whole objects inside the page.
            let object = unsafe { start.add(offset) };
            if state.free != NO_OBJECT {
                // SAFETY: a free object starts with the link that `give` wrote; objects are aligned to units.
                state.free = unsafe { object.cast::<u16>().read() };
            }
            state.used += 1;
            self.out += 1;
            // SAFETY: the object is of this class, and nobody's any more.
            unsafe { stock.give(object) };
        }
        state.store(meta);
        if state.used == per_page(class) {
            self.unlink(pages, page);
        }
        Some(())
    }

    /// Gives an object back.
    ///
    /// # Safety
    /// It came out of this class, and nobody uses it any more.
    pub(crate) unsafe fn give(&mut self, pages: &impl Pages, class: usize, object: NonNull<u8>) {
        let page = pages.page_of(object);
        let meta = pages.meta(page);
        let mut state = State::of(meta);
        assert!(
            usize::from(state.class) == class && state.used > 0,
            "an object was freed as what it is not"
        );
        // SAFETY: the object is free, long and aligned enough, and the slab's again.
        unsafe { object.cast::<u16>().write(state.free) };
        state.free = ((object.addr().get() & (PAGE_SIZE - 1)) / UNIT) as u16;
        state.used -= 1;
        self.out -= 1;
        state.store(meta);
        if state.used + 1 == per_page(class) {
            self.link(pages, page);
        }
        if state.used == 0 {
            self.spare += 1;
            if self.spare > SPARE {
                self.spare -= 1;
                self.pages -= 1;
                self.unlink(pages, page);
                pages.give(page);
            }
        }
    }

    fn add_page(&mut self, pages: &impl Pages, class: usize) -> Option<()> {
        let page = pages.take()?;
        let state = State {
            free: NO_OBJECT,
            fresh: 0,
            used: 0,
            class: class as u16,
        };
        state.store(pages.meta(page));
        self.spare += 1;
        self.pages += 1;
        self.link(pages, page);
        Some(())
    }

    fn link(&mut self, pages: &impl Pages, page: u32) {
        set_links(pages.meta(page), NO_PAGE, self.first);
        if self.first != NO_PAGE {
            let meta = pages.meta(self.first);
            set_links(meta, page, links(meta).1);
        }
        self.first = page;
    }

    fn unlink(&mut self, pages: &impl Pages, page: u32) {
        let (previous, next) = links(pages.meta(page));
        if next != NO_PAGE {
            let meta = pages.meta(next);
            set_links(meta, previous, links(meta).1);
        }
        if previous == NO_PAGE {
            self.first = next;
        } else {
            let meta = pages.meta(previous);
            set_links(meta, links(meta).0, next);
        }
    }
}

fn per_page(class: usize) -> u16 {
    (PAGE_SIZE / SIZES[class]) as u16
}

/// The neighbours of a page in its class's list.
fn links(meta: &Meta) -> (u32, u32) {
    let word = meta.owner.load(Ordering::Relaxed);
    ((word >> 32) as u32, word as u32)
}

fn set_links(meta: &Meta, previous: u32, next: u32) {
    let word = u64::from(previous) << 32 | u64::from(next);
    meta.owner.store(word, Ordering::Relaxed);
}

/// Free objects of one class on one CPU, linked through their first words.
#[derive(Debug)]
pub(crate) struct Stock {
    first: Option<NonNull<Link>>,
    count: u32,
}

#[derive(Debug)]
struct Link {
    next: Option<NonNull<Link>>,
}

impl Stock {
    pub(crate) const fn new() -> Self {
        Self {
            first: None,
            count: 0,
        }
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Calls `with` with each object.
    pub(crate) fn for_each(&self, mut with: impl FnMut(NonNull<u8>)) {
        let mut next = self.first;
        while let Some(object) = next {
            with(object.cast());
            // SAFETY: as in `take`.
            next = unsafe { object.read() }.next;
        }
    }

    /// Takes an object.
    pub(crate) fn take(&mut self) -> Option<NonNull<u8>> {
        let object = self.first?;
        // SAFETY: objects in the stock are its own, and `give` wrote their links.
        self.first = unsafe { object.read() }.next;
        self.count -= 1;
        Some(object.cast())
    }

    /// Keeps an object.
    ///
    /// # Safety
    /// It is an object of this stock's class that nobody uses any more.
    pub(crate) unsafe fn give(&mut self, object: NonNull<u8>) {
        let object: NonNull<Link> = object.cast();
        // SAFETY: the object is long and aligned enough for a link, and free.
        unsafe { object.write(Link { next: self.first }) };
        self.first = Some(object);
        self.count += 1;
    }
}

#[cfg(test)]
mod tests;
