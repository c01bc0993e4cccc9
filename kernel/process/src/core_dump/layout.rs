//! The contents of a core file: an ELF header, a program header for the notes and one a mapping, the notes, the memory.

use abi::{Errno, Result};
use collections::Vec;
use core::sync::atomic::Ordering;
use machine::{PAGE_SIZE, UserAddr};
use memory::{AddressSpace, AreaFlags, AreaInfo, Prot};
use zerocopy::{FromZeros, Immutable, IntoBytes};

use super::file::Sink;
use super::notes::{self, Ids, Notes, ProcessInfo, ThreadStatus, Time};
use super::{Reason, Registers};
use crate::signal::state;
use crate::task::process::Process;
use crate::task::thread::Thread;

/// `struct Elf64_Ehdr`.
#[derive(IntoBytes, Immutable, FromZeros)]
#[repr(C)]
struct FileHeader {
    ident: [u8; 16],
    kind: u16,
    machine: u16,
    version: u32,
    entry: u64,
    program_headers: u64,
    section_headers: u64,
    flags: u32,
    size: u16,
    program_header_size: u16,
    program_header_count: u16,
    section_header_size: u16,
    section_header_count: u16,
    names: u16,
}

/// `struct Elf64_Phdr`.
#[derive(Clone, Copy, IntoBytes, Immutable, FromZeros)]
#[repr(C)]
struct ProgramHeader {
    kind: u32,
    flags: u32,
    offset: u64,
    vaddr: u64,
    paddr: u64,
    file_size: u64,
    memory_size: u64,
    align: u64,
}

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const PAGE: u64 = PAGE_SIZE as u64;
/// Pages that are looked at together.
const AT_ONCE: u64 = 64;

/// Bits of `coredump_filter` (core(5)).
mod filter {
    pub(super) const ANONYMOUS_PRIVATE: u32 = 1;
    pub(super) const ANONYMOUS_SHARED: u32 = 1 << 1;
    pub(super) const MAPPED_PRIVATE: u32 = 1 << 2;
    pub(super) const MAPPED_SHARED: u32 = 1 << 3;
    pub(super) const ELF_HEADERS: u32 = 1 << 4;
}

/// Writes all of it: first what the dumping thread, `own`, has put down, then the others.
pub(super) fn write(
    sink: &mut Sink,
    own: &Registers,
    others: &[Registers],
    reason: &Reason,
) -> Result<()> {
    let process = own.thread.process();
    let memory = process.memory().ok_or(Errno::ESRCH)?;
    let areas = memory.areas()?;
    let filter = process.coredump_filter.load(Ordering::Relaxed);
    let notes = all_notes(own, others, &areas, reason)?;
    let count = areas.len() + 1;
    let headers_end = size_of::<FileHeader>() + count * size_of::<ProgramHeader>();
    let notes_end = headers_end as u64 + notes.0.len() as u64;
    let mut at = notes_end.next_multiple_of(PAGE);
    sink.write(file_header(count)?.as_bytes())?;
    let note = ProgramHeader {
        kind: PT_NOTE,
        offset: headers_end as u64,
        file_size: notes.0.len() as u64,
        align: 4,
        ..ProgramHeader::new_zeroed()
    };
    sink.write(note.as_bytes())?;
    for area in &areas {
        let size = dumped_size(&memory, area, filter);
        sink.write(load_header(area, at, size).as_bytes())?;
        at += size;
    }
    sink.write(&notes.0)?;
    sink.skip(notes_end.next_multiple_of(PAGE) - notes_end);
    for area in &areas {
        let size = dumped_size(&memory, area, filter);
        write_memory(sink, &memory, area, size)?;
    }
    Ok(())
}

