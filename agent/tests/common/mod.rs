//! An agent on this host, with a busybox root, and what the tests do with it again and again.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use agent_protocol::{
    CreateContainerRequest, Mount, Namespace, NamespaceKind, StartProcessRequest,
};
use pod::agent::{Agent, StdioStream};
use pod::testing::LocalMachine;
use pod::{Pod, ProcessExit};

/// The container that [`Host::new`] creates.
pub(crate) const ID: &str = "one";

/// A namespace of the container's own.
pub(crate) fn own(kind: NamespaceKind) -> Namespace {
    Namespace {
        kind: kind.into(),
        ..Default::default()
    }
}

/// A running agent; ends it when dropped.
pub(crate) struct Host {
    pub(crate) agent: Agent,
    pub(crate) process: Child,
    pub(crate) directory: tempfile::TempDir,
}

/// A started process and the host's ends of its stdio.
pub(crate) struct Run<'a> {
    host: &'a Host,
    exec: String,
    pub(crate) stdin: StdioStream,
    pub(crate) stdout: StdioStream,
    pub(crate) stderr: Option<StdioStream>,
}

impl Host {
    /// Starts an agent and creates the container; needs root and `busybox-static`.
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// As [`Host::new`], with a container whose request `change` completes.
    pub(crate) fn with(change: impl FnOnce(&mut CreateContainerRequest)) -> Self {
        let host = Self::with_root();
        let mut request = container("root");
        change(&mut request);
        host.agent.create_container(&request).expect("a container");
        host
    }

    /// Starts an agent with a root in its shared directory, and creates nothing.
    pub(crate) fn with_root() -> Self {
        let host = Self::without_container();
        let root = host.directory.path().join("shared/root");
        for directory in ["bin", "etc", "tmp"] {
            std::fs::create_dir_all(root.join(directory)).expect("a root");
        }
        std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static installed");
        for applet in [
            "sh", "cat", "sleep", "id", "tty", "stty", "ls", "env", "mount", "readlink",
        ] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).expect("a link");
        }
        std::fs::write(
            root.join("etc/passwd"),
            "root:x:0:0::/root:/bin/sh\nu:x:7:8::/home/u:\n",
        )
        .expect("a user database");
        host
    }

    /// Starts an agent with an empty shared directory.
    pub(crate) fn without_container() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let shared = directory.path().join("shared");
        std::fs::create_dir(&shared).expect("a shared directory");
        let process = Command::new(env!("CARGO_BIN_EXE_nacre-agent"))
            .arg("--listen")
            .arg(directory.path())
            .arg("--shared")
            .arg(&shared)
            .spawn()
            .expect("the agent");
        let machine = Arc::new(LocalMachine::new(directory.path()));
        let agent = Agent::connect(machine, Duration::from_secs(10)).expect("a handshake");
        Self {
            agent,
            process,
            directory,
        }
    }

    /// The same agent as a pod.
    pub(crate) fn pod(&self) -> Pod {
        let machine = Arc::new(LocalMachine::new(self.directory.path()));
        Pod::start(machine, Arc::new(|_| {})).expect("a handshake")
    }

    /// Starts `args` as the container's first process.
    pub(crate) fn run(&self, args: &[&str]) -> Run<'_> {
        self.start("", args, |_| {})
    }

    /// Starts a process whose request `change` completes.
    pub(crate) fn start(
        &self,
        exec: &str,
        args: &[&str],
        change: impl FnOnce(&mut StartProcessRequest),
    ) -> Run<'_> {
        let mut request = request(exec, args);
        change(&mut request);
        let (stdin, stdout) = (self.stream(), self.stream());
        let stderr = (!request.terminal).then(|| self.stream());
        request.stdin_token = stdin.token;
        request.stdout_token = stdout.token;
        request.stderr_token = stderr.as_ref().map_or(0, |stream| stream.token);
        self.agent
            .start_process(&request)
            .expect("a started process");
        Run {
            host: self,
            exec: exec.to_owned(),
            stdin,
            stdout,
            stderr,
        }
    }

    fn stream(&self) -> StdioStream {
        let stream = self.agent.open_stream().expect("a stream");
        let bound = Some(Duration::from_secs(20));
        stream.stream.set_read_timeout(bound).expect("a timeout");
        stream
    }
}

