//! /proc/PID/smaps and /proc/PID/smaps_rollup: what of each mapping is in memory.

use core::fmt::{self, Write};

use abi::Result;
use machine::PAGE_SIZE;
use memory::{AreaFlags, AreaInfo, Footprint, Prot};

use super::maps;
use super::scope::Scope;
use super::text::Text;

/// A block for each mapping.
pub(super) fn text(scope: &Scope, to: &mut Text) -> Result<()> {
    const PAGE_KIB: usize = PAGE_SIZE >> 10;
    maps::for_each_area(scope, |memory, area| {
        maps::write_line(to, area)?;
        let size = area.range.end.0 - area.range.start.0;
        write_size(to, "Size", size)?;
        write!(
            to,
            "KernelPageSize: {PAGE_KIB:>8} kB\nMMUPageSize:    {PAGE_KIB:>8} kB\n"
        )?;
        let footprint = memory.footprint(&area.range);
        write_footprint(to, &footprint, locked(area, &footprint))?;
        to.push(b"VmFlags:")?;
        write_flags(to, area)?;
        to.push(b"\n")
    })
}

/// One block for all of them.
pub(super) fn rollup(scope: &Scope, to: &mut Text) -> Result<()> {
    let mut sum = Footprint::default();
    let (mut locked_sum, mut range) = (0, None);
    maps::for_each_area(scope, |memory, area| {
        let footprint = memory.footprint(&area.range);
        locked_sum += locked(area, &footprint);
        let start = range.map_or(area.range.start.0, |(start, _)| start);
        range = Some((start, area.range.end.0));
        sum += footprint;
        Ok(())
    })?;
    let (start, end) = range.unwrap_or_default();
    let head = to.len();
    write!(to, "{start:08x}-{end:08x} ---p 00000000 00:00 0 ")?;
    while to.len() - head < maps::NAME_COLUMN {
        to.push(b" ")?;
    }
    to.push(b"[rollup]\n")?;
    Ok(write_footprint(to, &sum, locked_sum)?)
}

/// What of an area is kept in memory by mlock(2), as this process's share.
fn locked(area: &AreaInfo, footprint: &Footprint) -> u64 {
    if area.flags.contains(AreaFlags::LOCKED) {
        footprint.proportional
    } else {
        0
    }
}

fn write_size(to: &mut dyn Write, name: &str, bytes: u64) -> fmt::Result {
    writeln!(
        to,
        "{name}:{:>width$} kB",
        bytes >> 10,
        width = 23 - name.len()
    )
}

fn write_footprint(to: &mut dyn Write, footprint: &Footprint, locked: u64) -> fmt::Result {
    // Which pages were used lately is not told: nobody asks the page tables but who takes pages away.
    let lines = [
        ("Rss", footprint.resident),
        ("Pss", footprint.proportional),
        ("Pss_Dirty", footprint.proportional_dirty),
        ("Shared_Clean", footprint.shared_clean),
        ("Shared_Dirty", footprint.shared_dirty),
        ("Private_Clean", footprint.private_clean),
        ("Private_Dirty", footprint.private_dirty),
        ("Anonymous", footprint.anonymous),
        ("LazyFree", 0),
        ("AnonHugePages", footprint.large),
        ("ShmemPmdMapped", 0),
        ("FilePmdMapped", 0),
        ("Shared_Hugetlb", 0),
        ("Private_Hugetlb", 0),
        ("Swap", 0),
        ("SwapPss", 0),
        ("Locked", locked),
    ];
    lines
        .iter()
        .try_for_each(|(name, bytes)| write_size(to, name, *bytes))
}

/// Two letters for each flag that is set (proc(5), `VmFlags`). What a mapping may become is not told.
fn write_flags(to: &mut Text, area: &AreaInfo) -> Result<()> {
    let protections = [
        (Prot::READ, " rd"),
        (Prot::WRITE, " wr"),
        (Prot::EXEC, " ex"),
    ];
    let properties = [
        (AreaFlags::SHARED, " sh"),
        (AreaFlags::GROWS_DOWN, " gd"),
        (AreaFlags::LOCKED, " lo"),
        (AreaFlags::DONT_FORK, " dc"),
        (AreaFlags::NO_RESERVE, " nr"),
        (AreaFlags::WIPE_ON_FORK, " wf"),
        (AreaFlags::DONT_DUMP, " dd"),
    ];
    let protections = protections
        .iter()
        .filter(|(flag, _)| area.prot.contains(*flag));
    let properties = properties
        .iter()
        .filter(|(flag, _)| area.flags.contains(*flag));
    let names = protections.map(|(_, name)| *name);
    for name in names.chain(properties.map(|(_, name)| *name)) {
        to.push(name.as_bytes())?;
    }
    Ok(())
}
