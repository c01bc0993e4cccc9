//! Signals: numbers and sets, what they carry, what is to be done with them, queues, sending,
//! delivery.
//!
//! Locking: a process's [`state::SignalState`] lock covers its shared queue, its actions, its
//! threads' private queues and masks, and its stop and exit state. It is a leaf below the
//! tree's lock; nothing blocks with it held.

mod action;
mod deliver;
mod frame;
mod info;
mod number;
mod queue;
pub mod send;
pub mod state;
pub(crate) mod stop;
pub(crate) mod threads;
pub mod wait;

pub use action::{Action, Actions, Disposition, Flags};
pub use deliver::{Flow, deliver, sigreturn};
pub use frame::StackT;
pub use info::{Payload, SIGINFO_SIZE, SigInfo, code};
pub use number::{Default, Signal, SignalSet};
pub use queue::Queue;
