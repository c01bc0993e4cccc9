//! Namespaces (namespaces(7)) as a thread has them, as things with a number, and as files.
//!
//! A thread has them in its [`NsProxy`], but for that of mounts, which belongs to its [`fs::FsContext`], and that of
//! users, which belongs to its credentials. A [`Namespace`] of any kind has a number, a user
//! namespace that owns it, perhaps a parent, and a file in /proc/PID/ns by which others enter it. Of
//! clocks there is one, the initial one. To make more of those is refused, as by a
//! Linux that is built without them; [`make`] is where a kind that can be made comes in.

use alloc::sync::Arc;
use core::fmt;

use abi::{Errno, Result};
use collections::{String, try_arc, try_format};
use fs::{
    Capabilities, File, FileKind, FileOps, Inode, InodeBody, Metadata, MountNamespace, OpenFlags,
    Path, Timestamp, UserNamespace,
};

use net::{NetNamespace, Network};

use crate::cgroup::CgroupNamespace;
use crate::clone::flags::CloneFlags;
use crate::ipc::{self, IpcNamespace};
use crate::task::ns_proxy::NsProxy;
use crate::task::pid_namespace::PidNamespace;
use crate::task::thread::{self, Thread};
use crate::uts::{self, UtsNamespace};

/// What a namespace separates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Control groups.
    Cgroup,
    /// System V IPC and message queues.
    Ipc,
    /// Mounts.
    Mount,
    /// Networks.
    Net,
    /// Process ids.
    Pid,
    /// Clocks.
    Time,
    /// Users and capabilities.
    User,
    /// Host and domain name.
    Uts,
}

impl Kind {
    /// All that are made by who has CAP_SYS_ADMIN, in the order in which that happens.
    const BY_ADMIN: [Self; 7] = [
        Kind::Mount,
        Kind::Uts,
        Kind::Ipc,
        Kind::Pid,
        Kind::Cgroup,
        Kind::Net,
        Kind::Time,
    ];

    fn is_wanted(self, flags: CloneFlags) -> bool {
        flags.bits() & u64::from(self.flag()) != 0
    }

    /// Its name in /proc/PID/ns.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Cgroup => "cgroup",
            Kind::Ipc => "ipc",
            Kind::Mount => "mnt",
            Kind::Net => "net",
            Kind::Pid => "pid",
            Kind::Time => "time",
            Kind::User => "user",
            Kind::Uts => "uts",
        }
    }

    /// The flag of clone(2) that makes one.
    #[must_use]
    pub const fn flag(self) -> u32 {
        match self {
            Kind::Cgroup => 0x0200_0000,
            Kind::Ipc => 0x0800_0000,
            Kind::Mount => 0x0002_0000,
            Kind::Net => 0x4000_0000,
            Kind::Pid => 0x2000_0000,
            Kind::Time => 0x0000_0080,
            Kind::User => 0x1000_0000,
            Kind::Uts => 0x0400_0000,
        }
    }

    /// The number of the initial one, as on Linux.
    const fn initial_ino(self) -> u64 {
        match self {
            Kind::Time => 0xeffffffa,
            Kind::Cgroup => 0xeffffffb,
            Kind::Pid => 0xeffffffc,
            Kind::User => 0xeffffffd,
            Kind::Uts => 0xeffffffe,
            Kind::Ipc => 0xefffffff,
            Kind::Mount | Kind::Net => 0xf0000000,
        }
    }
}

/// One namespace.
#[derive(Debug, Clone)]
pub enum Namespace {
    /// Of mounts.
    Mount(Arc<MountNamespace>),
    /// Of process ids.
    Pid(PidNamespace),
    /// Of names.
    Uts(Arc<UtsNamespace>),
    /// Of System V objects.
    Ipc(Arc<IpcNamespace>),
    /// Of networks.
    Net(Network),
    /// Of control groups, but for the initial one.
    Cgroup(Arc<CgroupNamespace>),
    /// Of users. A thread has it by its credentials.
    User(UserNamespace),
    /// The initial one of a kind of which there is one.
    Initial(Kind),
}

impl Namespace {
    /// The namespace of this kind that `thread` is in.
    ///
    /// # Errors
    /// `ESRCH` when it has let go of it.
    pub fn of(thread: &Thread, kind: Kind) -> Result<Self> {
        Ok(match kind {
            Kind::Mount => {
                let context = thread.fs_if_alive().ok_or(Errno::ESRCH)?;
                Namespace::Mount(context.namespace())
            }
            Kind::Pid => Namespace::Pid(thread.process().pid_namespace().clone()),
            Kind::Uts => Namespace::Uts(thread.namespaces().uts),
            Kind::Ipc => Namespace::Ipc(thread.ipc_namespace()),
            Kind::Net => Namespace::Net(thread.network()),
            Kind::User => Namespace::User(thread.credentials().user_namespace.clone()),
            Kind::Cgroup => match thread.cgroup_namespace() {
                Some(own) => Namespace::Cgroup(own),
                None => Namespace::Initial(kind),
            },
            other => Namespace::Initial(other),
        })
    }

