//! How many pages a page table has: each CPU counts what came and went on it, so that faults of one process on
//! several CPUs do not meet at one counter. Here is what is counted; the CPUs' counts are in `bare`.

#[cfg(target_os = "none")]
pub(super) mod bare;

/// Where the pages of files stand in a sum; below are all pages.
const FILES: u32 = 32;

/// A sum of pages and of those among them that are files', in one word. What came on one CPU and went on another
/// makes both of theirs wrong; together they are right.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum(pub(super) u64);

impl Sum {
    /// Of pages that came, `files` of them of files; of those that went, when they wrap.
    #[inline]
    pub(super) fn of(pages: usize, files: usize) -> Self {
        Sum((pages as u64).wrapping_add((files as u64) << FILES))
    }

    #[inline]
    pub(super) fn plus(self, other: Self) -> Self {
        Sum(self.0.wrapping_add(other.0))
    }

    /// All pages; none rather than fewer, which is seen of a page that went before it is seen that it came.
    pub(super) fn pages(self) -> usize {
        usize::try_from(self.low()).unwrap_or(0)
    }

    /// Pages of files.
    pub(super) fn files(self) -> usize {
        let files = self.0.wrapping_sub(i64::from(self.low()).cast_unsigned()) >> FILES;
        usize::try_from((files as u32).cast_signed()).unwrap_or(0)
    }

    fn low(self) -> i32 {
        (self.0 as u32).cast_signed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_several_cpus_are_right_together() {
        let gone = |pages: usize, files: usize| Sum::of(pages.wrapping_neg(), files.wrapping_neg());
        let (came, went) = (Sum::of(70, 9).plus(Sum::of(3, 1)), gone(71, 10));
        let all = came.plus(went);
        assert_eq!((all.pages(), all.files()), (2, 0));
        assert_eq!((came.pages(), came.files()), (73, 10));
        // The CPU on which they came was looked at too early.
        assert_eq!((went.pages(), went.files()), (0, 0));
        let half = Sum::of(5, 4).plus(gone(7, 2));
        assert_eq!((half.pages(), half.files()), (0, 2));
    }
}
