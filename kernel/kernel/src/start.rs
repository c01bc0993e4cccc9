//! What happens between the machine's start and PID 1.
//!
//! The boot CPU's flow becomes its idle thread; a thread of its own, which may block, mounts the root
//! and starts PID 1.

use core::sync::atomic::{AtomicBool, Ordering};

use abi::{Errno, Result};
use collections::{TryCollect, Vec, try_arc};
use fs::{Caller, Credentials, FdTable, FsContext, OpenFlags, OpenHow};
use machine::boot::BootConfig;
use machine::{log, power};
use sched::ThreadBuilder;

use crate::command_line::{CommandLine, size_bytes};
use crate::devices;

/// The boot phase when devices work; see the boot contract in ARCHITECTURE.md.
const PHASE_DEVICES: u8 = 3;

/// Whether there is a running thread to name when the kernel panics.
static THREADS_RUN: AtomicBool = AtomicBool::new(false);

machine::entry!(main);

fn main(config: BootConfig) -> ! {
    machine::interrupt::set_upcalls(sched::UPCALLS);
    sched::init();
    THREADS_RUN.store(true, Ordering::Release);
    machine::boot::start_other_cpus(sched::idle);
    let starting = ThreadBuilder::new(b"start", move || start(&config)).spawn();
    if let Err(errno) = starting {
        panic!("cannot start the first thread: {errno}");
    }
    sched::idle()
}

fn start(config: &BootConfig) {
    let line = CommandLine::parse(&config.command_line);
    if line.is_quiet {
        power::set_quiet();
    }
    if line.has_watchdog {
        sched::start_watchdog();
    }
    if let Err(errno) = sched::rcu::start() {
        panic!("cannot start the thread that frees memory: {errno}");
    }
    if let Err(errno) = register_file_systems(config) {
        panic!("cannot register file systems: {errno}");
    }
    if let Err(errno) = fs::tty::register() {
        log!("tty: {errno}; there are no terminals");
    }
    process::user_loop::set_syscall_entry(syscall::dispatch::dispatch);
    memory::pressure::set_policy(process::oom::POLICY);
    if let Some(size) = line.memory {
        limit_memory(size);
    }
    net::set_caller(syscall::caller);
    devices::start(&config.command_line, line.console);
    power::mark_phase(PHASE_DEVICES);
    if let Err(errno) = start_init(config, &line) {
        tell_failed_start(line.init, errno);
        power::panicked();
    }
}

/// Says why there is no PID 1; for want of memory, how much there is.
fn tell_failed_start(init: &str, errno: Errno) {
    const KIB: usize = machine::addr::PAGE_SIZE / 1024;
    let total = machine::frame::total() * KIB;
    match errno {
        Errno::ENOMEM => log!(
            "init: cannot start {init}: ENOMEM: the machine has {total} KiB of memory beside the kernel: give it more"
        ),
        _ => log!("init: cannot start {init}: {errno}"),
    }
}

/// Sets what may be used of the memory that there is; it can be changed later.
fn limit_memory(size: &str) {
    let frames = size_bytes(size)
        .and_then(|bytes| usize::try_from(bytes / machine::PAGE_SIZE as u64).ok())
        .filter(|frames| *frames > 0);
    match frames {
        Some(frames) => memory::MemoryGroup::ROOT.set_limit(frames),
        None => log!("nacre.memory={size}: not a size; all memory may be used"),
    }
}

fn register_file_systems(config: &BootConfig) -> Result<()> {
    fs::archive::init()?;
    fs::register(try_arc(fs::fuse::VirtioFs)?)?;
    process::cgroup::init()?;
    process::procfs::init(&config.command_line)
}

fn start_init(config: &BootConfig, line: &CommandLine<'_>) -> Result<()> {
    let namespace = fs::archive::root_namespace(config.archive)?;
    let context = FsContext::new(&namespace)?;
    let mut files = FdTable::new();
    open_console(&context, &mut files)?;
    let args: Vec<_> = line.args.iter().map(|word| word.as_bytes()).try_collect()?;
    let environment = line.environment.iter().map(|word| word.as_bytes());
    let environment: Vec<_> = environment.try_collect()?;
    process::start_init(process::InitRequest {
        path: line.init.as_bytes(),
        args: &args,
        env: &environment,
        fs: context,
        files,
    })
}

/// Opens /dev/console as descriptors 0, 1 and 2. Without a console PID 1 starts without them, as on Linux.
fn open_console(context: &FsContext, files: &mut FdTable) -> Result<()> {
    const DESCRIPTORS: usize = 3;
    let credentials = try_arc(Credentials::root())?;
    let caller = Caller {
        fs: context,
        credentials: &credentials,
    };
    let how = OpenHow {
        flags: OpenFlags::from_open(OpenFlags::RDWR.bits()),
        ..OpenHow::default()
    };
    match caller.open(&context.root(), b"/dev/console", &how) {
        Ok(console) => {
            for _ in 0..DESCRIPTORS {
                files.insert(console.clone(), false, DESCRIPTORS)?;
            }
        }
        Err(errno) => log!("console: cannot open /dev/console: {errno}; init has no descriptors"),
    }
    Ok(())
}

/// Set once a panic is being told: one that comes while telling says less.
static PANICKING: AtomicBool = AtomicBool::new(false);

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let cpu = machine::cpu::current();
    if PANICKING.swap(true, Ordering::AcqRel) {
        log!("another kernel panic on CPU {cpu}: {}", info.message());
        power::panicked();
    }
    if THREADS_RUN.load(Ordering::Acquire) && sched::thread::is_there() {
        let thread = sched::thread::current();
        let name = thread.name();
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        log!(
            "kernel panic on CPU {cpu} in thread \"{}\": {info}",
            name.escape_ascii()
        );
    } else {
        log!("kernel panic on CPU {cpu}: {info}");
    }
    power::panicked()
}
