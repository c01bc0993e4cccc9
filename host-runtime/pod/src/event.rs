//! What a pod tells its owner.

use std::sync::Arc;

use crate::process::Exit;

/// Something that happened to a process.
#[derive(Debug, Clone)]
pub enum Event {
    /// It runs.
    Started {
        /// Its container.
        container: String,
        /// Its exec id, empty for the container's first.
        exec: String,
    },
    /// It has ended. The container's first process is the last whose end is told.
    Exited {
        /// Its container.
        container: String,
        /// Its exec id, empty for the container's first.
        exec: String,
        /// How.
        exit: Exit,
    },
    /// Processes of it died for want of memory.
    OutOfMemory {
        /// The container.
        container: String,
    },
    /// All of the pod stands still.
    Paused,
    /// It goes on.
    Resumed,
}

/// Who is told, on the thread where it happened; must not wait.
pub type Observer = Arc<dyn Fn(Event) + Send + Sync>;
