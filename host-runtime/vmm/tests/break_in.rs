//! Breaks into every thread of a microVM's processes, as a debugger does, and has it make system calls that a guest
//! which took it over would want: each is refused, or the end of the process. SKIPPED where there is no KVM, and
//! without root's rights, since what is confined is not an ordinary user's to debug.

#[path = "support/elf_image.rs"]
mod elf_image;
#[expect(dead_code, reason = "this guest only waits")]
#[path = "support/guest.rs"]
mod guest;

use std::ffi::CString;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use guest::Code;
use host_machine::{ExitReason, MIN_MEMORY, Machine as _, MachineSpec, Memory, Share, VmmProcess};
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// For how long a process may take to die.
const BOUND: Duration = Duration::from_secs(60);

/// A call: its name, its number, and its arguments, of which a text stands for where it is in memory.
struct Call {
    name: &'static str,
    number: i64,
    arguments: Vec<Argument>,
}

enum Argument {
    Number(i64),
    Text(&'static str),
}

use Argument::{Number, Text};

/// What no thread may do.
fn forbidden() -> Vec<Call> {
    let call = |name, number, arguments| Call {
        name,
        number,
        arguments,
    };
    let executable = i64::from(libc::PROT_READ | libc::PROT_EXEC);
    let private = i64::from(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    vec![
        call("socket", libc::SYS_socket, vec![Number(2), Number(1)]),
        call("kill", libc::SYS_kill, vec![Number(-1), Number(9)]),
        call(
            "tgkill",
            libc::SYS_tgkill,
            vec![Number(1), Number(1), Number(9)],
        ),
        call("fork", libc::SYS_fork, vec![]),
        call("clone", libc::SYS_clone, vec![Number(libc::SIGCHLD.into())]),
        call(
            "execve",
            libc::SYS_execve,
            vec![Text("/bin/sh"), Number(0), Number(0)],
        ),
        call("ptrace", libc::SYS_ptrace, vec![Number(16), Number(1)]),
        call(
            "process_vm_writev",
            libc::SYS_process_vm_writev,
            vec![Number(1)],
        ),
        call(
            "mount",
            libc::SYS_mount,
            vec![Text("none"), Text("/"), Text("proc")],
        ),
        call(
            "unshare",
            libc::SYS_unshare,
            vec![Number(libc::CLONE_NEWUSER.into())],
        ),
        call("setns", libc::SYS_setns, vec![Number(0), Number(0)]),
        call("chroot", libc::SYS_chroot, vec![Text("/")]),
        call("bpf", libc::SYS_bpf, vec![Number(0)]),
        call("io_uring_setup", libc::SYS_io_uring_setup, vec![Number(1)]),
        call(
            "mmap, executable",
            libc::SYS_mmap,
            vec![
                Number(0),
                Number(4096),
                Number(executable),
                Number(private),
                Number(-1),
            ],
        ),
        call(
            "ioctl, TIOCSTI",
            libc::SYS_ioctl,
            vec![Number(0), Number(0x5412)],
        ),
    ]
}

/// What only the gofer may do at all.
fn opening() -> Vec<Call> {
    let at = Number(libc::AT_FDCWD.into());
    let number = libc::SYS_openat;
    let arguments = vec![at, Text("/etc/passwd"), Number(0)];
    vec![Call {
        name: "openat",
        number,
        arguments,
    }]
}

/// A machine with a shared directory that waits.
struct Victim {
    machine: VmmProcess,
    folder: PathBuf,
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
        let machine = VmmProcess::start(&spec).expect("it starts");
        Self { machine, folder }
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.machine.pid()).expect("a process id")
    }

