//! Mode bits, ownership, sticky and set-id bits, access(2).

use super::*;
use crate::metadata::{S_ISGID, S_ISUID, S_ISVTX};
use crate::permission::Access;
use crate::user_namespace::{Kgid, Kuid, UserNamespace};
use crate::{NewKind, Timestamp};

fn kuid(number: u32) -> Option<Kuid> {
    UserNamespace::INITIAL.kuid(number)
}

fn kgid(number: u32) -> Option<Kgid> {
    UserNamespace::INITIAL.kgid(number)
}

fn world() -> World {
    let world = World::new();
    world.mkdir("home").unwrap();
    let home = world.find("home").unwrap();
    world
        .caller()
        .chown(
            &home,
            ChownTo {
                uid: kuid(1000),
                gid: kgid(1000),
            },
        )
        .unwrap();
    world
}

fn chmod(world: &World, path: &str, mode: u32) -> Result<()> {
    world.caller().chmod(&world.find(path)?, mode)
}

#[test]
fn classes_are_exclusive() {
    let world = world();
    world.write("f", b"x");
    let (user, member) = (world.as_user(1000, 5), world.as_user(7, 1000));
    world
        .caller()
        .chown(
            &world.find("f").unwrap(),
            ChownTo {
                uid: kuid(1000),
                gid: kgid(1000),
            },
        )
        .unwrap();
    chmod(&world, "f", 0o077).unwrap();
    assert_eq!(
        user.open("f", OpenFlags::empty()).err(),
        Some(Errno::EACCES),
        "owner has none"
    );
    assert!(member.open("f", OpenFlags::RDWR).is_ok());
    chmod(&world, "f", 0o604).unwrap();
    assert_eq!(
        member.open("f", OpenFlags::empty()).err(),
        Some(Errno::EACCES)
    );
    assert!(world.as_user(7, 7).open("f", OpenFlags::empty()).is_ok());
    assert!(world.open("f", OpenFlags::RDWR).is_ok(), "root may");
}

#[test]
fn directories_need_search_to_pass_and_write_to_change() {
    let world = world();
    let user = world.as_user(1000, 1000);
    assert_eq!(user.mkdir("x"), Err(Errno::EACCES));
    user.mkdir("home/x").unwrap();
    user.write("home/x/f", b"1");
    chmod(&world, "home/x", 0o600).unwrap();
    assert_eq!(user.read("home/x/f"), Err(Errno::EACCES));
    assert_eq!(world.read("home/x/f"), Ok(b"1".to_vec()));
    chmod(&world, "home/x", 0o500).unwrap();
    assert_eq!(user.unlink("home/x/f"), Err(Errno::EACCES));
    assert_eq!(user.rename("home/x/f", "home/f"), Err(Errno::EACCES));
}

#[test]
fn sticky_directories_protect_what_is_others() {
    let world = world();
    world.mkdir("tmp").unwrap();
    chmod(&world, "tmp", 0o777 | S_ISVTX).unwrap();
    let (one, two) = (world.as_user(1000, 1000), world.as_user(1001, 1001));
    one.write("tmp/f", b"");
    two.write("tmp/g", b"");
    assert_eq!(two.unlink("tmp/f"), Err(Errno::EPERM));
    assert_eq!(two.rename("tmp/f", "tmp/h"), Err(Errno::EPERM));
    assert_eq!(two.rename("tmp/g", "tmp/f"), Err(Errno::EPERM));
    assert_eq!(one.unlink("tmp/f"), Ok(()));
}

#[test]
fn attributes_are_the_owners_to_change() {
    let world = world();
    let (user, other) = (world.as_user(1000, 1000), world.as_user(1001, 1001));
    user.write("home/f", b"");
    assert_eq!(chmod(&other, "home/f", 0o777), Err(Errno::EPERM));
    assert_eq!(chmod(&user, "home/f", 0o600), Ok(()));
    let file = world.find("home/f").unwrap();
    let give = ChownTo {
        uid: kuid(1001),
        gid: None,
    };
    assert_eq!(user.caller().chown(&file, give), Err(Errno::EPERM));
    let own_group = ChownTo {
        uid: None,
        gid: kgid(1000),
    };
    assert_eq!(user.caller().chown(&file, own_group), Ok(()));
    assert_eq!(
        user.caller().chown(
            &file,
            ChownTo {
                uid: None,
                gid: kgid(4)
            }
        ),
        Err(Errno::EPERM)
    );
    let then = TimeChange::To(Timestamp::new(5, 6));
    assert_eq!(
        other.caller().set_times(&file, then, then),
        Err(Errno::EPERM)
    );
    assert_eq!(
        other
            .caller()
            .set_times(&file, TimeChange::Now, TimeChange::Now),
        Err(Errno::EACCES)
    );
    user.caller()
        .set_times(&file, TimeChange::Keep, then)
        .unwrap();
    assert_eq!(user.stat("home/f").unwrap().mtime, Timestamp(5_000_000_006));
}

