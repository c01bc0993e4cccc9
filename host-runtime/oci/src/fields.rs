//! Which fields of the OCI runtime specification may be set, whoever wrote it and in which version.
//!
//! The document is walked as it stands, before anything is made of it: a field that is set and is not
//! in [`HEEDED`] is refused by its path. So what a later version of the specification adds is refused,
//! too, until somebody has decided what it means here.

use serde_json::Value;

use crate::OciError;

/// The fields that are enforced, or that hold in any microVM; the comments say which. Elements of arrays have
/// the path of their array. Each field's value is checked where it is read.
const HEEDED: &[&str] = &[
    // Says how the document was written: 1.x.
    "ociVersion",
    // For whoever made the container. None sizes or changes anything here.
    "annotations",
    "hostname",
    "domainname",
    "root.path",
    "root.readonly",
    "mounts.destination",
    "mounts.type",
    "mounts.source",
    "mounts.options",
    "process.terminal",
    "process.consoleSize.height",
    "process.consoleSize.width",
    "process.user.uid",
    "process.user.gid",
    "process.user.umask",
    "process.user.additionalGids",
    "process.args",
    "process.env",
    "process.cwd",
    "process.capabilities.bounding",
    "process.capabilities.effective",
    "process.capabilities.inheritable",
    "process.capabilities.permitted",
    "process.capabilities.ambient",
    "process.rlimits.type",
    "process.rlimits.soft",
    "process.rlimits.hard",
    "process.noNewPrivileges",
    "process.oomScoreAdj",
    // A place in the host's tree of cgroups. What it would limit is limited by the microVM's size.
    "linux.cgroupsPath",
    "linux.namespaces.type",
    "linux.namespaces.path",
    "linux.maskedPaths",
    "linux.readonlyPaths",
    "linux.rootfsPropagation",
    "linux.resources.devices.allow",
    "linux.resources.devices.type",
    "linux.resources.devices.major",
    "linux.resources.devices.minor",
    "linux.resources.devices.access",
    "linux.resources.memory.limit",
    "linux.resources.memory.swap",
    // The guest has no swap to be more or less eager for.
    "linux.resources.memory.swappiness",
    // A microVM's memory is for all that is in it.
    "linux.resources.memory.useHierarchy",
    // About Update, which is not offered.
    "linux.resources.memory.checkBeforeUpdate",
    "linux.resources.pids.limit",
    // The guest has no huge pages, so there are never more than any limit.
    "linux.resources.hugepageLimits.pageSize",
    "linux.resources.hugepageLimits.limit",
    "linux.resources.cpu.shares",
    "linux.resources.cpu.quota",
    "linux.resources.cpu.period",
];

/// Refuses the first field beneath `path` (empty for the document) that is set and not heeded.
pub(super) fn check(path: &str, value: &Value) -> Result<(), OciError> {
    if is_unset(value) || HEEDED.contains(&path) {
        return Ok(());
    }
    let is_above = path.is_empty()
        || HEEDED.iter().any(|heeded| {
            heeded
                .strip_prefix(path)
                .is_some_and(|rest| rest.starts_with('.'))
        });
    match value {
        Value::Object(fields) if is_above => fields.iter().try_for_each(|(name, value)| {
            let separator = if path.is_empty() { "" } else { "." };
            check(&format!("{path}{separator}{name}"), value)
        }),
        Value::Array(elements) if is_above => {
            elements.iter().try_for_each(|value| check(path, value))
        }
        _ => Err(OciError::Unsupported {
            what: path.to_owned(),
        }),
    }
}

/// What Go, in which the specification's types are written, leaves where nothing was set.
fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(elements) => elements.iter().all(is_unset),
        Value::Object(fields) => fields.values().all(is_unset),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::check;

    #[test]
    fn what_nobody_heeds_is_refused_by_its_path() {
        for (document, path) in [
            (json!({"hooks": {"prestart": [{"path": "/x"}]}}), "hooks"),
            (
                json!({"linux": {"timeOffsets": {"boottime": {"secs": 1}}}}),
                "linux.timeOffsets",
            ),
            (
                json!({"linux": {"resources": {"blockIO": {"weight": 10}}}}),
                "linux.resources.blockIO",
            ),
            (
                json!({"process": {"scheduler": {"policy": "SCHED_FIFO"}}}),
                "process.scheduler",
            ),
            (
                json!({"process": {"user": {"username": "u"}}}),
                "process.user.username",
            ),
            (
                json!({"mounts": [{"destination": "/a"}, {"uidMappings": [{"size": 1}]}]}),
                "mounts.uidMappings",
            ),
            (json!({"windows": {"x": 1}}), "windows"),
            (
                json!({"linux": {"somethingNew": "on"}}),
                "linux.somethingNew",
            ),
            (json!({"somethingNew": [1]}), "somethingNew"),
            // A scalar where fields are expected has no field that could be heeded.
            (json!({"linux": 7}), "linux"),
            (json!([1]), ""),
        ] {
            let said = check("", &document).expect_err(path).to_string();
            assert!(said.starts_with(&format!("{path} is not")), "{said}");
        }
    }

    #[test]
    fn zero_values_are_no_wish() {
        let document = json!({
            "hooks": {}, "domainname": "",
            "linux": {
                "seccomp": null, "devices": [], "sysctl": {},
                "resources": {"blockIO": {"weight": 0}, "memory": {"disableOOMKiller": false}}
            },
            "annotations": {"any": "thing"}
        });
        check("", &document).unwrap();
    }
}
