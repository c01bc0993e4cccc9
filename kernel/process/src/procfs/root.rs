//! The root folder of /proc.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{Errno, Result};
use fs::Inode;

use super::node::{Content, Dynamic, Item, Node};
use super::scope::Scope;
use super::{pid, sysctl, system};
use crate::{Pid, thread, tree};

static ITEMS: &[Item] = &[
    link("self", |_| own_id(false)),
    link("thread-self", |_| own_id(true)),
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
    list: |_| {
        Ok(tree::lock()
            .nodes()
            .map(|node| node.process.pid())
            .collect())
    },
    find: |_, number| Some((&pid::FOLDER, Scope::of_process(tree::process(number)?))),
};

/// The root's inode.
pub(super) fn inode() -> Arc<dyn Inode> {
    Node::new(&ROOT, Scope::default())
}

/// A link that is walked as text.
const fn link(name: &'static str, text: fn(&Scope) -> Result<Vec<u8>>) -> Item {
    Item {
        name,
        mode: 0o777,
        content: Content::Text(text),
    }
}

fn own_id(is_thread: bool) -> Result<Vec<u8>> {
    let caller = thread::current().ok_or(Errno::ENOENT)?;
    let pid: Pid = caller.process().pid();
    Ok(if is_thread {
        alloc::format!("{pid}/task/{}", caller.tid()).into_bytes()
    } else {
        alloc::format!("{pid}").into_bytes()
    })
}
