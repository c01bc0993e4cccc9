//! mount(2), umount2(2), pivot_root(2), and the flags of mounts.

use super::*;
use crate::{BindMode, DetachMode, NewKind};

fn tmpfs() -> Arc<SuperBlock> {
    SuperBlock::new(TmpFs::new("tmpfs", &TmpFsOptions::default()).unwrap()).unwrap()
}

fn mount(world: &World, at: &str, flags: MountFlags) {
    let path = world.find(at).unwrap();
    world
        .fs
        .namespace()
        .mount(&path, &tmpfs(), b"none", flags)
        .unwrap();
}

fn unmount(world: &World, at: &str, mode: DetachMode) -> Result<()> {
    let path = world.find(at)?;
    world.fs.namespace().unmount(&path, mode)
}

fn bind(world: &World, from: &str, at: &str, mode: BindMode) -> Result<()> {
    let (from, at) = (world.find(from)?, world.find(at)?);
    world.fs.namespace().bind(&from, &at, mode)
}

#[test]
fn a_mount_covers_and_uncovers() {
    let world = World::new();
    world.mkdir("m").unwrap();
    world.write("m/below", b"");
    mount(&world, "m", MountFlags::empty());
    assert!(world.names("m").is_empty());
    world.write("m/above", b"");
    assert_eq!(
        world.find("m/..").map(|path| world.spell(&path)),
        Ok("/".into())
    );
    assert_eq!(
        world.find("m/above").map(|path| world.spell(&path)),
        Ok("/m/above".into())
    );
    assert_eq!(world.rmdir("m"), Err(Errno::EBUSY));
    assert_eq!(world.rename("m", "n"), Err(Errno::EBUSY));
    world.write("f", b"");
    assert_eq!(world.rename("f", "m/f"), Err(Errno::EXDEV));
    assert_eq!(world.link("f", "m/f"), Err(Errno::EXDEV));
    unmount(&world, "m", DetachMode::IfIdle).unwrap();
    assert_eq!(world.names("m"), ["below"]);
    assert_eq!(unmount(&world, "m", DetachMode::IfIdle), Err(Errno::EINVAL));
    assert_eq!(unmount(&world, "/", DetachMode::IfIdle), Err(Errno::EINVAL));
}

#[test]
fn what_is_in_use_is_unmounted_only_lazily() {
    let world = World::new();
    world.mkdir("m").unwrap();
    mount(&world, "m", MountFlags::empty());
    world.write("m/f", b"kept");
    let file = world.open("m/f", OpenFlags::empty()).unwrap();
    assert_eq!(unmount(&world, "m", DetachMode::IfIdle), Err(Errno::EBUSY));
    world.mkdir("m/inner").unwrap();
    mount(&world, "m/inner", MountFlags::empty());
    unmount(&world, "m", DetachMode::Lazy).unwrap();
    assert!(world.names("m").is_empty());
    let mut bytes = [0; 4];
    assert_eq!(file.read(&mut IoWriter::kernel(&mut bytes)), Ok(4));
    assert_eq!(world.fs.namespace().mounts().unwrap().len(), 1);
}

#[test]
fn an_unmounted_file_system_goes_away() {
    let world = World::new();
    world.mkdir("m").unwrap();
    let super_block = tmpfs();
    let path = world.find("m").unwrap();
    world
        .fs
        .namespace()
        .mount(&path, &super_block, b"none", MountFlags::empty())
        .unwrap();
    drop(path);
    world.mkdir("m/a").unwrap();
    world.write("m/a/f", b"x");
    unmount(&world, "m", DetachMode::IfIdle).unwrap();
    sched::rcu::barrier();
    assert_eq!(
        Arc::strong_count(&super_block),
        1,
        "cached names must not keep it"
    );
}

