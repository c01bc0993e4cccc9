//! Walks beside changes: what a change has done is seen by the next walk, whatever other walks do meanwhile.

use core::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;
use crate::mount::DetachMode;

const ROUNDS: usize = 1500;

/// Looks `paths` up again and again while `change` runs; each answer is a file or `ENOENT`.
fn while_others_look(world: &World, paths: &[&str], change: impl FnOnce()) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for path in paths {
                        match world.find(path) {
                            Ok(found) => assert!(found.inode().is_ok()),
                            Err(errno) => assert_eq!(errno, Errno::ENOENT, "{path}"),
                        }
                    }
                    thread::yield_now();
                }
            });
        }
        change();
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_rename_is_seen_at_once_in_a_storm_of_walks() {
    let world = World::new();
    for directory in ["a", "b", "b/c"] {
        world.mkdir(directory).unwrap();
    }
    world.write("a/f", b"x");
    let inode = world.find("a/f").unwrap().inode().unwrap().clone();
    let root = world.cwd();
    while_others_look(&world, &["a/f", "b/f", "b/c/f", "a/../b/f"], || {
        let places = ["a/f", "b/f", "b/c/f"];
        for round in 0..ROUNDS {
            let (from, to) = (places[round % 3], places[(round + 1) % 3]);
            let sides = ((&root, from.as_bytes()), (&root, to.as_bytes()));
            let flags = RenameFlags::empty();
            world.caller().rename(sides.0, sides.1, flags).unwrap();
            assert_eq!(world.find(from).err(), Some(Errno::ENOENT));
            let found = world.find(to).unwrap();
            assert!(Arc::ptr_eq(found.inode().unwrap(), &inode));
        }
    });
}

#[test]
fn names_that_come_and_go_are_seen_as_they_are() {
    let world = World::new();
    world.mkdir("d").unwrap();
    while_others_look(&world, &["d/f", "d/./f"], || {
        for _ in 0..ROUNDS {
            assert_eq!(world.find("d/f").err(), Some(Errno::ENOENT));
            let made = world
                .open("d/f", OpenFlags::RDWR | OpenFlags::CREAT | OpenFlags::EXCL)
                .unwrap();
            let found = world.find("d/f").unwrap();
            assert!(Arc::ptr_eq(found.inode().unwrap(), made.inode().unwrap()));
            world.caller().unlink(&world.cwd(), b"d/f").unwrap();
        }
    });
}

#[test]
fn a_mount_is_there_until_it_is_taken_away() {
    let world = World::new();
    world.mkdir("m").unwrap();
    world.write("m/below", b"x");
    let place = world.find("m").unwrap();
    while_others_look(&world, &["m/f", "m/below", "m/../m/f"], || {
        for _ in 0..ROUNDS / 5 {
            let inner = World::new();
            inner.write("f", b"x");
            let super_block = inner.cwd().mount.super_block().clone();
            let namespace = world.fs.namespace();
            namespace
                .mount(&place, &super_block, b"none", MountFlags::empty())
                .unwrap();
            assert!(world.find("m/f").is_ok());
            assert_eq!(world.find("m/below").err(), Some(Errno::ENOENT));
            namespace
                .unmount(&world.find("m").unwrap(), DetachMode::Lazy)
                .unwrap();
            assert_eq!(world.find("m/f").err(), Some(Errno::ENOENT));
            assert!(world.find("m/below").is_ok());
        }
    });
}

#[test]
fn what_is_removed_is_freed_after_the_walks_that_found_it() {
    let world = World::new();
    world.mkdir("d").unwrap();
    world.write("d/f", b"x");
    let known = Arc::downgrade(world.find("d/f").unwrap().inode().unwrap());
    while_others_look(&world, &["d/f"], || {
        world.caller().unlink(&world.cwd(), b"d/f").unwrap();
    });
    sched::rcu::barrier();
    assert_eq!(known.strong_count(), 0);
}

#[test]
fn a_directory_that_may_not_be_searched_hides_known_names() {
    let world = World::new();
    world.mkdir("d").unwrap();
    world.write("d/f", b"x");
    assert!(world.find("d/f").is_ok() && world.find("d/f").is_ok());
    let user = world.as_user(1000, 1000);
    assert!(user.find("d/f").is_ok());
    let place = world.find("d").unwrap();
    world.caller().chmod(&place, 0o700).unwrap();
    assert_eq!(user.find("d/f").err(), Some(Errno::EACCES));
    assert_eq!(user.find("d/none").err(), Some(Errno::EACCES));
    assert!(world.find("d/f").is_ok());
}

