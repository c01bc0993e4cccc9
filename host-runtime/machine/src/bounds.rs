//! How long the host's programs wait for each other, for a guest, and for their clients: all of it in one place.
//!
//! A bound is for what has gone wrong; what works is never waited for that long. On a host where everything is slow,
//! [`VARIABLE`] makes all of them longer.

use std::sync::OnceLock;
use std::time::Duration;

/// The variable with the number, 1 to 100, that all bounds are multiplied by.
pub const VARIABLE: &str = "NACRE_PATIENCE";

/// For the machine's process to build its machine.
pub const MACHINE_SETUP: Bound = Bound(20);
/// For the machine's process to answer a request that waits for nothing but itself.
pub const MACHINE_ANSWER: Bound = Bound(20);
/// For a machine's process that has hung up to end, before it is killed.
pub const MACHINE_REAP: Bound = Bound(2);
/// For QEMU to do what it is asked.
pub const QEMU_ANSWER: Bound = Bound(15);
/// For the agent to answer, from the machine's start.
pub const BOOT: Bound = Bound(60);
/// For a call of the agent that only looks something up or passes something on.
pub const AGENT_CALL: Bound = Bound(20);
/// For a call of the agent that mounts, starts or ends something.
pub const AGENT_WORK: Bound = Bound(60);
/// For the reason of a guest's end to be known once its connections have broken.
pub const GUEST_GONE: Bound = Bound(3);
/// For the reason to be known why a guest no longer tells of its processes.
pub const GUEST_LOST: Bound = Bound(10);
/// For the ends of execs once the container's first process has ended.
pub const STRAGGLERS: Bound = Bound(5);
/// For output to be passed on once its process has ended.
pub const DRAIN: Bound = Bound(5);
/// For a killed process to end, before the kill is answered all the same.
pub const KILLED: Bound = Bound(5);
/// For a guest that was asked to power off and does nothing.
pub const POWER_OFF_QUIET: Bound = Bound(10);
/// For a guest that was asked to power off, whatever it does.
pub const POWER_OFF: Bound = Bound(300);
/// For a pod's process to say how the pod is.
pub const POD_LOOK: Bound = Bound(5);
/// For a pod's process to have the guest do something, which has bounds of its own.
pub const POD_WORK: Bound = Bound(90);
/// For a client's stream to say its token, and for one that is named to come.
pub const STREAM: Bound = Bound(10);
/// For clients to take their last answers once the pod has ended.
pub const LAST_ANSWERS: Bound = Bound(3);
/// For silent output that has not ended although its program has.
pub const OUTPUT: Bound = Bound(10);
/// For the processes of a pod whose owner has died to leave its cgroup.
pub const CGROUP_EMPTY: Bound = Bound(5);
/// For containerd to take an event.
pub const CONTAINERD: Bound = Bound(5);
/// For a hook of the specification that sets no time of its own.
pub const HOOK: Bound = Bound(120);

/// A number of seconds on a host that is not slow.
#[derive(Debug, Clone, Copy)]
pub struct Bound(u32);

impl Bound {
    /// The time on this host.
    #[must_use]
    pub fn get(self) -> Duration {
        Duration::from_secs(u64::from(self.0) * u64::from(factor()))
    }
}

fn factor() -> u32 {
    static FACTOR: OnceLock<u32> = OnceLock::new();
    *FACTOR.get_or_init(|| {
        let Some(words) = std::env::var_os(VARIABLE) else {
            return 1;
        };
        parse(&words.to_string_lossy()).unwrap_or_else(|| {
            tracing::warn!("{VARIABLE} is {words:?}, which is no number from 1 to 100");
            1
        })
    })
}

fn parse(words: &str) -> Option<u32> {
    let number = words.trim().parse().ok()?;
    (1..=100).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn patience_is_a_number_from_1_to_100() {
        assert_eq!(
            [parse("1"), parse(" 10\n"), parse("100")],
            [Some(1), Some(10), Some(100)]
        );
        for words in ["", "0", "101", "-1", "1.5", "long"] {
            assert_eq!(parse(words), None, "{words}");
        }
    }
}
