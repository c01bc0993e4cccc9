//! /proc/PID/ns: the namespaces of a thread, as links to their files.

use core::fmt::Write;

use abi::Result;
use fs::Link;

use super::item::{Content, Item, Show};
use super::scope::Scope;
use super::text::Text;
use crate::namespace::{Kind, Namespace};

/// A link to the namespace of one kind. A macro, because an [`Item`] holds plain function pointers, which
/// capture nothing: each kind needs functions of its own.
macro_rules! of_kind {
    ($name:literal, $kind:ident) => {
        link(
            $name,
            |scope, to| show(scope, Kind::$kind, to),
            |scope| lead(scope, Kind::$kind),
        )
    };
}

pub(super) static ITEMS: &[Item] = &[
    of_kind!("cgroup", Cgroup),
    of_kind!("ipc", Ipc),
    of_kind!("mnt", Mount),
    of_kind!("net", Net),
    of_kind!("pid", Pid),
    link("pid_for_children", show_for_children, lead_for_children),
    of_kind!("time", Time),
    of_kind!("time_for_children", Time),
    of_kind!("user", User),
    of_kind!("uts", Uts),
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
