//! How many bytes a second go through a device, each way.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::link::MOST_FRAME;

const NANOSECONDS: u128 = 1_000_000_000;

/// The rates of both directions, and what tells when they allow more.
#[derive(Debug)]
pub(super) struct Limit {
    timer: OwnedFd,
    buckets: [Bucket; 2],
}

impl Limit {
    /// So many bytes a second, each way.
    pub(super) fn new(bytes_per_s: u64) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let now = Instant::now();
        Ok(Self {
            timer: timerfd_create(TimerfdClockId::Monotonic, flags)?,
            buckets: [(); 2].map(|()| Bucket::new(bytes_per_s, now)),
        })
    }

    /// Becomes readable when more is allowed.
    pub(super) fn timer(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }

    /// Whether a frame may go in the direction of this queue now. If not, the timer tells when.
    pub(super) fn allows(&mut self, queue: usize) -> bool {
        let Some(bucket) = self.buckets.get_mut(queue) else {
            return true;
        };
        let Some(wait) = bucket.wait(Instant::now()) else {
            return true;
        };
        let it_value = Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        let it_interval = Timespec::default();
        let when = Itimerspec {
            it_interval,
            it_value,
        };
        // Both directions use it, and each looks when it fires, however early that is. Without it nothing would tell.
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &when).is_err()
    }

    /// A frame of so many bytes has gone.
    pub(super) fn charge(&mut self, queue: usize, bytes: usize) {
        if let Some(bucket) = self.buckets.get_mut(queue) {
            bucket.balance -= i64::try_from(bytes).unwrap_or(i64::MAX);
        }
    }
}

/// What may go in one direction: it fills with time, and a frame may go while there is anything in it.
#[derive(Debug)]
struct Bucket {
    bytes_per_s: u64,
    most: i64,
    balance: i64,
    filled_at: Instant,
}

impl Bucket {
    /// A full one; it holds what goes in a twentieth of a second, and the largest frame at least.
    fn new(bytes_per_s: u64, now: Instant) -> Self {
        let bytes_per_s = bytes_per_s.max(1);
        let most = (bytes_per_s / 20).max(MOST_FRAME as u64);
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        Self {
            bytes_per_s,
            most,
            balance: most,
            filled_at: now,
        }
    }

    /// How long until a frame may go; `None` when it may now.
    fn wait(&mut self, now: Instant) -> Option<Duration> {
        let passed = now.duration_since(self.filled_at).as_nanos();
        let gained = passed * u128::from(self.bytes_per_s) / NANOSECONDS;
        if gained > 0 {
            let gained = i64::try_from(gained).unwrap_or(i64::MAX);
            self.balance = self.balance.saturating_add(gained).min(self.most);
            self.filled_at = now;
        }
        let lacking = u128::try_from(1 - self.balance).ok().filter(|n| *n > 0)?;
        let wait = (lacking * NANOSECONDS).div_ceil(u128::from(self.bytes_per_s));
        Some(Duration::from_nanos(
            u64::try_from(wait).unwrap_or(u64::MAX),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_lets_through_what_its_rate_says() {
        let begin = Instant::now();
        let mut bucket = Bucket::new(1_000_000, begin);
        let mut passed = 0;
        let mut now = begin;
        // As many as fit into one second, however often it is asked.
        while now <= begin + Duration::from_secs(1) {
            match bucket.wait(now) {
                None => {
                    bucket.balance -= 1500;
                    passed += 1500;
                }
                Some(wait) => now += wait,
            }
        }
        let full = i64::try_from(MOST_FRAME).expect("small");
        assert!(
            (1_000_000..=1_000_000 + full + 3000).contains(&passed),
            "{passed}"
        );
    }

    #[test]
    fn a_limit_that_is_used_up_tells_when_it_allows_more() {
        let mut limit = Limit::new(10_000_000).expect("a descriptor");
        assert!(limit.allows(0));
        limit.charge(0, 10_000_000);
        assert!(!limit.allows(0));
        assert!(limit.allows(1), "the other direction has its own");
        let mut polled = [rustix::event::PollFd::from_borrowed_fd(
            limit.timer(),
            rustix::event::PollFlags::IN,
        )];
        assert_eq!(rustix::event::poll(&mut polled, None), Ok(1));
        assert!(limit.allows(0));
    }
}
