//! What epoll(7) promises: levels, edges, one shots, closing, nesting.

use std::thread;
use std::time::Duration;

use alloc::vec::Vec;

use super::*;
use crate::eventfd;
use memory::io::{IoReader, IoWriter};

fn credentials() -> Arc<Credentials> {
    Arc::new(Credentials::root())
}

fn event(count: u64) -> Arc<File> {
    eventfd::create(count, false, OpenFlags::NONBLOCK, &credentials()).unwrap()
}

fn signal(file: &File) {
    file.write(&mut IoReader::kernel(&1_u64.to_ne_bytes()))
        .unwrap();
}

fn drain(file: &File) {
    file.read(&mut IoWriter::kernel(&mut [0; 8])).unwrap();
}

fn wanting(bits: u32, data: u64) -> Interest {
    Interest::new(bits, data)
}

const IN: u32 = Events::IN.bits();

fn wait(epoll: &Epoll, max: usize, deadline_ns: Option<u64>) -> Result<Vec<(Events, u64)>> {
    let mut found = Vec::new();
    epoll.wait(max, deadline_ns, &mut |events, data| {
        found.push((events, data));
        Ok(())
    })?;
    Ok(found)
}

fn now(epoll: &File) -> Vec<u64> {
    wait(epoll.downcast().unwrap(), 8, Some(0))
        .unwrap()
        .into_iter()
        .map(|(_, data)| data)
        .collect()
}

fn add(epoll: &File, fd: i32, file: &Arc<File>, interest: Interest) -> Result<()> {
    epoll.downcast::<Epoll>().unwrap().add(fd, file, interest)
}

#[test]
fn level_triggered_items_are_told_as_long_as_they_are_ready() {
    let (epoll, file) = (Epoll::create(&credentials()).unwrap(), event(1));
    add(&epoll, 3, &file, wanting(IN, 7)).unwrap();
    assert_eq!((now(&epoll), now(&epoll)), (vec![7], vec![7]));
    drain(&file);
    assert_eq!(now(&epoll), Vec::<u64>::new());
    signal(&file);
    assert_eq!(now(&epoll), vec![7]);
}

#[test]
fn edge_triggered_items_are_told_once_a_wake_up() {
    let (epoll, file) = (Epoll::create(&credentials()).unwrap(), event(1));
    add(&epoll, 3, &file, wanting(IN | Mode::EDGE.bits(), 7)).unwrap();
    assert_eq!((now(&epoll), now(&epoll)), (vec![7], Vec::<u64>::new()));
    signal(&file);
    assert_eq!((now(&epoll), now(&epoll)), (vec![7], Vec::<u64>::new()));
}

#[test]
fn one_shot_items_sleep_until_modified() {
    let (epoll, file) = (Epoll::create(&credentials()).unwrap(), event(1));
    let interest = wanting(IN | Mode::ONESHOT.bits(), 7);
    add(&epoll, 3, &file, interest).unwrap();
    assert_eq!((now(&epoll), now(&epoll)), (vec![7], Vec::<u64>::new()));
    signal(&file);
    assert_eq!(now(&epoll), Vec::<u64>::new());
    epoll
        .downcast::<Epoll>()
        .unwrap()
        .modify(3, &file, interest)
        .unwrap();
    assert_eq!(now(&epoll), vec![7]);
}

#[test]
fn errors_are_those_of_the_man_page() {
    let (epoll, file) = (Epoll::create(&credentials()).unwrap(), event(0));
    let instance: &Epoll = epoll.downcast().unwrap();
    assert_eq!(
        instance.modify(3, &file, wanting(IN, 0)),
        Err(Errno::ENOENT)
    );
    assert_eq!(instance.remove(3, &file), Err(Errno::ENOENT));
    add(&epoll, 3, &file, wanting(IN, 0)).unwrap();
    assert_eq!(add(&epoll, 3, &file, wanting(IN, 0)), Err(Errno::EEXIST));
    assert_eq!(
        add(&epoll, 4, &file, wanting(IN, 0)),
        Ok(()),
        "another descriptor of it"
    );
    assert_eq!(add(&epoll, 9, &epoll, wanting(IN, 0)), Err(Errno::EINVAL));
    let exclusive = wanting(IN | Mode::EXCLUSIVE.bits(), 0);
    assert_eq!(instance.modify(3, &file, exclusive), Err(Errno::EINVAL));
    assert_eq!(instance.remove(3, &file), Ok(()));
}

