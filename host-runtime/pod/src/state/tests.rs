//! State directories on a real file system, with owners and cleaners side by side.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Record, StateError, StateRoot};

fn record(name: &str) -> Record {
    Record {
        command: vec!["sleep".to_owned()],
        ..Record::new("ns", name, "test")
    }
}

fn root() -> (tempfile::TempDir, StateRoot) {
    let dir = tempfile::tempdir().expect("a folder");
    let root = StateRoot::new(dir.path().join("state"));
    (dir, root)
}

/// As kill -9 would leave it: everything there, the lock free.
fn leave_stale(root: &StateRoot, name: &str) {
    let dir = root.path().join("ns").join(name);
    fs::create_dir_all(&dir).expect("a folder");
    for file in ["lock", "log", "pod.sock"] {
        fs::write(dir.join(file), "").expect("room");
    }
    record(name).write(&dir).expect("room");
}

fn is_empty(root: &StateRoot) -> bool {
    fs::read_dir(root.path())
        .expect("the root stays")
        .next()
        .is_none()
}

#[test]
fn a_name_has_one_owner_and_is_free_afterwards() {
    let (_keep, root) = root();
    assert!(root.list().expect("no root is no pods").pods.is_empty());
    let dir = root.claim(&record("a")).expect("it is free");
    let taken = root.claim(&record("a")).expect_err("it is taken");
    let said = taken.to_string();
    assert!(matches!(taken, StateError::Taken { .. }), "{said}");
    assert!(said.contains(&std::process::id().to_string()), "{said}");
    let other = root.claim(&record("b")).expect("another name");
    let listing = root.list().expect("readable");
    let names = listing.pods.iter().map(|pod| &*pod.record.name);
    assert_eq!(names.collect::<Vec<_>>(), ["a", "b"]);
    let found = Record {
        created: listing.pods[0].record.created,
        ..record("a")
    };
    assert_eq!(listing.pods[0].record, found);
    assert_eq!(listing.pods[0].dir, dir.path());
    drop((dir, other));
    assert!(is_empty(&root));
    assert!(matches!(
        root.find(None, "a"),
        Err(StateError::NoSuchPod { .. })
    ));
}

#[test]
fn what_is_stale_goes_when_it_is_met() {
    let (_keep, root) = root();
    for meet in [
        |root: &StateRoot| root.list().map(|listing| assert!(listing.pods.is_empty())),
        |root: &StateRoot| root.clean("ns", "a"),
        |root: &StateRoot| root.claim(&record("a")).map(drop),
        |root: &StateRoot| match root.find(None, "a") {
            Err(StateError::NoSuchPod { .. }) => Ok(()),
            other => other.map(drop),
        },
    ] {
        leave_stale(&root, "a");
        meet(&root).expect("nothing is in the way");
        assert!(is_empty(&root));
    }
}

#[test]
fn names_are_found_in_their_namespace() {
    let (_keep, root) = root();
    let other = Record::new("other", "a", "test");
    let _dirs = [&record("a"), &other].map(|record| root.claim(record).expect("free"));
    let said = root.find(None, "a").expect_err("two of them").to_string();
    assert!(said.contains("ns, other"), "{said}");
    let found = root.find(Some("other"), "a").expect("one");
    assert_eq!(found.record, other);
    let found = root.find(None, "ns/a").expect("one");
    assert_eq!(found.record.namespace, "ns");
}

