//! Making threads.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use abi::{Errno, Result};
use collections::{try_arc, try_box};
use machine::intrusive::Link;
use machine::page_table::PageTable;
use machine::sync::SpinLock;

use super::{Attachment, Estate, Name, State, Thread, ThreadRef, name_of, start};
use crate::attributes::{Attributes, CpuMask};
use crate::backend;
use crate::handshake::StateCell;
use crate::later::DropLater;
use crate::park::WAIT_LEVELS;
use crate::run_queue::Entity;
use crate::stats::Account;
use crate::timer_heap::Slot;

/// Everything a new thread starts with.
#[must_use = "a builder does nothing until spawned"]
pub struct ThreadBuilder {
    name: Name,
    extension: Option<Attachment>,
    page_table: Option<Arc<PageTable>>,
    memory: Option<Attachment>,
    attributes: Attributes,
    affinity: CpuMask,
    /// None: there was no memory for it, which [`ThreadBuilder::prepare`] tells.
    entry: Option<Box<dyn FnOnce() + Send>>,
}

impl core::fmt::Debug for ThreadBuilder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ThreadBuilder")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl ThreadBuilder {
    /// A thread that runs `entry` and then exits.
    pub fn new(name: &[u8], entry: impl FnOnce() + Send + 'static) -> Self {
        Self {
            name: name_of(name),
            extension: None,
            page_table: None,
            memory: None,
            attributes: Attributes::default(),
            affinity: CpuMask::ALL,
            entry: try_box(entry).map(|entry| entry as Box<_>).ok(),
        }
    }

    /// Attaches `extension` for the life of the thread.
    pub fn extension(mut self, extension: Attachment) -> Self {
        self.extension = Some(extension);
        self
    }

    /// Starts with this address space and its page table.
    pub fn memory(mut self, memory: Attachment, page_table: Arc<PageTable>) -> Self {
        self.memory = Some(memory);
        self.page_table = Some(page_table);
        self
    }

    /// Starts with these attributes.
    pub fn attributes(mut self, attributes: Attributes) -> Self {
        self.attributes = attributes;
        self
    }

    /// Starts with this affinity.
    pub fn affinity(mut self, affinity: CpuMask) -> Self {
        self.affinity = affinity;
        self
    }

    /// Makes the thread without letting it run: [`super::start`] does.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn prepare(mut self) -> Result<ThreadRef> {
        let entry = self.entry.take().ok_or(Errno::ENOMEM)?;
        let estate = backend::Estate::new(entry)?;
        self.build(backend::ThreadData::new(), estate)
    }

    fn build(self, data: backend::ThreadData, estate: backend::Estate) -> Result<ThreadRef> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let estate = DropLater::new(Estate {
            extension: self.extension,
            page_table: SpinLock::new(self.page_table),
            memory: SpinLock::new(self.memory),
            backend: estate,
        })?;
        let thread = try_arc(Thread {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            name: SpinLock::new(self.name),
            state: StateCell::from_parts(AtomicU8::new(State::Uninterruptible as u8)),
            interrupted: AtomicBool::new(false),
            killed: AtomicBool::new(false),
            attributes: SpinLock::new(self.attributes),
            affinity: AtomicU64::new(self.affinity.0),
            wait_links: [const { Link::new() }; WAIT_LEVELS],
            wait_depth: AtomicUsize::new(0),
            #[cfg(any(feature = "checks", debug_assertions))]
            evaluates_for: AtomicUsize::new(0),
            account: Account::default(),
            run_alarm_ns: AtomicU64::new(super::NO_ALARM),
            sleep_timer: Slot::new(),
            entity: Entity::new(),
            policy: AtomicU8::new(0),
            backend: data,
            estate,
        })?;
        thread.apply_attributes(self.attributes);
        Ok(thread)
    }

    /// Makes the thread and lets it run.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn spawn(self) -> Result<ThreadRef> {
        let thread = self.prepare()?;
        start(&thread);
        Ok(thread)
    }

    /// A thread for the flow that already runs here (an idle thread, a host test).
    pub(crate) fn adopt(name: &[u8]) -> ThreadRef {
        let estate = backend::Estate::adopted();
        let Ok(thread) = Self::new(name, || ()).build(backend::ThreadData::adopted(), estate)
        else {
            panic!("no memory for the thread of a CPU that starts");
        };
        thread.set_awake();
        thread
    }
}
