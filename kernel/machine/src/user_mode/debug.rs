//! [`DebugRegisters`]: hardware breakpoints and watchpoints of user code (Intel SDM volume 3, chapter "Debug").
//!
//! A thread that uses none pays a comparison at each crossing: the registers are loaded before user code runs and turned
//! off when it stops, so that the kernel never runs with a user's breakpoints.

use crate::addr::UserAddr;

/// Breakpoints that there are.
pub const BREAKPOINTS: usize = 4;
/// Local and global enable bits of DR7.
const ENABLE: u64 = 0xff;
/// What DR7 may have: enable bits, conditions and lengths. General detection (bit 13) would make the kernel fault.
const CONTROL: u64 = 0xffff_00ff;
/// A condition of DR7's: execution of an instruction.
const ON_EXECUTION: u64 = 0;
/// A condition of DR7's: access to a port.
const ON_PORT: u64 = 2;

/// DR0 to DR3 and DR7, with breakpoints on user memory alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DebugRegisters {
    addresses: [u64; BREAKPOINTS],
    control: u64,
}

impl DebugRegisters {
    /// With these addresses and DR7; `None` when an address is not user memory's, or an enabled breakpoint is none that
    /// there is: on a port, not aligned to its length, on more than the first byte of an instruction.
    #[must_use]
    pub fn new(addresses: [u64; BREAKPOINTS], control: u64) -> Option<Self> {
        let new = Self {
            addresses,
            control: control & CONTROL,
        };
        let is_user = addresses.iter().all(|at| *at < UserAddr::LIMIT.0);
        let is_valid = (0..BREAKPOINTS).all(|index| !new.enables(index) || new.is_valid(index));
        (is_user && is_valid).then_some(new)
    }

    /// DR0 to DR3.
    #[must_use]
    pub fn addresses(&self) -> [u64; BREAKPOINTS] {
        self.addresses
    }

    /// DR7.
    #[must_use]
    pub fn control(&self) -> u64 {
        self.control
    }

    /// Whether a breakpoint is enabled.
    #[inline]
    #[must_use]
    pub fn is_armed(&self) -> bool {
        self.control & ENABLE != 0
    }

    fn enables(&self, index: usize) -> bool {
        self.control >> (2 * index) & 3 != 0
    }

    fn condition(&self, index: usize) -> u64 {
        self.control >> (16 + 4 * index) & 3
    }

    fn is_valid(&self, index: usize) -> bool {
        let len = match self.control >> (18 + 4 * index) & 3 {
            0 => 1,
            1 => 2,
            2 => 8,
            _ => 4,
        };
        let at = self.addresses[index];
        match self.condition(index) {
            ON_PORT => false,
            ON_EXECUTION => len == 1,
            _ => at.is_multiple_of(len) && at + len <= UserAddr::LIMIT.0,
        }
    }

    /// Whether a breakpoint on an instruction is among those that `status` (DR6) names: it comes before the instruction,
    /// which must not raise it again.
    #[must_use]
    pub fn stopped_before(&self, status: u32) -> bool {
        (0..BREAKPOINTS)
            .any(|index| status >> index & 1 != 0 && self.condition(index) == ON_EXECUTION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: u64 = 1;

    fn with(at: u64, condition: u64, len: u64) -> Option<DebugRegisters> {
        let control = FIRST | condition << 16 | len << 18;
        DebugRegisters::new([at, 0, 0, 0], control)
    }

    #[test]
    fn only_user_memory_is_watched() {
        assert!(with(0x1000, 1, 3).is_some());
        assert!(with(UserAddr::LIMIT.0, 1, 0).is_none());
        assert!(with(u64::MAX, 0, 0).is_none());
        // Not even by one that is turned off.
        assert!(DebugRegisters::new([0, 0, 0, 1 << 63], 0).is_none());
        assert!(with(UserAddr::LIMIT.0 - 1, 1, 0).is_some());
    }

    #[test]
    fn breakpoints_are_those_that_the_cpu_has() {
        assert!(with(0x1001, 1, 1).is_none(), "not aligned");
        assert!(with(0x1000, 2, 0).is_none(), "a port");
        assert!(with(0x1001, 0, 0).is_some(), "an instruction");
        assert!(with(0x1000, 0, 3).is_none(), "of four bytes");
        assert!(with(0x1008, 3, 2).is_some(), "eight bytes");
        assert!(with(0x1004, 3, 2).is_none(), "eight bytes, not aligned");
    }

    #[test]
    fn general_detection_stays_off() {
        let new = DebugRegisters::new([0; 4], 1 << 13 | 1 << 9 | 1).unwrap();
        assert_eq!(new.control(), 1);
        assert!(new.is_armed() && !DebugRegisters::default().is_armed());
        assert!(new.stopped_before(1) && !new.stopped_before(1 << 14));
    }
}
