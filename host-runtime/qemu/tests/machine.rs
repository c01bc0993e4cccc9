//! The machine as its owner sees it, with guests of a few instructions: PVH kernels of 32-bit code.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use host_machine::{
    ExitReason, LogTarget, Machine, MachineKind, MachineSpec, Phase, Share, VmmProcess,
};

/// Where the guest's code is.
const CODE: u32 = 0x10_0000;
const COM1: u16 = 0x3f8;
const PHASES: u16 = 0x80;
const DEBUG_EXIT: u16 = 0xf4;
/// No wait of these tests is to be the first to give up on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A guest's code as it grows.
#[derive(Default)]
struct Code(Vec<u8>);

impl Code {
    /// Writes a byte to a port: `mov dx, port; mov al, value; out dx, al`.
    fn out(mut self, port: u16, value: u8) -> Self {
        let [low, high] = port.to_le_bytes();
        self.0.extend([0x66, 0xba, low, high, 0xb0, value, 0xee]);
        self
    }

    fn say(self, text: &str) -> Self {
        text.bytes().fold(self, |code, byte| code.out(COM1, byte))
    }

    /// Begins anew.
    fn again(mut self) -> Self {
        let back = i8::try_from(self.0.len() + 2).expect("short");
        self.0.extend([0xeb, (-back).cast_unsigned()]);
        self
    }

    /// Stands still.
    fn wait(mut self) -> Self {
        self.0.extend([0xeb, 0xfe]);
        self
    }

    /// Loads a table of no interrupts and makes one: `lidt [zeros]; ud2`.
    fn triple_fault(mut self) -> Self {
        let zeros = CODE + u32::try_from(self.0.len()).expect("short") + 9;
        self.0.extend([0x0f, 0x01, 0x1d]);
        self.0.extend(zeros.to_le_bytes());
        self.0.extend([0x0f, 0x0b]);
        self.0.extend([0; 8]);
        self
    }

    /// An ELF file with it and the note that says where to enter.
    fn elf(&self) -> Vec<u8> {
        let mut file = vec![0; 0x1000];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        let word = |value: u64| value.to_le_bytes();
        put(0, b"\x7fELF\x02\x01\x01");
        put(16, &[2, 0, 62, 0, 1, 0, 0, 0]);
        put(24, &word(u64::from(CODE)));
        put(32, &word(64));
        put(52, &[64, 0, 56, 0, 2, 0, 64, 0, 0, 0, 0, 0]);
        let length = self.0.len() as u64;
        let header = |kind: u64, offset: u64, address: u64, length: u64, align: u64| {
            [kind, offset, address, address, length, length, align]
                .map(word)
                .concat()
        };
        put(
            64,
            &header(1 | 5 << 32, 0x1000, u64::from(CODE), length, 0x1000),
        );
        put(120, &header(4 | 4 << 32, 0x200, 0, 24, 4));
        put(0x200, &[4, 0, 0, 0, 8, 0, 0, 0, 18, 0, 0, 0]);
        put(0x20c, b"Xen\0");
        put(0x210, &word(u64::from(CODE)));
        file.extend(&self.0);
        file
    }
}