fn file_header(count: usize) -> Result<FileHeader> {
    const ET_CORE: u16 = 4;
    const EM_X86_64: u16 = 62;
    let mut ident = [0; 16];
    // 64 bits, little endian, version 1.
    ident[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    Ok(FileHeader {
        ident,
        kind: ET_CORE,
        machine: EM_X86_64,
        version: 1,
        program_headers: size_of::<FileHeader>() as u64,
        size: 64,
        program_header_size: 56,
        program_header_count: u16::try_from(count).map_err(|_| Errno::EFBIG)?,
        ..FileHeader::new_zeroed()
    })
}

fn load_header(area: &AreaInfo, offset: u64, size: u64) -> ProgramHeader {
    // As in ELF: 1 execute, 2 write, 4 read.
    let bit = |prot, bit| if area.prot.contains(prot) { bit } else { 0 };
    ProgramHeader {
        kind: PT_LOAD,
        flags: bit(Prot::READ, 4) | bit(Prot::WRITE, 2) | bit(Prot::EXEC, 1),
        offset,
        vaddr: area.range.start.0,
        paddr: 0,
        file_size: size,
        memory_size: area.range.end.0 - area.range.start.0,
        align: PAGE,
    }
}

/// How much of an area is dumped, from its start.
fn dumped_size(memory: &AddressSpace, area: &AreaInfo, filter: u32) -> u64 {
    let whole = area.range.end.0 - area.range.start.0;
    let has = |kind: u32| filter & kind != 0;
    if area.flags.contains(AreaFlags::DONT_DUMP) {
        return 0;
    }
    if area.flags.contains(AreaFlags::SHARED) {
        let kind = if area.origin.is_some() {
            filter::MAPPED_SHARED
        } else {
            filter::ANONYMOUS_SHARED
        };
        return if has(kind) { whole } else { 0 };
    }
    let is_own = area.origin.is_none() || area.is_copied;
    if is_own && has(filter::ANONYMOUS_PRIVATE) {
        return whole;
    }
    if area.origin.is_none() {
        return 0;
    }
    if has(filter::MAPPED_PRIVATE) {
        return whole;
    }
    let mut magic = [0; 4];
    let is_header = has(filter::ELF_HEADERS)
        && area.offset == 0
        && area.prot.contains(Prot::READ)
        && memory.read_at(area.range.start, &mut magic, true) == magic.len()
        && magic == *b"\x7fELF";
    if is_header { PAGE } else { 0 }
}

/// Pages that were never touched are left out, and not made for the dump.
fn write_memory(sink: &mut Sink, memory: &AddressSpace, area: &AreaInfo, size: u64) -> Result<()> {
    let is_sparse = area.origin.is_none();
    let mut page = Vec::try_from_elem(0, PAGE_SIZE)?;
    let mut at = area.range.start.0;
    let end = at + size;
    while at < end {
        let part = (end - at).min(AT_ONCE * PAGE);
        let present = memory.residency(UserAddr(at), part)?;
        for (index, is_present) in present.iter().enumerate() {
            let from = UserAddr(at + index as u64 * PAGE);
            let is_there = (*is_present != 0 || !is_sparse)
                && memory.read_at(from, &mut page, true) == PAGE_SIZE;
            if is_there {
                sink.write(&page)?;
            } else {
                sink.skip(PAGE);
            }
        }
        if sched::thread::killed() {
            return Err(Errno::EINTR);
        }
        sched::cond_resched();
        at += part;
    }
    Ok(())
}

fn all_notes(
    own: &Registers,
    others: &[Registers],
    areas: &[AreaInfo],
    reason: &Reason,
) -> Result<Notes> {
    let process = own.thread.process();
    let mut notes = Notes::default();
    notes.push(notes::NT_PRSTATUS, status_of(own, reason).as_bytes())?;
    notes.push(notes::NT_PRPSINFO, info_of(&own.thread)?.as_bytes())?;
    notes.push_info(&reason.info)?;
    notes.push(notes::NT_AUXV, &process.image().auxv)?;
    notes.push(notes::NT_FILE, &files(areas)?)?;
    push_fpu(&mut notes, own)?;
    for other in others {
        notes.push(notes::NT_PRSTATUS, status_of(other, reason).as_bytes())?;
        push_fpu(&mut notes, other)?;
    }
    Ok(notes)
}

fn push_fpu(notes: &mut Notes, of: &Registers) -> Result<()> {
    const FXSAVE_SIZE: usize = 512;
    const ENABLED_AT: usize = 464;
    notes.push(notes::NT_FPREGSET, &of.fpu[..FXSAVE_SIZE.min(of.fpu.len())])?;
    let enabled = machine::user_mode::xstate_features();
    if enabled == 0 {
        return Ok(());
    }
    let mut state = of.fpu.try_clone()?;
    if let Some(place) = state.get_mut(ENABLED_AT..ENABLED_AT + 8) {
        place.copy_from_slice(&enabled.to_le_bytes());
    }
    notes.push(notes::NT_X86_XSTATE, &state)
}

/// Who a thread is, as its own PID namespace counts.
fn ids_of(process: &Process, pid: i32) -> Ids {
    Ids {
        pid,
        parent: process.parent_number(),
        group: process.shown(&process.read_group()),
        session: process.shown(&process.read_session()),
    }
}

fn status_of(of: &Registers, reason: &Reason) -> ThreadStatus {
    let thread = &of.thread;
    let process = thread.process();
    let usage = thread.usage();
    let children = process.children_usage();
    let (pending, _) = state::pending(thread);
    let signal = reason.info.signal.number();
    let mut status = ThreadStatus::new_zeroed();
    status.signal = signal.into();
    status.code = reason.info.code;
    status.errno = reason.info.errno;
    status.current_signal = signal.into();
    status.pending = pending.0;
    status.blocked = thread.blocked().0;
    status.ids = ids_of(process, thread.tid());
    status.user = Time::from_ns(usage.user_ns);
    status.system = Time::from_ns(usage.system_ns);
    status.children_user = Time::from_ns(children.user_ns);
    status.children_system = Time::from_ns(children.system_ns);
    status.registers = of.words;
    status.has_fpu = 1;
    status
}

fn info_of(thread: &Thread) -> Result<ProcessInfo> {
    let process = thread.process();
    let credentials = thread.credentials();
    let mut info = ProcessInfo::new_zeroed();
    info.state_letter = b'R';
    info.nice = thread.attributes().nice.cast_unsigned();
    info.uid = process.shown_uid(credentials.uid);
    info.gid = credentials.user_namespace.shown_gid(credentials.gid);
    info.ids = ids_of(process, process.pid().number());
    info.name = thread.name();
    let memory = process.memory().ok_or(Errno::ESRCH)?;
    let layout = memory.layout();
    let len = usize::try_from(layout.arg_end.saturating_sub(layout.arg_start)).unwrap_or(0);
    let len = len.min(info.args.len() - 1);
    let read = memory.read_at(UserAddr(layout.arg_start), &mut info.args[..len], true);
    for byte in &mut info.args[..read] {
        if *byte == 0 {
            *byte = b' ';
        }
    }
    Ok(info)
}

/// NT_FILE: which files are mapped where.
fn files(areas: &[AreaInfo]) -> Result<Vec<u8>> {
    let mut words = Vec::new();
    let mut names = Vec::new();
    let mut count = 0_u64;
    for area in areas {
        let Some(origin) = &area.origin else {
            continue;
        };
        count += 1;
        let (start, end) = (area.range.start.0, area.range.end.0);
        words.try_extend_from_slice(&[start, end, area.offset / PAGE])?;
        names.try_extend_from_slice(&origin.path()?)?;
        names.try_push(0)?;
        sched::cond_resched();
    }
    let mut note = Vec::new();
    note.try_extend_from_slice([count, PAGE].as_bytes())?;
    note.try_extend_from_slice(words.as_bytes())?;
    note.try_extend_from_slice(&names)?;
    Ok(note)
}
