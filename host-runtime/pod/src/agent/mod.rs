//! The host's side of the agent: typed calls, each with a bound, over whatever leads to the guest.
//!
//! [`Agent`] may be shared between threads; a call blocks only the thread that makes it. Stdio streams are
//! opened before the process that uses them is started, by [`Agent::open_stream`].

mod error;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::future::Future;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use agent_protocol::{
    AgentClient, CloseStdinRequest, ConfigureNetworkRequest, CreateContainerRequest,
    CreateContainerResponse, DeleteContainerRequest, DeleteProcessRequest, Event, EventsRequest,
    HelloRequest, HelloResponse, ListProcessesRequest, ListProcessesResponse, PROTOCOL_VERSION,
    RPC_PORT, ReadFileRequest, ReseedRequest, ResizeTerminalRequest, STDIO_PORT, SetClockRequest,
    ShutdownRequest, SignalProcessRequest, StartProcessRequest, StatsRequest, StatsResponse,
    UpdatePodRequest, WindowSize, WriteFileRequest, event::Kind,
};
use host_machine::Machine;
use host_machine::bounds;
use tokio::sync::watch;
use ttrpc::r#async::ClientStreamReceiver;
use ttrpc::r#async::transport::Socket;
use ttrpc::context::Context;

use crate::runtime;

pub use error::AgentError;

/// Ends of processes that nobody has deleted, or deaths for want of memory; a guest that tells of more has gone wrong.
const MOST_EVENTS: usize = 64 * 1024;

/// A connection to the agent of one microVM, past its handshake.
pub struct Agent {
    client: AgentClient,
    machine: Arc<dyn Machine>,
    hello: HelloResponse,
    next_token: AtomicU64,
    told: watch::Sender<Told>,
}

/// What the guest has told by its events.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// By container and exec id, until the process is deleted; none for an end that cannot be.
    exits: HashMap<(String, String), Option<ProcessExit>>,
    /// The containers in which something died for want of memory, one after the other.
    pub(crate) oom_kills: Vec<String>,
    /// Why there will be no more.
    pub(crate) lost: Option<ttrpc::Error>,
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
        // An older agent refuses by itself; one that answers all the same is not one of ours.
        if hello.protocol_version != PROTOCOL_VERSION {
            return Err(AgentError::Version {
                theirs: hello.protocol_version,
            });
        }
        let request = EventsRequest::default();
        // Begins with what has happened before, so it need not be there when the first process starts.
        let events = bounded("Events", left, client.events(Context::default(), &request))?;
        let told = watch::Sender::new(Told::default());
        runtime::handle()?.spawn(read_events(events, told.clone()));
        // A counter of our own is enough: only this process opens streams to this guest.
        Ok(Self {
            client,
            machine,
            hello,
            next_token: AtomicU64::new(1),
            told,
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
        let mut stream = self.machine.connect(STDIO_PORT, bounds::AGENT_CALL.get())?;
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
            bounds::AGENT_WORK.get(),
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
            bounds::AGENT_WORK.get(),
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
            bounds::AGENT_WORK.get(),
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
            bounds::AGENT_WORK.get(),
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
            bounds::AGENT_CALL.get(),
            self.client.signal_process(Context::default(), &request),
        )
        .map(drop)
    }

    /// Waits for a process to end, however long it runs, without a thread; fails as soon as the microVM is gone.
    ///
    /// # Errors
    /// [`AgentError::Transport`] when the agent is lost.
    pub async fn ended(&self, container: &str, exec: &str) -> Result<ProcessExit, AgentError> {
        let mut told = self.told.subscribe();
        let key = (container.to_owned(), exec.to_owned());
        let is_known = |told: &Told| told.exits.contains_key(&key) || told.lost.is_some();
        // The reader of events says that it has ended before it does.
        let told = told.wait_for(is_known).await;
        let told = told.map_err(|_| AgentError::Protocol {
            what: "its events were read no more",
        })?;
        if let Some(exit) = told.exits.get(&key) {
            return exit.ok_or(AgentError::Protocol {
                what: "an exit code or a signal is over 255",
            });
        }
        let lost = told.lost.clone();
        let nothing = || ttrpc::Error::Others("no more events".to_owned());
        Err(AgentError::Transport {
            call: "Events",
            source: lost.unwrap_or_else(nothing),
        })
    }

    /// The same on a thread that waits.
    ///
    /// # Errors
    /// As [`Agent::ended`].
    pub fn wait(&self, container: &str, exec: &str) -> Result<ProcessExit, AgentError> {
        runtime::wait(self.ended(container, exec))?
    }

    /// Waits for a process to end, at most for `bound`; `None` when it still runs.
    ///
    /// # Errors
    /// As [`Agent::ended`].
    pub fn wait_within(
        &self,
        container: &str,
        exec: &str,
        bound: Duration,
    ) -> Result<Option<ProcessExit>, AgentError> {
        let ended = self.ended(container, exec);
        let ended = runtime::wait(async { tokio::time::timeout(bound, ended).await })?;
        ended.ok().transpose()
    }

    /// What is known of the guest's events, as it changes.
    pub(crate) fn follow(&self) -> watch::Receiver<Told> {
        self.told.subscribe()
    }

    /// What a container uses in the guest, and the guest as a whole.
    ///
    /// # Errors
    /// As every call.
    pub fn stats(&self, container: &str) -> Result<StatsResponse, AgentError> {
        let request = StatsRequest {
            container_id: container.to_owned(),
            ..Default::default()
        };
        bounded(
            "Stats",
            bounds::AGENT_CALL.get(),
            self.client.stats(Context::default(), &request),
        )
    }

    /// Writes a piece of a file beneath a container's root; at offset 0 the file is made, or emptied.
    ///
    /// # Errors
    /// As every call.
    pub fn write_file(&self, request: &WriteFileRequest) -> Result<(), AgentError> {
        let answer = self.client.write_file(Context::default(), request);
        bounded("WriteFile", bounds::AGENT_WORK.get(), answer).map(drop)
    }

    /// Reads a piece of a file beneath a container's root; nothing at its end.
    ///
    /// # Errors
    /// As every call.
    pub fn read_file(&self, request: &ReadFileRequest) -> Result<Vec<u8>, AgentError> {
        let answer = self.client.read_file(Context::default(), request);
        bounded("ReadFile", bounds::AGENT_WORK.get(), answer).map(|answer| answer.data)
    }

    /// Sets the pod's network up.
    ///
    /// # Errors
    /// As every call.
    pub fn configure_network(&self, request: &ConfigureNetworkRequest) -> Result<(), AgentError> {
        let answer = self.client.configure_network(Context::default(), request);
        bounded("ConfigureNetwork", bounds::AGENT_WORK.get(), answer).map(drop)
    }

    /// Sets what the guest as a whole may use of its memory.
    ///
    /// # Errors
    /// As every call; refused when so much is not there, or more is in use.
    pub fn limit_memory(&self, bytes: u64) -> Result<(), AgentError> {
        let request = UpdatePodRequest {
            memory_limit_bytes: Some(bytes),
            ..Default::default()
        };
        let answer = self.client.update_pod(Context::default(), &request);
        bounded("UpdatePod", bounds::AGENT_WORK.get(), answer).map(drop)
    }

    /// Sets the guest's wall clock.
    ///
    /// # Errors
    /// As every call.
    pub fn set_clock(&self, to: SystemTime) -> Result<(), AgentError> {
        let since = to.duration_since(UNIX_EPOCH).unwrap_or_default();
        let request = SetClockRequest {
            realtime_ns: i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
            ..Default::default()
        };
        let answer = self.client.set_clock(Context::default(), &request);
        bounded("SetClock", bounds::AGENT_CALL.get(), answer).map(drop)
    }

    /// Stirs bytes into the guest's random numbers.
    ///
    /// # Errors
    /// As every call.
    pub fn reseed(&self, entropy: &[u8]) -> Result<(), AgentError> {
        let request = ReseedRequest {
            entropy: entropy.to_vec(),
            ..Default::default()
        };
        let answer = self.client.reseed(Context::default(), &request);
        bounded("Reseed", bounds::AGENT_CALL.get(), answer).map(drop)
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
            bounds::AGENT_CALL.get(),
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
            bounds::AGENT_CALL.get(),
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
            bounds::AGENT_CALL.get(),
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
            bounds::AGENT_CALL.get(),
            self.client.delete_process(Context::default(), &request),
        )?;
        let key = (container.to_owned(), exec.to_owned());
        self.told.send_modify(|told| {
            told.exits.remove(&key);
        });
        Ok(())
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
            bounds::AGENT_CALL.get(),
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

