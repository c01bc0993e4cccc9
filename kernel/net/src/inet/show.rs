//! The tables of /proc/net: what a namespace's stack says of itself, in Linux's words.
//!
//! Sockets are gathered a few at a time, so that nobody else waits for the stack while text is made.

use alloc::sync::Arc;
use core::fmt::{self, Write};

use abi::{Errno, Result};
use collections::{String, Vec};
use fs::Kuid;

use super::ip::{Endpoint, Ip};
use super::slab::Id;
use super::stack::Stack;
use super::tcp::State;
use crate::namespace::NetNamespace;

/// Sockets that are gathered at once.
const BATCH: usize = 64;
/// Columns of a line of each table.
const TCP_WIDTH: usize = 149;
const UDP_WIDTH: usize = 127;

/// A table of /proc/net.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the file of that name")]
pub enum Table {
    Tcp,
    Tcp6,
    Udp,
    Udp6,
    Arp,
    Dev,
    Route,
    IfInet6,
    Sockstat,
    Sockstat6,
    Snmp,
}

/// Writes a table of `namespace`.
///
/// # Errors
/// `ENOMEM`.
pub fn write(namespace: &Arc<NetNamespace>, table: Table, to: &mut dyn Write) -> Result<()> {
    match table {
        Table::Tcp | Table::Tcp6 | Table::Udp | Table::Udp6 => sockets(namespace, table, to),
        Table::Dev => devices(namespace, to),
        Table::Route => routes(namespace, to),
        Table::IfInet6 => addresses(namespace, to),
        Table::Arp => neighbours(namespace, to),
        Table::Sockstat | Table::Sockstat6 => sockstat(namespace, table == Table::Sockstat6, to),
        Table::Snmp => snmp(namespace, to),
    }
}

/// Puts lines that were made under the stack's lock, of which there are few.
fn put(text: &str, to: &mut dyn Write) -> Result<()> {
    to.write_str(text).map_err(|_| Errno::ENOMEM)
}

fn devices(namespace: &Arc<NetNamespace>, to: &mut dyn Write) -> Result<()> {
    put(
        "Inter-|   Receive                                                |  Transmit\n",
        to,
    )?;
    put(
        " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n",
        to,
    )?;
    let mut text = String::new();
    namespace.look(|stack| {
        for interface in &stack.interfaces {
            let (got, sent) = (interface.received, interface.sent);
            let name = core::str::from_utf8(interface.name()).unwrap_or("?");
            let line = collections::try_format!(
                "{name:>6}: {:7} {:7} {:4} {:4} {:4} {:5} {:10} {:9} {:8} {:7} {:4} {:4} {:4} {:5} {:7} {:10}\n",
                got.bytes, got.packets, 0, got.dropped, 0, 0, 0, 0, sent.bytes, sent.packets, 0, sent.dropped, 0, 0, 0, 0
            )?;
            text.try_push_str(&line)?;
        }
        Ok::<(), Errno>(())
    })??;
    put(&text, to)
}

/// An IPv4 address as Linux shows it there.
fn word(ip: Ip) -> u32 {
    u32::from_ne_bytes(ip.to_v4())
}

fn mask(prefix: u8) -> Ip {
    Ip::v4(
        u32::MAX
            .checked_shl(32 - u32::from(prefix))
            .unwrap_or(0)
            .to_be_bytes(),
    )
}

