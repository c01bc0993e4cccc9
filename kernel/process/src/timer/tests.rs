//! Arithmetic of due times.

use super::itimer::{Armed, Interval};

const PERIODIC: Interval = Interval {
    value_ns: 100,
    interval_ns: 30,
};

#[test]
fn a_one_shot_timer_is_due_once() {
    let once = Interval {
        value_ns: 50,
        interval_ns: 0,
    };
    let mut timer = Armed::from(once, 1000);
    assert_eq!(timer.expire(1049), 0);
    assert_eq!(timer.left(1049).value_ns, 1);
    assert_eq!(timer.expire(5000), 1);
    assert_eq!(timer.expire(9000), 0);
    assert_eq!(timer.left(9000).value_ns, 0);
}

#[test]
fn a_late_look_counts_every_period_and_keeps_the_beat() {
    let mut timer = Armed::from(PERIODIC, 0);
    assert_eq!(timer.expire(165), 3);
    assert_eq!(timer.due_ns, Some(190));
}

#[test]
fn a_value_of_zero_disarms() {
    let disarmed = Interval {
        value_ns: 0,
        interval_ns: 30,
    };
    assert_eq!(Armed::from(disarmed, 7).due_ns, None);
}

#[test]
fn what_is_left_of_a_period_that_nobody_looked_at_is_until_the_next_time() {
    let timer = Armed::from(PERIODIC, 0);
    assert_eq!(timer.left(40).value_ns, 60);
    assert_eq!(timer.left(100).value_ns, 30);
    assert_eq!(timer.left(165).value_ns, 25);
}
