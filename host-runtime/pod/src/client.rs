//! A pod of another process, by its sockets: the client's side of `proto/pod.proto`, blocking.
//!
//! Each call but the waiting ones has a bound. A client may be shared between threads.

use std::fs::File;
use std::future::Future;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use agent_protocol::{FailureKind, failure_of};
use host_machine::bounds;
use host_machine::printing::printable;
use ttrpc::r#async::transport::Socket;
use ttrpc::context::Context;

use crate::runtime;
use crate::server::short_path;
use crate::state::Found;
use crate::wire::{
    Empty, Event, ExecRequest, KillRequest, LogRecords, LogsRequest, ResizeTerminalRequest, Rpc,
    StateResponse, StatsResponse, UpdateRequest, WaitRequest, WaitResponse,
};

/// Why a pod did not do what it was asked. `Display` gives one sentence.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Its process does not answer yet, or no more.
    #[error(
        "the pod {pod} cannot be asked: {source}; it may still be starting, or just have ended"
    )]
    Connect {
        /// Its name.
        pod: String,
        /// The system's answer.
        source: io::Error,
    },
    /// It refused; its sentence says why.
    #[error("{}", .failure.message)]
    Refused {
        /// Kind and sentence.
        failure: Box<agent_protocol::Failure>,
    },
    /// It did not answer in time.
    #[error("waited {} s for the pod {pod} to {what}", .waited.as_secs())]
    NoAnswer {
        /// Its name.
        pod: String,
        /// What it was to do.
        what: &'static str,
        /// For how long was waited.
        waited: Duration,
    },
    /// It went away meanwhile.
    #[error("the pod {pod} ended before it could {what}: {source}")]
    Lost {
        /// Its name.
        pod: String,
        /// What it was to do.
        what: &'static str,
        /// What ttrpc said.
        source: ttrpc::Error,
    },
    /// What was asked for could not be passed on.
    #[error("cannot write: {source}")]
    Write {
        /// The system's answer.
        source: io::Error,
    },
    /// This process could not ask.
    #[error("cannot wait for the pod: {0}")]
    Local(#[from] io::Error),
}

impl ClientError {
    /// The kind of refusal, when it is one.
    #[must_use]
    pub fn kind(&self) -> Option<FailureKind> {
        match self {
            Self::Refused { failure } => failure.kind.enum_value().ok(),
            _ => None,
        }
    }
}

/// A connection to the process of one pod.
pub struct PodClient {
    name: String,
    folder: File,
    rpc: Rpc,
}

