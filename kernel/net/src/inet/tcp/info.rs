//! [`Info`]: what `TCP_INFO` tells (`struct tcp_info` of Linux 6.1). What is not counted here is 0.

use abi::{Errno, Result};

use super::{State, Tcb};
use crate::socket::OPTION_MAX;

/// Bytes of the structure.
const SIZE: usize = 240;
/// `TCPI_OPT_WSCALE`.
const SCALES: u8 = 4;
const NS_PER_US: u64 = 1000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Info {
    bytes: [u8; SIZE],
}

impl Info {
    pub(crate) fn of(tcb: &Tcb) -> Info {
        let mut info = Info { bytes: [0; SIZE] };
        let (sending, receiving) = (&tcb.sending, &tcb.receiving);
        let is_scaled = tcb.state.is_synchronized() && receiving.shift > 0;
        info.bytes[0] = match tcb.state {
            State::TimeWait => State::Closed as u8,
            state => state as u8,
        };
        info.bytes[2] = tcb.retries;
        info.bytes[3] = tcb.alive_probes;
        info.bytes[4] = u8::try_from(tcb.round_trip.backoff).unwrap_or(u8::MAX);
        info.bytes[5] = if is_scaled { SCALES } else { 0 };
        info.bytes[6] = if is_scaled {
            sending.shift | receiving.shift << 4
        } else {
            0
        };
        let micro = |ns: u64| u32::try_from(ns / NS_PER_US).unwrap_or(u32::MAX);
        let small = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        let segments = |bytes: usize| small(bytes.div_ceil(tcb.mss()));
        let backlog = tcb
            .listener
            .as_ref()
            .map(|listener| (listener.ready.len(), listener.backlog));
        let mut words = [0_u32; 24];
        words[0] = micro(tcb.round_trip.timeout_ns());
        words[1] = micro(40_000_000);
        words[2] = sending.mss.into();
        words[3] = tcb.own_mss.max(536).into();
        // Of a listener: who waits, and how many may.
        words[4] = backlog.map_or_else(|| segments(tcb.in_flight()), |(waiting, _)| small(waiting));
        words[5] = backlog.map_or(0, |(_, most)| small(most));
        words[13] = small(usize::from(tcb.own_mss) + 40);
        words[14] = 65535;
        words[15] = micro(tcb.round_trip.smoothed_ns);
        words[16] = micro(tcb.round_trip.variation_ns);
        words[17] = segments(tcb.congestion.threshold).min(i32::MAX.unsigned_abs());
        words[18] = segments(tcb.congestion.window);
        words[19] = tcb.own_mss.into();
        words[20] = 3;
        words[22] = small(tcb.receive_size);
        words[23] = tcb.total_retries;
        for (word, at) in words.iter().zip(info.bytes[8..].chunks_exact_mut(4)) {
            at.copy_from_slice(&word.to_ne_bytes());
        }
        info
    }

    pub(crate) fn put(&self, to: &mut [u8; OPTION_MAX]) -> Result<usize> {
        to.get_mut(..SIZE)
            .ok_or(Errno::EINVAL)?
            .copy_from_slice(&self.bytes);
        Ok(SIZE)
    }
}
