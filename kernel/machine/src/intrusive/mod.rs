//! Containers whose links are inside their elements: adding one allocates nothing and cannot fail.
//!
//! An element is behind an [`Arc`] and has a [`Link`] for each container that it may be in at the same time;
//! a container holds a counted reference to each of its elements. [`List`] is in order of arrival,
//! [`Tree`] ordered by a key. A container is a plain value: whoever can change it has it alone (it is
//! behind a lock), and only that makes its elements' links change.

mod list;
mod tree;

pub use list::List;
pub use tree::Tree;

use alloc::sync::Arc;
use core::cell::Cell;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

/// No container.
const NOWHERE: u64 = 0;

type Pointer<T, K> = Option<NonNull<Link<T, K>>>;

/// An element's place in a container; `K` is the key of a [`Tree`].
pub struct Link<T: ?Sized, K = ()> {
    /// The number of the container that it is in. Who moves it from [`NOWHERE`] may use the cells, until
    /// the same container moves it back.
    owner: AtomicU64,
    parent: Cell<Pointer<T, K>>,
    left: Cell<Pointer<T, K>>,
    right: Cell<Pointer<T, K>>,
    /// Random, so that a tree is balanced.
    priority: Cell<u64>,
    key: Cell<Option<K>>,
    /// The counted reference to the element.
    item: Cell<Option<NonNull<T>>>,
}

// SAFETY: the cells are only used through `&mut` (changes) or `&` (looks) of the container that `owner` names, so
// its borrow rules are theirs; the elements are `Send + Sync` themselves.
unsafe impl<T: ?Sized + Send + Sync, K: Send + Sync> Sync for Link<T, K> {}
// SAFETY: as above; a link that is in a container does not move, because its element is behind an `Arc`.
unsafe impl<T: ?Sized + Send + Sync, K: Send + Sync> Send for Link<T, K> {}

impl<T: ?Sized, K> fmt::Debug for Link<T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link(in {})", self.owner.load(Ordering::Relaxed))
    }
}

impl<T: ?Sized, K> Default for Link<T, K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: ?Sized, K> Link<T, K> {
    /// A link that is in no container.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            owner: AtomicU64::new(NOWHERE),
            parent: Cell::new(None),
            left: Cell::new(None),
            right: Cell::new(None),
            priority: Cell::new(0),
            key: Cell::new(None),
            item: Cell::new(None),
        }
    }

    /// Whether it is in a container at this moment.
    #[must_use]
    pub fn is_linked(&self) -> bool {
        self.owner.load(Ordering::Acquire) != NOWHERE
    }

    fn is_in(&self, container: u64) -> bool {
        container != NOWHERE && self.owner.load(Ordering::Acquire) == container
    }

    /// Takes the element's link for `container`, with the reference; gives it back when the link is in use.
    fn claim(
        container: u64,
        item: Arc<T>,
        link_of: impl for<'a> Fn(&'a T) -> &'a Link<T, K>,
    ) -> Result<NonNull<Link<T, K>>, Arc<T>> {
        let link = link_of(&item);
        if link
            .owner
            .compare_exchange(NOWHERE, container, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            return Err(item);
        }
        // `link_of` borrows the link from the element, so it lasts as long as the reference that follows.
        let pointer = NonNull::from(link);
        let item = NonNull::new(Arc::into_raw(item).cast_mut());
        at(&pointer).item.set(item);
        Ok(pointer)
    }

    /// Ends the claim; the caller has taken the link out of its container's order.
    fn release(pointer: NonNull<Link<T, K>>) -> Option<Arc<T>> {
        let link = at(&pointer);
        link.parent.set(None);
        link.left.set(None);
        link.right.set(None);
        let item = link.item.take()?;
        link.owner.store(NOWHERE, Ordering::Release);
        // SAFETY: `claim` stored what `Arc::into_raw` gave, and `take` makes this the only use of it.
        Some(unsafe { Arc::from_raw(item.as_ptr()) })
    }

    fn item(&self) -> Option<&T> {
        // SAFETY: the container's reference keeps the element as long as the link is in it, and the container
        // is borrowed by whoever looks.
        self.item.get().map(|item| unsafe { item.as_ref() })
    }
}

/// The link at a pointer that a container holds, for as long as the caller keeps it in there.
fn at<T: ?Sized, K>(pointer: &NonNull<Link<T, K>>) -> &Link<T, K> {
    // SAFETY: containers only hold pointers to links of elements that they hold a reference to, and links are
    // shared (their cells are `Cell`s), never `&mut`.
    unsafe { pointer.as_ref() }
}

/// A number for a container that gets its first element.
fn new_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(NOWHERE + 1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