    /// The thread with this role.
    fn thread(&self, role: &str) -> Pid {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("it runs");
        let tasks = tasks.map(|task| task.expect("it runs").path());
        let text = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
        let found = match role {
            "main" => Some(self.pid()),
            "gofer" => tasks
                .map(|task| text(task.join("children")))
                .find_map(|children| children.trim().parse().ok()),
            name => tasks
                .filter(|task| text(task.join("comm")).trim() == name)
                .find_map(|task| task.file_name()?.to_str()?.parse().ok()),
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

/// Stops a thread in a system call of its own: behind that is an instruction that makes calls.
fn seize(thread: Pid) {
    const SYSCALL: i64 = 0x050f;
    loop {
        ptrace::attach(thread).expect("root may");
        let stopped = waitpid(thread, Some(WaitPidFlag::__WALL)).expect("it stops");
        assert!(matches!(stopped, WaitStatus::Stopped(..)), "{stopped:?}");
        let rip = ptrace::getregs(thread).expect("it is stopped").rip;
        let at = std::ptr::without_provenance_mut(usize::try_from(rip - 2).expect("64 bits"));
        let code = ptrace::read(thread, at).expect("it runs there");
        if code & 0xffff == SYSCALL {
            return;
        }
        // It was between two calls.
        ptrace::detach(thread, None).expect("it is stopped");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What came of a call.
#[derive(Debug)]
enum Made {
    /// What it returned.
    Returned(i64),
    /// The thread died of SIGSYS, and was reaped here.
    Killed,
    /// The thread is no more: with its process, which the machine's owner has reaped.
    Gone,
}

/// Has a stopped thread make a call.
fn inject(thread: Pid, call: &Call) -> Made {
    let before = ptrace::getregs(thread).expect("it is stopped");
    let mut regs = before;
    // It goes over its own system-call instruction once more, and is in no call that could be restarted.
    regs.rip -= 2;
    regs.orig_rax = u64::MAX;
    regs.rax = call.number.cast_unsigned();
    let mut room = before.rsp - 4096;
    let mut place = |argument: &Argument| match argument {
        Number(number) => number.cast_unsigned(),
        Text(text) => {
            room -= 512;
            let text = CString::new(*text).expect("no NUL");
            let words = text.as_bytes_with_nul().chunks(8);
            for (at, word) in (room..).step_by(8).zip(words) {
                let mut bytes = [0; 8];
                bytes[..word.len()].copy_from_slice(word);
                let at = std::ptr::without_provenance_mut(usize::try_from(at).expect("64 bits"));
                ptrace::write(thread, at, i64::from_le_bytes(bytes)).expect("its stack");
            }
            room
        }
    };
    let mut values = call
        .arguments
        .iter()
        .map(&mut place)
        .chain(std::iter::repeat(0));
    for register in [
        &mut regs.rdi,
        &mut regs.rsi,
        &mut regs.rdx,
        &mut regs.r10,
        &mut regs.r8,
    ] {
        *register = values.next().expect("endless");
    }
    ptrace::setregs(thread, regs).expect("it is stopped");
    ptrace::step(thread, None).expect("it is stopped");
    loop {
        match waitpid(thread, Some(WaitPidFlag::__WALL)) {
            Ok(WaitStatus::Stopped(_, nix::sys::signal::Signal::SIGTRAP)) => break,
            Ok(WaitStatus::Stopped(..)) => ptrace::step(thread, None).expect("it is stopped"),
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                assert_eq!(signal, nix::sys::signal::Signal::SIGSYS, "{}", call.name);
                return Made::Killed;
            }
            // A whole process dies at once, and its owner is another thread of this one.
            Err(nix::Error::ECHILD) => return Made::Gone,
            other => panic!("{}: {other:?}", call.name),
        }
    }
    let after = ptrace::getregs(thread).expect("it is stopped");
    ptrace::setregs(thread, before).expect("it is stopped");
    Made::Returned(after.rax.cast_signed())
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
    let roles = ["cpu0", "fs", "main", "gofer"];
    println!(
        "{:20}{}",
        "",
        roles.map(|role| format!("{role:<12}")).concat()
    );
    for call in forbidden() {
        let row = roles.map(|role| format!("{:<12}", attempt(role, &call)));
        println!("{:20}{}", call.name, row.concat());
    }
    for call in opening() {
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
