//! The policy on machines that are made up: shares, order, sleepers, groups, limits, balance.

use super::*;
use crate::attributes::{Attributes, Policy};
use abi::Errno;
use balance::{ROTATION_NS, SETTLE_NS};
use core::sync::atomic::{AtomicU64, Ordering};

const MS: u64 = 1_000_000;

/// A thread that is only its entity.
struct Task {
    name: usize,
    entity: Entity,
    ran_ns: AtomicU64,
}

impl Member for Task {
    fn entity(&self) -> &Entity {
        &self.entity
    }
}

fn task(name: usize, attributes: Attributes, group: Option<&Arc<Group>>) -> Arc<Task> {
    let entity = Entity::new();
    let (band, weight) = standing(attributes);
    entity.set_standing(band, weight);
    entity.set_group(group.cloned());
    Arc::new(Task {
        name,
        entity,
        ran_ns: AtomicU64::new(0),
    })
}

fn plain(name: usize) -> Arc<Task> {
    task(name, Attributes::default(), None)
}

fn nice(nice: i8) -> Attributes {
    Attributes {
        nice,
        ..Attributes::default()
    }
}

fn enter(queue: &mut RunQueue, task: &Arc<Task>) {
    enter_at(queue, task, 0);
}

fn enter_at(queue: &mut RunQueue, task: &Arc<Task>, now_ms: u64) {
    queue.attach(&**task, now_ms * MS);
    queue.push(Arc::clone(task) as _);
}

fn as_task(member: Arc<dyn Member>) -> Arc<Task> {
    let any: Arc<dyn core::any::Any + Send + Sync> = member;
    any.downcast().expect("tests have tasks only")
}

/// Runs the CPU of `queue` for `ms` milliseconds from `now_ms`, a slice of 1 ms at a time. The groups that are
/// throttled come back when their period is over.
fn run(queue: &mut RunQueue, now_ms: u64, ms: u64) {
    for now in (now_ms..now_ms + ms).map(|ms| ms * MS) {
        if queue.next_period_ns().is_some_and(|next| next <= now) {
            queue.begin_periods(now);
        }
        let Some(thread) = queue.pop().map(as_task) else {
            continue;
        };
        thread.ran_ns.fetch_add(MS, Ordering::Relaxed);
        queue.charge(&*thread, MS, now + MS);
        queue.push(thread);
    }
}

/// What part of all that was run each ran, in percent.
fn shares(tasks: &[Arc<Task>]) -> Vec<f64> {
    let ran = |task: &Arc<Task>| task.ran_ns.load(Ordering::Relaxed) as f64;
    let all: f64 = tasks.iter().map(ran).sum();
    tasks.iter().map(|task| ran(task) * 100.0 / all).collect()
}

fn assert_shares(tasks: &[Arc<Task>], wanted: &[f64]) {
    let found = shares(tasks);
    let is_near = |(found, wanted): (&f64, &f64)| (found - wanted).abs() < 1.5;
    assert!(
        found.iter().zip(wanted).all(is_near),
        "{found:?}, not {wanted:?}"
    );
}

#[test]
fn equals_share_equally_and_others_by_weight() {
    let mut queue = RunQueue::new(0);
    let tasks: Vec<_> = (0..5).map(plain).collect();
    tasks.iter().for_each(|task| enter(&mut queue, task));
    run(&mut queue, 0, 5000);
    assert_shares(&tasks, &[20.0; 5]);

    let mut queue = RunQueue::new(0);
    let tasks = [plain(0), task(1, nice(5), None)];
    tasks.iter().for_each(|task| enter(&mut queue, task));
    run(&mut queue, 0, 10_000);
    let light = f64::from(standing(nice(5)).1);
    let heavy = 100.0 * 1024.0 / (1024.0 + light);
    assert_shares(&tasks, &[heavy, 100.0 - heavy]);
}

#[test]
fn nice_steps_are_a_quarter_each() {
    for value in -20..19 {
        let ratio = f64::from(standing(nice(value)).1) / f64::from(standing(nice(value + 1)).1);
        assert!((1.15..1.45).contains(&ratio), "nice {value}: {ratio}");
    }
}

