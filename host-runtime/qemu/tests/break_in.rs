//! Breaks into the threads of what serves QEMU, and into QEMU, as `nacre-vmm`'s test of that name does. SKIPPED without
//! root's rights, since what is confined is not an ordinary user's to debug.

#[path = "../../jail/tests/support/take_over.rs"]
mod take_over;

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use host_machine::{
    LinkKind, Machine as _, MachineKind, MachineSpec, Net, NetConfig, Share, VmmProcess,
};
use nix::sys::ptrace;
use nix::unistd::Pid;
use take_over::{
    Call, Made, Number, Text, children, forbidden, inject, opening, seize, thread_named,
};

/// A machine with a shared directory, whose kernel only waits.
struct Victim {
    machine: VmmProcess,
    folder: PathBuf,
    _network: UnixStream,
}

impl Victim {
    fn new() -> Self {
        static VICTIMS: AtomicU32 = AtomicU32::new(0);
        let number = VICTIMS.fetch_add(1, Ordering::Relaxed);
        let name = format!("nacre-qemu-break-in-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(folder.join("shared")).expect("a fresh folder");
        let (kernel, archive) = (folder.join("kernel"), folder.join("archive"));
        fs::write(&kernel, waiting_kernel()).expect("room");
        fs::write(&archive, "nothing").expect("room");
        let mut spec = MachineSpec::new(kernel, archive);
        spec.kind = MachineKind::Qemu;
        spec.vmm = Some(PathBuf::from(env!("CARGO_BIN_EXE_nacre-qemu")));
        let (tag, dir) = ("root".to_owned(), folder.join("shared"));
        spec.shares = vec![Share { tag, dir }];
        let (link, network) = UnixStream::pair().expect("sockets");
        let config = NetConfig {
            name: "eth0".to_owned(),
            mac: [2, 0, 0, 0, 0, 1],
            mtu: 1500,
            link: LinkKind::Stream,
            rate: Some(1 << 20),
        };
        let link = link.into();
        spec.nets = vec![Net { config, link }];
        let machine = VmmProcess::start(&spec).expect("it starts");
        Self {
            machine,
            folder,
            _network: network,
        }
    }

    /// A thread of the machine's process by its name, or the first of QEMU's.
    fn thread(&self, name: &str) -> Pid {
        let pid = self.machine.pid();
        let is_qemu = |pid: &i32| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm"));
            name.is_ok_and(|name| name.starts_with("qemu-"))
        };
        let found = match name {
            "main" => i32::try_from(pid).ok(),
            "QEMU" => children(pid).into_iter().find(is_qemu),
            name => thread_named(pid, name),
        };
        Pid::from_raw(found.expect("there is one"))
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.machine.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A PVH kernel of 32-bit code: `cli; hlt; jmp` to the halt.
fn waiting_kernel() -> Vec<u8> {
    const CODE: u32 = 0x10_0000;
    let code = [0xfa, 0xf4, 0xeb, 0xfd];
    let mut file = vec![0; 0x1000];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    let words = |words: [u64; 7]| words.map(u64::to_le_bytes).concat();
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &[2, 0, 62, 0, 1, 0, 0, 0]);
    put(24, &u64::from(CODE).to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(52, &[64, 0, 56, 0, 2, 0, 64, 0, 0, 0, 0, 0]);
    let (at, length) = (u64::from(CODE), 4);
    put(
        64,
        &words([1 | 5 << 32, 0x1000, at, at, length, length, 0x1000]),
    );
    put(120, &words([4 | 4 << 32, 0x200, 0, 0, 24, 24, 4]));
    put(0x200, &[4, 0, 0, 0, 8, 0, 0, 0, 18, 0, 0, 0]);
    put(0x20c, b"Xen\0");
    put(0x210, &CODE.to_le_bytes());
    file.extend(code);
    file
}

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("SKIPPED: not root");
    }
    is_root
}

/// Tries a call on a fresh machine; says what came of it, in a word or two.
fn attempt(role: &str, call: &Call) -> String {
    let victim = Victim::new();
    let thread = victim.thread(role);
    seize(thread);
    match inject(thread, call) {
        Made::Returned(result) => {
            ptrace::detach(thread, None).expect("it is stopped");
            assert!(result < 0, "{role} did {}: {result}", call.name);
            let errno = i32::try_from(-result).expect("an errno");
            std::io::Error::from_raw_os_error(errno).to_string()
        }
        Made::Killed | Made::Gone => "killed".to_owned(),
    }
}

#[test]
fn what_serves_qemu_can_do_nothing_once_taken_over() {
    if !is_root() {
        return;
    }
    for call in forbidden().iter().chain([&opening()]) {
        let row = ["main", "fs", "net"].map(|role| format!("{:<12}", attempt(role, call)));
        println!("{:20}{}", call.name, row.concat());
        assert!(
            row.iter().all(|made| made.trim() == "killed"),
            "{}: {row:?}",
            call.name
        );
    }
}

#[test]
fn qemu_reaches_nothing_of_the_hosts_once_taken_over() {
    if !is_root() {
        return;
    }
    let victim = Victim::new();
    let qemu = victim.thread("QEMU");
    seize(qemu);
    let host = [
        "/etc/passwd",
        "/root",
        "/tmp",
        "/run",
        "/dev/kvm",
        "/proc/1/mem",
        "/proc/1/root/etc",
        "/proc/2/root",
        "/../../etc/passwd",
    ];
    for path in host {
        let call = Call {
            name: "openat",
            number: libc::SYS_openat,
            arguments: vec![Number(libc::AT_FDCWD.into()), Text(path), Number(0)],
        };
        match inject(qemu, &call) {
            Made::Returned(result) if result < 0 => {}
            other => panic!("openat({path:?}): {other:?}"),
        }
    }
    let write = Call {
        name: "openat",
        number: libc::SYS_openat,
        arguments: vec![
            Number(libc::AT_FDCWD.into()),
            Text("/usr/nacre-was-here"),
            Number((libc::O_CREAT | libc::O_WRONLY).into()),
            Number(0o600),
        ],
    };
    let made = inject(qemu, &write);
    assert!(
        matches!(made, Made::Returned(result) if result < 0),
        "{made:?}"
    );
    ptrace::detach(qemu, None).expect("it is stopped");
    assert!(!PathBuf::from("/usr/nacre-was-here").exists());
}
