//! The table: every system call that there is, as data. `docs/syscalls.md` is written from it.
//!
//! Each family's file has a `CALLS` list; [`FAMILIES`] names them all. The dense array that dispatch
//! indexes is computed from it by the compiler, which also refuses a number given twice.

use crate::entry::{Entry, Handler};

/// System calls that belong together, in one file.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    /// What they are about, for the generated page.
    pub name: &'static str,
    /// The calls.
    pub calls: &'static [Entry],
}

/// Every family. Add yours here, and its calls in its own file.
pub const FAMILIES: &[Family] = &[
    Family {
        name: "Identity",
        calls: crate::identity::CALLS,
    },
    Family {
        name: "Processes",
        calls: crate::process::CALLS,
    },
    Family {
        name: "Namespaces",
        calls: crate::namespaces::CALLS,
    },
    Family {
        name: "Tracing",
        calls: crate::trace::CALLS,
    },
    Family {
        name: "Programs",
        calls: crate::exec::CALLS,
    },
    Family {
        name: "Signals",
        calls: crate::signal::CALLS,
    },
    Family {
        name: "Memory",
        calls: crate::memory::CALLS,
    },
    Family {
        name: "Futexes",
        calls: crate::futex::CALLS,
    },
    Family {
        name: "System V IPC",
        calls: crate::ipc::CALLS,
    },
    Family {
        name: "Sockets",
        calls: crate::socket::CALLS,
    },
    Family {
        name: "Time",
        calls: crate::time::CALLS,
    },
    Family {
        name: "Timers",
        calls: crate::timers::CALLS,
    },
    Family {
        name: "Credentials",
        calls: crate::credentials::CALLS,
    },
    Family {
        name: "Process settings",
        calls: crate::prctl::CALLS,
    },
    Family {
        name: "Filters of system calls",
        calls: crate::seccomp::CALLS,
    },
    Family {
        name: "Scheduling",
        calls: crate::scheduling::CALLS,
    },
    Family {
        name: "Priorities",
        calls: crate::priorities::CALLS,
    },
    Family {
        name: "Limits and usage",
        calls: crate::limits::CALLS,
    },
    Family {
        name: "System",
        calls: crate::system::CALLS,
    },
    Family {
        name: "Reading and writing",
        calls: crate::file::read_write::CALLS,
    },
    Family {
        name: "Opening and closing",
        calls: crate::file::open::CALLS,
    },
    Family {
        name: "Descriptors",
        calls: crate::file::descriptors::CALLS,
    },
    Family {
        name: "File control",
        calls: crate::file::fcntl::CALLS,
    },
    Family {
        name: "Locks",
        calls: crate::file::locks::CALLS,
    },
    Family {
        name: "File attributes",
        calls: crate::file::stat::CALLS,
    },
    Family {
        name: "Places",
        calls: crate::file::status::CALLS,
    },
    Family {
        name: "Changing attributes",
        calls: crate::file::attributes::CALLS,
    },
    Family {
        name: "Names",
        calls: crate::file::names::CALLS,
    },
    Family {
        name: "Directories",
        calls: crate::file::directories::CALLS,
    },
    Family {
        name: "Space and synchronisation",
        calls: crate::file::space::CALLS,
    },
    Family {
        name: "Extended attributes",
        calls: crate::file::xattr::CALLS,
    },
    Family {
        name: "Copying",
        calls: crate::file::copying::CALLS,
    },
    Family {
        name: "Mounts",
        calls: crate::file::mounts::CALLS,
    },
    Family {
        name: "Pipes",
        calls: crate::file::pipes::CALLS,
    },
    Family {
        name: "Polling",
        calls: crate::file::poll::CALLS,
    },
    Family {
        name: "Selecting",
        calls: crate::file::select::CALLS,
    },
    Family {
        name: "Epoll",
        calls: crate::file::epoll::CALLS,
    },
    Family {
        name: "Event files",
        calls: crate::file::events::CALLS,
    },
    Family {
        name: "Signal files",
        calls: crate::file::signalfd::CALLS,
    },
];

/// Every entry, family by family.
pub fn table() -> impl Iterator<Item = &'static Entry> {
    FAMILIES.iter().flat_map(|family| family.calls)
}

/// One more than the highest number that can be in the table.
pub(crate) const LIMIT: usize = 512;

/// The handlers by number.
pub(crate) static HANDLERS: [Option<Handler>; LIMIT] = handlers();

const fn handlers() -> [Option<Handler>; LIMIT] {
    let mut dense: [Option<Handler>; LIMIT] = [None; LIMIT];
    let mut family = 0;
    while family < FAMILIES.len() {
        let calls = FAMILIES[family].calls;
        let mut call = 0;
        while call < calls.len() {
            let number = calls[call].number as usize;
            assert!(dense[number].is_none(), "a system call is listed twice");
            dense[number] = Some(calls[call].handler);
            call += 1;
        }
        family += 1;
    }
    dense
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_reachable_by_its_number() {
        for entry in table() {
            assert!(
                HANDLERS[usize::from(entry.number)].is_some(),
                "{}",
                entry.name
            );
        }
    }

    #[test]
    fn names_are_listed_once() {
        let mut names: Vec<_> = table().map(|entry| entry.name).collect();
        names.sort_unstable();
        let before = names.len();
        names.dedup();
        assert_eq!(names.len(), before);
    }
}
