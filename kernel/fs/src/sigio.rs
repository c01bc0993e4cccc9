//! Signal-driven I/O: files with `O_ASYNC` send a signal when something becomes ready (fcntl(2), "Managing signals").
//!
//! A kernel thread waits, as a program would, on an epoll instance that watches all such files for new edges; a
//! wake-up happens in interrupt context, where no signal can be sent.

use alloc::boxed::Box;
use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::{try_arc, try_box};
use machine::sync::SpinLock;
use sched::thread::ThreadBuilder;

use crate::cred::Credentials;
use crate::epoll::{Epoll, Interest, Mode};
use crate::file::File;
use crate::job_control::{PidRef, job_control};
use crate::poll::Events;

/// Who gets the signal. Those who are gone get none, whoever has their number now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum IoOwner {
    /// Nobody.
    #[default]
    Nobody,
    /// One thread (`F_OWNER_TID`).
    Thread(PidRef),
    /// A process.
    Process(PidRef),
    /// A process group.
    Group(PidRef),
}

/// What a file's owner is to be told, and on whose behalf.
#[derive(Debug, Clone)]
pub struct IoSignal {
    /// Who gets it.
    pub owner: IoOwner,
    /// Which signal (`F_SETSIG`); 0: SIGIO without details.
    pub signal: u8,
    /// Who set the owner: it must be allowed to signal it.
    pub credentials: Arc<Credentials>,
    /// The descriptor that `O_ASYNC` was set with.
    pub fd: i32,
    /// Events for `si_band`.
    pub events: Events,
}

/// The settings of one open file description.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    signal: SpinLock<Option<Box<IoSignal>>>,
}

/// The instance that the thread waits on; made with the first file.
static WATCHED: SpinLock<Option<Arc<File>>> = SpinLock::new(None);

/// What is watched for. Room to write is not: a socket nearly always has some.
fn interest() -> Interest {
    Interest {
        events: Events::IN | Events::PRI | Events::RDHUP,
        mode: Mode::EDGE,
        data: 0,
    }
}

fn instance() -> Result<Arc<File>> {
    if let Some(file) = &*WATCHED.lock() {
        return Ok(file.clone());
    }
    let new = Epoll::create(&try_arc(Credentials::root())?)?;
    let mut watched = WATCHED.lock();
    if let Some(file) = &*watched {
        return Ok(file.clone());
    }
    *watched = Some(new.clone());
    drop(watched);
    let waited = new.clone();
    ThreadBuilder::new(b"sigio", move || attend(&waited))
        .spawn()
        .inspect_err(|_| drop(WATCHED.lock().take()))?;
    Ok(new)
}

/// Sends signals for what becomes ready, for ever.
fn attend(instance: &File) {
    let Some(epoll) = instance.downcast::<Epoll>() else {
        return;
    };
    loop {
        // A kernel thread gets no signals, so only memory can fail it.
        let _ = epoll.wait_files(|file, events| {
            // By value: a copy of the box would take memory, which this thread has no way to do without.
            if let Some(mut signal) = file.io_signal().get() {
                signal.events = events;
                job_control().signal_io(&signal);
            }
        });
    }
}

impl Settings {
    /// Who is signalled, and how.
    pub(crate) fn get(&self) -> Option<IoSignal> {
        self.signal.lock().as_deref().cloned()
    }

    /// Changes who is signalled, and how.
    pub(crate) fn change(
        &self,
        credentials: &Arc<Credentials>,
        change: impl FnOnce(&mut IoSignal),
    ) -> Result<()> {
        let mut new = Some(try_box(IoSignal {
            owner: IoOwner::Nobody,
            signal: 0,
            credentials: credentials.clone(),
            fd: -1,
            events: Events::empty(),
        })?);
        let mut signal = self.signal.lock();
        if signal.is_none() {
            *signal = new.take();
        }
        if let Some(settings) = signal.as_mut() {
            change(settings);
        }
        drop(signal);
        drop(new);
        Ok(())
    }

    /// Starts or stops watching `file`, which these settings are of.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn watch(file: &Arc<File>, fd: i32, on: bool) -> Result<()> {
        let instance = instance()?;
        let epoll: &Epoll = instance.downcast().ok_or(Errno::EINVAL)?;
        if !on {
            return match epoll.remove(0, file) {
                Err(Errno::ENOENT) | Ok(()) => Ok(()),
                other => other,
            };
        }
        file.io_signal()
            .change(file.credentials(), |signal| signal.fd = fd)?;
        // What is ready already is no news.
        match epoll.add_for_news(0, file, interest()) {
            Err(Errno::EEXIST) | Ok(()) => Ok(()),
            other => other,
        }
    }
}
