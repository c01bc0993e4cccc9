//! What goes wrong must end soon, with one sentence on stderr and an exit code, and leave nothing. What goes
//! wrong later is in [`super::deaths`].

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use super::process::{self, Ended, parent};
#[path = "../../../host-runtime/vmm/tests/support/elf_image.rs"]
mod elf_image;
use super::{Machine, Options};
use crate::Report;

/// The exit code for failures of nacre's own, as other container tools use it.
pub(super) const OWN_FAILURE: i32 = 125;
/// The exit code for wrong arguments.
const USAGE: i32 = 125;

/// One wrong use of `nacre run`.
struct Case {
    name: &'static str,
    /// Arguments after `nacre run`; `ROOT`, `FILE`, `EMPTY` and `NONE` stand for a root file system, a
    /// file that is nothing in particular, one without a byte, and a path where nothing is; `KERNEL` and
    /// `ARCHIVE` are the good ones, `HALF-KERNEL` and `HALF-ARCHIVE` their first halves.
    arguments: &'static [&'static str],
    /// The exit code.
    code: i32,
    /// What stderr must say, in small letters.
    says: &'static str,
    /// Whether it gets as far as to boot.
    boots: bool,
}

const CASES: &[Case] = &[
    Case {
        name: "no program",
        arguments: &["--rootfs", "ROOT"],
        code: USAGE,
        says: "program",
        boots: false,
    },
    Case {
        name: "no rootfs given",
        arguments: &["--", "true"],
        code: USAGE,
        says: "rootfs",
        boots: false,
    },
    Case {
        name: "rootfs is not there",
        arguments: &["--rootfs", "NONE", "--", "true"],
        code: OWN_FAILURE,
        says: "no such file",
        boots: false,
    },
    Case {
        name: "rootfs is a file",
        arguments: &["--rootfs", "FILE", "--", "true"],
        code: OWN_FAILURE,
        says: "directory",
        boots: false,
    },
    Case {
        name: "disk is not there",
        arguments: &["--rootfs", "ROOT", "--disk", "NONE", "--", "true"],
        code: OWN_FAILURE,
        says: "cannot open the disk",
        boots: false,
    },
    Case {
        name: "disk of half a sector",
        arguments: &["--rootfs", "ROOT", "--disk", "FILE", "--", "true"],
        code: OWN_FAILURE,
        says: "multiple of 512",
        boots: false,
    },
    Case {
        name: "1 MiB of memory",
        arguments: &["--rootfs", "ROOT", "--memory", "1M", "--", "true"],
        code: OWN_FAILURE,
        says: "memory",
        boots: false,
    },
    Case {
        name: "senseless memory",
        arguments: &["--rootfs", "ROOT", "--memory", "lots", "--", "true"],
        code: USAGE,
        says: "memory",
        boots: false,
    },
    Case {
        name: "1,000 processors",
        arguments: &["--rootfs", "ROOT", "--cpus", "1000", "--", "true"],
        code: OWN_FAILURE,
        says: "cpu",
        boots: false,
    },
    Case {
        name: "broken kernel",
        arguments: &[
            "--rootfs",
            "ROOT",
            "--kernel",
            "FILE",
            "--initramfs",
            "ARCHIVE",
            "--",
            "true",
        ],
        code: OWN_FAILURE,
        says: "kernel",
        boots: true,
    },
    Case {
        name: "broken archive",
        arguments: &["--rootfs", "ROOT", "--initramfs", "FILE", "--", "true"],
        code: OWN_FAILURE,
        says: "",
        boots: true,
    },
    Case {
        name: "half a kernel",
        arguments: &[
            "--rootfs",
            "ROOT",
            "--kernel",
            "HALF-KERNEL",
            "--initramfs",
            "ARCHIVE",
            "--",
            "true",
        ],
        code: OWN_FAILURE,
        says: "cut off",
        boots: true,
    },
    Case {
        name: "empty kernel",
        arguments: &[
            "--rootfs",
            "ROOT",
            "--kernel",
            "EMPTY",
            "--initramfs",
            "ARCHIVE",
            "--",
            "true",
        ],
        code: OWN_FAILURE,
        says: "is empty",
        boots: true,
    },
    Case {
        name: "half an archive",
        arguments: &[
            "--rootfs",
            "ROOT",
            "--kernel",
            "KERNEL",
            "--initramfs",
            "HALF-ARCHIVE",
            "--",
            "true",
        ],
        code: OWN_FAILURE,
        says: "cut short",
        boots: true,
    },
    Case {
        name: "empty archive",
        arguments: &[
            "--rootfs",
            "ROOT",
            "--kernel",
            "KERNEL",
            "--initramfs",
            "EMPTY",
            "--",
            "true",
        ],
        code: OWN_FAILURE,
        says: "too few",
        boots: true,
    },
    Case {
        name: "kernel is not there",
        arguments: &["--rootfs", "ROOT", "--kernel", "NONE", "--", "true"],
        code: OWN_FAILURE,
        says: "kernel",
        boots: false,
    },
    Case {
        name: "program is not there",
        arguments: &["--rootfs", "ROOT", "--", "no-such-program"],
        code: 127,
        says: "cannot run \"no-such-program\": no such file or directory",
        boots: false,
    },
    Case {
        name: "user is not there",
        arguments: &["--rootfs", "ROOT", "-u", "nobody-here", "--", "true"],
        code: OWN_FAILURE,
        says: "nobody-here",
        boots: false,
    },
    Case {
        name: "Docker's option",
        arguments: &["--rm", "--rootfs", "ROOT", "--", "true"],
        code: USAGE,
        says: "leaves nothing behind",
        boots: false,
    },
    Case {
        name: "program is a directory",
        arguments: &["--rootfs", "ROOT", "--", "/etc"],
        code: 126,
        says: "/etc",
        boots: true,
    },
    Case {
        name: "program cannot be executed",
        arguments: &["--rootfs", "ROOT", "--", "/etc/passwd"],
        code: 126,
        says: "/etc/passwd",
        boots: true,
    },
    Case {
        name: "unknown option",
        arguments: &["--rootfs", "ROOT", "--frobnicate", "--", "true"],
        code: USAGE,
        says: "--frobnicate",
        boots: false,
    },
];

