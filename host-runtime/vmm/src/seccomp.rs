//! The system calls that a running VMM may make; every other one ends the process.
//!
//! The filter comes after everything is opened and started, so it has no place for making processes,
//! sockets of a family, or programs. File names are only ever those of the file server.

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::error::VmmError;
use super::pause;

/// Memory, threads, time, waiting, and descriptors that are already there. A thread that was started
/// before the filter may still be setting itself up when it comes.
const GENERAL: [i64; 49] = [
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_wait,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fcntl,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_getsockopt,
    libc::SYS_gettid,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_poll,
    libc::SYS_prctl,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_set_robust_list,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_sigaltstack,
];

/// What the file server does besides reading and writing.
const FILES: [i64; 36] = [
    libc::SYS_capget,
    libc::SYS_capset,
    libc::SYS_fallocate,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getdents64,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getuid,
    libc::SYS_linkat,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_readlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_setgroups,
    libc::SYS_setresgid,
    libc::SYS_setresuid,
    libc::SYS_statx,
    libc::SYS_symlinkat,
    libc::SYS_umask,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
    libc::SYS_writev,
];

/// The device controls: running a CPU, reading its registers for a message, and non-blocking sockets.
const KVM_RUN: u64 = 0xae80;
const KVM_GET_REGS: u64 = 0x8090_ae81;
const KVM_GET_SREGS: u64 = 0x8138_ae83;
const FIONBIO: u64 = 0x5421;

/// Confines all threads of this VMM.
///
/// # Errors
/// When the kernel refuses.
pub fn confine() -> Result<(), VmmError> {
    apply(false)
}

/// Confines this gofer.
///
/// # Errors
/// When the kernel refuses.
pub fn confine_gofer() -> Result<(), VmmError> {
    apply(true)
}

fn apply(serves_files: bool) -> Result<(), VmmError> {
    let program = program(serves_files).map_err(refused)?;
    seccompiler::apply_filter_all_threads(&program).map_err(|error| refused(error.to_string()))
}

fn program(serves_files: bool) -> Result<BpfProgram, String> {
    let mut calls: Vec<i64> = GENERAL.to_vec();
    calls.extend([libc::SYS_write, libc::SYS_writev, libc::SYS_wait4]);
    if serves_files {
        calls.extend(FILES);
    }
    let mut rules: std::collections::BTreeMap<i64, Vec<SeccompRule>> =
        calls.into_iter().map(|call| (call, Vec::new())).collect();
    let controls = [KVM_RUN, KVM_GET_REGS, KVM_GET_SREGS, FIONBIO].map(|request| {
        let equal = SeccompCmpOp::Eq;
        let condition = SeccompCondition::new(1, SeccompCmpArgLen::Qword, equal, request)?;
        SeccompRule::new(vec![condition])
    });
    let controls: Result<_, _> = controls.into_iter().collect();
    rules.insert(
        libc::SYS_tgkill,
        vec![kick().map_err(|error| error.to_string())?],
    );
    rules.insert(
        libc::SYS_ioctl,
        controls.map_err(|error| error.to_string())?,
    );
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        TargetArch::x86_64,
    );
    let program = filter.and_then(BpfProgram::try_from);
    program.map_err(|error| error.to_string())
}

/// The signal that stops a CPU, to a thread of this process.
fn kick() -> Result<SeccompRule, seccompiler::BackendError> {
    let is = |argument, value: u64| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
    };
    let signal = u64::try_from(pause::signal()).unwrap_or(u64::MAX);
    SeccompRule::new(vec![is(0, std::process::id().into())?, is(2, signal)?])
}

fn refused(message: String) -> VmmError {
    let source = std::io::Error::other(message);
    VmmError::Io {
        what: "confine itself to its system calls",
        source,
    }
}

#[cfg(test)]
mod tests;