#[test]
fn realtime_leaves_the_others_a_little() {
    let fifo = |name, priority| {
        let attributes = Attributes {
            policy: Policy::Fifo,
            priority,
            ..Attributes::default()
        };
        task(name, attributes, None)
    };
    let mut queue = RunQueue::new(0);
    let tasks = [fifo(0, 10), fifo(1, 9), plain(2), plain(3)];
    tasks.iter().for_each(|task| enter(&mut queue, task));
    run(&mut queue, 0, 4000);
    assert_shares(&tasks, &[95.0, 0.0, 2.5, 2.5]);

    // Time of before counts for the period that it was in.
    let mut queue = RunQueue::new(0);
    let (first, other) = (fifo(0, 10), plain(1));
    enter(&mut queue, &other);
    assert_eq!(queue.left_ns(&*first), Some(950 * MS));
    assert!(!queue.charge(&*first, 900 * MS, 1800 * MS));
    assert_eq!(queue.left_ns(&*first), Some(150 * MS));
    assert!(queue.charge(&*first, 200 * MS, 2000 * MS - 1));
    assert!(queue.leads(&*other, &*first) && !queue.leads(&*first, &*other));
    assert_eq!(queue.left_ns(&*first), None);
    assert!(!queue.charge(&*first, MS, 2001 * MS));
    assert!(queue.leads(&*first, &*other) && !queue.leads(&*other, &*first));

    // Where nobody else waits, nothing is lost.
    let mut queue = RunQueue::new(0);
    let alone = [fifo(0, 1)];
    enter(&mut queue, &alone[0]);
    run(&mut queue, 0, 3000);
    assert_eq!(alone[0].ran_ns.load(Ordering::Relaxed), 3000 * MS);
}

#[test]
fn realtime_goes_first_by_priority_then_arrival_whatever_its_group() {
    let group = Group::new(None, 1).expect("memory");
    let realtime = |name, priority| {
        let attributes = Attributes {
            policy: Policy::Fifo,
            priority,
            ..Attributes::default()
        };
        task(name, attributes, Some(&group))
    };
    let mut queue = RunQueue::new(0);
    for it in [plain(0), realtime(1, 1), realtime(2, 50), realtime(3, 50)] {
        enter(&mut queue, &it);
    }
    let order: Vec<_> = core::iter::from_fn(|| queue.pop().map(|it| as_task(it).name)).collect();
    assert_eq!(order, [2, 3, 1, 0]);
}

#[test]
fn who_slept_runs_soon_but_does_not_catch_up() {
    let mut queue = RunQueue::new(0);
    let (busy, sleeper) = (plain(0), plain(1));
    enter(&mut queue, &busy);
    queue.attach(&*sleeper, 0);
    queue.detach(&*sleeper, 0);
    run(&mut queue, 0, 60_000);
    enter_at(&mut queue, &sleeper, 60_000);
    assert!(queue.leads(&*sleeper, &*busy));
    run(&mut queue, 60_000, 20);
    let ran = sleeper.ran_ns.load(Ordering::Relaxed);
    assert!((10 * MS..=15 * MS).contains(&ran), "{ran}");
}

#[test]
fn who_yields_goes_behind_its_equals() {
    let mut queue = RunQueue::new(0);
    let (yields, other) = (plain(0), plain(1));
    enter(&mut queue, &yields);
    enter(&mut queue, &other);
    let first = as_task(queue.pop().expect("two wait"));
    assert!(!queue.charge(&*first, 0, 0));
    let mut order = Vec::new();
    queue.push(Arc::clone(&yields) as _);
    for _ in 0..4 {
        let thread = as_task(queue.pop().expect("two wait"));
        order.push(thread.name);
        queue.put_behind(&*thread);
        queue.push(thread);
    }
    assert!(order.windows(2).all(|pair| pair[0] != pair[1]), "{order:?}");
}

#[test]
fn groups_share_first_and_their_threads_within() {
    let (a, b) = (Group::new(None, 1), Group::new(None, 1));
    let (a, b) = (a.expect("memory"), b.expect("memory"));
    let inner = Group::new(Some(&a), 1).expect("memory");
    b.set_weight(2048);
    let tasks = [
        plain(0),
        task(1, Attributes::default(), Some(&a)),
        task(2, Attributes::default(), Some(&inner)),
        task(3, Attributes::default(), Some(&inner)),
        task(4, Attributes::default(), Some(&b)),
        task(5, Attributes::default(), Some(&b)),
        task(6, nice(5), Some(&b)),
    ];
    let mut queue = RunQueue::new(0);
    tasks.iter().for_each(|task| enter(&mut queue, task));
    assert_eq!(queue.len(), tasks.len());
    run(&mut queue, 0, 20_000);
    // The root has a thread, a and b: 1 to 1 to 2. In a its thread and the inner group are equals.
    let light = f64::from(standing(nice(5)).1);
    let heavy = 50.0 * 1024.0 / (2048.0 + light);
    let wanted = [25.0, 12.5, 6.25, 6.25, heavy, heavy, 50.0 - 2.0 * heavy];
    assert_shares(&tasks, &wanted);
    for task in &tasks {
        assert!(queue.take(&**task).is_some());
        queue.detach(&**task, 0);
    }
    assert!(queue.is_empty() && queue.pop().is_none());
}

