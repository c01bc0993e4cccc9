//! Giving a thread filters, or its strict mode.

use alloc::sync::Arc;

use abi::{Errno, Result};
use bpf::Program;
use collections::try_arc;

use super::filter::Filter;
use super::notify::Notifier;
use super::state::Mode;
use crate::own::Own;
use crate::task::numbers::PidNumber;
use crate::task::signals::SignalState;
use crate::task::thread::Thread;

/// What seccomp(2) is given with `SECCOMP_SET_MODE_FILTER`.
#[derive(Debug)]
pub struct NewFilter {
    /// The program.
    pub program: Program,
    /// `SECCOMP_FILTER_FLAG_LOG`.
    pub logs: bool,
    /// `SECCOMP_FILTER_FLAG_TSYNC`.
    pub for_all_threads: bool,
    /// Whom it asks (`SECCOMP_FILTER_FLAG_NEW_LISTENER`).
    pub notifier: Option<Arc<Notifier>>,
}

/// Why a thread did not get a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// An error.
    Errno(Errno),
    /// This thread has filters, or a mode, that do not go with it.
    Thread(PidNumber),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

/// Strict mode, for good.
///
/// # Errors
/// `EINVAL` when the thread has filters.
pub fn set_strict(thread: &Thread) -> Result<()> {
    let state = thread.process().signals.lock();
    if thread.seccomp.mode() == Mode::Filter {
        return Err(Errno::EINVAL);
    }
    thread.seccomp.set_strict();
    drop(state);
    Ok(())
}

/// Gives the thread a filter before those that it has.
///
/// # Errors
/// As seccomp(2).
pub fn set_filter(
    thread: &Arc<Thread>,
    own: &mut Own,
    new: NewFilter,
) -> core::result::Result<(), Failure> {
    let asks = new.notifier.is_some();
    let filter = Filter::new(new.program, new.logs, new.notifier);
    let mut filter = try_arc(filter).map_err(Errno::from)?;
    // Dropped, should it fail, once the lock is released.
    let state = thread.process().signals.lock();
    if thread.seccomp.mode() == Mode::Strict {
        return Err(Errno::EINVAL.into());
    }
    let newest = thread.seccomp.newest();
    let is_asked = |filter: &Filter| filter.notifier.as_ref().is_some_and(|it| it.is_open());
    if asks
        && newest
            .as_ref()
            .is_some_and(|newest| newest.chain().any(is_asked))
    {
        return Err(Errno::EBUSY.into());
    }
    if new.for_all_threads
        && let Some(other) =
            others(&state, thread).find(|other| !may_follow(other, newest.as_ref()))
    {
        return Err(Failure::Thread(other.tid()));
    }
    // Nobody else has it yet.
    let made = Arc::get_mut(&mut filter).ok_or(Errno::ENOMEM)?;
    made.put_before(newest)?;
    thread.seccomp.put(filter);
    if new.for_all_threads {
        for other in others(&state, thread) {
            share(thread, other);
        }
    }
    drop(state);
    own.settle_seccomp(thread);
    Ok(())
}

/// The other threads of the process.
fn others<'a>(
    state: &'a SignalState,
    thread: &'a Arc<Thread>,
) -> impl Iterator<Item = &'a Arc<Thread>> {
    let threads = state.threads.iter();
    threads.filter(|other| !Arc::ptr_eq(other, thread))
}

/// Whether a thread may get a filter that stands before `newest`: it loses none that it has.
fn may_follow(other: &Thread, newest: Option<&Arc<Filter>>) -> bool {
    match (other.seccomp.mode(), other.seccomp.newest()) {
        (Mode::Off, _) => true,
        (Mode::Filter, Some(theirs)) => newest.is_some_and(|newest| {
            newest
                .chain()
                .any(|one| core::ptr::eq(one, &raw const *theirs))
        }),
        (Mode::Filter, None) => true,
        (Mode::Strict, _) => false,
    }
}

/// Gives `other` the filters of `thread`, and what goes with them.
fn share(thread: &Thread, other: &Thread) {
    if thread.no_new_privs() {
        other.set_no_new_privs();
    }
    if let Some(filter) = thread.seccomp.newest() {
        other.seccomp.put(filter);
    }
}
