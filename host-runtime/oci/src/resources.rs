//! `linux.resources`: what becomes the microVM's size or its cgroup's limits, what the container's control group in the guest
//! is set to, what holds in any, and what is refused.

use std::collections::HashMap;

use oci_spec::runtime::{
    LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType, LinuxMemory, LinuxResources,
};

use super::{invalid, unsupported};
use crate::OciError;
use host_machine::MIN_MEMORY;

/// What a microVM gets when the container sets no limit.
const DEFAULT_MEMORY: u64 = 256 << 20;

/// A microVM's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) cpus: u32,
    pub(super) memory_bytes: u64,
    pub(super) limits: CpuLimits,
}

/// What the host's cgroup of the pod is to hold it to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuLimits {
    /// So many microseconds of processor time in a period of so many.
    pub quota: Option<(u64, u64)>,
    /// A weight against others of the host.
    pub shares: Option<u64>,
}

impl CpuLimits {
    /// Whether the number of virtual CPUs does not say as much.
    #[must_use]
    pub fn is_part_of_a_cpu(&self) -> bool {
        self.quota
            .is_some_and(|(quota, period)| quota % period != 0)
    }
}

/// Checks all of it and gives the size.
pub(super) fn size(resources: Option<&LinuxResources>) -> Result<Size, OciError> {
    if let Some(resources) = resources {
        resources.devices().iter().flatten().try_for_each(device)?;
    }
    let limits = cpu_limits(resources.and_then(|resources| resources.cpu().as_ref()));
    Ok(Size {
        cpus: cpus(&limits)?,
        limits,
        memory_bytes: memory(resources.and_then(|resources| resources.memory().as_ref()))?,
    })
}

/// Files of control groups (version 2) that the guest's kernel has for containers, and that mean the same there.
const UNIFIED: [&str; 8] = [
    "memory.high",
    "memory.low",
    "memory.max",
    "memory.min",
    "memory.oom.group",
    "memory.swap.high",
    "memory.swap.max",
    "pids.max",
];

/// What the container's control group in the guest is set to: files of version 2, from the fields of version 1 as runc
/// has it, and what `unified` says over them.
pub(super) fn group(
    resources: Option<&LinuxResources>,
) -> Result<HashMap<String, String>, OciError> {
    let mut files = HashMap::new();
    let Some(resources) = resources else {
        return Ok(files);
    };
    let mut set = |name: &str, value: i64| files.insert(name.to_owned(), value.to_string());
    if let Some(memory) = resources.memory() {
        let positive = |value: Option<i64>| value.filter(|value| *value > 0);
        let limit = positive(memory.limit());
        if let Some(limit) = limit {
            set("memory.max", limit);
            // There it is for memory and swap together.
            if let Some(both) = positive(memory.swap()) {
                set("memory.swap.max", both.saturating_sub(limit).max(0));
            }
        }
        if let Some(reservation) = positive(memory.reservation()) {
            set("memory.low", reservation);
        }
    }
    if let Some(limit) = resources.pids().as_ref().map(|pids| pids.limit())
        && limit > 0
    {
        set("pids.max", limit);
    }
    for (name, value) in resources.unified().iter().flatten() {
        if !UNIFIED.contains(&name.as_str()) {
            return Err(unsupported(&format!("{name} in linux.resources.unified")));
        }
        files.insert(name.clone(), value.clone());
    }
    Ok(files)
}

/// The devices that containers have in the guest: character devices, by major and minor number. All others are absent,
/// or the machine's own terminals, which no container's node opens.
const DEVICES: [(i64, Option<i64>); 8] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(2)),
    (136, None),
];

/// runc lets every container use the devices of the guest, so it makes no difference whether all are denied, or others
/// are denied or allowed. Denying one of them would have to be kept.
fn device(rule: &LinuxDeviceCgroup) -> Result<(), OciError> {
    let wildcard = |number: Option<i64>| number.is_none_or(|number| number < 0);
    let of_any_kind = matches!(rule.typ(), None | Some(LinuxDeviceType::A));
    let of_all = of_any_kind && wildcard(rule.major()) && wildcard(rule.minor());
    let is_block = matches!(rule.typ(), Some(LinuxDeviceType::B));
    if rule.allow() || of_all || is_block {
        return Ok(());
    }
    let meets = |wanted: Option<i64>, number: Option<i64>| {
        wildcard(wanted) || number.is_none_or(|number| wanted == Some(number))
    };
    let denied = DEVICES
        .iter()
        .any(|&(major, minor)| meets(rule.major(), Some(major)) && meets(rule.minor(), minor));
    if !denied {
        return Ok(());
    }
    Err(unsupported(&format!(
        "denying a default device ({}:{}) in linux.resources.devices",
        rule.major().unwrap_or(-1),
        rule.minor().unwrap_or(-1)
    )))
}

