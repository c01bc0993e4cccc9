//! System V message queues (msgget(2)).

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::{Errno, Result};
use collections::{Vec, VecDeque};
use fs::Credentials;
use machine::sync::SpinLock;
use sched::WaitQueue;

use super::header::{Header, Permission};
use super::table::{Found, Object};
use super::{IpcNamespace, NO_WAIT, caller_pid, now_s};
use crate::task::pid::Pid;

/// A message too long is cut off (`MSG_NOERROR`).
pub const CUT: u32 = 0o10000;
/// Any type but the one given (`MSG_EXCEPT`).
pub const EXCEPT: u32 = 0o20000;
/// The message at an index, which stays (`MSG_COPY`).
pub const COPY: u32 = 0o40000;

/// A message.
#[derive(Debug)]
pub struct Message {
    /// Its type, above 0.
    pub kind: i64,
    /// Its text.
    pub bytes: Vec<u8>,
}

/// What a queue tells of itself; times in seconds of the real-time clock.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// Last sent to.
    pub sent_s: u64,
    /// Last received from.
    pub received_s: u64,
    /// Last changed.
    pub changed_s: u64,
    /// Bytes in it.
    pub bytes: u64,
    /// Messages in it.
    pub len: u64,
    /// Bytes there may be.
    pub most: u64,
    /// Who sent last.
    pub sender: Option<Arc<Pid>>,
    /// Who received last.
    pub receiver: Option<Arc<Pid>>,
}

/// A queue.
#[derive(Debug)]
pub struct Queue {
    header: Header,
    state: SpinLock<State>,
    /// For room.
    senders: WaitQueue,
    receivers: WaitQueue,
}

#[derive(Debug)]
struct State {
    status: Status,
    messages: VecDeque<Message>,
    is_removed: bool,
}

/// Which message msgrcv(2) is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    First,
    Kind(i64),
    NotKind(i64),
    /// The lowest type up to this.
    Lowest(i64),
}

impl Object for Queue {
    fn header(&self) -> &Header {
        &self.header
    }
}

/// msgget(2).
///
/// # Errors
/// As there.
pub fn get(
    namespace: &Arc<IpcNamespace>,
    caller: &Credentials,
    key: i32,
    flags: u32,
) -> Result<i32> {
    let permission = Permission::new(key, caller, flags);
    let settings = &namespace.settings;
    let limit = u64::from(settings.msgmnb.get());
    let make = |header| Ok(Queue::new(header, limit));
    let most = settings.msgmni.get();
    match namespace
        .queues
        .find_or_make(permission, flags, most, make)?
    {
        Found::New(new) => Ok(new.header.id()),
        Found::Old(old) => {
            namespace.check(&old.header, caller, flags)?;
            Ok(old.header.id())
        }
    }
}

impl Queue {
    pub(super) fn new(header: Header, most: u64) -> Self {
        Self {
            header,
            state: SpinLock::new(State {
                status: Status {
                    changed_s: now_s(),
                    most,
                    ..Status::default()
                },
                messages: VecDeque::new(),
                is_removed: false,
            }),
            senders: WaitQueue::new(),
            receivers: WaitQueue::new(),
        }
    }

    /// What it tells of itself.
    #[must_use]
    pub fn status(&self) -> Status {
        self.state.lock().status.clone()
    }

    /// Sets how many bytes there may be (`IPC_SET`).
    pub fn set_most(&self, most: u64) {
        let mut state = self.state.lock();
        state.status.most = most;
        state.status.changed_s = now_s();
        drop(state);
        self.senders.wake_all();
        self.receivers.wake_all();
    }

    /// msgsnd(2).
    ///
    /// # Errors
    /// `EAGAIN` by [`NO_WAIT`], `EIDRM`, `ENOMEM`; a restart code when interrupted.
    pub fn send(&self, namespace: &IpcNamespace, message: Message, flags: u32) -> Result<()> {
        let (pid, len) = (caller_pid(), message.bytes.len() as u64);
        let mut message = Some(message);
        let try_once = || {
            let mut state = self.state.lock();
            if state.is_removed {
                return Some(Err(Errno::EIDRM));
            }
            let status = &state.status;
            let has_room =
                status.bytes.saturating_add(len) <= status.most && status.len < status.most;
            if !has_room {
                return (flags & NO_WAIT != 0).then_some(Err(Errno::EAGAIN));
            }
            if let Err(error) = state.messages.try_reserve(1) {
                return Some(Err(error.into()));
            }
            if let Some(message) = message.take() {
                let _ = state.messages.push_back_within_capacity(message);
            }
            let status = &mut state.status;
            status.bytes += len;
            status.len += 1;
            status.sent_s = now_s();
            status.sender.clone_from(&pid);
            namespace.message_bytes.fetch_add(len, Ordering::Relaxed);
            namespace.messages.fetch_add(1, Ordering::Relaxed);
            Some(Ok(()))
        };
        let sent = self.senders.wait_interruptible(try_once);
        sent.map_err(no_hand)??;
        self.receivers.wake_all();
        Ok(())
    }

