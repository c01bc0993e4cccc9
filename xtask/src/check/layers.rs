//! Dependencies between the kernel's crates point down only.

use anyhow::Context;
use serde_json::Value;

use super::Complaints;
use crate::shell;
use crate::workspace::Workspace;

/// The kernel's crates from the bottom up. Each may depend on those before it.
const LAYERS: [&str; 11] = [
    "nacre-abi",
    "nacre-initramfs",
    "nacre-machine",
    "nacre-collections",
    "nacre-sched",
    "nacre-memory",
    "nacre-fs",
    "nacre-net",
    "nacre-process",
    "nacre-syscall",
    "nacre-kernel",
];

/// Looks at the dependencies of every kernel crate.
pub(crate) fn check(workspace: &Workspace) -> anyhow::Result<Complaints> {
    let mut cargo = shell::cargo();
    cargo.args(["metadata", "--no-deps", "--format-version", "1", "--quiet"]);
    let metadata = shell::output(cargo.current_dir(&workspace.root))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata has no packages")?;
    Ok(upward_edges(packages))
}

fn upward_edges(packages: &[Value]) -> Complaints {
    let own: Vec<&str> = packages
        .iter()
        .filter_map(|package| package["name"].as_str())
        .collect();
    let rank = |name: &str| LAYERS.iter().position(|layer| *layer == name);
    let mut complaints = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(layer) = rank(name) else { continue };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let target = dependency["name"].as_str().unwrap_or_default();
            let is_upward = rank(target).is_none_or(|below| below >= layer);
            if own.contains(&target) && is_upward {
                complaints.push(format!("{name} depends on {target}, which is not below it"));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::upward_edges;

    #[test]
    fn refuses_an_upward_edge() {
        let packages = serde_json::json!([
            { "name": "nacre-sched", "dependencies": [{ "name": "nacre-machine" }] },
            { "name": "nacre-machine", "dependencies": [{ "name": "nacre-sched" }, { "name": "spin" }] },
            { "name": "nacre-fs", "dependencies": [{ "name": "nacre-agent" }] },
            { "name": "nacre-agent", "dependencies": [{ "name": "nacre-fs" }] },
        ]);
        let complaints = upward_edges(packages.as_array().expect("an array"));
        assert_eq!(complaints.len(), 2, "{complaints:?}");
        assert!(complaints[0].starts_with("nacre-machine depends on nacre-sched"));
        assert!(complaints[1].starts_with("nacre-fs depends on nacre-agent"));
    }
}