#[test]
fn set_id_bits_are_lost_with_owner_and_content() {
    let world = world();
    let user = world.as_user(1000, 1000);
    user.write("home/f", b"");
    chmod(&user, "home/f", 0o755 | S_ISUID | S_ISGID).unwrap();
    let file = user.open("home/f", OpenFlags::WRONLY).unwrap();
    assert_eq!(file.write(&mut IoReader::kernel(b"x")), Ok(1));
    assert_eq!(user.stat("home/f").unwrap().mode, 0o755);
    chmod(&world, "home/f", 0o755 | S_ISUID).unwrap();
    let path = world.find("home/f").unwrap();
    world
        .caller()
        .chown(
            &path,
            ChownTo {
                uid: kuid(1000),
                gid: None,
            },
        )
        .unwrap();
    assert_eq!(world.stat("home/f").unwrap().mode, 0o755);
}

#[test]
fn umask_and_set_gid_directories_shape_new_files() {
    let world = world();
    let user = world.as_user(1000, 1000);
    world.fs.set_umask(0o027);
    user.write("home/f", b"");
    assert_eq!(user.stat("home/f").unwrap().mode, 0o640);
    user.mkdir("home/d").unwrap();
    assert_eq!(user.stat("home/d").unwrap().mode, 0o750);
    let home = world.find("home").unwrap();
    world
        .caller()
        .chown(
            &home,
            ChownTo {
                uid: None,
                gid: kgid(50),
            },
        )
        .unwrap();
    chmod(&world, "home", 0o777 | S_ISGID).unwrap();
    user.mkdir("home/e").unwrap();
    user.write("home/g", b"");
    assert_eq!(
        (
            Some(user.stat("home/e").unwrap().gid),
            Some(user.stat("home/g").unwrap().gid)
        ),
        (kgid(50), kgid(50))
    );
    assert_eq!(user.stat("home/e").unwrap().mode, 0o750 | S_ISGID);
}

#[test]
fn devices_need_the_capability() {
    let world = world();
    let user = world.as_user(1000, 1000);
    let null = NewKind::Device(crate::FileKind::CharDevice, crate::DeviceId::new(1, 3));
    let base = world.cwd();
    assert_eq!(
        user.caller().mknod(&base, b"home/null", null, 0o666),
        Err(Errno::EPERM)
    );
    assert_eq!(
        user.caller()
            .mknod(&base, b"home/fifo", NewKind::Fifo, 0o666),
        Ok(())
    );
    assert_eq!(world.caller().mknod(&base, b"null", null, 0o666), Ok(()));
    assert_eq!(world.stat("null").unwrap().rdev, crate::DeviceId::new(1, 3));
}

#[test]
fn access_asks_without_opening() {
    let world = world();
    world.write("script", b"");
    let path = world.find("script").unwrap();
    assert_eq!(
        world.caller().access(&path, Access::EXEC),
        Err(Errno::EACCES),
        "nobody may"
    );
    assert_eq!(
        world.caller().access(&path, Access::READ | Access::WRITE),
        Ok(())
    );
    chmod(&world, "script", 0o100).unwrap();
    assert_eq!(world.caller().access(&path, Access::EXEC), Ok(()));
    assert_eq!(
        world.as_user(9, 9).caller().access(&path, Access::READ),
        Err(Errno::EACCES)
    );
    assert_eq!(
        world.as_user(9, 9).caller().access(&path, Access::empty()),
        Ok(())
    );
}

#[test]
fn extended_attributes_follow_their_name_space() {
    let world = world();
    let user = world.as_user(1000, 1000);
    user.write("home/f", b"");
    let path = user.find("home/f").unwrap();
    let set = |world: &World, name: &[u8], mode| world.caller().set_xattr(&path, name, b"v", mode);
    use crate::XattrMode as M;
    assert_eq!(set(&user, b"user.a", M::Replace), Err(Errno::ENODATA));
    assert_eq!(set(&user, b"user.a", M::Create), Ok(()));
    assert_eq!(set(&user, b"user.a", M::Create), Err(Errno::EEXIST));
    assert_eq!(set(&user, b"trusted.b", M::Either), Err(Errno::EPERM));
    assert_eq!(set(&world, b"trusted.b", M::Either), Ok(()));
    assert_eq!(set(&world, b"odd.c", M::Either), Err(Errno::EOPNOTSUPP));
    assert_eq!(
        user.caller().xattr(&path, b"user.a"),
        Ok(collections::Vec::from_std(b"v".to_vec()))
    );
    assert_eq!(user.caller().xattr(&path, b"user.z"), Err(Errno::ENODATA));
    assert_eq!(
        user.caller().list_xattrs(&path),
        Ok(collections::Vec::from_std(b"user.a\0".to_vec()))
    );
    assert_eq!(
        world.caller().list_xattrs(&path),
        Ok(collections::Vec::from_std(b"trusted.b\0user.a\0".to_vec()))
    );
    assert_eq!(user.caller().remove_xattr(&path, b"user.a"), Ok(()));
}
