//! The host's side of the agent: typed calls, each with a bound, over whatever leads to the guest.
//!
//! [`Agent`] may be shared between threads; a call blocks only the thread that makes it. Stdio streams are
//! opened before the process that uses them is started, by [`Agent::open_stream`].

mod error;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use agent_protocol::{
    AgentClient, CloseStdinRequest, CreateContainerRequest, CreateContainerResponse,
    DeleteContainerRequest, DeleteProcessRequest, HelloRequest, HelloResponse,
    ListProcessesRequest, ListProcessesResponse, PROTOCOL_VERSION, RPC_PORT, ResizeTerminalRequest,
    STDIO_PORT, ShutdownRequest, SignalProcessRequest, StartProcessRequest, WaitProcessRequest,
    WaitProcessResponse, WindowSize,
};
use host_machine::Machine;
use ttrpc::r#async::transport::Socket;
use ttrpc::context::Context;

use crate::runtime;

pub use error::AgentError;

/// How long a call may take that only looks something up or passes something on.
const CALL_BOUND: Duration = Duration::from_secs(20);
/// How long a call may take that mounts, starts or ends something.
const WORK_BOUND: Duration = Duration::from_secs(60);

/// A connection to the agent of one microVM, past its handshake.
pub struct Agent {
    client: AgentClient,
    machine: Arc<dyn Machine>,
    hello: HelloResponse,
    next_token: AtomicU64,
}

/// A stdio stream that the agent has been told of.
#[derive(Debug)]
pub struct StdioStream {
    /// What to put into the request that starts the process.
    pub token: u64,
    /// The bytes: towards the process for stdin, from it for stdout and stderr.
    pub stream: UnixStream,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessExit {
    /// It exited with this code.
    Code(u8),
    /// This signal killed it.
    Signal(u8),
}

impl ProcessExit {
    /// What a shell would report: the code, or 128 and the signal.
    #[must_use]
    pub fn shell_code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => signal.saturating_add(128),
        }
    }
}

impl Agent {
    /// Connects to the agent and shakes hands, both within `bound`.
    ///
    /// # Errors
    /// [`AgentError::Link`] when the guest ends or does not listen, [`AgentError::Refused`] when it
    /// speaks another version of the protocol.
    pub fn connect(machine: Arc<dyn Machine>, bound: Duration) -> Result<Self, AgentError> {
        let begun = Instant::now();
        let stream = machine.connect(RPC_PORT, bound)?;
        let client = client_on(stream).map_err(|source| AgentError::Stream { source })?;
        let request = HelloRequest {
            protocol_version: PROTOCOL_VERSION,
            client: concat!("nacre ", env!("CARGO_PKG_VERSION")).to_owned(),
            ..Default::default()
        };
        let left = bound
            .saturating_sub(begun.elapsed())
            .max(Duration::from_secs(1));
        let hello = bounded("Hello", left, client.hello(Context::default(), &request))?;
        // A counter of our own is enough: only this process opens streams to this guest.
        Ok(Self {
            client,
            machine,
            hello,
            next_token: AtomicU64::new(1),
        })
    }

    /// What the agent said of itself and of the kernel.
    #[must_use]
    pub fn hello(&self) -> &HelloResponse {
        &self.hello
    }

    /// Opens a stream for one direction of one process's stdio.
    ///
    /// # Errors
    /// [`AgentError::Link`] when the guest does not take it.
    pub fn open_stream(&self) -> Result<StdioStream, AgentError> {
        let mut stream = self.machine.connect(STDIO_PORT, CALL_BOUND)?;
        let token = self.next_token.fetch_add(1, Ordering::Relaxed);
        stream
            .write_all(&token.to_le_bytes())
            .map_err(|source| AgentError::Stream { source })?;
        Ok(StdioStream { token, stream })
    }

    /// Mounts what a container sees.
    ///
    /// # Errors
    /// As every call: refused, or the agent is not reached.
    pub fn create_container(
        &self,
        request: &CreateContainerRequest,
    ) -> Result<CreateContainerResponse, AgentError> {
        bounded(
            "CreateContainer",
            WORK_BOUND,
            self.client.create_container(Context::default(), request),
        )
    }