fn routes(namespace: &Arc<NetNamespace>, to: &mut dyn Write) -> Result<()> {
    const UP: u16 = 1;
    const GATEWAY: u16 = 2;
    let head =
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT";
    put(&collections::try_format!("{head:<127}\n")?, to)?;
    let mut text = String::new();
    namespace.look(|stack| {
        for route in stack.routes.iter().filter(|route| route.target.is_v4()) {
            let Some(interface) = stack.interface(route.interface) else {
                continue;
            };
            let name = core::str::from_utf8(interface.name()).unwrap_or("?");
            let flags = if route.gateway.is_some() {
                UP | GATEWAY
            } else {
                UP
            };
            let line = collections::try_format!(
                "{name}\t{:08X}\t{:08X}\t{flags:04X}\t0\t0\t{}\t{:08X}\t0\t0\t0",
                word(route.target),
                word(route.gateway.unwrap_or(Ip::ANY4)),
                route.metric,
                word(mask(route.prefix))
            )?;
            text.try_push_str(&collections::try_format!("{line:<127}\n")?)?;
        }
        for interface in stack
            .interfaces
            .iter()
            .filter(|interface| interface.device.is_some() && interface.is_up)
        {
            let name = core::str::from_utf8(interface.name()).unwrap_or("?");
            for local in interface
                .addresses
                .iter()
                .filter(|local| local.ip.is_v4() && local.prefix < 32)
            {
                let network = word(local.ip) & word(mask(local.prefix));
                let line = collections::try_format!(
                    "{name}\t{network:08X}\t{:08X}\t{UP:04X}\t0\t0\t0\t{:08X}\t0\t0\t0",
                    0,
                    word(mask(local.prefix))
                )?;
                text.try_push_str(&collections::try_format!("{line:<127}\n")?)?;
            }
        }
        Ok::<(), Errno>(())
    })??;
    put(&text, to)
}

fn addresses(namespace: &Arc<NetNamespace>, to: &mut dyn Write) -> Result<()> {
    let mut text = String::new();
    namespace.look(|stack| {
        for interface in &stack.interfaces {
            let name = core::str::from_utf8(interface.name()).unwrap_or("?");
            for local in interface.addresses.iter().filter(|local| !local.ip.is_v4()) {
                let scope = if local.ip.is_loopback() {
                    0x10
                } else if local.ip.is_link_local() {
                    0x20
                } else {
                    0
                };
                let number = u128::from_be_bytes(local.ip.to_v6());
                let line = collections::try_format!(
                    "{number:032x} {:02x} {:02x} {scope:02x} 80 {name:>8}\n",
                    interface.index,
                    local.prefix
                )?;
                text.try_push_str(&line)?;
            }
        }
        Ok::<(), Errno>(())
    })??;
    put(&text, to)
}

fn neighbours(namespace: &Arc<NetNamespace>, to: &mut dyn Write) -> Result<()> {
    put(
        "IP address       HW type     Flags       HW address            Mask     Device\n",
        to,
    )?;
    let mut text = String::new();
    namespace.look(|stack| {
        for interface in &stack.interfaces {
            let name = core::str::from_utf8(interface.name()).unwrap_or("?");
            for (ip, [a, b, c, d, e, f], is_permanent) in interface.neighbours.iter().filter(|(ip, ..)| ip.is_v4()) {
                let flags = if is_permanent { 6 } else { 2 };
                let shown = collections::try_format!("{ip}")?;
                let line = collections::try_format!(
                    "{shown:<16} 0x1         0x{flags:<10x}{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}     *        {name}\n"
                )?;
                text.try_push_str(&line)?;
            }
        }
        Ok::<(), Errno>(())
    })??;
    put(&text, to)
}

/// A socket's line.
struct Row {
    number: u32,
    local: Endpoint,
    remote: Endpoint,
    state: u8,
    to_send: usize,
    to_read: usize,
    retries: u8,
    uid: Kuid,
    drops: u64,
}

