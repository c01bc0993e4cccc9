//! [`StatsResponse`] in Prometheus's text format (version 0.0.4): one table of what there is.

use std::fmt::Write as _;

use crate::wire::StatsResponse;

/// One metric: name, kind, help, and its samples, each with the label that tells it from the others, if there are others.
struct Metric {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    samples: fn(&StatsResponse) -> Samples,
}

type Samples = Vec<(Option<(&'static str, String)>, String)>;

const METRICS: &[Metric] = &[
    Metric {
        name: "nacre_pod_memory_bytes",
        kind: "gauge",
        help: "Memory of the host that the pod's processes have, their proportional share of what others have, too.",
        samples: |stats| one(stats.memory_bytes),
    },
    Metric {
        name: "nacre_pod_cpu_seconds_total",
        kind: "counter",
        help: "Time of the host's processors that the pod's processes have used.",
        samples: |stats| vec![(None, seconds(stats.cpu_ns))],
    },
    Metric {
        name: "nacre_pod_processes",
        kind: "gauge",
        help: "Processes of the pod's containers.",
        samples: |stats| one(stats.processes.into()),
    },
    Metric {
        name: "nacre_pod_process_exits_total",
        kind: "counter",
        help: "Ends of processes that were started from outside.",
        samples: |stats| one(stats.process_exits),
    },
    Metric {
        name: "nacre_pod_oom_kills_total",
        kind: "counter",
        help: "Processes of the pod that the guest has killed for want of memory.",
        samples: |stats| one(stats.oom_kills),
    },
    Metric {
        name: "nacre_pod_guest_memory_bytes",
        kind: "gauge",
        help: "Memory that the guest has.",
        samples: |stats| one(stats.guest_memory_bytes),
    },
    Metric {
        name: "nacre_pod_guest_available_bytes",
        kind: "gauge",
        help: "Memory of the guest that programs could have.",
        samples: |stats| one(stats.guest_available_bytes),
    },
    Metric {
        name: "nacre_pod_guest_cpu_seconds_total",
        kind: "counter",
        help: "Time that the guest's processors have not been idle.",
        samples: |stats| vec![(None, seconds(stats.guest_cpu_ns))],
    },
    Metric {
        name: "nacre_pod_dropped_fields_total",
        kind: "counter",
        help: "Fields of the container's specification that are set and not followed.",
        samples: |stats| one(stats.dropped_fields),
    },
    Metric {
        name: "nacre_pod_vm_exits_total",
        kind: "counter",
        help: "Exits of a virtual processor to the machine's process.",
        samples: |stats| {
            let exits = stats.exits.iter().enumerate();
            exits
                .map(|(cpu, count)| (Some(("cpu", cpu.to_string())), count.to_string()))
                .collect()
        },
    },
    Metric {
        name: "nacre_pod_device_requests_total",
        kind: "counter",
        help: "Requests that a device of the machine has answered.",
        samples: |stats| {
            let devices = stats.devices.iter();
            devices
                .map(|device| {
                    let label = ("device", device.name.clone());
                    (Some(label), device.requests.to_string())
                })
                .collect()
        },
    },
];

fn one(value: u64) -> Samples {
    vec![(None, value.to_string())]
}

/// Nanoseconds as seconds, exactly.
fn seconds(ns: u64) -> String {
    format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000)
}

/// The text for one pod.
#[must_use]
pub fn text(namespace: &str, pod: &str, stats: &StatsResponse) -> String {
    let (namespace, pod) = (escaped(namespace), escaped(pod));
    let mut text = String::new();
    for metric in METRICS {
        let (name, kind) = (metric.name, metric.kind);
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "# HELP {name} {}\n# TYPE {name} {kind}\n",
            metric.help
        );
        for (label, value) in (metric.samples)(stats) {
            let label = label.map_or_else(String::new, |(label, value)| {
                format!(",{label}=\"{}\"", escaped(&value))
            });
            let _ = writeln!(
                text,
                "{name}{{namespace=\"{namespace}\",pod=\"{pod}\"{label}}} {value}"
            );
        }
    }
    text
}

/// One text of those of many pods: what is of one metric has to stand together.
#[must_use]
pub fn merged(texts: &[String]) -> String {
    let mut metrics: Vec<(&str, Vec<&str>)> = Vec::new();
    for text in texts {
        let mut current = None;
        for line in text.lines() {
            let heading = line.strip_prefix("# HELP ");
            if let Some(name) = heading.and_then(|rest| rest.split(' ').next()) {
                let known = metrics.iter().position(|(known, _)| *known == name);
                current = Some((known.unwrap_or(metrics.len()), known.is_some()));
                if known.is_none() {
                    metrics.push((name, Vec::new()));
                }
            }
            // Its headings once; a line before the first heading is nobody's.
            if let Some((index, is_known)) = current
                && !(is_known && line.starts_with('#'))
            {
                metrics[index].1.push(line);
            }
        }
    }
    let lines = metrics.iter().flat_map(|(_, lines)| lines);
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// A label's value: backslash, quote and line feed are escaped.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::stats_response::Device;

    #[test]
    fn every_pod_has_its_samples_under_one_heading() {
        let device = |name: &str, requests| Device {
            name: name.to_owned(),
            requests,
            ..Default::default()
        };
        let first = StatsResponse {
            memory_bytes: 4096,
            cpu_ns: 1_500_000_001,
            exits: vec![7, 9],
            devices: vec![device("fs", 3), device("a\"b", 4)],
            ..Default::default()
        };
        let second = StatsResponse::default();
        let texts = [
            text("default", "one", &first),
            text("k8s.io", "two", &second),
        ];
        let text = merged(&texts);
        for line in [
            "# TYPE nacre_pod_memory_bytes gauge",
            "nacre_pod_memory_bytes{namespace=\"default\",pod=\"one\"} 4096",
            "nacre_pod_memory_bytes{namespace=\"k8s.io\",pod=\"two\"} 0",
            "nacre_pod_cpu_seconds_total{namespace=\"default\",pod=\"one\"} 1.500000001",
            "nacre_pod_vm_exits_total{namespace=\"default\",pod=\"one\",cpu=\"1\"} 9",
            "nacre_pod_device_requests_total{namespace=\"default\",pod=\"one\",device=\"a\\\"b\"} 4",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        let headings = text.matches("# TYPE").count();
        assert_eq!(headings, METRICS.len());
        assert!(text.ends_with('\n'));
    }
}
