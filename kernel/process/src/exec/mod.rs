//! execve(2): a new program in place of the old one.
//!
//! Everything that can fail happens first, in a new address space that nobody sees: reading the
//! file and its interpreters, mapping, building the stack. Then the other threads are ended, and
//! [`commit`] puts the new program in place, which cannot fail.

mod commit;
pub mod elf;
mod load;
#[cfg(test)]
mod load_tests;
mod origin;
mod privileges;
pub mod script;
pub mod stack;
pub mod strings;

use alloc::sync::Arc;
use core::ops::Deref;

use abi::{Errno, Result};
use collections::{Vec, try_arc};
use fs::{Caller, File, LookupFlags, Path};
use machine::sync::SpinLock;
use machine::user_mode::UserContext;
use memory::AddressSpace;

use crate::own::Own;
use crate::rlimit::Resource;
use crate::signal::{Actions, Signal};
use crate::task::thread::Thread;
use crate::{exit, trace};
use elf::{Image, Source};
use load::FileSource;
use script::Script;
use stack::aux;
use strings::Strings;

pub use origin::of as origin_of;

/// Interpreters of interpreters that are followed.
const MOST_SCRIPTS: usize = 5;
/// `ADDR_NO_RANDOMIZE` and `READ_IMPLIES_EXEC` of personality(2).
const ADDR_NO_RANDOMIZE: u32 = 0x004_0000;

/// What execve(2) was given.
#[derive(Debug)]
pub struct Request {
    /// The program, opened with [`open`].
    pub file: Arc<File>,
    /// Its path as it was given, for scripts and AT_EXECFN.
    pub name: Vec<u8>,
    /// argv.
    pub args: Strings,
    /// envp.
    pub env: Strings,
    /// The path is of a descriptor that exec closes: a script could not be opened by it.
    pub name_is_closed: bool,
}

/// A program that is ready to replace the caller's.
struct Prepared {
    memory: Arc<AddressSpace>,
    file: Arc<File>,
    name: Vec<u8>,
    entry: u64,
    sp: u64,
    auxv: Arc<[u8]>,
    privileges: privileges::New,
    /// For the signal actions after.
    actions: Arc<SpinLock<Actions>>,
}

/// Bytes that arguments and environment of the caller may take together.
#[must_use]
pub fn strings_limit(thread: &Thread) -> usize {
    const LEAST: u64 = 128 << 10;
    const MOST: u64 = 6 << 20;
    let stack = thread.process().limits().soft(Resource::Stack);
    usize::try_from((stack / 4).clamp(LEAST, MOST)).unwrap_or(0)
}

/// Replaces the calling thread's program. On success `user` is at the new program's entry point.
///
/// # Errors
/// As execve(2); nothing has changed then, unless the caller is being killed (`EINTR`).
pub fn exec(
    thread: &Arc<Thread>,
    own: &mut Own,
    user: &mut UserContext,
    request: &Request,
) -> Result<()> {
    if request.args.size() + request.env.size() > strings_limit(thread) {
        return Err(Errno::E2BIG);
    }
    let is_shared = thread.enter_exec();
    let result = replace_program(thread, own, user, request, is_shared);
    thread.leave_exec();
    result
}

fn replace_program(
    thread: &Arc<Thread>,
    own: &mut Own,
    user: &mut UserContext,
    request: &Request,
    is_shared: bool,
) -> Result<()> {
    let is_traced = trace::is_unprivileged(thread);
    let prepared = prepare(thread, request, is_shared || is_traced)?;
    let before = thread.read_pid();
    commit::end_other_threads(thread)?;
    commit::commit(thread, own, user, prepared);
    if !is_traced && commit::hides(thread) && trace::is_unprivileged(thread) {
        // Somebody began to trace it in between who must not see what it can do now.
        exit::kill_with_status(thread.process(), i32::from(Signal::KILL.number()));
        return Err(Errno::EINTR);
    }
    trace::exec_stop(thread, user, &before);
    Ok(())
}

fn prepare(thread: &Arc<Thread>, request: &Request, is_shared: bool) -> Result<Prepared> {
    let name = copy(&request.name)?;
    let (file, args) = follow_scripts(thread, request)?;
    let image = Image::parse(&FileSource(&file))?;
    let interpreter = match &image.interpreter {
        Some(path) => Some(open_interpreter(thread, path)?),
        None => None,
    };
    let new = privileges::of(thread, &file, is_shared)?;
    let credentials = &new.credentials;
    let memory = new_memory(thread)?;
    let program = load::program(&memory, &file, &image)?;
    let entry = program.bias.wrapping_add(image.entry);
    let (start, base) = match interpreter {
        Some((file, image)) => {
            let loaded = load::interpreter(&memory, &file, &image)?;
            file.allow_writers();
            (loaded.bias.wrapping_add(image.entry), loaded.bias)
        }
        None => (entry, 0),
    };
    let headers = image
        .headers_vaddr
        .map_or(0, |vaddr| program.bias.wrapping_add(vaddr));
    let names = &credentials.user_namespace;
    let shown_uid = |user| names.shown_uid(user);
    let shown_gid = |group| names.shown_gid(group);
    let aux = [
        (aux::HWCAP, u64::from(machine::cpu::hwcap())),
        (aux::PAGESZ, machine::PAGE_SIZE as u64),
        (aux::CLKTCK, 100),
        (aux::PHDR, headers),
        (aux::PHENT, 56),
        (aux::PHNUM, u64::from(image.header_count)),
        (aux::BASE, base),
        (aux::FLAGS, 0),
        (aux::ENTRY, entry),
        (aux::UID, u64::from(shown_uid(credentials.uid))),
        (aux::EUID, u64::from(shown_uid(credentials.euid))),
        (aux::GID, u64::from(shown_gid(credentials.gid))),
        (aux::EGID, u64::from(shown_gid(credentials.egid))),
        (aux::SECURE, u64::from(new.is_secure)),
    ];
    let contents = stack::Contents {
        args: &args,
        env: &request.env,
        path: &name,
        random: random_bytes(),
        aux: &aux,
    };
    let top = memory.stack_top();
    let built = stack::build(top.0, &contents)?;
    load::stack(&memory, top, &built.bytes, image.executable_stack)?;
    set_layout(&memory, &image, program.bias, &built);
    Ok(Prepared {
        memory,
        file,
        name,
        entry: start,
        sp: built.sp,
        auxv: collections::try_arc_slice(&built.auxv)?,
        privileges: new,
        actions: try_arc(SpinLock::new(Actions::default()))?,
    })
}

