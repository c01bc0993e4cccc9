//! Making and removing names.

use super::*;

#[test]
fn what_is_made_is_there_and_what_is_removed_is_not() {
    let world = World::new();
    assert_eq!(
        world.find("x").err(),
        Some(Errno::ENOENT),
        "also remembers the absence"
    );
    world.write("x", b"1");
    assert_eq!(world.read("x"), Ok(b"1".to_vec()));
    assert_eq!(world.mkdir("x"), Err(Errno::EEXIST));
    assert_eq!(world.mkdir("x/y"), Err(Errno::ENOTDIR));
    world.unlink("x").unwrap();
    assert_eq!(world.read("x"), Err(Errno::ENOENT));
    assert_eq!(world.unlink("x"), Err(Errno::ENOENT));
    world.mkdir("x").unwrap();
    assert_eq!(world.unlink("x"), Err(Errno::EISDIR));
    assert_eq!(world.names("/"), ["x"]);
    world.rmdir("x").unwrap();
    assert!(world.names("/").is_empty());
}

#[test]
fn special_last_components_are_refused_as_on_linux() {
    let world = World::new();
    world.mkdir("d").unwrap();
    world.write("f", b"");
    for (path, expected) in [
        ("/", Errno::EBUSY),
        ("d/.", Errno::EINVAL),
        ("d/..", Errno::ENOTEMPTY),
    ] {
        assert_eq!(world.rmdir(path), Err(expected), "rmdir {path}");
    }
    for path in ["/", ".", "..", "d/.", "d/.."] {
        assert_eq!(world.mkdir(path), Err(Errno::EEXIST), "mkdir {path}");
        assert_eq!(world.unlink(path), Err(Errno::EISDIR), "unlink {path}");
    }
    assert_eq!(world.mkdir("new/"), Ok(()));
    assert_eq!(world.rmdir("new/"), Ok(()));
    assert_eq!(world.unlink("f/"), Err(Errno::ENOTDIR));
    assert_eq!(world.rmdir("f"), Err(Errno::ENOTDIR));
    assert_eq!(world.symlink("x", "s/"), Err(Errno::ENOENT));
    assert_eq!(world.symlink("", "s"), Err(Errno::ENOENT));
    assert_eq!(world.link("f", "g/"), Err(Errno::ENOENT));
}

#[test]
fn directories_must_be_empty_and_count_links() {
    let world = World::new();
    world.mkdir("d").unwrap();
    world.mkdir("d/e").unwrap();
    assert_eq!(world.stat("d").unwrap().nlink, 3);
    assert_eq!(world.rmdir("d"), Err(Errno::ENOTEMPTY));
    world.rmdir("d/e").unwrap();
    assert_eq!(world.stat("d").unwrap().nlink, 2);
    assert_eq!(world.rmdir("d"), Ok(()));
}

#[test]
fn nothing_is_made_in_a_removed_directory() {
    let world = World::new();
    world.mkdir("d").unwrap();
    let gone = world.find("d").unwrap();
    world.fs.set_cwd(gone).unwrap();
    world.rmdir("/d").unwrap();
    assert_eq!(world.mkdir("x"), Err(Errno::ENOENT));
    assert_eq!(
        world.open("x", OpenFlags::CREAT | OpenFlags::WRONLY).err(),
        Some(Errno::ENOENT)
    );
    assert_eq!(world.find(".").map(|_| ()), Ok(()));
    assert_eq!(
        world.find("..").map(|path| world.spell(&path)),
        Ok("/".into())
    );
}

#[test]
fn hard_links_share_the_file() {
    let world = World::new();
    world.write("a", b"one");
    world.link("a", "b").unwrap();
    world.write("b", b"two");
    assert_eq!(
        (world.read("a"), world.stat("a").unwrap().nlink),
        (Ok(b"two".to_vec()), 2)
    );
    assert_eq!(world.stat("a").unwrap().ino, world.stat("b").unwrap().ino);
    assert_eq!(world.link("a", "b"), Err(Errno::EEXIST));
    world.mkdir("d").unwrap();
    assert_eq!(world.link("d", "e"), Err(Errno::EPERM));
    world.unlink("a").unwrap();
    assert_eq!(
        (world.read("b"), world.stat("b").unwrap().nlink),
        (Ok(b"two".to_vec()), 1)
    );
    world.symlink("b", "s").unwrap();
    world.link("s", "t").unwrap();
    assert_eq!(world.stat("t").unwrap().kind, crate::FileKind::Symlink);
}

