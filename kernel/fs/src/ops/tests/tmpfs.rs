//! Contents of tmpfs files: holes, sizes, appends, limits, in-place archive pages.

use super::*;
use crate::archive;
use crate::file_ops::{Allocate, Seek};
use crate::file_system::{FileSystemType, MountRequest};
use crate::tmpfs::TmpFsType;

fn at(file: &File, offset: u64, bytes: &[u8]) -> Result<usize> {
    file.write_at(&mut IoReader::kernel(bytes), &mut file.io_at(offset))
}

fn read_at(file: &File, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0xee; len];
    let count = file
        .read_at(&mut IoWriter::kernel(&mut bytes), &file.io_at(offset))
        .unwrap();
    bytes.truncate(count);
    bytes
}

fn new_file(world: &World) -> Arc<File> {
    world.open("f", OpenFlags::RDWR | OpenFlags::CREAT).unwrap()
}

#[test]
fn holes_read_as_zeroes_and_take_no_space() {
    let world = World::new();
    let file = new_file(&world);
    at(&file, 3 * 4096 + 10, b"end").unwrap();
    assert_eq!(read_at(&file, 4090, 10), vec![0; 10]);
    assert_eq!(read_at(&file, 3 * 4096 + 8, 10), b"\0\0end");
    assert_eq!(
        (
            file.metadata().unwrap().size,
            file.metadata().unwrap().blocks
        ),
        (12301, 8)
    );
    assert_eq!(file.seek(Seek::Data(0)), Ok(3 * 4096));
    assert_eq!(file.seek(Seek::Hole(0)), Ok(0));
    assert_eq!(file.seek(Seek::Hole(3 * 4096)), Ok(12301));
    assert_eq!(file.seek(Seek::Data(12301)), Err(Errno::ENXIO));
    assert_eq!(file.seek(Seek::End(-1)), Ok(12300));
    assert_eq!(file.seek(Seek::Set(-1)), Err(Errno::EINVAL));
}

#[test]
fn truncation_forgets_what_it_cuts_off() {
    let world = World::new();
    let file = new_file(&world);
    at(&file, 0, &[7; 10_000]).unwrap();
    world.caller().truncate_file(&file, 5000).unwrap();
    world.caller().truncate_file(&file, 9000).unwrap();
    assert_eq!(read_at(&file, 4998, 4), vec![7, 7, 0, 0]);
    assert_eq!(file.metadata().unwrap().blocks, 16);
    assert_eq!(
        world.caller().truncate_file(&file, u64::MAX),
        Err(Errno::EFBIG)
    );
}

#[test]
fn appends_go_to_the_end_wherever_the_position_is() {
    let world = World::new();
    world.write("f", b"abc");
    let file = world
        .open("f", OpenFlags::WRONLY | OpenFlags::APPEND)
        .unwrap();
    assert_eq!(file.write(&mut IoReader::kernel(b"def")), Ok(3));
    assert_eq!(file.position(), 6);
    file.seek(Seek::Set(0)).unwrap();
    assert_eq!(file.write(&mut IoReader::kernel(b"ghi")), Ok(3));
    assert_eq!(world.read("f"), Ok(b"abcdefghi".to_vec()));
}

#[test]
fn fallocate_makes_room_and_punches_holes() {
    let world = World::new();
    let file = new_file(&world);
    let allocate = |mode, offset, len| file.ops().allocate(&Allocate { mode, offset, len });
    allocate(1, 0, 8192).unwrap();
    assert_eq!(
        (
            file.metadata().unwrap().size,
            file.metadata().unwrap().blocks
        ),
        (0, 16)
    );
    allocate(0, 0, 8192).unwrap();
    assert_eq!(file.metadata().unwrap().size, 8192);
    at(&file, 0, &[1; 8192]).unwrap();
    allocate(3, 100, 8000).unwrap();
    assert_eq!(
        (read_at(&file, 99, 2), read_at(&file, 8099, 2)),
        (vec![1, 0], vec![0, 1])
    );
    assert_eq!(
        allocate(2, 0, 10),
        Err(Errno::EOPNOTSUPP),
        "a hole must keep the size"
    );
}

