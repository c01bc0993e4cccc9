//! What the guest cannot reach. What it can is tried under the VMM's system-call filter, in that crate.

use std::fs;

use crate::testing::files::{
    CREATE, Client, EINVAL, ENOENT, MKDIR, OPEN, ROOT, UNLINK, folder, words,
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
