//! Builds the machine in the order that KVM wants it and starts its threads.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Barrier, Mutex};
use std::thread::{self, JoinHandle};

use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::{Cap, IoEventAddress, Kvm, VcpuFd};
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::time::ClockId;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::cmdline::CommandLine;
use super::cpuid::CpuidTemplate;
use super::elf::KernelImage;
use super::error::{KernelFault, VmmError};
use super::event_loop::{self, EventLoop, Running, SharedDevice};
use super::layout::{
    ARCHIVE_START, GUEST_CID, IMAGE_MAX, KVM_IDENTITY_MAP, KVM_TSS, MMIO_GSI, MMIO_START,
};
use super::load::{self, Slide};
use super::memory::{GuestRam, Reclaimed, SharedMemory};
use super::pause::{self, CpuThreads, Gate};
use super::ports::Ports;
use super::vcpu::{self, Vcpu};
use crate::sys::Vm;
use devices::balloon::Balloon;
use devices::blk::Blk;
use devices::blk::disk::Disk;
use devices::console::Console;
use devices::console::ConsoleLog;
use devices::fs::TAG_LEN;
use devices::mmio::{Interrupt, MMIO_SIZE, MmioBus, QUEUE_NOTIFY, Registers};
use devices::rng::Rng;
use devices::vsock::Vsock;
use host_machine::control::ShareConfig;
use host_machine::far_end::{Reporter, Start};
use host_machine::{ExitReason, NetConfig, Phase};
use jail::confine;
use jail::files::SharedFiles;
use jail::seccomp::{self, Role};

const MSR_TSC: u32 = 0x10;

/// A machine that is ready to run.
#[derive(Debug)]
pub struct Ready {
    vm: Vm,
    vcpus: Vec<Vcpu>,
    event_loop: EventLoop,
    threads: Vec<DeviceThread>,
    bus: Arc<MmioBus<SharedMemory>>,
    gate: Arc<Gate>,
}

/// A device that has a thread of its own, since its requests wait for the host's disks, or come without end.
#[derive(Debug)]
struct DeviceThread {
    name: String,
    role: Role,
    device: SharedDevice,
    kicks: Vec<EventFd>,
}

/// Builds the machine that was asked for.
///
/// # Errors
/// When the host or an input does not allow it.
pub fn build(start: Start, control: OwnedFd, reporter: &Arc<Reporter>) -> Result<Ready, VmmError> {
    let config = &start.config;
    let kernel = read_kernel(start.kernel.into(), &config.kernel)?;
    let kvm = Kvm::new().map_err(failed("open /dev/kvm"))?;
    let vm = kvm
        .create_vm()
        .map_err(failed("create a virtual machine"))?;
    reporter.phase(Phase::VmCreated);
    let cpuid = CpuidTemplate::of_host(&kvm)?;
    let ram = GuestRam::new(
        config.memory.size,
        start.initramfs.into(),
        &config.initramfs,
    )?;
    let vm =
        Vm::new(vm, Arc::clone(&ram.memory), ARCHIVE_START).map_err(failed("map guest memory"))?;
    create_interrupt_chips(&vm)?;

    let log = Arc::new(ConsoleLog::new(start.log.into()));
    if !cpuid.missing.is_empty() {
        let names = cpuid.missing.join(", ");
        let note = format!("nacre-vmm: hidden, since this host's KVM cannot run it: {names}\n");
        log.write(note.as_bytes());
    }
    let mut event_loop = EventLoop::new(control, Arc::clone(reporter), Arc::clone(&log))?;
    let mut devices = Devices::new(&vm, &ram);
    let console = Arc::new(Mutex::new(Console::new(Arc::clone(&log))));
    // Connection attempts have the numbers of the owner's calls.
    let owner = Arc::clone(reporter);
    let tell = move |attempt, outcome: Result<(), &str>| owner.connected(attempt, outcome);
    let vsock = Vsock::new(GUEST_CID, event_loop.poller(), tell);
    let vsock = Arc::new(Mutex::new(vsock));
    let console: SharedDevice = console;
    event_loop.add_device(&console, devices.add(Arc::clone(&console))?)?;
    let rng = Arc::new(Mutex::new(Rng::default()));
    let rng: SharedDevice = rng;
    event_loop.add_device(&rng, devices.add(Arc::clone(&rng))?)?;
    event_loop.add_vsock(Arc::clone(&vsock), devices.add(vsock)?)?;
    let balloon = Balloon::new(Box::new(Reclaimed(Arc::clone(&ram.memory))));
    let balloon: SharedDevice = Arc::new(Mutex::new(balloon));
    event_loop.add_device(&balloon, devices.add(Arc::clone(&balloon))?)?;
    let mut threads = slow_devices(start.share, start.disks, &mut devices, &mut event_loop)?;
    threads.extend(nets(start.nets, &log, &mut devices)?);
    confine::seclude()?;
    let device_count = devices.count();
    let mmio = Arc::new(MmioBus::new(MMIO_START, devices.registers));
    let ports = Arc::new(Ports::new(log, Arc::clone(reporter)));

    let gate = Arc::new(Gate::default());
    let vcpus = create_vcpus(&vm, &cpuid, config.cpus, |index, fd| Vcpu {
        index,
        fd,
        ports: Arc::clone(&ports),
        mmio: Arc::clone(&mmio),
        gate: Arc::clone(&gate),
        exits: Arc::default(),
    })?;
    let boot = &vcpus
        .first()
        .ok_or(VmmError::Start {
            what: "it asks for no CPU",
        })?
        .fd;
    let command_line = CommandLine {
        cpus: config.cpus,
        tsc_khz: boot.get_tsc_khz().ok().filter(|khz| *khz > 0),
        epoch_ns: tsc_epoch_ns(boot),
        devices: device_count,
        hides_xsave: cpuid.hides_xsave,
        features: cpuid.features(),
        extra: &config.cmdline,
    };
    let entry = load::load(&ram, kernel, &command_line.build()?, random_slide()?)?;
    vcpu::enter_at(boot, &entry).map_err(failed("set a CPU's registers"))?;
    reporter.phase(Phase::Loaded);
    Ok(Ready {
        vm,
        vcpus,
        event_loop,
        threads,
        bus: mmio,
        gate,
    })
}