fn sockets(namespace: &Arc<NetNamespace>, table: Table, to: &mut dyn Write) -> Result<()> {
    let is_v6 = matches!(table, Table::Tcp6 | Table::Udp6);
    let is_tcp = matches!(table, Table::Tcp | Table::Tcp6);
    let width = if is_v6 {
        0
    } else if is_tcp {
        TCP_WIDTH
    } else {
        UDP_WIDTH
    };
    let columns = if is_v6 {
        "local_address                         remote_address                       "
    } else {
        "local_address rem_address  "
    };
    let tail = if is_tcp { "" } else { " ref pointer drops" };
    let indent = if is_tcp { "  sl  " } else { "   sl  " };
    let full = |_: fmt::Error| Errno::ENOMEM;
    let head = collections::try_format!(
        "{indent}{columns} st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode{tail}"
    )?;
    writeln!(to, "{head:<width$}").map_err(full)?;
    let mut start = 0;
    let mut line_number = 0;
    loop {
        let mut rows = Vec::try_with_capacity(BATCH)?;
        let next = namespace.look(|stack| {
            if is_tcp {
                tcp_rows(stack, start, is_v6, &mut rows)
            } else {
                udp_rows(stack, start, is_v6, &mut rows)
            }
        })?;
        for row in &rows {
            let line = Line {
                row,
                line_number,
                is_v6,
                is_tcp,
            };
            let line = collections::try_format!("{line}")?;
            writeln!(to, "{line:<width$}").map_err(full)?;
            line_number += 1;
        }
        match next {
            Some(next) => start = next,
            None => return Ok(()),
        }
        sched::cond_resched();
    }
}

/// The sockets from number `start` on; where to go on.
fn tcp_rows(stack: &Stack, start: usize, is_v6: bool, rows: &mut Vec<Row>) -> Option<usize> {
    for (id, tcb) in stack.tcp.iter_from(start) {
        // What was never named is in no table.
        if tcb.is_v6 != is_v6 || tcb.pair.local.port == 0 || tcb.state == State::Closed {
            continue;
        }
        let waiting = tcb.listener.as_ref().map(|listener| listener.ready.len());
        let none = Endpoint::new(if is_v6 { Ip::ANY6 } else { Ip::ANY4 }, 0);
        let row = Row {
            number: id.number,
            local: tcb.pair.local,
            remote: if waiting.is_some() {
                none
            } else {
                tcb.pair.remote
            },
            state: tcb.state as u8,
            to_send: tcb.unsent(),
            to_read: waiting.unwrap_or_else(|| tcb.available()),
            retries: tcb.retries(),
            uid: uid_of(stack.tcp_ports.of(tcb.pair.local.port), id),
            drops: 0,
        };
        if rows.push_within_capacity(row).is_err() {
            return Some(id.number as usize);
        }
    }
    None
}

fn udp_rows(stack: &Stack, start: usize, is_v6: bool, rows: &mut Vec<Row>) -> Option<usize> {
    for (id, udp) in stack.udp.iter_from(start) {
        if udp.is_v6 != is_v6 || udp.local.port == 0 {
            continue;
        }
        let none = Endpoint::new(if is_v6 { Ip::ANY6 } else { Ip::ANY4 }, 0);
        let row = Row {
            number: id.number,
            local: udp.local,
            remote: udp.remote.unwrap_or(none),
            state: if udp.remote.is_some() {
                State::Established as u8
            } else {
                State::Closed as u8
            },
            to_send: 0,
            to_read: udp.waiting(),
            retries: 0,
            uid: uid_of(stack.udp_ports.of(udp.local.port), id),
            drops: udp.dropped,
        };
        if rows.push_within_capacity(row).is_err() {
            return Some(id.number as usize);
        }
    }
    None
}

fn uid_of<'a>(mut bindings: impl Iterator<Item = (Id, &'a super::ports::Binding)>, id: Id) -> Kuid {
    bindings
        .find(|(own, _)| *own == id)
        .map_or(Kuid::INVALID, |(_, binding)| binding.uid)
}

struct Line<'a> {
    row: &'a Row,
    line_number: usize,
    is_v6: bool,
    is_tcp: bool,
}

