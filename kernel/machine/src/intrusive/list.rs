//! A list in order of arrival.

use alloc::sync::Arc;
use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;

use super::{Link, NOWHERE, Pointer, at, new_number};

/// A doubly linked list: `left` is towards the front, `right` towards the back.
pub struct List<T: ?Sized> {
    number: u64,
    front: Pointer<T, ()>,
    back: Pointer<T, ()>,
    len: usize,
    _owns: PhantomData<Arc<T>>,
}

// SAFETY: its pointers stand for counted references to elements that are `Send + Sync`.
unsafe impl<T: ?Sized + Send + Sync> Send for List<T> {}
// SAFETY: as above; looking changes nothing.
unsafe impl<T: ?Sized + Send + Sync> Sync for List<T> {}

impl<T: ?Sized> fmt::Debug for List<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "List({} elements)", self.len)
    }
}

impl<T: ?Sized> Default for List<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: ?Sized> List<T> {
    /// An empty list.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            number: NOWHERE,
            front: None,
            back: None,
            len: 0,
            _owns: PhantomData,
        }
    }

    /// How many elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The link of an element that joins this list, which has a number from its first element on.
    fn claim(
        &mut self,
        item: Arc<T>,
        link: impl for<'a> Fn(&'a T) -> &'a Link<T>,
    ) -> Result<NonNull<Link<T>>, Arc<T>> {
        if self.number == NOWHERE {
            self.number = new_number();
        }
        let new = Link::claim(self.number, item, link)?;
        self.len += 1;
        Ok(new)
    }

    /// Adds an element at the back; `link` names the one of its links to use.
    ///
    /// # Errors
    /// The element, when that link is in a container already.
    pub fn push_back(
        &mut self,
        item: Arc<T>,
        link: impl for<'a> Fn(&'a T) -> &'a Link<T>,
    ) -> Result<(), Arc<T>> {
        let new = self.claim(item, link)?;
        at(&new).left.set(self.back);
        match &self.back {
            Some(back) => at(back).right.set(Some(new)),
            None => self.front = Some(new),
        }
        self.back = Some(new);
        Ok(())
    }

    /// Adds an element at the front; see [`Self::push_back`].
    ///
    /// # Errors
    /// The element, when that link is in a container already.
    pub fn push_front(
        &mut self,
        item: Arc<T>,
        link: impl for<'a> Fn(&'a T) -> &'a Link<T>,
    ) -> Result<(), Arc<T>> {
        let new = self.claim(item, link)?;
        at(&new).right.set(self.front);
        match &self.front {
            Some(front) => at(front).left.set(Some(new)),
            None => self.back = Some(new),
        }
        self.front = Some(new);
        Ok(())
    }

    /// The first element.
    #[must_use]
    pub fn front(&self) -> Option<&T> {
        at(self.front.as_ref()?).item()
    }

    /// Takes the first element.
    pub fn pop_front(&mut self) -> Option<Arc<T>> {
        self.take(self.front?)
    }

    /// Takes the first element for which `is_wanted`.
    pub fn take_first(&mut self, mut is_wanted: impl FnMut(&T) -> bool) -> Option<Arc<T>> {
        let mut next = self.front;
        while let Some(link) = next {
            if at(&link).item().is_some_and(&mut is_wanted) {
                return self.take(link);
            }
            next = at(&link).right.get();
        }
        None
    }

    /// Takes out the element whose link this is, if it is in this list.
    pub fn remove(&mut self, link: &Link<T>) -> Option<Arc<T>> {
        if link.is_in(self.number) {
            self.take(NonNull::from(link))
        } else {
            None
        }
    }

    /// Calls `look` with each element, first to last.
    pub fn for_each(&self, mut look: impl FnMut(&T)) {
        let mut next = self.front;
        while let Some(link) = next {
            if let Some(item) = at(&link).item() {
                look(item);
            }
            next = at(&link).right.get();
        }
    }

    fn take(&mut self, link: NonNull<Link<T>>) -> Option<Arc<T>> {
        let (left, right) = (at(&link).left.get(), at(&link).right.get());
        match &left {
            Some(left) => at(left).right.set(right),
            None => self.front = right,
        }
        match &right {
            Some(right) => at(right).left.set(left),
            None => self.back = left,
        }
        self.len -= 1;
        Link::release(link)
    }
}

impl<T: ?Sized> Drop for List<T> {
    fn drop(&mut self) {
        while self.pop_front().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Element {
        value: u32,
        links: [Link<Element>; 2],
    }

    fn element(value: u32) -> Arc<Element> {
        Arc::new(Element {
            value,
            links: [Link::new(), Link::new()],
        })
    }

    fn drain(list: &mut List<Element>) -> Vec<u32> {
        core::iter::from_fn(|| list.pop_front().map(|it| it.value)).collect()
    }

    #[test]
    fn order_of_arrival_and_removal_from_the_middle() {
        let mut list = List::new();
        let elements: Vec<_> = (0..5).map(element).collect();
        for it in &elements {
            assert!(list.push_back(it.clone(), |it| &it.links[0]).is_ok());
        }
        assert!(
            list.push_back(elements[3].clone(), |it| &it.links[0])
                .is_err()
        );
        assert_eq!(
            list.remove(&elements[2].links[0]).map(|it| it.value),
            Some(2)
        );
        assert!(list.remove(&elements[2].links[0]).is_none());
        assert_eq!(
            list.take_first(|it| it.value > 2).map(|it| it.value),
            Some(3)
        );
        assert_eq!(list.front().map(|it| it.value), Some(0));
        assert!(
            list.push_back(elements[2].clone(), |it| &it.links[0])
                .is_ok()
        );
        assert!(
            list.push_front(elements[3].clone(), |it| &it.links[0])
                .is_ok()
        );
        assert_eq!(list.len(), 5);
        assert_eq!(drain(&mut list), [3, 0, 1, 4, 2]);
        assert!(list.is_empty() && elements.iter().all(|it| Arc::strong_count(it) == 1));
    }

    #[test]
    fn an_element_is_in_two_lists_by_two_links() {
        let (mut a, mut b) = (List::new(), List::new());
        let it = element(7);
        assert!(a.push_back(it.clone(), |it| &it.links[0]).is_ok());
        assert!(b.push_back(it.clone(), |it| &it.links[1]).is_ok());
        assert!(
            a.remove(&it.links[1]).is_none(),
            "that link is in the other list"
        );
        assert!(it.links[0].is_linked() && it.links[1].is_linked());
        drop(a);
        assert!(!it.links[0].is_linked());
        assert_eq!(Arc::strong_count(&it), 2);
        drop(b);
        assert_eq!(Arc::strong_count(&it), 1);
    }
}
