//! Which processes of the guest belong to which container, as far as `/proc` tells.
//!
//! A process belongs to a container when a process that the agent started there is among its
//! ancestors, or when it is in a session that such a process opened: that is what remains of an
//! orphan. In a pod of one container, whatever else was adopted by PID 1 is that container's too.

use std::collections::{BTreeMap, BTreeSet};

use rustix::process::{Pid, Signal};

/// What is needed of `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    parent: i32,
    session: i32,
    /// A zombie or gone: nothing to signal.
    ended: bool,
}

/// A look at all processes.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    stats: BTreeMap<i32, Stat>,
}

impl Snapshot {
    /// Reads `/proc`; without one it is empty.
    pub(crate) fn take() -> Self {
        let mut stats = BTreeMap::new();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let Ok(text) = std::fs::read(format!("/proc/{pid}/stat")) else {
                continue;
            };
            if let Some(stat) = parse(&text) {
                stats.insert(pid, stat);
            }
        }
        Self { stats }
    }

    /// The living members of a container whose sessions these are; `only` when the pod has no
    /// other container. The agent itself and the kernel's threads are nobody's.
    pub(crate) fn members(&self, sessions: &BTreeSet<i32>, only: bool) -> Vec<i32> {
        let agent = rustix::process::getpid().as_raw_pid();
        let belongs = |pid: i32, stat: &Stat| {
            pid != agent
                && !stat.ended
                && (sessions.contains(&stat.session)
                    || self.descends(pid, |ancestor| {
                        sessions.contains(&ancestor)
                            || (only && self.parent(ancestor) == Some(agent))
                    }))
        };
        self.stats
            .iter()
            .filter(|(pid, stat)| belongs(**pid, stat))
            .map(|(pid, _)| *pid)
            .collect()
    }

    fn parent(&self, pid: i32) -> Option<i32> {
        self.stats.get(&pid).map(|stat| stat.parent)
    }

    /// Whether the process or one of its ancestors is `wanted`.
    fn descends(&self, pid: i32, wanted: impl Fn(i32) -> bool) -> bool {
        // The parents were read one after the other, so a chain may be inconsistent, even a ring.
        std::iter::successors(Some(pid), |pid| self.parent(*pid))
            .take(self.stats.len() + 1)
            .any(wanted)
    }
}

/// Sends a signal and says whether there was someone to take it.
pub(crate) fn signal(pid: i32, signal: Signal) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| rustix::process::kill_process(pid, signal).is_ok())
}

/// The name in the second field may hold anything, even parentheses and spaces.
fn parse(stat: &[u8]) -> Option<Stat> {
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let rest = std::str::from_utf8(stat.get(after_name..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    Some(Stat {
        parent,
        session,
        ended: matches!(state, "Z" | "X"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_parsed_past_any_name() {
        let parsed = parse(b"12 (a) b) S 3 4 5 0 -1\n");
        assert_eq!(
            parsed,
            Some(Stat {
                parent: 3,
                session: 5,
                ended: false
            })
        );
        assert_eq!(parse(b"12 (x) Z"), None);
    }

    #[test]
    fn members_are_descendants_and_session_mates() {
        let stat = |parent, session| Stat {
            parent,
            session,
            ended: false,
        };
        let agent = rustix::process::getpid().as_raw_pid();
        let base = agent + 1000;
        let snapshot = Snapshot {
            stats: BTreeMap::from([
                (base, stat(agent, base)),
                (base + 1, stat(base, base + 1)),
                (base + 2, stat(agent, base)),
                (base + 3, stat(agent, base + 3)),
            ]),
        };
        let sessions = BTreeSet::from([base]);
        assert_eq!(
            snapshot.members(&sessions, false),
            [base, base + 1, base + 2]
        );
        assert_eq!(
            snapshot.members(&sessions, true),
            [base, base + 1, base + 2, base + 3]
        );
    }
}
