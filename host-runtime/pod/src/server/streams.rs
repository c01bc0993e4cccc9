//! `stdio.sock`: each connection is one direction of one process's stdio, named by the token that it opens with.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use host_machine::bounds;
use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, watch};

use crate::error::PodError;

/// Streams that nobody has asked for; older ones are dropped.
const MOST: usize = 64;

/// Streams that wait for the request that names them.
#[derive(Debug, Default)]
pub(super) struct StreamTable {
    streams: Mutex<Vec<(u64, OwnedFd)>>,
    came: Notify,
}

impl StreamTable {
    /// The stream of a token, once it has come; none for the token 0.
    pub(super) async fn take(&self, token: u64) -> Result<Option<OwnedFd>, PodError> {
        if token == 0 {
            return Ok(None);
        }
        let wait = async {
            loop {
                let came = self.came.notified();
                tokio::pin!(came);
                // From here on nothing that comes is missed.
                came.as_mut().enable();
                if let Some(stream) = self.find(token) {
                    return stream;
                }
                came.await;
            }
        };
        let found = tokio::time::timeout(bounds::STREAM.get(), wait).await;
        found.map(Some).map_err(|_| PodError::State {
            what: format!(
                "waited {} s for a stream of the request's stdio",
                bounds::STREAM.get().as_secs()
            ),
        })
    }

    fn find(&self, token: u64) -> Option<OwnedFd> {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let index = streams.iter().position(|(named, _)| *named == token)?;
        Some(streams.swap_remove(index).1)
    }

    fn put(&self, token: u64, stream: OwnedFd) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if streams.len() == MOST {
            streams.remove(0);
        }
        streams.push((token, stream));
        drop(streams);
        self.came.notify_waiters();
    }
}

/// Takes streams until told to stop.
pub(super) async fn accept_all(
    listener: UnixListener,
    table: Arc<StreamTable>,
    mut stopping: watch::Receiver<bool>,
) {
    let accept = async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let table = Arc::clone(&table);
                    tokio::spawn(tokio::time::timeout(
                        bounds::STREAM.get(),
                        take_in(stream, table),
                    ));
                }
                // Out of descriptors, or a client that has gone: later is another matter.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    };
    tokio::select! {
        () = accept => {}
        _ = stopping.wait_for(|stop| *stop) => {}
    }
}

async fn take_in(mut stream: UnixStream, table: Arc<StreamTable>) {
    let mut token = [0; 8];
    if stream.read_exact(&mut token).await.is_ok()
        && let Ok(stream) = stream.into_std()
    {
        table.put(u64::from_le_bytes(token), stream.into());
    }
}
