//! A FUSE client that speaks to the file system device through its queue, and a tour of what it can do.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::{BUFFERS, Driver, SharedMemory, WRITE};
use crate::VirtioDevice as _;
use crate::fs::Fs;
use crate::fs::gofer::{Gofer, Link, shared_buffer};
use crate::fs::server::FileServer;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

pub const ROOT: u64 = 1;
pub const ENOENT: i32 = -2;
pub const EPERM: i32 = -1;
pub const ENXIO: i32 = -6;
pub const EBADF: i32 = -9;
pub const EISDIR: i32 = -21;
pub const ENFILE: i32 = -23;
pub const EROFS: i32 = -30;
pub const ESTALE: i32 = -116;
pub const ENODATA: i32 = -61;
pub const EOPNOTSUPP: i32 = -95;
pub const EINVAL: i32 = -22;
pub const LOOKUP: u32 = 1;
pub const SETATTR: u32 = 4;
pub const READLINK: u32 = 5;
pub const SYMLINK: u32 = 6;
pub const MKNOD: u32 = 8;
pub const MKDIR: u32 = 9;
pub const UNLINK: u32 = 10;
pub const RMDIR: u32 = 11;
pub const LINK: u32 = 13;
pub const OPEN: u32 = 14;
pub const READ: u32 = 15;
pub const WRITE_FILE: u32 = 16;
pub const STATFS: u32 = 17;
pub const RELEASE: u32 = 18;
pub const FSYNC: u32 = 20;
pub const SETXATTR: u32 = 21;
pub const GETXATTR: u32 = 22;
pub const LISTXATTR: u32 = 23;
pub const REMOVEXATTR: u32 = 24;
pub const FLUSH: u32 = 25;
pub const INIT: u32 = 26;
pub const OPENDIR: u32 = 27;
pub const READDIR: u32 = 28;
pub const SETLK: u32 = 32;
pub const CREATE: u32 = 35;
pub const FALLOCATE: u32 = 43;
pub const READDIRPLUS: u32 = 44;
pub const RENAME2: u32 = 45;
pub const LSEEK: u32 = 46;
pub const SYNCFS: u32 = 50;
pub const TMPFILE: u32 = 51;

/// FUSE_INIT features: writes over a page, and more than 32 pages a request.
const BIG_WRITES: u32 = 1 << 5;
const MAX_PAGES: u32 = 1 << 22;

/// A device whose files are named by a thread here, which does `confine` before it serves.
pub fn by_gofer(root: &Path, confine: impl FnOnce() + Send + 'static) -> Fs<SharedMemory> {
    let kind = (AddressFamily::UNIX, SocketType::SEQPACKET);
    let pair = rustix::net::socketpair(kind.0, kind.1, SocketFlags::CLOEXEC, None);
    let (ours, theirs) = pair.expect("sockets");
    let buffer = shared_buffer().expect("memory");
    let link = Link::new(ours, buffer.try_clone().expect("a descriptor")).expect("room");
    let gofer = Gofer::new(theirs, buffer).expect("room");
    let server = FileServer::new(root.to_str().expect("a plain name")).expect("procfs");
    server.open().expect("a directory");
    std::thread::spawn(move || {
        confine();
        gofer.serve(&server);
    });
    link.wait_ready().expect("it serves");
    Fs::remote("root", link)
}

/// A mounted device.
pub struct Client {
    pub fs: Arc<Mutex<Fs<SharedMemory>>>,
    pub driver: Driver,
}

impl Client {
    pub fn mount(root: &Path) -> Self {
        let root = root.to_str().expect("a plain name");
        let fs = Fs::new("root", root).expect("procfs");
        fs.open().expect("a directory");
        Self::of(fs)
    }

    /// As [`mount`](Self::mount), served by a gofer that is a thread here.
    pub fn mount_by_gofer(root: &Path) -> Self {
        Self::of(by_gofer(root, || ()))
    }

    /// A client of this device.
    pub fn of(fs: Fs<SharedMemory>) -> Self {
        let fs = Arc::new(Mutex::new(fs));
        let driver = Driver::ready(fs.clone());
        let mut client = Self { fs, driver };
        let version = [
            words(&[7, 31, 0x2_0000, BIG_WRITES | MAX_PAGES | 1]),
            vec![0; 48],
        ]
        .concat();
        let answer = client.call(INIT, ROOT, &version).expect("a version");
        assert_eq!(answer[12..16], (BIG_WRITES | MAX_PAGES).to_le_bytes());
        assert_eq!(answer[20..24], (1u32 << 20).to_le_bytes());
        assert_eq!(answer[28..30], 256u16.to_le_bytes());
        client
    }

