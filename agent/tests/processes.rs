//! Processes of a container, end to end on this host's Linux: the agent is the one that runs in
//! guests, only its streams are unix sockets. Needs root, as PID 1 has it.

mod common;

use std::io::Read;
use std::time::{Duration, Instant};

use agent_protocol::{FailureKind, NamespaceKind, Rlimit, StartProcessRequest, User, WindowSize};
use common::{Host, ID, alive, eventually, request};
use pod::{AgentError, ProcessExit};

#[test]
fn stdio_and_exit_code_come_back() {
    let host = Host::new();
    let mut run = host.run(&["sh", "-c", "cat; echo err >&2; exit 7"]);
    run.say("one\ntwo\n");
    assert_eq!(
        run.finish(),
        ("one\ntwo\n".into(), "err\n".into(), ProcessExit::Code(7))
    );
}

#[test]
fn much_output_arrives_whole() {
    let host = Host::new();
    let script =
        "i=0; while [ $i -lt 20000 ]; do echo line-$i-abcdefghijklmnopqrstuvwxyz; i=$((i+1)); done";
    let (stdout, _, exit) = host.run(&["sh", "-c", script]).finish();
    assert_eq!(exit, ProcessExit::Code(0));
    assert_eq!(stdout.lines().count(), 20000);
    assert!(stdout.ends_with("line-19999-abcdefghijklmnopqrstuvwxyz\n"));
}

#[test]
fn the_container_sees_its_own_root_and_mounts() {
    let host = Host::new();
    let script = "ls /; ls /dev; cat /proc/self/mounts; echo $A $HOME; echo; ls /proc/self/fd";
    let (stdout, stderr, exit) = host.run(&["sh", "-c", script]).finish();
    assert_eq!((stderr.as_str(), exit), ("", ProcessExit::Code(0)));
    assert!(stdout.starts_with("bin\ndev\netc\nproc\ntmp\n"), "{stdout}");
    assert!(
        stdout.contains("\nnull\n") && stdout.contains("\nptmx\n"),
        "{stdout}"
    );
    assert!(
        stdout.contains("devpts /dev/pts devpts rw,nosuid,noexec"),
        "{stdout}"
    );
    assert!(stdout.contains("\n1 /root\n"), "{stdout}");
    let host_root = host.directory.path().to_string_lossy();
    assert!(
        !stdout.contains(&*host_root),
        "the host's mounts show: {stdout}"
    );
    // stdin, stdout, stderr and the directory being listed: nothing of the agent's.
    assert!(stdout.ends_with("\n\n0\n1\n2\n3\n"), "{stdout}");
}

#[test]
fn users_limits_and_directories_are_as_asked() {
    let host = Host::new();
    let run = host.start(
        "",
        &["sh", "-c", "id; echo $HOME; umask; ulimit -n; pwd"],
        |request| {
            request.cwd = "/tmp".to_owned();
            request.user = Some(User {
                name: "u".to_owned(),
                umask: 0o27,
                has_umask: true,
                ..Default::default()
            })
            .into();
            let (type_, soft, hard) = ("RLIMIT_NOFILE".to_owned(), 99, 100);
            request.rlimits.push(Rlimit {
                type_,
                soft,
                hard,
                ..Default::default()
            });
        },
    );
    let (stdout, _, _) = run.finish();
    assert_eq!(stdout, "uid=7(u) gid=8 groups=8\n/home/u\n0027\n99\n/tmp\n");
}

#[test]
fn a_pid_namespace_shows_the_container_alone() {
    let host = Host::with(|request| {
        request.namespaces = vec![common::own(NamespaceKind::NAMESPACE_KIND_PID)];
        request.masked_paths = vec!["/proc/uptime".to_owned()];
    });
    let script = "echo $$; read go; readlink /proc/self/exe; cat /proc/uptime; echo /proc/[0-9]*";
    let mut first = host.run(&["sh", "-c", script]);
    let second = host.start("second", &["sh", "-c", "echo $$ $PPID; exit 5"], |_| {});
    let (stdout, _, exit) = second.finish();
    assert_eq!((&*stdout, exit), ("2 0\n", ProcessExit::Code(5)));
    first.say("go\n");
    let (stdout, stderr, exit) = first.finish();
    assert_eq!((&*stderr, exit), ("", ProcessExit::Code(0)));
    // Nothing of /proc/uptime.
    assert_eq!(stdout, "1\n/bin/busybox\n/proc/1\n");
}

