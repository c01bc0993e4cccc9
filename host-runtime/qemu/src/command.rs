//! QEMU's command line, and what the machine's parts are called in it.
//!
//! A `microvm`: virtio over memory-mapped registers, no PCI; and no ACPI, since only then does QEMU announce the
//! devices on the kernel's command line. The guest kernel's ports (ARCHITECTURE.md,
//! "Boot") are devices: the log at COM1, the phases at a debug console, power-off and panic at the debug exit, whose
//! codes [`POWER_OFF`] and [`PANIC`] QEMU ends with.

use std::ffi::OsString;
use std::os::fd::RawFd;

use host_machine::control::{VmConfig, quoted};

use crate::error::QemuError;

/// The program, found in PATH.
pub const PROGRAM: &str = "qemu-system-x86_64";
/// What QEMU exits with when the guest writes 0x31 to the debug exit.
pub const POWER_OFF: i32 = 0x31 << 1 | 1;
/// And when it writes 0x33.
pub const PANIC: i32 = 0x33 << 1 | 1;

/// The longest kernel command line, less than Linux's 4096 by what QEMU adds to it: a word for each device.
pub const MAX_LENGTH: usize = 3584;

/// What QEMU is to do without: everything that is there by default, a screen, and, when it was taken over by its
/// guest, other programs, other users and other priorities.
const BARE: &[&str] = &[
    "-name",
    "nacre",
    "-nodefaults",
    "-no-user-config",
    "-no-reboot",
    "-display",
    "none",
    "-sandbox",
    "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
];

/// The descriptors that QEMU inherits.
#[derive(Debug)]
pub struct Inherited {
    /// The guest kernel.
    pub kernel: RawFd,
    /// The archive.
    pub initramfs: RawFd,
    /// The monitor's stream.
    pub monitor: RawFd,
    /// The stream that the guest's log goes to.
    pub log: RawFd,
    /// The stream that the guest's phase marks go to.
    pub marks: RawFd,
    /// The socket device's vhost-user connection.
    pub vsock: RawFd,
    /// The file system device's, and its tag.
    pub fs: Option<(RawFd, String)>,
    /// The block devices'.
    pub disks: Vec<RawFd>,
    /// The places of the sockets ([`crate::door`]) that it connects the network devices to.
    pub nets: Vec<RawFd>,
}

/// All arguments, for a machine that does not run before the monitor says so.
///
/// # Errors
/// When the kernel command line is longer than [`MAX_LENGTH`].
pub fn arguments(
    config: &VmConfig,
    inherited: &Inherited,
    epoch_ns: u64,
) -> Result<Vec<OsString>, QemuError> {
    let mut arguments: Vec<OsString> = BARE.iter().map(OsString::from).collect();
    let mut add = |option: &str, value: String| {
        arguments.extend([OsString::from(option), OsString::from(value)]);
    };
    let bytes = config.memory.size.next_multiple_of(2 << 20);
    add(
        "-machine",
        "microvm,acpi=off,accel=tcg,memory-backend=ram".to_owned(),
    );
    add("-cpu", "max".to_owned());
    add("-smp", config.cpus.to_string());
    add("-m", format!("{}k", bytes >> 10));
    if config.counts_instructions {
        // One a nanosecond of the guest's time; while all CPUs wait it passes as the host's does, since a guest that
        // waits for the host would otherwise find its patience at an end at once.
        add("-icount", "shift=0,sleep=on".to_owned());
    }
    // Shared, because the back ends read and write it, too.
    let ram = format!("memory-backend-memfd,id=ram,size={bytes},share=on");
    add("-object", ram);
    add("-global", "virtio-mmio.force-legacy=false".to_owned());
    let mut stream = |name: &str, fd: RawFd, more: &str| {
        add("-chardev", format!("socket,id={name},fd={fd}{more}"));
    };
    stream("monitor", inherited.monitor, "");
    stream("log", inherited.log, ",mux=on");
    stream("marks", inherited.marks, "");
    stream("vsock", inherited.vsock, "");
    if let Some((fd, _)) = &inherited.fs {
        stream("fs", *fd, "");
    }
    for (number, fd) in inherited.disks.iter().enumerate() {
        stream(&format!("disk{number}"), *fd, "");
    }
    for (number, fd) in inherited.nets.iter().enumerate() {
        // Of a connection that it inherits it would say that no descriptors can be passed.
        let connection = format!("socket,id=net{number},path=/proc/self/fd/{fd}");
        add("-chardev", connection);
        let back_end = format!("vhost-user,id=link{number},chardev=net{number},queues=1");
        add("-netdev", back_end);
    }
    add("-mon", "chardev=monitor,mode=control".to_owned());
    add("-serial", "chardev:log".to_owned());
    let mut device = |device: &str| add("-device", device.to_owned());
    device("isa-debugcon,iobase=0x80,chardev=marks");
    device("isa-debug-exit,iobase=0xf4,iosize=4");
    device("virtio-serial-device");
    device("virtconsole,chardev=log");
    device("virtio-rng-device");
    // What the guest frees goes back to the host.
    device("virtio-balloon-device,free-page-reporting=on");
    device("vhost-user-vsock-device,chardev=vsock");
    if let Some((_, tag)) = &inherited.fs {
        device(&format!(
            "vhost-user-fs-device,chardev=fs,tag={}",
            escaped(tag)
        ));
    }
    for number in 0..inherited.disks.len() {
        device(&format!("vhost-user-blk,chardev=disk{number},num-queues=1"));
    }
    for (number, net) in config.nets.iter().take(inherited.nets.len()).enumerate() {
        let [a, b, c, d, e, last] = net.mac;
        let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{last:02x}");
        let mtu = net.mtu;
        device(&format!(
            "virtio-net-device,netdev=link{number},mac={mac},host_mtu={mtu}"
        ));
    }
    let file = |fd: RawFd| format!("/proc/self/fd/{fd}");
    add("-kernel", file(inherited.kernel));
    add("-initrd", file(inherited.initramfs));
    let mut words = vec![
        format!("nacre.cpus={}", config.cpus),
        format!("nacre.epoch_ns={epoch_ns}"),
    ];
    words.extend(config.cmdline.iter().map(|word| quoted(word)));
    let line = words.join(" ");
    if line.len() > MAX_LENGTH {
        return Err(QemuError::CommandLine { length: line.len() });
    }
    add("-append", line);
    arguments.push("-S".into());
    Ok(arguments)
}

