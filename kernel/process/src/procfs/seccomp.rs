//! /proc/sys/kernel/seccomp: which actions filters of system calls have, and which of them are logged.

use abi::{Errno, Result};

use super::item::Item;
use super::scope::Scope;
use super::sysctl::{line, writable};
use super::text::Text;
use crate::seccomp::{Action, logged_actions, set_logged_actions};
use crate::task::thread;

pub(super) static ITEMS: &[Item] = &[
    Item::file("actions_avail", |_, to| line(Action::names(u32::MAX)?, to)),
    writable("actions_logged", show_logged, set_logged),
];

fn show_logged(_: &Scope, to: &mut Text) -> Result<()> {
    line(Action::names(logged_actions())?, to)
}

fn set_logged(_: &Scope, from: &[u8]) -> Result<()> {
    let is_allowed = thread::current()
        .is_none_or(|caller| caller.credentials().capable(fs::Capabilities::SYS_ADMIN));
    if !is_allowed {
        return Err(Errno::EPERM);
    }
    let names = core::str::from_utf8(from).map_err(|_| Errno::EINVAL)?;
    let actions = Action::parse(names).ok_or(Errno::EINVAL)?;
    set_logged_actions(actions)
        .then_some(())
        .ok_or(Errno::EINVAL)
}
