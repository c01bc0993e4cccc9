//! The system calls that each thread of a microVM's processes may make; every other one ends its process.
//!
//! A [`Role`] is what a thread is there for. The filters come after everything is opened and started, so they have no
//! place for making processes or programs, sockets or mappings of files, or memory that can be executed; only the
//! gofer names files. [`confine`] is called by each thread for itself, before the guest's first instruction.

use std::collections::BTreeMap;

use seccompiler::SeccompCmpOp::{Eq, MaskedEq};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

use crate::error::JailError;
use crate::sys;

/// What a thread is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Runs one of the guest's CPUs.
    Cpu,
    /// Reads and writes the guest's open files, and passes on what names one.
    Files,
    /// Reads and writes one of the guest's disks, which is open.
    Disk,
    /// Passes the frames of one of the guest's network devices on, between its memory and an open descriptor.
    Net,
    /// The VMM's event loop.
    Main,
    /// The gofer, which opens files.
    Gofer,
    /// All of what serves devices to QEMU, and watches over it.
    Companion,
}

/// All roles.
pub const ROLES: [Role; 7] = [
    Role::Cpu,
    Role::Files,
    Role::Disk,
    Role::Net,
    Role::Main,
    Role::Gofer,
    Role::Companion,
];

/// What allocating, waiting for a lock, returning from a signal and ending the process takes.
const ALL: [i64; 5] = [
    libc::SYS_clock_gettime,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_munmap,
    libc::SYS_rt_sigreturn,
];

/// Device notifications, the console log, and what is told to the owner.
const CPU: [i64; 2] = [libc::SYS_sendmsg, libc::SYS_write];

/// What is done with open files, and asking the gofer for those.
const FILES: [i64; 21] = [
    libc::SYS_brk,
    libc::SYS_close,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_wait,
    libc::SYS_fallocate,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_fsync,
    libc::SYS_lseek,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_read,
    libc::SYS_recvmsg,
    libc::SYS_restart_syscall,
    libc::SYS_sendmsg,
    libc::SYS_write,
];

const DISK: [i64; 11] = [
    libc::SYS_brk,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_wait,
    libc::SYS_fallocate,
    libc::SYS_fdatasync,
    libc::SYS_preadv,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_read,
    libc::SYS_restart_syscall,
    libc::SYS_write,
];

const NET: [i64; 7] = [
    libc::SYS_brk,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_wait,
    libc::SYS_read,
    libc::SYS_restart_syscall,
    // Its rate.
    libc::SYS_timerfd_settime,
    libc::SYS_write,
];

const MAIN: [i64; 31] = [
    libc::SYS_brk,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_wait,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_getsockopt,
    libc::SYS_gettid,
    libc::SYS_mremap,
    libc::SYS_nanosleep,
    libc::SYS_poll,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_sigaltstack,
    // How the gofer ended.
    libc::SYS_wait4,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_exit,
];

/// Names of files, their attributes, and directories; not what is in files.
const GOFER: [i64; 56] = [
    libc::SYS_brk,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_fchmodat,
    libc::SYS_fchownat,
    libc::SYS_fdatasync,
    libc::SYS_fgetxattr,
    libc::SYS_flistxattr,
    libc::SYS_fremovexattr,
    libc::SYS_fsetxattr,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getdents64,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_linkat,
    libc::SYS_lseek,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_mremap,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_recvmsg,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sendmsg,
    libc::SYS_setgroups,
    libc::SYS_setresgid,
    libc::SYS_setresuid,
    libc::SYS_sigaltstack,
    libc::SYS_statx,
    libc::SYS_symlinkat,
    libc::SYS_syncfs,
    libc::SYS_umask,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
    libc::SYS_write,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_poll,
    libc::SYS_epoll_wait,
];

/// Beside what the VMM's file and main threads do: guest memory that QEMU hands over, and QEMU's end.
const COMPANION: [i64; 4] = [
    libc::SYS_pidfd_send_signal,
    libc::SYS_ppoll,
    libc::SYS_statx,
    libc::SYS_waitid,
];

/// The device controls: running a CPU, reading its registers for a message, and non-blocking sockets.
const KVM_RUN: u64 = 0xae80;
const KVM_GET_REGS: u64 = 0x8090_ae81;
const KVM_GET_SREGS: u64 = 0x8138_ae83;
const FIONBIO: u64 = 0x5421;