#[test]
fn a_limit_holds_and_what_is_left_goes_to_others() {
    let outer = Group::new(None, 1).expect("memory");
    let inner = Group::new(Some(&outer), 1).expect("memory");
    outer
        .set_limit(Some((50 * MS, 100 * MS)), 0)
        .expect("valid");
    inner
        .set_limit(Some((20 * MS, 100 * MS)), 0)
        .expect("valid");
    assert_eq!(outer.set_limit(Some((1, 0)), 0), Err(Errno::EINVAL));
    let mut queue = RunQueue::new(0);
    let tasks = [
        task(0, Attributes::default(), Some(&inner)),
        task(1, Attributes::default(), Some(&outer)),
    ];
    tasks.iter().for_each(|task| enter(&mut queue, task));
    run(&mut queue, 0, 10_000);
    let ran = |task: &Arc<Task>| task.ran_ns.load(Ordering::Relaxed) / MS;
    assert!(
        (1950..=2050).contains(&ran(&tasks[0])),
        "{}",
        ran(&tasks[0])
    );
    assert!(
        (2950..=3050).contains(&ran(&tasks[1])),
        "{}",
        ran(&tasks[1])
    );
    // A thread beside the groups gets what they may not use.
    let other = plain(2);
    enter_at(&mut queue, &other, 10_000);
    run(&mut queue, 10_000, 10_000);
    assert!((4950..=5050).contains(&ran(&other)), "{}", ran(&other));
    // Lifted, the shares are as the weights say again.
    outer.set_limit(None, 0).expect("valid");
    inner.set_limit(None, 0).expect("valid");
    let before: Vec<_> = tasks.iter().chain([&other]).map(ran).collect();
    run(&mut queue, 20_100, 8000);
    let after: Vec<_> = tasks.iter().chain([&other]).map(ran).collect();
    let gained: Vec<_> = after
        .iter()
        .zip(&before)
        .map(|(a, b)| (a - b) / 100)
        .collect();
    assert!((39..=41).contains(&gained[2]), "{gained:?}");
    assert!((19..=21).contains(&gained[0]), "{gained:?}");
}

#[test]
fn a_throttled_group_takes_threads_and_shows_none() {
    let group = Group::new(None, 1).expect("memory");
    group.set_limit(Some((5 * MS, 100 * MS)), 0).expect("valid");
    let mut queue = RunQueue::new(0);
    let (first, late) = (
        task(0, Attributes::default(), Some(&group)),
        task(1, Attributes::default(), Some(&group)),
    );
    enter(&mut queue, &first);
    let running = as_task(queue.pop().expect("one waits"));
    assert!(queue.charge(&*running, 6 * MS, 6 * MS), "it has to stop");
    queue.push(running);
    enter(&mut queue, &late);
    assert!(queue.is_empty() && queue.pop().is_none());
    assert!(queue.steal(|_| true).is_none());
    assert_eq!(queue.next_period_ns(), Some(100 * MS));
    queue.begin_periods(50 * MS);
    assert!(queue.pop().is_none(), "too early");
    assert!(queue.take(&*late).is_some());
    queue.detach(&*late, 0);
    queue.begin_periods(101 * MS);
    assert_eq!((queue.len(), queue.next_period_ns()), (1, None));
    assert_eq!(queue.pop().map(|it| as_task(it).name), Some(0));
}

#[test]
fn a_limit_holds_on_all_cpus_together_and_what_it_takes_is_counted() {
    const CPUS: usize = 4;
    let group = Group::new(None, CPUS).expect("memory");
    let limit = Some((150 * MS, 100 * MS));
    group.set_limit(limit, 0).expect("valid");
    let mut queues: Vec<_> = (0..CPUS).map(RunQueue::new).collect();
    let tasks: Vec<_> = (0..CPUS)
        .map(|name| task(name, Attributes::default(), Some(&group)))
        .collect();
    for (queue, task) in queues.iter_mut().zip(&tasks) {
        enter(queue, task);
    }
    for ms in 0..10_000 {
        queues.iter_mut().for_each(|queue| run(queue, ms, 1));
    }
    let ran = |task: &Arc<Task>| task.ran_ns.load(Ordering::Relaxed) / MS;
    let all: u64 = tasks.iter().map(ran).sum();
    assert!((14_900..=15_100).contains(&all), "{all} ms of 15000");
    let found = group.statistics();
    assert!((98..=100).contains(&found.periods), "{found:?}");
    assert!((98..=100).contains(&found.throttled_periods), "{found:?}");
    // What all CPUs had, less what was run.
    let throttled = found.throttled_ns / MS;
    assert!((24_500..=25_200).contains(&throttled), "{found:?}");
}

