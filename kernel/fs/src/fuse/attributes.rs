//! What is known of an inode's attributes, for how long, and whether an answer about them is out of date.
//!
//! Each change made here takes a number from the session's count. An answer that was asked for before the
//! inode's last change may tell of the time before it, so it is not believed (Linux's `attr_version`).
//! The size is the mapping's. Locking: a leaf spin lock.

use machine::sync::SpinLock;
use memory::{Mapping, WriteGuard};

use crate::metadata::{Metadata, Timestamp};

#[derive(Debug)]
pub(super) struct Attributes {
    known: SpinLock<Known>,
}

#[derive(Debug)]
struct Known {
    /// As told; the size of a regular file is its mapping's.
    meta: Metadata,
    /// Until when it is believed, in monotonic nanoseconds.
    until: u64,
    /// The number of the last change made here.
    changed_at: u64,
    /// The time of change of the file when it was last seen to be without `security.capability`. To give it that would
    /// change that time.
    plain_since: Option<Timestamp>,
}

impl Attributes {
    pub(super) fn new(meta: &Metadata, until: u64) -> Self {
        Self {
            known: SpinLock::new(Known {
                meta: *meta,
                until,
                changed_at: 0,
                plain_since: None,
            }),
        }
    }

    /// As last told, if that still counts.
    pub(super) fn fresh(&self) -> Option<Metadata> {
        let known = self.known.lock();
        (sched::clock::monotonic_ns() < known.until).then_some(known.meta)
    }

    /// The time of change, and whether the file, as it was then, is known to be without `security.capability`; `None`
    /// when what is known does not count any more.
    pub(super) fn capabilities_seen(&self) -> Option<(Timestamp, bool)> {
        let ctime = self.fresh()?.ctime;
        Some((ctime, self.known.lock().plain_since == Some(ctime)))
    }

    /// Notes that the file was without `security.capability` at this time of change.
    pub(super) fn note_no_capabilities(&self, ctime: Timestamp) {
        self.known.lock().plain_since = Some(ctime);
    }

    /// Notes change number `number` made here; they must be asked for again.
    pub(super) fn changed(&self, number: u64) {
        let mut known = self.known.lock();
        known.until = 0;
        known.changed_at = known.changed_at.max(number);
    }

    /// Whether an answer asked for when the session had counted to `asked_at` can be believed.
    pub(super) fn is_current(&self, asked_at: u64) -> bool {
        self.known.lock().changed_at <= asked_at
    }

    /// Believes an answer, if it can be; whether it does.
    ///
    /// Cached pages belong to the modification time that was last told: at another one they go. It is not enough to
    /// look away where the file was changed from here, too. Between that change and this answer others may have changed
    /// it, and nothing later would tell of theirs.
    pub(super) fn learn(&self, answer: &Answer<'_>, mapping: Option<&Mapping>) -> bool {
        let Some(mapping) = mapping else {
            return self.take(answer).is_some();
        };
        let meta = answer.meta;
        let is_other_size = mapping.size_bytes() != meta.size;
        // Whether a size is out of date is decided while nobody writes; what is told while somebody does is asked for
        // again. Waiting would last as long as the write, and for ever if this is a fault of its own.
        let guard = match answer.held {
            None if is_other_size => match mapping.try_lock_writes() {
                Some(guard) => Some(guard),
                None => return false,
            },
            _ => None,
        };
        let Some(is_other_mtime) = self.take(answer) else {
            return false;
        };
        if guard.is_some() || answer.held.is_some() {
            mapping.set_size(meta.size);
        }
        drop(guard);
        if is_other_mtime || is_other_size {
            mapping.invalidate(0..u64::MAX);
        }
        true
    }

    /// Takes an answer in unless it is out of date; whether it tells of another modification time.
    fn take(&self, answer: &Answer<'_>) -> Option<bool> {
        let mut known = self.known.lock();
        if known.changed_at > answer.asked_at {
            return None;
        }
        let is_other_mtime = known.meta.mtime != answer.meta.mtime;
        known.meta = *answer.meta;
        known.until = answer.until;
        Some(is_other_mtime)
    }
}

/// What a server said of an inode.
pub(super) struct Answer<'a> {
    pub(super) meta: &'a Metadata,
    /// Until when it may be believed, in monotonic nanoseconds.
    pub(super) until: u64,
    /// What the session had counted to when it was asked.
    pub(super) asked_at: u64,
    /// The caller keeps others from writing to the file already.
    pub(super) held: Option<&'a WriteGuard<'a>>,
}
