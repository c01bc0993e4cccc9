//! A FUSE client that speaks to the device through its queue, under the VMM's system-call filter.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::super::testing::{BUFFERS, Driver, WRITE};
use super::*;
use crate::vmm::seccomp;

const ROOT: u64 = 1;
const ENOENT: i32 = -2;
const EINVAL: i32 = -22;
const LOOKUP: u32 = 1;
const SETATTR: u32 = 4;
const READLINK: u32 = 5;
const SYMLINK: u32 = 6;
const MKNOD: u32 = 8;
const MKDIR: u32 = 9;
const UNLINK: u32 = 10;
const RMDIR: u32 = 11;
const LINK: u32 = 13;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE_FILE: u32 = 16;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const FSYNC: u32 = 20;
const INIT: u32 = 26;
const OPENDIR: u32 = 27;
const READDIR: u32 = 28;
const CREATE: u32 = 35;
const FALLOCATE: u32 = 43;
const READDIRPLUS: u32 = 44;
const RENAME2: u32 = 45;

/// A mounted device.
struct Client {
    fs: Arc<Mutex<Fs>>,
    driver: Driver,
}

impl Client {
    fn mount(root: &Path) -> Self {
        let root = root.to_str().expect("a plain name");
        let fs = Fs::new("test", root).expect("procfs");
        fs.open("test").expect("a directory");
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
    fn call(&mut self, opcode: u32, node: u64, body: &[u8]) -> Result<Vec<u8>, i32> {
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
    fn named(
        &mut self,
        opcode: u32,
        node: u64,
        before: &[u32],
        name: &str,
    ) -> Result<Vec<u8>, i32> {
        let body = [words(before), name.as_bytes().to_vec(), vec![0]].concat();
        self.call(opcode, node, &body)
    }

    fn lookup(&mut self, node: u64, name: &str) -> Result<u64, i32> {
        self.named(LOOKUP, node, &[], name)
            .map(|entry| long(&entry, 0))
    }
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight"))
}

fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("nacre-fs-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(path.join("shared")).expect("a fresh folder");
    path
}

#[test]
fn the_guest_works_with_files_under_the_filter() {
    let folder = folder("work");
    let shared = folder.join("shared");
    // A forbidden call would end the whole test program.
    let worker = {
        let shared = shared.clone();
        std::thread::spawn(move || {
            let mut client = Client::mount(&shared);
            seccomp::confine_thread(true);
            work(&mut client);
        })
    };
    worker.join().expect("all requests are served");
    assert_eq!(
        fs::read(shared.join("dir/renamed")).expect("it is there"),
        b"hello"
    );
    assert_eq!(
        fs::read_link(shared.join("link")).expect("a link"),
        Path::new("dir/renamed")
    );
    assert!(!shared.join("gone").exists());
    fs::remove_dir_all(folder).expect("it is ours");
}

fn work(client: &mut Client) {
    let directory = client
        .named(MKDIR, ROOT, &[0o755, 0o022], "dir")
        .expect("made");
    let directory = long(&directory, 0);
    let created = client
        .named(CREATE, ROOT, &[0o102, 0o644, 0o022, 0], "file")
        .expect("made");
    let (file, handle) = (long(&created, 0), long(&created, 128));
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
    let space = [handle.to_le_bytes().to_vec(), words(&[0, 0, 5, 0, 0, 0])].concat();
    client.call(FALLOCATE, file, &space).expect("allocated");
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
    client.call(RELEASE, file, &io(0, 0)[..24]).expect("closed");
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
    client.call(STATFS, ROOT, &[]).expect("counted");
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

#[test]
fn nothing_outside_of_the_directory_is_reached() {
    let folder = folder("beneath");
    let shared = folder.join("shared");
    fs::write(folder.join("secret"), b"secret").expect("room for it");
    fs::create_dir(shared.join("dir")).expect("room for it");
    std::os::unix::fs::symlink("../secret", shared.join("out")).expect("room for it");
    let mut client = Client::mount(&shared);
    for name in ["../secret", "..//secret", "/etc/passwd", "dir/../../secret"] {
        assert!(client.lookup(ROOT, name).is_err(), "{name}");
        let made = client.named(CREATE, ROOT, &[0o102, 0o644, 0, 0], name);
        assert!(matches!(made, Err(EINVAL | ENOENT)), "{name}: {made:?}");
    }
    let up = client
        .lookup(ROOT, "..")
        .expect("the root is its own parent");
    assert_eq!(client.lookup(up, "secret"), Err(ENOENT));
    let directory = client.lookup(ROOT, "dir").expect("there");
    let root_again = client.lookup(directory, "..").expect("there");
    assert_eq!(client.lookup(root_again, "secret"), Err(ENOENT));
    // The link itself is found, and opening it does not follow it.
    let link = client.lookup(ROOT, "out").expect("there");
    assert!(client.call(OPEN, link, &words(&[0, 0])).is_err());
    assert!(client.named(MKDIR, ROOT, &[0o755, 0], "..").is_err());
    assert!(client.named(UNLINK, ROOT, &[], "../secret").is_err());
    assert_eq!(
        fs::read(folder.join("secret")).expect("still there"),
        b"secret"
    );
    fs::remove_dir_all(folder).expect("it is ours");
}
