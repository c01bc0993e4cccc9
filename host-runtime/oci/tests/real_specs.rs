//! What Docker and containerd's CRI plugin write by default: followed as a whole, or refused for what it names.

use std::path::Path;

use serde_json::{Value, json};

const DOCKER: &str = include_str!("specs/docker.json");
const CRI: &str = include_str!("specs/cri.json");

/// Reads a changed document from a bundle of its own.
fn read(text: &str, change: impl FnOnce(&mut Value)) -> Result<nacre_oci::Plan, String> {
    let mut document = serde_json::from_str(text).expect("a document");
    change(&mut document);
    let bundle = tempfile::tempdir().expect("a directory");
    std::fs::write(bundle.path().join("config.json"), document.to_string()).expect("a file");
    nacre_oci::read("c1", bundle.path()).map_err(|error| error.to_string())
}

#[test]
fn dockers_default_is_followed() {
    let plan = read(DOCKER, |_| {}).expect("a plan");
    assert_eq!(plan.root, Path::new("/var/lib/docker/overlay2/0/merged"));
    assert_eq!((plan.create.mounts.len(), plan.binds.len()), (10, 3));
    let optional = plan.create.mounts.iter().filter(|mount| mount.optional);
    let optional: Vec<_> = optional.map(|mount| mount.type_.as_str()).collect();
    assert_eq!(optional, ["sysfs", "cgroup", "mqueue"]);
    assert_eq!(plan.create.masked_paths.len(), 10);
    // The two about networks, which a microVM does not have.
    assert_eq!(plan.dropped.len(), 2, "{:?}", plan.dropped);
}

#[test]
fn what_docker_adds_by_default_for_security_is_refused_by_name() {
    let said = read(DOCKER, |document| {
        document["linux"]["mountLabel"] = "system_u:object_r:container_file_t:s0".into();
    });
    let said = said.expect_err("a label");
    assert!(said.starts_with("linux.mountLabel is not"), "{said}");
    let said = read(DOCKER, |document| {
        document["process"]["apparmorProfile"] = "docker-default".into();
    });
    let said = said.expect_err("a profile");
    assert!(said.starts_with("process.apparmorProfile"), "{said}");
}

#[test]
fn a_filter_of_system_calls_reaches_the_guest() {
    let with = |profile: Value| {
        let plan = read(DOCKER, |document| document["linux"]["seccomp"] = profile);
        plan.expect("a plan").init
    };
    let filtered = with(json!({
        "defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "syscalls": [{"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"}]
    }));
    assert!(!filtered.seccomp.is_empty() && filtered.seccomp.len().is_multiple_of(8));
    assert_eq!(filtered.seccomp_flags, 2);
    assert!(with(Value::Null).seccomp.is_empty());
}

#[test]
fn a_container_of_a_kubernetes_pod_is_refused_for_the_namespaces_it_joins() {
    let said = read(CRI, |_| {}).expect_err("it joins");
    assert!(
        said.contains("joining the ipc namespace /proc/7/ns/ipc"),
        "{said}"
    );
    // All else in it is followed.
    let alone = read(CRI, |document| {
        let namespaces = document["linux"]["namespaces"].as_array_mut();
        for namespace in namespaces.expect("namespaces") {
            namespace
                .as_object_mut()
                .expect("a namespace")
                .remove("path");
        }
    });
    let plan = alone.expect("a plan");
    assert_eq!((plan.memory_bytes, plan.cpus), (256 << 20, 1));
    assert_eq!(plan.init.oom_score_adj, 1000);
    assert_eq!(plan.limits.shares, Some(2));
    assert!(
        plan.cgroups_path
            .is_some_and(|path| path.contains("cri-containerd"))
    );
    assert_eq!(plan.dropped, []);
}