/// A value of QEMU's `key=value,…` lists.
fn escaped(value: &str) -> String {
    value.replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use host_machine::{LinkKind, Memory, NetConfig};

    use super::*;

    fn line(cmdline: &[&str], tag: &str) -> Result<String, QemuError> {
        let config = VmConfig {
            kernel: "k".to_owned(),
            initramfs: "i".to_owned(),
            shares: Vec::new(),
            disks: Vec::new(),
            nets: vec![NetConfig {
                name: "eth0".to_owned(),
                mac: [2, 0, 0, 0, 0, 0xab],
                mtu: 1400,
                link: LinkKind::Tap,
                rate: None,
            }],
            cpus: 2,
            memory: Memory::fixed((64 << 20) + 1),
            cmdline: cmdline.iter().map(|word| (*word).to_owned()).collect(),
            counts_instructions: true,
        };
        let inherited = Inherited {
            kernel: 3,
            initramfs: 4,
            monitor: 5,
            log: 6,
            marks: 7,
            vsock: 8,
            fs: Some((9, tag.to_owned())),
            disks: vec![10],
            nets: vec![11],
        };
        let words = arguments(&config, &inherited, 17)?;
        let words = words.iter().map(|word| word.display().to_string());
        Ok(words.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn what_was_asked_for_is_on_the_command_line() {
        let line = line(&["quiet", "PS1=a b"], "a,b").expect("short");
        for part in [
            "-smp 2 -m 67584k -icount shift=0",
            "size=69206016,share=on",
            "socket,id=fs,fd=9",
            "vhost-user-fs-device,chardev=fs,tag=a,,b",
            "socket,id=disk0,fd=10",
            "vhost-user-blk,chardev=disk0",
            "socket,id=net0,path=/proc/self/fd/11",
            "vhost-user,id=link0,chardev=net0",
            "virtio-net-device,netdev=link0,mac=02:00:00:00:00:ab,host_mtu=1400",
            "-append nacre.cpus=2 nacre.epoch_ns=17 quiet PS1=\"a b\" -S",
        ] {
            assert!(line.contains(part), "{part} is not in {line}");
        }
    }

    #[test]
    fn a_kernel_command_line_that_would_be_cut_is_refused() {
        let error = line(&["x".repeat(MAX_LENGTH).as_str()], "t").expect_err("too long");
        assert!(error.to_string().contains("3615 bytes long"), "{error}");
    }
}