    /// Unmounts a container none of whose processes runs.
    ///
    /// # Errors
    /// As every call.
    pub fn delete_container(&self, id: &str) -> Result<(), AgentError> {
        let request = DeleteContainerRequest {
            id: id.to_owned(),
            ..Default::default()
        };
        bounded(
            "DeleteContainer",
            WORK_BOUND,
            self.client.delete_container(Context::default(), &request),
        )
        .map(drop)
    }

    /// Asks whether a process could be started: its user, its working directory, its program.
    ///
    /// # Errors
    /// As [`Agent::start_process`].
    pub fn check_process(&self, request: &StartProcessRequest) -> Result<(), AgentError> {
        bounded(
            "CheckProcess",
            WORK_BOUND,
            self.client.check_process(Context::default(), request),
        )
        .map(drop)
    }

    /// Starts a process and gives its pid in the guest.
    ///
    /// # Errors
    /// As every call; [`AgentError::exit_code`] tells 126 and 127.
    pub fn start_process(&self, request: &StartProcessRequest) -> Result<i32, AgentError> {
        bounded(
            "StartProcess",
            WORK_BOUND,
            self.client.start_process(Context::default(), request),
        )
        .map(|response| response.pid)
    }

    /// Sends a signal to one process, or to every process of the container.
    ///
    /// # Errors
    /// As every call.
    pub fn signal(
        &self,
        container: &str,
        exec: &str,
        signal: u32,
        all: bool,
    ) -> Result<(), AgentError> {
        let request = SignalProcessRequest {
            container_id: container.to_owned(),
            exec_id: exec.to_owned(),
            signal,
            all,
            ..Default::default()
        };
        bounded(
            "SignalProcess",
            CALL_BOUND,
            self.client.signal_process(Context::default(), &request),
        )
        .map(drop)
    }

    /// Waits for a process to end, however long it runs, without a thread; fails as soon as the microVM is gone.
    ///
    /// # Errors
    /// As every call.
    pub async fn ended(&self, container: &str, exec: &str) -> Result<ProcessExit, AgentError> {
        let response = self.wait_request(container, exec, 0).await?;
        response.ok_or(AgentError::Protocol {
            what: "WaitProcess without a timeout answered before the process ended",
        })
    }

    /// The same on a thread that waits.
    ///
    /// # Errors
    /// As every call.
    pub fn wait(&self, container: &str, exec: &str) -> Result<ProcessExit, AgentError> {
        runtime::wait(self.ended(container, exec))?
    }

