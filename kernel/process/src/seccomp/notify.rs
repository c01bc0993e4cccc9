//! [`Notifier`]: calls of which a filter leaves the decision to another process (seccomp_unotify(2)).
//!
//! The filter and the [`listener`](super::listener) share it. A caller enters its call and waits; who listens takes it, may
//! put files among the caller's descriptors, and answers. All of it is under one spin lock; the caller does to itself what
//! is asked of it.

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::{VecDeque, try_arc};
use fs::File;
use machine::sync::SpinLock;
use sched::WaitQueue;

use super::call::CallData;
use crate::own::Own;
use crate::rlimit::Resource;
use crate::task::numbers::PidNumber;
use crate::task::pid::Pid;
use crate::task::thread::Thread;

/// See the module.
#[derive(Debug)]
pub struct Notifier {
    state: SpinLock<State>,
    /// Who listens waits here, for calls and for files to be placed.
    for_listener: WaitQueue,
    /// Callers wait here.
    for_callers: WaitQueue,
    /// Whether only what is fatal takes a caller away once its call was received
    /// (`SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`).
    is_patient: bool,
}

#[derive(Debug)]
struct State {
    /// Somebody can listen.
    is_open: bool,
    /// No thread has the filter any more.
    is_abandoned: bool,
    next_id: u64,
    calls: VecDeque<Pending>,
}

#[derive(Debug)]
struct Pending {
    id: u64,
    caller: Arc<Pid>,
    call: CallData,
    stage: Stage,
    additions: VecDeque<Arc<Addition>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    New,
    Received,
    Answered(Answer),
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is made (`SECCOMP_USER_NOTIF_FLAG_CONTINUE`).
    GoOn,
    /// It returns this.
    Value(i64),
}

/// A file that is to be among the caller's (`SECCOMP_IOCTL_NOTIF_ADDFD`).
#[derive(Debug)]
pub(super) struct Addition {
    pub(super) file: Arc<File>,
    /// The number that it is to have.
    pub(super) number: Option<i32>,
    pub(super) close_on_exec: bool,
    /// The number that it gets is the answer, too.
    pub(super) answers: bool,
    result: SpinLock<Option<Result<i32>>>,
}

impl Addition {
    pub(super) fn new(
        file: Arc<File>,
        number: Option<i32>,
        close_on_exec: bool,
        answers: bool,
    ) -> Result<Arc<Self>> {
        Ok(try_arc(Self {
            file,
            number,
            close_on_exec,
            answers,
            result: SpinLock::new(None),
        })?)
    }
}

/// A call that was received.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) id: u64,
    pub(super) caller: Arc<Pid>,
    pub(super) call: CallData,
}

/// What a caller is woken for.
enum Next {
    Place(Arc<Addition>),
    Answer(Answer),
    /// From now on it waits otherwise.
    WaitOtherwise,
}

/// What can be waited for on a listener.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Readiness {
    pub(super) has_new: bool,
    pub(super) has_received: bool,
    pub(super) is_abandoned: bool,
}

impl State {
    fn find(&mut self, id: u64) -> Option<&mut Pending> {
        self.calls.iter_mut().find(|pending| pending.id == id)
    }

    /// What is next for the caller of `id`, which waits patiently or not.
    fn next(&mut self, id: u64, is_patient: bool, waits_patiently: bool) -> Option<Next> {
        let pending = self.find(id)?;
        if let Some(addition) = pending.additions.pop_front() {
            return Some(Next::Place(addition));
        }
        match pending.stage {
            Stage::Answered(answer) => Some(Next::Answer(answer)),
            Stage::Received if is_patient && !waits_patiently => Some(Next::WaitOtherwise),
            Stage::New | Stage::Received => None,
        }
    }
}

