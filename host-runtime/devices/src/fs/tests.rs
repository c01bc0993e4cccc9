//! What the guest cannot reach. What it can is tried under the VMM's system-call filter, in that crate.

use std::fs;

use crate::testing::files::{
    CREATE, Client, EBADF, EINVAL, EISDIR, ENFILE, ENODATA, ENOENT, ENXIO, EOPNOTSUPP, EPERM,
    EROFS, ESTALE, GETXATTR, LINK, LISTXATTR, LOOKUP, MKDIR, OPEN, OPENDIR, READ, READDIR, RELEASE,
    REMOVEXATTR, RENAME2, ROOT, SETATTR, SETXATTR, SYMLINK, TMPFILE, UNLINK, WRITE_FILE, folder,
    long, words, work,
};

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
    let directory = client.lookup(ROOT, "dir").expect("there");
    for (node, name) in [
        (ROOT, ".."),
        (ROOT, "."),
        (directory, ".."),
        (directory, ""),
    ] {
        assert_eq!(client.lookup(node, name), Err(EINVAL), "{name}");
    }
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

#[test]
fn a_gofer_does_all_the_work_that_a_server_beside_the_device_does() {
    let folder = folder("gofer");
    let mut client = Client::mount_by_gofer(&folder.join("shared"));
    work(&mut client);
    assert_eq!(client.lookup(ROOT, "../secret"), Err(EINVAL));
    fs::remove_dir_all(folder).expect("it is ours");
}

#[test]
fn requests_and_answers_of_many_pages_pass_through_the_gofer_whole() {
    let folder = folder("large");
    let mut client = Client::mount_by_gofer(&folder.join("shared"));
    let created = client.named(CREATE, ROOT, &[0o102, 0o644, 0o022, 0], "file");
    let created = created.expect("made");
    let (file, handle) = (long(&created, 0), long(&created, 128));
    let data: Vec<u8> = (0..60_000u32).map(|at| (at % 251) as u8).collect();
    let io = |size: u32| {
        let rest = words(&[0, 0, size, 0, 0, 0, 0, 0]);
        [handle.to_le_bytes().to_vec(), rest].concat()
    };
    let written = client.call(WRITE_FILE, file, &[io(60_000), data.clone()].concat());
    assert_eq!(written.expect("written")[..4], 60_000u32.to_le_bytes());
    assert_eq!(client.call(READ, file, &io(60_000)).expect("read"), data);
    fs::remove_dir_all(folder).expect("it is ours");
}

#[test]
fn a_gofer_that_is_gone_gives_empty_answers() {
    let (ours, theirs) = std::os::unix::net::UnixDatagram::pair().expect("sockets");
    let buffer = super::gofer::shared_buffer().expect("memory");
    let link = super::gofer::Link::new(ours.into(), buffer).expect("room");
    theirs.send(b"no such directory").expect("room");
    let said = link.wait_ready().expect_err("refused").to_string();
    assert_eq!(said, "no such directory");
    drop(theirs);
    let fs = std::sync::Arc::new(std::sync::Mutex::new(super::Fs::remote("root", link)));
    let mut driver = crate::testing::Driver::ready(fs.clone());
    let request = [words(&[41, LOOKUP, 7, 0]), vec![1], vec![0; 24]].concat();
    driver.put(crate::testing::BUFFERS, &request);
    let answer = crate::testing::BUFFERS + 0x1000;
    let write = crate::testing::WRITE;
    driver.add(
        1,
        &[(crate::testing::BUFFERS, 41, 0), (answer, 0x1000, write)],
    );
    crate::VirtioDevice::kicked(&mut *fs.lock().expect("not poisoned"), 1);
    assert_eq!(driver.used(1), [0]);
}

