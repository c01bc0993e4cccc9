//! Files in flight: sent over a unix socket and not received yet (`SCM_RIGHTS`).
//!
//! They are counted for who sent them. Sockets that are held by nobody but queues of sockets that are
//! themselves in flight are found by [`collect`], and their queues emptied. What goes is dropped one at a
//! time, however deep sockets lie in each other.
//!
//! `collect` allocates nothing: what it finds out is written into the sockets ([`Mark`]), and the list of
//! sockets with files is sorted in place, those that can be reached to the front. It looks at each file twice.
//!
//! Locking: [`TAKING`] (sleeping) is held while files leave a queue, and while garbage is looked for: a file
//! that changes hands between two looks would seem to be lost. Putting files in needs no such care, as
//! who puts them in holds them, too. `COUNTS`, `LIST` and `GRAVE` are leaves.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use abi::Result;
use collections::{Map, Vec, try_box};
use fs::{File, Kuid};
use machine::sync::SpinLock;
use sched::thread::ThreadBuilder;
use sched::{Mutex, WaitQueue};

use super::sock::Sock;
use super::socket::UnixSocket;
use crate::file::SocketFile;

/// Held while files are taken out of a queue.
pub(super) static TAKING: Mutex<()> = Mutex::new(());
/// Files in flight by the user who sent them.
static COUNTS: SpinLock<Map<Kuid, usize>> = SpinLock::new(Map::new());
static TOTAL: AtomicUsize = AtomicUsize::new(0);
/// How many make it worth looking for garbage at once.
static ENOUGH: AtomicUsize = AtomicUsize::new(LEAST);
const LEAST: usize = 256;
static LIST: SpinLock<List> = SpinLock::new(List {
    socks: Vec::new(),
    holes: 0,
    is_sorting: false,
});
static GRAVE: SpinLock<Grave> = SpinLock::new(Grave {
    first: None,
    is_open: false,
});
/// The number of the look that marks are of.
static LOOK: AtomicUsize = AtomicUsize::new(0);

/// A socket was closed while files were in flight: it may have been the last way to some.
static CLOSED: AtomicBool = AtomicBool::new(false);
static COLLECTOR_RUNS: AtomicBool = AtomicBool::new(false);
static COLLECTOR: WaitQueue = WaitQueue::new();
/// Time between two looks that closed sockets cause.
const PAUSE_NS: u64 = 10_000_000;

/// How many files of user `uid` are in flight.
#[must_use]
pub fn files_in_flight(uid: Kuid) -> usize {
    COUNTS.lock().get(&uid).copied().unwrap_or(0)
}

#[derive(Debug)]
struct Parcel {
    files: Vec<Arc<File>>,
    uid: Kuid,
    next: Option<Box<Parcel>>,
}

/// Files in a message.
#[derive(Debug)]
pub(super) struct InFlight(Option<Box<Parcel>>);

impl InFlight {
    /// `None` for no files.
    pub(super) fn new(files: Vec<Arc<File>>, uid: Kuid) -> Result<Option<InFlight>> {
        if files.is_empty() {
            return Ok(None);
        }
        let count = files.len();
        let parcel = try_box(Parcel {
            files,
            uid,
            next: None,
        })?;
        let mut counts = COUNTS.lock();
        match counts.get_mut(&uid) {
            Some(known) => *known += count,
            None => _ = counts.try_insert(uid, count)?,
        }
        drop(counts);
        TOTAL.fetch_add(count, Ordering::Relaxed);
        Ok(Some(InFlight(Some(parcel))))
    }

    pub(super) fn each(&self, act: &mut impl FnMut(&Arc<File>)) {
        let files = self.0.iter().flat_map(|parcel| parcel.files.iter());
        files.for_each(act);
    }

    /// Further handles to the files.
    pub(super) fn share(&self) -> Result<Vec<Arc<File>>> {
        let mut all = Vec::new();
        for file in self.0.iter().flat_map(|parcel| parcel.files.iter()) {
            all.try_push(file.clone())?;
        }
        Ok(all)
    }

    /// The files, for who receives them.
    pub(super) fn into_files(mut self) -> Vec<Arc<File>> {
        match self.0.take() {
            Some(mut parcel) => {
                uncount(&parcel);
                core::mem::take(&mut parcel.files)
            }
            None => Vec::new(),
        }
    }
}