#[test]
fn an_interpreter_that_is_not_there_is_named() {
    let host = Host::new();
    let script = host.directory.path().join("shared/root/bin/script");
    std::fs::write(&script, "#!/usr/bin/perl -w\n").expect("a file");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(script, mode).expect("a mode");
    let refused = host.agent.start_process(&request("", &["script"]));
    let error = refused.expect_err("there is no perl");
    assert_eq!(error.exit_code(), 127);
    let said = error.to_string();
    let named =
        "cannot run \"script\": \"/usr/bin/perl\", the interpreter of /bin/script, is not there";
    assert!(said.contains(named), "{said}");
}

#[test]
fn a_missing_working_directory_is_made_for_the_first_process() {
    let host = Host::new();
    let in_new = |request: &mut StartProcessRequest| request.cwd = "/new/and/deep".to_owned();
    let mut first = request("", &["sh"]);
    in_new(&mut first);
    host.agent.check_process(&first).expect("a program");
    let (stdout, _, _) = host.start("", &["sh", "-c", "pwd"], in_new).finish();
    assert_eq!(stdout, "/new/and/deep\n");
}

#[test]
fn programs_that_cannot_run_are_told_apart() {
    let host = Host::new();
    let root = host.directory.path().join("shared/root");
    std::fs::write(root.join("bin/data"), "no program").expect("a file");
    std::fs::write(root.join("bin/broken"), [0x7f, b'E', b'L', b'F', 0]).expect("a file");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(root.join("bin/broken"), mode).expect("a mode");
    for (program, code, errno) in [
        ("no-such", 127, "ENOENT"),
        ("/no/such", 127, "ENOENT"),
        ("/bin/sh/x", 127, "ENOTDIR"),
        ("/bin", 126, "EISDIR"),
        ("data", 126, "EACCES"),
        ("broken", 126, "ENOEXEC"),
    ] {
        let checked = host.agent.check_process(&request("", &[program]));
        let error = host
            .agent
            .start_process(&request("", &[program]))
            .expect_err(program);
        // What is in a file is only known once it is executed.
        let expected = (errno != "ENOEXEC").then(|| error.to_string());
        let called = |error: AgentError| error.to_string().replace("CheckProcess", "StartProcess");
        assert_eq!(checked.err().map(called), expected);
        assert_eq!(error.exit_code(), code, "{program}: {error}");
        let AgentError::Refused { failure, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!(failure.errno, errno, "{program}");
        assert!(
            error
                .to_string()
                .contains(&format!("cannot run \"{program}\"")),
            "{error}"
        );
    }
    // The name is free again.
    assert_eq!(
        host.run(&["/bin/sh", "-c", "exit 3"]).wait(),
        ProcessExit::Code(3)
    );
}

#[test]
fn signals_arrive_and_are_reported() {
    let host = Host::new();
    let run = host.run(&["sleep", "1000"]);
    assert_eq!(
        host.agent
            .wait_within(ID, "", Duration::from_millis(50))
            .expect("an answer"),
        None
    );
    host.agent.signal(ID, "", 15, false).expect("a signal sent");
    assert_eq!(run.wait(), ProcessExit::Signal(15));
    let error = host
        .agent
        .signal(ID, "", 15, false)
        .expect_err("it has ended");
    assert_eq!(error.kind(), Some(FailureKind::FAILURE_KIND_STATE));
}

#[test]
fn every_signal_of_linux_can_be_sent() {
    let host = Host::new();
    let run = host.run(&["sleep", "1000"]);
    for number in [0, 65, u32::MAX] {
        let error = host.agent.signal(ID, "", number, false);
        let error = error.expect_err("there is none");
        assert_eq!(error.kind(), Some(FailureKind::FAILURE_KIND_INVALID));
    }
    // The first real-time signal that programs have to themselves.
    host.agent.signal(ID, "", 34, false).expect("a signal sent");
    assert_eq!(run.wait(), ProcessExit::Signal(34));
}

#[test]
fn closed_output_is_a_broken_pipe() {
    let host = Host::new();
    let mut run = host.run(&["sh", "-c", "while :; do echo y; done"]);
    run.read_until("y");
    run.stdout
        .stream
        .shutdown(std::net::Shutdown::Both)
        .expect("shutdown");
    assert_eq!(run.wait(), ProcessExit::Signal(13));
}

#[test]
fn orphans_are_adopted_listed_and_end_with_the_container() {
    let host = Host::new();
    let mut run = host.run(&["sh", "-c", "(sleep 1000 >/dev/null & echo $!); read x"]);
    let orphan: i32 = run.read_until("\n").trim().parse().expect("a pid");
    assert!(alive(orphan));
    eventually("two processes in the list", || {
        let list = host.agent.list_processes(ID).expect("a list").processes;
        list.len() == 2 && list.iter().any(|one| one.pid == orphan && !one.started)
    });
    run.end_stdin();
    assert_eq!(run.wait(), ProcessExit::Code(1));
    // Before anyone learns of the end, the rest is dead.
    assert!(!alive(orphan));
    let agent = host.process.id();
    eventually("no zombies", || {
        let children = std::fs::read_to_string(format!("/proc/{agent}/task/{agent}/children"));
        children.is_ok_and(|children| children.trim().is_empty())
    });
}

#[test]
fn a_terminal_is_one() {
    let host = Host::new();
    let script =
        "tty; stty size; trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.05; done";
    let mut run = host.start("", &["sh", "-c", script], |request| {
        request.terminal = true;
        let size = WindowSize {
            rows: 33,
            columns: 101,
            ..Default::default()
        };
        request.window_size = Some(size).into();
    });
    let text = run.read_until("ready\r\n");
    assert_eq!(text, "/dev/pts/0\r\n33 101\r\nready\r\n");
    host.agent.resize(ID, "", 44, 120).expect("resized");
    let (rest, _, exit) = run.finish();
    assert_eq!((rest.as_str(), exit), ("44 120\r\n", ProcessExit::Code(5)));
}

#[test]
fn the_terminals_interrupt_key_interrupts() {
    let host = Host::new();
    let mut run = host.start("", &["sh", "-c", "echo go; sleep 1000"], |request| {
        request.terminal = true;
    });
    run.read_until("go");
    std::io::Write::write_all(&mut run.stdin.stream, b"\x03").expect("stdin");
    assert_eq!(run.wait(), ProcessExit::Signal(2));
}

#[test]
fn further_processes_join_the_container() {
    let host = Host::new();
    let early = host
        .agent
        .start_process(&request("e0", &["id"]))
        .expect_err("not started");
    assert_eq!(early.kind(), Some(FailureKind::FAILURE_KIND_STATE));
    let run = host.run(&["sh", "-c", "sleep 1000"]);
    let script = "echo hi > /dev/shm/x; readlink /proc/self/ns/mnt; cat";
    let mut joined = host.start("e1", &["sh", "-c", script], |_| {});
    joined.say("typed");
    let (text, _, exit) = joined.finish();
    assert_eq!(exit, ProcessExit::Code(0));
    assert!(
        text.starts_with("mnt:[") && text.ends_with("typed"),
        "{text}"
    );
    host.agent.delete_process(ID, "e1").expect("deleted");
    let (again, _, _) = host
        .start(
            "e1",
            &["sh", "-c", "readlink /proc/self/ns/mnt; cat /dev/shm/x"],
            |_| {},
        )
        .finish();
    assert_eq!(again, text.replace("typed", "hi\n"));
    host.agent.signal(ID, "", 9, false).expect("killed");
    assert_eq!(run.wait(), ProcessExit::Signal(9));
    host.agent.delete_container(ID).expect("deleted");
    let gone = host.agent.list_processes(ID).expect_err("gone");
    assert_eq!(gone.kind(), Some(FailureKind::FAILURE_KIND_NO_SUCH));
}

#[test]
fn close_stdin_ends_a_reader() {
    let host = Host::new();
    let run = host.run(&["cat"]);
    host.agent.close_stdin(ID, "").expect("closed");
    assert_eq!(run.wait(), ProcessExit::Code(0));
}

#[test]
fn shutdown_asks_first_then_kills() {
    let mut host = Host::new();
    let begun = Instant::now();
    let mut run = host.run(&[
        "sh",
        "-c",
        "trap 'echo asked' TERM; echo go; while :; do sleep 0.02; done",
    ]);
    run.read_until("go");
    host.agent
        .shutdown(Duration::from_millis(300))
        .expect("an answer");
    let mut rest = String::new();
    let _ = run.stdout.stream.read_to_string(&mut rest);
    assert!(rest.contains("asked"), "{rest}");
    drop(run);
    assert!(host.process.wait().expect("an end").success());
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let host = Host::without_container();
    let mut other = common::container("");
    other.mounts[0].type_ = "ext4".to_owned();
    let error = host.agent.create_container(&other).expect_err("refused");
    assert_eq!(error.kind(), Some(FailureKind::FAILURE_KIND_UNSUPPORTED));
    assert!(error.to_string().contains("\"ext4\" at /proc"), "{error}");
    let error = host
        .agent
        .create_container(&common::container("../x"))
        .expect_err("refused");
    assert_eq!(error.kind(), Some(FailureKind::FAILURE_KIND_INVALID));
    let error = host
        .agent
        .create_container(&common::container("none"))
        .expect_err("refused");
    assert!(
        error
            .to_string()
            .contains("none: no such file or directory"),
        "{error}"
    );
}

#[test]
fn binds_and_a_read_only_root_are_mounted() {
    let host = Host::new();
    let shared = host.directory.path().join("shared");
    std::fs::create_dir(shared.join("data")).expect("a directory");
    std::fs::write(shared.join("data/file"), "text\n").expect("a file");
    // A link in the image that would lead a bind out of it.
    std::os::unix::fs::symlink("/", shared.join("root/out")).expect("a link");
    let mut request = common::container("root");
    request.id = "two".to_owned();
    request.readonly_rootfs = true;
    for (destination, source, options) in [
        ("/mnt/data", "data", &["rbind", "ro"][..]),
        ("/out/etc/one", "data/file", &["bind"][..]),
    ] {
        request.mounts.push(agent_protocol::Mount {
            destination: destination.to_owned(),
            type_: "bind".to_owned(),
            source: source.to_owned(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            ..Default::default()
        });
    }
    host.agent.create_container(&request).expect("a container");
    let script = "cat /mnt/data/file /etc/one; echo new > /etc/one; echo x > /mnt/data/file; \
                  echo x > /new; echo x > /dev/shm/x && echo ok";
    let run = host.start("", &["sh", "-c", script], |request| {
        request.container_id = "two".to_owned();
    });
    let stderr = "sh: can't create /mnt/data/file: Read-only file system\n\
                  sh: can't create /new: Read-only file system\n";
    let (stdout, errors) = run.outputs();
    assert_eq!(
        (stdout.as_str(), errors.as_str()),
        ("text\ntext\nok\n", stderr)
    );
    assert_eq!(
        std::fs::read_to_string(shared.join("data/file")).expect("text"),
        "new\n"
    );
    host.agent
        .wait_within("two", "", Duration::from_secs(5))
        .expect("an answer");
    host.agent.delete_container("two").expect("deleted");
    // The root of the other container is as it was.
    assert_eq!(
        host.run(&["sh", "-c", "echo x > /new"]).wait(),
        ProcessExit::Code(0)
    );
}

#[test]
fn directories_that_mounts_took_do_not_stay_in_the_root() {
    let places = |host: &Host| {
        let root = host.directory.path().join("shared/root");
        let names = std::fs::read_dir(root).expect("a root").flatten();
        let mut names: Vec<_> = names.map(|entry| entry.file_name()).collect();
        names.sort();
        names
    };
    for read_only in [false, true] {
        let mut host = Host::with(|request| request.readonly_rootfs = read_only);
        let root = host.directory.path().join("shared/root");
        assert!(root.join("proc").is_dir() && root.join("dev").is_dir());
        assert_eq!(
            host.run(&["sh", "-c", "ls /proc/self"]).wait(),
            ProcessExit::Code(0)
        );
        match read_only {
            true => host.agent.delete_container(ID).expect("deleted"),
            false => {
                host.agent.shutdown(Duration::ZERO).expect("an answer");
                host.process.wait().expect("an end");
            }
        }
        assert_eq!(places(&host), ["bin", "etc", "tmp"]);
    }
}

#[test]
fn masked_paths_are_empty_and_readonly_paths_are_not_written() {
    let host = Host::new();
    let root = host.directory.path().join("shared/root");
    for directory in ["secrets", "etc/fixed/below"] {
        std::fs::create_dir_all(root.join(directory)).expect("a directory");
    }
    for file in ["secrets/key", "etc/token", "etc/fixed/below/file"] {
        std::fs::write(root.join(file), "text\n").expect("a file");
    }
    let mut request = common::container("root");
    request.id = "two".to_owned();
    let paths = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
    request.masked_paths = paths(&["/secrets", "/etc/token", "/no/such", "/etc/token/below"]);
    request.readonly_paths = paths(&["/etc/fixed", "/proc/sys", "/no/such"]);
    host.agent.create_container(&request).expect("a container");
    let script = "ls -A /secrets; cat /etc/token; cat /etc/fixed/below/file; echo x > /secrets/new; \
                  echo x > /etc/fixed/below/file; echo x > /proc/sys/kernel/hostname; \
                  echo x > /etc/token && cat /etc/token; cat /proc/self/oom_score_adj";
    let run = host.start("", &["sh", "-c", script], |request| {
        request.container_id = "two".to_owned();
        request.oom_score_adj = 321;
    });
    let stderr = "sh: can't create /secrets/new: Read-only file system\n\
                  sh: can't create /etc/fixed/below/file: Read-only file system\n\
                  sh: can't create /proc/sys/kernel/hostname: Read-only file system\n";
    let (stdout, errors) = run.outputs();
    assert_eq!((stdout.as_str(), errors.as_str()), ("text\n321\n", stderr));
    host.agent
        .wait_within("two", "", Duration::from_secs(20))
        .expect("an answer");
    host.agent.delete_container("two").expect("unmounted");
}
