//! The root folder of /proc.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{Errno, Result};
use fs::Inode;

use super::node::{Content, Dynamic, Item, Node};
use super::scope::Scope;
use super::{pid, sysctl, system};
use crate::pid_namespace::PidNamespace;
use crate::{Pid, thread, tree};

static ITEMS: &[Item] = &[
    link("self", |scope| own_id(scope, false)),
    link("thread-self", |scope| own_id(scope, true)),
    link("mounts", |_| Ok(b"self/mounts".to_vec())),
    Item::file("cmdline", |_| Ok(system::command_line())),
    Item::file("cpuinfo", |_| Ok(system::cpuinfo())),
    Item::file("devices", |_| Ok(system::devices())),
    Item::file("filesystems", |_| Ok(system::filesystems())),
    Item::file("loadavg", |_| Ok(system::loadavg())),
    Item::file("meminfo", |_| Ok(system::meminfo())),
    Item::file("partitions", |_| {
        Ok(b"major minor  #blocks  name\n\n".to_vec())
    }),
    Item::file("stat", |_| Ok(system::stat())),
    Item::file("swaps", |_| {
        Ok(b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".to_vec())
    }),
    Item::file("uptime", |_| Ok(system::uptime())),
    Item::file("version", |_| Ok(system::version())),
    Item::folder("sys", sysctl::ITEMS),
];

static ROOT: Item = Item {
    name: "",
    mode: 0o555,
    content: Content::Dynamic(ITEMS, &PROCESSES),
};

static PROCESSES: Dynamic = Dynamic {
    list: |scope| {
        let tree = tree::lock();
        let numbers = tree.nodes().map(|node| scope.shown(node.process.pid()));
        let mut seen: Vec<Pid> = crate::collect(numbers.filter(|number| *number > 0));
        seen.sort_unstable();
        Ok(seen)
    },
    find: |scope, number| {
        let process = tree::process(scope.find(number)?)?;
        Some((&pid::FOLDER, scope.with_process(process)))
    },
};

/// The root's inode.
pub(super) fn inode(namespace: &PidNamespace) -> Arc<dyn Inode> {
    Node::new(&ROOT, Scope::of_namespace(namespace.clone()))
}

/// A link that is walked as text.
const fn link(name: &'static str, text: fn(&Scope) -> Result<Vec<u8>>) -> Item {
    Item {
        name,
        mode: 0o777,
        content: Content::Text(text),
    }
}

fn own_id(scope: &Scope, is_thread: bool) -> Result<Vec<u8>> {
    let caller = thread::current().ok_or(Errno::ENOENT)?;
    let pid = scope.shown(caller.process().pid());
    if pid == 0 {
        return Err(Errno::ENOENT);
    }
    Ok(if is_thread {
        alloc::format!("{pid}/task/{}", scope.shown(caller.tid())).into_bytes()
    } else {
        alloc::format!("{pid}").into_bytes()
    })
}
