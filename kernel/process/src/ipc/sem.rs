//! System V semaphores (semget(2)): a [`Set`] and the operations on it, all of a call at once or none.
//!
//! Who cannot do its operations yet waits on the set's queue and tries again after each change. It is counted
//! meanwhile at the semaphore that it waits for.

mod state;

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::{Errno, Result};
use collections::Vec;
use fs::Credentials;
use machine::sync::SpinLock;
use sched::WaitQueue;

use self::state::{Attempt, State, Undos};
use super::header::{Header, Permission};
use super::table::{Found, Object};
use super::undo::UndoList;
use super::{IpcNamespace, NO_WAIT, add_within, caller_pid, now_s};
use crate::task::pid::Pid;

/// The highest value of a semaphore, and what may be undone of it at most.
pub const VALUE_MAX: i32 = 32767;
/// In an operation: undone when the process ends.
const UNDO: u32 = 0x1000;

/// One operation (`struct sembuf`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// Which semaphore.
    pub number: u16,
    /// What to add; 0 waits for zero.
    pub change: i16,
    /// [`NO_WAIT`], [`UNDO`].
    pub flags: u32,
}

impl Operation {
    /// Whether the end of the process undoes it.
    #[must_use]
    pub const fn is_undone(&self) -> bool {
        self.flags & UNDO != 0
    }
}

/// A semaphore.
#[derive(Debug, Clone, Default)]
pub struct Semaphore {
    /// Its value.
    pub value: i32,
    /// Who changed it last.
    pub last: Option<Arc<Pid>>,
    /// How many wait for it to grow.
    pub waiting: u32,
    /// How many wait for it to be zero.
    pub waiting_for_zero: u32,
}

/// When a set was used, in seconds of the real-time clock.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// The last operation.
    pub operated_s: u64,
    /// The last change.
    pub changed_s: u64,
}

/// A set of semaphores.
#[derive(Debug)]
pub struct Set {
    header: Header,
    len: usize,
    state: SpinLock<State>,
    changed: WaitQueue,
}

impl Object for Set {
    fn header(&self) -> &Header {
        &self.header
    }
}

/// semget(2).
///
/// # Errors
/// As there.
pub fn get(
    namespace: &Arc<IpcNamespace>,
    caller: &Credentials,
    key: i32,
    len: i32,
    flags: u32,
) -> Result<i32> {
    let settings = &namespace.settings;
    let len = u32::try_from(len).map_err(|_| Errno::EINVAL)?;
    if len > settings.semmsl() {
        return Err(Errno::EINVAL);
    }
    let make = |header| {
        if len == 0 {
            return Err(Errno::EINVAL);
        }
        let most = u64::from(settings.semmns());
        if !add_within(&namespace.semaphores, u64::from(len), most) {
            return Err(Errno::ENOSPC);
        }
        Set::new(header, len as usize).inspect_err(|_| {
            namespace
                .semaphores
                .fetch_sub(u64::from(len), Ordering::Relaxed);
        })
    };
    let permission = Permission::new(key, caller, flags);
    let most = settings.semmni();
    match namespace.sets.find_or_make(permission, flags, most, make)? {
        Found::New(new) => Ok(new.header.id()),
        Found::Old(old) => {
            if (old.len as u64) < u64::from(len) {
                return Err(Errno::EINVAL);
            }
            namespace.check(&old.header, caller, flags)?;
            Ok(old.header.id())
        }
    }
}

impl Set {
    pub(super) fn new(header: Header, len: usize) -> Result<Self> {
        let mut semaphores = Vec::try_with_capacity(len)?;
        for _ in 0..len {
            semaphores.try_push(Semaphore::default())?;
        }
        Ok(Self {
            header,
            len,
            state: SpinLock::new(State {
                semaphores,
                undos: Undos::default(),
                times: Times {
                    operated_s: 0,
                    changed_s: now_s(),
                },
            }),
            changed: WaitQueue::new(),
        })
    }

    /// How many semaphores it has.
    #[must_use]
    pub fn count(&self) -> usize {
        self.len
    }

    /// When it was used.
    #[must_use]
    pub fn times(&self) -> Times {
        self.state.lock().times
    }

    /// It was changed now (`IPC_SET`).
    pub fn note_change(&self) {
        self.state.lock().times.changed_s = now_s();
    }

    /// The semaphore `number`.
    ///
    /// # Errors
    /// `EINVAL` when there is none, `EIDRM`.
    pub fn semaphore(&self, number: i32) -> Result<Semaphore> {
        let index = self.index(number)?;
        let state = self.state.lock();
        state.semaphores.get(index).cloned().ok_or(Errno::EIDRM)
    }

    fn index(&self, number: i32) -> Result<usize> {
        let index = usize::try_from(number).map_err(|_| Errno::EINVAL)?;
        (index < self.len).then_some(index).ok_or(Errno::EINVAL)
    }

    /// The values of all (`GETALL`).
    ///
    /// # Errors
    /// `EIDRM`, `ENOMEM`.
    pub fn values(&self) -> Result<Vec<u16>> {
        let mut values = Vec::try_with_capacity(self.len)?;
        let state = self.state.lock();
        if state.semaphores.is_empty() {
            return Err(Errno::EIDRM);
        }
        for semaphore in &state.semaphores {
            values.try_push(u16::try_from(semaphore.value).unwrap_or(0))?;
        }
        Ok(values)
    }