impl Notifier {
    /// One that is listened to.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(is_patient: bool) -> Result<Arc<Self>> {
        let mut first = [0; 8];
        fs::random::fill(&mut first);
        Ok(try_arc(Self {
            state: SpinLock::new(State {
                is_open: true,
                is_abandoned: false,
                next_id: u64::from_ne_bytes(first),
                calls: VecDeque::new(),
            }),
            for_listener: WaitQueue::new(),
            for_callers: WaitQueue::new(),
            is_patient,
        })?)
    }

    pub(super) fn is_open(&self) -> bool {
        self.state.lock().is_open
    }

    pub(super) fn listener_queue(&self) -> &WaitQueue {
        &self.for_listener
    }

    /// No thread has the filter any more.
    pub(super) fn abandon(&self) {
        self.state.lock().is_abandoned = true;
        self.for_listener.wake_all();
    }

    /// Nobody listens any more: calls fail as if they were not there.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.is_open = false;
        for pending in state.calls.iter_mut() {
            if !matches!(pending.stage, Stage::Answered(_)) {
                let errno = Errno::ENOSYS.to_return_value().cast_signed();
                pending.stage = Stage::Answered(Answer::Value(errno));
            }
        }
        drop(state);
        self.for_callers.wake_all();
    }

    /// Asks about `call`, of the calling thread.
    ///
    /// # Errors
    /// `ENOSYS` when nobody listens, `ERESTARTSYS`, `ENOMEM`.
    pub(super) fn ask(&self, thread: &Thread, own: &mut Own, call: &CallData) -> Result<Answer> {
        let id = self.enter(thread.read_pid(), call)?;
        let answer = self.wait(thread, own, id);
        let mut state = self.state.lock();
        let at = state.calls.iter().position(|pending| pending.id == id);
        let gone = at.and_then(|at| state.calls.remove(at));
        drop(state);
        let left = gone.map(|gone| gone.additions).unwrap_or_default();
        for addition in left.iter() {
            *addition.result.lock() = Some(Err(Errno::ESRCH));
        }
        self.for_listener.wake_all();
        answer
    }

    fn enter(&self, caller: Arc<Pid>, call: &CallData) -> Result<u64> {
        let mut state = self.state.lock();
        if !state.is_open {
            return Err(Errno::ENOSYS);
        }
        let id = state.next_id;
        state.calls.try_push_back(Pending {
            id,
            caller,
            call: *call,
            stage: Stage::New,
            additions: VecDeque::new(),
        })?;
        state.next_id = id.wrapping_add(1);
        drop(state);
        self.for_listener.wake_all();
        Ok(id)
    }

    fn wait(&self, thread: &Thread, own: &mut Own, id: u64) -> Result<Answer> {
        let mut is_deaf = false;
        loop {
            let look = || self.state.lock().next(id, self.is_patient, is_deaf);
            let next = if is_deaf {
                let next = thread.wait_killable(&self.for_callers, look);
                next.ok_or(Errno::ERESTARTSYS)
            } else {
                self.for_callers.wait_interruptible(look)
            };
            match next {
                Ok(Next::Answer(answer)) => return Ok(answer),
                Ok(Next::Place(addition)) => self.place(thread, own, id, &addition),
                Ok(Next::WaitOtherwise) => is_deaf = true,
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Puts a file among the caller's.
    fn place(&self, thread: &Thread, own: &mut Own, id: u64, addition: &Addition) {
        let limit = thread.process().limits().soft(Resource::OpenFiles);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let (file, close_on_exec) = (addition.file.clone(), addition.close_on_exec);
        let result = match addition.number {
            None => own.files.insert(file, close_on_exec, limit),
            Some(fd) => own
                .files
                .replace(fd, file, close_on_exec, limit)
                .map(|old| {
                    if let Some(old) = old {
                        // As with dup2(2), nobody hears of it.
                        let _ = own.files.finish_close(&old);
                    }
                    fd
                }),
        };
        if addition.answers
            && let Some(pending) = self.state.lock().find(id)
        {
            pending.stage = match result {
                Ok(fd) => Stage::Answered(Answer::Value(fd.into())),
                Err(_) => Stage::Received,
            };
        }
        *addition.result.lock() = Some(result);
        self.for_listener.wake_all();
    }

    /// Takes the oldest new call, once there is one.
    ///
    /// # Errors
    /// `ENOENT` when none can come any more, `ERESTARTSYS`.
    pub(super) fn receive(&self) -> Result<Received> {
        let taken = self.for_listener.wait_interruptible(|| {
            let mut state = self.state.lock();
            let mut calls = state.calls.iter_mut();
            if let Some(pending) = calls.find(|pending| pending.stage == Stage::New) {
                pending.stage = Stage::Received;
                return Some(Ok(Received {
                    id: pending.id,
                    caller: pending.caller.clone(),
                    call: pending.call,
                }));
            }
            state.is_abandoned.then_some(Err(Errno::ENOENT))
        })??;
        self.for_listener.wake_all();
        if self.is_patient {
            self.for_callers.wake_all();
        }
        Ok(taken)
    }

    /// A call that could not be handed over is new again.
    pub(super) fn give_back(&self, id: u64) {
        if let Some(pending) = self.state.lock().find(id)
            && pending.stage == Stage::Received
        {
            pending.stage = Stage::New;
        }
        self.for_listener.wake_all();
    }

    /// Answers a call that was received.
    ///
    /// # Errors
    /// `ENOENT` when it is gone, `EINPROGRESS` when it was not received or has been answered.
    pub(super) fn answer(&self, id: u64, answer: Answer) -> Result<()> {
        let mut state = self.state.lock();
        let pending = state.find(id).ok_or(Errno::ENOENT)?;
        if pending.stage != Stage::Received {
            return Err(Errno::EINPROGRESS);
        }
        pending.stage = Stage::Answered(answer);
        drop(state);
        self.for_callers.wake_all();
        Ok(())
    }

    /// Whether a call waits for its answer.
    pub(super) fn is_received(&self, id: u64) -> bool {
        let mut state = self.state.lock();
        state
            .find(id)
            .is_some_and(|pending| pending.stage == Stage::Received)
    }

    /// Has the caller of `id` take a file; the number that it gives it.
    ///
    /// # Errors
    /// As [`Self::answer`]; `EBUSY` when a file that answers is not the only one, `ERESTARTSYS`, and what the caller meets.
    pub(super) fn add_file(&self, id: u64, addition: &Arc<Addition>) -> Result<i32> {
        {
            let mut state = self.state.lock();
            let pending = state.find(id).ok_or(Errno::ENOENT)?;
            if pending.stage != Stage::Received {
                return Err(Errno::EINPROGRESS);
            }
            if addition.answers && !pending.additions.is_empty() {
                return Err(Errno::EBUSY);
            }
            pending.additions.try_push_back(addition.clone())?;
            if addition.answers {
                // The one answer there is; what it is, the caller finds out.
                pending.stage = Stage::Answered(Answer::Value(0));
            }
        }
        self.for_callers.wake_all();
        let result = || *addition.result.lock();
        match self.for_listener.wait_interruptible(result) {
            Ok(result) => result,
            Err(interrupted) => {
                let mut state = self.state.lock();
                if let Some(pending) = state.find(id) {
                    pending
                        .additions
                        .retain(|other| !Arc::ptr_eq(other, addition));
                }
                drop(state);
                // It may have been placed meanwhile.
                result().unwrap_or(Err(interrupted))
            }
        }
    }

    pub(super) fn readiness(&self) -> Readiness {
        let state = self.state.lock();
        let has = |stage| state.calls.iter().any(|pending| pending.stage == stage);
        Readiness {
            has_new: has(Stage::New),
            has_received: has(Stage::Received),
            is_abandoned: state.is_abandoned,
        }
    }

    /// What the reader's PID namespace calls the thread of a call; 0 when it does not see it.
    pub(super) fn shown(reader: &Thread, received: &Received) -> PidNumber {
        reader.process().shown(&received.caller)
    }
}
