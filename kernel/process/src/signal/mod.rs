//! Signals: numbers and sets, what they carry, what is to be done with them, queues, sending,
//! delivery.
//!
//! Locking: a process's [`SignalState`](crate::task::signals::SignalState) lock covers its shared queue, its actions, its
//! threads' private queues and masks, and its stop and exit state. It is a leaf below the
//! tree's lock; nothing blocks with it held.

pub mod action;
pub mod deliver;
pub mod frame;
pub mod info;
pub mod number;
pub(crate) mod post;
pub mod queue;
pub mod send;
pub mod state;
pub(crate) mod stop;
pub mod wait;

pub use action::{Action, Actions, Disposition, Flags};
pub use info::{Payload, SIGINFO_SIZE, SigInfo, code};
pub use number::{Default, Signal, SignalSet};
pub use queue::Queue;