impl Role {
    /// What people call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "CPU",
            Self::Files => "files",
            Self::Disk => "disk",
            Self::Net => "net",
            Self::Main => "main",
            Self::Gofer => "gofer",
            Self::Companion => "companion",
        }
    }

    /// The calls, each with the rules of which one must hold; none where it may be made with any arguments.
    ///
    /// # Errors
    /// Never: the rules are constants.
    pub fn calls(self) -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
        let plain: &[&[i64]] = match self {
            Self::Cpu => &[&CPU],
            Self::Files => &[&FILES],
            Self::Disk => &[&DISK],
            Self::Net => &[&NET],
            Self::Main => &[&MAIN],
            Self::Gofer => &[&GOFER],
            Self::Companion => &[&FILES, &NET, &MAIN, &COMPANION],
        };
        let plain = ALL.iter().chain(plain.iter().copied().flatten());
        let plain = plain.map(|call| (*call, Vec::new()));
        let mut calls: BTreeMap<_, _> = plain.collect();
        let executable = int(libc::PROT_EXEC);
        let anonymous = int(libc::MAP_ANONYMOUS);
        let none_executable = || (2, MaskedEq(executable), 0);
        let of_no_file = (3, MaskedEq(anonymous), anonymous);
        let mapped = match self {
            // Guest memory, which QEMU hands over when the guest's drivers start.
            Self::Companion => rule(&[none_executable()])?,
            _ => rule(&[none_executable(), of_no_file])?,
        };
        calls.insert(libc::SYS_mmap, vec![mapped]);
        calls.insert(libc::SYS_mprotect, vec![rule(&[none_executable()])?]);
        let give_back = int(libc::MADV_DONTNEED);
        calls.insert(libc::SYS_madvise, vec![rule(&[(2, Eq, give_back)])?]);
        let controls: &[u64] = match self {
            Self::Cpu => &[KVM_RUN, KVM_GET_REGS, KVM_GET_SREGS],
            Self::Net => &[sys::TUNSETOFFLOAD],
            Self::Main => &[FIONBIO],
            Self::Companion => &[FIONBIO, sys::TUNSETOFFLOAD],
            Self::Files | Self::Disk | Self::Gofer => &[],
        };
        if !controls.is_empty() {
            calls.insert(libc::SYS_ioctl, one_of(1, controls)?);
        }
        if self == Self::Main {
            // The signal that stops a CPU, to a thread of this process.
            let signal = int(stop_signal());
            let to_own = rule(&[(0, Eq, std::process::id().into()), (2, Eq, signal)])?;
            calls.insert(libc::SYS_tgkill, vec![to_own]);
        }
        if !matches!(self, Self::Cpu | Self::Disk | Self::Net) {
            let commands = [
                libc::F_GETFD,
                libc::F_GETFL,
                libc::F_SETFL,
                libc::F_DUPFD_CLOEXEC,
            ];
            calls.insert(libc::SYS_fcntl, one_of(1, &commands.map(int))?);
        }
        Ok(calls)
    }
}

/// Confines the calling thread to its role.
///
/// # Errors
/// When the kernel refuses.
pub fn confine(role: Role) -> Result<(), JailError> {
    let program = program(role).map_err(|error| refused(error.to_string()))?;
    seccompiler::apply_filter(&program).map_err(|error| refused(error.to_string()))
}

/// Confines all threads of this process to one role.
///
/// # Errors
/// When the kernel refuses.
pub fn confine_process(role: Role) -> Result<(), JailError> {
    let program = program(role).map_err(|error| refused(error.to_string()))?;
    seccompiler::apply_filter_all_threads(&program).map_err(|error| refused(error.to_string()))
}

/// The filter, as the kernel runs it.
///
/// # Errors
/// Never: the rules are constants.
pub fn program(role: Role) -> Result<BpfProgram, BackendError> {
    let filter = SeccompFilter::new(
        role.calls()?,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        TargetArch::x86_64,
    );
    filter.and_then(BpfProgram::try_from)
}

/// The signal that brings a CPU out of the guest.
#[must_use]
pub fn stop_signal() -> libc::c_int {
    libc::SIGRTMIN()
}

/// Rules of which each allows one value of an argument.
fn one_of(argument: u8, values: &[u64]) -> Result<Vec<SeccompRule>, BackendError> {
    let rules = values.iter().map(|value| rule(&[(argument, Eq, *value)]));
    rules.collect()
}

/// A rule that holds when each of these arguments is as it says, in its lower 32 bits.
fn rule(conditions: &[(u8, SeccompCmpOp, u64)]) -> Result<SeccompRule, BackendError> {
    let conditions = conditions.iter().map(|(argument, compare, value)| {
        let word = SeccompCmpArgLen::Dword;
        SeccompCondition::new(*argument, word, compare.clone(), *value)
    });
    SeccompRule::new(conditions.collect::<Result<_, _>>()?)
}

/// A constant of the C library's, none of which is negative.
fn int(value: libc::c_int) -> u64 {
    u64::from(value.unsigned_abs())
}

fn refused(message: String) -> JailError {
    let source = std::io::Error::other(message);
    JailError {
        what: "confine itself to its system calls",
        source,
    }
}

#[cfg(test)]
mod tests;