    /// Waits for a process to end, at most for `bound`; `None` when it still runs.
    ///
    /// # Errors
    /// As every call.
    pub fn wait_within(
        &self,
        container: &str,
        exec: &str,
        bound: Duration,
    ) -> Result<Option<ProcessExit>, AgentError> {
        let timeout_ms = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX).max(1);
        let waited = bound.saturating_add(CALL_BOUND);
        let answer = self.wait_request(container, exec, timeout_ms);
        let answer = runtime::wait(async { tokio::time::timeout(waited, answer).await })?;
        answer.unwrap_or(Err(AgentError::NoAnswer {
            call: "WaitProcess",
            waited,
        }))
    }

    async fn wait_request(
        &self,
        container: &str,
        exec: &str,
        timeout_ms: u64,
    ) -> Result<Option<ProcessExit>, AgentError> {
        let request = WaitProcessRequest {
            container_id: container.to_owned(),
            exec_id: exec.to_owned(),
            timeout_ms,
            ..Default::default()
        };
        let answer = self.client.wait_process(Context::default(), &request);
        let response = answer
            .await
            .map_err(|source| AgentError::of_call("WaitProcess", source))?;
        exit_of(&response)
    }

    /// Tells a process's terminal its new size.
    ///
    /// # Errors
    /// As every call.
    pub fn resize(
        &self,
        container: &str,
        exec: &str,
        rows: u32,
        columns: u32,
    ) -> Result<(), AgentError> {
        let request = ResizeTerminalRequest {
            container_id: container.to_owned(),
            exec_id: exec.to_owned(),
            window_size: Some(WindowSize {
                rows,
                columns,
                ..Default::default()
            })
            .into(),
            ..Default::default()
        };
        bounded(
            "ResizeTerminal",
            CALL_BOUND,
            self.client.resize_terminal(Context::default(), &request),
        )
        .map(drop)
    }

    /// Ends a process's stdin.
    ///
    /// # Errors
    /// As every call.
    pub fn close_stdin(&self, container: &str, exec: &str) -> Result<(), AgentError> {
        let request = CloseStdinRequest {
            container_id: container.to_owned(),
            exec_id: exec.to_owned(),
            ..Default::default()
        };
        bounded(
            "CloseStdin",
            CALL_BOUND,
            self.client.close_stdin(Context::default(), &request),
        )
        .map(drop)
    }

    /// The container's processes, by their pids in the guest.
    ///
    /// # Errors
    /// As every call.
    pub fn list_processes(&self, container: &str) -> Result<ListProcessesResponse, AgentError> {
        let request = ListProcessesRequest {
            container_id: container.to_owned(),
            ..Default::default()
        };
        bounded(
            "ListProcesses",
            CALL_BOUND,
            self.client.list_processes(Context::default(), &request),
        )
    }

    /// Forgets a process that has ended.
    ///
    /// # Errors
    /// As every call.
    pub fn delete_process(&self, container: &str, exec: &str) -> Result<(), AgentError> {
        let request = DeleteProcessRequest {
            container_id: container.to_owned(),
            exec_id: exec.to_owned(),
            ..Default::default()
        };
        bounded(
            "DeleteProcess",
            CALL_BOUND,
            self.client.delete_process(Context::default(), &request),
        )
        .map(drop)
    }

    /// Asks the guest to end everything and power off; the microVM's end follows this answer.
    ///
    /// # Errors
    /// As every call.
    pub fn shutdown(&self, grace: Duration) -> Result<(), AgentError> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let request = ShutdownRequest {
            grace_ms,
            ..Default::default()
        };
        bounded(
            "Shutdown",
            CALL_BOUND,
            self.client.shutdown(Context::default(), &request),
        )
        .map(drop)
    }
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent")
            .field("hello", &self.hello)
            .finish_non_exhaustive()
    }
}

/// Makes one call that has to be answered within `bound`.
fn bounded<T>(
    call: &'static str,
    bound: Duration,
    answer: impl Future<Output = ttrpc::Result<T>>,
) -> Result<T, AgentError> {
    let begun = Instant::now();
    let answer = runtime::wait(async { tokio::time::timeout(bound, answer).await })?;
    let took_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    let refused = !matches!(answer, Ok(Ok(_)));
    tracing::debug!(call, took_us, refused, "called the agent");
    match answer {
        Ok(answer) => answer.map_err(|source| AgentError::of_call(call, source)),
        Err(_) => Err(AgentError::NoAnswer {
            call,
            waited: bound,
        }),
    }
}

/// A client on a stream to the guest.
fn client_on(stream: UnixStream) -> Result<AgentClient, io::Error> {
    let runtime = runtime::handle()?;
    let _entered = runtime.enter();
    stream.set_nonblocking(true)?;
    let stream = tokio::net::UnixStream::from_std(stream)?;
    let client = ttrpc::r#async::Client::new(Socket::new(stream));
    Ok(AgentClient::new(client))
}

/// Checks what the guest claims about an exit.
fn exit_of(response: &WaitProcessResponse) -> Result<Option<ProcessExit>, AgentError> {
    if !response.exited {
        return Ok(None);
    }
    let claim = if response.signal != 0 {
        response.signal
    } else {
        response.exit_code
    };
    let value = u8::try_from(claim).map_err(|_| AgentError::Protocol {
        what: "an exit code or a signal is over 255",
    })?;
    Ok(Some(if response.signal != 0 {
        ProcessExit::Signal(value)
    } else {
        ProcessExit::Code(value)
    }))
}
