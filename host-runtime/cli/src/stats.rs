//! `nacre stats`: what pods use on the host, once.

use std::io::{self, Write as _};
use std::time::Duration;

use host_machine::printing::tell;
use pod::client::PodClient;
use pod::state::{Found, StateRoot};
use pod::wire::StatsResponse;
use serde_json::{Value, json};

use super::RunError;
use super::args::{StatsArgs, StatsFormat};
use super::table::Table;

/// Prints a line for each pod and gives the code to exit with: 1 when one could not be asked.
pub(super) fn run(root: &StateRoot, args: &StatsArgs) -> Result<u8, RunError> {
    let mut failures = 0;
    let mut fail = |error: RunError| {
        tell(format_args!("nacre: {error}"));
        failures = 1;
    };
    let mut pods = Vec::new();
    for found in wanted(root, args)? {
        let connected = found.and_then(|pod| {
            let client = PodClient::connect(&pod)?;
            Ok((pod, client))
        });
        match connected {
            Ok(connected) => pods.push(connected),
            Err(error) => fail(error),
        }
    }
    let mut rows = Vec::new();
    let mut texts = Vec::new();
    for (pod, client) in pods {
        let asked = match args.format {
            StatsFormat::Prometheus => client.metrics().map(|text| texts.push(text)),
            _ => client.stats().map(|stats| rows.push((pod, stats))),
        };
        if let Err(error) = asked {
            fail(error.into());
        }
    }
    let text = match args.format {
        StatsFormat::Table => table(&rows),
        StatsFormat::Json => json_of(&rows),
        StatsFormat::Prometheus => pod::metrics::merged(&texts),
    };
    let printed = io::stdout().write_all(text.as_bytes());
    printed.map_err(|source| RunError::Print { source })?;
    Ok(failures)
}

type Row = (Found, StatsResponse);

/// Those that are named, or all.
fn wanted(root: &StateRoot, args: &StatsArgs) -> Result<Vec<Result<Found, RunError>>, RunError> {
    let namespace = args.namespace.as_deref();
    if !args.pods.is_empty() {
        let find = |name: &String| root.find(namespace, name).map_err(RunError::from);
        return Ok(args.pods.iter().map(find).collect());
    }
    let listing = root.list()?;
    let is_wanted = |pod: &Found| namespace.is_none_or(|wanted| wanted == pod.record.namespace);
    let pods = listing.pods.into_iter().filter(is_wanted).map(Ok);
    let complaints = listing
        .complaints
        .into_iter()
        .map(|error| Err(error.into()));
    Ok(pods.chain(complaints).collect())
}

fn table(rows: &[Row]) -> String {
    let heading = [
        "NAMESPACE",
        "NAME",
        "CPU TIME",
        "MEMORY",
        "CGROUP",
        "PIDS",
        "EXITS",
        "REQUESTS",
    ];
    let mut table = Table::new(heading);
    for (pod, stats) in rows {
        let devices = stats.devices.iter();
        let devices = devices.map(|device| format!("{} {}", device.name, device.requests));
        table.row([
            pod.record.namespace.clone(),
            pod.record.name.clone(),
            format!("{:.2} s", Duration::from_nanos(stats.cpu_ns).as_secs_f64()),
            memory(stats.memory_bytes),
            cgroup(stats),
            stats.processes.to_string(),
            stats.exits.iter().sum::<u64>().to_string(),
            devices.collect::<Vec<_>>().join(", "),
        ]);
    }
    table.to_string()
}

fn json_of(rows: &[Row]) -> String {
    let row = |(pod, stats): &Row| {
        let devices = stats.devices.iter();
        let devices = devices.map(|device| (device.name.clone(), Value::from(device.requests)));
        json!({
            "namespace": pod.record.namespace,
            "name": pod.record.name,
            "cpu_ns": stats.cpu_ns,
            "memory_bytes": stats.memory_bytes,
            "processes": stats.processes,
            "process_exits": stats.process_exits,
            "oom_kills": stats.oom_kills,
            "guest_memory_bytes": stats.guest_memory_bytes,
            "guest_available_bytes": stats.guest_available_bytes,
            "guest_cpu_ns": stats.guest_cpu_ns,
            "dropped_fields": stats.dropped_fields,
            "exits": stats.exits,
            "cgroup": cgroup_json(stats),
            "requests": devices.collect::<serde_json::Map<_, _>>(),
        })
    };
    let rows: Vec<_> = rows.iter().map(row).collect();
    format!("{:#}\n", Value::from(rows))
}

/// What is charged to the host's cgroup of the machine, the page cache too, of how much may be.
fn cgroup(stats: &StatsResponse) -> String {
    let Some(cgroup) = stats.cgroup.as_ref() else {
        return "-".to_owned();
    };
    let figure = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), memory);
    let (used, limit) = (cgroup.memory_bytes, cgroup.memory_limit_bytes);
    format!("{} of {}", figure(used), figure(limit))
}

fn cgroup_json(stats: &StatsResponse) -> Value {
    let Some(cgroup) = stats.cgroup.as_ref() else {
        return Value::Null;
    };
    json!({
        "path": cgroup.path,
        "memory_bytes": cgroup.memory_bytes,
        "memory_limit_bytes": cgroup.memory_limit_bytes,
        "processes": cgroup.processes,
        "throttled_ns": cgroup.throttled_ns,
        "oom_kills": cgroup.oom_kills,
    })
}

/// Bytes in the largest unit with a whole number, to a tenth.
fn memory(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let fitting = units.iter().find(|(_, shift)| bytes >> shift != 0);
    match fitting {
        Some((unit, shift)) => {
            let tenths = (u128::from(bytes) * 10) >> shift;
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::memory;

    #[test]
    fn memory_has_units() {
        assert_eq!(memory(0), "0 B");
        assert_eq!(memory(1 << 20), "1.0 MiB");
        assert_eq!(memory(12_700_000), "12.1 MiB");
        assert_eq!(memory(u64::MAX), "17179869183.9 GiB");
    }
}