#[test]
fn the_size_option_is_a_limit() {
    let request = |data| MountRequest {
        source: b"none",
        data,
    };
    for bad in [
        &b"size=x"[..],
        b"size=1q",
        b"mode=9",
        b"nonsense",
        b"uid=-1",
    ] {
        assert_eq!(TmpFsType.mount(&request(bad)).err(), Some(Errno::EINVAL));
    }
    let world = World::on(
        &TmpFsType
            .mount(&request(b"size=8k,nr_inodes=3,mode=700"))
            .unwrap(),
    );
    assert_eq!(world.stat("/").unwrap().mode, 0o700);
    let file = new_file(&world);
    assert_eq!(at(&file, 0, &[1; 10_000]), Ok(8192));
    assert_eq!(at(&file, 8192, &[1]), Err(Errno::ENOSPC));
    world.mkdir("d").unwrap();
    assert_eq!(world.mkdir("e"), Err(Errno::ENOSPC));
    world.caller().truncate_file(&file, 0).unwrap();
    assert_eq!(at(&file, 0, &[1; 8192]), Ok(8192));
    let known = world.cwd().dentry.super_block().fs().statfs().unwrap();
    assert_eq!(
        (known.blocks, known.blocks_free, known.files_free),
        (2, 0, 0)
    );
    drop(file);
    world.unlink("f").unwrap();
    let known = world.cwd().dentry.super_block().fs().statfs().unwrap();
    assert_eq!((known.blocks_free, known.files_free), (2, 1));
}

#[test]
fn a_listing_goes_on_where_it_stopped_whatever_changes() {
    struct Some(Vec<String>, usize);
    impl crate::file_ops::DirSink for Some {
        fn add(&mut self, name: &[u8], _: u64, _: crate::FileKind, _: u64) -> bool {
            if self.1 == 0 {
                return false;
            }
            self.1 -= 1;
            self.0.push(String::from_utf8_lossy(name).into_owned());
            true
        }
    }
    let world = World::new();
    for at in 0..6 {
        world.write(&format!("f{at}"), b"");
    }
    let directory = world.open(".", OpenFlags::DIRECTORY).unwrap();
    let mut first = Some(Vec::new(), 4);
    directory.read_dir(&mut first).unwrap();
    assert_eq!(first.0, [".", "..", "f0", "f1"]);
    for at in 0..3 {
        world.unlink(&format!("f{at}")).unwrap();
    }
    world.write("g", b"");
    let mut rest = Some(Vec::new(), 100);
    directory.read_dir(&mut rest).unwrap();
    assert_eq!(rest.0, ["f3", "f4", "f5", "g"]);
    directory.seek(Seek::Set(0)).unwrap();
    let mut again = Some(Vec::new(), 100);
    directory.read_dir(&mut again).unwrap();
    assert_eq!(again.0, [".", "..", "f3", "f4", "f5", "g"]);
}

#[test]
fn a_deep_tree_goes_without_overflowing_the_stack() {
    let world = World::new();
    for _ in 0..5000 {
        world.mkdir("d").unwrap();
        world.fs.set_cwd(world.find("d").unwrap()).unwrap();
    }
    drop(world);
}

#[test]
fn an_empty_archive_is_an_empty_root_with_devices() {
    archive::init().unwrap();
    let namespace = archive::root_namespace(&[]).unwrap();
    let world = World {
        fs: FsContext::new(&namespace).unwrap(),
        credentials: Arc::new(Credentials::root()),
    };
    assert_eq!(world.names("/"), ["dev"]);
    let null = world.open("/dev/null", OpenFlags::RDWR).unwrap();
    assert_eq!(null.write(&mut IoReader::kernel(b"gone")), Ok(4));
    assert_eq!(null.read(&mut IoWriter::kernel(&mut [0; 4])), Ok(0));
    let full = world.open("/dev/full", OpenFlags::RDWR).unwrap();
    assert_eq!(full.write(&mut IoReader::kernel(b"x")), Err(Errno::ENOSPC));
    let mut bytes = [9; 4];
    assert_eq!(full.read(&mut IoWriter::kernel(&mut bytes)), Ok(4));
    assert_eq!(bytes, [0; 4]);
    world.write("/made", b"the root is writable");
    assert!(world.names("/dev").contains(&"urandom".to_string()));
}

