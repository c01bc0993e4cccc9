//! Groups and their files as programs use them, without programs.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

use abi::Errno;
use fs::{Credentials, Inode};

use super::inode::Directory;
use super::items;
use super::{Opener, kill, numbers};
use crate::exit;
use crate::procfs::text::Text;
use crate::task::cgroup::{Cgroup, Controllers, Owner, members};
use crate::task::relations;
use crate::task::thread::Thread;
use crate::task::tree;

/// A group of its own for each test, whose children have all controllers.
fn group() -> Arc<Cgroup> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let root = Cgroup::root().unwrap();
    root.change_subtree_control(Controllers::all(), Controllers::empty())
        .unwrap();
    let name = format!("test{}", NEXT.fetch_add(1, Ordering::Relaxed));
    root.make_child(name.as_bytes(), Owner::default()).unwrap()
}

fn child(group: &Arc<Cgroup>, name: &str) -> Arc<Cgroup> {
    group.make_child(name.as_bytes(), Owner::default()).unwrap()
}

fn thread() -> Arc<Thread> {
    crate::tests::process(None)
}

fn opener() -> Opener {
    Opener {
        credentials: Arc::new(Credentials::root()),
        namespace_root: None,
    }
}

fn read(group: &Arc<Cgroup>, name: &str) -> String {
    let item = items::at(items::find(name.as_bytes()).unwrap()).unwrap();
    let mut text = Text::new();
    item.show.unwrap()(group, &mut text).unwrap();
    String::from_utf8(text.into_bytes().unwrap().to_vec()).unwrap()
}

fn write(group: &Arc<Cgroup>, name: &str, text: &str) -> abi::Result<()> {
    let item = items::at(items::find(name.as_bytes()).unwrap()).unwrap();
    item.set.unwrap()(group, &opener(), text)
}

/// A new process whose parent is `parent`'s, as clone(2) makes it known.
fn fork(parent: &Arc<Thread>) -> abi::Result<Arc<Thread>> {
    let new = crate::tests::process(Some(parent.process()));
    let joined = members::join(&mut tree::lock(), parent, &new, None);
    joined.map(|()| new.clone()).inspect_err(|_| die(&new))
}

fn die(thread: &Arc<Thread>) {
    exit::exit_thread(thread, 0);
    exit::finish(thread, None);
}

fn reap(thread: &Arc<Thread>) {
    let reaped = relations::reap(&mut tree::lock(), thread.process());
    drop(reaped);
}

#[test]
fn members_are_counted_until_they_end_and_tasks_until_they_are_waited_for() {
    let top = group();
    let inner = child(&top, "inner");
    let first = thread();
    members::migrate(&first, true, &inner);
    assert_eq!(read(&top, "cgroup.events"), "populated 1\nfrozen 0\n");
    let second = fork(&first).unwrap();
    assert_eq!((top.pids().current, inner.pids().current), (2, 2));
    assert_eq!(inner.remove(), Err(Errno::EBUSY));
    assert_eq!(top.remove(), Err(Errno::EBUSY));
    let seen = inner.events.version();
    die(&second);
    assert_eq!(inner.events.version(), seen);
    assert_eq!(inner.pids().current, 2);
    reap(&second);
    assert_eq!((inner.pids().current, inner.pids().peak), (1, 2));
    die(&first);
    assert_eq!(inner.events.version(), seen + 1);
    assert_eq!(read(&top, "cgroup.events"), "populated 0\nfrozen 0\n");
    inner.remove().unwrap();
    assert_eq!(top.dying(), 1);
    reap(&first);
    drop((first, second, inner));
    assert_eq!(top.dying(), 0);
    top.remove().unwrap();
}

#[test]
fn tasks_beyond_the_limit_are_refused() {
    let top = group();
    top.change_subtree_control(Controllers::PIDS, Controllers::empty())
        .unwrap();
    let inner = child(&top, "inner");
    let first = thread();
    members::migrate(&first, true, &inner);
    for bad in ["-1", "x", "", "4194305"] {
        assert_eq!(write(&top, "pids.max", bad), Err(Errno::EINVAL), "{bad}");
    }
    write(&top, "pids.max", "2").unwrap();
    let second = fork(&first).unwrap();
    assert_eq!(fork(&first).err(), Some(Errno::EAGAIN));
    assert_eq!(members::check_room(&first), Err(Errno::EAGAIN));
    assert_eq!(read(&inner, "pids.current"), "2\n");
    let events = |group| (read(group, "pids.events"), read(group, "pids.events.local"));
    let max = |count: u32| format!("max {count}\n");
    assert_eq!(events(&top), (max(2), max(2)));
    assert_eq!(events(&inner), (max(0), max(0)));
    // Who comes from elsewhere is not refused.
    let third = thread();
    members::migrate(&third, true, &top);
    assert_eq!(read(&top, "pids.current"), "3\n");
    write(&top, "pids.max", "max").unwrap();
    assert_eq!(read(&top, "pids.max"), "max\n");
    let fourth = fork(&second).unwrap();
    for thread in [first, second, third, fourth] {
        die(&thread);
        reap(&thread);
    }
    assert_eq!(read(&top, "pids.current"), "0\n");
}