#[test]
fn flags_are_enforced() {
    let world = World::new();
    world.mkdir("m").unwrap();
    mount(&world, "m", MountFlags::NODEV | MountFlags::NOEXEC);
    let null = NewKind::Device(crate::FileKind::CharDevice, crate::DeviceId::new(1, 3));
    world
        .caller()
        .mknod(&world.cwd(), b"m/null", null, 0o666)
        .unwrap();
    assert_eq!(
        world.open("m/null", OpenFlags::RDWR).err(),
        Some(Errno::EACCES)
    );
    world.write("m/run", b"#!");
    let run = world.find("m/run").unwrap();
    world.caller().chmod(&run, 0o755).unwrap();
    assert_eq!(
        world.caller().open_exec(run.clone()).err(),
        Some(Errno::EACCES)
    );
    drop(run);
    let at = world.find("m").unwrap();
    world
        .fs
        .namespace()
        .remount(&at, MountFlags::RDONLY)
        .unwrap();
    assert_eq!(world.mkdir("m/d"), Err(Errno::EROFS));
    assert_eq!(world.unlink("m/run"), Err(Errno::EROFS));
    assert_eq!(world.unlink("m/none"), Err(Errno::EROFS));
    assert_eq!(world.rmdir("m/none"), Err(Errno::EROFS));
    assert_eq!(world.rename("m/none", "m/x"), Err(Errno::EROFS));
    assert_eq!(
        world.open("m/run", OpenFlags::WRONLY).err(),
        Some(Errno::EROFS)
    );
    assert_eq!(
        world
            .open("m/new", OpenFlags::CREAT | OpenFlags::WRONLY)
            .err(),
        Some(Errno::EROFS)
    );
    assert_eq!(
        world.mkdir("m/run"),
        Err(Errno::EEXIST),
        "what is there is told first"
    );
    assert_eq!(world.read("m/run"), Ok(b"#!".to_vec()));
}

#[test]
fn binds_show_the_same_files_with_flags_of_their_own() {
    let world = World::new();
    for directory in ["a", "a/sub", "b", "c"] {
        world.mkdir(directory).unwrap();
    }
    mount(&world, "a/sub", MountFlags::empty());
    world.write("a/sub/deep", b"");
    bind(&world, "a", "b", BindMode::One).unwrap();
    bind(&world, "a", "c", BindMode::Recursive).unwrap();
    assert!(world.names("b/sub").is_empty());
    assert_eq!(world.names("c/sub"), ["deep"]);
    world.write("b/new", b"1");
    assert_eq!(world.read("a/new"), Ok(b"1".to_vec()));
    let at = world.find("b").unwrap();
    world
        .fs
        .namespace()
        .remount(&at, MountFlags::RDONLY)
        .unwrap();
    assert_eq!(world.unlink("b/new"), Err(Errno::EROFS));
    assert_eq!(world.unlink("a/new"), Ok(()));
    assert_eq!(
        world.find("c/sub/..").map(|path| world.spell(&path)),
        Ok("/c".into())
    );
    world.write("file", b"");
    assert_eq!(
        bind(&world, "file", "a", BindMode::One),
        Err(Errno::ENOTDIR)
    );
    world.write("over", b"");
    world.write("file", b"shown");
    bind(&world, "file", "over", BindMode::One).unwrap();
    assert_eq!(world.read("over"), Ok(b"shown".to_vec()));
}

#[test]
fn mounts_move_but_not_below_themselves() {
    let world = World::new();
    world.mkdir("a").unwrap();
    world.mkdir("b").unwrap();
    mount(&world, "a", MountFlags::empty());
    world.mkdir("a/in").unwrap();
    let (from, inside, to) = (world.find("a"), world.find("a/in"), world.find("b"));
    let namespace = world.fs.namespace();
    let from = from.unwrap();
    assert_eq!(
        namespace.move_mount(&from, &inside.unwrap()),
        Err(Errno::ELOOP)
    );
    namespace.move_mount(&from, &to.unwrap()).unwrap();
    assert!(world.names("a").is_empty());
    assert_eq!(world.names("b"), ["in"]);
}

