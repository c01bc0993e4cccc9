//! What becomes of each field of the OCI runtime specification, whoever wrote it and in which version.
//!
//! [`FIELDS`] is the decision as data; `docs/oci.md` is [`page`], so it cannot be wrong. The document is walked as
//! it stands, before anything is made of it: a field that is set and is not in the table is refused by its path.
//! So what a later version of the specification adds is refused, too, until somebody has decided what it means here.

use std::fmt::Write as _;

use serde_json::Value;

use crate::OciError;

mod table;

pub use table::FIELDS;

/// Who sees to a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// The guest: its kernel, or the agent.
    Guest,
    /// The host: the size of the microVM, its processes, or the runtime itself.
    Host,
    /// It is as the field says in every microVM, so there is nothing to do.
    Holds,
    /// Nobody; the container starts with a warning that is counted. For wishes that limit nothing.
    Dropped,
    /// Nobody, so the container does not start.
    Refused,
}

/// One field, with everything beneath it that has no line of its own.
#[derive(Debug)]
pub struct Field {
    /// Its path in `config.json`; elements of arrays have the path of their array.
    pub path: &'static str,
    /// Who sees to it.
    pub policy: Policy,
    /// How, or why not.
    pub note: &'static str,
}

/// A field that was set and is not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// Where it stands.
    pub path: String,
    /// Why it is not followed.
    pub why: &'static str,
}

/// Refuses the first field beneath `path` (empty for the document) that is set and that nobody sees to; gives those
/// that are dropped.
pub(super) fn check(path: &str, value: &Value) -> Result<Vec<Dropped>, OciError> {
    let mut dropped = Vec::new();
    walk(path, value, &mut dropped)?;
    Ok(dropped)
}

fn walk(path: &str, value: &Value, dropped: &mut Vec<Dropped>) -> Result<(), OciError> {
    if is_unset(value) {
        return Ok(());
    }
    let is_above = path.is_empty() || FIELDS.iter().any(|field| is_below(field.path, path));
    match value {
        Value::Object(fields) if is_above => fields.iter().try_for_each(|(name, value)| {
            let separator = if path.is_empty() { "" } else { "." };
            walk(&format!("{path}{separator}{name}"), value, dropped)
        }),
        Value::Array(elements) if is_above && !path.is_empty() => elements
            .iter()
            .try_for_each(|value| walk(path, value, dropped)),
        _ => {
            let refused = |why| OciError::Field {
                path: path.to_owned(),
                why,
            };
            let field = of(path).ok_or_else(|| refused("it is not known here"))?;
            match field.policy {
                Policy::Guest | Policy::Host | Policy::Holds => {}
                Policy::Refused => return Err(refused(field.note)),
                Policy::Dropped => dropped.push(Dropped {
                    path: path.to_owned(),
                    why: field.note,
                }),
            }
            Ok(())
        }
    }
}

/// The line that a path is decided by: its own, or the nearest above it.
fn of(path: &str) -> Option<&'static Field> {
    let covers = |field: &&Field| field.path == path || is_below(path, field.path);
    FIELDS
        .iter()
        .filter(covers)
        .max_by_key(|field| field.path.len())
}

fn is_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above)
        .is_some_and(|rest| rest.starts_with('.'))
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

/// The page `docs/oci.md`.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(INTRODUCTION);
    for field in FIELDS {
        let policy = match field.policy {
            Policy::Guest => "guest",
            Policy::Host => "host",
            Policy::Holds => "holds",
            Policy::Dropped => "dropped",
            Policy::Refused => "**refused**",
        };
        // Writing to a string does not fail.
        let _ = writeln!(page, "| `{}` | {policy} | {} |", field.path, field.note);
    }
    page
}

const INTRODUCTION: &str = "\
<!-- Written by `cargo xtask docs` from host-runtime/oci/src/fields/table.rs. -->

# Fields of the OCI runtime specification

What becomes of each field of a container's `config.json`, and of the process of an exec.

- **guest**: enforced in the guest, by its kernel or by the agent.
- **host**: enforced on the host.
- **holds**: as the field says in every microVM.
- **dropped**: not followed. The container starts, and its log counts and names such fields.
- **refused**: a container that sets it does not start; the message names the field.

A line is about the field and everything beneath it that has no line of its own. A field that is not listed is
refused. Nothing is set where a field is absent, or has the value that Go gives to absent fields.

| field | who sees to it | how |
|---|---|---|
";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{FIELDS, check};

    #[test]
    fn what_nobody_heeds_is_refused_by_its_path() {
        for (document, path) in [
            (
                json!({"hooks": {"startContainer": [{"path": "/x"}]}}),
                "hooks.startContainer",
            ),
            (json!({"hooks": {"later": [{"path": "/x"}]}}), "hooks.later"),
            (
                json!({"linux": {"timeOffsets": {"boottime": {"secs": 1}}}}),
                "linux.timeOffsets",
            ),
            (
                json!({"linux": {"resources": {"blockIO": {"weight": 10}}}}),
                "linux.resources.blockIO",
            ),
            (
                json!({"linux": {"sysctl": {"net.ipv4.ip_forward": "1", "vm.swappiness": "1"}}}),
                "linux.sysctl.vm.swappiness",
            ),
            (
                json!({"linux": {"sysctl": {"network.x": "1"}}}),
                "linux.sysctl.network.x",
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
        assert_eq!(check("", &document).unwrap(), []);
    }

    #[test]
    fn what_limits_nothing_is_dropped_and_named() {
        let document = json!({"linux": {
            "sysctl": {"net.ipv4.ip_unprivileged_port_start": "0"},
            "resources": {"memory": {"kernel": 2}}
        }});
        let dropped = check("", &document).unwrap();
        let paths: Vec<_> = dropped.iter().map(|field| &*field.path).collect();
        assert_eq!(
            paths,
            [
                "linux.resources.memory.kernel",
                "linux.sysctl.net.ipv4.ip_unprivileged_port_start"
            ]
        );
    }

    #[test]
    fn the_table_says_each_field_once() {
        for (index, field) in FIELDS.iter().enumerate() {
            let again = FIELDS[..index]
                .iter()
                .find(|other| other.path == field.path);
            assert!(again.is_none(), "{} twice", field.path);
            assert!(
                !field.note.is_empty() && !field.note.contains('|'),
                "{}",
                field.path
            );
        }
    }
}