/// A memory limit is the microVM's size: the guest cannot have more than that.
fn memory(memory: Option<&LinuxMemory>) -> Result<u64, OciError> {
    let limit = memory.and_then(LinuxMemory::limit);
    let limit = limit.filter(|&limit| limit != 0 && limit != -1);
    // Memory and swap together: without swap, what holds for the memory holds for both.
    let swap = memory.and_then(LinuxMemory::swap).unwrap_or(0);
    if swap > 0 && limit.is_none_or(|limit| swap < limit) {
        return Err(invalid(&format!(
            "the limit of {swap} bytes for memory and swap (linux.resources.memory.swap) is below that for \
             memory alone; the guest has no swap"
        )));
    }
    match limit {
        None => Ok(DEFAULT_MEMORY),
        Some(limit) => u64::try_from(limit).ok().filter(|&limit| limit >= MIN_MEMORY).ok_or_else(|| {
            invalid(&format!("the memory limit of {limit} bytes is below the {MIN_MEMORY} that a microVM needs"))
        }),
    }
}

/// What is set of them; 0 and -1 are not.
fn cpu_limits(cpu: Option<&LinuxCpu>) -> CpuLimits {
    let quota = cpu
        .and_then(LinuxCpu::quota)
        .and_then(|quota| u64::try_from(quota).ok());
    // The kernel's own period, which 0 leaves as it is.
    let period = cpu
        .and_then(LinuxCpu::period)
        .filter(|&period| period > 0)
        .unwrap_or(100_000);
    let quota = quota
        .filter(|&quota| quota > 0)
        .map(|quota| (quota, period));
    let shares = cpu.and_then(LinuxCpu::shares).filter(|&shares| shares > 0);
    CpuLimits { quota, shares }
}

/// As many virtual CPUs as a CPU quota can keep busy.
fn cpus(limits: &CpuLimits) -> Result<u32, OciError> {
    let (quota, period) = limits.quota.unwrap_or((1, 1));
    u32::try_from(quota.div_ceil(period)).map_err(|_| invalid("the CPU quota is out of range"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{CpuLimits, Size, group, size};

    fn of(resources: Value) -> Result<Size, String> {
        let resources = serde_json::from_value(resources).expect("resources");
        size(Some(&resources)).map_err(|error| error.to_string())
    }

    #[test]
    fn limits_are_sizes() {
        let got = of(json!({
            "memory": {"limit": 134_217_728, "swap": 268_435_456},
            "cpu": {"shares": 1024, "quota": 200_000, "period": 100_000},
            "devices": [
                {"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 3},
                {"allow": false, "type": "c", "major": 10, "minor": 229}, {"allow": false, "type": "b"}
            ],
            "pids": {"limit": -1}
        }));
        let size = Size {
            cpus: 2,
            memory_bytes: 128 << 20,
            limits: CpuLimits {
                quota: Some((200_000, 100_000)),
                shares: Some(1024),
            },
        };
        assert!(!size.limits.is_part_of_a_cpu());
        assert_eq!(got, Ok(size));
        let none = of(json!({"memory": {"limit": -1}, "cpu": {"quota": -1, "period": 0}}));
        let none = none.expect("no limit");
        assert_eq!((none.cpus, none.limits), (1, CpuLimits::default()));
        let parts = of(json!({"cpu": {"quota": 150_000}})).expect("a CPU and a half");
        assert_eq!(parts.cpus, 2);
        assert!(parts.limits.is_part_of_a_cpu());
    }

    #[test]
    fn the_guest_gets_files_of_version_two() {
        let of = |resources: Value| {
            let resources = serde_json::from_value(resources).expect("resources");
            let files = group(Some(&resources)).map_err(|error| error.to_string())?;
            let mut files: Vec<_> = files.into_iter().collect();
            files.sort();
            Ok::<_, String>(files)
        };
        let expected = |files: &[(&str, &str)]| {
            let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            Ok(files.iter().map(own).collect::<Vec<_>>())
        };
        let limits = json!({
            "memory": {"limit": 1_000_000, "swap": 3_000_000, "reservation": 5},
            "pids": {"limit": 9},
            "unified": {"memory.high": "7", "pids.max": "8"}
        });
        assert_eq!(
            of(limits),
            expected(&[
                ("memory.high", "7"),
                ("memory.low", "5"),
                ("memory.max", "1000000"),
                ("memory.swap.max", "2000000"),
                ("pids.max", "8"),
            ])
        );
        let none = json!({"memory": {"limit": -1, "swap": -1}, "pids": {"limit": -1}});
        assert_eq!(of(none), expected(&[]));
        let said = of(json!({"unified": {"hugetlb.2MB.max": "1"}})).expect_err("hugetlb");
        assert!(said.contains("hugetlb.2MB.max"), "{said}");
    }

    #[test]
    fn what_a_size_cannot_say_is_refused_by_name() {
        for (resources, word) in [
            (json!({"memory": {"limit": 1_048_576}}), "memory limit"),
            (json!({"memory": {"swap": 1_048_576}}), "memory.swap"),
            (
                json!({"memory": {"limit": 134_217_728, "swap": 1}}),
                "memory.swap",
            ),
            (
                json!({"devices": [{"allow": false, "type": "c", "major": 1, "minor": 3}]}),
                "1:3",
            ),
            (
                json!({"devices": [{"allow": false, "type": "c", "major": 136}]}),
                "136:-1",
            ),
            (json!({"devices": [{"allow": false, "type": "c"}]}), "-1:-1"),
        ] {
            let said = of(resources).expect_err(word);
            assert!(said.contains(word), "{said}");
        }
    }
}