fn uncount(parcel: &Parcel) {
    let count = parcel.files.len();
    let mut counts = COUNTS.lock();
    if let Some(left) = counts.get_mut(&parcel.uid) {
        *left = left.saturating_sub(count);
        if *left == 0 {
            counts.remove(&parcel.uid);
        }
    }
    drop(counts);
    TOTAL.fetch_sub(count, Ordering::Relaxed);
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(parcel) = self.0.take() {
            uncount(&parcel);
            bury(parcel);
        }
    }
}

struct Grave {
    first: Option<Box<Parcel>>,
    /// Somebody drops what waits, one after the other.
    is_open: bool,
}

/// Drops files; those that their own drop lets go of wait their turn.
fn bury(mut parcel: Box<Parcel>) {
    let mut grave = GRAVE.lock();
    parcel.next = grave.first.take();
    grave.first = Some(parcel);
    if core::mem::replace(&mut grave.is_open, true) {
        return;
    }
    drop(grave);
    loop {
        let mut grave = GRAVE.lock();
        let Some(mut next) = grave.first.take() else {
            grave.is_open = false;
            return;
        };
        grave.first = next.next.take();
        drop(grave);
        drop(next);
    }
}

/// What a look for garbage finds out about a socket; written under [`TAKING`] but for `slot`.
#[derive(Debug, Default)]
pub(super) struct Mark {
    /// Place in the list, from 1; 0 when it is not in it. Under the list's lock.
    slot: AtomicUsize,
    /// The look that the rest is of.
    look: AtomicUsize,
    /// How often its file is in a queue, and how many hold that in all.
    inside: AtomicUsize,
    holders: AtomicUsize,
    /// A way to it was found.
    is_reached: AtomicBool,
}

impl Mark {
    /// It was seen in a queue, held by `holders` in all.
    fn see(&self, look: usize, holders: usize) {
        if self.look.swap(look, Ordering::Relaxed) != look {
            self.inside.store(0, Ordering::Relaxed);
            self.is_reached.store(false, Ordering::Relaxed);
        }
        self.inside.fetch_add(1, Ordering::Relaxed);
        self.holders.store(holders, Ordering::Relaxed);
    }

    /// Whether nobody but queues holds it, and no way to it is known.
    fn is_doubtful(&self, look: usize) -> bool {
        self.look.load(Ordering::Relaxed) == look
            && self.holders.load(Ordering::Relaxed) <= self.inside.load(Ordering::Relaxed)
            && !self.is_reached.load(Ordering::Relaxed)
    }
}

/// Sockets that files were sent to, and those that listen.
struct List {
    socks: Vec<Option<Arc<Sock>>>,
    holes: usize,
    /// [`collect`] is at work: places stay what they are.
    is_sorting: bool,
}

impl List {
    fn compact(&mut self) {
        self.socks.retain(Option::is_some);
        self.holes = 0;
        for (place, sock) in self.socks.iter().flatten().enumerate() {
            sock.mark.slot.store(place + 1, Ordering::Relaxed);
        }
    }

    fn add(&mut self, sock: &Arc<Sock>) -> Result<()> {
        if sock.mark.slot.load(Ordering::Relaxed) != 0 {
            return Ok(());
        }
        if !self.is_sorting && self.holes > self.socks.len() / 2 {
            self.compact();
        }
        self.socks.try_push(Some(sock.clone()))?;
        sock.mark.slot.store(self.socks.len(), Ordering::Relaxed);
        Ok(())
    }

    fn remove(&mut self, sock: &Sock) -> Option<Arc<Sock>> {
        let place = sock.mark.slot.swap(0, Ordering::Relaxed).checked_sub(1)?;
        self.holes += 1;
        self.socks.get_mut(place)?.take()
    }

    fn swap(&mut self, one: usize, other: usize) {
        self.socks.swap(one, other);
        for place in [one, other] {
            if let Some(sock) = &self.socks[place] {
                sock.mark.slot.store(place + 1, Ordering::Relaxed);
            }
        }
    }
}

fn listed(place: usize) -> Option<Arc<Sock>> {
    LIST.lock().socks.get(place).cloned().flatten()
}

/// Files are about to be put into the queue of `sock`, or it listens.
pub(super) fn note(sock: &Arc<Sock>) -> Result<()> {
    if TOTAL.load(Ordering::Relaxed) >= ENOUGH.load(Ordering::Relaxed) {
        collect();
        let next = TOTAL.load(Ordering::Relaxed).saturating_mul(2).max(LEAST);
        ENOUGH.store(next, Ordering::Relaxed);
    }
    LIST.lock().add(sock)
}

