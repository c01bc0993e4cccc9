//! Waits on std threads: no wake-up is lost, signals and deadlines end what they may end.

use super::*;
use crate::thread::{self, ThreadBuilder};
use abi::Errno;
use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use machine::sync::SpinLock;
use std::time::{Duration, Instant};

fn spawn(entry: impl FnOnce() + Send + 'static) -> ThreadRef {
    ThreadBuilder::new(b"waiter", entry)
        .spawn()
        .expect("a std thread")
}

fn join(thread: &Thread) {
    let begun = Instant::now();
    while thread.state() != thread::State::Dead {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "a thread hangs: {thread:?}"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn producers_and_consumers_lose_nothing() {
    const ITEMS: u64 = 4000;
    let queue = Arc::new(WaitQueue::new());
    let room = Arc::new(WaitQueue::new());
    let items = Arc::new(SpinLock::new(Vec::new()));
    let taken = Arc::new(AtomicU64::new(0));
    let mut threads = Vec::new();
    for _ in 0..4 {
        let (queue, room, items, taken) =
            (queue.clone(), room.clone(), items.clone(), taken.clone());
        threads.push(spawn(move || {
            for _ in 0..ITEMS / 4 {
                let item = queue.wait_until(|| items.lock().pop());
                room.wake_one();
                taken.fetch_add(item, Ordering::Relaxed);
            }
        }));
    }
    for _ in 0..2 {
        let (queue, room, items) = (queue.clone(), room.clone(), items.clone());
        threads.push(spawn(move || {
            for item in 0..ITEMS / 2 {
                room.wait_until(|| {
                    let mut items = items.lock();
                    (items.len() < 3).then(|| items.push(item))
                });
                queue.wake_one();
            }
        }));
    }
    threads.iter().for_each(|thread| join(thread));
    assert_eq!(
        taken.load(Ordering::Relaxed),
        (0..ITEMS / 2).sum::<u64>() * 2
    );
}

#[test]
fn an_interrupt_ends_only_interruptible_sleeps() {
    let queue = Arc::new(WaitQueue::new());
    let go = Arc::new(AtomicBool::new(false));
    let (q, g) = (queue.clone(), go.clone());
    let result = Arc::new(SpinLock::new(None));
    let r = result.clone();
    let thread = spawn(move || {
        let interrupted = q.wait_interruptible(|| None::<()>);
        q.wait_until(|| g.load(Ordering::SeqCst).then_some(()));
        *r.lock() = Some(interrupted);
    });
    while thread.state() != thread::State::Sleeping {
        std::thread::yield_now();
    }
    thread.interrupt();
    while thread.state() != thread::State::Uninterruptible {
        std::thread::yield_now();
    }
    thread.interrupt();
    std::thread::sleep(Duration::from_millis(10));
    assert_eq!(thread.state(), thread::State::Uninterruptible);
    go.store(true, Ordering::SeqCst);
    queue.wake_all();
    join(&thread);
    assert_eq!(*result.lock(), Some(Err(Errno::ERESTARTSYS)));
}

#[test]
fn a_pending_interrupt_ends_a_sleep_at_once_but_not_a_met_condition() {
    let queue = WaitQueue::new();
    let me = thread::current();
    me.interrupt();
    assert_eq!(queue.wait_interruptible(|| Some(1)), Ok(1));
    assert_eq!(
        queue.wait_interruptible(|| None::<()>),
        Err(Errno::ERESTARTSYS)
    );
    me.clear_interrupt();
}

#[test]
fn deadlines_end_sleeps() {
    let queue = WaitQueue::new();
    let before = crate::clock::monotonic_ns();
    let deadline = before + 20_000_000;
    let result = queue.wait_interruptible_deadline(Some(deadline), || None::<()>);
    assert_eq!(result, Err(Errno::ETIMEDOUT));
    assert!(crate::clock::monotonic_ns() >= deadline);
    crate::timer::sleep_until(
        crate::clock::monotonic_ns() + 5_000_000,
        Sleep::Uninterruptible,
    )
    .expect("nothing interrupts it");
}

#[test]
fn timers_expire_once() {
    let fired = Arc::new(AtomicU64::new(0));
    let f = fired.clone();
    let count = Box::new(move || {
        f.fetch_add(1, Ordering::SeqCst);
    });
    let timer = crate::timer::Timer::new(count).expect("memory");
    let now = crate::clock::monotonic_ns();
    timer.arm(now + 60_000_000_000);
    assert_eq!(timer.deadline_ns(), Some(now + 60_000_000_000));
    timer.arm(now.saturating_sub(10_000_000).max(1));
    while fired.load(Ordering::SeqCst) == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(10));
    assert_eq!(fired.load(Ordering::SeqCst), 1);
    assert!(timer.deadline_ns().is_none());
    timer.arm(now + 60_000_000_000);
    timer.cancel();
    assert!(timer.deadline_ns().is_none());
}

struct Flag(AtomicU64);

impl Wake for Flag {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn pollers_are_told_until_they_unregister() {
    let queue = WaitQueue::new();
    let flag = Arc::new(Flag(AtomicU64::new(0)));
    let registration = queue.register(flag.clone()).unwrap();
    queue.wake_one();
    queue.wake_all();
    drop(registration);
    queue.wake_all();
    assert_eq!(flag.0.load(Ordering::SeqCst), 2);
    for _ in 0..1000 {
        drop(queue.register(flag.clone()).unwrap());
    }
    assert!(
        queue.waiters.lock().pollers.len() < 16,
        "dead pollers pile up"
    );
}

#[test]
fn sleeping_locks_exclude() {
    let total = Arc::new(crate::Mutex::new(0_u64));
    let shared = Arc::new(crate::RwLock::new((0_u64, 0_u64)));
    let threads: Vec<_> = (0..6)
        .map(|n| {
            let (total, shared) = (total.clone(), shared.clone());
            spawn(move || {
                for _ in 0..1000 {
                    *total.lock() += 1;
                    if n % 3 == 0 {
                        let mut pair = shared.write();
                        pair.0 += 1;
                        std::thread::yield_now();
                        pair.1 += 1;
                    } else {
                        let pair = shared.read();
                        assert_eq!(pair.0, pair.1);
                    }
                }
            })
        })
        .collect();
    threads.iter().for_each(|thread| join(thread));
    assert_eq!(*total.lock(), 6000);
    assert_eq!(*shared.read(), (2000, 2000));
}

#[test]
fn one_of_those_that_wait_alone_is_woken_and_all_others() {
    let queue = Arc::new(WaitQueue::new());
    let (tickets, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let take = |tickets: &AtomicU64| {
        tickets
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            })
            .ok()
    };
    let mut threads = Vec::new();
    for _ in 0..20 {
        let (queue, tickets, done) = (queue.clone(), tickets.clone(), done.clone());
        threads.push(spawn(move || {
            queue.wait_until_alone(|| take(&tickets));
            done.fetch_add(1, Ordering::SeqCst);
        }));
    }
    let (q, d) = (queue.clone(), done.clone());
    let together = spawn(move || q.wait_until(|| (d.load(Ordering::SeqCst) > 0).then_some(())));
    for given in 1..=20 {
        tickets.fetch_add(1, Ordering::SeqCst);
        queue.wake_one();
        let begun = Instant::now();
        while done.load(Ordering::SeqCst) < given {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "no one was woken"
            );
            std::thread::yield_now();
        }
    }
    queue.wake_all();
    threads.iter().for_each(|thread| join(thread));
    join(&together);
}

