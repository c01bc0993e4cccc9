//! Names that are not in a directory, believed for as long as the server says (a LOOKUP that answers with node 0
//! and a time). Servers that answer ENOENT have nothing believed.
//!
//! Locking: a leaf spin lock.

use collections::{Map, Vec};
use machine::sync::SpinLock;

/// Names remembered in one directory.
const MOST: usize = 256;

/// Until when each name's absence is believed, in monotonic nanoseconds.
#[derive(Debug, Default)]
pub(super) struct Absences(SpinLock<Map<Vec<u8>, u64>>);

impl Absences {
    /// Notes that `name` is not there, believed until `until`. Without memory it is not remembered.
    pub(super) fn note(&self, name: &[u8], until: u64) {
        let Ok(key) = Vec::try_from_slice(name) else {
            return;
        };
        if until == 0 {
            return;
        }
        let mut known = self.0.lock();
        if known.len() >= MOST {
            let now = sched::clock::monotonic_ns();
            known.retain(|_, until| *until > now);
        }
        if known.len() < MOST {
            let _ = known.try_insert(key, until);
        }
    }

    /// Whether `name` is believed not to be there.
    pub(super) fn holds(&self, name: &[u8]) -> bool {
        let until = self.0.lock().get(name).copied();
        until.is_some_and(|until| sched::clock::monotonic_ns() < until)
    }
}