#[test]
fn an_open_file_does_what_it_was_opened_for_and_no_more() {
    let folder = folder("handles");
    let shared = folder.join("shared");
    fs::write(shared.join("file"), b"data").expect("room");
    fs::write(shared.join("other"), b"other").expect("room");
    fs::create_dir(shared.join("dir")).expect("room");
    let pipe = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, shared.join("pipe"), pipe).expect("room");
    let mut client = Client::mount_by_gofer(&shared);
    let file = client.lookup(ROOT, "file").expect("there");
    let other = client.lookup(ROOT, "other").expect("there");
    let (reading, writing, both, append) = (0, 1, 2, 0o2001);
    let read_only = client.open(file, reading).expect("there");
    assert_eq!(client.read(file, read_only).expect("readable"), b"data");
    assert_eq!(client.write(file, read_only, b"DATA"), Err(EBADF));
    let write_only = client.open(file, writing).expect("there");
    assert_eq!(client.read(file, write_only), Err(EBADF));
    // A number that is not given, one of another file, and one that was given back.
    assert_eq!(client.read(file, 4711), Err(EBADF));
    assert_eq!(client.read(other, read_only), Err(EBADF));
    let release = [read_only.to_le_bytes().to_vec(), vec![0; 16]].concat();
    client.call(RELEASE, file, &release).expect("open");
    assert_eq!(client.call(RELEASE, file, &release), Err(EBADF));
    assert_eq!(client.read(file, read_only), Err(EBADF));
    // Where to does not matter to who appends.
    let appending = client.open(file, append).expect("there");
    client.write(file, appending, b"more").expect("room");
    let whole = client.open(file, both).expect("there");
    assert_eq!(client.read(file, whole).expect("readable"), b"datamore");
    // What could make the server wait, or is no file, is not opened.
    let pipe = client.lookup(ROOT, "pipe").expect("there");
    assert_eq!(client.open(pipe, reading), Err(ENXIO));
    let directory = client.lookup(ROOT, "dir").expect("there");
    assert_eq!(client.open(directory, reading), Err(EISDIR));
    // Three are open.
    client.fs.lock().expect("not poisoned").limit_open(4);
    client.open(other, reading).expect("room for one");
    assert_eq!(client.open(other, reading), Err(ENFILE));
    let create = client.named(CREATE, ROOT, &[0o102, 0o644, 0, 0], "new");
    assert_eq!(create, Err(ENFILE));
    assert!(!shared.join("new").exists(), "nothing was made");
    let release = [write_only.to_le_bytes().to_vec(), vec![0; 16]].concat();
    client.call(RELEASE, file, &release).expect("open");
    client.open(other, reading).expect("room again");
    fs::remove_dir_all(folder).expect("it is ours");
}

#[test]
fn attributes_that_the_host_heeds_cannot_be_given() {
    let folder = folder("xattrs");
    let shared = folder.join("shared");
    let path = shared.join("file");
    fs::write(&path, b"program").expect("room");
    let mut client = Client::mount_by_gofer(&shared);
    let file = client.lookup(ROOT, "file").expect("there");
    let set = |name: &str| [words(&[1, 0]), name.as_bytes().to_vec(), vec![0, b'x']].concat();
    let get = |name: &str| [words(&[100, 0]), name.as_bytes().to_vec(), vec![0]].concat();
    for (name, refused, absent) in [
        ("security.capability", EPERM, ENODATA),
        ("trusted.overlay.opaque", EPERM, ENODATA),
        ("security.selinux", EOPNOTSUPP, EOPNOTSUPP),
        ("system.posix_acl_access", EOPNOTSUPP, EOPNOTSUPP),
        ("nonsense", EOPNOTSUPP, EOPNOTSUPP),
    ] {
        assert_eq!(
            client.call(SETXATTR, file, &set(name)),
            Err(refused),
            "{name}"
        );
        assert_eq!(
            client.call(GETXATTR, file, &get(name)),
            Err(absent),
            "{name}"
        );
    }
    let no_link = std::os::unix::fs::symlink("file", shared.join("link"));
    no_link.expect("room");
    let link = client.lookup(ROOT, "link").expect("there");
    assert_eq!(client.call(SETXATTR, link, &set("user.x")), Err(EPERM));
    assert_eq!(client.call(GETXATTR, link, &get("user.x")), Err(ENODATA));
    // Capabilities that the host gave are shown, and may go. Only root can give them.
    let capabilities: Vec<u8> = words(&[0x0200_0001, 0x2000, 0, 0, 0]);
    let none = rustix::fs::XattrFlags::empty();
    let given = rustix::fs::setxattr(&path, "security.capability", &capabilities, none);
    if given.is_ok() {
        let name = "security.capability";
        assert_eq!(
            client.call(GETXATTR, file, &get(name)).expect("given"),
            capabilities
        );
        let names = client
            .call(LISTXATTR, file, &words(&[100, 0]))
            .expect("one");
        assert_eq!(names, b"security.capability\0");
        let removed = client.named(REMOVEXATTR, file, &[], name);
        removed.expect("it is ours");
        assert_eq!(client.call(GETXATTR, file, &get(name)), Err(ENODATA));
    } else {
        println!("SKIPPED: capabilities of programs, which this user may not give");
    }
    fs::remove_dir_all(folder).expect("it is ours");
}