#[test]
fn pivot_root_swaps_roots_and_the_old_one_can_go() {
    let world = World::new();
    world.mkdir("new").unwrap();
    mount(&world, "new", MountFlags::empty());
    world.mkdir("new/old").unwrap();
    let (root, new_root) = (world.fs.root(), world.find("new").unwrap());
    let put_old = world.find("new/old").unwrap();
    let namespace = world.fs.namespace();
    assert_eq!(
        namespace.pivot_root(&root, &root, &put_old),
        Err(Errno::EBUSY)
    );
    namespace.pivot_root(&root, &new_root, &put_old).unwrap();
    world.fs.replace(&root, &new_root).unwrap();
    drop((put_old, root));
    assert_eq!(world.names("/"), ["old"]);
    assert_eq!(world.names("/old"), ["new"]);
    assert_eq!(
        world.find("/old/new/..").map(|path| world.spell(&path)),
        Ok("/old".into())
    );
    unmount(&world, "/old", DetachMode::Lazy).unwrap();
    assert!(world.names("/old").is_empty());
    assert_eq!(namespace.mounts().unwrap().len(), 1);
}

#[test]
fn a_copied_namespace_is_its_own() {
    let world = World::new();
    world.mkdir("m").unwrap();
    mount(&world, "m", MountFlags::empty());
    world.write("m/f", b"");
    world.fs.set_cwd(world.find("m").unwrap()).unwrap();
    let copy = World {
        fs: world.fs.duplicate().unwrap(),
        credentials: world.credentials.clone(),
    };
    copy.fs
        .unshare_namespace(&crate::UserNamespace::INITIAL)
        .unwrap();
    assert_eq!(
        copy.find("f").map(|path| copy.spell(&path)),
        Ok("/m/f".into())
    );
    copy.fs.set_cwd(copy.fs.root()).unwrap();
    unmount(&copy, "m", DetachMode::IfIdle).unwrap();
    assert!(copy.names("m").is_empty());
    assert_eq!(world.names("/m"), ["f"]);
}

#[test]
fn what_is_moved_out_of_a_bind_mount_does_not_lead_out_of_it() {
    let world = World::new();
    for directory in ["a", "a/b", "a/b/c", "m"] {
        world.mkdir(directory).unwrap();
    }
    bind(&world, "a/b", "m", BindMode::One).unwrap();
    let inside = world.find("m/c").unwrap();
    let above = |path: &str| {
        let found = world
            .caller()
            .lookup(&inside, path.as_bytes(), LookupFlags::FOLLOW);
        found.map(|path| world.spell(&path))
    };
    assert_eq!(above(".."), Ok("/m".into()));
    assert_eq!(above("../../a"), Ok("/a".into()));
    world.rename("a/b/c", "a/c").unwrap();
    for path in ["..", "../", "../..", "./../b", "../m"] {
        assert_eq!(above(path), Err(Errno::ENOENT), "{path}");
    }
    // The file system's own way up is there for who came that way.
    assert!(world.find("a/c/../b").is_ok());
}

#[test]
fn mounts_of_another_namespace_are_not_changed() {
    let world = World::new();
    world.mkdir("m").unwrap();
    mount(&world, "m", MountFlags::empty());
    let own = world.fs.namespace();
    let other = own.duplicate(own.owner(), &mut []).unwrap();
    let (path, root) = (world.find("m").unwrap(), world.find("/").unwrap());
    for mode in [BindMode::One, BindMode::Recursive] {
        for unbindable in [true, false] {
            let changed = other.set_unbindable(&path, unbindable, mode);
            assert_eq!(changed, Err(Errno::EINVAL));
        }
    }
    assert_eq!(other.remount(&path, MountFlags::RDONLY), Err(Errno::EINVAL));
    assert_eq!(other.check_top(&path), Err(Errno::EINVAL));
    assert_eq!(other.move_mount(&path, &root), Err(Errno::EINVAL));
    assert_eq!(other.unmount(&path, DetachMode::Lazy), Err(Errno::EINVAL));
    assert_eq!(own.set_unbindable(&path, true, BindMode::One), Ok(()));
    assert_eq!(other.bind(&path, &root, BindMode::One), Err(Errno::EINVAL));
}