#[test]
fn a_wake_up_that_a_signal_makes_useless_is_passed_on() {
    for _ in 0..50 {
        let queue = Arc::new(WaitQueue::new());
        let go = Arc::new(AtomicBool::new(false));
        let wait = || {
            let (queue, go) = (queue.clone(), go.clone());
            spawn(move || {
                let _ = queue
                    .wait_interruptible_alone(None, || go.load(Ordering::SeqCst).then_some(()));
            })
        };
        let first = wait();
        while first.state() != thread::State::Sleeping {
            std::thread::yield_now();
        }
        let second = wait();
        while second.state() != thread::State::Sleeping {
            std::thread::yield_now();
        }
        let interrupted = first.clone();
        let killer = std::thread::spawn(move || interrupted.interrupt());
        go.store(true, Ordering::SeqCst);
        queue.wake_one();
        killer.join().expect("it only interrupts");
        join(&first);
        // Whether the first one used it or passed it on, another one wakes at most one more.
        queue.wake_one();
        join(&second);
    }
}

#[test]
fn waits_nest_in_conditions_deeper_than_there_are_links() {
    let queues: Arc<[WaitQueue; 5]> = Arc::new([const { WaitQueue::new() }; 5]);
    let go = Arc::new(AtomicBool::new(false));
    fn nested(queues: &[WaitQueue], go: &AtomicBool) -> Option<()> {
        match queues.split_first() {
            None => go.load(Ordering::SeqCst).then_some(()),
            Some((queue, rest)) => {
                queue.wait_until(|| nested(rest, go));
                Some(())
            }
        }
    }
    let (q, g) = (queues.clone(), go.clone());
    let thread = spawn(move || {
        nested(&*q, &g);
    });
    std::thread::sleep(Duration::from_millis(20));
    assert_ne!(thread.state(), thread::State::Dead);
    go.store(true, Ordering::SeqCst);
    queues.iter().for_each(WaitQueue::wake_all);
    join(&thread);
}

