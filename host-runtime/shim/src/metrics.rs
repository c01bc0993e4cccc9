//! A pod's figures as containerd's clients know them: as those of a cgroup of version 2.

use containerd_shim_protos::cgroups_v2::metrics::{
    CPUStat, MemoryEvents, MemoryStat, Metrics, PidsStat,
};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageFull};

/// What the task's Stats call answers: the memory and time of the host that the pod's processes have.
pub(super) fn of(stats: &pod::wire::StatsResponse) -> Any {
    let metrics = Metrics {
        pids: Some(PidsStat {
            current: stats.processes.into(),
            ..Default::default()
        })
        .into(),
        cpu: Some(CPUStat {
            usage_usec: stats.cpu_ns / 1000,
            ..Default::default()
        })
        .into(),
        memory_events: Some(MemoryEvents {
            oom_kill: stats.oom_kills,
            ..Default::default()
        })
        .into(),
        memory: Some(MemoryStat {
            usage: stats.memory_bytes,
            usage_limit: stats.cgroup.memory_limit_bytes.unwrap_or(0),
            ..Default::default()
        })
        .into(),
        ..Default::default()
    };
    Any {
        type_url: Metrics::descriptor().full_name().to_owned(),
        // Plain fields always have an encoding.
        value: metrics.write_to_bytes().unwrap_or_default(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_find_what_they_read() {
        let stats = pod::wire::StatsResponse {
            memory_bytes: 12_000_000,
            cpu_ns: 1_234_567,
            processes: 3,
            ..Default::default()
        };
        let any = of(&stats);
        assert_eq!(any.type_url, "io.containerd.cgroups.v2.Metrics");
        let metrics = Metrics::parse_from_bytes(&any.value).expect("a message");
        let read = (
            metrics.memory.usage,
            metrics.cpu.usage_usec,
            metrics.pids.current,
        );
        assert_eq!(read, (12_000_000, 1234, 3));
    }
}