#[test]
fn attributes_and_long_links_count_against_the_size() {
    let request = MountRequest {
        source: b"none",
        data: b"size=8k,nr_inodes=4",
    };
    let world = World::on(&TmpFsType.mount(&request).unwrap());
    let fs = world.cwd().mount.super_block().fs().clone();
    let free = || {
        let stat = fs.statfs().unwrap();
        (stat.blocks_free, stat.files_free)
    };
    assert_eq!(free(), (2, 3));
    world.symlink(&"s".repeat(127), "short").unwrap();
    assert_eq!(world.stat("short").unwrap().blocks, 0);
    world.symlink(&"l".repeat(128), "long").unwrap();
    assert_eq!(world.stat("long").unwrap().blocks, 8);
    assert_eq!(free(), (1, 1));
    let place = world.find_link("long").unwrap();
    let set = |name: &str, len| {
        let value = vec![1; len];
        let mode = crate::inode::XattrMode::Either;
        world
            .caller()
            .set_xattr(&place, name.as_bytes(), &value, mode)
    };
    // 40 bytes and the name beside the value, of 1,024.
    assert_eq!(set("trusted.a", 1000), Err(Errno::ENOSPC));
    assert_eq!(set("trusted.a", 900), Ok(()));
    assert_eq!(free(), (1, 0));
    assert_eq!(set("trusted.b", 900), Err(Errno::ENOSPC));
    assert_eq!(
        set("trusted.a", 40),
        Err(Errno::ENOSPC),
        "both are there for a moment"
    );
    world.caller().remove_xattr(&place, b"trusted.a").unwrap();
    assert_eq!(set("trusted.b", 900), Ok(()));
    drop(place);
    world.unlink("long").unwrap();
    assert_eq!(free(), (2, 2));
}

#[test]
fn access_times_follow_changes() {
    use crate::metadata::Timestamp;
    use crate::ops::TimeChange;
    let world = World::new();
    world.write("f", b"x");
    let old = Timestamp::new(1000, 0);
    let set = |mtime| {
        let place = world.find("f").unwrap();
        let times = (TimeChange::To(old), TimeChange::To(mtime));
        world.caller().set_times(&place, times.0, times.1).unwrap();
    };
    let atime = || world.stat("f").unwrap().atime;
    set(Timestamp::new(2000, 0));
    assert_eq!(atime(), old);
    let file = world.open("f", OpenFlags::NOATIME).unwrap();
    file.read(&mut IoWriter::kernel(&mut [0; 4])).unwrap();
    assert_eq!(atime(), old, "O_NOATIME");
    world.read("f").unwrap();
    let read = atime();
    assert!(read > old);
    std::thread::sleep(std::time::Duration::from_millis(5));
    world.read("f").unwrap();
    assert_eq!(atime(), read, "nothing has changed since");
    world.write("f", b"y");
    world.read("f").unwrap();
    assert!(atime() > read);
}

#[test]
fn deep_and_wide_trees_go_without_recursion() {
    let world = World::new();
    world.mkdir("top").unwrap();
    let mut at = world.find("top").unwrap();
    for depth in 0..3000 {
        world.caller().mkdir(&at, b"d", 0o755).unwrap();
        if depth % 100 == 0 {
            for name in [b"a", b"b"] {
                world.caller().mkdir(&at, name, 0o755).unwrap();
            }
        }
        at = world
            .caller()
            .lookup(&at, b"d", LookupFlags::empty())
            .unwrap();
    }
    let deepest = Arc::downgrade(at.inode().unwrap());
    let beside = Arc::downgrade(world.find("top/d/d").unwrap().inode().unwrap());
    drop((at, world));
    sched::rcu::barrier();
    assert_eq!((deepest.strong_count(), beside.strong_count()), (0, 0));
}