    /// What it separates.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Namespace::Mount(_) => Kind::Mount,
            Namespace::Pid(_) => Kind::Pid,
            Namespace::Uts(_) => Kind::Uts,
            Namespace::Ipc(_) => Kind::Ipc,
            Namespace::Net(_) => Kind::Net,
            Namespace::Cgroup(_) => Kind::Cgroup,
            Namespace::User(_) => Kind::User,
            Namespace::Initial(kind) => *kind,
        }
    }

    /// Its number: the inode number of its file.
    #[must_use]
    pub fn ino(&self) -> u64 {
        let own = match self {
            Namespace::Mount(mounts) => Some(mounts.id()),
            Namespace::Pid(pids) => pids.ino(),
            Namespace::Uts(names) => names.ino(),
            Namespace::Ipc(ipc) => ipc.ino(),
            Namespace::Net(network) => network.ino(),
            Namespace::Cgroup(groups) => Some(groups.ino()),
            Namespace::User(users) => users.ino(),
            Namespace::Initial(_) => None,
        };
        own.map_or(self.kind().initial_ino(), u64::from)
    }

    /// The user namespace whose capabilities count in it; `None` for the initial user namespace.
    #[must_use]
    pub fn owner(&self) -> Option<UserNamespace> {
        Some(match self {
            Namespace::Mount(mounts) => mounts.owner().clone(),
            Namespace::Pid(pids) => pids.owner(),
            Namespace::Uts(names) => names.owner().clone(),
            Namespace::Ipc(ipc) => ipc.owner().clone(),
            Namespace::Net(network) => network.owner(),
            Namespace::Cgroup(groups) => groups.owner().clone(),
            Namespace::User(users) => return users.parent().cloned(),
            Namespace::Initial(_) => UserNamespace::INITIAL,
        })
    }

    /// As [`Self::owner`], for who sees it.
    fn owner_for(&self, caller: &Thread) -> Result<Self> {
        let owner = self.owner().ok_or(Errno::EPERM)?;
        if !owner.is_within(&caller.credentials().user_namespace) {
            return Err(Errno::EPERM);
        }
        Ok(Namespace::User(owner))
    }

    /// The one that it lies in. `caller` must see it.
    fn parent(&self, caller: &Thread) -> Result<Self> {
        match self {
            Namespace::Pid(pids) => {
                let parent = pids.parent().cloned().ok_or(Errno::EPERM)?;
                if !parent.is_within(caller.process().pid_namespace()) {
                    return Err(Errno::EPERM);
                }
                Ok(Namespace::Pid(parent))
            }
            Namespace::User(_) => self.owner_for(caller),
            _ => Err(Errno::EINVAL),
        }
    }

    /// A place for one walk that leads to its file.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn place(&self) -> Result<Path> {
        let inode: Arc<dyn Inode> = try_arc(NsInode {
            namespace: self.clone(),
            body: InodeBody::new(),
        })?;
        fs::place_of(&inode)
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:[{}]", self.kind().name(), self.ino())
    }
}

/// The file of a namespace (Linux's nsfs). One is made each time somebody goes there: what tells two apart
/// is the number.
#[derive(Debug)]
struct NsInode {
    namespace: Namespace,
    body: InodeBody,
}

impl Inode for NsInode {
    fn body(&self) -> &InodeBody {
        &self.body
    }

    fn kind(&self) -> FileKind {
        FileKind::Regular
    }

    fn metadata(&self) -> Result<Metadata> {
        let now = Timestamp::now();
        Ok(Metadata {
            atime: now,
            mtime: now,
            ctime: now,
            ..Metadata::new(self.namespace.ino(), FileKind::Regular, 0o444)
        })
    }

    fn open(self: Arc<Self>, _: OpenFlags) -> Result<Arc<dyn FileOps>> {
        let file = try_arc(NsFile {
            namespace: self.namespace.clone(),
        })?;
        Ok(file)
    }

    fn anonymous_name(&self) -> Result<Option<String>> {
        Ok(Some(try_format!("{}", self.namespace)?))
    }
}

/// An open file of a namespace, which keeps it.
#[derive(Debug)]
pub struct NsFile {
    namespace: Namespace,
}

impl NsFile {
    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The file that the ioctl `command` opens for `caller`, to be closed by exec; `None` for the commands that
    /// open none.
    #[must_use]
    pub fn open_related(&self, caller: &Thread, command: u32) -> Option<Result<Arc<File>>> {
        let related = match command {
            NS_GET_USERNS => self.namespace.owner_for(caller),
            NS_GET_PARENT => self.namespace.parent(caller),
            _ => return None,
        };
        Some(related.and_then(|related| open(caller, related)))
    }
}

