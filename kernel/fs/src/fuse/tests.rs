//! The client against servers that the tests play: an honest one, and one that says anything.

mod odd_servers;
mod server;

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::Errno;
use machine::virtio::fake;
use memory::io::{IoReader, IoWriter};
use sched::WaitQueue;

use self::server::Server;
use super::connection::Connection;
use super::session::Session;
use crate::file_ops::{Allocate, DirSink, FileOps, Io, Seek};
use crate::file_system::FileSystem;
use crate::flags::OpenFlags;
use crate::inode::{Inode, NewInode, NewKind, RenameMode, XattrMode};
use crate::metadata::{FileKind, SetAttr};

fn connect(handler: fake::Handler) -> Arc<Connection> {
    let activity = Arc::new(WaitQueue::new());
    let (requests, device) = fake::queue(64, handler);
    let woken = activity.clone();
    device.set_events(Arc::new(move || woken.wake_all()));
    let (urgent, _) = fake::queue(16, Box::new(|device, pending| device.answer(pending, &[])));
    Arc::new(Connection::new(requests, urgent, activity).unwrap())
}

fn mounted() -> (Arc<dyn Inode>, Arc<Server>) {
    let server = Arc::new(Server::default());
    let playing = server.clone();
    let connection = connect(Box::new(move |device, pending| {
        let answer = playing.answer(&pending.request(), pending.room());
        device.answer(pending, &answer);
    }));
    (
        Session::open(connection, None).unwrap().root().unwrap(),
        server,
    )
}