/// Two users make the same name at once in a directory that all may write to: neither is given the other's file.
#[test]
fn what_was_made_is_what_is_opened() {
    let world = World::new();
    world.mkdir("s").unwrap();
    let place = world.find("s").unwrap();
    world.caller().chmod(&place, 0o777).unwrap();
    let user = world.as_user(1000, 1000);
    let done = AtomicBool::new(false);
    let secret = OpenHow {
        flags: OpenFlags::RDWR | OpenFlags::CREAT | OpenFlags::EXCL,
        mode: 0o600,
        resolve: LookupFlags::empty(),
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                match user.open("s/f", OpenFlags::RDWR | OpenFlags::CREAT) {
                    Ok(file) => {
                        let uid = file.inode().unwrap().metadata().unwrap().uid;
                        assert_eq!(uid, user.credentials.fsuid, "another's private file");
                    }
                    Err(errno) => assert!([Errno::EACCES, Errno::ENOENT].contains(&errno)),
                }
            }
        });
        for _ in 0..2 * ROUNDS {
            let _ = world.caller().unlink(&world.cwd(), b"s/f");
            let _ = world.caller().open(&world.cwd(), b"s/f", &secret);
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// As above without another user: the name is forgotten at once when there is no memory to remember it.
#[test]
fn a_file_that_was_made_is_opened_or_memory_is_short() {
    use machine::heap::testing;
    let world = World::new();
    let flags = OpenFlags::RDWR | OpenFlags::CREAT | OpenFlags::EXCL;
    for nth in 1..100 {
        let name = format!("f{nth}");
        testing::fail_nth(nth);
        let opened = world.open(&name, flags);
        if testing::fail_never() {
            assert!(opened.is_ok() && nth > 3);
            return;
        }
        if let Err(errno) = opened {
            assert!([Errno::ENOMEM, Errno::ENOSPC].contains(&errno), "{errno:?}");
        }
    }
    panic!("each allocation fails");
}

/// A call that finds no memory is made again, and must not find what the first attempt has made.
#[test]
fn what_failed_for_memory_can_be_made_again() {
    use machine::heap::testing;
    let world = World::new();
    world
        .open("old", OpenFlags::WRONLY | OpenFlags::CREAT)
        .unwrap();
    let exclusive = OpenFlags::WRONLY | OpenFlags::CREAT | OpenFlags::EXCL;
    type Call = fn(&World, &str, OpenFlags) -> Result<()>;
    let calls: [(&str, Call); 4] = [
        ("mkdir", |world, name, _| world.mkdir(name)),
        ("symlink", |world, name, _| world.symlink("old", name)),
        ("link", |world, name, _| world.link("old", name)),
        ("open", |world, name, flags| {
            world.open(name, flags).map(drop)
        }),
    ];
    for (what, call) in calls {
        for nth in 1.. {
            assert!(nth < 100, "{what}: each allocation fails");
            let name = format!("{what}{nth}");
            // The name may be known not to be there.
            if nth % 2 == 0 {
                assert!(world.find(&name).is_err());
            }
            testing::fail_nth(nth);
            let first = call(&world, &name, exclusive);
            if testing::fail_never() {
                first.unwrap();
                break;
            }
            if first.is_err() {
                assert_eq!(first, Err(Errno::ENOMEM), "{what}, allocation {nth}");
                let again = call(&world, &name, exclusive);
                assert_eq!(again, Ok(()), "{what} again, allocation {nth}");
            }
            assert!(world.find_link(&name).is_ok(), "{what}, allocation {nth}");
        }
    }
}

/// A directory is replaced only while it is empty, whoever makes files in it.
#[test]
fn no_file_is_made_in_a_directory_that_was_replaced() {
    let world = World::new();
    for directory in ["from", "to"] {
        world.mkdir(directory).unwrap();
    }
    let made = AtomicBool::new(false);
    let flags = OpenFlags::RDWR | OpenFlags::CREAT | OpenFlags::EXCL;
    for _ in 0..ROUNDS {
        let _ = world.mkdir("from");
        let place = world.find("to").unwrap();
        let outcome = thread::scope(|scope| {
            scope.spawn(|| {
                let how = OpenHow {
                    flags,
                    mode: 0o600,
                    resolve: LookupFlags::empty(),
                };
                let file = world.caller().open(&place, b"f", &how);
                made.store(file.is_ok(), Ordering::SeqCst);
            });
            world.rename("from", "to")
        });
        let is_there = world.find("to/f").is_ok();
        match outcome {
            Ok(()) => assert!(
                !made.load(Ordering::SeqCst),
                "a file in a removed directory"
            ),
            Err(errno) => {
                assert_eq!(errno, Errno::ENOTEMPTY);
                assert!(is_there);
                world.caller().unlink(&world.cwd(), b"to/f").unwrap();
            }
        }
    }
}

/// What is found to be out of date under its old name stays what it is under its new one.
#[test]
fn a_name_that_is_out_of_date_does_not_remove_what_was_moved() {
    let world = World::new();
    world.mkdir("a").unwrap();
    let (root, moved) = (world.cwd(), world.find("a").unwrap());
    world.rename("a", "b").unwrap();
    moved.dentry.expire(&root.dentry, b"a");
    assert!(!moved.dentry.is_removed());
    assert!(Arc::ptr_eq(&world.find("b").unwrap().dentry, &moved.dentry));
    moved.dentry.expire(&root.dentry, b"b");
    assert!(moved.dentry.is_removed());
}