/// ioctl_ns(2).
const NS_GET_USERNS: u32 = 0xb701;
const NS_GET_PARENT: u32 = 0xb702;
const NS_GET_NSTYPE: u32 = 0xb703;
const NS_GET_OWNER_UID: u32 = 0xb704;

impl FileOps for NsFile {
    fn ioctl(&self, command: u32, arg: u64) -> Result<u64> {
        match command {
            NS_GET_NSTYPE => Ok(u64::from(self.namespace.kind().flag())),
            NS_GET_OWNER_UID => {
                let Namespace::User(users) = &self.namespace else {
                    return Err(Errno::EINVAL);
                };
                let reader = thread::current().ok_or(Errno::ENOTTY)?;
                let owner = reader.process().shown_uid(users.owner());
                memory::user::write(machine::UserAddr(arg), &owner).map(|()| 0)
            }
            _ => Err(Errno::ENOTTY),
        }
    }
}

fn open(caller: &Thread, namespace: Namespace) -> Result<Arc<File>> {
    let path = namespace.place()?;
    let ops = try_arc(NsFile { namespace })?;
    File::new(path, ops, OpenFlags::empty(), &caller.credentials())
}

/// The UTS namespace that the calling thread is in.
#[must_use]
pub fn current_uts() -> Arc<UtsNamespace> {
    thread::current().map_or_else(uts::initial, |caller| caller.namespaces().uts)
}

/// The IPC namespace that the calling thread is in.
#[must_use]
pub fn current_ipc() -> Arc<IpcNamespace> {
    thread::current().map_or_else(ipc::initial, |caller| caller.ipc_namespace())
}

/// The network that the calling thread is in.
///
/// # Errors
/// `ENOMEM`.
pub fn current_net() -> Result<Arc<NetNamespace>> {
    match thread::current() {
        Some(caller) => caller.network().get(),
        None => NetNamespace::initial(),
    }
}

/// Makes the namespaces that clone(2) or unshare(2) asks for, for `own` to go on with. Mounts are for the
/// caller.
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN; `EINVAL` for a kind of which there is one; `ENOSPC`, `ENOMEM`.
pub fn unshare(own: &Thread, flags: CloneFlags) -> Result<NsProxy> {
    let mut new = own.namespaces();
    // First, as it would give the privilege to make the others.
    if Kind::User.is_wanted(flags) {
        make(Kind::User, own, &mut new)?;
    }
    let wanted = || {
        Kind::BY_ADMIN
            .into_iter()
            .filter(|kind| kind.is_wanted(flags))
    };
    if wanted().next().is_some() && !own.credentials().own_ns_capable(Capabilities::SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    for kind in wanted() {
        make(kind, own, &mut new)?;
    }
    Ok(new)
}

/// A namespace of this kind, for `own` to go on with.
fn make(kind: Kind, own: &Thread, new: &mut NsProxy) -> Result<()> {
    let owner = &own.credentials().user_namespace;
    match kind {
        // With the root directory that it comes with: the caller's business.
        Kind::Mount => {}
        Kind::Uts => new.uts = new.uts.duplicate(owner)?,
        Kind::Ipc => new.ipc = IpcNamespace::new(owner)?,
        Kind::Net => new.net = Network::of(NetNamespace::new(owner)?),
        Kind::Pid => {
            let pids = own.process().pid_namespace();
            if new.pid_for_children != *pids {
                return Err(Errno::EINVAL);
            }
            new.pid_for_children = pids.below(owner)?;
        }
        Kind::Cgroup => new.cgroup = Some(CgroupNamespace::at(own, owner)?),
        Kind::Time | Kind::User => {
            return Err(Errno::EINVAL);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initial_namespaces_have_linux_numbers() {
        let text = |namespace: Namespace| alloc::format!("{namespace}");
        let pids = PidNamespace::default();
        assert_eq!(text(Namespace::Pid(pids.clone())), "pid:[4026531836]");
        let names = uts::initial();
        assert_eq!(text(Namespace::Uts(names.clone())), "uts:[4026531838]");
        let user = Namespace::User(UserNamespace::INITIAL);
        assert_eq!(text(user.clone()), "user:[4026531837]");
        assert!(user.owner().is_none());
        let below = Namespace::Pid(pids.below(&UserNamespace::INITIAL).expect("a namespace"));
        let copy = Namespace::Uts(names.duplicate(&UserNamespace::INITIAL).expect("names"));
        assert!(below.ino() > 0xf000_0000 && copy.ino() > 0xf000_0000);
        assert_ne!(below.ino(), copy.ino());
    }
}
