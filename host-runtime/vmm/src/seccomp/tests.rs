//! The file server works under the filter, and however wild the requests are it makes no call that is not
//! allowed: a forbidden call would end the whole test program.

use std::fs;
use std::path::Path;

use devices::fs::Fs;
use devices::testing::SharedMemory;
use devices::testing::files::{self, Client};
use devices::testing::fuzz::{Noise, fuzz_fuse};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::program;

/// Confines the calling thread only.
fn confine_thread(serves_files: bool) {
    let program = program(serves_files).expect("it compiles");
    seccompiler::apply_filter(&program).expect("the kernel takes it");
}

#[test]
fn both_filters_compile_and_the_smaller_is_smaller() {
    let with = program(true).expect("it compiles").len();
    let without = program(false).expect("it compiles").len();
    assert!(without < with, "{without} < {with}");
}

#[test]
fn the_guest_works_with_files_under_the_filter() {
    let folder = files::folder("work");
    let shared = folder.join("shared");
    // A forbidden call would end the whole test program.
    let worker = {
        let shared = shared.clone();
        std::thread::spawn(move || {
            let mut client = Client::mount(&shared);
            confine_thread(true);
            files::work(&mut client);
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

/// Under the system-call filter, with a secret beside the shared directory.
#[test]
fn no_requests_reach_out_of_the_directory() {
    let folder = std::env::temp_dir().join(format!("nacre-fuzz-{}", std::process::id()));
    let shared = folder.join("shared");
    fs::create_dir_all(shared.join("a/b")).expect("room");
    fs::write(folder.join("secret"), "untouched").expect("room");
    fs::write(shared.join("a/file"), "contents").expect("room");
    std::os::unix::fs::symlink("../secret", shared.join("link")).expect("room");
    let root = shared.to_str().expect("a plain name").to_owned();
    let served = std::thread::spawn(move || {
        let mut fs = Fs::<SharedMemory>::new("root", &root).expect("procfs");
        fs.open().expect("a directory");
        let line = EventFd::new(EFD_NONBLOCK).expect("a descriptor");
        confine_thread(true);
        let mut noise = Noise(0x5851_f42d_4c95_7f2d);
        let names: [&[u8]; 6] = [b"a", b"a/file", b"..", b"link", b"../secret", b"b"];
        for round in 0..300 {
            let mut input = noise.bytes(256 * 32);
            for (at, request) in input.chunks_exact_mut(256).enumerate() {
                // Most end with a name, behind as many bytes as some operation has before it.
                let name = names[(at * 5 + round) % names.len()];
                let start = [0u8, 0, 4, 8, 16][(at + round) % 5];
                let from = 40 + usize::from(start);
                request[from..from + name.len()].copy_from_slice(name);
                request[from + name.len()] = 0;
                if at % 4 != 0 {
                    // Lookups, all that makes, renames or removes names, and what works on what is open.
                    let by_name = [
                        1, 1, 6, 8, 9, 10, 11, 12, 13, 14, 15, 27, 28, 35, 35, 44, 45,
                    ];
                    request[4] = by_name[(at * 7 + round) % by_name.len()];
                    request[1] = start + u8::try_from(name.len()).expect("short") + 1;
                }
            }
            fuzz_fuse(&mut fs, &line, &input);
        }
    });
    let outcome = served.join();
    let secret = fs::read_to_string(folder.join("secret"));
    let beside = fs::read_dir(&folder).expect("still there").count();
    fs::remove_dir_all(&folder).expect("still there");
    assert!(outcome.is_ok(), "the server panicked");
    assert_eq!(
        (secret.expect("still there").as_str(), beside),
        ("untouched", 2)
    );
}
