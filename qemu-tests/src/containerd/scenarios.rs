//! What is done with `ctr`, the same with every runtime.

/// Commands that must show the same with every runtime.
#[derive(Debug)]
pub(super) struct Scenario {
    /// The scenario's name, and the container's.
    pub(super) name: &'static str,
    pub(super) steps: &'static [Step],
}

/// One `ctr` command. The words `ID`, `RUNTIME` and `IMAGE` stand for what they say; in any word, `FILES`
/// is a folder with `file` and `dir/inside`, and `ROOTFS` the folder that the image was made of.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) command: &'static [&'static str],
    pub(super) stdin: Option<&'static str>,
    /// Whether the output must be the same, not only the exit code.
    pub(super) shows_output: bool,
    /// Whether `ctr` runs on a terminal.
    pub(super) terminal: bool,
    /// Whether it is tried again until it works, because it depends on how far the container is.
    pub(super) until_it_works: bool,
}

const PLAIN: Step = Step {
    command: &[],
    stdin: None,
    shows_output: false,
    terminal: false,
    until_it_works: false,
};

const fn shows(command: &'static [&'static str]) -> Step {
    Step {
        command,
        shows_output: true,
        ..PLAIN
    }
}

const fn code_only(command: &'static [&'static str]) -> Step {
    Step { command, ..PLAIN }
}

const fn on_terminal(command: &'static [&'static str]) -> Step {
    Step {
        terminal: true,
        ..shows(command)
    }
}

const fn in_the_end(command: &'static [&'static str]) -> Step {
    Step {
        until_it_works: true,
        ..code_only(command)
    }
}

/// `ctr run --rm` of a shell command line.
macro_rules! sh {
    ($script:literal) => {
        sh!([], $script)
    };
    ([$($flag:literal),*], $script:literal) => {
        &[
            "run",
            "--rm",
            "--runtime",
            "RUNTIME",
            $($flag,)*
            "IMAGE",
            "ID",
            "/bin/sh",
            "-c",
            $script,
        ]
    };
}
/// `ctr run --detach` of a shell command line.
macro_rules! detached {
    ($script:literal) => {
        &[
            "run",
            "--detach",
            "--runtime",
            "RUNTIME",
            "IMAGE",
            "ID",
            "/bin/sh",
            "-c",
            $script,
        ]
    };
}

/// `ctr task exec`: of a shell command line, or of a program with its arguments.
macro_rules! exec {
    ($id:literal, [$($flag:literal),*], $script:literal) => {
        &["task", "exec", "--exec-id", $id, $($flag,)* "ID", "/bin/sh", "-c", $script]
    };
    ($id:literal, $($word:literal),+) => {
        &["task", "exec", "--exec-id", $id, "ID", $($word),+]
    };
}

