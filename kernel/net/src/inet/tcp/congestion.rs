//! How much may be under way (RFC 5681, with NewReno's recovery, RFC 6582), and how long to wait for an answer (RFC 6298).

/// Segments that may be under way at first (RFC 6928).
const INITIAL_SEGMENTS: usize = 10;
/// Bounds of the time after which something is sent again (`TCP_RTO_MIN`, `TCP_RTO_MAX`), and what it is before
/// anything is known.
const LEAST_NS: u64 = 200_000_000;
const MOST_NS: u64 = 120_000_000_000;
const INITIAL_NS: u64 = 1_000_000_000;

/// The congestion window.
#[derive(Debug)]
pub(crate) struct Congestion {
    /// Bytes.
    pub(crate) window: usize,
    /// Where slow start ends.
    pub(crate) threshold: usize,
    /// Duplicate acknowledgements in a row.
    pub(super) duplicates: u32,
    /// Recovery ends when this is acknowledged.
    pub(super) recover: u32,
    /// Bytes acknowledged since the window last grew, in congestion avoidance.
    counted: usize,
}

impl Default for Congestion {
    fn default() -> Self {
        Congestion {
            window: INITIAL_SEGMENTS * 536,
            threshold: usize::MAX,
            duplicates: 0,
            recover: 0,
            counted: 0,
        }
    }
}

impl Congestion {
    /// The connection is there, and its segments have `mss` bytes.
    pub(super) fn start(&mut self, mss: u16) {
        self.window = INITIAL_SEGMENTS * usize::from(mss);
    }

    /// `bytes` more were acknowledged outside of recovery; the window was in use.
    pub(super) fn acknowledged(&mut self, bytes: usize, mss: u16) {
        let mss = usize::from(mss);
        if self.window < self.threshold {
            self.window = self.window.saturating_add(bytes.min(2 * mss));
            return;
        }
        self.counted += bytes;
        if self.counted >= self.window {
            self.counted -= self.window;
            self.window = self.window.saturating_add(mss);
        }
    }

    fn halve(&mut self, in_flight: usize, mss: u16) {
        self.threshold = (in_flight / 2).max(2 * usize::from(mss));
    }

    /// Three duplicates: recovery begins.
    pub(super) fn begin_recovery(&mut self, in_flight: usize, mss: u16, recover: u32) {
        self.halve(in_flight, mss);
        self.window = self.threshold + 3 * usize::from(mss);
        self.recover = recover;
    }

    /// A further duplicate says that one more segment has left the network.
    pub(super) fn inflate(&mut self, mss: u16) {
        self.window = self.window.saturating_add(mss.into());
    }

    /// Part of what recovery waits for was acknowledged.
    pub(super) fn deflate(&mut self, bytes: usize, mss: u16) {
        self.window = self.window.saturating_sub(bytes).max(usize::from(mss)) + usize::from(mss);
    }

    pub(super) fn end_recovery(&mut self) {
        self.window = self.threshold;
        self.duplicates = 0;
    }

    /// Nothing came in time.
    pub(super) fn timed_out(&mut self, in_flight: usize, mss: u16, is_first: bool) {
        if is_first {
            self.halve(in_flight, mss);
        }
        self.window = mss.into();
        self.duplicates = 0;
    }
}

/// The time that an answer takes.
#[derive(Debug, Default)]
pub(crate) struct RoundTrip {
    /// Smoothed, and how much it varies; 0 before the first.
    pub(crate) smoothed_ns: u64,
    pub(crate) variation_ns: u64,
    /// What is measured now: the number that is to be acknowledged, and when it was sent.
    measured: Option<(u32, u64)>,
    /// How often the time to wait was doubled.
    pub(super) backoff: u32,
}

impl RoundTrip {
    /// Something was sent for the first time; `end` is behind it.
    pub(super) fn sent(&mut self, end: u32, now: u64) {
        if self.measured.is_none() {
            self.measured = Some((end, now));
        }
    }

    /// Something was sent again: whose answer comes is not known then (Karn).
    pub(super) fn sent_again(&mut self) {
        self.measured = None;
    }

    pub(super) fn acknowledged(&mut self, until: u32, now: u64) {
        self.backoff = 0;
        let Some((end, sent)) = self.measured else {
            return;
        };
        if super::is_before(until, end) {
            return;
        }
        self.measured = None;
        let sample = now.saturating_sub(sent).max(1);
        if self.smoothed_ns == 0 {
            self.smoothed_ns = sample;
            self.variation_ns = sample / 2;
        } else {
            let away = self.smoothed_ns.abs_diff(sample);
            self.variation_ns = (3 * self.variation_ns + away) / 4;
            self.smoothed_ns = (7 * self.smoothed_ns + sample) / 8;
        }
    }

    /// How long to wait for an answer.
    pub(crate) fn timeout_ns(&self) -> u64 {
        let base = if self.smoothed_ns == 0 {
            INITIAL_NS
        } else {
            self.smoothed_ns + (4 * self.variation_ns).max(LEAST_NS)
        };
        base.saturating_mul(1 << self.backoff.min(16)).min(MOST_NS)
    }

    pub(super) fn back_off(&mut self) {
        self.backoff += 1;
    }
}
