//! User namespaces (user_namespaces(7)): ids as the kernel has them, and as programs call them.
//!
//! Inside the kernel a user is a [`Kuid`] and a group a [`Kgid`]; two are the same user or not, nothing else is
//! asked of them. A number comes from a program, a file system or the wire, and means a user only in a
//! [`UserNamespace`], which alone makes one of the other. So the two cannot be mistaken for each other.
//!
//! A namespace other than the initial one has a table each for users and groups, set once. Capabilities are had
//! in a namespace: see [`crate::Credentials::ns_capable`].

mod map;

use alloc::sync::Arc;
use core::fmt;

use abi::{Errno, Result};
use collections::try_arc;
use machine::sync::SpinLock;

use self::map::IdMap;
pub use self::map::{Extent, MOST_EXTENTS};

/// What an id without a number in a namespace is shown as (/proc/sys/kernel/overflowuid).
pub const OVERFLOW_ID: u32 = 65534;

/// How deep namespaces nest below the initial one.
const MOST_LEVELS: u32 = 32;

/// A user, whatever namespaces call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Kuid(u32);

/// A group, whatever namespaces call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Kgid(u32);

impl Kuid {
    /// User 0 of the initial namespace.
    pub const ROOT: Self = Self(0);
    /// Nobody's.
    pub const INVALID: Self = Self(NOBODY);
}

impl Kgid {
    /// Group 0 of the initial namespace.
    pub const ROOT: Self = Self(0);
    /// Nobody's.
    pub const INVALID: Self = Self(NOBODY);
}

/// A user namespace; the default is the initial one, in which every id but the last has its own number.
#[derive(Debug, Clone, Default)]
pub struct UserNamespace(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    ino: u32,
    parent: UserNamespace,
    level: u32,
    /// The effective user of who made it: has all capabilities in it, from its parent.
    owner: Kuid,
    users: SpinLock<IdMap>,
    groups: SpinLock<IdMap>,
}

/// One of the two tables. Users and groups differ in nothing but that and their types.
type Table = fn(&Inner) -> &SpinLock<IdMap>;

const USERS: Table = |inner| &inner.users;
const GROUPS: Table = |inner| &inner.groups;

/// The number and the id that are nobody's.
const NOBODY: u32 = u32::MAX;

impl UserNamespace {
    /// The initial one. File systems, too, are of it: no other may mount them.
    pub const INITIAL: Self = Self(None);

    /// A namespace below this one, made by `owner`. Nobody has a number in it until its tables are set.
    ///
    /// # Errors
    /// `ENOSPC` when namespaces nest too deep, `ENOMEM`.
    pub fn below(&self, owner: Kuid) -> Result<Self> {
        let level = self.level() + 1;
        if level > MOST_LEVELS {
            return Err(Errno::ENOSPC);
        }
        Ok(Self(Some(try_arc(Inner {
            ino: crate::next_namespace_id(),
            parent: self.clone(),
            level,
            owner,
            users: SpinLock::new(IdMap::default()),
            groups: SpinLock::new(IdMap::default()),
        })?)))
    }

    /// Its number; `None` for the initial one.
    #[must_use]
    pub fn ino(&self) -> Option<u32> {
        self.0.as_ref().map(|inner| inner.ino)
    }

    /// The one that it lies in; `None` for the initial one.
    #[must_use]
    pub fn parent(&self) -> Option<&Self> {
        self.0.as_ref().map(|inner| &inner.parent)
    }

    /// Whose it is.
    #[must_use]
    pub fn owner(&self) -> Kuid {
        self.0.as_ref().map_or(Kuid::ROOT, |inner| inner.owner)
    }

    /// How deep it lies; 0 for the initial one.
    #[must_use]
    pub fn level(&self) -> u32 {
        self.0.as_ref().map_or(0, |inner| inner.level)
    }

