//! /proc/PID/maps.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use abi::{Errno, Result};
use memory::{AreaFlags, AreaInfo, Prot};

use super::scope::Scope;

pub(super) fn text(scope: &Scope) -> Result<Vec<u8>> {
    scope.check_access()?;
    let mut text = Vec::new();
    if let Some(memory) = scope.process()?.memory() {
        for area in memory.areas()? {
            push_line(&mut text, &area)?;
        }
    }
    Ok(text)
}

/// One line: addresses, permissions, offset, device, inode, name at column 73.
///
/// # Errors
/// `ENOMEM`: a process may have very many.
pub(super) fn push_line(text: &mut Vec<u8>, area: &AreaInfo) -> Result<()> {
    const NAME_COLUMN: usize = 73;
    let flag = |is_set: bool, letter: char| if is_set { letter } else { '-' };
    let (device, ino) = area
        .origin
        .as_ref()
        .map_or(((0, 0), 0), |origin| origin.identity());
    let mut line = String::new();
    // A string takes whatever is written.
    let _ = write!(
        line,
        "{:08x}-{:08x} {}{}{}{} {:08x} {:02x}:{:02x} {ino}",
        area.range.start.0,
        area.range.end.0,
        flag(area.prot.contains(Prot::READ), 'r'),
        flag(area.prot.contains(Prot::WRITE), 'w'),
        flag(area.prot.contains(Prot::EXEC), 'x'),
        if area.flags.contains(AreaFlags::SHARED) {
            's'
        } else {
            'p'
        },
        area.offset,
        device.0,
        device.1,
    );
    let name = name_of(area);
    if !name.is_empty() {
        while line.len() < NAME_COLUMN {
            line.push(' ');
        }
    }
    // A line break takes four bytes.
    text.try_reserve(line.len() + 4 * name.len() + 1)
        .map_err(|_| Errno::ENOMEM)?;
    text.extend_from_slice(line.as_bytes());
    for byte in name {
        // A name with a line break must not look like two lines.
        match byte {
            b'\n' => text.extend_from_slice(b"\\012"),
            byte => text.push(byte),
        }
    }
    text.push(b'\n');
    Ok(())
}

fn name_of(area: &AreaInfo) -> Vec<u8> {
    if let Some(origin) = &area.origin {
        return origin.path();
    }
    if area.flags.contains(AreaFlags::HEAP) {
        return b"[heap]".to_vec();
    }
    if area.flags.contains(AreaFlags::STACK) {
        return b"[stack]".to_vec();
    }
    Vec::new()
}
