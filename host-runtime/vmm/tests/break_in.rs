//! Breaks into every thread of a microVM's processes, as a debugger does, and has it make system calls that a guest
//! which took it over would want: each is refused, or the end of the process. SKIPPED where there is no KVM, and
//! without root's rights, since what is confined is not an ordinary user's to debug.

#[path = "support/elf_image.rs"]
mod elf_image;
#[expect(dead_code, reason = "this guest only waits")]
#[path = "support/guest.rs"]
mod guest;
#[path = "../../jail/tests/support/take_over.rs"]
mod take_over;

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use guest::Code;
use host_machine::{
    Disk, ExitReason, LinkKind, MIN_MEMORY, Machine as _, MachineSpec, Memory, Net, NetConfig,
    Share, VmmProcess,
};
use nix::sys::ptrace;
use nix::unistd::Pid;
use take_over::{
    Call, Made, Number, Text, children, forbidden, inject, opening, seize, thread_named,
};

/// For how long a process may take to die.
const BOUND: Duration = Duration::from_secs(60);

/// A machine with a shared directory, a disk and a network that waits.
struct Victim {
    machine: VmmProcess,
    folder: PathBuf,
    _network: UnixStream,
}

impl Victim {
    fn new() -> Self {
        // The tests run side by side.
        static VICTIMS: AtomicU32 = AtomicU32::new(0);
        let number = VICTIMS.fetch_add(1, Ordering::Relaxed);
        let name = format!("nacre-break-in-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(folder.join("shared")).expect("a fresh folder");
        let write = |name: &str, bytes: &[u8]| {
            fs::write(folder.join(name), bytes).expect("room for it");
            folder.join(name)
        };
        let code = Code::default().out8(0x80, 4).wait();
        let kernel = write("kernel.elf", &elf_image::image(&code, 0, &[]));
        let mut spec = MachineSpec::new(kernel, write("initramfs.img", &[7; 5000]));
        spec.memory = Memory::fixed(MIN_MEMORY);
        spec.vmm = Some(PathBuf::from(env!("CARGO_BIN_EXE_nacre-vmm")));
        let (tag, dir) = ("root".to_owned(), folder.join("shared"));
        spec.shares = vec![Share { tag, dir }];
        spec.disks = vec![Disk {
            file: write("disk.img", &[0; 4096]),
            is_read_only: false,
        }];
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

    /// The thread with this role.
    fn thread(&self, role: &str) -> Pid {
        let pid = self.machine.pid();
        let found = match role {
            "main" => i32::try_from(pid).ok(),
            "gofer" => children(pid).first().copied(),
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

fn can_break_in() -> bool {
    let kvm = fs::File::options().read(true).write(true).open("/dev/kvm");
    let possible = kvm.is_ok() && rustix::process::geteuid().is_root();
    if !possible {
        println!("SKIPPED: no /dev/kvm, or not root");
    }
    possible
}

/// Tries a call on a fresh machine; says what came of it, in a word or two.
fn attempt(role: &str, call: &Call) -> String {
    let victim = Victim::new();
    let thread = victim.thread(role);
    seize(thread);
    let made = inject(thread, call);
    if let Made::Returned(result) = made {
        ptrace::detach(thread, None).expect("it is stopped");
        assert!(result < 0, "{role} did {}: {result}", call.name);
        return std::io::Error::from_raw_os_error(i32::try_from(-result).expect("an errno"))
            .to_string();
    }
    if role == "main" && matches!(made, Made::Killed) {
        // Its owner cannot tell any more.
        return "killed".to_owned();
    }
    let reason = victim.machine.wait(Some(BOUND)).expect("the machine ends");
    let signal = match reason {
        ExitReason::VmmKilled { signal } | ExitReason::GoferKilled { signal } => signal,
        other => panic!("{role}, {}: {other}", call.name),
    };
    assert_eq!(signal, libc::SIGSYS, "{reason}");
    assert!(
        reason
            .to_string()
            .contains("its seccomp filter does not allow")
    );
    "killed".to_owned()
}

#[test]
fn a_thread_that_was_taken_over_can_do_nothing() {
    if !can_break_in() {
        return;
    }
    let roles = ["cpu0", "fs", "disk0", "net0", "main", "gofer"];
    println!(
        "{:20}{}",
        "",
        roles.map(|role| format!("{role:<12}")).concat()
    );
    for call in forbidden().into_iter().chain([opening()]) {
        let row = roles.map(|role| format!("{:<12}", attempt(role, &call)));
        println!("{:20}{}", call.name, row.concat());
    }
}

#[test]
fn a_gofer_that_was_taken_over_reaches_nothing_outside_of_its_directory() {
    if !can_break_in() {
        return;
    }
    let victim = Victim::new();
    let gofer = victim.thread("gofer");
    let fds = fs::read_dir(format!("/proc/{gofer}/fd")).expect("it runs");
    let mut fds: Vec<i64> = fds
        .filter_map(|fd| fd.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    fds.push(libc::AT_FDCWD.into());
    let paths = [
        "/etc/passwd",
        "/proc/self/status",
        "../../etc/passwd",
        "../../../../../../etc/passwd",
        "../../sys/kernel/core_pattern",
        "../../../sys/kernel/core_pattern",
        "../1/status",
        "../status",
    ];
    seize(gofer);
    for fd in fds {
        for path in paths {
            let call = Call {
                name: "openat",
                number: libc::SYS_openat,
                arguments: vec![Number(fd), Text(path), Number(0)],
            };
            match inject(gofer, &call) {
                Made::Returned(result) if result < 0 => {}
                other => panic!("openat({fd}, {path:?}): {other:?}"),
            }
        }
    }
    ptrace::detach(gofer, None).expect("it is stopped");
}