    /// One request; the answer's body or its error.
    pub fn call(&mut self, opcode: u32, node: u64, body: &[u8]) -> Result<Vec<u8>, i32> {
        let length = u32::try_from(40 + body.len()).expect("short");
        let mut request = words(&[length, opcode, 7, 0]);
        request.extend_from_slice(&node.to_le_bytes());
        request.extend_from_slice(&words(&[0, 0, 1, 0]));
        request.extend_from_slice(body);
        let answer = BUFFERS + 0x1_0000;
        self.driver.put(BUFFERS, &request);
        self.driver
            .add(1, &[(BUFFERS, length, 0), (answer, 0x1_0000, WRITE)]);
        self.fs.lock().expect("not poisoned").kicked(1);
        let used = self.driver.used(1);
        let [used] = used[..] else {
            panic!("{} answers", used.len())
        };
        let bytes = self.driver.get(answer, used as usize);
        let error = i32::from_le_bytes(bytes[4..8].try_into().expect("four"));
        if error == 0 {
            Ok(bytes[16..].to_vec())
        } else {
            Err(error)
        }
    }

    /// A request about a name in a directory.
    pub fn named(
        &mut self,
        opcode: u32,
        node: u64,
        before: &[u32],
        name: &str,
    ) -> Result<Vec<u8>, i32> {
        let body = [words(before), name.as_bytes().to_vec(), vec![0]].concat();
        self.call(opcode, node, &body)
    }

    /// Opens a file, and gives its number.
    pub fn open(&mut self, node: u64, flags: u32) -> Result<u64, i32> {
        let opened = self.call(OPEN, node, &words(&[flags, 0]))?;
        Ok(long(&opened, 0))
    }

    /// Writes at the start of an open file.
    pub fn write(&mut self, node: u64, handle: u64, data: &[u8]) -> Result<(), i32> {
        let length = u32::try_from(data.len()).expect("short");
        let head = words(&[0, 0, length, 0, 0, 0, 0, 0]);
        let body = [handle.to_le_bytes().to_vec(), head, data.to_vec()];
        self.call(WRITE_FILE, node, &body.concat()).map(drop)
    }

    /// Reads the start of an open file.
    pub fn read(&mut self, node: u64, handle: u64) -> Result<Vec<u8>, i32> {
        let rest = words(&[0, 0, 100, 0, 0, 0, 0, 0]);
        self.call(READ, node, &[handle.to_le_bytes().to_vec(), rest].concat())
    }

    pub fn lookup(&mut self, node: u64, name: &str) -> Result<u64, i32> {
        self.named(LOOKUP, node, &[], name)
            .map(|entry| long(&entry, 0))
    }
}

pub fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|word| word.to_le_bytes()).collect()
}

pub fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight"))
}

pub fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("nacre-fs-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(path.join("shared")).expect("a fresh folder");
    path
}

/// Sets, lists, reads and removes an attribute of a file, where the host's file system has some.
fn work_with_xattrs(client: &mut Client, file: u64) {
    let sized = |size: u32, name: &[u8]| [words(&[size, 0]), name.to_vec()].concat();
    let value = sized(5, b"user.colour\0green");
    if client.call(SETXATTR, file, &value) == Err(EOPNOTSUPP) {
        return;
    }
    let named = |size| sized(size, b"user.colour\0");
    let length = client.call(GETXATTR, file, &named(0)).expect("set");
    assert_eq!(length[..4], 5u32.to_le_bytes());
    assert_eq!(
        client.call(GETXATTR, file, &named(5)).expect("set"),
        b"green"
    );
    let names = client
        .call(LISTXATTR, file, &sized(100, b""))
        .expect("some");
    assert_eq!(names, b"user.colour\0");
    client
        .call(REMOVEXATTR, file, b"user.colour\0")
        .expect("set");
    assert_eq!(client.call(GETXATTR, file, &named(5)), Err(ENODATA));
}