#[test]
fn another_versions_directory_is_left_alone() {
    let (_keep, root) = root();
    leave_stale(&root, "a");
    let dir = root.path().join("ns/a");
    fs::write(dir.join("state.json"), r#"{"version": 7, "x": 1}"#).expect("room");
    let listing = root.list().expect("readable");
    assert!(listing.pods.is_empty());
    let said = listing.complaints[0].to_string();
    assert!(
        said.contains("version 7") && said.contains("ns/a"),
        "{said}"
    );
    root.claim(&record("a")).expect_err("it may mean something");
    root.clean("ns", "a").expect_err("it may mean something");
    assert_eq!(fs::read_dir(&dir).expect("still there").count(), 4);
    // What nobody can read is another matter when nobody lives.
    fs::write(dir.join("state.json"), "{").expect("room");
    root.claim(&record("a")).expect("it is nobody's");
}

#[test]
fn what_is_not_ours_stays() {
    let (_keep, root) = root();
    leave_stale(&root, "a");
    let foreign = root.path().join("ns/a/notes");
    fs::write(&foreign, "keep").expect("room");
    assert!(root.list().expect("readable").pods.is_empty());
    assert_eq!(fs::read_to_string(foreign).expect("kept"), "keep");
    drop(root.claim(&record("a")).expect("the name is free"));
}

#[test]
fn names_that_are_paths_or_options_are_refused() {
    let (_keep, root) = root();
    for name in ["", ".", "..", "-x", "a b", "a\n", "ä", &"x".repeat(201)] {
        let said = root.claim(&record(name)).expect_err(name).to_string();
        assert!(said.contains("cannot name a pod"), "{said}");
        assert!(root.find(None, name).is_err(), "{name}");
    }
    assert!(root.find(None, "../../etc").is_err());
}

#[test]
fn a_root_that_others_write_to_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let (_keep, root) = root();
    fs::create_dir(root.path()).expect("a folder");
    let open = fs::Permissions::from_mode(0o777);
    fs::set_permissions(root.path(), open).expect("ours");
    let said = root.claim(&record("a")).expect_err("unsafe").to_string();
    assert!(said.contains("mode 777"), "{said}");
}

#[test]
fn what_the_system_refuses_names_the_path() {
    let (_keep, root) = root();
    fs::write(root.path(), "a file").expect("room");
    let said = root.claim(&record("a")).expect_err("no folder").to_string();
    assert!(said.contains(&root.path().display().to_string()), "{said}");
    let said = root.list().expect_err("no folder").to_string();
    assert!(said.contains("cannot read"), "{said}");
}

/// Owners that come and go, one that dies now and then, and cleaners all the time.
#[test]
fn there_is_never_a_second_owner() {
    let (_keep, root) = root();
    let owners = AtomicU32::new(0);
    let done = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (root, owners, done) = (&root, &owners, &done);
            scope.spawn(move || {
                for round in 0..20 {
                    match root.claim(&record("a")) {
                        Ok(dir) => {
                            assert_eq!(owners.fetch_add(1, Ordering::SeqCst), 0);
                            assert!(lives(root), "an owner that nobody sees");
                            std::thread::yield_now();
                            assert!(dir.path().join("state.json").exists());
                            owners.fetch_sub(1, Ordering::SeqCst);
                            if (round + thread) % 3 == 0 {
                                // Its lock goes with it and its files stay.
                                die(dir);
                            }
                        }
                        Err(StateError::Taken { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                done.fetch_add(1, Ordering::SeqCst);
            });
        }
        scope.spawn(|| {
            while done.load(Ordering::SeqCst) < 3 {
                root.list().expect("readable");
                // One that never rests would hold the lock most of the time, and owners give up after a second.
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
    });
    root.list().expect("readable");
    assert!(is_empty(&root));
}

fn lives(root: &StateRoot) -> bool {
    root.find(None, "a").is_ok()
}

/// What a killed process leaves.
fn die(dir: super::PodDir) {
    let copy = tempfile::tempdir().expect("a folder");
    let path = dir.path().to_owned();
    let kept = copy.path().join("kept");
    // A directory that is not at its name is not removed by its owner.
    if fs::rename(&path, &kept).is_ok() {
        drop(dir);
        restore(&kept, &path);
    }
}

/// Puts it back unless somebody has taken the name meanwhile.
fn restore(kept: &Path, path: &Path) {
    if let Some(namespace) = path.parent() {
        let _ = fs::create_dir(namespace);
    }
    let _ = fs::rename(kept, path);
}
