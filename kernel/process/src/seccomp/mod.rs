//! seccomp(2): filters that say which system calls a thread may make.
//!
//! A thread's [`State`] has its mode and its newest [`Filter`], which leads to those before it; [`install`] changes that, for
//! all threads of the process if asked, under the lock of its signals. [`gate`] stands before each system call and does what
//! the filters say; a call that they allow whatever its arguments costs it the test of a bit. [`notify`] is what a filter
//! leaves to another process to decide, which asks through [`listener`].
//!
//! The counter of time stamps stays readable in strict mode, and nothing is done against speculation
//! (`SECCOMP_FILTER_FLAG_SPEC_ALLOW` has nothing to take back).

mod action;
mod call;
mod filter;
mod gate;
mod install;
mod listener;
mod log;
mod notify;
mod state;

pub use action::Action;
pub use call::CallData;
pub use filter::Filter;
pub use gate::{Passage, enter, is_off, passes};
pub use install::{Failure, NewFilter, set_filter, set_strict};
pub use listener::{SIZES as NOTIFICATION_SIZES, open as open_listener};
pub(crate) use log::{logged as logged_actions, set_logged as set_logged_actions};
pub use notify::Notifier;
pub use state::{Mode, State};