/// Writes, reads, syncs, and locks an open file, and closes it.
fn work_with_data(client: &mut Client, file: u64, handle: u64) {
    let io = |offset: u32, size: u32| {
        [
            handle.to_le_bytes().to_vec(),
            words(&[offset, 0, size, 0, 0, 0, 0, 0]),
        ]
        .concat()
    };
    let written = client.call(WRITE_FILE, file, &[io(0, 5), b"hello".to_vec()].concat());
    assert_eq!(written.expect("written")[..4], 5u32.to_le_bytes());
    assert_eq!(client.call(READ, file, &io(1, 100)).expect("read"), b"ello");
    client.call(FSYNC, file, &io(0, 0)[..16]).expect("synced");
    let data_only = [handle.to_le_bytes().to_vec(), words(&[1, 0])].concat();
    client.call(FSYNC, file, &data_only).expect("synced");
    client.call(FLUSH, file, &io(0, 0)[..24]).expect("flushed");
    let hole = [handle.to_le_bytes().to_vec(), words(&[0, 0, 4, 0])].concat();
    let hole = client.call(LSEEK, file, &hole).expect("found");
    assert_eq!(long(&hole, 0), 5, "the end of a file is a hole");
    for kind in [1, 2] {
        let lock = [
            handle.to_le_bytes().to_vec(),
            vec![0; 24],
            words(&[kind, 0, 1, 0]),
        ];
        client.call(SETLK, file, &lock.concat()).expect("locked");
    }
    client.call(SYNCFS, ROOT, &[0; 8]).expect("synced");
    let space = [handle.to_le_bytes().to_vec(), words(&[0, 0, 5, 0, 0, 0])].concat();
    client.call(FALLOCATE, file, &space).expect("allocated");
    client.call(RELEASE, file, &io(0, 0)[..24]).expect("closed");
}

/// Makes, writes, reads, renames, links, lists and removes in an empty directory; fails on the first refusal.
pub fn work(client: &mut Client) {
    let directory = client
        .named(MKDIR, ROOT, &[0o755, 0o022], "dir")
        .expect("made");
    let directory = long(&directory, 0);
    let created = client
        .named(CREATE, ROOT, &[0o102, 0o644, 0o022, 0], "file")
        .expect("made");
    let (file, handle) = (long(&created, 0), long(&created, 128));
    work_with_data(client, file, handle);
    // Mode, size, owner and both times, set to now.
    let set = [
        words(&[0b1_1011_1111, 0]),
        vec![0; 8],
        words(&[5, 0]),
        vec![0; 44],
        words(&[0o600, 0, 0, 0, 0]),
    ];
    let set = client.call(SETATTR, file, &set.concat()).expect("set");
    assert_eq!(set[16 + 60..16 + 64], 0o100_600u32.to_le_bytes());
    let target = [
        directory.to_le_bytes().to_vec(),
        words(&[0, 0]),
        b"file\0renamed\0".to_vec(),
    ];
    client
        .call(RENAME2, ROOT, &target.concat())
        .expect("renamed");
    let linked = client
        .call(SYMLINK, ROOT, b"link\0dir/renamed\0")
        .expect("linked");
    assert_eq!(
        client.call(READLINK, long(&linked, 0), &[]).expect("read"),
        b"dir/renamed"
    );
    let hard = [file.to_le_bytes().to_vec(), b"gone\0".to_vec()].concat();
    client.call(LINK, ROOT, &hard).expect("linked");
    client.named(UNLINK, ROOT, &[], "gone").expect("removed");
    client
        .named(MKNOD, ROOT, &[0o10_644, 0, 0, 0], "pipe")
        .expect("made");
    client
        .named(MKDIR, ROOT, &[0o755, 0], "empty")
        .expect("made");
    client.named(RMDIR, ROOT, &[], "empty").expect("removed");
    let counted = client.call(STATFS, ROOT, &[]).expect("counted");
    assert_eq!(counted[44..48], 255u32.to_le_bytes(), "the longest name");
    let unnamed = client
        .call(TMPFILE, directory, &words(&[2, 0o600, 0, 0]))
        .expect("made");
    let link = [unnamed[..8].to_vec(), b"named\0".to_vec()].concat();
    client.call(LINK, directory, &link).expect("linked");
    client
        .call(
            RELEASE,
            long(&unnamed, 0),
            &[unnamed[128..136].to_vec(), vec![0; 16]].concat(),
        )
        .expect("closed");
    work_with_xattrs(client, file);
    let opened = client.call(OPEN, file, &words(&[0, 0])).expect("opened");
    client
        .call(RELEASE, file, &[opened[..8].to_vec(), vec![0; 16]].concat())
        .expect("closed");
    let opened = client
        .call(OPENDIR, ROOT, &words(&[0o20_0000, 0]))
        .expect("opened");
    for opcode in [READDIR, READDIRPLUS] {
        let list = [opened[..8].to_vec(), words(&[0, 0, 4096, 0, 0, 0, 0, 0])].concat();
        let entries = client.call(opcode, ROOT, &list).expect("listed");
        let text = String::from_utf8_lossy(&entries).into_owned();
        assert!(
            text.contains("dir") && text.contains("link") && text.contains("pipe"),
            "{text}"
        );
    }
}
