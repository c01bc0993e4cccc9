//! /proc/PID/ns: the namespaces of a thread, as links to their files.

use core::fmt::Write;

use abi::Result;
use fs::Link;

use super::node::{Content, Item, Show};
use super::scope::Scope;
use super::text::Text;
use crate::namespace::{Kind, Namespace};

pub(super) static ITEMS: &[Item] = &[
    link(
        "cgroup",
        |s, to| show(s, Kind::Cgroup, to),
        |s| lead(s, Kind::Cgroup),
    ),
    link(
        "ipc",
        |s, to| show(s, Kind::Ipc, to),
        |s| lead(s, Kind::Ipc),
    ),
    link(
        "mnt",
        |s, to| show(s, Kind::Mount, to),
        |s| lead(s, Kind::Mount),
    ),
    link(
        "net",
        |s, to| show(s, Kind::Net, to),
        |s| lead(s, Kind::Net),
    ),
    link(
        "pid",
        |s, to| show(s, Kind::Pid, to),
        |s| lead(s, Kind::Pid),
    ),
    link("pid_for_children", show_for_children, lead_for_children),
    link(
        "time",
        |s, to| show(s, Kind::Time, to),
        |s| lead(s, Kind::Time),
    ),
    link(
        "time_for_children",
        |s, to| show(s, Kind::Time, to),
        |s| lead(s, Kind::Time),
    ),
    link(
        "user",
        |s, to| show(s, Kind::User, to),
        |s| lead(s, Kind::User),
    ),
    link(
        "uts",
        |s, to| show(s, Kind::Uts, to),
        |s| lead(s, Kind::Uts),
    ),
];

const fn link(name: &'static str, shown: Show, leads: fn(&Scope) -> Result<Link>) -> Item {
    Item {
        name,
        mode: 0o777,
        content: Content::Link(shown, leads),
    }
}

fn namespace(scope: &Scope, kind: Kind) -> Result<Namespace> {
    scope.check_access()?;
    Namespace::of(&*scope.thread()?, kind)
}

fn show(scope: &Scope, kind: Kind, to: &mut Text) -> Result<()> {
    Ok(write!(to, "{}", namespace(scope, kind)?)?)
}

fn lead(scope: &Scope, kind: Kind) -> Result<Link> {
    Ok(Link::Jump(namespace(scope, kind)?.place()?))
}

fn for_children(scope: &Scope) -> Result<Namespace> {
    scope.check_access()?;
    Ok(Namespace::Pid(scope.thread()?.children_namespace()))
}

fn show_for_children(scope: &Scope, to: &mut Text) -> Result<()> {
    Ok(write!(to, "{}", for_children(scope)?)?)
}

fn lead_for_children(scope: &Scope) -> Result<Link> {
    Ok(Link::Jump(for_children(scope)?.place()?))
}