    /// Whether this is `other` or lies below it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        core::iter::successors(Some(self), |at| at.parent()).any(|at| at == other)
    }

    /// The id that it calls `number`, by one of its tables. The last number means nobody (`(uid_t)-1`) in any namespace,
    /// and is refused here, so that no table can make somebody of it.
    fn id_of(&self, table: Table, number: u32) -> Option<u32> {
        let id = match &self.0 {
            None => Some(number),
            Some(inner) => table(inner).lock().down(number),
        };
        id.filter(|id| *id != NOBODY)
    }

    /// What it calls `id`, by one of its tables.
    fn number_of(&self, table: Table, id: u32) -> Option<u32> {
        match &self.0 {
            _ if id == NOBODY => None,
            None => Some(id),
            Some(inner) => table(inner).lock().up(id),
        }
    }

    /// Sets one of its tables.
    fn set(&self, table: Table, extents: &[Extent]) -> Result<()> {
        let inner = self.0.as_ref().ok_or(Errno::EPERM)?;
        let map = IdMap::new(extents, |number| inner.parent.id_of(table, number))?;
        table(inner).lock().set(map)
    }

    /// Writes one of its tables as `reader` sees it.
    fn write(&self, table: Table, reader: &Self, to: &mut dyn fmt::Write) -> fmt::Result {
        let shown = |id| reader.number_of(table, id).unwrap_or(NOBODY);
        match &self.0 {
            None => map::write_line(to, 0, shown(0), u32::MAX),
            Some(inner) => table(inner).lock().write(to, shown),
        }
    }

    /// The user that it calls `number` (`make_kuid`).
    #[must_use]
    pub fn kuid(&self, number: u32) -> Option<Kuid> {
        self.id_of(USERS, number).map(Kuid)
    }

    /// The group that it calls `number` (`make_kgid`).
    #[must_use]
    pub fn kgid(&self, number: u32) -> Option<Kgid> {
        self.id_of(GROUPS, number).map(Kgid)
    }

    /// What it calls `user` (`from_kuid`).
    #[must_use]
    pub fn uid(&self, user: Kuid) -> Option<u32> {
        self.number_of(USERS, user.0)
    }

    /// What it calls `group` (`from_kgid`).
    #[must_use]
    pub fn gid(&self, group: Kgid) -> Option<u32> {
        self.number_of(GROUPS, group.0)
    }

    /// What it shows `user` as: [`OVERFLOW_ID`] where it has no number (`from_kuid_munged`).
    #[must_use]
    pub fn shown_uid(&self, user: Kuid) -> u32 {
        self.uid(user).unwrap_or(OVERFLOW_ID)
    }

    /// As [`Self::shown_uid`].
    #[must_use]
    pub fn shown_gid(&self, group: Kgid) -> u32 {
        self.gid(group).unwrap_or(OVERFLOW_ID)
    }

    /// Its user 0; `None` when it has none.
    #[must_use]
    pub fn root(&self) -> Option<Kuid> {
        self.kuid(0)
    }

    /// Sets the table of users, in numbers of the namespace above (/proc/PID/uid_map).
    ///
    /// # Errors
    /// `EINVAL` for a table with holes in its logic or too many lines, `EPERM` when it was set, or names who is not
    /// in the namespace above.
    pub fn set_users(&self, extents: &[Extent]) -> Result<()> {
        self.set(USERS, extents)
    }

    /// As [`Self::set_users`], of groups (/proc/PID/gid_map).
    ///
    /// # Errors
    /// As there.
    pub fn set_groups(&self, extents: &[Extent]) -> Result<()> {
        self.set(GROUPS, extents)
    }

    /// Writes the table of users as `reader` sees it (/proc/PID/uid_map).
    ///
    /// # Errors
    /// When `to` fails.
    pub fn write_users(&self, reader: &Self, to: &mut dyn fmt::Write) -> fmt::Result {
        self.write(USERS, reader, to)
    }

    /// As [`Self::write_users`], of groups (/proc/PID/gid_map).
    ///
    /// # Errors
    /// When `to` fails.
    pub fn write_groups(&self, reader: &Self, to: &mut dyn fmt::Write) -> fmt::Result {
        self.write(GROUPS, reader, to)
    }
}

impl PartialEq for UserNamespace {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            _ => false,
        }
    }
}

impl Eq for UserNamespace {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cred::{Capabilities, Credentials};