/// A case that takes more than arguments.
type Special = fn(&Options) -> anyhow::Result<Result<(), String>>;

/// Plays all cases.
pub(super) fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let why_not = options.machine.why_not();
    for case in CASES.iter().filter(|case| options.wants(case.name)) {
        let name = options.name(&format!("bad input: {}", case.name));
        match why_not.filter(|_| case.boots) {
            Some(reason) => report.skip(name, reason),
            None => report.note(name, play(options, case)?),
        }
    }
    let special: [(&str, Special); 4] = [
        ("the host's own root", hosts_root),
        ("output to a full device", full_output),
        ("closed stdin", closed_stdin),
        ("output to a closed pipe", closed_output),
    ];
    let of_kvm: [(&str, Special); 5] = [
        ("a KVM that runs no kernel", unfit_kvm),
        ("no /dev/kvm", no_kvm),
        ("no /dev/kvm, and QEMU", no_kvm_but_qemu),
        ("/dev/kvm is another device", other_device),
        ("/dev/kvm is forbidden", forbidden_kvm),
    ];
    let of_kvm = of_kvm
        .into_iter()
        .filter(|_| options.machine == Machine::Kvm);
    let special = special.into_iter().chain(of_kvm);
    for (what, test) in special.filter(|(what, _)| options.wants(what)) {
        let name = options.name(&format!("bad input: {what}"));
        match why_not {
            Some(reason) => report.skip(name, reason),
            None => report.note(name, test(options)?),
        }
    }
    Ok(())
}

fn play(options: &Options, case: &Case) -> anyhow::Result<Result<(), String>> {
    let file = options.work_dir.join("nothing-in-particular");
    fs::write(&file, "This is not what you are looking for.\n".repeat(200))?;
    let none = options.work_dir.join("not/there");
    let empty = options.work_dir.join("empty");
    fs::write(&empty, "")?;
    let half = |name: &str| -> anyhow::Result<PathBuf> {
        let whole = fs::read(options.image_dir.join(name))?;
        let path = options.work_dir.join(format!("half-{name}"));
        fs::write(&path, &whole[..whole.len() / 2])?;
        Ok(path)
    };
    let mut command = options.command(&options.nacre);
    command.arg("run");
    for argument in case.arguments {
        match *argument {
            "ROOT" => command.arg(&options.busybox),
            "FILE" => command.arg(&file),
            "NONE" => command.arg(&none),
            "EMPTY" => command.arg(&empty),
            "KERNEL" => command.arg(options.image_dir.join("kernel.elf")),
            "ARCHIVE" => command.arg(options.image_dir.join("initramfs.img")),
            "HALF-KERNEL" => command.arg(half("kernel.elf")?),
            "HALF-ARCHIVE" => command.arg(half("initramfs.img")?),
            other => command.arg(other),
        };
    }
    let ended = process::run(command, b"")?;
    Ok(judge(&ended, &[case.code], case.says).and_then(|()| nothing_left(options)))
}

