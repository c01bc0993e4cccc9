//! /proc/PID/net and /proc/sys/net: of the network that a process, or who reads, is in.

use alloc::sync::Arc;
use core::fmt::Write;

use abi::{Errno, Result};
use net::NetNamespace;
use net::inet::setting::{self, Setting};
use net::inet::show::{self, Table};

use super::item::{Content, Item};
use super::scope::Scope;
use super::text::Text;
use crate::namespace;
use crate::task::thread;

/// A table of the process's network. A macro, because an [`Item`] holds plain function pointers.
macro_rules! table {
    ($name:literal, $table:ident) => {
        Item::file($name, |scope, to| {
            show::write(&scope.thread()?.network().get()?, Table::$table, to)
        })
    };
}

/// /proc/PID/net.
pub(super) static TABLES: &[Item] = &[
    table!("arp", Arp),
    table!("dev", Dev),
    table!("if_inet6", IfInet6),
    table!("route", Route),
    table!("snmp", Snmp),
    table!("sockstat", Sockstat),
    table!("sockstat6", Sockstat6),
    table!("tcp", Tcp),
    table!("tcp6", Tcp6),
    table!("udp", Udp),
    table!("udp6", Udp6),
];

macro_rules! setting {
    ($name:literal, $setting:ident) => {
        Item {
            name: $name,
            mode: 0o644,
            content: Content::Writable(
                |_, to| show_setting(Setting::$setting, to),
                |_, from| change(Setting::$setting, from),
            ),
        }
    };
}

/// /proc/sys/net.
pub(super) static SETTINGS: &[Item] = &[
    Item::folder("core", CORE),
    Item::folder("ipv4", IPV4),
    Item::folder("ipv6", IPV6),
];

static CORE: &[Item] = &[
    Item::file("optmem_max", |_, to| Ok(writeln!(to, "20480")?)),
    Item::file("rmem_default", |_, to| Ok(writeln!(to, "212992")?)),
    Item::file("rmem_max", |_, to| Ok(writeln!(to, "212992")?)),
    setting!("somaxconn", MostBacklog),
    Item::file("wmem_default", |_, to| Ok(writeln!(to, "212992")?)),
    Item::file("wmem_max", |_, to| Ok(writeln!(to, "212992")?)),
];

static IPV4: &[Item] = &[
    Item::file("ip_forward", |_, to| Ok(writeln!(to, "0")?)),
    setting!("ip_local_port_range", PortRange),
    setting!("ip_unprivileged_port_start", FirstUnprivileged),
    setting!("tcp_max_tw_buckets", MostTimeWait),
];

static IPV6: &[Item] = &[setting!("bindv6only", OnlyV6)];

/// The network of who reads or writes.
fn own() -> Result<Arc<NetNamespace>> {
    namespace::current_net()
}

fn show_setting(which: Setting, to: &mut Text) -> Result<()> {
    let (first, second) = setting::get(&own()?, which)?;
    write!(to, "{first}")?;
    if let Some(second) = second {
        write!(to, "\t{second}")?;
    }
    Ok(writeln!(to)?)
}

fn change(which: Setting, from: &[u8]) -> Result<()> {
    let network = own()?;
    let is_allowed = thread::current().is_none_or(|caller| {
        let credentials = caller.credentials();
        credentials.ns_capable(network.owner(), fs::Capabilities::NET_ADMIN)
    });
    if !is_allowed {
        return Err(Errno::EPERM);
    }
    let text = core::str::from_utf8(from).map_err(|_| Errno::EINVAL)?;
    let mut numbers = [None; 2];
    let mut words = text.split_ascii_whitespace();
    for number in &mut numbers {
        if let Some(word) = words.next() {
            *number = Some(word.parse().map_err(|_| Errno::EINVAL)?);
        }
    }
    let first = numbers[0].ok_or(Errno::EINVAL)?;
    setting::set(&network, which, first, numbers[1])
}

/// The link /proc/net.
pub(super) fn own_net(_: &Scope, to: &mut Text) -> Result<()> {
    to.push(b"self/net")
}
