//! What is found of a host's trees, and, as root of a host with cgroups, a real leaf from its making to its end.

use std::fs;
use std::path::Path;

use super::hierarchy::{self, Controller};
use super::{Limits, Place, Quota, Wish};

const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:5 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/x /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

#[test]
fn each_controller_is_in_one_tree() {
    let found = hierarchy::parse(HYBRID, |_| "pids cpu".to_owned());
    let mounts: Vec<_> = found
        .iter()
        .map(|tree| tree.mount.display().to_string())
        .collect();
    let names = ["cpu,cpuacct", "memory", "unified"];
    assert_eq!(mounts, names.map(|name| format!("/sys/fs/cgroup/{name}")));
    assert!(found[0].has(Controller::Cpu) && !found[2].has(Controller::Cpu));
    assert!(found[2].has(Controller::Pids));
    let v2 = "25 20 0:22 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
    let found = hierarchy::parse(v2, |_| "cpuset cpu io memory pids\n".to_owned());
    assert_eq!(found.len(), 1);
    assert!(hierarchy::parse("nonsense - cgroup\n\n", |_| String::new()).is_empty());
}

#[test]
fn a_leaf_has_its_limits_and_goes_with_what_was_made_for_it() {
    let wish = Wish {
        path: None,
        needs: None,
    };
    let top = format!("nacre-test-{}", std::process::id());
    let own = Path::new(&top).join("ns/pod");
    let Some(place) = Place::find(wish, &own).expect("a path") else {
        return;
    };
    let directories = place.directories().clone();
    let limits = Limits {
        memory: 64 << 20,
        cpu: Some(Quota {
            quota_us: 50_000,
            period_us: 100_000,
        }),
        shares: Some(512),
        processes: 17,
    };
    let leaf = match place.make(&limits) {
        Ok(leaf) => leaf,
        Err(error) => {
            // An ordinary user's tests, or those of a container.
            assert!(error.to_string().contains("cgroup"), "{error}");
            directories.remove().expect("nothing is in it");
            return;
        }
    };
    let usage = leaf.usage();
    for (found, expected) in [(usage.memory_limit, 64 << 20), (usage.processes, 0)] {
        assert!(found.is_none_or(|found| found == expected), "{usage:?}");
    }
    leaf.set_memory(96 << 20).expect("more");
    assert!(
        leaf.usage()
            .memory_limit
            .is_none_or(|limit| limit == 96 << 20)
    );
    let machine = leaf.machine();
    assert!(!machine.procs.is_empty());
    // Somebody who is told to use the same place does, as long as nobody is in it.
    let mut sleeper = std::process::Command::new("sleep")
        .arg("1000")
        .spawn()
        .expect("sleep");
    for procs in &machine.procs {
        fs::write(procs, sleeper.id().to_string()).expect("root may");
    }
    let asked = leaf.path().display().to_string();
    let wish = Wish {
        path: Some(&asked),
        needs: Some("a test"),
    };
    let place = Place::find(wish, &own)
        .expect("a path")
        .expect("the same trees");
    let said = place.make(&limits).expect_err("taken").to_string();
    assert!(said.contains("has processes already"), "{said}");
    sleeper.kill().expect("it sleeps");
    sleeper.wait().expect("a child");
    directories.remove().expect("nobody is in it");
    for procs in &machine.procs {
        assert!(!procs.exists());
    }
    let gone = hierarchy::of_host()
        .iter()
        .all(|tree| !tree.mount.join(&top).exists());
    assert!(gone, "{top} is left");
}
