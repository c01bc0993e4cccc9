//! Who is who: [`known`] has how processes and threads come and go, [`children`] what a parent is told, [`groups`] process
//! groups and sessions, [`orphans`] who dies and who adopts, [`tracees`] who traces whom, [`find`] who goes by a number; the lists are in [`list`].
//!
//! A process has its relations as references, in its [`Node`](node::Node); a group's members hang on the group's
//! [`Pid`](super::pid::Pid). All of it is under the lock of the [`Tree`](super::tree::Tree). Lock order: the tree, then a
//! process's signal state. The number of its parent is mirrored in each process so that getppid(2) takes no lock.

mod children;
mod find;
mod groups;
mod known;
mod list;
pub mod node;
mod orphans;
mod tracees;

pub use children::children;
pub(crate) use children::{news, report_stop, stop_was_told};
pub use find::{find_leader, find_pid, find_process, find_thread, processes, processes_of};
pub use groups::{for_each_member, is_orphaned, session_of_group, set_group, set_session};
#[cfg(test)]
pub(crate) use groups::{join_group, leave_group};
pub use known::Reaped;
pub(crate) use known::{Relations, add_process, add_thread, reap, remove_this, take_over};
pub(crate) use orphans::{Moved, bury, move_orphans};
pub(crate) use tracees::{is_death_held, reserve_tracee, trace, tracees, tracer_of, untrace};
