//! Which socket has which name: paths by inode, abstract names as they are.

use alloc::sync::{Arc, Weak};
use core::fmt::Write as _;

use abi::{Errno, Result};
use collections::Map;
use fs::permission::{self, Access};
use fs::{FileKind, InodeKey, LookupFlags, Path};
use machine::sync::SpinLock;
use memory::pressure;

use super::sock::Sock;
use crate::address::{NameBytes, UnixName};
use crate::socket::{Requester, SocketType};

/// Abstract names that are given to who asks for none: five hexadecimal digits.
const FREE_NAMES: u32 = 0x10_0000;

/// How a name is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Inode {
        device: u64,
        ino: u64,
    },
    /// Sockets of one type in one network namespace (its number) have these names to themselves.
    Abstract(Option<u32>, SocketType, NameBytes),
}

impl From<InodeKey> for Key {
    fn from(key: InodeKey) -> Self {
        Key::Inode {
            device: key.device,
            ino: key.ino,
        }
    }
}

static NAMES: SpinLock<Names> = SpinLock::new(Names {
    held: Map::new(),
    next_free: 0,
});

struct Names {
    held: Map<Key, Weak<Sock>>,
    /// Where the search for a free abstract name goes on.
    next_free: u32,
}

/// A name that a socket holds; dropping it gives the name up (a path's file stays).
#[derive(Debug)]
pub(super) struct Bound {
    key: Key,
    /// Keeps the inode, so that its number means nothing else.
    _path: Option<Path>,
}

impl Drop for Bound {
    fn drop(&mut self) {
        let gone = NAMES.lock().held.remove(&self.key);
        drop(gone);
    }
}

/// Gives `sock` a name; an empty one gets a free abstract name.
pub(super) fn bind(
    sock: &Arc<Sock>,
    name: &UnixName,
    requester: &Requester<'_>,
) -> Result<(UnixName, Bound)> {
    let bound = match name {
        UnixName::Path(path) => {
            let caller = &requester.caller;
            let mode = 0o777 & !caller.fs.umask();
            let made =
                caller
                    .make_socket(requester.base, path, mode)
                    .map_err(|errno| match errno {
                        Errno::EEXIST => Errno::EADDRINUSE,
                        other => other,
                    })?;
            let key = Key::from(made.key()?);
            // The file is there: made again as a whole, the call would find the name taken.
            let old = pressure::persist(|| {
                let held = &mut NAMES.lock().held;
                Ok(held.try_insert(key, Arc::downgrade(sock))?)
            })?;
            drop(old);
            Bound {
                key,
                _path: Some(made),
            }
        }
        UnixName::Abstract(bytes) => take_abstract(sock, *bytes)?.ok_or(Errno::EADDRINUSE)?,
        UnixName::Unnamed => return autobind(sock),
    };
    Ok((*name, bound))
}

/// Gives `sock` a free abstract name.
pub(super) fn autobind(sock: &Arc<Sock>) -> Result<(UnixName, Bound)> {
    for _ in 0..FREE_NAMES {
        let mut names = NAMES.lock();
        let number = names.next_free % FREE_NAMES;
        names.next_free = number + 1;
        drop(names);
        let mut free = NameBytes::default();
        // Five digits fit.
        let _ = write!(free, "{number:05x}");
        if let Some(bound) = take_abstract(sock, free)? {
            return Ok((UnixName::Abstract(free), bound));
        }
        sched::cond_resched();
    }
    Err(Errno::ENOSPC)
}

fn take_abstract(sock: &Arc<Sock>, name: NameBytes) -> Result<Option<Bound>> {
    let key = Key::Abstract(sock.namespace.ino(), sock.kind, name);
    let mut names = NAMES.lock();
    let held = names.held.get(&key);
    if held.is_some_and(|held| held.strong_count() > 0) {
        return Ok(None);
    }
    let old = names.held.try_insert(key, Arc::downgrade(sock))?;
    drop(names);
    drop(old);
    Ok(Some(Bound { key, _path: None }))
}

/// The socket called `name`, which is to be of the type of `from`, and, if abstract, in its network namespace.
///
/// # Errors
/// `ECONNREFUSED` when nobody has it, `EPROTOTYPE` for another type, and those of path walks.
pub(super) fn find(name: &UnixName, from: &Sock, requester: &Requester<'_>) -> Result<Arc<Sock>> {
    let key = match name {
        UnixName::Unnamed => return Err(Errno::EINVAL),
        UnixName::Abstract(bytes) => Key::Abstract(from.namespace.ino(), from.kind, *bytes),
        UnixName::Path(path) => {
            let caller = &requester.caller;
            let found = caller.lookup(requester.base, path, LookupFlags::FOLLOW)?;
            permission::check_path(&found, caller.credentials, Access::WRITE)?;
            if found.inode()?.kind() != FileKind::Socket {
                return Err(Errno::ECONNREFUSED);
            }
            Key::from(found.key()?)
        }
    };
    let found = NAMES.lock().held.get(&key).and_then(Weak::upgrade);
    let found = found.ok_or(Errno::ECONNREFUSED)?;
    if found.kind == from.kind {
        Ok(found)
    } else {
        Err(Errno::EPROTOTYPE)
    }
}