fn new(kind: NewKind<'_>, mode: u32) -> NewInode<'_> {
    NewInode {
        kind,
        mode,
        uid: crate::Kuid::ROOT,
        gid: crate::Kgid::ROOT,
        acls: crate::acl::NewAcls::default(),
    }
}

fn write(file: &Arc<dyn FileOps>, offset: u64, bytes: &[u8]) -> usize {
    let mut io = Io {
        offset,
        ..Io::default()
    };
    file.write(&mut IoReader::kernel(bytes), &mut io).unwrap()
}

fn read(file: &Arc<dyn FileOps>, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let count = file
        .read(
            &mut IoWriter::kernel(&mut bytes),
            &Io {
                offset,
                ..Io::default()
            },
        )
        .unwrap();
    bytes.truncate(count);
    bytes
}

struct Names(Vec<Vec<u8>>, usize);

impl DirSink for Names {
    fn add(&mut self, name: &[u8], _ino: u64, _kind: FileKind, _next: u64) -> bool {
        let has_room = self.0.len() < self.1;
        if has_room {
            self.0.push(name.to_vec());
        }
        has_room
    }
}

#[test]
fn files_are_made_written_and_read() {
    let (root, server) = mounted();
    let made = root.create(b"file", &new(NewKind::Regular, 0o640)).unwrap();
    assert_eq!(made.metadata().unwrap().st_mode(), 0o100_640);
    let file = made.clone().open(OpenFlags::RDWR).unwrap();
    let content: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
    assert_eq!(write(&file, 0, &content), content.len());
    assert_eq!(server.content(b"file"), content);
    assert_eq!(made.metadata().unwrap().size, 300_000);
    assert_eq!(read(&file, 0, 400_000), content);
    assert_eq!(read(&file, 299_990, 100), content[299_990..]);
    assert_eq!(read(&file, 300_000, 100), b"");
    // In the middle, over a page's edge, seen by the cache and by the server.
    assert_eq!(write(&file, 4090, b"0123456789"), 10);
    assert_eq!(read(&file, 4090, 10), b"0123456789");
    assert_eq!(&server.content(b"file")[4090..4100], b"0123456789");
    drop(file);
    assert_eq!(server.open_handles(), 0);
}

#[test]
fn reads_come_in_large_requests() {
    let (root, server) = mounted();
    server.put(b"big", &vec![7; 1 << 20]);
    let file = root
        .lookup(b"big")
        .unwrap()
        .open(OpenFlags::empty())
        .unwrap();
    let before = server.requests();
    assert_eq!(read(&file, 0, 1 << 20).len(), 1 << 20);
    // 32 requests of 32 pages, and one for attributes.
    assert!(
        server.requests() - before <= 34,
        "{}",
        server.requests() - before
    );
}

#[test]
fn what_changes_at_the_server_is_seen() {
    let (root, server) = mounted();
    server.put(b"f", b"old");
    let inode = root.lookup(b"f").unwrap();
    let open = || inode.clone().open(OpenFlags::empty()).unwrap();
    assert_eq!(read(&open(), 0, 9), b"old");
    server.put(b"f", b"new!");
    assert_eq!(read(&open(), 0, 9), b"new!");
    server.put(b"f", b"n");
    assert_eq!(read(&open(), 0, 9), b"n");
}

#[test]
fn names_are_linked_renamed_and_removed() {
    let (root, server) = mounted();
    let directory = root.create(b"d", &new(NewKind::Directory, 0o755)).unwrap();
    let file = root.create(b"f", &new(NewKind::Regular, 0o600)).unwrap();
    directory.link(b"l", &file).unwrap();
    root.rename(b"f", &directory, b"g", RenameMode::Replace)
        .unwrap();
    assert_eq!(root.lookup(b"f").err(), Some(Errno::ENOENT));
    let found = directory.lookup(b"g").unwrap();
    assert!(Arc::ptr_eq(&found, &file) || found.metadata().unwrap() == file.metadata().unwrap());
    assert_eq!(root.rmdir(b"d", &directory).err(), Some(Errno::ENOTEMPTY));
    directory.unlink(b"g", &file).unwrap();
    directory.unlink(b"l", &file).unwrap();
    root.rmdir(b"d", &directory).unwrap();
    let link = root
        .create(b"s", &new(NewKind::Symlink(b"/to/where"), 0o777))
        .unwrap();
    assert_eq!(link.readlink().unwrap(), b"/to/where");
    assert_eq!(file.readlink().err(), Some(Errno::EINVAL));
    drop((file, found, directory, link));
    assert_eq!(server.names(), [b"s".to_vec()]);
}

#[test]
fn directories_are_listed_in_pieces_of_any_size() {
    let (root, server) = mounted();
    let mut expected: Vec<Vec<u8>> = (0..700)
        .map(|at| format!("name-{at:04}").into_bytes())
        .collect();
    expected.iter().for_each(|name| server.put(name, b""));
    // The server leaves these out.
    expected.extend([b".".to_vec(), b"..".to_vec()]);
    for piece in [1000, 7, 1] {
        let directory = root.clone().open(OpenFlags::DIRECTORY).unwrap();
        let (mut found, mut at) = (Vec::new(), 0);
        loop {
            let mut names = Names(Vec::new(), piece);
            at = directory.read_dir(at, &mut names).unwrap();
            if names.0.is_empty() {
                break;
            }
            found.extend(names.0);
        }
        found.sort();
        expected.sort();
        assert!(found == expected, "in pieces of {piece}");
    }
}

#[test]
fn truncation_and_append_agree_with_the_server() {
    let (root, server) = mounted();
    server.put(b"f", &[1; 5000]);
    let inode = root.lookup(b"f").unwrap();
    let file = inode.clone().open(OpenFlags::RDWR).unwrap();
    assert_eq!(read(&file, 0, 9000).len(), 5000);
    inode
        .set_attr(&SetAttr {
            size: Some(4100),
            ..SetAttr::default()
        })
        .unwrap();
    inode
        .set_attr(&SetAttr {
            size: Some(4110),
            ..SetAttr::default()
        })
        .unwrap();
    assert_eq!(read(&file, 4090, 90), [&[1; 10][..], &[0; 10]].concat());
    let mut io = Io {
        append: true,
        ..Io::default()
    };
    assert_eq!(file.write(&mut IoReader::kernel(b"end"), &mut io), Ok(3));
    assert_eq!(io.offset, 4110);
    assert_eq!(&server.content(b"f")[4108..], b"\0\0end");
}

#[test]
fn shared_mappings_are_written_back() {
    let (root, server) = mounted();
    server.put(b"f", &[b'a'; 5000]);
    let file = root.lookup(b"f").unwrap().open(OpenFlags::RDWR).unwrap();
    let source = file.page_source().unwrap();
    assert_eq!(source.page(9, false).err(), Some(Errno::EFAULT));
    let page = source.page(1, true).unwrap();
    page.write(10, b"mapped");
    assert_eq!(read(&file, 4096 + 10, 6), b"mapped");
    source.sync(0, 9).unwrap();
    assert_eq!(&server.content(b"f")[4106..4112], b"mapped");
    assert_eq!(server.content(b"f").len(), 5000);
    let requests = server.requests();
    source.sync(0, 9).unwrap();
    assert_eq!(server.requests(), requests, "nothing was stored to");
    source.page(1, true).unwrap().write(20, b"late");
    drop((page, source, file));
    assert_eq!(&server.content(b"f")[4116..4120], b"late");
    assert_eq!(server.open_handles(), 0);
}

#[test]
fn stored_pages_go_in_large_requests_behind_errors_too() {
    let (root, server) = mounted();
    server.put(b"f", &[b'a'; 100 * 4096]);
    let file = root.lookup(b"f").unwrap().open(OpenFlags::RDWR).unwrap();
    let other = root.lookup(b"f").unwrap().open(OpenFlags::RDWR).unwrap();
    let source = file.page_source().unwrap();
    for index in 0..100 {
        source.page(index, true).unwrap().write(0, b"x");
    }
    // Bytes of pages 32 to 63 are refused.
    server.refuse_writes(Some(40 * 4096));
    let before = server.writes();
    assert_eq!(file.sync(false), Err(Errno::EIO));
    assert_eq!(server.writes() - before, 4);
    let content = server.content(b"f");
    assert_eq!(
        [content[0], content[33 * 4096], content[99 * 4096]],
        *b"xax"
    );
    server.refuse_writes(None);
    assert_eq!(file.sync(false), Ok(()));
    assert_eq!(server.content(b"f")[33 * 4096], b'x');
    assert_eq!(
        other.sync(false),
        Err(Errno::EIO),
        "told once, though all is well by now"
    );
    assert_eq!(other.sync(false), Ok(()));
}

#[test]
fn stores_to_a_file_open_for_appending_stay_in_place() {
    let (root, server) = mounted();
    let made = root.create(b"f", &new(NewKind::Regular, 0o644)).unwrap();
    let flags = OpenFlags::RDWR | OpenFlags::APPEND;
    let file = made.clone().open(flags).unwrap();
    made.set_attr(&SetAttr {
        size: Some(1024),
        ..SetAttr::default()
    })
    .unwrap();
    let source = file.page_source().unwrap();
    source.page(0, true).unwrap().write(100, b"world");
    file.sync(false).unwrap();
    assert_eq!(server.content(b"f").len(), 1024);
    assert_eq!(&server.content(b"f")[100..105], b"world");
    assert_eq!(made.metadata().unwrap().size, 1024);
}

#[test]
fn appends_go_behind_what_others_append() {
    let (root, server) = mounted();
    server.put(b"f", b"1");
    let inode = root.lookup(b"f").unwrap();
    let file = inode.clone().open(OpenFlags::WRONLY).unwrap();
    let append = |bytes| {
        let mut io = Io {
            append: true,
            ..Io::default()
        };
        file.write(&mut IoReader::kernel(bytes), &mut io).unwrap();
        io.offset
    };
    assert_eq!(append(b"2"), 1);
    server.put(b"f", b"12345");
    assert_eq!(append(b"6"), 5);
    assert_eq!(server.content(b"f"), b"123456");
    // The server appends, whatever the client thinks the end is.
    server.append_before_write(b"f", b"7");
    append(b"8");
    assert_eq!(server.content(b"f"), b"12345678");
    let reader = inode.open(OpenFlags::empty()).unwrap();
    assert_eq!(read(&reader, 0, 20), b"12345678");
}

#[test]
fn holes_and_tails_stay_empty() {
    let (root, server) = mounted();
    server.put(b"f", &[b'a'; 3 * 4096]);
    let inode = root.lookup(b"f").unwrap();
    let file = inode.clone().open(OpenFlags::RDWR).unwrap();
    let source = file.page_source().unwrap();
    for index in 0..3 {
        source.page(index, true).unwrap().write(7, b"x");
    }
    let punch = Allocate {
        mode: 3,
        offset: 0,
        len: 4096 + 10,
    };
    file.allocate(&punch).unwrap();
    file.sync(false).unwrap();
    let content = server.content(b"f");
    assert!(content[..4106].iter().all(|byte| *byte == 0));
    assert_eq!(&content[4106..4108], b"aa");
    assert_eq!(read(&file, 4104, 4), b"\0\0aa");
    let resize = |size| {
        let change = SetAttr {
            size: Some(size),
            ..SetAttr::default()
        };
        inode.set_attr(&change).unwrap();
    };
    resize(8192 + 100);
    source.page(2, true).unwrap().write(200, b"hidden");
    source.sync(0, 9).unwrap();
    resize(3 * 4096);
    assert_eq!(read(&file, 8192 + 190, 30), [0; 30]);
    file.sync(false).unwrap();
    assert_eq!(server.content(b"f")[8192 + 200..8192 + 206], [0; 6]);
}

#[test]
fn a_mapped_page_shows_what_others_change() {
    let (root, server) = mounted();
    server.put(b"f", &[b'a'; 2 * 4096]);
    let inode = root.lookup(b"f").unwrap();
    let file = inode.clone().open(OpenFlags::RDWR).unwrap();
    let source = file.page_source().unwrap();
    let first = |index| {
        let mut byte = [0];
        source.page(index, false).unwrap().read(0, &mut byte);
        byte[0]
    };
    assert_eq!(first(0), b'a');
    server.put(b"f", &[b'b'; 2 * 4096]);
    inode.metadata().unwrap();
    assert_eq!(first(0), b'b');
    // Changes from here do not hide theirs, whether these came before or after.
    write(&file, 10, b"w");
    server.put(b"f", &[b'c'; 2 * 4096]);
    inode.metadata().unwrap();
    assert_eq!((first(0), first(1)), (b'c', b'c'));
    server.put(b"f", &[b'd'; 2 * 4096]);
    write(&file, 10, b"w");
    inode.metadata().unwrap();
    assert_eq!((first(0), first(1)), (b'd', b'd'));
    server.put(b"f", &[b'e'; 2 * 4096]);
    let mode = SetAttr {
        mode: Some(0o600),
        ..SetAttr::default()
    };
    inode.set_attr(&mode).unwrap();
    assert_eq!(first(0), b'e');
}

#[test]
fn direct_transfers_agree_with_the_cache() {
    let (root, server) = mounted();
    server.put(b"f", &[b'a'; 200 * 4096]);
    let file = root.lookup(b"f").unwrap().open(OpenFlags::RDWR).unwrap();
    let source = file.page_source().unwrap();
    source.page(0, true).unwrap().write(0, b"M");
    let mut bytes = vec![0; 150 * 4096];
    let mut io = Io {
        direct: true,
        ..Io::default()
    };
    let count = file.read(&mut IoWriter::kernel(&mut bytes), &io);
    assert_eq!((count, bytes[0]), (Ok(bytes.len()), b'M'));
    bytes.fill(b'D');
    assert_eq!(
        file.write(&mut IoReader::kernel(&bytes), &mut io),
        Ok(bytes.len())
    );
    let mut byte = [0];
    source.page(0, false).unwrap().read(0, &mut byte);
    assert_eq!(&byte, b"D");
    assert_eq!(server.content(b"f")[150 * 4096 - 1..][..2], *b"Da");
}

#[test]
fn sync_of_the_file_system_writes_all_files() {
    let (root, server) = mounted();
    let files: Vec<_> = [&b"a"[..], b"b"]
        .into_iter()
        .map(|name| {
            server.put(name, &[0; 10]);
            let file = root.lookup(name).unwrap().open(OpenFlags::RDWR).unwrap();
            let page = file.page_source().unwrap().page(0, true).unwrap();
            page.write(3, b"!");
            file
        })
        .collect();
    let inode: &dyn core::any::Any = root.as_ref();
    let inode: &super::inode::FuseInode = inode.downcast_ref().unwrap();
    inode.session.sync().unwrap();
    assert_eq!(
        (server.content(b"a")[3], server.content(b"b")[3]),
        (b'!', b'!')
    );
    drop(files);
}

/// A description of a file of `root`.
fn description(root: &Arc<dyn Inode>, name: &[u8]) -> Arc<crate::File> {
    let super_block = crate::SuperBlock::new(
        crate::tmpfs::TmpFs::new("tmpfs", &crate::tmpfs::TmpFsOptions::default()).unwrap(),
    )
    .unwrap();
    let mount = crate::Mount::of(&super_block).unwrap();
    let inode = root.lookup(name).unwrap();
    let ops = inode.clone().open(OpenFlags::RDWR).unwrap();
    let dentry = super_block
        .root()
        .unwrap()
        .new_unlisted(inode, name)
        .unwrap();
    let path = crate::Path { mount, dentry };
    let credentials = Arc::new(crate::Credentials::root());
    crate::File::new(path, ops, OpenFlags::RDWR, &credentials).unwrap()
}

#[test]
fn locks_are_the_servers_when_it_offers_them() {
    use crate::lock::{FileLock, LockFamily, LockKind, LockOwner, acquire, find_conflict, release};
    let server = Arc::new(Server::default());
    server.give_locks();
    let playing = server.clone();
    let connection = connect(Box::new(move |device, pending| {
        let answer = playing.answer(&pending.request(), pending.room());
        device.answer(pending, &answer);
    }));
    let session = Session::open(connection, None).unwrap();
    assert_eq!(session.options().unwrap(), "");
    let root = session.root().unwrap();
    server.put(b"f", b"x");
    let (one, two) = (description(&root, b"f"), description(&root, b"f"));
    let flock = |file: &crate::File, kind| {
        let lock = FileLock::whole(kind, LockOwner::Description(file.lock_id()), 1);
        acquire(file, LockFamily::Flock, &lock, false)
    };
    assert_eq!(flock(&one, LockKind::Shared), Ok(()));
    assert_eq!(flock(&two, LockKind::Shared), Ok(()));
    assert_eq!(flock(&two, LockKind::Exclusive), Err(Errno::EAGAIN));
    drop(one);
    assert_eq!(flock(&two, LockKind::Exclusive), Ok(()));
    drop(two);
    assert_eq!(server.locks(), 0, "closing gives them up");

    let one = description(&root, b"f");
    server.lock_by_others(b"f", true, 1);
    assert_eq!(flock(&one, LockKind::Shared), Err(Errno::EAGAIN));
    let record = |kind, table, start, end| FileLock {
        kind,
        owner: LockOwner::Table(table),
        start,
        end,
        pid: 1,
    };
    let wanted = record(LockKind::Exclusive, 5, 10, 20);
    assert_eq!(acquire(&one, LockFamily::Record, &wanted, false), Ok(()));
    let other = record(LockKind::Shared, 6, 15, u64::MAX);
    let found = find_conflict(&one, LockFamily::Record, &other)
        .unwrap()
        .unwrap();
    assert_eq!((found.start, found.end, found.pid), (10, 20, 0));
    assert_eq!(
        acquire(&one, LockFamily::Record, &other, false),
        Err(Errno::EAGAIN)
    );
    release(&one, LockFamily::Record, &wanted).unwrap();
    // Who waits asks again until the other has given it up.
    server.lock_by_others(b"f", false, 1);
    let freeing = std::thread::spawn({
        let server = server.clone();
        move || {
            std::thread::sleep(std::time::Duration::from_millis(20));
            server.lock_by_others(b"f", false, 2);
        }
    });
    assert_eq!(acquire(&one, LockFamily::Record, &other, true), Ok(()));
    freeing.join().unwrap();
    crate::lock::release_table(&one, 6);
    server.lock_by_others(b"f", true, 2);
    assert_eq!(server.locks(), 0);
}

#[test]
fn what_a_server_does_not_know_is_asked_once() {
    let (root, server) = mounted();
    let asked = |call: &dyn Fn() -> abi::Result<()>| {
        let before = server.requests();
        assert_eq!((call(), call()), (call(), call()));
        server.requests() - before
    };
    let get = || root.xattr(b"security.capability").map(drop);
    assert_eq!((asked(&get), get()), (1, Err(Errno::EOPNOTSUPP)));
    assert_eq!(asked(&|| root.list_xattrs().map(drop)), 1);
    let set = || root.set_xattr(b"user.a", b"b", XattrMode::Either);
    assert_eq!((asked(&set), set()), (1, Err(Errno::EOPNOTSUPP)));
    let remove = || root.remove_xattr(b"user.a");
    assert_eq!((asked(&remove), remove()), (1, Err(Errno::EOPNOTSUPP)));
    let directory = root.clone().open(OpenFlags::DIRECTORY).unwrap();
    assert_eq!(asked(&|| directory.sync(false)), 1);
}

#[test]
fn a_program_without_capabilities_is_asked_about_once_until_it_changes() {
    let (root, server) = mounted();
    server.be_capable();
    let file = root.create(b"f", &new(NewKind::Regular, 0o755)).unwrap();
    let asked = || {
        file.metadata().unwrap();
        let before = server.requests();
        assert_eq!(file.xattr(b"security.capability"), Err(Errno::ENODATA));
        server.requests() - before
    };
    assert_eq!([asked(), asked(), asked()], [1, 0, 0]);
    // Other attributes are asked for each time.
    let before = server.requests();
    for _ in 0..2 {
        assert_eq!(file.xattr(b"user.a"), Err(Errno::ENODATA));
    }
    assert_eq!(server.requests() - before, 2);
    file.set_attr(&SetAttr {
        size: Some(9),
        ..Default::default()
    })
    .unwrap();
    assert_eq!([asked(), asked()], [1, 0]);
}

#[test]
fn holes_are_where_the_server_says() {
    let (root, server) = mounted();
    let inode = root.create(b"f", &new(NewKind::Regular, 0o644)).unwrap();
    inode
        .set_attr(&SetAttr {
            size: Some(1000),
            ..Default::default()
        })
        .unwrap();
    let file = inode.open(OpenFlags::RDWR).unwrap();
    let seek = |to| file.seek(0, to);
    // A server that cannot tell: all is data.
    assert_eq!(seek(Seek::Hole(1)), Ok(1000));
    assert_eq!(seek(Seek::Data(600)), Ok(600));
    drop((file, server));
    let (root, server) = mounted();
    server.be_capable();
    let inode = root.create(b"f", &new(NewKind::Regular, 0o644)).unwrap();
    inode
        .set_attr(&SetAttr {
            size: Some(1000),
            ..Default::default()
        })
        .unwrap();
    let file = inode.open(OpenFlags::RDWR).unwrap();
    assert_eq!(file.seek(0, Seek::Hole(1)), Ok(500));
    assert_eq!(file.seek(0, Seek::Data(499)), Ok(499));
    assert_eq!(file.seek(0, Seek::Data(500)), Err(Errno::ENXIO));
    assert_eq!(file.seek(0, Seek::Data(-1)), Err(Errno::ENXIO));
}

#[test]
fn files_without_a_name_are_made_open_and_can_get_one() {
    let (root, _server) = mounted();
    let inode = root
        .create_unnamed(&new(NewKind::Regular, 0o600), true)
        .unwrap();
    assert_eq!(inode.metadata().unwrap().nlink, 0);
    assert_eq!(root.lookup(b"f").err(), Some(Errno::ENOENT));
    root.link(b"f", &inode).unwrap();
    assert!(Arc::ptr_eq(&root.lookup(b"f").unwrap(), &inode));
}

#[test]
fn what_is_attached_is_a_file_system_of_its_own() {
    let server = Arc::new(Server::default());
    let playing = server.clone();
    let connection = connect(Box::new(move |device, pending| {
        let answer = playing.answer(&pending.request(), pending.room());
        device.answer(pending, &answer);
    }));
    let connection = &connection;
    let open = |name: &[u8]| Session::open(connection.clone(), Some(name));
    assert_eq!(open(b"data").err(), Some(Errno::ENOENT));
    server.attach(b"data");
    let whole = Session::open(connection.clone(), None).unwrap();
    assert_eq!(
        whole.root().unwrap().lookup(b"data").err(),
        Some(Errno::ENOENT)
    );
    let session = open(b"data").unwrap();
    let root = session.root().unwrap();
    assert_eq!(root.metadata().unwrap().mode & 0o777, 0o700);
    let file = root.lookup(b"f").unwrap();
    let device = |session: &Arc<Session>| {
        let super_block = crate::file_system::SuperBlock::new(session.clone());
        super_block.unwrap().device()
    };
    assert_ne!(device(&whole), device(&session));
    assert!(session.is_there());
    server.detach(b"data");
    assert!(!session.is_there());
    assert!(file.metadata().is_ok(), "this server leaves it");
    session.close();
    assert_eq!(session.root().err(), Some(Errno::ESTALE));
    // Nothing holds the session, so nodes are forgotten.
    drop((root, file));
    let gone = Arc::downgrade(&session);
    drop(session);
    assert!(gone.upgrade().is_none());
}

#[test]
fn lookups_are_forgotten_with_the_inode() {
    let (root, server) = mounted();
    server.put(b"f", b"x");
    for _ in 0..3 {
        drop(root.lookup(b"f").unwrap());
    }
    let both = (root.lookup(b"f").unwrap(), root.lookup(b"f").unwrap());
    assert!(Arc::ptr_eq(&both.0, &both.1));
    assert!(root.is_current(b"f", Some(&both.0)));
    server.remove(b"f");
    server.put(b"f", b"other");
    assert!(!root.is_current(b"f", Some(&both.0)));
}

/// The names found by looking them up as a walk does.
fn find(session: &Arc<Session>, names: &[&[u8]]) -> Vec<bool> {
    let super_block = crate::file_system::SuperBlock::new(session.clone()).unwrap();
    let root = super_block.root().unwrap();
    let found = |name: &&[u8]| crate::walk::find_child(&root, name, false).is_ok();
    names.iter().map(found).collect()
}

#[test]
fn absences_are_believed_as_long_as_the_server_says() {
    let server = Arc::new(Server::default());
    let playing = server.clone();
    let connection = connect(Box::new(move |device, pending| {
        let answer = playing.answer(&pending.request(), pending.room());
        device.answer(pending, &answer);
    }));
    let session = Session::open(connection, None).unwrap();
    let requests = || server.requests();
    let before = requests();
    assert_eq!(find(&session, &[b"no", b"no"]), [false, false]);
    assert_eq!(requests() - before, 2, "nothing was promised");
    server.promise_absences(3600);
    let before = requests();
    assert_eq!(find(&session, &[b"no", b"no", b"no"]), [false; 3]);
    assert_eq!(requests() - before, 1);
}