/// Whether the program ended with one of `codes` and said what it should, once.
pub(super) fn judge(ended: &Ended, codes: &[i32], says: &str) -> Result<(), String> {
    let told = ended.stderr.trim();
    let is_sentence = !told.is_empty()
        && !told.contains("panicked at")
        && !told.contains("(os error")
        && told.lines().count() < 12;
    let is_right_code = ended.code.is_some_and(|code| codes.contains(&code));
    if is_right_code && is_sentence && told.to_lowercase().contains(&says.to_lowercase()) {
        return Ok(());
    }
    let wanted = format!("wanted exit {codes:?} and a sentence with {says:?}");
    Err(format!("{wanted}; got {:?} and:\n{told}", ended.code))
}

/// Runs with stdin closed, not merely empty.
fn closed_stdin(options: &Options) -> anyhow::Result<Result<(), String>> {
    let mut command = options.command("sh");
    command.args([
        "-c",
        "exec \"$0\" run -i --rootfs \"$1\" -- sh -c 'cat; echo read' <&-",
    ]);
    command.arg(&options.nacre).arg(&options.busybox);
    let ended = process::run(command, b"")?;
    // Refusing it with a sentence is as good as taking it for an empty one.
    if ended.code == Some(0) && ended.stdout == "read\n" {
        return Ok(nothing_left(options));
    }
    Ok(judge(&ended, &[OWN_FAILURE], "").and_then(|()| nothing_left(options)))
}

/// Writes for ever to a reader that goes away.
fn closed_output(options: &Options) -> anyhow::Result<Result<(), String>> {
    let mut command = options.command("sh");
    command.args([
        "-c",
        "(\"$0\" run --rootfs \"$1\" -- yes; echo \"exit $?\" >&2) | head -n 3",
    ]);
    command.arg(&options.nacre).arg(&options.busybox);
    let ended = process::run(command, b"")?;
    let has_ended = ended
        .stderr
        .lines()
        .any(|line| line.starts_with("exit ") && line != "exit 0");
    if ended.stdout != "y\ny\ny\n" || !has_ended {
        return Ok(Err(format!("{ended:?}")));
    }
    Ok(nothing_left(options))
}

/// Shares `/`: odd, and what people try first.
fn hosts_root(options: &Options) -> anyhow::Result<Result<(), String>> {
    let mut command = options.command(&options.nacre);
    command.args(["run", "--rootfs", "/", "--", "sh", "-c", "echo shared"]);
    let ended = process::run(command, b"")?;
    if ended.code != Some(0) || ended.stdout != "shared\n" {
        return Ok(Err(format!("{ended:?}")));
    }
    Ok(nothing_left(options))
}

/// Writes to a device that takes nothing: a failure, but the program's files are kept.
fn full_output(options: &Options) -> anyhow::Result<Result<(), String>> {
    let mut command = options.command("sh");
    let script =
        "exec \"$0\" run --rootfs \"$1\" -- sh -c 'echo kept >/full-output; echo lost' >/dev/full";
    command.args(["-c", script]);
    command.arg(&options.nacre).arg(&options.busybox);
    let ended = process::run(command, b"")?;
    let file = options.busybox.join("full-output");
    let kept = fs::read_to_string(&file).unwrap_or_default();
    // A file that was never made fails the comparison.
    let _ = fs::remove_file(&file);
    if kept != "kept\n" {
        return Ok(Err(format!("the program's file has {kept:?}")));
    }
    Ok(judge(&ended, &[OWN_FAILURE], "no space left").and_then(|()| nothing_left(options)))
}

/// Runs where there is no /dev/kvm.
fn no_kvm(options: &Options) -> anyhow::Result<Result<(), String>> {
    let hide = "mount -t tmpfs none /dev && exec \"$0\" run --rootfs \"$1\" -- true";
    with_other_devices(options, hide, "/dev/kvm")
}

/// Runs where there is no /dev/kvm and nobody said what to use: that is said, and QEMU is.
fn no_kvm_but_qemu(options: &Options) -> anyhow::Result<Result<(), String>> {
    let hide = "mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && \
                exec env -u NACRE_MACHINE \"$0\" run --rootfs \"$1\" -- true";
    let mut command = options.command("unshare");
    command
        .args(["--mount", "sh", "-c", hide])
        .arg(&options.nacre)
        .arg(&options.busybox);
    let ended = process::run(command, b"")?;
    let says = "/dev/kvm is not there: the microvm runs by qemu's software emulation";
    Ok(judge(&ended, &[0], says).and_then(|()| nothing_left(options)))
}