/// `sock` is nobody's any more.
pub(super) fn forget(sock: &Sock) {
    let known = LIST.lock().remove(sock);
    drop(known);
}

/// A socket is gone. What could only be reached through it is looked for soon.
pub(super) fn released() {
    if TOTAL.load(Ordering::Relaxed) == 0 || CLOSED.swap(true, Ordering::AcqRel) {
        return;
    }
    if !COLLECTOR_RUNS.swap(true, Ordering::AcqRel) {
        let thread = ThreadBuilder::new(b"unix_gc", collect_for_ever).spawn();
        // Without a thread the next one tries, and many files in flight are looked at anyway.
        COLLECTOR_RUNS.store(thread.is_ok(), Ordering::Release);
    }
    COLLECTOR.wake_all();
}

fn collect_for_ever() {
    loop {
        COLLECTOR.wait_until(|| CLOSED.swap(false, Ordering::AcqRel).then_some(()));
        collect();
        let next = sched::clock::monotonic_ns().saturating_add(PAUSE_NS);
        // Only the deadline ends this sleep.
        let _ = COLLECTOR.wait_deadline(next, || None::<()>);
    }
}

/// The socket that is the file, and how many hold it.
fn sock_of(file: &Arc<File>) -> Option<(&Arc<Sock>, usize)> {
    let socket = file.downcast::<SocketFile>()?.socket();
    let any: &dyn Any = socket.as_ref();
    let sock = any.downcast_ref::<UnixSocket>()?.sock();
    // Whoever is in the middle of a call holds the socket without its file.
    Some((
        sock,
        Arc::strong_count(file) + Arc::strong_count(socket) - 1,
    ))
}

/// Empties the queues that nobody can ever read.
pub(super) fn collect() {
    let taking = TAKING.lock();
    let look = LOOK.fetch_add(1, Ordering::Relaxed) + 1;
    let mut list = LIST.lock();
    list.compact();
    list.is_sorting = true;
    let count = list.socks.len();
    drop(list);
    count_holders(look, count);
    let reached = sort(look, count);
    for place in reached..count {
        if let Some(sock) = listed(place) {
            let lost = sock.state.lock().clear();
            sock.changed.wake_all();
            drop(lost);
        }
        sched::cond_resched();
    }
    LIST.lock().is_sorting = false;
    drop(taking);
}

/// Marks every socket that is in one of the first `count` queues.
fn count_holders(look: usize, count: usize) {
    for sock in (0..count).filter_map(listed) {
        sock.each_file(|file| {
            if let Some((inner, holders)) = sock_of(file) {
                inner.mark.see(look, holders);
            }
        });
        sched::cond_resched();
    }
    // Connections that wait at a listener are held by it alone.
    for sock in (0..count).filter_map(listed) {
        if sock.mark.is_doubtful(look)
            && let Some(backlog) = sock.backlog()
        {
            backlog.each(|waiting| waiting.sock().mark.see(look, 1));
        }
        sched::cond_resched();
    }
}

/// Brings the sockets that can be reached to the front of the list; how many they are.
fn sort(look: usize, count: usize) -> usize {
    let mut reached = 0;
    for place in 0..count {
        if listed(place).is_some_and(|sock| !sock.mark.is_doubtful(look)) {
            LIST.lock().swap(place, reached);
            reached += 1;
        }
    }
    let reach = |sock: &Arc<Sock>, reached: &mut usize| {
        if !sock.mark.is_doubtful(look) {
            return;
        }
        sock.mark.is_reached.store(true, Ordering::Relaxed);
        let mut list = LIST.lock();
        let place = sock.mark.slot.load(Ordering::Relaxed);
        // Places are numbered from 1. Without one there are no files in its queue.
        if place > *reached && place <= count {
            list.swap(place - 1, *reached);
            *reached += 1;
        }
    };
    let mut next = 0;
    while next < reached {
        if let Some(sock) = listed(next) {
            sock.each_file(|file| {
                if let Some((inner, _)) = sock_of(file) {
                    reach(inner, &mut reached);
                }
            });
            if let Some(backlog) = sock.backlog() {
                backlog.each(|waiting| reach(waiting.sock(), &mut reached));
            }
        }
        next += 1;
        sched::cond_resched();
    }
    reached
}
