//! Giving a process exactly the capabilities that its container allows (capabilities(7)).
//!
//! Runs in the forked child: system calls only. The bounding set goes while the child may still
//! change it; the other sets come after the user, whose change would clear them.

use agent_protocol::Capabilities;
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capability_is_in_bounding_set, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
    set_keep_capabilities,
};

/// The sets a process starts its program with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowed {
    bounding: CapabilitySet,
    sets: CapabilitySets,
    ambient: CapabilitySet,
}

impl Allowed {
    /// From the protocol's masks, whose bits are Linux's capability numbers.
    pub(crate) fn new(masks: &Capabilities) -> Self {
        let set = CapabilitySet::from_bits_retain;
        Self {
            bounding: set(masks.bounding),
            sets: CapabilitySets {
                effective: set(masks.effective),
                permitted: set(masks.permitted),
                inheritable: set(masks.inheritable),
            },
            ambient: set(masks.ambient),
        }
    }

    /// Before the user is changed: narrows what can ever be had.
    pub(crate) fn bound(&self) -> Result<(), Errno> {
        for capability in each(!self.bounding.bits()) {
            match capability_is_in_bounding_set(capability) {
                Ok(true) => remove_capability_from_bounding_set(capability)?,
                Ok(false) => {}
                // Beyond the last capability that the kernel knows.
                Err(Errno::INVAL) => break,
                Err(errno) => return Err(errno),
            }
        }
        set_keep_capabilities(true)
    }

    /// After the user was changed: sets what is had.
    pub(crate) fn apply(&self) -> Result<(), Errno> {
        set_keep_capabilities(false)?;
        set_capabilities(None, self.sets)?;
        match clear_ambient_capability_set() {
            // No ambient set at all is an empty one.
            Err(Errno::INVAL) if self.ambient.is_empty() => return Ok(()),
            cleared => cleared?,
        }
        each(self.ambient.bits())
            .try_for_each(|capability| configure_capability_in_ambient_set(capability, true))
    }
}

/// The capabilities of a mask, one by one.
fn each(bits: u64) -> impl Iterator<Item = CapabilitySet> {
    (0..u64::BITS)
        .map(|number| 1 << number)
        .filter(move |bit| bits & bit != 0)
        .map(CapabilitySet::from_bits_retain)
}
