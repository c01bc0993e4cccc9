//! A sleeper against its waker, in all orders that the memory model allows (`loom`): a wake-up that is lost leaves
//! the sleeper waiting for ever, which loom reports.
//!
//! The file under test is compiled in here, with loom's atomics in place of the machine's.

/// What the file under test finds beside it.
mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
}

#[allow(dead_code, unreachable_pub, reason = "not all of it is tried here")]
#[path = "../src/handshake.rs"]
mod handshake;

use atomic::{AtomicU8, AtomicUsize, Ordering};
use handshake::{Occupied, State, StateCell};
use loom::sync::{Arc, Condvar, Mutex, MutexGuard, Notify};
use loom::thread;

/// A queue with one place, and the thread that may be in it.
struct Meeting {
    state: StateCell,
    occupied: Occupied,
    is_listed: Mutex<bool>,
    condition: AtomicUsize,
    /// The run queue: the thread is told that it runs.
    runs: Notify,
}

impl Meeting {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            state: StateCell::from_parts(AtomicU8::new(State::Runnable as u8)),
            occupied: Occupied::from_parts(AtomicUsize::new(0)),
            is_listed: Mutex::new(false),
            condition: AtomicUsize::new(0),
            runs: Notify::new(),
        })
    }

    fn listed(&self) -> MutexGuard<'_, bool> {
        self.is_listed.lock().expect("no test ends with it held")
    }

    /// As `park_with` does it.
    fn sleep_until(&self, wanted: usize) {
        while self.condition.load(Ordering::Relaxed) < wanted {
            self.state.set_asleep(State::Sleeping);
            {
                let mut is_listed = self.listed();
                *is_listed = true;
                self.occupied.count_up(1);
            }
            if self.condition.load(Ordering::Relaxed) >= wanted {
                self.state.set(State::Runnable);
            } else {
                while self.state.is_asleep() {
                    self.runs.wait();
                }
            }
            let mut is_listed = self.listed();
            if core::mem::take(&mut *is_listed) {
                self.occupied.count_down(0);
            }
        }
    }

    /// Changes the condition, and wakes as `WaitQueue::wake_all` does it.
    fn change(&self) {
        self.condition.fetch_add(1, Ordering::Relaxed);
        if self.occupied.is_empty() {
            return;
        }
        let is_taken = {
            let mut is_listed = self.listed();
            let is_taken = core::mem::take(&mut *is_listed);
            self.occupied.count_down(0);
            is_taken
        };
        if is_taken && self.state.wake_from(State::Sleeping) {
            self.runs.notify();
        }
    }
}

#[test]
fn no_wake_up_is_lost() {
    loom::model(|| {
        let meeting = Meeting::new();
        let waker = {
            let meeting = meeting.clone();
            thread::spawn(move || meeting.change())
        };
        meeting.sleep_until(1);
        waker.join().unwrap();
    });
}

#[test]
fn no_wake_up_is_lost_between_two_wakers() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let meeting = Meeting::new();
        let wakers: Vec<_> = (0..2)
            .map(|_| {
                let meeting = meeting.clone();
                thread::spawn(move || meeting.change())
            })
            .collect();
        meeting.sleep_until(2);
        for waker in wakers {
            waker.join().unwrap();
        }
    });
}

/// A waker that comes while the sleeper is on its way to leave its CPU: either the sleeper sees that it need not,
/// or the waker finds it in no queue and queues it (`block` and `make_runnable`).
#[test]
fn who_is_woken_on_the_way_to_sleep_runs() {
    loom::model(|| {
        let meeting = Meeting::new();
        let queue = Arc::new((Mutex::new(true), Condvar::new()));
        meeting.state.set_asleep(State::Sleeping);
        let waker = {
            let (meeting, queue) = (meeting.clone(), queue.clone());
            thread::spawn(move || {
                assert!(meeting.state.wake_from(State::Sleeping));
                let (is_queued, runs) = &*queue;
                let was_queued = core::mem::replace(&mut *is_queued.lock().unwrap(), true);
                if !was_queued {
                    runs.notify_one();
                }
            })
        };
        let (is_queued, runs) = &*queue;
        let mut is_queued = is_queued.lock().unwrap();
        *is_queued = !meeting.state.is_asleep();
        while !*is_queued {
            is_queued = runs.wait(is_queued).unwrap();
        }
        drop(is_queued);
        assert!(!meeting.state.is_asleep());
        waker.join().unwrap();
    });
}
