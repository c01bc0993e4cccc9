//! Files in flight: sent over a unix socket and not received yet (`SCM_RIGHTS`).
//!
//! They are counted for who sent them. Sockets that are held by nobody but inboxes of sockets that are
//! themselves in flight are found by [`collect`], and their inboxes emptied. What goes is dropped one at a
//! time, however deep sockets lie in each other.
//!
//! Locking: [`TAKING`] (sleeping) is held while files leave an inbox, and while garbage is looked for: a file
//! that changes hands between two looks would seem to be lost. Putting files in needs no such care, as
//! who puts them in holds them, too. `COUNTS`, `INBOXES` and `GRAVE` are leaves.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicUsize, Ordering};

use fs::File;
use machine::sync::SpinLock;
use sched::Mutex;

use super::inbox::Inbox;
use super::socket::UnixSocket;
use crate::file::SocketFile;
use crate::socket::Socket;

/// Held while files are taken out of an inbox.
pub(super) static TAKING: Mutex<()> = Mutex::new(());
/// Files in flight by the user who sent them.
static COUNTS: SpinLock<BTreeMap<u32, usize>> = SpinLock::new(BTreeMap::new());
static TOTAL: AtomicUsize = AtomicUsize::new(0);
/// How many make it worth looking for garbage.
static ENOUGH: AtomicUsize = AtomicUsize::new(LEAST);
const LEAST: usize = 256;
/// Inboxes that files were put into.
static INBOXES: SpinLock<BTreeMap<Number, Weak<Inbox>>> = SpinLock::new(BTreeMap::new());
static GRAVE: SpinLock<Grave> = SpinLock::new(Grave {
    waiting: Vec::new(),
    is_open: false,
});

struct Grave {
    waiting: Vec<Vec<Arc<File>>>,
    /// Somebody drops what waits, one after the other.
    is_open: bool,
}

/// How many files of user `uid` are in flight.
#[must_use]
pub fn files_in_flight(uid: u32) -> usize {
    COUNTS.lock().get(&uid).copied().unwrap_or(0)
}

/// Files in a message.
#[derive(Debug)]
pub(super) struct InFlight {
    files: Vec<Arc<File>>,
    uid: u32,
}

impl InFlight {
    pub(super) fn new(files: Vec<Arc<File>>, uid: u32) -> InFlight {
        if !files.is_empty() {
            *COUNTS.lock().entry(uid).or_insert(0) += files.len();
            TOTAL.fetch_add(files.len(), Ordering::Relaxed);
        }
        InFlight { files, uid }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    pub(super) fn each(&self, act: &mut impl FnMut(&Arc<File>)) {
        self.files.iter().for_each(act);
    }

    /// The files, for who receives them.
    pub(super) fn files(&self) -> Vec<Arc<File>> {
        self.files.clone()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.files.is_empty() {
            return;
        }
        let count = self.files.len();
        let mut counts = COUNTS.lock();
        if let Some(left) = counts.get_mut(&self.uid) {
            *left = left.saturating_sub(count);
            if *left == 0 {
                counts.remove(&self.uid);
            }
        }
        drop(counts);
        TOTAL.fetch_sub(count, Ordering::Relaxed);
        bury(core::mem::take(&mut self.files));
    }
}

/// Drops files; those that their own drop lets go of wait their turn.
fn bury(files: Vec<Arc<File>>) {
    let mut grave = GRAVE.lock();
    grave.waiting.push(files);
    if core::mem::replace(&mut grave.is_open, true) {
        return;
    }
    drop(grave);
    loop {
        let mut grave = GRAVE.lock();
        let Some(next) = grave.waiting.pop() else {
            grave.is_open = false;
            return;
        };
        drop(grave);
        drop(next);
    }
}

/// Files are about to be put into `inbox`.
pub(super) fn note(inbox: &Arc<Inbox>) {
    if TOTAL.load(Ordering::Relaxed) >= ENOUGH.load(Ordering::Relaxed) {
        collect();
        let next = TOTAL.load(Ordering::Relaxed).saturating_mul(2).max(LEAST);
        ENOUGH.store(next, Ordering::Relaxed);
    }
    let old = INBOXES.lock().insert(number(inbox), Arc::downgrade(inbox));
    drop(old);
}

/// `inbox` is nobody's any more.
pub(super) fn forget(inbox: &Arc<Inbox>) {
    let known = INBOXES.lock().remove(&number(inbox));
    drop(known);
}

/// An inbox by its address.
type Number = usize;

fn number(inbox: &Arc<Inbox>) -> Number {
    Arc::as_ptr(inbox).addr()
}

/// A socket that is in flight.
struct Traveller {
    /// How often it is in an inbox, and how many hold its file in all.
    inside: usize,
    holders: usize,
    socket: Arc<dyn Socket>,
    /// Its inbox, and those of connections that wait to be accepted from it.
    inboxes: Vec<Number>,
}

impl Traveller {
    fn new(file: &Arc<File>, socket: &Arc<dyn Socket>) -> Traveller {
        Traveller {
            inside: 0,
            // Whoever is in the middle of a call holds the socket without its file.
            holders: Arc::strong_count(file) + Arc::strong_count(socket) - 1,
            socket: socket.clone(),
            inboxes: Vec::new(),
        }
    }

