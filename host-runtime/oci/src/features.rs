//! What this runtime can do, in the words of the specification (`features.md`), for programs that ask.

use rustix::thread::CapabilitySet;
use serde_json::{Value, json};

/// The document. What is not in it, clients take as not known; what is not offered is said to be off.
#[must_use]
pub fn features() -> Value {
    let capabilities: Vec<_> = CapabilitySet::all()
        .iter_names()
        .map(|(name, _)| format!("CAP_{name}"))
        .collect();
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.2.1",
        "hooks": ["prestart", "createRuntime", "poststart", "poststop"],
        "mountOptions": [
            "bind", "defaults", "dev", "dirsync", "exec", "noatime", "nodev", "nodiratime", "noexec", "nosuid",
            "private", "rbind", "relatime", "ro", "rprivate", "rw", "strictatime", "suid", "sync"
        ],
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "uts"],
            "capabilities": capabilities,
            "cgroup": {"v1": false, "v2": false, "systemd": false, "systemdUser": false, "rdma": false},
            "seccomp": {
                "enabled": true,
                "actions": [
                    "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD",
                    "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"
                ],
                "operators": [
                    "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ",
                    "SCMP_CMP_NE"
                ],
                "archs": ["SCMP_ARCH_X86_64"],
                "knownFlags": [
                    "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"
                ],
                "supportedFlags": [
                    "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"
                ]
            },
            "apparmor": {"enabled": false},
            "selinux": {"enabled": false},
            "intelRdt": {"enabled": false},
            "mountExtensions": {"idmap": {"enabled": false}}
        }
    })
}

#[cfg(test)]
mod tests {
    use agent_protocol::MountOptions;
    use oci_spec::runtime::Features;

    use super::features;

    #[test]
    fn the_document_is_one_of_the_specification_and_true() {
        let parsed: Features = serde_json::from_value(features()).expect("a document");
        let options = parsed.mount_options().clone().expect("options");
        let sorted = MountOptions::sort(&options).expect("all are known");
        assert_eq!(sorted.data, [""; 0], "left to the file system");
        let capabilities = features()["linux"]["capabilities"].clone();
        assert_eq!(capabilities.as_array().map(Vec::len), Some(41));
    }
}
