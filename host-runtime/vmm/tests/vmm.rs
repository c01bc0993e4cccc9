//! The VMM process on a real /dev/kvm with guests of a few instructions: the boot contract's registers,
//! the ports, every way to end, and every bad input as a sentence. SKIPPED where there is no KVM.

#[path = "support/elf_image.rs"]
mod elf_image;
#[path = "support/guest.rs"]
mod guest;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use guest::Code;
use host_machine::{
    Attachment, Disk, ExitReason, LogTarget, MIN_MEMORY, Machine as _, MachineError, MachineSpec,
    Memory, Phase, Share, SubTree, VmmProcess,
};

/// A folder of one test, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("nacre-vmm-{}-{number}", std::process::id()));
        fs::create_dir(&path).expect("a fresh folder");
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        fs::write(self.path(name), bytes).expect("room for it");
        self.path(name)
    }

    /// A machine that runs `code` and logs to `log`.
    fn config(&self, code: &[u8]) -> MachineSpec {
        let kernel = self.write("kernel.elf", &elf_image::image(code, 0, &[]));
        let mut config = MachineSpec::new(kernel, self.write("initramfs.img", &[7; 5000]));
        config.memory = Memory::fixed(MIN_MEMORY);
        config.log = LogTarget::File(self.path("log"));
        config.vmm = Some(PathBuf::from(env!("CARGO_BIN_EXE_nacre-vmm")));
        config
    }

    /// What the guest wrote: the log without the VMM's own line at its start.
    fn log(&self) -> Vec<u8> {
        let log = fs::read(self.path("log")).expect("a log");
        let line = log.iter().position(|byte| *byte == b'\n');
        match line {
            Some(end) if log.starts_with(b"nacre-vmm: ") => log[end + 1..].to_vec(),
            _ => log,
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn no_kvm() -> bool {
    let missing = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .err();
    if let Some(error) = &missing {
        println!("SKIPPED: /dev/kvm: {error}");
    }
    missing.is_some()
}

fn share(dir: PathBuf) -> Vec<Share> {
    let tag = "root".to_owned();
    vec![Share { tag, dir }]
}

fn end(machine: &VmmProcess) -> ExitReason {
    machine.wait(None).expect("it ends")
}

/// Runs `code` to its end.
fn end_of(code: &[u8]) -> ExitReason {
    let folder = Folder::new();
    let machine = VmmProcess::start(&folder.config(code)).expect("it starts");
    end(&machine)
}

#[test]
fn a_guest_is_entered_as_the_contract_says_and_powers_off() {
    if no_kvm() {
        return;
    }
    let folder = Folder::new();
    let code = Code::default()
        .print_command_line()
        .out8(0x80, 1)
        .out8(0x80, 4)
        .power_off();
    let mut config = folder.config(&code);
    config.boot.cmdline = vec!["PS1=a b".to_owned()];
    config.cpus = 2;
    let machine = VmmProcess::start(&config).expect("it starts");
    assert_eq!(end(&machine), ExitReason::PowerOff);
    let line = String::from_utf8(folder.log()).expect("text");
    assert!(line.starts_with("nacre.cpus=2 "), "{line}");
    assert!(line.contains(" nacre.epoch_ns=1"), "{line}");
    assert!(
        line.contains(" virtio_mmio.device=4K@0xd0002000:7 "),
        "{line}"
    );
    assert!(line.ends_with(" PS1=\"a b\""), "{line}");
    let timings = machine.timings();
    let phases: Vec<Phase> = timings.iter().map(|(phase, _)| phase).collect();
    let expected = [
        Phase::VmmRunning,
        Phase::VmCreated,
        Phase::Loaded,
        Phase::KernelEntry,
        Phase::Init,
        Phase::Exit,
    ];
    assert_eq!(phases, expected);
    for (phase, at) in timings.iter() {
        println!("{:20} {:>9.3} ms", phase.name(), at.as_secs_f64() * 1e3);
    }
}

#[test]
fn boot_information_is_where_rdi_points() {
    if no_kvm() {
        return;
    }
    let folder = Folder::new();
    let size = size_of::<bootloader_api::BootInfo>();
    let code = Code::default()
        .print_boot_info(u32::try_from(size).expect("small"))
        .power_off();
    let machine = VmmProcess::start(&folder.config(&code)).expect("it starts");
    assert_eq!(end(&machine), ExitReason::PowerOff);
    let info = folder.log();
    assert_eq!(info.len(), size);
    let at = std::mem::offset_of!(bootloader_api::BootInfo, ramdisk_len);
    assert_eq!(info[at..at + 8], 5000u64.to_le_bytes());
}

#[test]
fn every_end_has_its_reason() {
    if no_kvm() {
        return;
    }
    let panicked = Code::default()
        .print("kernel panicked: no cheese\n")
        .out8(0x505, 1)
        .wait();
    let message = "kernel panicked: no cheese".to_owned();
    assert_eq!(end_of(&panicked), ExitReason::GuestPanic { message });
    assert_eq!(
        end_of(&Code::default().out8(0x64, 0xfe).wait()),
        ExitReason::Reset
    );
    let faulted = end_of(&Code::default().raw(&[0x0f, 0x0b]).wait());
    assert!(
        matches!(faulted, ExitReason::TripleFault { cpu: 0, .. }),
        "{faulted}"
    );
    println!("{faulted}");
}

/// PXOR, which a KVM without VMX or SVM cannot emulate, and what no CPU can run.
const BEYOND_AN_EMULATOR: [u8; 6] = [0x66, 0x0f, 0xef, 0xc0, 0x0f, 0x0b];

#[test]
fn a_kvm_that_runs_no_kernel_is_told_apart_from_one_that_stops_in_it() {
    if no_kvm() {
        return;
    }
    let first = Code::default().raw(&BEYOND_AN_EMULATOR).wait();
    let later = Code::default()
        .out8(0x80, 1)
        .raw(&BEYOND_AN_EMULATOR)
        .wait();
    match end_of(&first) {
        reason @ ExitReason::KvmUnfit { .. } => {
            let said = reason.to_string();
            assert!(said.contains("--machine qemu"), "{said}");
            let reason = end_of(&later);
            assert!(matches!(reason, ExitReason::Kvm { .. }), "{reason}");
        }
        // It runs PXOR.
        reason => assert!(matches!(reason, ExitReason::TripleFault { .. }), "{reason}"),
    }
}

#[test]
fn a_killed_vmm_and_a_stopped_one_differ() {
    if no_kvm() {
        return;
    }
    let folder = Folder::new();
    let machine = VmmProcess::start(&folder.config(&Code::default().wait())).expect("it starts");
    assert_eq!(machine.wait(Some(Duration::ZERO)), None);
    let pid = i32::try_from(machine.pid())
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(pid.expect("a pid"), rustix::process::Signal::KILL)
        .expect("it runs");
    let reason = end(&machine);
    assert_eq!(reason, ExitReason::VmmKilled { signal: 9 });
    println!("{reason}");
    let machine = VmmProcess::start(&folder.config(&Code::default().wait())).expect("it starts");
    assert_eq!(machine.kill(), ExitReason::Stopped);
}

#[test]
fn an_unanswered_connection_says_what_it_waited_for() {
    if no_kvm() {
        return;
    }
    let folder = Folder::new();
    let code = Code::default().out8(0x80, 1).wait();
    let machine = VmmProcess::start(&folder.config(&code)).expect("it starts");
    let error = machine
        .connect(1024, Duration::from_millis(300))
        .expect_err("no listener");
    let sentence = error.to_string();
    assert!(
        sentence.contains("port 1024") && sentence.contains("PID 1"),
        "{sentence}"
    );
    let code = Code::default().out8(0x80, 4).wait();
    let machine = VmmProcess::start(&folder.config(&code)).expect("it starts");
    let error = machine
        .connect(1024, Duration::from_millis(300))
        .expect_err("no listener");
    assert!(
        error.to_string().contains("vsock driver is not up"),
        "{error}"
    );
    let code = Code::default().print("x\n").power_off();
    let machine = VmmProcess::start(&folder.config(&code)).expect("it starts");
    let error = machine
        .connect(1024, Duration::from_secs(60))
        .expect_err("it is gone");
    assert!(
        matches!(
            error,
            MachineError::Ended {
                reason: ExitReason::PowerOff
            }
        ),
        "{error}"
    );
}

/// Starts what must not start, and gives the sentence.
fn refusal(config: &MachineSpec) -> String {
    let sentence = VmmProcess::start(config)
        .expect_err("a bad input")
        .to_string();
    println!("{sentence}");
    sentence
}

#[test]
fn bad_input_is_refused_with_a_sentence() {
    if no_kvm() {
        return;
    }
    let folder = Folder::new();
    let good = || folder.config(&Code::default().wait());
    let mut config = good();
    for cpus in [0, 5, 1000] {
        config.cpus = cpus;
        assert!(refusal(&config).contains("a microVM has 1 to 4"));
    }
    let mut config = good();
    config.memory = Memory::fixed(1 << 20);
    assert!(refusal(&config).contains("1 MiB of memory was asked for"));
    let mut config = good();
    config.boot.kernel = folder.path("nowhere");
    assert!(refusal(&config).contains("cannot open the guest kernel"));
    config.boot.kernel = folder.write("script", b"#!/bin/sh\n");
    assert!(refusal(&config).contains("it is not an ELF file"));
    let whole = elf_image::image(&[0xf4; 64], 0, &[]);
    config.boot.kernel = folder.write("cut", &whole[..whole.len() - 8]);
    assert!(refusal(&config).contains("it is cut off"));
    config.boot.kernel = folder.write("empty", b"");
    assert!(refusal(&config).contains("is empty"));
    config.boot.kernel = PathBuf::from("/proc");
    assert!(refusal(&config).contains("is not a regular file"));
    let mut config = good();
    config.boot.initramfs = folder.path("nowhere");
    assert!(refusal(&config).contains("cannot open the initramfs archive"));
    let mut config = good();
    config.shares = share(folder.path("nowhere"));
    assert!(refusal(&config).contains("cannot open the shared directory"));
    config.shares = share(folder.write("file", b"x"));
    assert!(refusal(&config).contains("is not a directory"));
    let mut config = good();
    config.boot.cmdline = vec!["x".repeat(5000)];
    assert!(refusal(&config).contains("command line"));
    let mut config = good();
    config.vmm = Some(folder.path("no-vmm"));
    assert!(refusal(&config).contains("cannot start the VMM"));
    assert!(no_vmm_left(), "a VMM is left");
}

/// Whether a moment comes when this process has no dead child: those of other tests are reaped in time.
fn no_vmm_left() -> bool {
    let mut tries = (0..5000).map(|_| std::thread::sleep(Duration::from_millis(2)));
    tries.any(|()| no_zombie())
}

fn no_zombie() -> bool {
    let own = std::process::id();
    let path = format!("/proc/{own}/task");
    let tasks = fs::read_dir(Path::new(&path)).expect("procfs");
    let children =
        tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    // Other tests of this program may be running VMMs: only zombies count.
    children
        .collect::<String>()
        .split_whitespace()
        .all(|child| {
            let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            !stat.contains(") Z ")
        })
}

#[test]
fn a_vmm_with_a_shared_directory_is_jailed_and_leaves_no_mount() {
    if no_kvm() {
        return;
    }
    let mounts = || fs::read_to_string("/proc/self/mountinfo").expect("procfs");
    let before = mounts();
    let folder = Folder::new();
    fs::create_dir(folder.path("shared")).expect("room for it");
    let code = Code::default().out8(0x80, 4).wait();
    let mut config = folder.config(&code);
    config.shares = share(folder.path("shared"));
    let machine = VmmProcess::start(&config).expect("it starts");
    let status = fs::read_to_string(format!("/proc/{}/status", machine.pid()));
    let status = status.expect("it runs");
    assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");
    assert!(status.contains("Seccomp:\t2\n"), "{status}");
    if rustix::process::geteuid().is_root() {
        let root = fs::read_dir(format!("/proc/{}/root", machine.pid())).expect("it runs");
        assert_eq!(root.count(), 0, "its root is empty");
        for set in ["Inh", "Prm", "Eff", "Bnd", "Amb"] {
            let empty = format!("Cap{set}:\t0000000000000000\n");
            assert!(status.contains(&empty), "{status}");
        }
        assert!(
            status.contains("\t1\n"),
            "it is the first of its processes: {status}"
        );
        let namespace = |pid: &str, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}"));
        for kind in ["user", "mnt", "net", "pid", "ipc", "uts"] {
            let own = namespace(&machine.pid().to_string(), kind).expect("it runs");
            assert_ne!(own, namespace("self", kind).expect("procfs"));
        }
        // Nor does any descriptor lead to files of the host.
        let fds = fs::read_dir(format!("/proc/{}/fd", machine.pid())).expect("it runs");
        for fd in fds {
            let fd = fd.expect("it runs").path();
            for up in ["../sys/kernel", "../../sys/kernel", "../../../sys/kernel"] {
                assert!(!fd.join(up).exists(), "{}/{up}", fd.display());
            }
        }
    }
    assert_eq!(machine.kill(), ExitReason::Stopped);
    assert_eq!(mounts(), before);
}

#[test]
fn cpus_stop_run_on_and_are_counted() {
    if no_kvm() {
        return;
    }
    let folder = Folder::new();
    // Writes for ever: out dx, al; jmp back.
    let code = Code::default()
        .out8(0x80, 4)
        .out8(0x3f8, b'.')
        .raw(&[0xee, 0xeb, 0xfd])
        .wait();
    let mut config = folder.config(&code);
    config.cpus = 2;
    let machine = VmmProcess::start(&config).expect("it starts");
    let exits = || machine.stats().expect("it runs").exits;
    let wait_for_more = || {
        let before = exits()[0];
        while exits()[0] == before {
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    for _ in 0..10 {
        wait_for_more();
        machine.pause().expect("both CPUs stop");
        let before = exits();
        assert_eq!(before.len(), 2);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(exits(), before, "nothing runs");
        machine.pause().expect("stopped already");
        machine.resume().expect("they run on");
    }
    wait_for_more();
    let devices = machine.stats().expect("it runs").devices;
    let names: Vec<_> = devices.iter().map(|device| device.name.as_str()).collect();
    assert_eq!(names, ["console", "rng", "vsock", "balloon"]);
    machine.pause().expect("both CPUs stop");
    assert_eq!(machine.kill(), ExitReason::Stopped);
    let gone = machine.resume().expect_err("it is gone");
    assert!(matches!(gone, MachineError::Ended { .. }), "{gone}");
}

#[test]
fn what_cannot_be_attached_is_refused_by_name() {
    if no_kvm() {
        return;
    }
    let folder = Folder::new();
    let machine = VmmProcess::start(&folder.config(&Code::default().wait())).expect("it starts");
    let disk = || {
        let file = PathBuf::from("/data.img");
        Attachment::Disk(Disk {
            file,
            is_read_only: false,
        })
    };
    for refused in [machine.attach(disk()), machine.detach(disk())] {
        let said = refused.expect_err("refused").to_string();
        assert!(said.starts_with("the disk /data.img cannot be"), "{said}");
    }
    let directory = || {
        Attachment::Share(SubTree {
            name: "data".to_owned(),
            dir: PathBuf::from("/tmp"),
            read_only: true,
        })
    };
    let said = machine.attach(directory()).expect_err("no device");
    assert!(
        said.to_string().contains("without a shared directory"),
        "{said}"
    );
    assert_eq!(machine.kill(), ExitReason::Stopped);
}

#[test]
fn directories_come_and_go_while_the_guest_runs() {
    if no_kvm() {
        return;
    }
    let folder = Folder::new();
    let mut config = folder.config(&Code::default().wait());
    config.shares = share(folder.0.clone());
    let machine = VmmProcess::start(&config).expect("it starts");
    let tree = |name: &str, dir: &str| {
        Attachment::Share(SubTree {
            name: name.to_owned(),
            dir: PathBuf::from(dir),
            read_only: false,
        })
    };
    let data = || tree("data", "/tmp");
    machine.attach(data()).expect("a directory");
    let twice = machine.attach(data()).expect_err("it is there").to_string();
    assert!(
        twice.ends_with("/tmp cannot be attached: file exists"),
        "{twice}"
    );
    machine.detach(data()).expect("it is there");
    let twice = machine.detach(data()).expect_err("it is gone").to_string();
    assert!(
        twice.contains("cannot be detached: no such file"),
        "{twice}"
    );
    machine.attach(data()).expect("once more");
    for (name, dir) in [
        ("a/b", "/tmp"),
        ("", "/tmp"),
        ("file", "/dev/null"),
        ("x", "/none"),
    ] {
        machine.attach(tree(name, dir)).expect_err(dir);
    }
    assert_eq!(machine.kill(), ExitReason::Stopped);
}

#[test]
fn a_vmm_that_dies_with_words_on_stderr_is_quoted() {
    if no_kvm() {
        return;
    }
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder::new();
    let mut config = folder.config(&Code::default().wait());
    let script = "#!/bin/sh\nprintf 'free(): \\033 bad\\nbye' >&2\nexit 3\n";
    let vmm = folder.write("vmm", script.as_bytes());
    fs::set_permissions(&vmm, fs::Permissions::from_mode(0o755)).expect("ours");
    config.vmm = Some(vmm);
    let said = refusal(&config);
    let quoted = "it ended with code 3 and said: free(): \\u{1b} bad\\nbye";
    assert!(said.contains(quoted), "{said}");
}
