//! Real work, each piece run on the host and in a microVM.

/// A root file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Root {
    /// Static busybox.
    Busybox,
    /// Debian with bash, coreutils, python3.
    Debian,
    /// Debian with Node, Java and a Go program, which ask the CPU what it can do: not for a KVM that runs less than
    /// the CPU says.
    Applications,
}

/// A program to run in a root.
#[derive(Debug)]
pub(super) struct Scenario {
    /// What it shows.
    pub(super) name: &'static str,
    /// Where it runs.
    pub(super) root: Root,
    /// With how many CPUs.
    pub(super) cpus: u32,
    /// And how much memory.
    pub(super) memory: &'static str,
    /// The program and its arguments.
    pub(super) program: &'static [&'static str],
    /// Its input.
    pub(super) stdin: &'static str,
    /// Files put into /work before.
    pub(super) files: &'static [(&'static str, &'static str)],
}

const fn busybox(name: &'static str, program: &'static [&'static str]) -> Scenario {
    Scenario {
        name,
        root: Root::Busybox,
        cpus: 1,
        memory: "256M",
        program,
        stdin: "",
        files: &[],
    }
}

const fn debian(name: &'static str, program: &'static [&'static str]) -> Scenario {
    Scenario {
        name,
        root: Root::Debian,
        cpus: 1,
        memory: "256M",
        program,
        stdin: "",
        files: &[],
    }
}

const fn application(name: &'static str, program: &'static [&'static str]) -> Scenario {
    Scenario {
        name,
        root: Root::Applications,
        cpus: 4,
        memory: "1G",
        program,
        stdin: "",
        files: &[],
    }
}

const SCRIPT: &str = include_str!("../../kvm/script.sh");
const PYTHON: &str = include_str!("../../kvm/work.py");
const NODE: &str = include_str!("../../kvm/work.js");
const SHELL: &str = include_str!("../../programs/shell.sh");

/// All of them, quick ones first.
pub(super) const ALL: &[Scenario] = &[
    busybox("true", &["true"]),
    busybox(
        "output and exit code",
        &["sh", "-c", "echo out; echo err >&2; exit 7"],
    ),
    busybox("death by signal", &["sh", "-c", "kill -9 $$"]),
    busybox(
        "arguments",
        &[
            "sh",
            "-c",
            "for a; do echo \"<$a>\"; done",
            "x",
            "a b",
            "",
            "*",
            "\"q\"",
        ],
    ),
    busybox(
        "environment",
        &["sh", "-c", "echo $HOME $LC_ALL $PATH; pwd; id; umask"],
    ),
    Scenario {
        stdin: "3 three\n1 one\n2 two\n",
        ..busybox("stdin to stdout", &["sort", "-n"])
    },
    Scenario {
        stdin: "plenty of input that nobody reads\n",
        ..busybox("stdin that nobody reads", &["true"])
    },
    busybox(
        "pipeline",
        &[
            "sh",
            "-c",
            "seq 1 200 | grep 7 | sort -rn | head -5 | tr '\\n' ' '",
        ],
    ),
    busybox(
        "here-document",
        &[
            "sh",
            "-c",
            "cat <<END | sed s/a/A/g\n$(echo banana)\n  indented $((6*7))\nEND",
        ],
    ),
    busybox(
        "background processes",
        &[
            "sh",
            "-c",
            "(sleep 0.2; echo late) & echo early; wait; sleep 9 & kill $!; wait $! 2>/dev/null; echo $?",
        ],
    ),
    busybox(
        "files",
        &[
            "sh",
            "-c",
            "mkdir -p a/b; echo x >a/b/f; ln -s b/f a/l; cat a/l; mv a/b a/c; \
          cat a/l; ls -la a | wc -l; chmod 640 a/c/f; stat -c '%a %s %F' a/c/f; rm a/l; find . | sort",
        ],
    ),
    busybox(
        "large file",
        &[
            "sh",
            "-c",
            "seq 1 60000 >numbers; wc numbers; cp numbers copy; cmp numbers copy; \
          sha256sum copy; tail -c 20 copy; dd if=copy bs=4096 skip=3 count=2 2>/dev/null | md5sum",
        ],
    ),
    Scenario {
        cpus: 4,
        ..busybox(
            "four processors",
            &[
                "sh",
                "-c",
                "grep -c ^processor /proc/cpuinfo >/dev/null; \
              for i in 1 2 3 4 5 6; do (seq 1 $((i * 500)) | md5sum >out$i) & done; wait; cat out*",
            ],
        )
    },
    Scenario {
        files: &[("shell.sh", SHELL)],
        ..busybox("busybox script", &["sh", "/work/shell.sh"])
    },
    debian(
        "bash and coreutils",
        &[
            "bash",
            "-c",
            "seq 5 | tac | paste -sd+ | sed 's/+/ + /g'; date -u -d @0",
        ],
    ),
    Scenario {
        files: &[("script.sh", SCRIPT)],
        ..debian("200 lines of bash", &["bash", "script.sh"])
    },
    debian(
        "find and sort",
        &[
            "bash",
            "-c",
            "find /etc /usr/share/perl5 -printf '%y %m %s %p\\n' 2>&1 | sort -k4 | tee list | tail -n 40",
        ],
    ),
    debian(
        "tar of a tree",
        &[
            "bash",
            "-c",
            "tar -C /etc --sort=name --mtime=@0 -cf etc.tar . && mkdir x && \
          tar -C x -xf etc.tar && diff -r /etc x && (cd x && find . -type f | sort | xargs sha256sum) >sums \
          && tail -n 3 sums; rm -rf x",
        ],
    ),
    Scenario {
        files: &[("work.py", PYTHON)],
        stdin: "lines for\npython to\nread\n",
        ..debian("python script", &["python3", "work.py"])
    },
    application(
        "node -e",
        &["node", "-e", "console.log(6 * 7, process.platform)"],
    ),
    Scenario {
        files: &[("work.js", NODE)],
        ..application("node with workers", &["node", "work.js"])
    },
    application("a Go program", &["/opt/work"]),
    application("java -version", &["java", "-version"]),
    application(
        "a Java class with threads",
        &["java", "-cp", "/opt", "Work"],
    ),
];