impl Ready {
    /// Runs until the machine ends, and says how; `started` is called when the CPUs are about to run.
    ///
    /// # Errors
    /// When a thread cannot be started or the poller fails.
    pub fn run(self, started: impl FnOnce()) -> Result<ExitReason, VmmError> {
        let Self {
            vm,
            vcpus,
            event_loop,
            threads,
            bus,
            gate,
        } = self;
        let count = vcpus.len() + threads.len() + 1;
        pause::prepare()?;
        // Passed twice: when all threads are up, and when all are confined.
        let barrier = Arc::new(Barrier::new(count));
        for thread in threads {
            let poller = event_loop::poll_device(&thread.device, &thread.kicks)?;
            let serve = move || event_loop::serve_device(&thread.device, &poller, &thread.kicks);
            spawn(thread.name, thread.role, &barrier, serve)?;
        }
        let exits = vcpus.iter().map(|vcpu| Arc::clone(&vcpu.exits)).collect();
        let cpus = vcpus.into_iter().map(|mut vcpu| {
            let ender = event_loop.ender()?;
            let name = format!("cpu{}", vcpu.index);
            spawn(name, Role::Cpu, &barrier, move || {
                ender.end(vcpu.run());
                // The end of a thread takes calls that running a CPU does not; this one's is the process's.
                vcpu.gate.leave();
                loop {
                    thread::park();
                }
            })
        });
        let cpus = cpus.collect::<Result<_, _>>()?;
        let cpus = CpuThreads::new(gate, cpus);
        barrier.wait();
        seccomp::confine(Role::Main)?;
        barrier.wait();
        started();
        let reason = event_loop.run(&Running { cpus, exits, bus });
        // The CPU threads end with the process; until then the machine stays.
        drop(vm);
        reason
    }
}

/// Starts a thread that runs once it and all others are confined.
fn spawn(
    name: String,
    role: Role,
    barrier: &Arc<Barrier>,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, VmmError> {
    let barrier = Arc::clone(barrier);
    let confined = move || {
        barrier.wait();
        if let Err(error) = seccomp::confine(role) {
            // Its hook tells the owner and ends the process.
            panic!("{error}");
        }
        barrier.wait();
        run();
    };
    let spawned = thread::Builder::new().name(name).spawn(confined);
    spawned.map_err(io("start a thread"))
}

/// The devices as they are put on the bus, one after the other.
struct Devices<'a> {
    vm: &'a Vm,
    ram: &'a GuestRam,
    registers: Vec<Registers<SharedMemory>>,
}

