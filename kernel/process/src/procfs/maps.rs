//! /proc/PID/maps.

use core::fmt::Write;

use abi::Result;
use collections::Vec;
use machine::UserAddr;
use memory::{AddressSpace, AreaFlags, AreaInfo, Prot};

use super::scope::Scope;
use super::text::Text;

pub(super) fn text(scope: &Scope, to: &mut Text) -> Result<()> {
    for_each_area(scope, |_, area| write_line(to, area))
}

/// Where names begin in a line.
pub(super) const NAME_COLUMN: usize = 73;

/// Areas that are looked at with the address space locked once.
const AT_ONCE: usize = 64;

/// Calls `act` for each area of the process, which the caller may look into, and offers the CPU in between.
pub(super) fn for_each_area(
    scope: &Scope,
    mut act: impl FnMut(&AddressSpace, &AreaInfo) -> Result<()>,
) -> Result<()> {
    let Some(memory) = scope.memory()? else {
        return Ok(());
    };
    let mut from = UserAddr(0);
    loop {
        let areas = memory.areas_from(from, AT_ONCE)?;
        let Some(last) = areas.last() else {
            return Ok(());
        };
        from = last.range.end;
        for area in &areas {
            act(&memory, area)?;
        }
        sched::cond_resched();
    }
}

/// One line: addresses, permissions, offset, device, inode, name at column 73.
///
/// # Errors
/// `ENOMEM`: a process may have very many.
pub(super) fn write_line(to: &mut Text, area: &AreaInfo) -> Result<()> {
    let flag = |is_set: bool, letter: char| if is_set { letter } else { '-' };
    let (device, ino) = area
        .origin
        .as_ref()
        .map_or(((0, 0), 0), |origin| origin.identity());
    let start = to.len();
    let is_shared = area.flags.contains(AreaFlags::SHARED);
    write!(
        to,
        "{:08x}-{:08x} {}{}{}{} {:08x} {:02x}:{:02x} {ino} ",
        area.range.start.0,
        area.range.end.0,
        flag(area.prot.contains(Prot::READ), 'r'),
        flag(area.prot.contains(Prot::WRITE), 'w'),
        flag(area.prot.contains(Prot::EXEC), 'x'),
        if is_shared { 's' } else { 'p' },
        area.offset,
        device.0,
        device.1,
    )?;
    let name = name_of(area)?;
    if !name.is_empty() {
        while to.len() - start < NAME_COLUMN {
            to.push(b" ")?;
        }
    }
    // A name with a line break must not look like two lines.
    for line in name.split_inclusive(|byte| *byte == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(line) => {
                to.push(line)?;
                to.push(b"\\012")?;
            }
            None => to.push(line)?,
        }
    }
    to.push(b"\n")
}

fn name_of(area: &AreaInfo) -> Result<Vec<u8>> {
    if let Some(origin) = &area.origin {
        return origin.path();
    }
    let name: &[u8] = if area.flags.contains(AreaFlags::HEAP) {
        b"[heap]"
    } else if area.flags.contains(AreaFlags::STACK) {
        b"[stack]"
    } else {
        b""
    };
    Ok(Vec::try_from_slice(name)?)
}
