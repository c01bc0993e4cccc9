//! What a process may do and how it is told apart, each in a test of its own: an agent that forgot to restrict a process
//! would run all the others' programs just as well.

mod common;

use agent_protocol::{Capabilities, FailureKind, Rlimit};
use common::{Host, ID, request};
use pod::{AgentError, Broken, Ends, PodError, ProcessExit};

const STATUS: &[&str] = &[
    "busybox",
    "grep",
    "-E",
    "^(Cap|NoNewPrivs)",
    "/proc/self/status",
];

/// The fields that [`STATUS`] prints, without their names' padding.
fn fields(status: &str) -> Vec<(String, u64)> {
    let field = |line: &str| {
        let (name, value) = line.split_once(':').expect("a field");
        let value = u64::from_str_radix(value.trim(), 16).expect("a number");
        (name.to_owned(), value)
    };
    status.lines().map(field).collect()
}

#[test]
fn capabilities_and_new_privileges_are_as_asked() {
    let host = Host::new();
    let sets = [
        ("CapInh", 0x1),
        ("CapPrm", 0x23),
        ("CapEff", 0x22),
        ("CapBnd", 0x2b),
        ("CapAmb", 0x1),
        ("NoNewPrivs", 1),
    ];
    let restricted = host.start("", STATUS, |request| {
        request.no_new_privileges = true;
        request.capabilities = Some(Capabilities {
            inheritable: 0x1,
            permitted: 0x23,
            effective: 0x22,
            bounding: 0x2b,
            ambient: 0x1,
            ..Default::default()
        })
        .into();
        // Root's capabilities would be raised by execve(2).
        request.user = Some(agent_protocol::User {
            uid: 7,
            gid: 8,
            ..Default::default()
        })
        .into();
    });
    let (stdout, stderr, exit) = restricted.finish();
    assert_eq!((&*stderr, exit), ("", ProcessExit::Code(0)));
    // What execve(2) makes of them: an ordinary user's program keeps the ambient set.
    let kept = sets.map(|(name, value)| match name {
        "CapPrm" | "CapEff" => (name.to_owned(), 0x1),
        _ => (name.to_owned(), value),
    });
    assert_eq!(fields(&stdout), kept);

    let host = Host::new();
    let (stdout, _, _) = host.run(STATUS).finish();
    let free = fields(&stdout);
    assert!(free.contains(&("NoNewPrivs".to_owned(), 0)), "{stdout}");
    let bounding = free.iter().find(|(name, _)| name == "CapBnd");
    assert_ne!(bounding.expect("a set").1, 0x2b, "{stdout}");
}

#[test]
fn both_limits_of_a_resource_are_as_asked() {
    let host = Host::new();
    let script = "ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hc";
    let run = host.start("", &["sh", "-c", script], |request| {
        let (nofile, core) = ("RLIMIT_NOFILE", "RLIMIT_CORE");
        for (name, soft, hard) in [(nofile, 50, 60), (core, 0, u64::MAX)] {
            request.rlimits.push(Rlimit {
                type_: name.to_owned(),
                soft,
                hard,
                ..Default::default()
            });
        }
    });
    assert_eq!(run.finish().0, "50\n60\n0\nunlimited\n");
}

#[test]
fn mounts_forbid_what_they_are_asked_to() {
    let host = Host::new();
    let (stdout, _, _) = host.run(&["cat", "/proc/self/mounts"]).finish();
    for (at, words) in [
        ("/proc", &["nosuid", "nodev", "noexec"][..]),
        ("/dev/shm", &["nosuid", "nodev", "noexec"]),
        ("/dev/pts", &["nosuid", "noexec"]),
        ("/dev", &["nosuid"]),
    ] {
        let line = stdout
            .lines()
            .find(|line| line.split(' ').nth(1) == Some(at));
        let line = line.unwrap_or_else(|| panic!("no {at} in {stdout}"));
        let options: Vec<_> = line
            .split(' ')
            .nth(3)
            .unwrap_or_default()
            .split(',')
            .collect();
        for word in words {
            assert!(options.contains(word), "{word} not in {line}");
        }
    }
}

#[test]
fn every_exit_code_comes_back() {
    for code in [1, 127, 128, 129, 200, 255] {
        let host = Host::new();
        let exit = host.run(&["sh", "-c", &format!("exit {code}")]).wait();
        assert_eq!(exit, ProcessExit::Code(code));
    }
}

#[test]
fn a_signal_to_all_reaches_all_and_one_to_a_process_only_that() {
    let host = Host::new();
    // The first one stays: its end would be that of all.
    let script = |on_usr2: &str| {
        format!(
            "trap 'echo one' USR1; trap '{on_usr2}' USR2; echo ready; while :; do sleep 0.02; done"
        )
    };
    let (stays, ends) = (script("echo two"), script("exit 5"));
    let mut first = host.run(&["sh", "-c", &stays]);
    let mut second = host.start("second", &["sh", "-c", &ends], |_| {});
    first.read_until("ready");
    second.read_until("ready");
    host.agent.signal(ID, "second", 10, false).expect("sent");
    second.read_until("one");
    host.agent.signal(ID, "", 12, true).expect("sent");
    assert_eq!(second.wait(), ProcessExit::Code(5));
    let said = first.read_until("two");
    assert!(!said.contains("one"), "it was told what was for the other");
    host.agent.signal(ID, "", 9, false).expect("sent");
    assert_eq!(first.wait(), ProcessExit::Signal(9));
}

#[test]
fn a_pods_kill_of_all_reaches_all_and_names_are_taken_once() {
    let host = Host::with_root();
    // As they are killed by USR2 unless they handle it, nobody need wait for their traps.
    let program = ["sh", "-c", "while :; do sleep 0.02; done"];
    let first = request(
        "",
        &["sh", "-c", "trap '' USR2; while :; do sleep 0.02; done"],
    );
    let container = host
        .pod()
        .create_container(&common::container("root"), first)
        .expect("a container");
    let ends = || Ends {
        stdin: None,
        stdout: None,
        stderr: None,
        broken: Broken::Drop,
        window: None,
    };
    container.start("", ends()).expect("it starts");
    common::eventually("the first one to ignore the signal, and its child", || {
        let listed = host.agent.list_processes(ID).expect("a list");
        listed.processes.len() == 2
    });
    container
        .add_exec(request("e", &program))
        .expect("a name that is free");
    for taken in ["e", ""] {
        let refused = container.add_exec(request(taken, &program));
        assert!(
            matches!(refused, Err(PodError::Exists { .. })),
            "{refused:?}"
        );
    }
    container.start("e", ends()).expect("it starts");
    let exec = container.process("e").expect("it is known");
    // To all, not to the first one only, which it is addressed to.
    container.kill("", 12, true).expect("sent");
    assert_eq!(exec.wait().status, 128 + 12);
    container.kill("", 9, false).expect("sent");
    let first = container.process("").expect("it is known");
    assert_eq!(first.wait().status, 128 + 9);
}

#[test]
fn the_agent_takes_a_name_once() {
    let host = Host::new();
    let _first = host.run(&["sleep", "1000"]);
    let _second = host.start("e", &["sleep", "1000"], |_| {});
    for name in ["", "e"] {
        let refused = host.agent.start_process(&request(name, &["sleep", "1"]));
        let Err(AgentError::Refused { failure, .. }) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(
            failure.kind.enum_value(),
            Ok(FailureKind::FAILURE_KIND_EXISTS)
        );
    }
}