/// Takes the guest's events in until there are no more.
async fn read_events(mut events: ClientStreamReceiver<Event>, told: watch::Sender<Told>) {
    let lost = loop {
        match events.recv().await {
            Ok(Some(event)) => {
                told.send_modify(|told| told.take_in(&event));
                if told.borrow().is_too_much() {
                    break ttrpc::Error::Others("the agent tells of too many events".to_owned());
                }
            }
            Ok(None) => break ttrpc::Error::Others("the agent ended its events".to_owned()),
            Err(error) => break error,
        }
    };
    told.send_modify(|told| told.lost = Some(lost));
}

impl Told {
    /// Takes in what the guest claims; what makes no sense is dropped, as of a version that knows more.
    fn take_in(&mut self, event: &Event) {
        let (container, exec) = (event.container_id.clone(), event.exec_id.clone());
        match event.kind.enum_value() {
            Ok(Kind::KIND_EXIT) => {
                self.exits.insert((container, exec), exit_of(event));
            }
            Ok(Kind::KIND_OOM) => self.oom_kills.push(container),
            Ok(Kind::KIND_UNSPECIFIED) | Err(_) => {}
        }
    }

    /// More than any guest has to tell, which is memory of the host's.
    fn is_too_much(&self) -> bool {
        self.exits.len() > MOST_EVENTS || self.oom_kills.len() > MOST_EVENTS
    }
}

/// Checks what the guest claims about an exit.
fn exit_of(event: &Event) -> Option<ProcessExit> {
    let has_signal = event.signal != 0;
    let claim = if has_signal {
        event.signal
    } else {
        event.exit_code
    };
    let value = u8::try_from(claim).ok()?;
    Some(if has_signal {
        ProcessExit::Signal(value)
    } else {
        ProcessExit::Code(value)
    })
}