#[test]
fn a_directory_comes_and_goes_while_the_guest_uses_it() {
    let folder = folder("attached");
    let data = folder.join("data");
    fs::create_dir_all(data.join("sub")).expect("room");
    fs::write(data.join("file"), b"data").expect("room");
    fs::write(folder.join("secret"), b"secret").expect("room");
    let directory = || -> std::os::fd::OwnedFd { fs::File::open(&data).expect("there").into() };
    let mut client = Client::mount_by_gofer(&folder.join("shared"));
    let nowhere = 0;
    assert_eq!(client.lookup(nowhere, "data"), Err(ENOENT));
    let device = client.fs.clone();
    let device = || device.lock().expect("not poisoned");
    device().attach("data", directory(), false).expect("free");
    device().attach("again", directory(), true).expect("free");
    assert!(device().attach("data", directory(), false).is_err());
    let file: std::os::fd::OwnedFd = fs::File::open(data.join("file")).expect("there").into();
    assert!(device().attach("other", file, false).is_err());
    // It is no name in the root, and nothing is above it.
    assert_eq!(client.lookup(ROOT, "data"), Err(ENOENT));
    let root = client.lookup(nowhere, "data").expect("attached");
    assert_eq!(client.lookup(root, ".."), Err(EINVAL));
    let file = client.lookup(root, "file").expect("there");
    let sub = client.lookup(root, "sub").expect("there");
    let open = client.open(file, 2).expect("there");
    client.write(file, open, b"DATA").expect("writable");
    let listed = client.call(OPENDIR, sub, &words(&[0, 0])).expect("there");
    // The same directory, to be read only, is another one.
    let read_only = client.lookup(nowhere, "again").expect("attached");
    let same = client.lookup(read_only, "file").expect("there");
    assert_ne!((root, file), (read_only, same));
    let reading = client.open(same, 0).expect("readable");
    assert_eq!(client.read(same, reading).expect("readable"), b"DATA");
    nothing_changes(&mut client, (root, read_only, same));
    // What is taken back is stale, whatever was open of it; the other stays.
    device().detach("data").expect("attached");
    assert!(device().detach("data").is_err());
    assert_eq!(client.lookup(nowhere, "data"), Err(ENOENT));
    assert_eq!(client.lookup(root, "file"), Err(ESTALE));
    assert_eq!(client.open(file, 0), Err(ESTALE));
    assert_eq!(client.read(file, open), Err(ESTALE));
    assert_eq!(client.write(file, open, b"lost"), Err(ESTALE));
    let list = [listed[..8].to_vec(), words(&[0, 0, 4096, 0, 0, 0, 0, 0])].concat();
    assert_eq!(client.call(READDIR, sub, &list), Err(EBADF));
    let release = [open.to_le_bytes().to_vec(), vec![0; 16]].concat();
    client.call(RELEASE, file, &release).expect("its number");
    assert_eq!(client.read(file, open), Err(EBADF));
    assert_eq!(client.read(same, reading).expect("readable"), b"DATA");
    device()
        .attach("data", directory(), false)
        .expect("free again");
    let anew = client.lookup(nowhere, "data").expect("attached");
    assert_ne!(anew, root, "no number means two directories");
    fs::remove_dir_all(folder).expect("it is ours");
}

/// Tries all that would change something in a directory that is to be read only, or take `same` out of it to `other`.
fn nothing_changes(client: &mut Client, (other, read_only, same): (u64, u64, u64)) {
    for flags in [1, 2, 0o1000, 0o1001] {
        assert_eq!(client.open(same, flags), Err(EROFS));
    }
    let set_size = [words(&[8, 0]), vec![0; 80]].concat();
    let to = [
        read_only.to_le_bytes().to_vec(),
        words(&[0, 0]),
        b"file\0new\0".to_vec(),
    ]
    .concat();
    let hard = [same.to_le_bytes().to_vec(), b"hard\0".to_vec()].concat();
    for (opcode, node, body) in [
        (SETATTR, same, set_size),
        (RENAME2, read_only, to.clone()),
        (RENAME2, other, to),
        (LINK, read_only, hard.clone()),
        (LINK, other, hard),
        (UNLINK, read_only, b"file\0".to_vec()),
        (SYMLINK, read_only, b"link\0x\0".to_vec()),
        (
            MKDIR,
            read_only,
            [words(&[0o755, 0]), b"dir\0".to_vec()].concat(),
        ),
        (
            CREATE,
            read_only,
            [words(&[0o102, 0o644, 0, 0]), b"new\0".to_vec()].concat(),
        ),
        (TMPFILE, read_only, words(&[2, 0o600, 0, 0])),
        (
            SETXATTR,
            same,
            [words(&[1, 0]), b"user.x\0y".to_vec()].concat(),
        ),
        (REMOVEXATTR, same, b"user.x\0".to_vec()),
    ] {
        assert_eq!(client.call(opcode, node, &body), Err(EROFS), "{opcode}");
    }
}