impl Line<'_> {
    /// An address as Linux shows it: words as the machine has them.
    fn end(&self, end: Endpoint, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = end.ip.to_v6();
        let bytes = if self.is_v6 { &bytes[..] } else { &bytes[12..] };
        for word in bytes.chunks_exact(4) {
            write!(
                f,
                "{:08X}",
                u32::from_le_bytes([word[0], word[1], word[2], word[3]])
            )?;
        }
        write!(f, ":{:04X} ", end.port)
    }
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = self.row;
        if self.is_tcp {
            write!(f, "{:4}: ", self.line_number)?;
        } else {
            write!(f, "{:5}: ", row.number)?;
        }
        self.end(row.local, f)?;
        self.end(row.remote, f)?;
        let uid = fs::UserNamespace::INITIAL.uid(row.uid).unwrap_or(65534);
        write!(
            f,
            "{:02X} {:08X}:{:08X} 00:00000000 {:08X} {uid:5} {:8} {} 2 0000000000000000",
            row.state, row.to_send, row.to_read, row.retries, 0, 0
        )?;
        if self.is_tcp {
            f.write_str(" 20 4 0 10 -1")
        } else {
            write!(f, " {}", row.drops)
        }
    }
}

fn sockstat(namespace: &Arc<NetNamespace>, is_v6: bool, to: &mut dyn Write) -> Result<()> {
    let (tcp, waiting, udp) = namespace.look(|stack| {
        let of = |state: State| {
            stack
                .tcp
                .iter()
                .filter(move |(_, tcb)| {
                    tcb.is_v6 == is_v6
                        && (tcb.state == State::TimeWait) == (state == State::TimeWait)
                })
                .count()
        };
        let udp = stack
            .udp
            .iter()
            .filter(|(_, udp)| udp.is_v6 == is_v6)
            .count();
        (of(State::Established), of(State::TimeWait), udp)
    })?;
    let text = if is_v6 {
        writeln!(
            to,
            "TCP6: inuse {tcp}\nUDP6: inuse {udp}\nUDPLITE6: inuse 0\nRAW6: inuse 0\nFRAG6: inuse 0 memory 0"
        )
    } else {
        let used = tcp + udp;
        writeln!(
            to,
            "sockets: used {used}\nTCP: inuse {tcp} orphan 0 tw {waiting} alloc {tcp} mem 0\nUDP: inuse {udp} mem 0\nUDPLITE: inuse 0\nRAW: inuse 0\nFRAG: inuse 0 memory 0"
        )
    };
    text.map_err(|_| Errno::ENOMEM)
}

fn snmp(namespace: &Arc<NetNamespace>, to: &mut dyn Write) -> Result<()> {
    let text = namespace.look(|stack| {
        let c = &stack.counters;
        let open = stack.tcp.iter().filter(|(_, tcb)| tcb.state == State::Established).count();
        collections::try_format!(
            "Ip: Forwarding DefaultTTL InReceives InHdrErrors InAddrErrors ForwDatagrams InUnknownProtos InDiscards InDelivers OutRequests OutDiscards OutNoRoutes ReasmTimeout ReasmReqds ReasmOKs ReasmFails FragOKs FragFails FragCreates\n\
             Ip: 2 64 {} 0 0 0 0 0 {} {} 0 {} 0 0 0 0 0 0 0\n\
             Tcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab InSegs OutSegs RetransSegs InErrs OutRsts InCsumErrors\n\
             Tcp: 1 200 120000 -1 {} {} {} {} {open} {} {} {} 0 {} 0\n\
             Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors\n\
             Udp: {} {} {} {} {} 0 0 0 0\n",
            c.packets_in, c.packets_in, c.packets_out, c.unroutable,
            c.active_opens, c.passive_opens, c.failed, c.resets_in, c.segments_in, c.segments_out, c.retransmitted, c.resets_out,
            c.datagrams_in, c.datagrams_unknown, c.datagrams_dropped, c.datagrams_out, c.datagrams_dropped,
        )
    })??;
    to.write_str(&text).map_err(|_| Errno::ENOMEM)
}
