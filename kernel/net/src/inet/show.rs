//! The tables of /proc/net: what a namespace's stack says of itself, in Linux's words.
//!
//! Sockets are gathered a few at a time, so that nobody else waits for the stack while text is made.

use alloc::sync::Arc;
use core::fmt::{self, Write};

use abi::{Errno, Result};
use collections::Vec;
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
    let full = |_: fmt::Error| Errno::ENOMEM;
    match table {
        Table::Tcp | Table::Tcp6 | Table::Udp | Table::Udp6 => sockets(namespace, table, to),
        Table::Dev => {
            let [(packets, bytes)] =
                namespace.look(|stack| [(stack.loopback.packets, stack.loopback.bytes)])?;
            to.write_str("Inter-|   Receive                                                |  Transmit\n")
                .and_then(|()| to.write_str(" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n"))
                .and_then(|()| {
                    write!(to, "{:>6}: {bytes:7} {packets:7} {:4} {:4} {:4} {:5} {:10} {:9}", "lo", 0, 0, 0, 0, 0, 0)?;
                    writeln!(to, " {bytes:8} {packets:7} {:4} {:4} {:4} {:5} {:7} {:10}", 0, 0, 0, 0, 0, 0)
                })
                .map_err(full)
        }
        Table::Route => writeln!(
            to,
            "{:<127}",
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT"
        )
        .map_err(full),
        Table::IfInet6 => {
            let is_there = namespace.look(|stack| stack.is_local(Ip::LOOPBACK6))?;
            if is_there {
                writeln!(
                    to,
                    "{:032x} {:02x} {:02x} {:02x} {:02x} {:>8}",
                    1, 1, 128, 16, 128, "lo"
                )
                .map_err(full)?;
            }
            Ok(())
        }
        Table::Sockstat | Table::Sockstat6 => sockstat(namespace, table == Table::Sockstat6, to),
        Table::Snmp => snmp(namespace, to),
    }
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