    /// Sets one (`SETVAL`); nobody undoes anything of it any more.
    ///
    /// # Errors
    /// `EINVAL` when there is none, `ERANGE`, `EIDRM`.
    pub fn set_value(&self, number: i32, value: i32) -> Result<()> {
        if !(0..=VALUE_MAX).contains(&value) {
            return Err(Errno::ERANGE);
        }
        let index = self.index(number)?;
        self.assign(index..index + 1, |_| value)
    }

    /// Sets all (`SETALL`); nobody undoes anything any more.
    ///
    /// # Errors
    /// `ERANGE`, `EIDRM`.
    pub fn set_values(&self, values: &[u16]) -> Result<()> {
        if values.iter().any(|value| i32::from(*value) > VALUE_MAX) {
            return Err(Errno::ERANGE);
        }
        self.assign(0..self.len, |index| {
            values.get(index).copied().map_or(0, i32::from)
        })
    }

    fn assign(&self, range: core::ops::Range<usize>, value: impl Fn(usize) -> i32) -> Result<()> {
        let pid = caller_pid();
        let mut state = self.state.lock();
        if state.semaphores.is_empty() {
            return Err(Errno::EIDRM);
        }
        for index in range {
            state.undos.forget(index);
            let semaphore = &mut state.semaphores[index];
            semaphore.value = value(index);
            semaphore.last.clone_from(&pid);
        }
        state.times.changed_s = now_s();
        drop(state);
        self.changed.wake_all();
        Ok(())
    }

    /// semtimedop(2): does all operations, waiting for when they can be done, up to `deadline_ns` of the monotonic clock.
    /// `undo` is the caller's list, for those that want it.
    ///
    /// # Errors
    /// `EAGAIN` by [`NO_WAIT`] or at the deadline, `EFBIG`, `ERANGE`, `EIDRM`, `EINTR`, `ENOMEM`.
    pub fn operate(
        self: &Arc<Self>,
        operations: &[Operation],
        undo: Option<&Arc<UndoList>>,
        deadline_ns: Option<u64>,
    ) -> Result<()> {
        if operations
            .iter()
            .any(|op| usize::from(op.number) >= self.len)
        {
            return Err(Errno::EFBIG);
        }
        let undo = undo.filter(|_| operations.iter().any(Operation::is_undone));
        if let Some(list) = undo {
            self.keep_undo(list)?;
        }
        let number = undo.map(|list| list.number());
        let pid = caller_pid();
        let mut waits_for = None;
        let ended = self.changed.wait_interruptible_deadline(deadline_ns, || {
            let mut state = self.state.lock();
            state.count(waits_for.take(), false);
            if state.semaphores.is_empty() {
                return Some(Err(Errno::EIDRM));
            }
            match state.attempt(operations, number) {
                Err(errno) => Some(Err(errno)),
                Ok(Attempt::Done) => {
                    for op in operations {
                        state.semaphores[usize::from(op.number)]
                            .last
                            .clone_from(&pid);
                    }
                    state.times.operated_s = now_s();
                    Some(Ok(()))
                }
                Ok(Attempt::Blocked(index)) => {
                    let op = operations[index];
                    if op.flags & NO_WAIT != 0 {
                        return Some(Err(Errno::EAGAIN));
                    }
                    waits_for = Some(op);
                    state.count(waits_for, true);
                    None
                }
            }
        });
        self.state.lock().count(waits_for, false);
        match ended {
            Ok(Ok(())) => {
                if operations.iter().any(|op| op.change != 0) {
                    self.changed.wake_all();
                }
                Ok(())
            }
            Ok(Err(errno)) => Err(errno),
            Err(Errno::ETIMEDOUT) => Err(Errno::EAGAIN),
            Err(_) => Err(Errno::EINTR),
        }
    }

    /// Has a place for what `list` undoes.
    fn keep_undo(self: &Arc<Self>, list: &Arc<UndoList>) -> Result<()> {
        if self.state.lock().undos.get(list.number()).is_some() {
            return Ok(());
        }
        list.note(self)?;
        let mut none = Vec::try_with_capacity(self.len)?;
        for _ in 0..self.len {
            none.try_push(0)?;
        }
        let mut state = self.state.lock();
        if state.semaphores.is_empty() {
            return Err(Errno::EIDRM);
        }
        state.undos.insert(list.number(), none)?;
        Ok(())
    }

    /// Does what the list with this number undoes, which ends.
    pub(super) fn undo(&self, list: u64) {
        let pid = caller_pid();
        let mut state = self.state.lock();
        let Some(undo) = state.undos.remove(list) else {
            return;
        };
        for (semaphore, change) in state.semaphores.iter_mut().zip(&undo) {
            if *change != 0 {
                semaphore.value = (semaphore.value + i32::from(*change)).clamp(0, VALUE_MAX);
                semaphore.last.clone_from(&pid);
            }
        }
        state.times.operated_s = now_s();
        drop(state);
        drop(undo);
        self.changed.wake_all();
    }

    /// Takes it away (`IPC_RMID`): who waits is told.
    pub fn remove(&self, namespace: &IpcNamespace) {
        if !namespace.sets.remove(self) {
            return;
        }
        namespace
            .semaphores
            .fetch_sub(self.len as u64, Ordering::Relaxed);
        let mut state = self.state.lock();
        let gone = (
            core::mem::take(&mut state.semaphores),
            core::mem::take(&mut state.undos),
        );
        drop(state);
        drop(gone);
        self.changed.wake_all();
    }
}