#[test]
fn who_goes_round_finds_the_whole_limit_everywhere() {
    const CPUS: usize = 4;
    let group = Group::new(None, CPUS).expect("memory");
    group.set_limit(Some((8 * MS, 100 * MS)), 0).expect("valid");
    let mut queues: Vec<_> = (0..CPUS).map(RunQueue::new).collect();
    let task = task(0, Attributes::default(), Some(&group));
    let mut ran_ms = 0;
    for cpu in (0..CPUS).cycle() {
        let queue = &mut queues[cpu];
        enter_at(queue, &task, ran_ms);
        let thread = as_task(queue.pop().expect("it waits"));
        ran_ms += 1;
        let must_stop = queue.charge(&*thread, MS, ran_ms * MS);
        queue.detach(&*thread, ran_ms * MS);
        if must_stop {
            break;
        }
    }
    assert_eq!(ran_ms, 8);
}

#[test]
fn stealing_takes_the_last_that_may_go_out_of_groups_too() {
    let group = Group::new(None, 2).expect("memory");
    let mut queues = [RunQueue::new(0), RunQueue::new(1)];
    let tasks: Vec<_> = (0..4)
        .map(|name| task(name, Attributes::default(), (name > 1).then_some(&group)))
        .collect();
    tasks.iter().for_each(|task| enter(&mut queues[0], task));
    let is = |name: usize| {
        move |member: &dyn Member| {
            let any: &dyn core::any::Any = member;
            any.downcast_ref::<Task>()
                .is_some_and(|task| task.name == name)
        }
    };
    assert!(queues[0].steal(is(9)).is_none());
    for name in [3, 2] {
        let stolen = as_task(queues[0].steal(is(name)).expect("it waits there"));
        queues[0].detach(&*stolen, 0);
        enter(&mut queues[1], &stolen);
    }
    assert_eq!((queues[0].len(), queues[1].len()), (2, 2));
    let names = |queue: &mut RunQueue| -> Vec<_> {
        core::iter::from_fn(|| queue.pop().map(|it| as_task(it).name)).collect()
    };
    assert_eq!(
        (names(&mut queues[0]), names(&mut queues[1]).len()),
        (vec![0, 1], 2)
    );
}

#[test]
fn a_woken_thread_is_compared_with_the_group_of_the_running_one() {
    let group = Group::new(None, 1).expect("memory");
    let mut queue = RunQueue::new(0);
    let inside = task(0, Attributes::default(), Some(&group));
    enter(&mut queue, &inside);
    let running = as_task(queue.pop().expect("it waits"));
    let woken = plain(1);
    queue.attach(&*woken, 0);
    queue.detach(&*woken, 0);
    queue.charge(&*running, 20 * MS, 20 * MS);
    enter_at(&mut queue, &woken, 20);
    assert!(queue.leads(&*woken, &*running), "its group has run 20 ms");
    assert!(!queue.leads(&*running, &*woken));
}

/// One CPU of a machine that is made up: what runs on it, until when, and since when each of its threads is there.
struct Cpu {
    queue: RunQueue,
    running: Option<Arc<Task>>,
    slice_end: u64,
    rotation: u64,
}

