//! Dependencies between the crates of the kernel, and between those of the host runtime, point down only.

use anyhow::Context;
use serde_json::Value;

use super::Complaints;
use crate::shell;
use crate::workspace::Workspace;

/// The kernel's crates from the bottom up. Each may depend on those before it.
const KERNEL: [&str; 13] = [
    "nacre-abi",
    "nacre-initramfs",
    "nacre-vsock-packet",
    "nacre-machine",
    "nacre-collections",
    "nacre-bpf",
    "nacre-sched",
    "nacre-memory",
    "nacre-fs",
    "nacre-net",
    "nacre-process",
    "nacre-syscall",
    "nacre-kernel",
];

/// The host runtime's, likewise. What host and guest share lies below all of them.
const HOST: [&str; 14] = [
    "nacre-initramfs",
    "nacre-vsock-packet",
    "nacre-agent-protocol",
    "nacre-host-machine",
    "nacre-devices",
    "nacre-jail",
    "nacre-vmm",
    "nacre-qemu",
    "nacre-image",
    "nacre-oci",
    "nacre-host-net",
    "nacre-pod",
    "nacre-shim",
    "nacre-cli",
];

/// Dependencies that point down and are not to be: what owns a machine knows it by the trait alone, and the two
/// machines, and the two ways in, know nothing of each other.
const APART: [(&str, &str); 14] = [
    ("nacre-image", "nacre-vmm"),
    ("nacre-oci", "nacre-vmm"),
    ("nacre-host-net", "nacre-vmm"),
    ("nacre-pod", "nacre-vmm"),
    ("nacre-shim", "nacre-vmm"),
    ("nacre-cli", "nacre-vmm"),
    ("nacre-image", "nacre-qemu"),
    ("nacre-oci", "nacre-qemu"),
    ("nacre-host-net", "nacre-qemu"),
    ("nacre-pod", "nacre-qemu"),
    ("nacre-shim", "nacre-qemu"),
    ("nacre-cli", "nacre-qemu"),
    ("nacre-qemu", "nacre-vmm"),
    ("nacre-cli", "nacre-shim"),
];

/// Looks at the dependencies of every crate that has a layer.
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
    let mut complaints = Vec::new();
    for (package, layers) in packages
        .iter()
        .flat_map(|package| [&KERNEL[..], &HOST[..]].map(|layers| (package, layers)))
    {
        let rank = |name: &str| layers.iter().position(|layer| *layer == name);
        let name = package["name"].as_str().unwrap_or_default();
        let Some(layer) = rank(name) else { continue };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let target = dependency["name"].as_str().unwrap_or_default();
            let is_upward = rank(target).is_none_or(|below| below >= layer);
            if own.contains(&target) && is_upward {
                complaints.push(format!("{name} depends on {target}, which is not below it"));
            } else if APART.contains(&(name, target)) {
                complaints.push(format!(
                    "{name} depends on {target}, which it is not to know"
                ));
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
            { "name": "nacre-pod", "dependencies": [{ "name": "nacre-host-machine" }, { "name": "nacre-shim" }] },
            { "name": "nacre-cli", "dependencies": [{ "name": "nacre-vmm" }, { "name": "nacre-pod" }] },
            { "name": "nacre-vmm", "dependencies": [] },
            { "name": "nacre-shim", "dependencies": [{ "name": "nacre-pod" }] },
            { "name": "nacre-host-machine", "dependencies": [] },
        ]);
        let complaints = upward_edges(packages.as_array().expect("an array"));
        assert_eq!(complaints.len(), 4, "{complaints:?}");
        assert!(complaints[0].starts_with("nacre-machine depends on nacre-sched"));
        assert!(complaints[1].starts_with("nacre-fs depends on nacre-agent"));
        assert!(complaints[2].starts_with("nacre-pod depends on nacre-shim"));
        assert!(complaints[3].starts_with("nacre-cli depends on nacre-vmm"));
    }
}
