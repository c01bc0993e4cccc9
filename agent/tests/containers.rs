//! A container as a whole, end to end on this host's Linux: its names, its files, its figures, what it cannot have.

mod common;

use agent_protocol::{FailureKind, NamespaceKind, ReadFileRequest, WriteFileRequest};
use common::{Host, ID, request};

#[test]
fn a_container_has_its_own_host_name_where_it_asks_for_one() {
    let read = || std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    let outside = read();
    let host = Host::with(|request| {
        request.namespaces = vec![common::own(NamespaceKind::NAMESPACE_KIND_UTS)];
        request.hostname = "inner".to_owned();
    });
    let show = ["sh", "-c", "read go; cat /proc/sys/kernel/hostname"];
    let mut first = host.run(&show);
    let (stdout, stderr, _) = host.start("second", &show[..], |_| {}).ended_at_once();
    assert_eq!((&*stdout, &*stderr), ("inner\n", ""));
    first.say("go\n");
    assert_eq!(first.finish().0, "inner\n");
    assert_eq!(read(), outside);
}

#[test]
fn files_of_a_container_are_copied_and_lead_nowhere_else() {
    let host = Host::new();
    let root = host.directory.path().join("shared/root");
    let write = |path: &str, offset, data: &[u8]| {
        host.agent.write_file(&WriteFileRequest {
            container_id: ID.to_owned(),
            path: path.to_owned(),
            offset,
            data: data.to_vec(),
            mode: 0o640,
            ..Default::default()
        })
    };
    let read = |path: &str, offset, length| {
        host.agent.read_file(&ReadFileRequest {
            container_id: ID.to_owned(),
            path: path.to_owned(),
            offset,
            length,
            ..Default::default()
        })
    };
    write("/tmp/file", 0, b"longer than that").expect("written");
    write("/tmp/file", 0, b"begin").expect("written");
    write("/tmp/file", 5, b" end").expect("written");
    assert_eq!(
        std::fs::read(root.join("tmp/file")).expect("a file"),
        b"begin end"
    );
    assert_eq!(read("/tmp/file", 2, 100).expect("read"), b"gin end");
    assert_eq!(read("/tmp/file", 2, 3).expect("read"), b"gin");
    assert!(read("/tmp/file", 9, 3).expect("read").is_empty());
    // A link of the container's leads into its own root.
    std::os::unix::fs::symlink("/etc/passwd", root.join("tmp/link")).expect("a link");
    let through = read("/tmp/link", 0, 1000).expect("read");
    assert_eq!(
        through,
        std::fs::read(root.join("etc/passwd")).expect("a file")
    );
    assert!(write("/../../tmp/nacre-surely-not-here/x", 0, b"").is_err());
    for path in ["/tmp", "/dev/null", "/no/such"] {
        assert!(read(path, 0, 1).is_err(), "{path}");
    }
}

#[test]
fn figures_are_those_of_the_container() {
    let host = Host::new();
    let mut run = host.run(&["sh", "-c", "read go; exit 0"]);
    let stats = host.agent.stats(ID).expect("figures");
    assert_eq!(stats.processes, 1);
    assert!(stats.resident_bytes > 0 && stats.guest_cpu_ns > 0);
    assert!(stats.guest_available_bytes < stats.guest_memory_bytes);
    run.say("go\n");
    run.wait();
    assert_eq!(host.agent.stats(ID).expect("figures").processes, 0);
    assert!(host.agent.stats("nobody").is_err());
    host.agent.reseed(&[7; 32]).expect("stirred");
}

/// `struct sock_filter`s: mkdir(2) fails with this error, every other call is made.
fn without_mkdir(errno: u8) -> Vec<u8> {
    let load_number = [0x20, 0, 0, 0, 0, 0, 0, 0];
    let if_mkdir = [0x15, 0, 0, 1, 83, 0, 0, 0];
    let fail = [0x06, 0, 0, 0, errno, 0, 5, 0];
    let allow = [0x06, 0, 0, 0, 0, 0, 0xff, 0x7f];
    [load_number, if_mkdir, fail, allow].concat()
}