    fn find_inboxes(&mut self) {
        let any: &dyn Any = self.socket.as_ref();
        if let Some(socket) = any.downcast_ref::<UnixSocket>() {
            self.inboxes.push(number(&socket.inbox));
            self.inboxes
                .extend(socket.waiting_inboxes().iter().map(number));
        }
    }

    fn is_held_elsewhere(&self) -> bool {
        self.holders > self.inside
    }
}

/// Empties the inboxes that nobody can ever read.
pub(super) fn collect() {
    let taking = TAKING.lock();
    INBOXES.lock().retain(|_, known| known.strong_count() > 0);
    let inboxes: BTreeMap<Number, Arc<Inbox>> = INBOXES
        .lock()
        .values()
        .filter_map(Weak::upgrade)
        .map(|inbox| (number(&inbox), inbox))
        .collect();
    let mut travellers: BTreeMap<usize, Traveller> = BTreeMap::new();
    for inbox in inboxes.values() {
        inbox.state.lock().each_file(|file| {
            if let Some(file_of_socket) = file.downcast::<SocketFile>() {
                let traveller = travellers
                    .entry(Arc::as_ptr(file).addr())
                    .or_insert_with(|| Traveller::new(file, file_of_socket.socket()));
                traveller.inside += 1;
            }
        });
    }
    travellers.values_mut().for_each(Traveller::find_inboxes);
    let mut lost: BTreeMap<Number, ()> = travellers
        .values()
        .filter(|traveller| !traveller.is_held_elsewhere())
        .flat_map(|traveller| traveller.inboxes.iter().map(|number| (*number, ())))
        .collect();
    let mut found: Vec<Number> = inboxes
        .keys()
        .filter(|number| !lost.contains_key(number))
        .copied()
        .collect();
    while let Some(number) = found.pop() {
        let Some(inbox) = inboxes.get(&number) else {
            continue;
        };
        inbox.state.lock().each_file(|file| {
            let traveller = travellers.get(&Arc::as_ptr(file).addr());
            for inner in traveller.iter().flat_map(|traveller| &traveller.inboxes) {
                if lost.remove(inner).is_some() {
                    found.push(*inner);
                }
            }
        });
    }
    let emptied: Vec<_> = lost
        .keys()
        .filter_map(|number| inboxes.get(number))
        .map(|inbox| inbox.change(super::inbox::State::clear))
        .collect();
    drop(taking);
    drop(emptied);
    drop(travellers);
    drop(inboxes);
}