#[test]
#[should_panic(expected = "wakes its own queue")]
fn a_condition_that_wakes_its_own_queue_is_found() {
    let queue = WaitQueue::new();
    queue.wait_until(|| {
        queue.wake_all();
        None::<()>
    });
}

#[test]
fn pollers_are_told_until_they_are_dropped_however_many() {
    struct Told(AtomicU64);
    impl Wake for Told {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let queue = WaitQueue::new();
    let told: Vec<_> = (0..30).map(|_| Arc::new(Told(AtomicU64::new(0)))).collect();
    let mut kept: Vec<_> = told
        .iter()
        .map(|it| queue.register(it.clone()).unwrap())
        .collect();
    queue.wake_one();
    kept.truncate(10);
    queue.wake_all();
    let counts: Vec<_> = told.iter().map(|it| it.0.load(Ordering::SeqCst)).collect();
    assert!(counts[..10].iter().all(|&count| count == 2), "{counts:?}");
    assert!(counts[10..].iter().all(|&count| count == 1), "{counts:?}");
    for _ in 0..1000 {
        drop(queue.register(told[0].clone()).unwrap());
    }
    assert!(
        queue.waiters.lock().pollers.len() < 50,
        "those that are over go"
    );
}

#[test]
fn a_registration_without_memory_is_an_error() {
    let flag = Arc::new(Flag(AtomicU64::new(0)));
    let queue = WaitQueue::new();
    collections::testing::fail_nth(1);
    let refused = queue.register(flag.clone());
    assert!(
        !collections::testing::fail_never(),
        "the allocation was reached"
    );
    assert_eq!(refused.err(), Some(Errno::ENOMEM));
    queue.wake_all();
    assert_eq!(Arc::strong_count(&flag), 1, "nothing is left behind");
}

#[test]
fn one_of_those_that_take_wake_ups_is_told() {
    struct Taker {
        takes: AtomicBool,
        told: AtomicU64,
    }
    impl Wake for Taker {
        fn wake(&self) {
            self.told.fetch_add(1, Ordering::SeqCst);
        }

        fn wake_to_take(&self) -> bool {
            self.wake();
            self.takes.load(Ordering::SeqCst)
        }
    }
    let taker = |takes| {
        Arc::new(Taker {
            takes: AtomicBool::new(takes),
            told: AtomicU64::new(0),
        })
    };
    let queue = WaitQueue::new();
    let all = [taker(false), taker(true), taker(true)];
    let every = Arc::new(Flag(AtomicU64::new(0)));
    let mut kept: Vec<_> = all
        .iter()
        .map(|taker| queue.register_taker(taker.clone()).unwrap())
        .collect();
    kept.push(queue.register(every.clone()).unwrap());
    let told = || [0, 1, 2].map(|at: usize| all[at].told.load(Ordering::SeqCst));
    queue.wake_one();
    assert_eq!(
        told(),
        [1, 1, 0],
        "the first does not take it, the second does"
    );
    queue.wake_one();
    assert_eq!(told(), [1, 1, 1], "in turn");
    queue.wake_one();
    assert_eq!(told(), [2, 2, 1]);
    queue.wake_all();
    assert_eq!(told(), [3, 3, 2]);
    assert_eq!(every.0.load(Ordering::SeqCst), 4);
    kept.truncate(1);
    queue.wake_one();
    queue.wake_one();
    assert_eq!(told(), [5, 3, 2], "nobody takes it, and it ends");
    drop(kept);
    queue.wake_one();
    assert!(!queue.is_waited_for());
}
