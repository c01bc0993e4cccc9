//! System calls that are not there: counted by number, so that the operator can be told.

use core::sync::atomic::{AtomicU32, Ordering};

use crate::table::LIMIT;

static COUNTS: [AtomicU32; LIMIT] = [const { AtomicU32::new(0) }; LIMIT];
/// Calls with a number beyond the table.
static BEYOND: AtomicU32 = AtomicU32::new(0);

/// Counts one call of `number`; true when it was the first.
pub(crate) fn count(number: u64) -> bool {
    let counter = usize::try_from(number)
        .ok()
        .and_then(|index| COUNTS.get(index))
        .unwrap_or(&BEYOND);
    counter.fetch_add(1, Ordering::Relaxed) == 0
}

/// What was asked for and is not there: number and how often. Numbers that no Linux has are
/// summed up under `u16::MAX`.
pub fn report() -> impl Iterator<Item = (u16, u32)> {
    let listed = COUNTS.iter().enumerate().filter_map(|(number, counter)| {
        let count = counter.load(Ordering::Relaxed);
        let number = u16::try_from(number).ok()?;
        (count > 0).then_some((number, count))
    });
    let beyond = BEYOND.load(Ordering::Relaxed);
    listed.chain((beyond > 0).then_some((u16::MAX, beyond)))
}