#[test]
fn a_group_is_frozen_when_all_in_it_are() {
    let top = group();
    let inner = child(&top, "inner");
    let thread = thread();
    members::migrate(&thread, true, &inner);
    top.set_freeze(true).unwrap();
    assert_eq!((top.state(), inner.state()), ((true, false), (true, false)));
    assert!(thread.freeze.load(Ordering::SeqCst) && thread.needs_attention());
    crate::task::cgroup::freezer::enter(&thread);
    assert_eq!((top.state(), inner.state()), ((true, true), (true, true)));
    // Who comes into it while it is frozen is asked, too.
    let late = fork(&thread).unwrap();
    assert!(late.freeze.load(Ordering::SeqCst));
    assert_eq!(top.state(), (true, false));
    crate::task::cgroup::freezer::enter(&late);
    let empty = child(&inner, "empty");
    assert_eq!((top.state(), empty.state()), ((true, true), (false, true)));
    empty.remove().unwrap();
    assert_eq!(top.state(), (true, true));
    // A frozen one that leaves thaws.
    members::migrate(&late, true, &Cgroup::root().unwrap());
    assert!(!late.freeze.load(Ordering::SeqCst));
    die(&thread);
    assert_eq!((top.state(), inner.state()), ((false, true), (false, true)));
    top.set_freeze(false).unwrap();
    assert_eq!(inner.state(), (false, false));
    die(&late);
    reap(&thread);
    reap(&late);
}

#[test]
fn all_below_are_killed() {
    let top = group();
    let inner = child(&top, "inner");
    let (one, two, outside) = (thread(), thread(), thread());
    members::migrate(&one, true, &top);
    members::migrate(&two, true, &inner);
    kill(&top);
    assert!(one.process().is_exiting() && two.process().is_exiting());
    assert!(!outside.process().is_exiting());
    for thread in [one, two, outside] {
        die(&thread);
        reap(&thread);
    }
}

#[test]
fn threads_share_a_domain() {
    let top = group();
    let (part, domain) = (child(&top, "part"), child(&top, "domain"));
    assert_eq!(write(&part, "cgroup.type", "domain"), Err(Errno::EINVAL));
    write(&part, "cgroup.type", "threaded").unwrap();
    assert_eq!(
        [&top, &part, &domain].map(|group| group.kind()),
        ["domain threaded", "threaded", "domain invalid",]
    );
    let thread = thread();
    let root = Cgroup::root().unwrap();
    assert_eq!(domain.check_move(&root, true), Err(Errno::EOPNOTSUPP));
    assert_eq!(part.check_move(&root, false), Err(Errno::EOPNOTSUPP));
    part.check_move(&root, true).unwrap();
    members::migrate(&thread, true, &part);
    top.check_move(&part, false).unwrap();
    assert_eq!(part.domain().id(), top.id());
    assert_eq!(top.state(), (true, false));
    die(&thread);
    reap(&thread);
    part.remove().unwrap();
    assert_eq!(top.kind(), "domain");
}

#[test]
fn groups_are_limited_in_depth_and_number() {
    let top = group();
    write(&top, "cgroup.max.depth", "1").unwrap();
    let inner = child(&top, "inner");
    assert_eq!(
        inner.make_child(b"deep", Owner::default()).err(),
        Some(Errno::EAGAIN)
    );
    write(&top, "cgroup.max.depth", "max").unwrap();
    write(&top, "cgroup.max.descendants", "2").unwrap();
    let deep = child(&inner, "deep");
    assert_eq!(
        top.make_child(b"more", Owner::default()).err(),
        Some(Errno::EAGAIN)
    );
    assert_eq!(
        inner.make_child(b"deep", Owner::default()).err(),
        Some(Errno::EAGAIN)
    );
    write(&top, "cgroup.max.descendants", "3").unwrap();
    assert_eq!(
        inner.make_child(b"deep", Owner::default()).err(),
        Some(Errno::EEXIST)
    );
    let names: Vec<_> = top.subtree().map(|group| group.name().to_vec()).collect();
    assert_eq!(names[1..], [b"inner".to_vec(), b"deep".to_vec()]);
    deep.remove().unwrap();
    inner.remove().unwrap();
    assert_eq!(
        read(&top, "cgroup.stat"),
        "nr_descendants 0\nnr_dying_descendants 2\n"
    );
    drop(deep);
    drop(inner);
    assert_eq!(
        read(&top, "cgroup.stat"),
        "nr_descendants 0\nnr_dying_descendants 0\n"
    );
}

