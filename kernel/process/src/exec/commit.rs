//! The point of no return of execve(2).

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::{Errno, Result};
use machine::sync::SpinLock;
use machine::user_mode::{Registers, UserContext};
use memory::AddressSpace;

use super::Prepared;
use super::privileges::New;
use crate::core_dump;
use crate::exit;
use crate::own::Own;
use crate::signal::{Actions, Signal};
use crate::task::process::Image;
use crate::task::thread::{AlternateStack, Thread};
use crate::task::{relations, tree};

/// `IF`: interrupts are on in user mode.
const USER_RFLAGS: u64 = 0x200;

/// Ends every other thread of the process and takes over the process's id.
pub(super) fn end_other_threads(thread: &Arc<Thread>) -> Result<()> {
    let process = thread.process();
    {
        let mut state = process.signals.lock();
        if state.exit.is_some() || state.exec.is_some() {
            return Err(Errno::EINTR);
        }
        if state.threads.len() == 1 && thread.is_first() {
            return Ok(());
        }
        state.exec = Some(thread.tid());
        for other in state.threads.iter() {
            if !Arc::ptr_eq(other, thread) {
                other.notify_of_end();
            }
        }
        // Parked ones have to wake up to exit.
        process.stop_queue.wake_all();
    }
    let alone = || (process.signals.lock().threads.len() == 1).then_some(());
    let done = thread.wait_killable(&process.stop_queue, alone);
    if done.is_some() {
        become_leader(thread);
    }
    process.signals.lock().exec = None;
    done.ok_or(Errno::EINTR)
}

fn become_leader(thread: &Arc<Thread>) {
    if thread.is_first() {
        return;
    }
    let gone = relations::take_over(&mut tree::lock(), thread);
    drop(gone);
}

/// Puts the prepared program in place.
pub(super) fn commit(
    thread: &Arc<Thread>,
    own: &mut Own,
    user: &mut UserContext,
    prepared: Prepared,
) {
    let process = thread.process();
    // Who may look into the process is decided by what it is then: nobody must find the new program's memory with the
    // old one's credentials (see `access::memory_of`), nor the memory of one that hid itself as that of one that does not.
    let is_dumpable = set_credentials(thread, own, prepared.privileges);
    switch_memory(thread, &prepared.memory);
    process.dumpable.store(
        if is_dumpable {
            1
        } else {
            core_dump::suid_dumpable()
        },
        Ordering::Release,
    );
    process.set_image(Image {
        exe: prepared.file.path().cloned(),
        auxv: prepared.auxv,
    });
    thread.set_name(base_name(&prepared.name));
    close_files(thread, own);
    reset_signals(thread, prepared.actions);
    process.timers.delete_posix();
    {
        let mut tree = tree::lock();
        let node = process.node.get_mut(&mut tree);
        node.has_execed = true;
        node.exit_signal = Some(Signal::CHLD);
    }
    user.regs = Registers {
        rip: prepared.entry,
        rsp: prepared.sp,
        rflags: USER_RFLAGS,
        ..Registers::default()
    };
    user.reset_fpu();
}

fn switch_memory(thread: &Arc<Thread>, memory: &Arc<AddressSpace>) {
    // With the old memory still active: what is cleared on exit is cleared there.
    exit::release_words(thread);
    if let Some(kernel) = thread.kernel() {
        kernel.set_memory(Some(memory.clone()));
        kernel.set_page_table(Some(memory.page_table().clone()));
    }
    let old = thread.process().replace_memory(Some(memory.clone()));
    drop(old);
    exit::complete_vfork(thread);
}

/// Descriptors are the program's own from here on, without those that are to be closed.
fn close_files(thread: &Thread, own: &mut Own) {
    if own.files.is_shared() {
        let Ok(files) = own.files.duplicate() else {
            // The old program is gone, and the new one must not run with descriptors it shares.
            exit::kill_with_status(thread.process(), i32::from(Signal::KILL.number()));
            return;
        };
        own.set_files(thread, files);
    }
    own.files.close_on_exec();
}

fn reset_signals(thread: &Thread, spare: Arc<SpinLock<Actions>>) {
    let process = thread.process();
    // Shared or not, the old ones are not changed: another process may have them.
    let old = process.actions();
    spare.lock().clone_from(&*old.lock());
    spare.lock().reset_for_exec();
    process.replace_actions(spare);
    *thread.alternate_stack.lock() = AlternateStack::default();
    let _ = thread.take_restart();
}

/// Whether the program may be dumped, and so looked into by its user, once its memory is in place.
fn set_credentials(thread: &Thread, own: &mut Own, new: New) -> bool {
    let old = own.credentials();
    let has_changed = old.euid != new.credentials.euid || old.egid != new.credentials.egid;
    let hides = new.is_secure || has_changed || !new.is_readable;
    if hides {
        thread.process().dumpable.store(0, Ordering::Relaxed);
    }
    if has_changed || new.is_secure {
        thread.set_parent_death_signal(0);
    }
    own.put_credentials(thread, new.credentials);
    !hides
}

/// Whether the program that was put in place may not be dumped.
pub(super) fn hides(thread: &Thread) -> bool {
    thread.process().dumpable.load(Ordering::Relaxed) != 1
}

fn base_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}