    const fn extent(first: u32, above: u32, count: u32) -> Extent {
        Extent {
            first,
            above,
            count,
        }
    }

    #[test]
    fn a_number_means_another_user_in_each_namespace() {
        let initial = UserNamespace::INITIAL;
        let outer = initial.below(Kuid::ROOT).unwrap();
        assert_eq!((outer.kuid(0), outer.root()), (None, None));
        outer
            .set_users(&[extent(0, 100_000, 1000), extent(5000, 0, 1)])
            .unwrap();
        let user = initial.kuid(100_007).unwrap();
        assert_eq!(outer.kuid(7), Some(user));
        assert_eq!(outer.uid(user), Some(7));
        assert_eq!(outer.kuid(5000), Some(Kuid::ROOT));
        assert_eq!(outer.kuid(1000), None);
        assert_eq!(outer.shown_uid(initial.kuid(9).unwrap()), OVERFLOW_ID);
        let inner = outer.below(user).unwrap();
        inner.set_users(&[extent(0, 7, 2)]).unwrap();
        assert_eq!(inner.root(), Some(user));
        assert_eq!(inner.uid(initial.kuid(100_008).unwrap()), Some(1));
        // Groups have a table of their own.
        assert_eq!(inner.kgid(0), None);
    }

    #[test]
    fn the_last_number_is_nobodys() {
        let initial = UserNamespace::INITIAL;
        assert_eq!(
            (initial.kuid(u32::MAX), initial.kgid(u32::MAX)),
            (None, None)
        );
        assert_eq!(initial.shown_uid(Kuid::INVALID), OVERFLOW_ID);
    }

    #[test]
    fn tables_are_set_once_and_within_the_namespace_above() {
        let outer = UserNamespace::INITIAL.below(Kuid::ROOT).unwrap();
        outer.set_users(&[extent(0, 1000, 10)]).unwrap();
        assert_eq!(outer.set_users(&[extent(0, 1000, 10)]), Err(Errno::EPERM));
        let inner = outer.below(Kuid::ROOT).unwrap();
        assert_eq!(inner.set_users(&[extent(0, 5, 6)]), Err(Errno::EPERM));
        assert_eq!(UserNamespace::INITIAL.set_users(&[]), Err(Errno::EPERM));
    }

    #[test]
    fn capabilities_reach_down_and_not_up() {
        let initial = UserNamespace::INITIAL;
        let owner = initial.kuid(1000).unwrap();
        let outer = initial.below(owner).unwrap();
        let inner = outer.below(owner).unwrap();
        let kill = Capabilities::KILL;
        let root = Credentials::root();
        assert!(root.ns_capable(&outer, kill) && root.ns_capable(&inner, kill));
        let mut user = Credentials::user(1000, 1000);
        // Who made it has all in it, without any capability.
        assert!(user.ns_capable(&outer, kill) && user.ns_capable(&inner, kill));
        assert!(!user.capable(kill));
        assert!(!Credentials::user(1001, 1001).ns_capable(&outer, kill));
        user.user_namespace = inner.clone();
        user.effective = Capabilities::all();
        assert!(user.ns_capable(&inner, kill));
        assert!(!user.ns_capable(&outer, kill) && !user.capable(kill));
    }

    #[test]
    fn tables_are_shown_in_the_readers_numbers() {
        let outer = UserNamespace::INITIAL.below(Kuid::ROOT).unwrap();
        outer.set_users(&[extent(0, 1000, 10)]).unwrap();
        let inner = outer.below(Kuid::ROOT).unwrap();
        inner.set_users(&[extent(5, 3, 1)]).unwrap();
        let shown = |reader: &UserNamespace| {
            let mut text = String::new();
            inner.write_users(reader, &mut text).unwrap();
            text
        };
        assert_eq!(shown(&outer), "         5          3          1\n");
        assert_eq!(
            shown(&UserNamespace::INITIAL),
            "         5       1003          1\n"
        );
        let mut text = String::new();
        UserNamespace::INITIAL
            .write_groups(&UserNamespace::INITIAL, &mut text)
            .unwrap();
        assert_eq!(text, "         0          0 4294967295\n");
    }
}