#[test]
fn closed_files_vanish() {
    let (epoll, file) = (Epoll::create(&credentials()).unwrap(), event(1));
    add(&epoll, 3, &file, wanting(IN, 7)).unwrap();
    drop(file);
    assert_eq!(now(&epoll), Vec::<u64>::new());
    let other = event(1);
    add(&epoll, 3, &other, wanting(IN, 8)).unwrap();
    assert_eq!(now(&epoll), vec![8]);
}

#[test]
fn at_most_as_many_as_asked_for_and_the_rest_next_time() {
    let epoll = Epoll::create(&credentials()).unwrap();
    let files: Vec<_> = (0..20).map(|_| event(1)).collect();
    for (fd, file) in (0..).zip(&files) {
        let fd: i32 = fd;
        let data = u64::from(fd.unsigned_abs());
        add(&epoll, fd, file, wanting(IN | Mode::EDGE.bits(), data)).unwrap();
    }
    let mut all: Vec<u64> = (0..3).flat_map(|_| now(&epoll)).collect();
    all.sort_unstable();
    assert_eq!(all, (0..20).collect::<Vec<u64>>());
}

#[test]
fn instances_nest_without_cycles() {
    let (inner, outer, file) = (
        Epoll::create(&credentials()).unwrap(),
        Epoll::create(&credentials()).unwrap(),
        event(0),
    );
    add(&outer, 3, &inner, wanting(IN, 1)).unwrap();
    add(&inner, 4, &file, wanting(IN, 2)).unwrap();
    assert_eq!(add(&inner, 5, &outer, wanting(IN, 3)), Err(Errno::ELOOP));
    assert_eq!(now(&outer), Vec::<u64>::new());
    signal(&file);
    assert_eq!((now(&outer), now(&inner)), (vec![1], vec![2]));
    drain(&file);
    assert_eq!(now(&outer), Vec::<u64>::new());
    // Dropping an instance would take it out of those that watch it: all stay.
    let mut chain = vec![outer];
    while chain.len() < 8 {
        let next = Epoll::create(&credentials()).unwrap();
        let result = add(&next, 3, &chain[chain.len() - 1], wanting(IN, 0));
        if result == Err(Errno::ELOOP) {
            return;
        }
        chain.push(next);
    }
    panic!("nesting is not bounded");
}

#[test]
fn a_waiter_is_woken_by_another_thread_and_times_out_otherwise() {
    let (epoll, file) = (Epoll::create(&credentials()).unwrap(), event(0));
    add(&epoll, 3, &file, wanting(IN, 7)).unwrap();
    let soon = sched::clock::monotonic_ns() + 20_000_000;
    let instance: &Epoll = epoll.downcast().unwrap();
    assert_eq!(wait(instance, 1, Some(soon)), Ok(vec![]));
    let waker = file.clone();
    let waking = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        signal(&waker);
    });
    assert_eq!(wait(instance, 1, None), Ok(vec![(Events::IN, 7)]));
    waking.join().unwrap();
}

