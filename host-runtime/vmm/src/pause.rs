//! Stops and starts the threads that run the guest's CPUs.
//!
//! [`Gate`] is what all of them look at before they enter the guest. A CPU that is in the guest is brought out by a
//! signal, whose handler does nothing: KVM_RUN ends with EINTR. One that was just about to enter takes the signal
//! too early and enters all the same, so it is sent again until the CPU has stopped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jail::seccomp::stop_signal;
use libc::{c_int, c_void, siginfo_t};
use vmm_sys_util::signal::{Killable, register_signal_handler};

use super::error::VmmError;

/// How long the CPUs may take to stop.
const STOP_BOUND: Duration = Duration::from_secs(5);
/// How long until the signal is sent again.
const AGAIN: Duration = Duration::from_millis(1);

extern "C" fn brought_out(_: c_int, _: *mut siginfo_t, _: *mut c_void) {}

/// Has the signal do nothing but interrupt; before the CPUs' threads are started.
///
/// # Errors
/// When the kernel refuses.
pub fn prepare() -> Result<(), VmmError> {
    register_signal_handler(stop_signal(), brought_out).map_err(|error| VmmError::Io {
        what: "prepare to stop CPUs",
        source: error.into(),
    })
}

/// What the CPUs' threads look at before each entry to the guest.
#[derive(Debug, Default)]
pub struct Gate {
    closed: AtomicBool,
    /// How many stand before it.
    waiting: Mutex<usize>,
    changed: Condvar,
}

impl Gate {
    /// Passes; waits while it is closed.
    pub fn pass(&self) {
        if !self.closed.load(Ordering::Acquire) {
            return;
        }
        let mut waiting = self.lock();
        *waiting += 1;
        self.changed.notify_all();
        while self.closed.load(Ordering::Acquire) {
            let waited = self.changed.wait(waiting);
            waiting = waited.unwrap_or_else(PoisonError::into_inner);
        }
        *waiting -= 1;
    }

    /// Stands before it for good: the thread's CPU has ended.
    pub fn leave(&self) {
        *self.lock() += 1;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The threads of the CPUs, which all look at one gate.
#[derive(Debug)]
pub struct CpuThreads {
    gate: std::sync::Arc<Gate>,
    threads: Vec<JoinHandle<()>>,
}

impl CpuThreads {
    /// These threads, which pass this gate.
    #[must_use]
    pub fn new(gate: std::sync::Arc<Gate>, threads: Vec<JoinHandle<()>>) -> Self {
        Self { gate, threads }
    }

    /// Stops all of them; when one does not stop, all run on.
    ///
    /// # Errors
    /// A sentence for the owner.
    pub fn stop(&self) -> Result<(), String> {
        let begun = Instant::now();
        self.gate.closed.store(true, Ordering::Release);
        let mut waiting = self.gate.lock();
        while *waiting + self.ended() < self.threads.len() {
            if begun.elapsed() > STOP_BOUND {
                let (stopped, all) = (*waiting, self.threads.len());
                drop(waiting);
                self.start();
                let bound = STOP_BOUND.as_secs();
                return Err(format!("{stopped} of {all} CPUs stopped within {bound} s"));
            }
            for thread in &self.threads {
                // One that has ended needs no signal.
                let _ = thread.kill(stop_signal());
            }
            let waited = self.gate.changed.wait_timeout(waiting, AGAIN);
            waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    /// How many threads have ended, with the machine.
    fn ended(&self) -> usize {
        let ended = self.threads.iter().filter(|thread| thread.is_finished());
        ended.count()
    }

    /// Lets them run on.
    pub fn start(&self) {
        // Under the lock, so that no thread looks just before and waits just after.
        let _waiting = self.gate.lock();
        self.gate.closed.store(false, Ordering::Release);
        self.gate.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn a_thread_that_blocks_is_brought_to_the_gate_and_let_go() {
        prepare().expect("a handler");
        let gate = Arc::new(Gate::default());
        let rounds = Arc::new(AtomicU64::new(0));
        let over = Arc::new(AtomicBool::new(false));
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let thread = {
            let (gate, rounds, over) = (gate.clone(), rounds.clone(), over.clone());
            std::thread::spawn(move || {
                while !over.load(Ordering::Acquire) {
                    gate.pass();
                    // Stands for KVM_RUN: it ends when a signal comes, or with the test.
                    let _ = rustix::io::read(&reader, &mut [0; 1]);
                    rounds.fetch_add(1, Ordering::AcqRel);
                }
            })
        };
        let threads = CpuThreads::new(gate, vec![thread]);
        for _ in 0..20 {
            threads.stop().expect("it stops");
            let before = rounds.load(Ordering::Acquire);
            std::thread::yield_now();
            assert_eq!(rounds.load(Ordering::Acquire), before);
            threads.start();
        }
        over.store(true, Ordering::Release);
        drop(writer);
        for thread in threads.threads {
            thread.join().expect("no panic");
        }
    }
}
