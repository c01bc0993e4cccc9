//! Collecting an iterator's items fallibly.

use alloc::boxed::Box;
use alloc::sync::Arc;

use crate::Result;
use crate::{Map, Set, String, Vec, VecDeque};

/// A collection that can be made from an iterator.
pub trait TryFromIterator<T>: Sized {
    /// Collects the items.
    ///
    /// # Errors
    /// `AllocError`; the items are dropped.
    fn try_from_iterator(items: impl IntoIterator<Item = T>) -> Result<Self>;
}

/// `try_collect` for all iterators.
pub trait TryCollect: Iterator + Sized {
    /// Collects the items: `let names: Vec<_> = words.try_collect()?`.
    ///
    /// # Errors
    /// `AllocError`; the items are dropped.
    fn try_collect<C: TryFromIterator<Self::Item>>(self) -> Result<C> {
        C::try_from_iterator(self)
    }
}

impl<I: Iterator> TryCollect for I {}

impl<T> TryFromIterator<T> for Vec<T> {
    fn try_from_iterator(items: impl IntoIterator<Item = T>) -> Result<Self> {
        let mut made = Vec::new();
        made.try_extend(items)?;
        Ok(made)
    }
}

impl<T> TryFromIterator<T> for VecDeque<T> {
    fn try_from_iterator(items: impl IntoIterator<Item = T>) -> Result<Self> {
        let mut made = VecDeque::new();
        made.try_extend(items)?;
        Ok(made)
    }
}

impl<K: Ord, V> TryFromIterator<(K, V)> for Map<K, V> {
    fn try_from_iterator(items: impl IntoIterator<Item = (K, V)>) -> Result<Self> {
        let mut made = Map::new();
        for (key, value) in items {
            made.try_insert(key, value)?;
        }
        Ok(made)
    }
}

impl<K: Ord> TryFromIterator<K> for Set<K> {
    fn try_from_iterator(items: impl IntoIterator<Item = K>) -> Result<Self> {
        let mut made = Set::new();
        for key in items {
            made.try_insert(key)?;
        }
        Ok(made)
    }
}

impl TryFromIterator<char> for String {
    fn try_from_iterator(items: impl IntoIterator<Item = char>) -> Result<Self> {
        let mut made = String::new();
        for character in items {
            made.try_push(character)?;
        }
        Ok(made)
    }
}

impl<T: Copy> TryFromIterator<T> for Arc<[T]> {
    fn try_from_iterator(items: impl IntoIterator<Item = T>) -> Result<Self> {
        let made: Vec<T> = items.into_iter().try_collect()?;
        crate::try_arc_slice(&made)
    }
}

/// The items' own errors come first: `Result<Vec<_>, E>` with `E: From<AllocError>`.
impl<T, E, C> TryFromIterator<core::result::Result<T, E>> for core::result::Result<C, E>
where
    C: TryFromIterator<T>,
{
    fn try_from_iterator(
        items: impl IntoIterator<Item = core::result::Result<T, E>>,
    ) -> Result<Self> {
        let mut failure = None;
        let good = items.into_iter().map_while(|item| match item {
            Ok(item) => Some(item),
            Err(error) => {
                failure = Some(error);
                None
            }
        });
        let made = C::try_from_iterator(good)?;
        Ok(failure.map_or(Ok(made), Err))
    }
}

impl<T> TryFromIterator<T> for Box<[T]> {
    fn try_from_iterator(items: impl IntoIterator<Item = T>) -> Result<Self> {
        let mut made: Vec<T> = items.into_iter().try_collect()?;
        // Without room to spare, the conversion does not allocate.
        made.try_shrink_to_fit()?;
        Ok(made.into_std().into_boxed_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::TryCollect;
    use crate::{AllocError, Map, Vec, testing};
    use std::boxed::Box;

    #[test]
    fn collects_or_tells() {
        let items: Vec<u32> = (0..5)
            .filter(|it| it % 2 == 0)
            .try_collect()
            .expect("memory");
        assert_eq!(items, [0, 2, 4]);
        let map: Map<u32, u32> = (0..100).map(|it| (it, it)).try_collect().expect("memory");
        assert_eq!(map.len(), 100);
        let boxed: Box<[u32]> = (0..5).try_collect().expect("memory");
        assert_eq!(*boxed, [0, 1, 2, 3, 4]);
        let first_error: Result<Vec<u8>, _> = [Ok(1), Err("bad"), Err("worse")]
            .into_iter()
            .try_collect()
            .expect("memory");
        assert_eq!(first_error, Err("bad"));
        testing::fail_nth(1);
        assert_eq!((0..5).try_collect::<Vec<u32>>(), Err(AllocError));
    }
}