#[test]
fn an_unlinked_open_file_lives_on() {
    let world = World::new();
    world.write("f", b"still here");
    let file = world.open("f", OpenFlags::empty()).unwrap();
    world.unlink("f").unwrap();
    let mut bytes = [0; 10];
    assert_eq!(file.read(&mut IoWriter::kernel(&mut bytes)), Ok(10));
    assert_eq!(file.metadata().unwrap().nlink, 0);
    assert_eq!(file.display(&world.fs.root()).unwrap(), b"/f (deleted)");
}

#[test]
fn open_flags_do_what_they_say() {
    use OpenFlags as O;
    let world = World::new();
    world.write("f", b"12345");
    world.mkdir("d").unwrap();
    world.symlink("f", "s").unwrap();
    world.symlink("made", "m").unwrap();
    let table: &[(&str, O, Option<Errno>)] = &[
        ("f", O::CREAT | O::EXCL, Some(Errno::EEXIST)),
        ("s", O::CREAT | O::EXCL, Some(Errno::EEXIST)),
        ("m", O::CREAT | O::EXCL, Some(Errno::EEXIST)),
        ("s", O::NOFOLLOW, Some(Errno::ELOOP)),
        ("s", O::NOFOLLOW | O::PATH, None),
        ("d", O::WRONLY, Some(Errno::EISDIR)),
        ("d", O::CREAT, Some(Errno::EISDIR)),
        ("d", O::DIRECTORY, None),
        ("f", O::DIRECTORY, Some(Errno::ENOTDIR)),
        ("f/", O::CREAT | O::WRONLY, Some(Errno::EISDIR)),
        ("n/", O::CREAT | O::WRONLY, Some(Errno::EISDIR)),
        ("n", O::empty(), Some(Errno::ENOENT)),
        ("m", O::empty(), Some(Errno::ENOENT)),
        ("m", O::CREAT | O::WRONLY, None),
        ("made", O::empty(), None),
    ];
    for (path, flags, expected) in table {
        assert_eq!(
            world.open(path, *flags).err(),
            *expected,
            "{path} {flags:?}"
        );
    }
    drop(world.open("f", O::WRONLY | O::TRUNC).unwrap());
    assert_eq!(world.stat("f").unwrap().size, 0);
}

#[test]
fn path_only_files_are_places_and_no_more() {
    let world = World::new();
    world.write("f", b"x");
    let file = world.open("f", OpenFlags::PATH).unwrap();
    assert_eq!(
        file.read(&mut IoWriter::kernel(&mut [0])),
        Err(Errno::EBADF)
    );
    assert_eq!(file.seek(crate::Seek::Set(0)), Err(Errno::EBADF));
    assert_eq!(file.metadata().unwrap().size, 1);
}

#[test]
fn unnamed_files_exist_without_a_name() {
    let world = World::new();
    let flags = OpenFlags::TMPFILE_BIT | OpenFlags::DIRECTORY;
    assert_eq!(
        world.open(".", flags).err(),
        Some(Errno::EINVAL),
        "must be writable"
    );
    let file = world.open(".", flags | OpenFlags::RDWR).unwrap();
    assert_eq!(file.write(&mut IoReader::kernel(b"x")), Ok(1));
    assert_eq!(file.metadata().unwrap().nlink, 0);
    assert!(world.names("/").is_empty());
}

#[test]
fn a_forgotten_name_goes_with_all_that_is_cached_below() {
    let world = World::new();
    for path in ["d", "d/e", "d/e/f", "d/g", "other"] {
        world.mkdir(path).unwrap();
    }
    let root = world.find("/").unwrap().dentry.clone();
    let known = ["d", "d/e", "d/e/f", "d/g"].map(|path| {
        let dentry = world.find(path).unwrap().dentry.clone();
        Arc::downgrade(&dentry)
    });
    let held = world.find("d/g").unwrap();
    let other = Arc::downgrade(&world.find("other").unwrap().dentry);
    root.super_block().forget(b"no such name");
    root.super_block().forget(b"d");
    // Other tests read beside this one.
    sched::rcu::barrier();
    // What is in use stays, and what is above it.
    let stays: Vec<bool> = known.iter().map(|it| it.strong_count() > 0).collect();
    assert_eq!(stays, [true, false, false, true]);
    assert!(!held.dentry.is_removed() && other.strong_count() > 0);
    assert!(!Arc::ptr_eq(
        &held.dentry,
        &world.find("d/g").unwrap().dentry
    ));
    drop(held);
    sched::rcu::barrier();
    assert!(known.iter().all(|it| it.strong_count() == 0));
    // The file system has it still: it is found anew.
    assert!(world.find("d/e/f").is_ok());
}