impl<'a> Devices<'a> {
    fn new(vm: &'a Vm, ram: &'a GuestRam) -> Self {
        Self {
            vm,
            ram,
            registers: Vec::new(),
        }
    }

    fn count(&self) -> u32 {
        u32::try_from(self.registers.len()).unwrap_or(0)
    }

    /// Puts a device on the bus; gives the events of its queues.
    fn add(&mut self, device: SharedDevice) -> Result<Vec<EventFd>, VmmError> {
        let vm = self.vm.fd();
        let number = self.count();
        let address = MMIO_START + u64::from(number) * MMIO_SIZE;
        let new_event = |flags| EventFd::new(flags).map_err(io("make an event descriptor"));
        let clone = |event: &EventFd| event.try_clone().map_err(io("copy an event descriptor"));
        let line = new_event(EFD_NONBLOCK)?;
        vm.register_irqfd(&line, MMIO_GSI + number)
            .map_err(failed("wire an interrupt"))?;
        let queues = device.lock().map_or(0, |device| device.queue_sizes().len());
        let mut kicks = Vec::new();
        for queue in 0..u32::try_from(queues).unwrap_or(0) {
            let kick = new_event(EFD_NONBLOCK)?;
            let notify = IoEventAddress::Mmio(address + QUEUE_NOTIFY);
            vm.register_ioevent(&kick, &notify, queue)
                .map_err(failed("wire a notification"))?;
            kicks.push(kick);
        }
        let for_bus = kicks.iter().map(clone).collect::<Result<_, _>>()?;
        let interrupt = Arc::new(Interrupt::new(line));
        let memory = Arc::clone(&self.ram.memory);
        self.registers
            .push(Registers::new(device, memory, interrupt, for_bus));
        Ok(kicks)
    }
}

/// The devices that wait for the host's disks.
fn slow_devices(
    share: Option<(ShareConfig, OwnedFd)>,
    disks: Vec<(String, OwnedFd)>,
    devices: &mut Devices<'_>,
    event_loop: &mut EventLoop,
) -> Result<Vec<DeviceThread>, VmmError> {
    let mut threads = Vec::new();
    if let Some((share, dir)) = share {
        threads.push(shared_dir(&share, &dir, devices, event_loop)?);
    }
    for ((path, file), number) in disks.into_iter().zip(0u32..) {
        threads.push(disk(path, file, number, devices)?);
    }
    Ok(threads)
}

/// The device of a shared directory, whose files a gofer opens.
fn shared_dir(
    share: &ShareConfig,
    dir: &OwnedFd,
    devices: &mut Devices<'_>,
    event_loop: &mut EventLoop,
) -> Result<DeviceThread, VmmError> {
    let failed = |source| VmmError::SharedDir {
        path: share.path.clone(),
        source,
    };
    if share.tag.len() > TAG_LEN {
        return Err(VmmError::Start {
            what: "a share's tag is too long",
        });
    }
    let (files, gofer) = SharedFiles::start(&share.tag, dir).map_err(failed)?;
    let fs: SharedDevice = files.device();
    event_loop.add_gofer(gofer, files)?;
    let kicks = devices.add(Arc::clone(&fs))?;
    Ok(DeviceThread {
        name: "fs".to_owned(),
        role: Role::Files,
        device: fs,
        kicks,
    })
}

/// The block device of a file, which the guest finds as number so and so.
fn disk(
    path: String,
    file: OwnedFd,
    number: u32,
    devices: &mut Devices<'_>,
) -> Result<DeviceThread, VmmError> {
    let disk = Disk::numbered(file.into(), number);
    let disk = disk.map_err(|source| VmmError::Disk { path, source })?;
    let device: SharedDevice = Arc::new(Mutex::new(Blk::new(disk)));
    Ok(DeviceThread {
        name: format!("disk{number}"),
        role: Role::Disk,
        kicks: devices.add(Arc::clone(&device))?,
        device,
    })
}

/// The networks' devices.
fn nets(
    nets: Vec<(NetConfig, OwnedFd)>,
    log: &Arc<ConsoleLog>,
    devices: &mut Devices<'_>,
) -> Result<Vec<DeviceThread>, VmmError> {
    let nets = nets.into_iter().enumerate();
    nets.map(|(number, (config, link))| net(&config, link, number, log, devices))
        .collect()
}

