//! /proc/PID/limits.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;

use abi::Result;

use super::scope::Scope;
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

pub(super) fn text(scope: &Scope) -> Result<Vec<u8>> {
    Ok(format_limits(scope.process()?.limits()).into_bytes())
}

pub(super) fn format_limits(limits: &Limits) -> String {
    let mut text = format!(
        "{:<25} {:<20} {:<20} {:<10}\n",
        "Limit", "Soft Limit", "Hard Limit", "Units"
    );
    let shown = |value: u64| match value {
        INFINITY => String::from("unlimited"),
        value => value.to_string(),
    };
    for (name, resource, unit) in LINES {
        let limit = limits.get(resource);
        // A string takes whatever is written.
        let _ = writeln!(
            text,
            "{name:<25} {:<20} {:<20} {unit:<10}",
            shown(limit.soft),
            shown(limit.hard)
        );
    }
    text
}