/// A container that only waits, for commands that work on a running one.
const DETACHED: Step = code_only(&[
    "run",
    "--detach",
    "--runtime",
    "RUNTIME",
    "IMAGE",
    "ID",
    "/bin/sleep",
    "1000",
]);
const KILL: Step = code_only(&["task", "kill", "--signal", "SIGKILL", "ID"]);
/// A kill is answered before the task is known to have stopped.
const DELETE: Step = in_the_end(&["task", "delete", "ID"]);
const FORGET: Step = code_only(&["container", "delete", "ID"]);

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "output-and-exit-code",
        steps: &[shows(sh!("echo out; echo err >&2; exit 3"))],
    },
    Scenario {
        name: "stdin",
        steps: &[Step {
            // No end of file: `ctr run` of containerd 1.6 sometimes does not pass it on.
            command: sh!("read first; echo \"[$first]\"; read second; echo \"[$second]\""),
            stdin: Some("one\ntwo\nthree\n"),
            shows_output: true,
            ..PLAIN
        }],
    },
    Scenario {
        name: "environment",
        steps: &[shows(&[
            "run",
            "--rm",
            "--runtime",
            "RUNTIME",
            "--env",
            "GREETING=hello",
            "--cwd",
            "/tmp",
            "IMAGE",
            "ID",
            "/bin/sh",
            "-c",
            "echo $GREETING; echo $PATH; pwd; id; umask; ulimit -n; ls /",
        ])],
    },
    Scenario {
        name: "files",
        steps: &[shows(sh!(
            "cd /root && for i in 1 2 3; do echo line $i >> f; done && sort -r f && mkdir d && mv f d/g && \
             ln -s d/g h && cat h && rm -r d && ls -a && touch /dev/shm/x && ls /dev/shm && echo x > /dev/null"
        ))],
    },
    Scenario {
        name: "much-output",
        steps: &[shows(sh!(
            "i=0; while [ $i -lt 300 ]; do echo line $i of the output; i=$((i+1)); done"
        ))],
    },
    Scenario {
        name: "killed-by-itself",
        steps: &[shows(sh!(
            "{ sh -c 'kill -9 $$'; } 2>/dev/null; echo $?; { sh -c 'kill -TERM $$'; } 2>/dev/null; echo $?; trap 'exit 9' USR1; kill -USR1 $$; echo no"
        ))],
    },
    Scenario {
        name: "kill-and-delete",
        steps: &[
            DETACHED,
            code_only(&["container", "delete", "ID"]),
            code_only(&["task", "delete", "ID"]),
            code_only(&["task", "start", "ID"]),
            KILL,
            DELETE,
            FORGET,
        ],
    },
    Scenario {
        name: "exec",
        steps: &[
            DETACHED,
            shows(exec!("e1", "/bin/echo", "from exec")),
            shows(exec!("e2", "/bin/sh", "-c", "echo bad >&2; exit 7")),
            Step {
                command: &["task", "exec", "--exec-id", "e3", "ID", "/bin/cat"],
                stdin: Some("through exec\n"),
                shows_output: true,
                ..PLAIN
            },
            shows(&[
                "task",
                "exec",
                "--exec-id",
                "e4",
                "--cwd",
                "/tmp",
                "ID",
                "/bin/pwd",
            ]),
            KILL,
            DELETE,
            FORGET,
        ],
    },
    Scenario {
        name: "exec-not-found",
        steps: &[
            DETACHED,
            code_only(exec!("e1", "/bin/no-such-program")),
            shows(exec!("e2", "/bin/echo", "still here")),
            code_only(&["task", "delete", "--force", "ID"]),
            FORGET,
        ],
    },
    Scenario {
        name: "process-ids",
        // Of an exec only the program's name is shown: runc uses numbers up on its way.
        steps: &[
            DETACHED,
            shows(exec!(
                "e1",
                "/bin/sh",
                "-c",
                "echo $PPID; ps -o comm; cat /proc/1/cmdline; echo /proc/1 /proc/1/task/*; kill -9 1; echo $?"
            )),
            KILL,
            DELETE,
            FORGET,
        ],
    },
    Scenario {
        name: "new-working-directory",
        steps: &[shows(&[
            "run",
            "--rm",
            "--runtime",
            "RUNTIME",
            "--cwd",
            "/new/and/deep",
            "IMAGE",
            "ID",
            "/bin/pwd",
        ])],
    },
    Scenario {
        name: "program-not-found",
        steps: &[code_only(&[
            "run",
            "--rm",
            "--runtime",
            "RUNTIME",
            "IMAGE",
            "ID",
            "/bin/no-such-program",
        ])],
    },
    Scenario {
        name: "run-twice",
        steps: &[shows(sh!("echo first")), shows(sh!("echo second"))],
    },
    Scenario {
        name: "rights",
        steps: &[shows(sh!(
            [
                "--read-only",
                "--cap-add",
                "CAP_SYS_ADMIN",
                "--cap-drop",
                "CAP_CHOWN",
                "--label",
                "a=b",
                "--annotation",
                "c=d"
            ],
            "exec 2>&1; grep -E 'Cap|NoNew' /proc/self/status; chown 1:1 /tmp; echo x > /new; mkdir /etc/new; \
             echo x > /run/new && cat /run/new; echo name > /proc/sys/kernel/hostname; touch /sys/firmware/new; \
             ls -A /sys/firmware; exit 0"
        ))],
    },
    Scenario {
        name: "new-privileges",
        steps: &[shows(sh!(
            [
                "--allow-new-privs",
                "--cpus",
                "2",
                "--memory-limit",
                "134217728"
            ],
            "grep NoNew /proc/self/status; nproc"
        ))],
    },
    Scenario {
        name: "mounts",
        steps: &[shows(sh!(
            [
                "--mount",
                "type=bind,src=FILES/file,dst=/etc/file,options=bind:rw",
                "--mount",
                "type=bind,src=FILES/dir,dst=/new/dir,options=rbind:rw",
                "--mount",
                "type=bind,src=FILES/dir,dst=/ro,options=rbind:ro",
                "--mount",
                "type=bind,src=FILES/file,dst=/ro-file,options=bind:ro",
                "--mount",
                "type=tmpfs,src=tmpfs,dst=/own,options=noexec:size=4m"
            ],
            "exec 2>&1; cat /etc/file /new/dir/inside; echo more >> /etc/file; mkdir /new/dir/d; ls /ro; cat /ro-file; \
             echo x > /ro/inside; echo x > /ro-file; rm /ro/inside; df -k /own | tail -n 1; cp /bin/busybox /own && \
             /own/busybox true; exit 0"
        ))],
    },
    Scenario {
        name: "handled-signals",
        steps: &[
            code_only(detached!(
                "trap 'touch /tmp/usr1' USR1; trap 'touch /tmp/hup' HUP; trap 'exit 7' TERM; touch /tmp/ready; \
                 while :; do sleep 0.1; done"
            )),
            shows(exec!(
                "e1",
                [],
                "while ! test -e /tmp/ready; do sleep 0.1; done"
            )),
            code_only(&["task", "kill", "--signal", "SIGUSR1", "ID"]),
            code_only(&["task", "kill", "--signal", "HUP", "ID"]),
            shows(exec!(
                "e2",
                [],
                "while ! test -e /tmp/usr1 || ! test -e /tmp/hup; do sleep 0.1; done; echo both came"
            )),
            code_only(&["task", "kill", "ID"]),
            in_the_end(&["task", "delete", "ID"]),
            FORGET,
        ],
    },
    Scenario {
        name: "root-directory",
        steps: &[shows(&[
            "run",
            "--rm",
            "--runtime",
            "RUNTIME",
            "--rootfs",
            "--read-only",
            "ROOTFS",
            "ID",
            "/bin/ls",
            "/",
        ])],
    },
    Scenario {
        name: "no-stdio",
        steps: &[
            shows(sh!(["--null-io"], "echo out; echo err >&2; cat; exit 3")),
            Step {
                stdin: Some("nobody reads this\n"),
                ..shows(sh!("exec <&-; echo closed; exit 2"))
            },
        ],
    },
    Scenario {
        name: "terminal",
        steps: &[on_terminal(&[
            "run",
            "--rm",
            "--tty",
            "--runtime",
            "RUNTIME",
            "IMAGE",
            "ID",
            "/bin/sh",
            "-c",
            // Long enough for the client to set the terminal's size.
            "tty; test -t 0 && test -t 2 && echo both; sleep 1; exit 4",
        ])],
    },
    Scenario {
        name: "exec-as-others",
        steps: &[
            code_only(detached!("sleep 1000 & sleep 1000 & wait")),
            shows(exec!(
                "e1",
                ["--user", "1234:5678", "--cwd", "/etc"],
                "id; pwd; echo $PATH"
            )),
            code_only(exec!("e2", ["--cwd", "/no/such"], "echo ran")),
            code_only(exec!("e3", ["--detach"], "sleep 1000")),
            code_only(exec!("e3", [], "echo a second of that name")),
            code_only(&[
                "task",
                "kill",
                "--exec-id",
                "e3",
                "--signal",
                "SIGKILL",
                "ID",
            ]),
            in_the_end(&["task", "delete", "--exec-id", "e3", "ID"]),
            shows(exec!("e3", [], "echo the name is free")),
            on_terminal(exec!("e4", ["--tty"], "tty; echo err >&2; sleep 1; exit 2")),
            code_only(&["task", "kill", "--all", "--signal", "SIGKILL", "ID"]),
            in_the_end(&["task", "delete", "ID"]),
            FORGET,
        ],
    },
];
