//! What the guest cannot reach. What it can is tried under the VMM's system-call filter, in that crate.

use std::fs;

use crate::testing::files::{
    CREATE, Client, EINVAL, ENOENT, LOOKUP, MKDIR, OPEN, READ, ROOT, UNLINK, WRITE_FILE, folder,
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