impl Run<'_> {
    /// Sends to stdin and ends it.
    pub(crate) fn say(&mut self, input: &str) {
        self.stdin
            .stream
            .write_all(input.as_bytes())
            .expect("stdin");
        self.end_stdin();
    }

    pub(crate) fn end_stdin(&self) {
        self.stdin
            .stream
            .shutdown(std::net::Shutdown::Write)
            .expect("end of stdin");
    }

    /// What it wrote, and how it ended.
    pub(crate) fn finish(mut self) -> (String, String, ProcessExit) {
        let (stdout, stderr) = self.read_outputs();
        (stdout, stderr, self.wait())
    }

    /// As [`Run::finish`], with nothing to read.
    pub(crate) fn ended_at_once(self) -> (String, String, ProcessExit) {
        self.end_stdin();
        self.finish()
    }

    /// What it wrote until its outputs ended.
    pub(crate) fn outputs(mut self) -> (String, String) {
        self.read_outputs()
    }

    fn read_outputs(&mut self) -> (String, String) {
        let read = |stream: &mut StdioStream| {
            let mut text = String::new();
            stream
                .stream
                .read_to_string(&mut text)
                .expect("output that ends");
            text
        };
        let stdout = read(&mut self.stdout);
        let stderr = self.stderr.as_mut().map(read).unwrap_or_default();
        (stdout, stderr)
    }

    pub(crate) fn wait(&self) -> ProcessExit {
        let waited = self
            .host
            .agent
            .wait_within(ID, &self.exec, Duration::from_secs(20));
        waited.expect("an answer").expect("an end")
    }

    /// Reads until the output holds `wanted`.
    pub(crate) fn read_until(&mut self, wanted: &str) -> String {
        let mut text = String::new();
        let mut buffer = [0; 1024];
        while !text.contains(wanted) {
            let length = self.stdout.stream.read(&mut buffer).expect("more output");
            assert_ne!(length, 0, "output ended before {wanted:?}: {text:?}");
            text.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        text
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.agent.shutdown(Duration::ZERO);
        let _ = self.process.wait();
        let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
        let ours = |line: &&str| line.contains(&*self.directory.path().to_string_lossy());
        assert_eq!(
            mounts.lines().find(ours),
            None,
            "a mount is left on the host"
        );
    }
}

/// The container of the tests: the mounts that a runtime gives by default.
pub(crate) fn container(rootfs: &str) -> CreateContainerRequest {
    let mount = |destination: &str, kind: &str, options: &str| Mount {
        destination: destination.to_owned(),
        type_: kind.to_owned(),
        options: options.split(',').map(str::to_owned).collect(),
        ..Default::default()
    };
    CreateContainerRequest {
        id: ID.to_owned(),
        rootfs: rootfs.to_owned(),
        mounts: vec![
            mount("/proc", "proc", "nosuid,noexec,nodev"),
            mount("/dev", "tmpfs", "nosuid,mode=755,size=65536k"),
            mount(
                "/dev/pts",
                "devpts",
                "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5",
            ),
            mount("/dev/shm", "tmpfs", "nosuid,noexec,nodev,mode=1777"),
        ],
        ..Default::default()
    }
}

pub(crate) fn request(exec: &str, args: &[&str]) -> StartProcessRequest {
    StartProcessRequest {
        container_id: ID.to_owned(),
        exec_id: exec.to_owned(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: vec!["PATH=/bin".to_owned(), "A=1".to_owned()],
        cwd: "/".to_owned(),
        ..Default::default()
    }
}

/// Waits until `check` holds.
pub(crate) fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    for _ in 0..500 {
        if check() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("waited 5 s for {what}");
}

/// Whether a process of the host is there and not a zombie.
pub(crate) fn alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}