/// The device of a network, which the guest finds as number so and so.
fn net(
    config: &NetConfig,
    link: OwnedFd,
    number: usize,
    log: &Arc<ConsoleLog>,
    devices: &mut Devices<'_>,
) -> Result<DeviceThread, VmmError> {
    let log = Arc::clone(log);
    let tell = move |what: &str| log.write(format!("nacre-vmm: {what}").as_bytes());
    let device = jail::net::device(config, link, tell);
    let device = device.map_err(|source| VmmError::Net {
        name: config.name.clone(),
        source,
    })?;
    let device: SharedDevice = Arc::new(Mutex::new(device));
    Ok(DeviceThread {
        name: format!("net{number}"),
        role: Role::Net,
        kicks: devices.add(Arc::clone(&device))?,
        device,
    })
}

/// The image, and its file for who maps parts of it.
fn read_kernel(file: File, name: &str) -> Result<(KernelImage, File), VmmError> {
    let broken = |what| VmmError::Kernel {
        path: name.to_owned(),
        what,
    };
    let mut bytes = Vec::new();
    (&file)
        .take(IMAGE_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(io("read the guest kernel"))?;
    if bytes.len() as u64 > IMAGE_MAX {
        return Err(broken(KernelFault::TooBig(bytes.len() as u64)));
    }
    let image = KernelImage::parse(&bytes).map_err(broken)?;
    Ok((image, file))
}

/// Makes the CPUs, each with its own features.
fn create_vcpus(
    vm: &Vm,
    cpuid: &CpuidTemplate,
    count: u32,
    vcpu: impl Fn(u32, VcpuFd) -> Vcpu,
) -> Result<Vec<Vcpu>, VmmError> {
    let create = |index: u32| {
        let fd = vm.fd().create_vcpu(index.into());
        let fd = fd.map_err(failed("create a CPU"))?;
        let leaves = cpuid.for_cpu(index, count)?;
        fd.set_cpuid2(&leaves)
            .map_err(failed("set a CPU's features"))?;
        Ok(vcpu(index, fd))
    };
    (0..count).map(create).collect()
}

fn create_interrupt_chips(vm: &Vm) -> Result<(), VmmError> {
    let vm = vm.fd();
    if vm.check_extension(Cap::SetIdentityMapAddr) {
        vm.set_identity_map_address(KVM_IDENTITY_MAP)
            .map_err(failed("place its identity map"))?;
    }
    vm.set_tss_address(KVM_TSS)
        .map_err(failed("place its task state"))?;
    vm.create_irq_chip()
        .map_err(failed("create the interrupt controllers"))
}

/// Unix time when the guest's time-stamp counter was zero.
fn tsc_epoch_ns(vcpu: &VcpuFd) -> u64 {
    let now = rustix::time::clock_gettime(ClockId::Realtime);
    let now = u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(now.tv_nsec).unwrap_or(0);
    let entry = kvm_msr_entry {
        index: MSR_TSC,
        ..kvm_msr_entry::default()
    };
    let ticks = Msrs::from_entries(&[entry]).ok().and_then(|mut msrs| {
        let read = vcpu.get_msrs(&mut msrs).ok()?;
        msrs.as_slice()
            .first()
            .filter(|_| read == 1)
            .map(|msr| msr.data)
    });
    let khz = vcpu.get_tsc_khz().ok().filter(|khz| *khz > 0);
    match (ticks, khz) {
        (Some(ticks), Some(khz)) => {
            let since = u128::from(ticks) * 1_000_000 / u128::from(khz);
            now.saturating_sub(u64::try_from(since).unwrap_or(0))
        }
        _ => now,
    }
}

fn random_slide() -> Result<Slide, VmmError> {
    let mut random = [0; 16];
    getrandom(&mut random, GetRandomFlags::empty()).map_err(|errno| VmmError::Io {
        what: "get random bytes",
        source: errno.into(),
    })?;
    Ok(Slide::from_random(random))
}

fn failed(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> VmmError {
    move |source| VmmError::Kvm { what, source }
}

fn io(what: &'static str) -> impl Fn(std::io::Error) -> VmmError {
    move |source| VmmError::Io { what, source }
}