impl PodClient {
    /// Connects to a pod that was found.
    ///
    /// # Errors
    /// [`ClientError::Connect`] when nobody listens.
    pub fn connect(pod: &Found) -> Result<Self, ClientError> {
        let name = pod.record.name.clone();
        let failed = |source| ClientError::Connect {
            pod: name.clone(),
            source,
        };
        let folder = File::open(&pod.dir).map_err(failed)?;
        let stream = UnixStream::connect(short_path(&folder, "pod.sock")).map_err(failed)?;
        stream.set_nonblocking(true).map_err(failed)?;
        let runtime = runtime::handle()?;
        let _entered = runtime.enter();
        let stream = tokio::net::UnixStream::from_std(stream).map_err(failed)?;
        let rpc = Rpc::new(ttrpc::r#async::Client::new(Socket::new(stream)));
        Ok(Self { name, folder, rpc })
    }

    /// Makes a call that has to be answered within a bound, if there is one.
    fn call<T>(
        &self,
        what: &'static str,
        bound: Option<Duration>,
        call: impl Future<Output = ttrpc::Result<T>>,
    ) -> Result<T, ClientError> {
        let answer = runtime::wait(async {
            match bound {
                Some(bound) => tokio::time::timeout(bound, call).await.map_err(|_| bound),
                None => Ok(call.await),
            }
        })?;
        match answer {
            Ok(answer) => answer.map_err(|error| self.explained(what, error)),
            Err(waited) => Err(ClientError::NoAnswer {
                pod: self.name.clone(),
                what,
                waited,
            }),
        }
    }

    fn explained(&self, what: &'static str, source: ttrpc::Error) -> ClientError {
        match failure_of(&source) {
            Some(mut failure) => {
                failure.message = printable(&failure.message);
                let failure = Box::new(failure);
                ClientError::Refused { failure }
            }
            None => ClientError::Lost {
                pod: self.name.clone(),
                what,
                source,
            },
        }
    }

    /// How the pod is.
    ///
    /// # Errors
    /// As every call: refused, or no answer.
    pub fn state(&self) -> Result<StateResponse, ClientError> {
        let request = Empty::default();
        let call = self.rpc.state(Context::default(), &request);
        self.call("say how it is", Some(bounds::POD_LOOK.get()), call)
    }

    /// Opens a stream for one direction of a process's stdio, and gives its token.
    ///
    /// # Errors
    /// [`ClientError::Connect`] when nobody takes it.
    pub fn open_stream(&self) -> Result<(u64, UnixStream), ClientError> {
        let open = || {
            let mut stream = UnixStream::connect(short_path(&self.folder, "stdio.sock"))?;
            // The standard library keys its hash tables at random, which is enough among one user's clients.
            let token = std::hash::RandomState::new().build_hasher().finish().max(1);
            stream.write_all(&token.to_le_bytes())?;
            Ok((token, stream))
        };
        open().map_err(|source| ClientError::Connect {
            pod: self.name.clone(),
            source,
        })
    }

    /// Starts a process and gives its exec id.
    ///
    /// # Errors
    /// As every call.
    pub fn exec(&self, request: &ExecRequest) -> Result<String, ClientError> {
        let call = self.rpc.exec(Context::default(), request);
        let answer = self.call("start the program", Some(bounds::POD_WORK.get()), call);
        answer.map(|answer| answer.exec_id)
    }

    /// Waits for a process's end, however long it runs.
    ///
    /// # Errors
    /// As every call.
    pub fn wait(&self, exec_id: &str) -> Result<WaitResponse, ClientError> {
        let request = WaitRequest {
            exec_id: exec_id.to_owned(),
            ..Default::default()
        };
        let call = self.rpc.wait(Context::default(), &request);
        self.call("say how the program ended", None, call)
    }

    /// Sends a signal to a process; to the container's first by the empty id.
    ///
    /// # Errors
    /// As every call.
    pub fn kill(&self, exec_id: &str, signal: u32) -> Result<(), ClientError> {
        let request = KillRequest {
            exec_id: exec_id.to_owned(),
            signal,
            ..Default::default()
        };
        let call = self.rpc.kill(Context::default(), &request);
        self.call("pass the signal on", Some(bounds::POD_WORK.get()), call)
            .map(drop)
    }

    /// Changes what the guest may use of its memory.
    ///
    /// # Errors
    /// As every call.
    pub fn limit_memory(&self, bytes: u64) -> Result<(), ClientError> {
        let request = UpdateRequest {
            memory_bytes: Some(bytes),
            ..Default::default()
        };
        let call = self.rpc.update(Context::default(), &request);
        self.call("change its memory", Some(bounds::POD_WORK.get()), call)
            .map(drop)
    }

    /// Tells a process's terminal its size.
    ///
    /// # Errors
    /// As every call.
    pub fn resize(&self, exec_id: &str, rows: u32, columns: u32) -> Result<(), ClientError> {
        let request = ResizeTerminalRequest {
            exec_id: exec_id.to_owned(),
            rows,
            columns,
            ..Default::default()
        };
        let call = self.rpc.resize_terminal(Context::default(), &request);
        self.call(
            "set the terminal's size",
            Some(bounds::POD_WORK.get()),
            call,
        )
        .map(drop)
    }

    /// Stops everything in the pod where it is.
    ///
    /// # Errors
    /// As every call.
    pub fn pause(&self) -> Result<(), ClientError> {
        let request = Empty::default();
        let call = self.rpc.pause(Context::default(), &request);
        self.call("stop", Some(bounds::POD_WORK.get()), call)
            .map(drop)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// As every call.
    pub fn resume(&self) -> Result<(), ClientError> {
        let request = Empty::default();
        let call = self.rpc.resume(Context::default(), &request);
        self.call("go on", Some(bounds::POD_WORK.get()), call)
            .map(drop)
    }

    /// What it has used so far.
    ///
    /// # Errors
    /// As every call.
    pub fn stats(&self) -> Result<StatsResponse, ClientError> {
        let request = Empty::default();
        let call = self.rpc.stats(Context::default(), &request);
        self.call("count", Some(bounds::POD_WORK.get()), call)
    }

    /// The same in Prometheus's text format.
    ///
    /// # Errors
    /// As every call.
    pub fn metrics(&self) -> Result<String, ClientError> {
        let request = Empty::default();
        let call = self.rpc.metrics(Context::default(), &request);
        self.call("count", Some(bounds::POD_WORK.get()), call)
            .map(|answer| answer.text)
    }

    /// Gives the container's output to `each`, to its present end or, when it is followed, to the pod's.
    ///
    /// # Errors
    /// As every call, and [`ClientError::Write`] when `each` fails.
    pub fn logs(
        &self,
        request: &LogsRequest,
        each: impl FnMut(LogRecords) -> io::Result<()>,
    ) -> Result<(), ClientError> {
        let open = self.rpc.logs(Context::default(), request);
        self.stream("send its log", open, each)
    }

    /// Gives what happens to `each`, until the pod ends.
    ///
    /// # Errors
    /// As [`PodClient::logs`].
    pub fn events(&self, each: impl FnMut(Event) -> io::Result<()>) -> Result<(), ClientError> {
        let request = Empty::default();
        let open = self.rpc.events(Context::default(), &request);
        self.stream("send its events", open, each)
    }

    fn stream<M: protobuf::MessageFull>(
        &self,
        what: &'static str,
        open: impl Future<Output = ttrpc::Result<ttrpc::r#async::ClientStreamReceiver<M>>>,
        mut each: impl FnMut(M) -> io::Result<()>,
    ) -> Result<(), ClientError> {
        let mut stream = self.call(what, Some(bounds::POD_LOOK.get()), open)?;
        while let Some(message) = self.call(what, None, stream.recv())? {
            each(message).map_err(|source| ClientError::Write { source })?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for PodClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PodClient")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
