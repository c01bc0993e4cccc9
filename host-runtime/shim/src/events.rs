//! Events to containerd, in the order they happened, without anyone waiting for them.
//!
//! One task sends; callers queue. containerd's event service is the ttrpc socket named by
//! `TTRPC_ADDRESS`. An event that cannot be sent is tried again on a new connection, then dropped
//! with a line in the log: containerd reads the state anew when it reconnects.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use containerd_shim_protos::api::ForwardRequest;
use containerd_shim_protos::protobuf::MessageFull;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim_async::{Client, EventsClient};
use containerd_shim_protos::ttrpc;
use containerd_shim_protos::ttrpc::r#async::transport::Socket;
use host_machine::bounds;

use tokio::net::UnixStream;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::task::JoinHandle;

use super::error::ShimError;

const ATTEMPTS: u32 = 3;

/// Queues events for containerd.
#[derive(Debug)]
pub(super) struct Publisher {
    namespace: String,
    queue: Option<UnboundedSender<Envelope>>,
    sender: Option<JoinHandle<()>>,
}

impl Publisher {
    /// Starts the sending task. Without `TTRPC_ADDRESS` (a shim started by hand) events go nowhere.
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
        let (queue, mut events) = mpsc::unbounded_channel::<Envelope>();
        let runtime = pod::runtime::handle().map_err(|source| ShimError::System {
            what: "start the thread for requests",
            source,
        })?;
        let sender = runtime.spawn(async move {
            let mut line = Line {
                address,
                client: None,
            };
            while let Some(event) = events.recv().await {
                line.send(event).await;
            }
        });
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
            tracing::error!("cannot encode the event {topic}");
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
        // The task ends only when this queue is dropped.
        let _ = queue.send(envelope);
    }

    /// Sends what is queued, then ends the task. Not for the runtime's own thread.
    pub(super) fn drain(&mut self) {
        self.queue = None;
        if let Some(sender) = self.sender.take() {
            // A panicked sender has nothing more to send.
            let _ = pod::runtime::wait(sender);
        }
    }
}

/// The connection to containerd, made when needed.
struct Line {
    address: String,
    client: Option<EventsClient>,
}

impl Line {
    async fn send(&mut self, envelope: Envelope) {
        let topic = envelope.topic.clone();
        let request = ForwardRequest {
            envelope: Some(envelope).into(),
            ..Default::default()
        };
        for attempt in 1..=ATTEMPTS {
            match self.try_send(&request).await {
                Ok(()) => return,
                Err(error) if attempt == ATTEMPTS => {
                    tracing::error!("containerd did not take the event {topic}: {error}");
                }
                Err(_) => {
                    self.client = None;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn try_send(&mut self, request: &ForwardRequest) -> Result<(), ttrpc::Error> {
        let client = match &mut self.client {
            Some(client) => client,
            none => {
                let path = self
                    .address
                    .strip_prefix("unix://")
                    .unwrap_or(&self.address);
                let stream = UnixStream::connect(path).await;
                let stream =
                    stream.map_err(|error| ttrpc::Error::Others(format!("{path}: {error}")))?;
                none.insert(EventsClient::new(Client::new(Socket::new(stream))))
            }
        };
        let sent = client.forward(ttrpc::context::Context::default(), request);
        let late =
            |_| ttrpc::Error::Others(format!("waited {} s", bounds::CONTAINERD.get().as_secs()));
        let sent = tokio::time::timeout(bounds::CONTAINERD.get(), sent)
            .await
            .map_err(late)?;
        sent.map(drop)
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
