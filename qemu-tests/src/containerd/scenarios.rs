//! What is done with `ctr`, the same with every runtime.

/// Commands that must show the same with every runtime.
#[derive(Debug)]
pub(super) struct Scenario {
    /// The scenario's name, and the container's.
    pub(super) name: &'static str,
    pub(super) steps: &'static [Step],
}

/// One `ctr` command. The words `ID`, `RUNTIME` and `IMAGE` stand for what they say.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) command: &'static [&'static str],
    pub(super) stdin: Option<&'static str>,
    /// Whether the output must be the same, not only the exit code.
    pub(super) shows_output: bool,
}

const fn shows(command: &'static [&'static str]) -> Step {
    Step {
        command,
        stdin: None,
        shows_output: true,
    }
}

const fn code_only(command: &'static [&'static str]) -> Step {
    Step {
        command,
        stdin: None,
        shows_output: false,
    }
}

/// `ctr run --rm` of a shell command line.
macro_rules! sh {
    ($script:literal) => {
        &[
            "run",
            "--rm",
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
const DELETE: Step = code_only(&["task", "delete", "ID"]);
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
        steps: &[DETACHED, KILL, DELETE, FORGET],
    },
    Scenario {
        name: "exec",
        steps: &[
            DETACHED,
            shows(&[
                "task",
                "exec",
                "--exec-id",
                "e1",
                "ID",
                "/bin/echo",
                "from exec",
            ]),
            shows(&[
                "task",
                "exec",
                "--exec-id",
                "e2",
                "ID",
                "/bin/sh",
                "-c",
                "echo bad >&2; exit 7",
            ]),
            Step {
                command: &["task", "exec", "--exec-id", "e3", "ID", "/bin/cat"],
                stdin: Some("through exec\n"),
                shows_output: true,
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
            code_only(&[
                "task",
                "exec",
                "--exec-id",
                "e1",
                "ID",
                "/bin/no-such-program",
            ]),
            shows(&[
                "task",
                "exec",
                "--exec-id",
                "e2",
                "ID",
                "/bin/echo",
                "still here",
            ]),
            KILL,
            DELETE,
            FORGET,
        ],
    },
    Scenario {
        name: "process-ids",
        // Of an exec only the program's name is shown: runc uses numbers up on its way.
        steps: &[
            DETACHED,
            shows(&[
                "task",
                "exec",
                "--exec-id",
                "e1",
                "ID",
                "/bin/sh",
                "-c",
                "echo $PPID; ps -o comm; cat /proc/1/cmdline; echo /proc/1 /proc/1/task/*; kill -9 1; echo $?",
            ]),
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
];
