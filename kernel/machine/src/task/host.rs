//! Host double: each task is a host thread, and a switch hands a baton from one to the other.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::cell::RefCell;
use std::sync::{Condvar, Mutex, PoisonError};

use crate::frame::OutOfMemory;

std::thread_local! {
    static CURRENT: RefCell<Option<Arc<Task>>> = const { RefCell::new(None) };
}

/// A host thread that runs only while it has the baton.
pub struct Task {
    entry: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    has_baton: Mutex<bool>,
    handed_over: Condvar,
}

impl core::fmt::Debug for Task {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Task")
    }
}

impl Task {
    fn with_entry(entry: Option<Box<dyn FnOnce() + Send>>) -> Arc<Task> {
        Arc::new(Task {
            entry: Mutex::new(entry),
            has_baton: Mutex::new(false),
            handed_over: Condvar::new(),
        })
    }

    /// A task that will run `entry` when first switched to.
    ///
    /// # Errors
    /// None on the host.
    pub fn new(entry: Box<dyn FnOnce() + Send>) -> Result<Arc<Task>, OutOfMemory> {
        Ok(Task::with_entry(Some(entry)))
    }

    /// The calling host thread as a task.
    #[must_use]
    pub fn adopt_current() -> Arc<Task> {
        let task = Task::with_entry(None);
        CURRENT.set(Some(Arc::clone(&task)));
        task
    }

    /// Hands the baton to `self` and waits until it comes back. The reference is consumed: what is
    /// left on the stack of a task that never comes back would leak.
    ///
    /// # Panics
    /// When the calling thread is not a task.
    pub fn switch_to(self: Arc<Self>) {
        let me = CURRENT
            .with_borrow(Clone::clone)
            .expect("switch_to from a host thread that is not a task; call adopt_current first");
        if Arc::ptr_eq(&me, &self) {
            return;
        }
        let entry = self
            .entry
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(entry) = entry {
            let task = Arc::clone(&self);
            std::thread::spawn(move || {
                CURRENT.set(Some(task));
                entry();
            });
        } else {
            *self
                .has_baton
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = true;
            self.handed_over.notify_one();
        }
        let mut mine = me.has_baton.lock().unwrap_or_else(PoisonError::into_inner);
        while !*mine {
            mine = me
                .handed_over
                .wait(mine)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *mine = false;
    }
}
