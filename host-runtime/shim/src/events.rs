//! Events to containerd, in the order they happened, without anyone waiting for them.
//!
//! One thread sends; callers queue. containerd's event service is the ttrpc socket named by
//! `TTRPC_ADDRESS`. An event that cannot be sent is tried again on a new connection, then dropped
//! with a line in the log: containerd reads the state anew when it reconnects.

use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use containerd_shim_protos::api::ForwardRequest;
use containerd_shim_protos::protobuf::MessageFull;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::{Client, EventsClient, ttrpc};

use host_machine::printing::tell;

use super::error::ShimError;

/// How long containerd may take to accept an event.
const SEND_BOUND: Duration = Duration::from_secs(5);
const ATTEMPTS: u32 = 3;

/// Queues events for containerd.
#[derive(Debug)]
pub(super) struct Publisher {
    namespace: String,
    queue: Option<Sender<Envelope>>,
    sender: Option<JoinHandle<()>>,
}

impl Publisher {
    /// Starts the sending thread. Without `TTRPC_ADDRESS` (a shim started by hand) events go nowhere.
    pub(super) fn connect(namespace: &str) -> Result<Self, ShimError> {
        let Some(address) = std::env::var_os("TTRPC_ADDRESS") else {
            return Ok(Self {
                namespace: namespace.to_owned(),
                queue: None,
                sender: None,
            });
        };
        let address = address.into_string().map_err(|address| {
            ShimError::Usage(format!("TTRPC_ADDRESS {} is not UTF-8", address.display()))
        })?;
        let (queue, events) = mpsc::channel::<Envelope>();
        let sender = std::thread::Builder::new()
            .name("events".to_owned())
            .spawn(move || {
                let mut line = Line {
                    address,
                    client: None,
                };
                for event in events {
                    line.send(event);
                }
            })
            .map_err(|source| ShimError::System {
                what: "start the event thread",
                source,
            })?;
        Ok(Self {
            namespace: namespace.to_owned(),
            queue: Some(queue),
            sender: Some(sender),
        })
    }

    /// Queues an event under its topic (`/tasks/exit` and so on).
    pub(super) fn publish<M: MessageFull>(&self, topic: &str, event: &M) {
        let Some(queue) = &self.queue else { return };
        let Ok(value) = event.write_to_bytes() else {
            tell(format_args!("cannot encode the event {topic}"));
            return;
        };
        let envelope = Envelope {
            timestamp: Some(timestamp(SystemTime::now())).into(),
            namespace: self.namespace.clone(),
            topic: topic.to_owned(),
            event: Some(Any {
                type_url: M::descriptor().full_name().to_owned(),
                value,
                ..Default::default()
            })
            .into(),
            ..Default::default()
        };
        // The thread ends only when this queue is dropped.
        let _ = queue.send(envelope);
    }

    /// Sends what is queued, then ends the thread.
    pub(super) fn drain(&mut self) {
        self.queue = None;
        if let Some(sender) = self.sender.take() {
            // A panicked sender has nothing more to send.
            let _ = sender.join();
        }
    }
}

/// The connection to containerd, made when needed.
struct Line {
    address: String,
    client: Option<EventsClient>,
}

impl Line {
    fn send(&mut self, envelope: Envelope) {
        let topic = envelope.topic.clone();
        let request = ForwardRequest {
            envelope: Some(envelope).into(),
            ..Default::default()
        };
        for attempt in 1..=ATTEMPTS {
            match self.try_send(&request) {
                Ok(()) => return,
                Err(error) if attempt == ATTEMPTS => {
                    tell(format_args!(
                        "containerd did not take the event {topic}: {error}"
                    ));
                }
                Err(_) => {
                    self.client = None;
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }

    fn try_send(&mut self, request: &ForwardRequest) -> Result<(), ttrpc::Error> {
        let client = match &mut self.client {
            Some(client) => client,
            none => {
                let path = self
                    .address
                    .strip_prefix("unix://")
                    .unwrap_or(&self.address);
                let stream = UnixStream::connect(path)
                    .map_err(|error| ttrpc::Error::Others(format!("{path}: {error}")))?;
                none.insert(EventsClient::new(Client::new(stream.into_raw_fd())?))
            }
        };
        client
            .forward(ttrpc::context::with_duration(SEND_BOUND), request)
            .map(drop)
    }
}

/// A moment, as containerd wants it.
pub(super) fn timestamp(at: SystemTime) -> Timestamp {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: since.subsec_nanos().cast_signed(),
        ..Default::default()
    }
}