/// Spinners on several CPUs for `seconds`, with threads that wake up, run for 1 ms and sleep. All start on CPU
/// 0, as the children of one parent do.
fn machine(cpus: usize, spinners: usize, sleepers: usize, seconds: u64) -> Vec<Arc<Task>> {
    let tasks: Vec<_> = (0..spinners).map(plain).collect();
    let naps: Vec<_> = (0..sleepers).map(|name| plain(1000 + name)).collect();
    let mut came: Vec<u64> = vec![0; 2000];
    let mut machine: Vec<_> = (0..cpus)
        .map(|cpu| Cpu {
            queue: RunQueue::new(cpu),
            running: None,
            slice_end: 0,
            rotation: ROTATION_NS,
        })
        .collect();
    for it in &tasks {
        enter(&mut machine[0].queue, it);
    }
    for now in (0..seconds * 1000).map(|ms| ms * MS) {
        if now % (20 * MS) == 0 {
            for it in naps.iter().filter(|it| !it.entity.link().is_linked()) {
                enter_at(&mut machine[it.name % cpus].queue, it, now / MS);
            }
        }
        for here in 0..cpus {
            let ends = machine[here].slice_end <= now;
            let is_alone = machine[here].queue.is_empty() && machine[here].running.is_some();
            if ends && !is_alone {
                balance_one(&mut machine, here, now, &mut came);
            }
            let cpu = &mut machine[here];
            if let Some(running) = cpu.running.take_if(|_| ends) {
                cpu.queue.push(running);
            }
            if cpu.running.is_none() {
                cpu.running = cpu.queue.pop().map(as_task);
                cpu.slice_end = now + slice_ns(cpu.queue.len());
            }
            let Some(running) = cpu.running.clone() else {
                continue;
            };
            running.ran_ns.fetch_add(MS, Ordering::Relaxed);
            cpu.queue.charge(&*running, MS, now + MS);
            if running.name >= 1000 {
                cpu.queue.detach(&*running, now + MS);
                cpu.running = None;
            }
        }
    }
    tasks
}

fn balance_one(machine: &mut [Cpu], here: usize, now: u64, came: &mut [u64]) {
    let load = |cpu: &Cpu| cpu.queue.len() + usize::from(cpu.running.is_some());
    let others: Vec<_> = (1..machine.len())
        .map(|step| (here + step) % machine.len())
        .map(|cpu| (cpu, load(&machine[cpu])))
        .collect();
    let due = machine[here].rotation <= now;
    let Some(push) = balance::push(load(&machine[here]), others.into_iter(), due) else {
        return;
    };
    let settled = |member: &dyn Member| {
        let any: &dyn core::any::Any = member;
        let name = any.downcast_ref::<Task>().map_or(0, |task| task.name);
        !push.settled_only || came[name] + SETTLE_NS <= now
    };
    let Some(moved) = machine[here].queue.steal(settled).map(as_task) else {
        return;
    };
    machine[here].queue.detach(&*moved, now);
    enter_at(&mut machine[push.to].queue, &moved, now / MS);
    came[moved.name] = now;
    for cpu in [here, push.to] {
        machine[cpu].rotation = now + ROTATION_NS;
    }
}

#[test]
fn spinners_on_several_cpus_get_equal_shares() {
    for (cpus, spinners) in [(2, 7), (2, 3), (4, 5), (4, 9), (3, 4)] {
        let wanted = 100.0 / spinners as f64;
        let found = shares(&machine(cpus, spinners, 0, 30));
        let is_fair = found
            .iter()
            .all(|share| (share / wanted - 1.0).abs() < 0.12);
        assert!(is_fair, "{spinners} on {cpus}: {found:?}");
    }
}

#[test]
fn sleepers_disturb_the_shares_of_spinners_little() {
    let found = shares(&machine(2, 7, 3, 30));
    let wanted = 100.0 / 7.0;
    assert!(
        found
            .iter()
            .all(|share| (share / wanted - 1.0).abs() < 0.15),
        "{found:?}"
    );
}

#[test]
fn a_new_thread_runs_though_very_many_others_wake_up_all_the_time() {
    // Each runs for 0.1 ms and sleeps for 5 ms: together they take four times the CPU that there is.
    const RUN_NS: u64 = MS / 10;
    let naps: Vec<_> = (0..200).map(plain).collect();
    let mut wakes = vec![0; naps.len()];
    let new = plain(1000);
    let mut queue = RunQueue::new(0);
    let first = plain(1001);
    queue.attach(&*first, 0);
    queue.charge(&*first, 100 * MS, 0);
    queue.detach(&*first, 0);
    let mut looks = 0;
    for now in (0..).map(|step| step * RUN_NS) {
        for (it, wake) in naps.iter().zip(&mut wakes) {
            if *wake <= now {
                *wake = u64::MAX;
                queue.attach(&**it, now);
                queue.push(it.clone());
            }
        }
        if now == 200 * MS {
            queue.attach(&*new, now);
            queue.push(new.clone());
        }
        let running = as_task(queue.pop().expect("many wait"));
        if running.name == new.name {
            break;
        }
        looks += u64::from(now >= 200 * MS);
        assert!(looks < 1000, "not once in 100 ms");
        queue.charge(&*running, RUN_NS, now + RUN_NS);
        queue.detach(&*running, now + RUN_NS);
        wakes[running.name] = now + RUN_NS + 5 * MS;
    }
}
