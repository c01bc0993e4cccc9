//! The policy: shares by weight, order, sleepers, stealing.

use super::*;
use crate::attributes::{Attributes, Policy};

/// Runs `threads` (weight each) for `rounds` slices of 1 ms and returns what each ran.
fn run(weights: &[u32], rounds: usize) -> Vec<u64> {
    let mut queue = RunQueue::new();
    let mut virtual_ns = alloc::vec![0; weights.len()];
    let mut ran = alloc::vec![0; weights.len()];
    for thread in 0..weights.len() {
        queue.push(
            Rank {
                band: FAIR_BAND,
                virtual_ns: 0,
            },
            thread,
        );
    }
    for _ in 0..rounds {
        let thread = queue.pop().expect("never empty");
        ran[thread] += 1_000_000;
        virtual_ns[thread] += virtual_time(1_000_000, weights[thread]);
        let rank = Rank {
            band: FAIR_BAND,
            virtual_ns: virtual_ns[thread],
        };
        queue.advance(rank);
        queue.push(rank, thread);
    }
    ran
}

#[test]
fn equal_weights_share_equally() {
    let ran = run(&[1024; 5], 5000);
    assert!(ran.iter().all(|&ns| ns == 1_000_000_000), "{ran:?}");
}

#[test]
fn shares_follow_weights() {
    let (_, light) = standing(Attributes {
        nice: 5,
        ..Attributes::default()
    });
    let ran = run(&[1024, light], 10_000);
    let ratio = ran[0] as f64 / ran[1] as f64;
    assert!((ratio - 1024.0 / f64::from(light)).abs() < 0.1, "{ratio}");
}

#[test]
fn nice_steps_are_a_quarter_each() {
    for nice in -20..19 {
        let weight = |nice| {
            standing(Attributes {
                nice,
                ..Attributes::default()
            })
            .1
        };
        let ratio = f64::from(weight(nice)) / f64::from(weight(nice + 1));
        assert!((1.15..1.45).contains(&ratio), "nice {nice}: {ratio}");
    }
}

#[test]
fn realtime_goes_first_by_priority_then_arrival() {
    let mut queue = RunQueue::new();
    let realtime = |priority| {
        let policy = Policy::Fifo;
        let (band, _) = standing(Attributes {
            policy,
            priority,
            ..Attributes::default()
        });
        Rank {
            band,
            virtual_ns: 77,
        }
    };
    queue.push(
        Rank {
            band: FAIR_BAND,
            virtual_ns: 0,
        },
        "fair",
    );
    queue.push(realtime(1), "low");
    queue.push(realtime(50), "first");
    queue.push(realtime(50), "second");
    let order: Vec<_> = core::iter::from_fn(|| queue.pop()).collect();
    assert_eq!(order, ["first", "second", "low", "fair"]);
}

#[test]
fn a_sleeper_comes_back_a_bounded_bonus_behind() {
    let mut queue: RunQueue<()> = RunQueue::new();
    queue.advance(Rank {
        band: FAIR_BAND,
        virtual_ns: 60_000_000_000,
    });
    assert_eq!(
        queue.join_at(-50_000_000_000),
        60_000_000_000 - SLEEPER_BONUS_NS
    );
    assert_eq!(queue.join_at(5), 60_000_000_005);
    assert_eq!(queue.lead_of(60_000_000_005), 5);
    assert_eq!(queue.lead_of(59_999_999_990), -10);
}

#[test]
fn stealing_respects_the_filter_and_keeps_order() {
    let mut queue = RunQueue::new();
    for i in 0..50_u64 {
        queue.push(
            Rank {
                band: FAIR_BAND,
                virtual_ns: i * 37 % 50,
            },
            i * 37 % 50,
        );
    }
    assert!(queue.steal(|&item| item > 100).is_none());
    let stolen = queue
        .steal(|&item| item % 2 == 1)
        .expect("half of them are odd");
    let mut left: Vec<u64> = (0..50).filter(|&item| item != stolen).collect();
    left.sort_unstable();
    let order: Vec<_> = core::iter::from_fn(|| queue.pop()).collect();
    assert_eq!(order, left);
}

#[test]
fn the_floor_never_goes_back() {
    let mut queue = RunQueue::new();
    queue.advance(Rank {
        band: FAIR_BAND,
        virtual_ns: 100,
    });
    queue.push(
        Rank {
            band: FAIR_BAND,
            virtual_ns: 50,
        },
        (),
    );
    queue.advance(Rank {
        band: FAIR_BAND,
        virtual_ns: 200,
    });
    assert_eq!(queue.join_at(0), 100);
}

#[test]
fn who_yields_goes_behind_its_equals() {
    let fair = |virtual_ns| Rank {
        band: FAIR_BAND,
        virtual_ns,
    };
    let mut queue = RunQueue::new();
    queue.push(fair(500), "other");
    let best = queue.best().expect("one waits");
    queue.push(fair(100).behind(best), "yielding");
    assert_eq!(queue.pop(), Some("other"));
    assert_eq!(fair(700).behind(best), fair(700));
}
