//! virtio entropy (virtio 1.2, section 5.4): every writable byte is filled from the host's generator.

use std::io::Write;

use rustix::rand::{GetRandomFlags, getrandom};

use super::{Active, Chain, Space, VirtioDevice};

/// The most bytes for one request; the guest may ask again.
const MOST: usize = 4096;

/// The entropy device.
#[derive(Debug)]
pub struct Rng<S> {
    active: Option<Active<S>>,
}

impl<S> Default for Rng<S> {
    fn default() -> Self {
        Self { active: None }
    }
}

impl<S: Space> VirtioDevice<S> for Rng<S> {
    fn id(&self) -> u32 {
        4
    }

    fn name(&self) -> &'static str {
        "rng"
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[64]
    }

    fn activate(&mut self, active: Active<S>) {
        let comes = active.kick(0);
        self.active = Some(active);
        if !comes {
            self.kicked(0);
        }
    }

    fn kicked(&mut self, queue: usize) {
        if let Some(active) = &mut self.active {
            active.drain(queue, fill::<S>);
        }
    }

    fn suspend(&mut self) -> Option<Active<S>> {
        self.active.take()
    }
}

fn fill<S: Space>(memory: &S::M, chain: Chain<S>) -> u32 {
    let Ok(mut writer) = chain.writer(memory) else {
        return 0;
    };
    let mut random = [0; MOST];
    let wanted = writer.available_bytes().min(MOST);
    let got = getrandom(&mut random[..wanted], GetRandomFlags::empty()).unwrap_or(0);
    match writer.write_all(&random[..got]) {
        Ok(()) => u32::try_from(got).unwrap_or(0),
        Err(_) => 0,
    }
}