#[test]
fn a_filter_of_system_calls_holds_for_a_process() {
    const EXDEV: u8 = 18;
    let host = Host::new();
    let _first = host.run(&["sh", "-c", "read go"]);
    let script = "/bin/busybox grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status; /bin/busybox mkdir /tmp/made; echo $?";
    for (nth, no_new_privileges) in [false, true].into_iter().enumerate() {
        let filtered = host.start(&format!("e{nth}"), &["sh", "-c", script], |request| {
            request.seccomp = without_mkdir(EXDEV);
            request.no_new_privileges = no_new_privileges;
        });
        let (stdout, stderr, _) = filtered.ended_at_once();
        let expected = format!(
            "NoNewPrivs:\t{}\nSeccomp:\t2\n1\n",
            u8::from(no_new_privileges)
        );
        assert_eq!(stdout, expected, "{stderr}");
        assert!(stderr.contains("ross-device link"), "{stderr}");
    }
}

#[test]
fn a_filter_that_is_no_program_is_refused() {
    let host = Host::new();
    let with = |program: Vec<u8>| {
        let mut request = request("", &["sh"]);
        request.seccomp = program;
        request
    };
    for program in [vec![0; 7], vec![6; 8 * 4097]] {
        let request = with(program);
        for refused in [
            host.agent.check_process(&request).expect_err("refused"),
            host.agent.start_process(&request).expect_err("refused"),
        ] {
            assert_eq!(refused.kind(), Some(FailureKind::FAILURE_KIND_INVALID));
            assert!(refused.to_string().contains("seccomp"), "{refused}");
        }
    }
    let refused = host.agent.start_process(&with(vec![0; 8]));
    let refused = refused.expect_err("no way out").to_string();
    assert!(refused.contains("seccomp"), "{refused}");
}

#[test]
fn containers_have_namespaces_of_their_own_or_those_of_another() {
    const LOOK: &str = "for kind in ipc uts pid; do readlink /proc/self/ns/$kind; done; \
                        cat /proc/sys/kernel/msgmax /proc/sys/kernel/hostname; ls /proc/1/exe; echo end; read go";
    let kinds = [
        NamespaceKind::NAMESPACE_KIND_IPC,
        NamespaceKind::NAMESPACE_KIND_UTS,
        NamespaceKind::NAMESPACE_KIND_PID,
    ];
    let host = Host::with(|request| {
        request.namespaces = kinds.map(common::own).into();
        request.hostname = "inner".to_owned();
        request.sysctls = [("kernel.msgmax".to_owned(), "1234".to_owned())].into();
    });
    let mut first = host.run(&["sh", "-c", LOOK]);
    let seen = first.read_until("end\n");
    assert!(seen.contains("1234\ninner\n"), "{seen}");
    for kind in ["ipc", "uts", "pid"] {
        let outside = std::fs::read_link(format!("/proc/self/ns/{kind}")).expect("a link");
        assert!(!seen.contains(&*outside.to_string_lossy()), "{seen}");
    }
    let mut request = common::container("root");
    request.id = "two".to_owned();
    request.namespaces = kinds.map(common::own).into();
    for namespace in &mut request.namespaces {
        namespace.container_id = ID.to_owned();
    }
    host.agent.create_container(&request).expect("a container");
    let within = |request: &mut agent_protocol::StartProcessRequest| {
        request.container_id = "two".to_owned();
    };
    let mut second = host.start("", &["sh", "-c", LOOK], within);
    assert_eq!(second.read_until("end\n"), seen);
    let mut third = host.start("exec", &["sh", "-c", LOOK], within);
    assert_eq!(third.read_until("end\n"), seen);
    drop((second, third));
    for exec in ["exec", ""] {
        let bound = std::time::Duration::from_secs(20);
        let waited = host.agent.wait_within("two", exec, bound);
        waited.expect("an answer").expect("an end");
    }
    host.agent.delete_container("two").expect("deleted");
    first.say("go\n");
    first.finish();
    // Nobody is there any more to share with.
    host.agent.create_container(&request).expect("a container");
    let mut start = common::request("", &["sh"]);
    within(&mut start);
    let error = host
        .agent
        .start_process(&start)
        .expect_err("no first process");
    assert!(error.to_string().contains("first process"), "{error}");
    request.id = "three".to_owned();
    request.namespaces[0].container_id = "none".to_owned();
    let error = host
        .agent
        .create_container(&request)
        .expect_err("no such container");
    assert!(error.to_string().contains("none"), "{error}");
}
