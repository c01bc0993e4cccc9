//! /proc/PID/timerslack_ns and schedstat.

use alloc::sync::Arc;
use core::fmt::Write;
use core::sync::atomic::Ordering;

use abi::{Errno, Result};

use super::scope::Scope;
use super::text::Text;
use crate::task::thread::{self, Thread};

/// What a thread starts with and 0 stands for.
const DEFAULT_SLACK_NS: u64 = 50_000;

/// Others' need CAP_SYS_NICE.
fn permitted(scope: &Scope) -> Result<Arc<Thread>> {
    let target = scope.thread()?;
    let allowed = thread::current().is_none_or(|caller| {
        let owner = target.credentials().user_namespace.clone();
        Arc::ptr_eq(&caller, &target)
            || caller
                .credentials()
                .ns_capable(&owner, fs::Capabilities::SYS_NICE)
    });
    if allowed {
        Ok(target)
    } else {
        Err(Errno::EPERM)
    }
}

/// Time on CPUs, time in run queues, turns: of the thread, or of a process's first one.
pub(super) fn schedstat(scope: &Scope, to: &mut Text) -> Result<()> {
    let (time, turns) = match scope.thread() {
        Ok(thread) => thread.scheduling(),
        Err(_) => Default::default(),
    };
    let ran = time.user_ns + time.system_ns;
    Ok(writeln!(to, "{ran} {} {}", turns.waited_ns, turns.count)?)
}

pub(super) fn timer_slack(scope: &Scope, to: &mut Text) -> Result<()> {
    let slack = permitted(scope)?.timer_slack_ns.load(Ordering::Relaxed);
    Ok(writeln!(to, "{slack}")?)
}

pub(super) fn set_timer_slack(scope: &Scope, from: &[u8]) -> Result<()> {
    let target = permitted(scope)?;
    let text = core::str::from_utf8(from).map_err(|_| Errno::EINVAL)?;
    let slack: u64 = text.trim().parse().map_err(|_| Errno::EINVAL)?;
    let slack = if slack == 0 { DEFAULT_SLACK_NS } else { slack };
    target.timer_slack_ns.store(slack, Ordering::Relaxed);
    Ok(())
}
