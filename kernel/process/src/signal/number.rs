//! Signal numbers, what each does by default, and sets of them.

use abi::{Errno, Result};

/// A signal, 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signal(u8);

macro_rules! signals {
    ($($name:ident = $number:literal,)*) => {
        #[allow(missing_docs, reason = "signal(7) documents each name")]
        impl Signal {
            $(pub const $name: Signal = Signal($number);)*
        }
    };
}

signals! {
    HUP = 1, INT = 2, QUIT = 3, ILL = 4, TRAP = 5, ABRT = 6, BUS = 7, FPE = 8, KILL = 9,
    USR1 = 10, SEGV = 11, USR2 = 12, PIPE = 13, ALRM = 14, TERM = 15, STKFLT = 16, CHLD = 17,
    CONT = 18, STOP = 19, TSTP = 20, TTIN = 21, TTOU = 22, URG = 23, XCPU = 24, XFSZ = 25,
    VTALRM = 26, PROF = 27, WINCH = 28, IO = 29, PWR = 30, SYS = 31,
}

/// What a signal does to a process that has not said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Default {
    /// Ends the process. (A core dump is never written.)
    Terminate,
    /// Nothing.
    Ignore,
    /// Stops the process.
    Stop,
    /// Continues the process if it is stopped, which happens on sending.
    Continue,
}

impl Signal {
    /// The highest number.
    pub const MAX: u8 = 64;
    /// The first realtime signal as the kernel counts.
    pub const RT_MIN: u8 = 32;

    /// The signal with this number.
    ///
    /// # Errors
    /// `EINVAL` unless 1 to 64.
    pub fn new(number: i32) -> Result<Self> {
        match u8::try_from(number) {
            Ok(number @ 1..=Self::MAX) => Ok(Self(number)),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Its place in an array of 64.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize - 1
    }

    /// Whether each sending is queued, rather than only the first.
    #[must_use]
    pub const fn is_realtime(self) -> bool {
        self.0 >= Self::RT_MIN
    }

    /// Whether it can be neither caught, blocked nor ignored.
    #[must_use]
    pub const fn is_unmaskable(self) -> bool {
        matches!(self, Self::KILL | Self::STOP)
    }

    /// Whether its default is to stop the process.
    #[must_use]
    pub const fn is_stop(self) -> bool {
        matches!(self, Self::STOP | Self::TSTP | Self::TTIN | Self::TTOU)
    }

    /// What it does by default.
    #[must_use]
    pub const fn default_action(self) -> Default {
        match self {
            Self::CHLD | Self::URG | Self::WINCH => Default::Ignore,
            Self::CONT => Default::Continue,
            Self::STOP | Self::TSTP | Self::TTIN | Self::TTOU => Default::Stop,
            _ => Default::Terminate,
        }
    }
}

/// A set of signals, laid out as `sigset_t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, core::default::Default)]
pub struct SignalSet(pub u64);

impl SignalSet {
    /// No signal.
    pub const EMPTY: Self = Self(0);
    /// Every signal.
    pub const ALL: Self = Self(u64::MAX);
    /// Those that stop a process by default.
    pub const STOPS: Self = Self::of(Signal::STOP)
        .with(Signal::TSTP)
        .with(Signal::TTIN)
        .with(Signal::TTOU);
    /// Those that cannot be blocked.
    pub const UNMASKABLE: Self = Self::of(Signal::KILL).with(Signal::STOP);
    /// Those that an instruction causes; delivered before others.
    pub const SYNCHRONOUS: Self = Self::of(Signal::SEGV)
        .with(Signal::BUS)
        .with(Signal::ILL)
        .with(Signal::TRAP)
        .with(Signal::FPE)
        .with(Signal::SYS);

    /// The set of one.
    #[must_use]
    pub const fn of(signal: Signal) -> Self {
        Self(1 << signal.index())
    }

    /// With `signal` added.
    #[must_use]
    pub const fn with(self, signal: Signal) -> Self {
        Self(self.0 | 1 << signal.index())
    }

    /// Without those in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Those in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those in both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether `signal` is in it.
    #[must_use]
    pub const fn contains(self, signal: Signal) -> bool {
        self.0 & 1 << signal.index() != 0
    }

    /// Whether it holds none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The lowest signal in it.
    #[must_use]
    pub fn first(self) -> Option<Signal> {
        if self.0 == 0 {
            return None;
        }
        u8::try_from(self.0.trailing_zeros() + 1).ok().map(Signal)
    }

    /// The signals in it, lowest first.
    pub fn iter(self) -> impl Iterator<Item = Signal> {
        let mut rest = self;
        core::iter::from_fn(move || {
            let signal = rest.first()?;
            rest = rest.without(Self::of(signal));
            Some(signal)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_1_to_64_are_signals() {
        assert!(Signal::new(0).is_err() && Signal::new(65).is_err() && Signal::new(-1).is_err());
        assert_eq!(Signal::new(64).unwrap().index(), 63);
    }

    #[test]
    fn sets_iterate_in_order() {
        let set = SignalSet::of(Signal::USR1)
            .with(Signal::HUP)
            .with(Signal::new(64).unwrap());
        let numbers: Vec<u8> = set.iter().map(Signal::number).collect();
        assert_eq!(numbers, [1, 10, 64]);
    }
}
