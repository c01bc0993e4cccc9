//! The file server works under the filter, and however wild the requests are it makes no call that is not
//! allowed: a forbidden call would end the whole test program.

use std::fs;
use std::path::Path;

use devices::testing::files::{self, Client};
use devices::testing::fuzz::{Noise, fuzz_fuse};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{ROLES, Role, program};

/// Has a thread do this as the one that serves files. It stays: its filter has no place for its end, and a panic
/// in it, too, would end the whole test program.
fn as_files(work: impl FnOnce() + Send + 'static) {
    let (done, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        work();
        done.send(()).expect("somebody waits");
        loop {
            std::thread::park();
        }
    });
    wait.recv().expect("all requests are served");
}

/// Confines the calling thread.
fn confine_as(role: Role) {
    super::confine(role).expect("the kernel takes it");
}

#[test]
fn filters_are_no_larger_than_they_have_to_be() {
    println!("{:8} {:>5} {:>12}", "role", "calls", "instructions");
    let mut most = [0; 7];
    for (role, most) in ROLES.into_iter().zip(&mut most) {
        *most = role.calls().expect("constants").len();
        let instructions = program(role).expect("constants").len();
        println!("{:8} {most:>5} {instructions:>12}", role.name());
    }
    let [cpu, files, disk, net, main, gofer, companion] = most;
    assert!(cpu <= 12, "a CPU's thread has {cpu} calls");
    assert!(
        files <= 32 && disk <= 20 && main <= 42 && gofer <= 70,
        "{most:?}"
    );
    assert!(net <= 17 && companion <= 59, "{most:?}");
    let never = [
        libc::SYS_clone,
        libc::SYS_clone3,
        libc::SYS_execve,
        libc::SYS_fork,
        libc::SYS_kill,
        libc::SYS_mount,
        libc::SYS_process_vm_writev,
        libc::SYS_ptrace,
        libc::SYS_setns,
        libc::SYS_socket,
        libc::SYS_unshare,
    ];
    for role in ROLES {
        let calls = role.calls().expect("constants");
        assert!(
            never.iter().all(|call| !calls.contains_key(call)),
            "{role:?}"
        );
        let opens = calls.contains_key(&libc::SYS_openat);
        assert_eq!(opens, role == Role::Gofer, "only the gofer names files");
    }
}

#[test]
fn the_guest_works_with_files_under_the_filter() {
    let folder = files::folder("work");
    let shared = folder.join("shared");
    // A forbidden call would end the whole test program.
    {
        let shared = shared.clone();
        as_files(move || {
            let device = files::by_gofer(&shared, || confine_as(Role::Gofer));
            let mut client = Client::of(device);
            confine_as(Role::Files);
            files::work(&mut client);
        });
    }
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
    as_files(move || {
        let mut fs = files::by_gofer(&shared, || confine_as(Role::Gofer));
        let line = EventFd::new(EFD_NONBLOCK).expect("a descriptor");
        confine_as(Role::Files);
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
    let secret = fs::read_to_string(folder.join("secret"));
    let beside = fs::read_dir(&folder).expect("still there").count();
    fs::remove_dir_all(&folder).expect("still there");
    assert_eq!(
        (secret.expect("still there").as_str(), beside),
        ("untouched", 2)
    );
}
