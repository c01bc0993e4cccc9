//! rename(2) and renameat2(2).

use super::*;

fn world() -> World {
    let world = World::new();
    for directory in ["d", "d/sub", "e", "full"] {
        world.mkdir(directory).unwrap();
    }
    world.write("f", b"f");
    world.write("g", b"g");
    world.write("full/x", b"x");
    world
}

#[test]
fn kinds_and_places_are_checked() {
    let world = world();
    let table = [
        ("none", "x", Err(Errno::ENOENT)),
        ("f", "none/x", Err(Errno::ENOENT)),
        ("f", "d", Err(Errno::EISDIR)),
        ("d", "f", Err(Errno::ENOTDIR)),
        ("d", "full", Err(Errno::ENOTEMPTY)),
        ("d", "d/sub/x", Err(Errno::EINVAL)),
        ("d", "d/x", Err(Errno::EINVAL)),
        ("d/sub", "d", Err(Errno::ENOTEMPTY)),
        ("d/.", "x", Err(Errno::EBUSY)),
        ("d", "..", Err(Errno::EBUSY)),
        ("/", "x", Err(Errno::EBUSY)),
        ("f/", "x", Err(Errno::ENOTDIR)),
        ("f", "x/", Err(Errno::ENOTDIR)),
        ("f", "f", Ok(())),
        ("d", "d", Ok(())),
        ("d/", "renamed/", Ok(())),
        ("renamed", "d", Ok(())),
    ];
    for (from, to, expected) in table {
        assert_eq!(world.rename(from, to), expected, "{from} -> {to}");
    }
    assert_eq!(world.names("/"), ["d", "e", "f", "full", "g"]);
}

#[test]
fn a_file_replaces_a_file_and_an_empty_directory_an_empty_one() {
    let world = world();
    world.rename("f", "g").unwrap();
    assert_eq!(
        (world.read("g"), world.read("f")),
        (Ok(b"f".to_vec()), Err(Errno::ENOENT))
    );
    world.rename("d", "e").unwrap();
    assert_eq!(world.names("e"), ["sub"]);
    assert_eq!(
        world.find("e/sub").map(|path| world.spell(&path)),
        Ok("/e/sub".into())
    );
    assert_eq!(world.find("d").err(), Some(Errno::ENOENT));
}

#[test]
fn links_of_directories_follow_them() {
    let world = world();
    assert_eq!(
        (
            world.stat("/").unwrap().nlink,
            world.stat("e").unwrap().nlink
        ),
        (5, 2)
    );
    world.rename("d/sub", "e/sub").unwrap();
    assert_eq!(
        (
            world.stat("d").unwrap().nlink,
            world.stat("e").unwrap().nlink
        ),
        (2, 3)
    );
    world.rename("d", "e/sub/d").unwrap();
    assert_eq!(world.stat("/").unwrap().nlink, 4);
    assert_eq!(
        world.find("e/sub/d/..").map(|path| world.spell(&path)),
        Ok("/e/sub".into())
    );
}

#[test]
fn noreplace_refuses_and_exchange_swaps() {
    let world = world();
    assert_eq!(
        world.rename_with("f", "g", RenameFlags::NOREPLACE),
        Err(Errno::EEXIST)
    );
    assert_eq!(
        world.rename_with("f", "new", RenameFlags::NOREPLACE),
        Ok(())
    );
    assert_eq!(
        world.rename_with("new", "none", RenameFlags::EXCHANGE),
        Err(Errno::ENOENT)
    );
    world
        .rename_with("new", "full", RenameFlags::EXCHANGE)
        .unwrap();
    assert_eq!(world.read("full"), Ok(b"f".to_vec()));
    assert_eq!(world.names("new"), ["x"]);
    let both = RenameFlags::EXCHANGE | RenameFlags::NOREPLACE;
    assert_eq!(world.rename_with("f", "g", both), Err(Errno::EINVAL));
    assert_eq!(
        world.rename_with("new", "new/x", RenameFlags::EXCHANGE),
        Err(Errno::EINVAL)
    );
}

#[test]
fn hard_links_of_one_file_stay_both() {
    let world = world();
    world.link("f", "h").unwrap();
    world.rename("f", "h").unwrap();
    assert!(world.read("f").is_ok() && world.read("h").is_ok());
}

#[test]
fn open_files_know_their_new_name() {
    let world = world();
    let file = world.open("d/sub", OpenFlags::DIRECTORY).unwrap();
    world.rename("d", "moved").unwrap();
    assert_eq!(file.display(&world.fs.root()).unwrap(), b"/moved/sub");
}

#[test]
fn renames_in_many_threads_leave_every_name_once() {
    let world = Arc::new(World::new());
    for at in 0..4 {
        world.mkdir(&format!("d{at}")).unwrap();
        world.write(&format!("d{at}/f{at}"), b"x");
    }
    let threads: Vec<_> = (0..4_usize)
        .map(|me| {
            let world = world.clone();
            std::thread::spawn(move || {
                for round in 0..500_usize {
                    let (from, to) = ((me + round) % 4, (me * 3 + round * 7 + 1) % 4);
                    let _ = world.rename(&format!("d{from}/f{me}"), &format!("d{to}/f{me}"));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let mut all: Vec<String> = (0..4)
        .flat_map(|at| world.names(&format!("d{at}")))
        .collect();
    all.sort();
    assert_eq!(all, ["f0", "f1", "f2", "f3"]);
}
