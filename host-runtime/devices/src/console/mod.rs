//! virtio console, one port (virtio 1.2, section 5.3): what the guest writes goes to the console log.
//!
//! Nothing types on it, so the receive queue's buffers stay the guest's.

mod log;

use std::io::Read;
use std::sync::Arc;

use super::{Active, Space, VirtioDevice};
pub use log::ConsoleLog;

const TRANSMIT: usize = 1;
/// The most bytes taken from one descriptor chain.
const MOST: usize = 64 * 1024;

/// The console device.
#[derive(Debug)]
pub struct Console<S> {
    log: Arc<ConsoleLog>,
    active: Option<Active<S>>,
}

impl<S> Console<S> {
    /// A console that writes to `log`.
    #[must_use]
    pub fn new(log: Arc<ConsoleLog>) -> Self {
        Self { log, active: None }
    }
}

impl<S: Space> VirtioDevice<S> for Console<S> {
    fn id(&self) -> u32 {
        3
    }

    fn name(&self) -> &'static str {
        "console"
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[64, 64]
    }

    /// Columns, rows, number of ports, emergency write: none is offered, all read as zero.
    fn config(&self) -> Vec<u8> {
        vec![0; 12]
    }

    fn activate(&mut self, active: Active<S>) {
        let comes = active.kick(TRANSMIT);
        self.active = Some(active);
        if !comes {
            self.kicked(TRANSMIT);
        }
    }

    fn kicked(&mut self, queue: usize) {
        let (Some(active), TRANSMIT) = (&mut self.active, queue) else {
            return;
        };
        let log = &self.log;
        active.drain(queue, |memory, chain| {
            if let Ok(mut reader) = chain.reader(memory) {
                let mut bytes = vec![0; reader.available_bytes().min(MOST)];
                if reader.read_exact(&mut bytes).is_ok() {
                    log.write(&bytes);
                }
            }
            0
        });
    }

    fn suspend(&mut self) -> Option<Active<S>> {
        self.active.take()
    }
}