    /// msgrcv(2): the message, of which the caller takes up to `most` bytes.
    ///
    /// # Errors
    /// `ENOMSG` by [`NO_WAIT`], `E2BIG` without [`CUT`], `EIDRM`, `EINVAL`; a restart code when interrupted.
    pub fn receive(
        &self,
        namespace: &IpcNamespace,
        kind: i64,
        most: usize,
        flags: u32,
    ) -> Result<Message> {
        if flags & COPY != 0 {
            if flags & EXCEPT != 0 || flags & NO_WAIT == 0 {
                return Err(Errno::EINVAL);
            }
            return self.copy(kind, most, flags);
        }
        let which = Which::new(kind, flags);
        let pid = caller_pid();
        let try_once = || {
            let mut state = self.state.lock();
            if state.is_removed {
                return Some(Err(Errno::EIDRM));
            }
            let Some(index) = which.find(&state.messages) else {
                return (flags & NO_WAIT != 0).then_some(Err(Errno::ENOMSG));
            };
            if flags & CUT == 0 && state.messages.get(index)?.bytes.len() > most {
                return Some(Err(Errno::E2BIG));
            }
            let message = state.messages.remove(index)?;
            let len = message.bytes.len() as u64;
            let status = &mut state.status;
            status.bytes -= len;
            status.len -= 1;
            status.received_s = now_s();
            status.receiver.clone_from(&pid);
            namespace.message_bytes.fetch_sub(len, Ordering::Relaxed);
            namespace.messages.fetch_sub(1, Ordering::Relaxed);
            Some(Ok(message))
        };
        let received = self.receivers.wait_interruptible(try_once);
        let message = received.map_err(no_hand)??;
        self.senders.wake_all();
        Ok(message)
    }

    /// A copy of the message at `index`.
    fn copy(&self, index: i64, most: usize, flags: u32) -> Result<Message> {
        // Made without the lock, for as much as is to be copied.
        let mut bytes = Vec::new();
        let state = self.state.lock();
        let index = usize::try_from(index).map_err(|_| Errno::ENOMSG)?;
        let message = state.messages.get(index).ok_or(Errno::ENOMSG)?;
        if flags & CUT == 0 && message.bytes.len() > most {
            return Err(Errno::E2BIG);
        }
        bytes.try_extend_from_slice(&message.bytes)?;
        Ok(Message {
            kind: message.kind,
            bytes,
        })
    }

    /// Takes it away (`IPC_RMID`): who waits is told.
    pub fn remove(&self, namespace: &IpcNamespace) {
        if !namespace.queues.remove(self) {
            return;
        }
        let mut state = self.state.lock();
        state.is_removed = true;
        let gone = core::mem::take(&mut state.messages);
        let status = &state.status;
        namespace
            .message_bytes
            .fetch_sub(status.bytes, Ordering::Relaxed);
        namespace.messages.fetch_sub(status.len, Ordering::Relaxed);
        drop(state);
        drop(gone);
        self.senders.wake_all();
        self.receivers.wake_all();
    }
}

/// The call is made again after a signal, unless a handler runs.
fn no_hand(_: Errno) -> Errno {
    Errno::ERESTARTNOHAND
}

impl Which {
    fn new(kind: i64, flags: u32) -> Self {
        match kind {
            0 => Which::First,
            i64::MIN => Which::Lowest(i64::MAX),
            kind if kind < 0 => Which::Lowest(-kind),
            kind if flags & EXCEPT != 0 => Which::NotKind(kind),
            kind => Which::Kind(kind),
        }
    }

    /// Where in the queue it is.
    fn find(self, messages: &VecDeque<Message>) -> Option<usize> {
        let mut kinds = messages.iter().map(|message| message.kind);
        match self {
            Which::First => (!messages.is_empty()).then_some(0),
            Which::Kind(wanted) => kinds.position(|kind| kind == wanted),
            Which::NotKind(other) => kinds.position(|kind| kind != other),
            Which::Lowest(most) => {
                let low = kinds.enumerate().filter(|(_, kind)| *kind <= most);
                low.min_by_key(|(_, kind)| *kind).map(|(index, _)| index)
            }
        }
    }
}
