//! The one thread of this process on which everything asynchronous waits.
//!
//! It waits in epoll without a timeout while nothing happens. Work that blocks is handed to threads that go when they
//! have had nothing to do for a second.

use std::future::{Future, pending};
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::{Builder, Handle};

/// Blocking calls at the same time; more wait for their turn.
const MOST_BLOCKING: usize = 64;
const KEEP_ALIVE: Duration = Duration::from_secs(1);

static RUNTIME: Mutex<Option<Handle>> = Mutex::new(None);

/// This process's runtime, started when it is first asked for.
///
/// # Errors
/// When its descriptors or its thread cannot be made.
pub fn handle() -> io::Result<Handle> {
    let mut slot = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*slot {
        return Ok(handle.clone());
    }
    let mut builder = Builder::new_current_thread();
    builder.enable_io().enable_time();
    builder.thread_keep_alive(KEEP_ALIVE);
    builder.max_blocking_threads(MOST_BLOCKING);
    builder.thread_name("blocking");
    let runtime = builder.build()?;
    let handle = runtime.handle().clone();
    let thread = std::thread::Builder::new().name("requests".to_owned());
    thread.spawn(move || runtime.block_on(pending::<()>()))?;
    *slot = Some(handle.clone());
    Ok(handle)
}

/// Runs work that blocks, on a thread for that, and waits for it without blocking.
///
/// # Panics
/// When the work does.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // Not cancelled: nobody keeps a handle to cancel it by.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Waits on this thread, which is not the runtime's, for something asynchronous.
///
/// # Errors
/// As [`handle`].
pub fn wait<T>(future: impl Future<Output = T>) -> io::Result<T> {
    Ok(handle()?.block_on(future))
}