#[test]
fn controllers_are_handed_on_from_the_top() {
    let top = group();
    let inner = child(&top, "inner");
    let directory = Directory::new(inner.clone()).unwrap();
    assert_eq!(read(&inner, "cgroup.controllers"), "\n");
    assert!(directory.lookup(b"pids.max").is_err());
    assert_eq!(
        write(&inner, "cgroup.subtree_control", "+pids"),
        Err(Errno::ENOENT)
    );
    for bad in ["pids", "+none", "+", "=pids"] {
        assert_eq!(
            write(&top, "cgroup.subtree_control", bad),
            Err(Errno::EINVAL),
            "{bad}"
        );
    }
    write(&top, "cgroup.subtree_control", "+pids").unwrap();
    let found = directory.lookup(b"pids.max").unwrap();
    assert!(directory.is_current(b"pids.max", Some(&found)));
    write(&inner, "cgroup.subtree_control", "+pids").unwrap();
    assert_eq!(
        write(&top, "cgroup.subtree_control", "-pids"),
        Err(Errno::EBUSY)
    );
    write(&inner, "cgroup.subtree_control", "-pids").unwrap();
    write(&inner, "pids.max", "5").unwrap();
    write(&top, "cgroup.subtree_control", "-pids").unwrap();
    assert!(!directory.is_current(b"pids.max", Some(&found)));
    write(&top, "cgroup.subtree_control", "+pids").unwrap();
    assert_eq!(read(&inner, "pids.max"), "max\n");
    inner.remove().unwrap();
    top.remove().unwrap();
}

#[test]
fn processes_are_charged_to_the_next_group_that_has_the_controller() {
    let top = group();
    let inner = child(&top, "inner");
    let deep = child(&inner, "deep");
    let thread = thread();
    members::migrate(&thread, true, &deep);
    let payer = || thread.process().memory_group();
    assert_eq!((Some(payer()), inner.memory()), (top.memory(), None));
    write(&top, "cgroup.subtree_control", "+memory").unwrap();
    assert_eq!(Some(payer()), inner.memory());
    assert!(payer().is_within(top.memory().unwrap()) && deep.memory().is_none());
    let late = child(&top, "late");
    assert!(late.memory().is_some());
    write(&inner, "memory.max", "1M").unwrap();
    assert_eq!(read(&inner, "memory.max"), "1048576\n");
    for bad in ["", "x", "1M1", "-1"] {
        assert_eq!(
            write(&inner, "memory.max", bad),
            Err(Errno::EINVAL),
            "{bad}"
        );
    }
    let forked = fork(&thread).unwrap();
    assert_eq!(forked.process().memory_group(), payer());
    assert_eq!(write(&inner, "cgroup.subtree_control", "+memory"), Ok(()));
    assert_eq!(Some(payer()), deep.memory());
    write(&inner, "cgroup.subtree_control", "-memory").unwrap();
    write(&top, "cgroup.subtree_control", "-memory").unwrap();
    assert_eq!(Some(payer()), top.memory());
    assert_eq!(write(&top, "cgroup.subtree_control", "+memory"), Ok(()));
    assert_eq!(read(&inner, "memory.max"), "max\n");
    // Controllers that go by processes want no processes where they are handed on.
    members::migrate(&forked, true, &late);
    assert_eq!(
        write(&late, "cgroup.subtree_control", "+memory"),
        Err(Errno::EBUSY)
    );
    assert_eq!(late.check_move(&deep, true), Ok(()));
    members::migrate(&thread, true, &Cgroup::root().unwrap());
    assert_eq!(payer(), memory::MemoryGroup::ROOT);
    for thread in [thread, forked] {
        die(&thread);
        reap(&thread);
    }
}

#[test]
fn sizes_have_letters() {
    let all = ["4096", "1k", "2M", "0x10", "1g"].map(numbers::size);
    assert_eq!(
        all,
        [Ok(4096), Ok(1 << 10), Ok(2 << 20), Ok(16), Ok(1 << 30)]
    );
    for bad in ["", "K", "1KB", "-1"] {
        assert_eq!(numbers::size(bad), Err(Errno::EINVAL), "{bad}");
    }
}

#[test]
fn numbers_are_read_as_c_does() {
    let all = ["0x1f", "017", " 9 ", "-4", "+4", "0"].map(numbers::signed);
    assert_eq!(all, [Ok(31), Ok(15), Ok(9), Ok(-4), Ok(4), Ok(0)]);
    for bad in ["", "x", "09", "1 2", "--1", "0x"] {
        assert_eq!(numbers::signed(bad), Err(Errno::EINVAL), "{bad}");
    }
    assert_eq!(numbers::int("3000000000"), Err(Errno::ERANGE));
    assert_eq!(numbers::count_or_max("max\n"), Ok(None));
    assert_eq!(numbers::count_or_max("-1"), Err(Errno::ERANGE));
    assert_eq!(numbers::switch("2"), Err(Errno::ERANGE));
}