/// Opens the program that loads the libraries of another one, and checks it.
fn open_interpreter(thread: &Thread, path: &[u8]) -> Result<(Arc<File>, Image)> {
    let file = open(thread, path)?;
    // Who has no header at all could not be read; who has a wrong one is no interpreter.
    FileSource(&file).read_exact_at(0, &mut [0; elf::FILE_HEADER_SIZE])?;
    let image = Image::parse(&FileSource(&file)).map_err(|errno| match errno {
        Errno::ENOEXEC => Errno::ELIBBAD,
        other => other,
    })?;
    Ok((file, image))
}

/// The arguments of a program: as they were given, or made for a script.
enum Args<'a> {
    Given(&'a Strings),
    Made(Strings),
}

impl Deref for Args<'_> {
    type Target = Strings;

    fn deref(&self) -> &Strings {
        match self {
            Args::Given(strings) => strings,
            Args::Made(strings) => strings,
        }
    }
}

/// Opens the interpreters of scripts until there is a program; with the arguments that it gets.
fn follow_scripts<'a>(thread: &Arc<Thread>, request: &'a Request) -> Result<(Arc<File>, Args<'a>)> {
    let mut file = request.file.clone();
    let mut args = Args::Given(&request.args);
    let mut name = copy(&request.name)?;
    for _ in 0..=MOST_SCRIPTS {
        let mut head = [0; script::HEAD_SIZE];
        let len = load::read_at(&file, 0, &mut head)?;
        let Some(script) = Script::parse(&head[..len])? else {
            if args.count() == 0 {
                // Programs may count on argv[0].
                args = Args::Made(Strings::from_list([b""])?);
            }
            return Ok((file, args));
        };
        if request.name_is_closed {
            return Err(Errno::ENOENT);
        }
        let front = match script.argument {
            Some(argument) => args.with_front(&[script.interpreter, argument, &name])?,
            None => args.with_front(&[script.interpreter, &name])?,
        };
        args = Args::Made(front);
        file = open(thread, script.interpreter)?;
        name = copy(script.interpreter)?;
    }
    Err(Errno::ELOOP)
}

fn copy(bytes: &[u8]) -> Result<Vec<u8>> {
    Ok(Vec::try_from_slice(bytes)?)
}

/// Opens a program by its path.
///
/// # Errors
/// As execve(2).
pub fn open(thread: &Thread, path: &[u8]) -> Result<Arc<File>> {
    let (fs, credentials) = (thread.fs(), thread.credentials());
    let caller = Caller {
        fs: &fs,
        credentials: &credentials,
    };
    let found = caller.lookup(&fs.cwd(), path, LookupFlags::FOLLOW)?;
    open_found(thread, found)
}

/// Opens a program that was found already.
///
/// # Errors
/// `EACCES` unless it is a regular file that the caller may execute, `ETXTBSY` while it is open for writing.
pub fn open_found(thread: &Thread, path: Path) -> Result<Arc<File>> {
    let (fs, credentials) = (thread.fs(), thread.credentials());
    let caller = Caller {
        fs: &fs,
        credentials: &credentials,
    };
    caller.open_exec(path)
}

fn new_memory(thread: &Thread) -> Result<Arc<AddressSpace>> {
    let process = thread.process();
    let personality = process
        .personality
        .load(core::sync::atomic::Ordering::Relaxed);
    let memory = AddressSpace::new(personality & ADDR_NO_RANDOMIZE == 0)?;
    memory.set_limits(memory_limits(process.limits()));
    memory.set_denies_large(process.memory().is_some_and(|old| old.denies_large()));
    Ok(memory)
}

/// The limits that an address space enforces.
#[must_use]
pub fn memory_limits(limits: &crate::rlimit::Limits) -> memory::Limits {
    memory::Limits {
        address_space: limits.soft(Resource::AddressSpace),
        data: limits.soft(Resource::Data),
        stack: limits.soft(Resource::Stack),
        locked: limits.soft(Resource::LockedMemory),
    }
}

fn set_layout(memory: &AddressSpace, image: &Image, bias: u64, built: &stack::Built) {
    let code = image.segments.iter().find(|segment| segment.prot.exec);
    let data = image.segments.last();
    let place = |at: u64| bias.wrapping_add(at);
    let mut layout = memory.layout();
    layout.start_code = code.map_or(0, |segment| place(segment.vaddr));
    layout.end_code = code.map_or(0, |segment| place(segment.vaddr + segment.file_size));
    layout.start_data = data.map_or(0, |segment| place(segment.vaddr));
    layout.end_data = data.map_or(0, |segment| place(segment.vaddr + segment.file_size));
    layout.start_stack = built.sp;
    (layout.arg_start, layout.arg_end) = built.args;
    (layout.env_start, layout.env_end) = built.env;
    memory.set_layout(layout);
}

fn random_bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    fs::random::fill(&mut bytes);
    bytes
}