#[test]
fn nesting_is_bounded_whichever_end_grows() {
    let all: Vec<_> = (0..6)
        .map(|_| Epoll::create(&credentials()).unwrap())
        .collect();
    for at in 0..4 {
        add(&all[at], 3, &all[at + 1], wanting(IN, 0)).unwrap();
    }
    assert_eq!(
        add(&all[4], 3, &all[5], wanting(IN, 0)),
        Err(Errno::ELOOP),
        "from the top down"
    );
    assert_eq!(
        add(&all[5], 3, &all[0], wanting(IN, 0)),
        Err(Errno::ELOOP),
        "from the bottom up"
    );
    assert_eq!(add(&all[4], 3, &all[0], wanting(IN, 0)), Err(Errno::ELOOP));
    let inner = all[0].downcast::<Epoll>().unwrap();
    inner.remove(3, &all[1]).unwrap();
    add(&all[4], 3, &all[5], wanting(IN, 0)).unwrap();
}

#[test]
fn a_level_left_ready_wakes_the_second_waiter() {
    let (epoll, file) = (Epoll::create(&credentials()).unwrap(), event(0));
    add(&epoll, 3, &file, wanting(IN, 7)).unwrap();
    let waiters: Vec<_> = (0..4)
        .map(|_| {
            let epoll = epoll.clone();
            thread::spawn(move || wait(epoll.downcast::<Epoll>().unwrap(), 8, None).unwrap())
        })
        .collect();
    thread::sleep(Duration::from_millis(20));
    signal(&file);
    for waiter in waiters {
        assert_eq!(waiter.join().unwrap().len(), 1);
    }
}

#[test]
fn an_edge_above_does_not_hear_of_what_a_wait_below_leaves() {
    let (inner, outer, file) = (
        Epoll::create(&credentials()).unwrap(),
        Epoll::create(&credentials()).unwrap(),
        event(1),
    );
    add(&inner, 3, &file, wanting(IN, 7)).unwrap();
    add(&outer, 4, &inner, wanting(IN | Mode::EDGE.bits(), 8)).unwrap();
    assert_eq!((now(&outer), now(&outer)), (vec![8], Vec::<u64>::new()));
    assert_eq!(now(&inner), vec![7]);
    assert_eq!(now(&outer), Vec::<u64>::new());
}

#[test]
fn a_wake_up_does_not_go_on_too_many_ways() {
    let epolls: Vec<_> = (0..4)
        .map(|_| Epoll::create(&credentials()).unwrap())
        .collect();
    let source = event(0);
    add(&epolls[0], 0, &source, wanting(IN, 1)).unwrap();
    let mut refused = None;
    for (inner, outer) in epolls.iter().zip(&epolls[1..]) {
        for fd in 0..40 {
            if let Err(errno) = add(outer, fd, inner, wanting(IN, 2)) {
                refused.get_or_insert((fd, errno));
                break;
            }
        }
    }
    // Forty ways into the second, and twice as many by a third.
    assert_eq!(refused, Some((1, Errno::EINVAL)));
    // Those into the second count twice now.
    let first = (40..60).find(|fd| add(&epolls[1], *fd, &epolls[0], wanting(IN, 2)).is_err());
    assert_eq!(first, Some(49));
    signal(&source);
    assert_eq!(now(&epolls[0]), [1]);
    assert!(!now(&epolls[1]).is_empty() && !now(&epolls[2]).is_empty());
}

#[test]
fn items_that_come_and_go_leave_room_for_the_ready_ones() {
    let (epoll, file) = (Epoll::create(&credentials()).unwrap(), event(1));
    let instance = epoll.downcast::<Epoll>().unwrap();
    for fd in 0..1000 {
        add(&epoll, fd, &file, wanting(IN, 0)).unwrap();
        instance.remove(fd, &file).unwrap();
    }
    // Each was ready, and nobody looked.
    assert!(instance.ready.list.lock().capacity() <= 256);
    let late = event(0);
    add(&epoll, 3, &file, wanting(IN, 3)).unwrap();
    add(&epoll, 4, &late, wanting(IN, 4)).unwrap();
    signal(&late);
    let mut found = now(&epoll);
    found.sort_unstable();
    assert_eq!(found, [3, 4]);
    instance.remove(4, &late).unwrap();
    signal(&late);
    assert_eq!(now(&epoll), [3], "one that is gone is told of no more");
}
