//! What a handler works with: the calling thread, its registers, its arguments as types.

use alloc::sync::Arc;

use abi::{Errno, Result};
use fs::{Credentials, FsContext, Kgid, Kuid};
use machine::UserAddr;
use machine::user_mode::UserContext;
use process::own::Own;
use process::task::relations;
use process::task::thread::Thread;
use process::{Pid, PidNumber, Process};

/// One system call on its way.
#[derive(Debug)]
pub struct Context<'a> {
    /// The calling thread.
    pub thread: &'a Arc<Thread>,
    /// What the thread alone changes: descriptors, file system context, credentials.
    pub own: &'a mut Own,
    /// Its user side. Handlers read arguments through the methods; exec and sigreturn write.
    pub user: &'a mut UserContext,
}

impl Context<'_> {
    /// The calling process.
    #[must_use]
    pub fn process(&self) -> &Arc<Process> {
        self.thread.process()
    }

    /// Who the caller is.
    #[inline]
    #[must_use]
    pub fn credentials(&self) -> &Arc<Credentials> {
        self.own.credentials()
    }

    /// The caller's root, working directory, umask and mounts.
    #[inline]
    #[must_use]
    pub fn fs(&self) -> &Arc<FsContext> {
        self.own.fs()
    }

    /// What the caller's PID namespace calls `pid`; 0 when it does not see it.
    #[must_use]
    pub fn shown(&self, pid: &Pid) -> PidNumber {
        self.process().shown(pid)
    }

    /// What the caller's PID namespace calls `number`.
    #[must_use]
    pub fn find_pid(&self, number: PidNumber) -> Option<Arc<Pid>> {
        relations::find_pid(self.process().pid_namespace(), number)
    }

    /// The process of the thread that the caller's PID namespace calls `number`, dead or alive: nearly every call
    /// takes any thread's id for its process.
    #[must_use]
    pub fn find_process(&self, number: PidNumber) -> Option<Arc<Process>> {
        relations::find_process(self.process().pid_namespace(), number)
    }

    /// The process that the caller's PID namespace calls `number` by its first thread, dead or alive.
    #[must_use]
    pub fn find_leader(&self, number: PidNumber) -> Option<Arc<Process>> {
        relations::find_leader(self.process().pid_namespace(), number)
    }

    /// What the caller's user namespace shows `user` as.
    #[must_use]
    pub fn shown_uid(&self, user: Kuid) -> u32 {
        self.credentials().user_namespace.shown_uid(user)
    }

    /// What the caller's user namespace shows `group` as.
    #[must_use]
    pub fn shown_gid(&self, group: Kgid) -> u32 {
        self.credentials().user_namespace.shown_gid(group)
    }

    /// The user that the caller's user namespace calls by argument `index`.
    ///
    /// # Errors
    /// `EINVAL` when it calls nobody so.
    pub fn user_id(&self, index: usize) -> Result<Kuid> {
        let names = &self.credentials().user_namespace;
        names.kuid(self.uint(index)).ok_or(Errno::EINVAL)
    }

    /// The group that the caller's user namespace calls by argument `index`.
    ///
    /// # Errors
    /// `EINVAL` when it calls none so.
    pub fn group_id(&self, index: usize) -> Result<Kgid> {
        let names = &self.credentials().user_namespace;
        names.kgid(self.uint(index)).ok_or(Errno::EINVAL)
    }

    /// As [`Self::user_id`]; `None` for -1, which leaves a user as it is.
    ///
    /// # Errors
    /// As there.
    pub fn optional_user(&self, index: usize) -> Result<Option<Kuid>> {
        match self.uint(index) {
            u32::MAX => Ok(None),
            _ => self.user_id(index).map(Some),
        }
    }

    /// As [`Self::group_id`]; `None` for -1, which leaves a group as it is.
    ///
    /// # Errors
    /// As there.
    pub fn optional_group(&self, index: usize) -> Result<Option<Kgid>> {
        match self.uint(index) {
            u32::MAX => Ok(None),
            _ => self.group_id(index).map(Some),
        }
    }

    /// The thread that the caller's PID namespace calls `number`; of a dead process the first one.
    #[must_use]
    pub fn find_thread(&self, number: PidNumber) -> Option<Arc<Thread>> {
        relations::find_thread(self.process().pid_namespace(), number)
    }

    /// Argument `index` (0 to 5) as the register holds it.
    #[inline]
    #[must_use]
    pub fn arg(&self, index: usize) -> u64 {
        let regs = &self.user.regs;
        match index {
            0 => regs.rdi,
            1 => regs.rsi,
            2 => regs.rdx,
            3 => regs.r10,
            4 => regs.r8,
            _ => regs.r9,
        }
    }

    /// An `int` argument: the upper half of the register does not count.
    #[inline]
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "an int argument is the lower half"
    )]
    pub fn int(&self, index: usize) -> i32 {
        self.arg(index) as i32
    }

    /// An `unsigned int` argument.
    #[inline]
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "an int argument is the lower half"
    )]
    pub fn uint(&self, index: usize) -> u32 {
        self.arg(index) as u32
    }

    /// A `long` or `off_t` argument.
    #[inline]
    #[must_use]
    pub fn long(&self, index: usize) -> i64 {
        self.arg(index).cast_signed()
    }

    /// A `size_t` argument.
    #[inline]
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "usize is 64 bits on x86-64"
    )]
    pub fn size(&self, index: usize) -> usize {
        self.arg(index) as usize
    }

    /// A pointer argument: a claim, checked by using it.
    #[inline]
    #[must_use]
    pub fn addr(&self, index: usize) -> UserAddr {
        UserAddr(self.arg(index))
    }

    /// A pointer argument that may be null.
    #[inline]
    #[must_use]
    pub fn optional_addr(&self, index: usize) -> Option<UserAddr> {
        let addr = self.addr(index);
        (addr.0 != 0).then_some(addr)
    }

    /// A flags argument: the bits `F` knows.
    ///
    /// # Errors
    /// `EINVAL` when a bit is set that `F` does not name.
    #[inline]
    pub fn flags<F: bitflags::Flags<Bits = u32>>(&self, index: usize) -> Result<F> {
        F::from_bits(self.uint(index)).ok_or(Errno::EINVAL)
    }
}
