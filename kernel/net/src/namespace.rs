//! [`NetNamespace`]: a network of its own (network_namespaces(7)): interfaces, addresses, sockets' ports, abstract names.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use abi::Result;
use collections::{try_arc, try_box};
use fs::UserNamespace;
use machine::sync::{SpinGuard, SpinLock};
use sched::timer::Timer;

use crate::inet::stack::Stack;
use crate::inet::worker;

/// Packets that are handed on, and deadlines that are met, before others get the lock.
const BATCH: usize = 64;

/// See the module. There is a stack when somebody has asked for it.
#[derive(Debug)]
pub struct NetNamespace {
    /// `None` for the initial one.
    ino: Option<u32>,
    owner: UserNamespace,
    stack: SpinLock<Option<Box<Stack>>>,
    clock: SpinLock<Option<Arc<Timer>>>,
    /// When the timer fires; `u64::MAX` when it is not armed. The handler of its interrupt has it, too.
    armed_ns: Arc<AtomicU64>,
    is_known: AtomicBool,
}

/// The network that somebody is in. To be in the initial one costs nothing, as nobody counts who is.
#[derive(Debug, Clone, Default)]
pub struct Network(Option<Arc<NetNamespace>>);

impl Network {
    /// A namespace that was made.
    #[must_use]
    pub fn of(namespace: Arc<NetNamespace>) -> Network {
        Network(namespace.ino.map(|_| namespace))
    }

    /// Its number; `None` for the initial one.
    #[must_use]
    pub fn ino(&self) -> Option<u32> {
        self.0.as_ref().and_then(|namespace| namespace.ino)
    }

    /// The user namespace whose capabilities count in it.
    #[must_use]
    pub fn owner(&self) -> UserNamespace {
        let own = self.0.as_ref().map(|namespace| namespace.owner.clone());
        own.unwrap_or(UserNamespace::INITIAL)
    }

    /// The namespace.
    ///
    /// # Errors
    /// `ENOMEM`, for who is the first to ask for the initial one.
    pub fn get(&self) -> Result<Arc<NetNamespace>> {
        match &self.0 {
            Some(namespace) => Ok(namespace.clone()),
            None => NetNamespace::initial(),
        }
    }
}

static INITIAL: SpinLock<Option<Arc<NetNamespace>>> = SpinLock::new(None);

impl NetNamespace {
    /// The initial namespace.
    ///
    /// # Errors
    /// `ENOMEM`, for who is the first to ask.
    pub fn initial() -> Result<Arc<NetNamespace>> {
        let mut initial = INITIAL.lock();
        if let Some(initial) = &*initial {
            return Ok(initial.clone());
        }
        let made = Self::make(None, UserNamespace::INITIAL)?;
        Ok(initial.insert(made).clone())
    }

    /// A namespace that has nothing but its loopback interface, which is down.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(owner: &UserNamespace) -> Result<Arc<NetNamespace>> {
        Self::make(Some(fs::next_namespace_id()), owner.clone())
    }

    fn make(ino: Option<u32>, owner: UserNamespace) -> Result<Arc<NetNamespace>> {
        Ok(try_arc(NetNamespace {
            ino,
            owner,
            stack: SpinLock::new(None),
            clock: SpinLock::new(None),
            armed_ns: try_arc(AtomicU64::new(u64::MAX))?,
            is_known: AtomicBool::new(false),
        })?)
    }

    /// Its number; `None` for the initial one.
    #[must_use]
    pub fn ino(&self) -> Option<u32> {
        self.ino
    }

    /// The user namespace whose capabilities count in it.
    #[must_use]
    pub fn owner(&self) -> &UserNamespace {
        &self.owner
    }

    /// Makes the stack, if there is none.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn start(self: &Arc<Self>) -> Result<()> {
        if self.is_known.load(Ordering::Acquire) {
            return Ok(());
        }
        let armed_ns = self.armed_ns.clone();
        let timer = try_box(move || {
            armed_ns.store(u64::MAX, Ordering::Release);
            worker::wake();
        })?;
        let timer = try_arc(Timer::new(timer)?)?;
        let stack = try_box(Stack::new()?)?;
        worker::add(self)?;
        self.clock.lock().get_or_insert(timer);
        self.stack.lock().get_or_insert(stack);
        self.is_known.store(true, Ordering::Release);
        Ok(())
    }

    /// Looks at the stack, or changes what makes no packets.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn look<R>(self: &Arc<Self>, look: impl FnOnce(&mut Stack) -> R) -> Result<R> {
        self.start()?;
        let mut stack = self.stack.lock();
        let stack = stack.as_mut().ok_or(abi::Errno::ENOMEM)?;
        Ok(look(stack))
    }

    /// Changes the stack, and does what follows: hands on packets, sets the timer, wakes who waits.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn run<R>(self: &Arc<Self>, act: impl FnOnce(&mut Stack, u64) -> R) -> Result<R> {
        self.start()?;
        let now = sched::clock::monotonic_ns();
        let mut guard = self.stack.lock();
        let stack = guard.as_mut().ok_or(abi::Errno::ENOMEM)?;
        let result = act(stack, now);
        self.finish(guard, now);
        Ok(result)
    }

    fn finish<'a>(&'a self, mut guard: SpinGuard<'a, Option<Box<Stack>>>, now: u64) {
        loop {
            let Some(stack) = guard.as_mut() else { return };
            let has_more = stack.forward(now, BATCH);
            self.arm(stack.deadline());
            let woken = core::mem::take(&mut stack.woken);
            drop(guard);
            woken.wake();
            if !has_more {
                return;
            }
            sched::cond_resched();
            guard = self.stack.lock();
        }
    }

    /// Does what is due. For the worker.
    pub(crate) fn expire(self: &Arc<Self>) {
        loop {
            let now = sched::clock::monotonic_ns();
            let mut guard = self.stack.lock();
            let Some(stack) = guard.as_mut() else { return };
            let has_more = stack.expire(now, BATCH);
            self.finish(guard, now);
            if !has_more {
                return;
            }
            sched::cond_resched();
        }
    }

    /// Has the timer fire at `deadline` at the latest. Under the stack's lock.
    fn arm(&self, deadline: Option<u64>) {
        let Some(deadline) = deadline else { return };
        if deadline < self.armed_ns.load(Ordering::Acquire) {
            self.armed_ns.store(deadline, Ordering::Release);
            if let Some(timer) = &*self.clock.lock() {
                timer.arm(deadline);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_have_numbers_and_owners() {
        let one = NetNamespace::new(&UserNamespace::INITIAL).unwrap();
        let other = NetNamespace::new(&UserNamespace::INITIAL).unwrap();
        assert_ne!(one.ino(), other.ino());
        let initial = NetNamespace::initial().unwrap();
        assert!(Arc::ptr_eq(&initial, &NetNamespace::initial().unwrap()));
        assert_eq!(
            (initial.ino(), initial.owner()),
            (None, &UserNamespace::INITIAL)
        );
    }
}
