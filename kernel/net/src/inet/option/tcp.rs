//! Options of TCP.

use abi::raw::net as raw;
use abi::{Errno, Result};

use super::{put, word};
use crate::inet::socket::stream::StreamSocket;
use crate::inet::tcp::{Info, LEAST_MSS, State, Switch, Tcb};
use crate::socket::OPTION_MAX;

const NS_PER_S: u64 = 1_000_000_000;
/// Longest times and most probes that may be set.
const LONGEST_S: i32 = 32767;
const MOST_PROBES: i32 = 127;
/// The one algorithm there is. Linux tells a name in 16 bytes.
const CONGESTION: &[u8] = b"reno";
const NAME_SIZE: usize = 16;

fn seconds(value: i32) -> Result<u16> {
    if !(1..=LONGEST_S).contains(&value) {
        return Err(Errno::EINVAL);
    }
    u16::try_from(value).map_err(|_| Errno::EINVAL)
}

fn count(value: i32) -> Result<u8> {
    if !(1..=MOST_PROBES).contains(&value) {
        return Err(Errno::EINVAL);
    }
    u8::try_from(value).map_err(|_| Errno::EINVAL)
}

pub(super) fn set(socket: &StreamSocket, name: u32, value: &[u8]) -> Result<()> {
    if name == raw::TCP_CONGESTION {
        let end = value
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(value.len());
        return if &value[..end] == CONGESTION {
            Ok(())
        } else {
            Err(Errno::ENOENT)
        };
    }
    let value = word(value)?;
    socket.change(|tcb, net| {
        match name {
            raw::TCP_NODELAY => {
                tcb.switches.set(Switch::NODELAY, value != 0);
                tcb.output(net);
            }
            raw::TCP_CORK => {
                tcb.switches.set(Switch::CORK, value != 0);
                tcb.switches.remove(Switch::MORE);
                tcb.output(net);
            }
            raw::TCP_QUICKACK => tcb.switches.set(Switch::INTERACTIVE, value == 0),
            raw::TCP_MAXSEG => {
                let mss = u16::try_from(value).map_err(|_| Errno::EINVAL)?;
                if mss < LEAST_MSS || tcb.state == State::Established {
                    return Err(Errno::EINVAL);
                }
                tcb.own_mss = mss;
            }
            raw::TCP_KEEPIDLE => {
                tcb.keepalive.idle_s = seconds(value)?;
                tcb.set_keepalive(tcb.has(Switch::KEEPALIVE), net.now);
            }
            raw::TCP_KEEPINTVL => tcb.keepalive.interval_s = seconds(value)?,
            raw::TCP_KEEPCNT => tcb.keepalive.count = count(value)?,
            raw::TCP_SYNCNT => tcb.syn_retries = count(value)?,
            raw::TCP_USER_TIMEOUT => {
                tcb.user_timeout_ms = u32::try_from(value).map_err(|_| Errno::EINVAL)?;
            }
            raw::TCP_LINGER2 => {
                let most = 60;
                let wait =
                    u64::try_from(value).map_or(0, |value| if value > most { most } else { value });
                tcb.fin_wait_ns = if value == 0 {
                    most * NS_PER_S
                } else {
                    wait * NS_PER_S
                };
            }
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(())
    })?
}

pub(super) fn get(socket: &StreamSocket, name: u32, to: &mut [u8; OPTION_MAX]) -> Result<usize> {
    match name {
        raw::TCP_CONGESTION => {
            let mut name = [0; NAME_SIZE];
            name[..CONGESTION.len()].copy_from_slice(CONGESTION);
            return put(to, &name);
        }
        raw::TCP_INFO => {
            let info = socket.look(|tcb| Info::of(tcb))?;
            return info.put(to);
        }
        _ => {}
    }
    let value = socket.look(|tcb| number_of(tcb, name))??;
    put(to, &value.to_ne_bytes())
}

fn number_of(tcb: &Tcb, name: u32) -> Result<i32> {
    let has = |switch| Ok(i32::from(tcb.has(switch)));
    match name {
        raw::TCP_NODELAY => has(Switch::NODELAY),
        raw::TCP_CORK => has(Switch::CORK),
        raw::TCP_QUICKACK => Ok(i32::from(!tcb.has(Switch::INTERACTIVE))),
        // Before there is a connection, what is usual.
        raw::TCP_MAXSEG => Ok(if tcb.state.is_synchronized() {
            i32::try_from(tcb.mss()).unwrap_or(0)
        } else {
            536
        }),
        raw::TCP_KEEPIDLE => Ok(tcb.keepalive.idle_s.into()),
        raw::TCP_KEEPINTVL => Ok(tcb.keepalive.interval_s.into()),
        raw::TCP_KEEPCNT => Ok(tcb.keepalive.count.into()),
        raw::TCP_SYNCNT => Ok(tcb.syn_retries.into()),
        raw::TCP_USER_TIMEOUT => Ok(i32::try_from(tcb.user_timeout_ms).unwrap_or(i32::MAX)),
        raw::TCP_LINGER2 => Ok(i32::try_from(tcb.fin_wait_ns / NS_PER_S).unwrap_or(60)),
        _ => Err(Errno::ENOPROTOOPT),
    }
}
