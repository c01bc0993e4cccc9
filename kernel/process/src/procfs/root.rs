//! The root folder of /proc.

use alloc::sync::Arc;
use core::fmt::Write;

use abi::{Errno, Result};
use collections::{TryCollect, Vec};
use fs::Inode;

use super::item::{Content, Dynamic, Item, Show};
use super::node::Node;
use super::scope::Scope;
use super::text::Text;
use super::{network, pid, sysctl, system, sysvipc};
use crate::task::numbers::PidNumber;
use crate::task::pid_namespace::PidNamespace;
use crate::task::{thread, tree};

static ITEMS: &[Item] = &[
    link("self", |scope, to| own_id(scope, false, to)),
    link("thread-self", |scope, to| own_id(scope, true, to)),
    link("mounts", |_, to| to.push(b"self/mounts")),
    Item::file("cgroups", |_, to| system::control_groups(to)),
    link("net", network::own_net),
    Item::file("cmdline", |_, to| system::command_line(to)),
    Item::file("cpuinfo", |_, to| system::cpuinfo(to)),
    Item::file("devices", |_, to| system::devices(to)),
    // Nothing is counted of disks, and there are no modules.
    Item::file("diskstats", |_, _| Ok(())),
    Item::file("filesystems", |_, to| system::filesystems(to)),
    Item::file("loadavg", |_, to| system::loadavg(to)),
    Item::file("meminfo", |_, to| system::meminfo(to)),
    Item::file("modules", |_, _| Ok(())),
    Item::file("partitions", |_, to| system::partitions(to)),
    Item {
        name: "slabinfo",
        mode: 0o400,
        content: Content::File(|_, to| system::slabinfo(to)),
    },
    Item::file("stat", |_, to| system::stat(to)),
    Item::file("swaps", |_, to| {
        to.push(b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")
    }),
    Item::file("uptime", |_, to| system::uptime(to)),
    Item::file("version", |_, to| system::version(to)),
    Item::file("vmstat", |_, to| system::vmstat(to)),
    Item::folder("sys", sysctl::ITEMS),
    Item::folder("sysvipc", sysvipc::ITEMS),
];

static ROOT: Item = Item {
    name: "",
    mode: 0o555,
    content: Content::Dynamic(ITEMS, &PROCESSES),
};

static PROCESSES: Dynamic = Dynamic {
    count: |_| tree::lock().process_count(),
    list: |scope| {
        let tree = tree::lock();
        let pids = scope.namespace().above(&tree, 0);
        let processes = pids.filter(|(_, pid)| pid.process(&tree).is_some());
        let seen: Vec<PidNumber> = processes.map(|(number, _)| number).try_collect()?;
        Ok(seen)
    },
    find: |scope, number| {
        let pid = scope.find(number)?;
        let process = pid.process_of(&tree::lock())?.pid().clone();
        let is_leader = Arc::ptr_eq(&process, &pid);
        let scope = scope.with_process(process);
        // Not listed, but as on Linux a thread's id is taken, too.
        Some(if is_leader {
            (&pid::FOLDER, scope)
        } else {
            (&pid::FOLDER, scope.seen_by_thread(pid))
        })
    },
};

/// The root's inode.
///
/// # Errors
/// `ENOMEM`.
pub(super) fn inode(namespace: PidNamespace) -> Result<Arc<dyn Inode>> {
    Ok(Node::new(&ROOT, Scope::of_namespace(namespace))?)
}

/// A link that is walked as text.
const fn link(name: &'static str, text: Show) -> Item {
    Item {
        name,
        mode: 0o777,
        content: Content::Text(text),
    }
}

fn own_id(scope: &Scope, is_thread: bool, to: &mut Text) -> Result<()> {
    let caller = thread::current().ok_or(Errno::ENOENT)?;
    let pid = scope.shown(caller.process().pid());
    if pid == 0 {
        return Err(Errno::ENOENT);
    }
    if is_thread {
        write!(to, "{pid}/task/{}", scope.shown(&caller.read_pid()))?;
    } else {
        write!(to, "{pid}")?;
    }
    Ok(())
}
