//! [`Ports`]: which sockets have which port, and which of them may have the same (`inet_bind_bucket`).

use abi::{Errno, Result};
use collections::Map;

use super::ip::Ip;
use super::slab::Id;
use fs::Kuid;

/// A socket's claim to a port.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Binding {
    pub(crate) ip: Ip,
    /// Of a socket of version 6: its `::` is not 0.0.0.0 as well.
    pub(crate) is_v6_only: bool,
    /// `SO_REUSEADDR`.
    pub(crate) reuses_address: bool,
    /// `SO_REUSEPORT`.
    pub(crate) reuses_port: bool,
    /// Who shares the port by `SO_REUSEPORT` has the same user.
    pub(crate) uid: Kuid,
    pub(crate) is_listening: bool,
    /// By bind(2) or listen(2), not by connect(2) or accept(2).
    pub(crate) is_explicit: bool,
}

/// The ports of one protocol.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    bindings: Map<(u16, Id), Binding>,
}

fn covers(one: &Binding, other: Ip) -> bool {
    if one.ip == Ip::ANY4 {
        other.is_v4()
    } else {
        one.ip == Ip::ANY6 && (!other.is_v4() || !one.is_v6_only)
    }
}

/// Whether something may be sent to both.
fn overlap(one: &Binding, other: &Binding) -> bool {
    one.ip == other.ip || covers(one, other.ip) || covers(other, one.ip)
}

impl Ports {
    /// All that have `port`.
    pub(crate) fn of(&self, port: u16) -> impl Iterator<Item = (Id, &Binding)> {
        self.bindings
            .range((port, Id::FIRST)..=(port, Id::LAST))
            .map(|((_, id), binding)| (*id, binding))
    }

    pub(crate) fn insert(&mut self, port: u16, id: Id, binding: Binding) -> Result<()> {
        self.bindings.try_insert((port, id), binding)?;
        Ok(())
    }

    pub(crate) fn remove(&mut self, port: u16, id: Id) {
        self.bindings.remove(&(port, id));
    }

    pub(crate) fn get_mut(&mut self, port: u16, id: Id) -> Option<&mut Binding> {
        self.bindings.get_mut(&(port, id))
    }

    /// Whether `new` may not have `port` for those that have it. Two with `SO_REUSEADDR` may, but that only one of them
    /// listens.
    pub(crate) fn conflicts(&self, port: u16, new: &Binding, own: Option<Id>) -> bool {
        self.of(port)
            .filter(|(id, _)| Some(*id) != own)
            .any(|(_, held)| {
                let both_address = new.reuses_address && held.reuses_address && !held.is_listening;
                let both_port = new.reuses_port && held.reuses_port && new.uid == held.uid;
                overlap(new, held) && !both_address && !both_port
            })
    }

    /// Whether somebody has `port` by its own wish.
    pub(crate) fn is_claimed(&self, port: u16) -> bool {
        self.of(port).any(|(_, binding)| binding.is_explicit)
    }
}

/// The first port of `range` that is free, from one that `random` chooses on.
///
/// # Errors
/// `EADDRINUSE` when none is.
pub(crate) fn choose(
    range: (u16, u16),
    random: u32,
    mut is_free: impl FnMut(u16) -> bool,
) -> Result<u16> {
    let (first, last) = range;
    let count = u32::from(last.saturating_sub(first)) + 1;
    (0..count)
        .filter_map(|step| {
            let step =
                u16::try_from((u64::from(random) + u64::from(step)) % u64::from(count)).ok()?;
            first.checked_add(step)
        })
        .find(|port| is_free(*port))
        .ok_or(Errno::EADDRINUSE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inet::slab::Slab;

    fn binding(ip: Ip) -> Binding {
        Binding {
            ip,
            is_v6_only: false,
            reuses_address: false,
            reuses_port: false,
            uid: Kuid::INVALID,
            is_listening: false,
            is_explicit: true,
        }
    }

    #[test]
    fn addresses_that_overlap_conflict() {
        let mut slab = Slab::default();
        let mut ports = Ports::default();
        let one = slab.insert(()).unwrap();
        ports.insert(80, one, binding(Ip::LOOPBACK4)).unwrap();
        assert!(ports.conflicts(80, &binding(Ip::ANY4), None));
        assert!(ports.conflicts(80, &binding(Ip::ANY6), None));
        assert!(!ports.conflicts(
            80,
            &Binding {
                is_v6_only: true,
                ..binding(Ip::ANY6)
            },
            None
        ));
        assert!(!ports.conflicts(80, &binding(Ip::v4([127, 0, 0, 2])), None));
        assert!(!ports.conflicts(81, &binding(Ip::LOOPBACK4), None));
        assert!(!ports.conflicts(80, &binding(Ip::LOOPBACK4), Some(one)));
    }

    #[test]
    fn reuse_is_for_those_who_all_want_it() {
        let mut slab = Slab::default();
        let mut ports = Ports::default();
        let one = slab.insert(()).unwrap();
        let reusing = Binding {
            reuses_address: true,
            ..binding(Ip::ANY4)
        };
        ports.insert(80, one, reusing).unwrap();
        assert!(!ports.conflicts(80, &reusing, None));
        assert!(ports.conflicts(80, &binding(Ip::ANY4), None));
        ports.get_mut(80, one).unwrap().is_listening = true;
        assert!(ports.conflicts(80, &reusing, None));
        let sharing = Binding {
            reuses_port: true,
            ..binding(Ip::ANY4)
        };
        ports.insert(90, one, sharing).unwrap();
        assert!(!ports.conflicts(90, &sharing, None));
        let root = fs::UserNamespace::INITIAL.kuid(0).unwrap();
        assert!(ports.conflicts(
            90,
            &Binding {
                uid: root,
                ..sharing
            },
            None
        ));
    }

    #[test]
    fn all_ports_of_the_range_are_tried() {
        assert_eq!(choose((10, 12), 7, |port| port == 10), Ok(10));
        assert_eq!(
            choose((10, 12), u32::MAX, |_| false),
            Err(Errno::EADDRINUSE)
        );
        assert_eq!(choose((65535, 65535), 3, |_| true), Ok(65535));
    }
}