/// A folder of the test's own, which goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("nacre-qemu-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(path.join("shared")).expect("a folder");
        Self(path)
    }

    fn spec(&self, code: &Code) -> MachineSpec {
        let (kernel, archive) = (self.0.join("kernel"), self.0.join("archive"));
        fs::write(&kernel, code.elf()).expect("room");
        fs::write(&archive, "nothing").expect("room");
        let mut spec = MachineSpec::new(kernel, archive);
        spec.kind = MachineKind::Qemu;
        spec.vmm = Some(PathBuf::from(env!("CARGO_BIN_EXE_nacre-qemu")));
        spec.log = LogTarget::File(self.0.join("log"));
        spec.shares = vec![Share {
            tag: "root".to_owned(),
            dir: self.0.join("shared"),
        }];
        spec
    }

    fn start(&self, code: &Code) -> VmmProcess {
        VmmProcess::start(&self.spec(code)).expect("it starts")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.0.join("log")).expect("a log")
    }

    /// Waits until the log is longer than so many bytes, and says how long it is.
    fn longer(&self, than: usize) -> usize {
        let begun = Instant::now();
        loop {
            let length = self.log().len();
            if length > than {
                return length;
            }
            assert!(begun.elapsed() < PATIENCE, "the guest says nothing");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn end(machine: &VmmProcess) -> ExitReason {
    machine.wait(Some(PATIENCE)).expect("it ends")
}

/// The gofer and the QEMU of a machine.
fn children_of(machine: &VmmProcess) -> (Option<u32>, Option<u32>) {
    let pid = machine.pid();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    let children: Vec<u32> = children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect();
    let find = |is_qemu: bool| {
        let name = |pid: u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let mut found = children.iter().copied();
        found.find(|pid| name(*pid).starts_with("qemu-") == is_qemu)
    };
    (find(false), find(true))
}

/// The QEMU of a machine, while there is one.
fn qemu_of(machine: &VmmProcess) -> Option<u32> {
    children_of(machine).1
}

#[test]
fn power_off_is_an_orderly_end_and_everything_said_is_kept() {
    let folder = Folder::new();
    let code = Code::default()
        .out(PHASES, 1)
        .say("hello\nunfinished")
        .out(DEBUG_EXIT, 0x31);
    let machine = folder.start(&code);
    assert_eq!(end(&machine), ExitReason::PowerOff);
    assert_eq!(folder.log(), "hello\nunfinished");
    let timings = machine.timings();
    let order = [Phase::VmCreated, Phase::KernelEntry, Phase::Exit];
    let order = order.map(|phase| timings.get(phase).expect("reached"));
    assert!(order.is_sorted(), "{order:?}");
}

#[test]
fn a_panic_brings_its_message() {
    let folder = Folder::new();
    let code = Code::default()
        .say("kernel panicked at x.rs:3:\nout of cheese\n")
        .out(DEBUG_EXIT, 0x33)
        .wait();
    let message = "kernel panicked at x.rs:3:; out of cheese".to_owned();
    assert_eq!(
        end(&folder.start(&code)),
        ExitReason::GuestPanic { message }
    );
}

#[test]
fn a_reset_ends_the_machine() {
    let folder = Folder::new();
    let machine = folder.start(&Code::default().triple_fault());
    assert_eq!(end(&machine), ExitReason::Reset);
}

#[test]
fn a_paused_guest_stands_still_and_goes_on() {
    let folder = Folder::new();
    let machine = folder.start(&Code::default().say("x\n").again());
    folder.longer(0);
    machine.pause().expect("it stops");
    // What QEMU has still to hand over comes soon; then there is nothing.
    let settled = loop {
        let before = folder.log().len();
        std::thread::sleep(Duration::from_millis(200));
        if folder.log().len() == before {
            break before;
        }
    };
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(folder.log().len(), settled);
    let stats = machine.stats().expect("it counts");
    let names: Vec<_> = stats.devices.iter().map(|device| &*device.name).collect();
    assert_eq!(names, ["vsock", "fs", "gofer"]);
    machine.resume().expect("it goes on");
    folder.longer(settled);
    assert_eq!(machine.kill(), ExitReason::Stopped);
}

#[test]
fn nothing_outlives_a_kill_whoever_is_killed() {
    let folder = Folder::new();
    let code = Code::default().say("x\n").wait();
    let machine = folder.start(&code);
    let qemu = qemu_of(&machine).expect("it runs");
    assert_eq!(machine.kill(), ExitReason::Stopped);
    let is_there = |pid: u32| {
        PathBuf::from(format!("/proc/{pid}/root"))
            .read_link()
            .is_ok()
    };
    assert!(!is_there(qemu), "QEMU outlived its parent");

    let machine = folder.start(&code);
    let qemu = qemu_of(&machine).and_then(|pid| i32::try_from(pid).ok());
    let qemu = qemu
        .and_then(rustix::process::Pid::from_raw)
        .expect("it runs");
    rustix::process::kill_process(qemu, rustix::process::Signal::KILL).expect("ours");
    assert_eq!(end(&machine), ExitReason::VmmKilled { signal: 9 });
}

/// What the kernel says of each thread of a process.
fn statuses(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let of_thread = |task: std::io::Result<fs::DirEntry>| {
        let status = fs::read_to_string(task.expect("a thread").path().join("status"));
        status.expect("it runs")
    };
    tasks.map(of_thread).collect()
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.expect("a line").trim()
}

/// The capabilities that each thread of a process may have.
fn capabilities(pid: u32) -> Vec<u64> {
    let number = |status: &String| u64::from_str_radix(field(status, "CapPrm:"), 16);
    let threads = statuses(pid);
    threads
        .iter()
        .map(|status| number(status).expect("hexadecimal"))
        .collect()
}

fn names_in(folder: String) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("it runs");
    let names = entries.map(|entry| entry.expect("it runs").file_name());
    names.map(|name| name.display().to_string()).collect()
}

#[test]
fn the_three_processes_are_confined() {
    let folder = Folder::new();
    let code = Code::default().say("x\n").wait();
    let machine = folder.start(&code);
    folder.longer(0);
    let (Some(gofer), Some(qemu)) = children_of(&machine) else {
        panic!("they run");
    };
    let companion = machine.pid();
    for pid in [companion, gofer, qemu] {
        for status in statuses(pid) {
            assert_eq!(field(&status, "Seccomp:"), "2", "{status}");
            assert_eq!(field(&status, "NoNewPrivs:"), "1", "{status}");
        }
    }
    for pid in [companion, qemu] {
        assert!(capabilities(pid).iter().all(|held| *held == 0), "{pid}");
    }
    // Up to FSETID, both SETIDs, MKNOD and SETFCAP.
    let allowed = 0b1_1111 | 1 << 6 | 1 << 7 | 1 << 27 | 1 << 31;
    let held = capabilities(gofer);
    assert!(held.iter().all(|held| held & !allowed == 0), "{held:x?}");
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let users = [companion, qemu].map(|pid| {
        let status = statuses(pid).remove(0);
        field(&status, "Uid:")
            .split_whitespace()
            .next()
            .map(str::to_owned)
    });
    assert_eq!(users[0], users[1], "one may end the other");
    let user: Option<u32> = users[0].as_ref().and_then(|user| user.parse().ok());
    assert!(user.is_some_and(|user| user > 0x7000_0000), "{user:?}");
    let namespace = |pid: &str, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}"));
    for kind in ["mnt", "net", "pid", "ipc", "uts"] {
        let ours = namespace("self", kind).expect("procfs");
        for pid in [companion, gofer, qemu] {
            assert_ne!(
                namespace(&pid.to_string(), kind).expect("it runs"),
                ours,
                "{kind}"
            );
        }
    }
    let root = names_in(format!("/proc/{companion}/root"));
    assert!(root.is_empty(), "{root:?}");
    let mut root = names_in(format!("/proc/{qemu}/root"));
    let programs = [
        "bin", "gnu", "lib", "lib32", "lib64", "nix", "opt", "proc", "sbin", "usr",
    ];
    root.retain(|name| !programs.contains(&&**name));
    assert!(root.is_empty(), "QEMU also sees {root:?}");
    let mut seen = names_in(format!("/proc/{qemu}/root/proc"));
    seen.retain(|name| name.parse::<u32>().is_ok());
    assert_eq!(seen.len(), 3, "QEMU sees the processes {seen:?}");
}

#[test]
fn what_qemu_says_of_a_kernel_that_is_none_is_quoted() {
    let folder = Folder::new();
    let spec = folder.spec(&Code::default());
    fs::write(&spec.boot.kernel, "no kernel").expect("room");
    let error = VmmProcess::start(&spec)
        .expect_err("it is none")
        .to_string();
    assert!(
        error.contains("QEMU did not start") && error.contains("kernel"),
        "{error}"
    );
}
