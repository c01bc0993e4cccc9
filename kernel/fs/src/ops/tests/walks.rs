//! path_resolution(7) and openat2(2), as tables.

use super::*;

fn world() -> World {
    let world = World::new();
    for directory in ["a", "a/b", "a/b/c", "d"] {
        world.mkdir(directory).unwrap();
    }
    world.write("a/file", b"x");
    for (target, path) in [
        ("file", "a/link"),
        ("/a/b", "abs"),
        ("../d", "a/up"),
        ("loop2", "loop1"),
        ("loop1", "loop2"),
        ("nowhere", "dangling"),
        ("b/", "a/slashed"),
        ("file/", "a/bad"),
        ("a/link", "twice"),
    ] {
        world.symlink(target, path).unwrap();
    }
    world
}

#[test]
fn paths_lead_where_the_man_page_says() {
    let world = world();
    let table: &[(&str, core::result::Result<&str, Errno>)] = &[
        ("/", Ok("/")),
        (".", Ok("/")),
        ("..", Ok("/")),
        ("/../../a", Ok("/a")),
        ("a/./b/../b//c", Ok("/a/b/c")),
        ("a/b/c/", Ok("/a/b/c")),
        ("a/b/c/..", Ok("/a/b")),
        ("a/file", Ok("/a/file")),
        ("a/file/", Err(Errno::ENOTDIR)),
        ("a/file/x", Err(Errno::ENOTDIR)),
        ("a/file/..", Err(Errno::ENOTDIR)),
        ("a/file/.", Err(Errno::ENOTDIR)),
        ("a/link", Ok("/a/file")),
        ("a/link/", Err(Errno::ENOTDIR)),
        ("twice", Ok("/a/file")),
        ("abs", Ok("/a/b")),
        ("abs/", Ok("/a/b")),
        ("abs/c", Ok("/a/b/c")),
        ("abs/../file", Ok("/a/file")),
        ("a/up", Ok("/d")),
        ("a/slashed", Ok("/a/b")),
        ("a/slashed/c", Ok("/a/b/c")),
        ("a/bad", Err(Errno::ENOTDIR)),
        ("loop1", Err(Errno::ELOOP)),
        ("loop1/x", Err(Errno::ELOOP)),
        ("dangling", Err(Errno::ENOENT)),
        ("none", Err(Errno::ENOENT)),
        ("none/x", Err(Errno::ENOENT)),
        ("none/..", Err(Errno::ENOENT)),
        ("", Err(Errno::ENOENT)),
    ];
    for round in ["first", "from the cache"] {
        for (path, expected) in table {
            let found = world.find(path).map(|found| world.spell(&found));
            assert_eq!(
                found.as_deref().map_err(|errno| *errno),
                *expected,
                "{path} {round}"
            );
        }
    }
}

#[test]
fn the_last_link_is_followed_only_when_asked_or_behind_a_slash() {
    let world = world();
    assert_eq!(
        world.find_link("abs").map(|path| world.spell(&path)),
        Ok("/abs".into())
    );
    assert_eq!(
        world.find_link("abs/").map(|path| world.spell(&path)),
        Ok("/a/b".into())
    );
    assert_eq!(
        world.find_link("dangling").map(|path| world.spell(&path)),
        Ok("/dangling".into())
    );
}

#[test]
fn lengths_are_limited() {
    let world = world();
    let name = "n".repeat(255);
    world.mkdir(&name).unwrap();
    assert!(world.find(&name).is_ok());
    assert_eq!(world.mkdir(&"n".repeat(256)), Err(Errno::ENAMETOOLONG));
    assert_eq!(
        world.find(&"n".repeat(256)).err(),
        Some(Errno::ENAMETOOLONG)
    );
    let long = "./".repeat(2048);
    assert_eq!(world.find(&long).err(), Some(Errno::ENAMETOOLONG));
    assert!(world.find(&long[..4095]).is_ok());
}

#[test]
fn forty_links_are_followed_and_no_more() {
    let world = World::new();
    world.write("l0", b"");
    for at in 1..=41 {
        world
            .symlink(&format!("l{}", at - 1), &format!("l{at}"))
            .unwrap();
    }
    assert!(world.find("l40").is_ok());
    assert_eq!(world.find("l41").err(), Some(Errno::ELOOP));
}

#[test]
fn resolve_flags_confine() {
    let world = world();
    let try_with = |path: &str, resolve| {
        let mut how = OpenHow {
            flags: OpenFlags::PATH,
            mode: 0,
            resolve,
        };
        how.flags |= OpenFlags::NOFOLLOW & OpenFlags::empty();
        let base = world.find("a").unwrap();
        let file = world.caller().open(&base, path.as_bytes(), &how)?;
        Ok(world.spell(file.path().unwrap()))
    };
    let (beneath, in_root) = (LookupFlags::BENEATH, LookupFlags::IN_ROOT);
    assert_eq!(try_with("b/c", beneath), Ok("/a/b/c".into()));
    assert_eq!(try_with("b/../b", beneath), Ok("/a/b".into()));
    assert_eq!(try_with("..", beneath), Err(Errno::EXDEV));
    assert_eq!(try_with("b/../..", beneath), Err(Errno::EXDEV));
    assert_eq!(try_with("/a", beneath), Err(Errno::EXDEV));
    assert_eq!(try_with("up", beneath), Err(Errno::EXDEV));
    assert_eq!(try_with("..", in_root), Ok("/a".into()));
    assert_eq!(try_with("/b/c", in_root), Ok("/a/b/c".into()));
    assert_eq!(
        try_with("up", in_root),
        Err(Errno::ENOENT),
        "../d is looked for in /a"
    );
    assert_eq!(
        try_with("link", LookupFlags::NO_SYMLINKS),
        Err(Errno::ELOOP)
    );
    assert_eq!(
        try_with("b/c", LookupFlags::NO_SYMLINKS),
        Ok("/a/b/c".into())
    );
}

#[test]
fn a_chroot_is_not_left() {
    let world = world();
    let jail = world.find("a").unwrap();
    world.fs.set_root(jail.clone()).unwrap();
    world.fs.set_cwd(jail).unwrap();
    for path in ["..", "/..", "../../..", "/"] {
        assert_eq!(
            world.find(path).map(|path| world.spell(&path)),
            Ok("/".into()),
            "{path}"
        );
    }
    assert_eq!(world.find("up").err(), Some(Errno::ENOENT));
    assert_eq!(world.find("/abs").err(), Some(Errno::ENOENT));
}