/// A kernel whose first instruction a KVM without VMX or SVM cannot run: that is said, and where nobody said what to
/// use, QEMU is, for which this is no kernel at all.
fn unfit_kvm(options: &Options) -> anyhow::Result<Result<(), String>> {
    // PXOR, and what no CPU can run.
    let code = [0x66, 0x0f, 0xef, 0xc0, 0x0f, 0x0b];
    let kernel = options.work_dir.join("pxor.elf");
    fs::write(&kernel, elf_image::image(&code, 0, &[]))?;
    let archive = options.image_dir.join("initramfs.img");
    let run = |chosen: bool| {
        let mut command = options.command(&options.nacre);
        if !chosen {
            command.env_remove("NACRE_MACHINE");
        }
        command.arg("run").arg("--kernel").arg(&kernel);
        command.arg("--initramfs").arg(&archive);
        command
            .arg("--rootfs")
            .arg(&options.busybox)
            .args(["--", "true"]);
        process::run(command, b"")
    };
    let ended = run(true)?;
    if ended.stderr.contains("triple fault") {
        // This one has VMX or SVM.
        return Ok(judge(&ended, &[OWN_FAILURE], "triple fault"));
    }
    let changed = run(false)?;
    let says = "the microvm runs by qemu's software emulation";
    Ok(judge(&ended, &[OWN_FAILURE], "--machine qemu")
        .and_then(|()| judge(&changed, &[OWN_FAILURE], says))
        .and_then(|()| judge(&changed, &[OWN_FAILURE], "pvh"))
        .and_then(|()| nothing_left(options)))
}

/// Runs where /dev/kvm is there, and is nothing of the kind.
fn other_device(options: &Options) -> anyhow::Result<Result<(), String>> {
    let replace = "mount --bind /dev/null /dev/kvm && exec \"$0\" run --rootfs \"$1\" -- true";
    with_other_devices(options, replace, "kvm")
}

/// Runs as a user who may not open /dev/kvm.
fn forbidden_kvm(options: &Options) -> anyhow::Result<Result<(), String>> {
    let forbid = "mount -t tmpfs none /dev && mknod -m 600 /dev/kvm c 10 232 && \
                  exec setpriv --reuid 65534 --regid 65534 --clear-groups \
                  \"$0\" run --rootfs / -- true";
    with_other_devices(options, forbid, "/dev/kvm")
}

/// Runs a script that changes /dev, in mounts of its own, and then `nacre` (`$0`) with a root (`$1`), which
/// has to fail and to say why.
fn with_other_devices(
    options: &Options,
    script: &str,
    says: &str,
) -> anyhow::Result<Result<(), String>> {
    let mut command = options.command("unshare");
    command
        .args(["--mount", "sh", "-c", script])
        .arg(&options.nacre)
        .arg(&options.busybox);
    let ended = process::run(command, b"")?;
    Ok(judge(&ended, &[OWN_FAILURE], says).and_then(|()| nothing_left(options)))
}

/// No VMM runs, and nothing is mounted below the roots.
pub(super) fn nothing_left(options: &Options) -> Result<(), String> {
    let start = Instant::now();
    let left = || [processes_of(options), orphans()].concat();
    let mut vmms = left();
    while !vmms.is_empty() && start.elapsed() < Duration::from_secs(3) {
        thread::sleep(Duration::from_millis(50));
        vmms = left();
    }
    if !vmms.is_empty() {
        let program = options.machine.program();
        return Err(format!("still running: {program} {vmms:?}"));
    }
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let root = options.busybox.display().to_string();
    match mounts.lines().find(|line| line.contains(&root)) {
        Some(line) => Err(format!("still mounted: {line}")),
        None => Ok(()),
    }
}

/// The process numbers of all VMMs that run the program beside our `nacre`.
pub(super) fn vmms_of(options: &Options) -> Vec<u32> {
    let mut processes = processes_of(options);
    processes.retain(|pid| !is_gofer(*pid));
    processes
}

/// Those of the processes that open files for them.
pub(super) fn gofers_of(options: &Options) -> Vec<u32> {
    let mut processes = processes_of(options);
    processes.retain(|pid| is_gofer(*pid));
    processes
}

fn is_gofer(pid: u32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).nth(1) == Some(b"gofer")
}

fn processes_of(options: &Options) -> Vec<u32> {
    let vmm: PathBuf = options.nacre.with_file_name(options.machine.program());
    let is_one = |pid: &u32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == vmm);
    processes().filter(is_one).collect()
}

/// The QEMUs of microVMs whose parents are such.
pub(super) fn qemus(is_parent: impl Fn(u32) -> bool) -> Vec<u32> {
    let is_one = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let is_ours = line.starts_with(b"qemu-system-x86_64\0-name\0nacre\0");
        is_ours && parent(*pid).is_some_and(&is_parent)
    };
    processes().filter(is_one).collect()
}

/// Those that have outlived the process that started them.
fn orphans() -> Vec<u32> {
    let program = Machine::Qemu.program();
    qemus(|parent| {
        let name = fs::read_to_string(format!("/proc/{parent}/comm")).unwrap_or_default();
        name.trim() != program
    })
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
