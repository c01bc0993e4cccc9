//! The table of a user namespace: ranges of its numbers and the kernel's ids that they stand for.

use core::fmt;

use abi::{Errno, Result};
use collections::Vec;

/// Lines of a table at most (`UID_GID_MAP_MAX_EXTENTS`).
pub const MOST_EXTENTS: usize = 340;

/// A line of /proc/PID/uid_map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The first number in the namespace.
    pub first: u32,
    /// What that is in the namespace above; in a table, the kernel's id.
    pub above: u32,
    /// How many.
    pub count: u32,
}

/// See the module. Empty until it is set.
#[derive(Debug, Default)]
pub(super) struct IdMap {
    extents: Vec<Extent>,
}

fn overlap(a: u32, b: u32, counts: (u32, u32)) -> bool {
    a < b + counts.1 && b < a + counts.0
}

/// Where `value` is in the `count` values from `first` on.
fn offset(value: u32, first: u32, count: u32) -> Option<u32> {
    value.checked_sub(first).filter(|offset| *offset < count)
}

impl IdMap {
    /// From lines in numbers of the namespace above, of which `above` gives the kernel's ids.
    pub(super) fn new(extents: &[Extent], above: impl Fn(u32) -> Option<u32>) -> Result<Self> {
        if extents.is_empty() || extents.len() > MOST_EXTENTS {
            return Err(Errno::EINVAL);
        }
        let mut checked = Vec::try_with_capacity(extents.len())?;
        for (index, extent) in extents.iter().enumerate() {
            let Extent {
                first,
                above: start,
                count,
            } = *extent;
            let fits = count > 0
                && first.checked_add(count).is_some()
                && start.checked_add(count).is_some();
            let meets = |other: &Extent| {
                let counts = (count, other.count);
                overlap(first, other.first, counts) || overlap(start, other.above, counts)
            };
            if !fits || extents[..index].iter().any(meets) {
                return Err(Errno::EINVAL);
            }
            let id = above(start).ok_or(Errno::EPERM)?;
            // All of it in one range there: what is beside each other stays so.
            if above(start + (count - 1)) != id.checked_add(count - 1) {
                return Err(Errno::EPERM);
            }
            checked.try_push(Extent {
                above: id,
                ..*extent
            })?;
        }
        Ok(Self { extents: checked })
    }

    /// Takes over `new`, if this was not set.
    pub(super) fn set(&mut self, new: Self) -> Result<()> {
        if !self.extents.is_empty() {
            return Err(Errno::EPERM);
        }
        *self = new;
        Ok(())
    }

    /// The kernel's id of a number.
    pub(super) fn down(&self, number: u32) -> Option<u32> {
        self.extents
            .iter()
            .find_map(|extent| Some(extent.above + offset(number, extent.first, extent.count)?))
    }

    /// The number of a kernel's id.
    pub(super) fn up(&self, id: u32) -> Option<u32> {
        self.extents
            .iter()
            .find_map(|extent| Some(extent.first + offset(id, extent.above, extent.count)?))
    }

    /// Writes the lines, with the kernel's ids as `shown` gives them.
    pub(super) fn write(&self, to: &mut dyn fmt::Write, shown: impl Fn(u32) -> u32) -> fmt::Result {
        self.extents
            .iter()
            .try_for_each(|e| write_line(to, e.first, shown(e.above), e.count))
    }
}

/// One line of a table.
pub(super) fn write_line(
    to: &mut dyn fmt::Write,
    first: u32,
    above: u32,
    count: u32,
) -> fmt::Result {
    writeln!(to, "{first:>10} {above:>10} {count:>10}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(u32, u32, u32)]) -> Result<IdMap> {
        let extents: std::vec::Vec<Extent> = lines
            .iter()
            .map(|&(first, above, count)| Extent {
                first,
                above,
                count,
            })
            .collect();
        IdMap::new(&extents, Some)
    }

    #[test]
    fn tables_with_a_flaw_are_refused() {
        for bad in [
            &[][..],
            &[(0, 0, 0)],
            &[(u32::MAX, 0, 2)],
            &[(0, u32::MAX, 2)],
            &[(0, 0, 5), (4, 100, 1)],
            &[(0, 0, 5), (10, 4, 1)],
        ] {
            assert_eq!(map(bad).err(), Some(Errno::EINVAL), "{bad:?}");
        }
        let many: std::vec::Vec<_> = (0..341).map(|n| (n, n, 1)).collect();
        assert_eq!(map(&many).err(), Some(Errno::EINVAL));
        assert!(map(&many[1..]).is_ok());
    }

    #[test]
    fn ranges_translate_both_ways() {
        let map = map(&[(0, 1000, 10), (10, 0, 1)]).unwrap();
        assert_eq!(
            (map.down(9), map.down(10), map.down(11)),
            (Some(1009), Some(0), None)
        );
        assert_eq!(
            (map.up(1000), map.up(1010), map.up(0)),
            (Some(0), None, Some(10))
        );
    }
}
