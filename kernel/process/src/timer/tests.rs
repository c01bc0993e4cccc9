//! Arithmetic of due times, and a look at timers on CPU time.

use super::state::{Armed, Interval};
use super::{alarm, cpu};
use crate::rlimit::{Limit, Resource};
use crate::signal::Signal;

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

#[test]
fn threads_look_before_all_of_them_together_could_be_due() {
    const MS: u64 = 1_000_000;
    assert_eq!(alarm::share_of(500 * MS, 1), 500 * MS);
    assert_eq!(alarm::share_of(12 * MS, 3), 4 * MS);
    // One that was away must not come back with an alarm from when much was left.
    assert_eq!(alarm::share_of(3600 * 1000 * MS, 2), 10 * MS);
    assert_eq!(alarm::share_of(0, 4), MS, "nor does it look all the time");
}

#[test]
fn a_thread_whose_alarm_rang_sends_what_is_due() {
    let thread = crate::tests::process(None);
    let process = thread.process();
    assert!(!cpu::look_if_due(&thread), "nothing rang");
    process.timers.state.lock().cpu[1].due_ns = Some(0);
    let limit = Limit { soft: 0, hard: 5 };
    assert!(process.limits().set(Resource::Cpu, limit, true).is_ok());
    alarm::raise(&thread);
    assert!(thread.needs_attention() && cpu::look_if_due(&thread));
    let pending = process.signals.lock().shared.set();
    assert!(pending.contains(Signal::PROF) && pending.contains(Signal::XCPU));
    assert!(!pending.contains(Signal::VTALRM));
    assert_eq!(process.limits().soft(Resource::Cpu), 1, "the next second");
    assert_eq!(process.timers.state.lock().cpu[1].due_ns, None);
    crate::exit::exit_thread(&thread, 0);
    crate::exit::finish(&thread, None);
}
