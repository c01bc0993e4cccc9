//! [`Action`]: what a filter wants done with a call.

use collections::{Result, String};

/// From the one that wins over all others to the one that wins over none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// End the process.
    KillProcess,
    /// End the thread.
    KillThread,
    /// Send SIGSYS.
    Trap,
    /// Fail.
    Errno,
    /// Ask who listens.
    Notify,
    /// Tell a tracer.
    Trace,
    /// Make the call, and say so in the log.
    Log,
    /// Make the call.
    Allow,
}

impl Action {
    /// All of them, with the value that a filter returns and the name in /proc/sys/kernel/seccomp.
    pub const ALL: [(Self, u32, &'static str); 8] = [
        (Self::KillProcess, 0x8000_0000, "kill_process"),
        (Self::KillThread, 0x0000_0000, "kill_thread"),
        (Self::Trap, 0x0003_0000, "trap"),
        (Self::Errno, 0x0005_0000, "errno"),
        (Self::Notify, 0x7fc0_0000, "user_notif"),
        (Self::Trace, 0x7ff0_0000, "trace"),
        (Self::Log, 0x7ffc_0000, "log"),
        (Self::Allow, 0x7fff_0000, "allow"),
    ];

    /// The action that a filter's value has; `None` for one that there is not.
    #[must_use]
    pub fn find(value: u32) -> Option<Self> {
        let mut all = Self::ALL.iter();
        let found = all.find(|(_, known, _)| *known == value)?;
        Some(found.0)
    }

    /// The value that a filter returns for it.
    #[must_use]
    pub fn value(self) -> u32 {
        Self::ALL[self as usize].1
    }

    /// A bit of its own.
    #[must_use]
    pub(super) const fn bit(self) -> u32 {
        1 << self as u32
    }

    /// The names of those whose bits are in `set`, as /proc shows them.
    ///
    /// # Errors
    /// `AllocError`.
    pub fn names(set: u32) -> Result<String> {
        let mut names = String::new();
        for (action, _, name) in Self::ALL {
            if set & action.bit() != 0 {
                if !names.is_empty() {
                    names.try_push(' ')?;
                }
                names.try_push_str(name)?;
            }
        }
        Ok(names)
    }

    /// The set that names, with spaces between them, mean; `None` when one is unknown.
    #[must_use]
    pub fn parse(names: &str) -> Option<u32> {
        let mut set = 0;
        for name in names.split_ascii_whitespace() {
            let mut all = Self::ALL.iter();
            set |= all.find(|(_, _, known)| *known == name)?.0.bit();
        }
        Some(set)
    }
}

/// What the filters of a thread say to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Its upper half.
    pub(super) value: u32,
    /// The lower half: an error number, or what the program that gets the signal is to know.
    pub(super) data: u16,
}

impl Verdict {
    pub(super) const ALLOW: Self = Self {
        value: 0x7fff_0000,
        data: 0,
    };

    #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
    pub(super) fn new(result: u32) -> Self {
        Self {
            value: result & 0xffff_0000,
            data: result as u16,
        }
    }

    /// Whether it wins over `other`: values are compared with their sign.
    pub(super) fn wins_over(self, other: Self) -> bool {
        self.value.cast_signed() < other.value.cast_signed()
    }

    /// What is to be done. A value that no action has is answered like the hardest one.
    pub(super) fn action(self) -> Action {
        Action::find(self.value).unwrap_or(Action::KillProcess)
    }
}
