//! /proc/PID/limits.

use core::fmt::Write;

use abi::Result;

use super::scope::Scope;
use super::text::Text;
use crate::rlimit::{INFINITY, Limits, Resource};

const LINES: [(&str, Resource, &str); 16] = [
    ("Max cpu time", Resource::Cpu, "seconds"),
    ("Max file size", Resource::FileSize, "bytes"),
    ("Max data size", Resource::Data, "bytes"),
    ("Max stack size", Resource::Stack, "bytes"),
    ("Max core file size", Resource::Core, "bytes"),
    ("Max resident set", Resource::ResidentSet, "bytes"),
    ("Max processes", Resource::Processes, "processes"),
    ("Max open files", Resource::OpenFiles, "files"),
    ("Max locked memory", Resource::LockedMemory, "bytes"),
    ("Max address space", Resource::AddressSpace, "bytes"),
    ("Max file locks", Resource::Locks, "locks"),
    ("Max pending signals", Resource::PendingSignals, "signals"),
    ("Max msgqueue size", Resource::MessageQueue, "bytes"),
    ("Max nice priority", Resource::Nice, ""),
    ("Max realtime priority", Resource::RealtimePriority, ""),
    ("Max realtime timeout", Resource::RealtimeTime, "us"),
];

pub(super) fn text(scope: &Scope, to: &mut Text) -> Result<()> {
    Ok(write_limits(scope.process()?.limits(), to)?)
}

pub(super) fn write_limits(limits: &Limits, to: &mut dyn Write) -> core::fmt::Result {
    writeln!(
        to,
        "{:<25} {:<20} {:<20} {:<10}",
        "Limit", "Soft Limit", "Hard Limit", "Units"
    )?;
    for (name, resource, unit) in LINES {
        let limit = limits.get(resource);
        write!(to, "{name:<25} ")?;
        for value in [limit.soft, limit.hard] {
            match value {
                INFINITY => write!(to, "{:<20} ", "unlimited")?,
                value => write!(to, "{value:<20} ")?,
            }
        }
        writeln!(to, "{unit:<10}")?;
    }
    Ok(())
}
