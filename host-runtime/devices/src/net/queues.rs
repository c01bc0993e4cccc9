//! Frames between the link and the guest's buffers (virtio 1.2, sections 5.1.6.2 and 5.1.6.4).

use std::io::{Read, Write};

use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemory};

use super::link::{Frame, HEADER, Link, Lost, MOST_FRAME, Sent};
use super::rate::Limit;
use super::{F_MRG_RXBUF, RECEIVE, TRANSMIT};
use crate::{Active, MOST_IN_A_ROW, Space};

/// Where the header says how many chains a frame has taken.
const BUFFERS_AT: usize = 10;

/// Why a direction goes no further for now.
#[derive(Debug)]
pub(super) enum Stop {
    /// One side, or the rate, has no more; that it has is told.
    Done,
    /// The link is no more.
    Lost(Lost),
}

/// What became of a frame for the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Given {
    /// It is in so many of its chains, or lost when none could hold it.
    Yes(usize),
    /// The guest has too few buffers.
    NoBuffers,
}

/// Moves frames from the link to the guest.
pub(super) fn receive<S: Space>(
    active: &mut Active<S>,
    link: &mut Link,
    mut limit: Option<&mut Limit>,
) -> Stop {
    let is_mergeable = active.features & F_MRG_RXBUF != 0;
    let memory = active.memory.memory();
    let Some(queue) = active.queues.get_mut(RECEIVE).filter(|queue| queue.ready()) else {
        return Stop::Done;
    };
    let _ = queue.disable_notification(&*memory);
    let mut chains = 0;
    let mut is_promised = false;
    let stop = loop {
        if chains >= MOST_IN_A_ROW {
            break Stop::Done;
        }
        let frame = match link.next() {
            Ok(Some(frame)) => frame,
            Ok(None) => break Stop::Done,
            Err(lost) => break Stop::Lost(lost),
        };
        if limit.as_mut().is_some_and(|limit| !limit.allows(RECEIVE)) {
            break Stop::Done;
        }
        let length = frame.data.len();
        match give::<S>(queue, &memory, &frame, is_mergeable) {
            Given::Yes(taken) => {
                // One that is lost counts, too: they are not looked at without end.
                chains += taken.max(1);
                is_promised = false;
                link.take();
                if let Some(limit) = &mut limit {
                    limit.charge(RECEIVE, length);
                }
            }
            // The guest notifies when it has more; what it added just before it heard of that is seen here.
            Given::NoBuffers => match queue.enable_notification(&*memory) {
                Ok(true) if !is_promised => is_promised = true,
                _ => break Stop::Done,
            },
        }
    };
    active.count(chains);
    if chains > 0 {
        active.notify(RECEIVE);
    }
    if chains >= MOST_IN_A_ROW {
        active.kick(RECEIVE);
    }
    stop
}

/// Puts one frame into the guest's next chains: into one, or into as many as it takes when they can be merged.
fn give<S: Space>(
    queue: &mut Queue,
    memory: &S::T,
    frame: &Frame<'_>,
    is_mergeable: bool,
) -> Given {
    let first = queue.next_avail();
    let wanted = HEADER + frame.data.len();
    let mut room = 0;
    let mut chains = Vec::with_capacity(1);
    while room < wanted {
        let is_full = match is_mergeable {
            true => chains.len() >= usize::from(queue.size()),
            false => !chains.is_empty(),
        };
        if is_full {
            // All that the guest can ever offer does not hold it.
            break;
        }
        let Some(chain) = queue.pop_descriptor_chain(memory.clone()) else {
            queue.set_next_avail(first);
            return Given::NoBuffers;
        };
        let head = chain.head_index();
        // One that leads out of memory holds nothing, and goes back with nothing in it.
        let writer = chain.writer(&**memory).ok();
        room += writer.as_ref().map_or(0, |writer| writer.available_bytes());
        chains.push((head, writer));
    }
    let mut header = frame.header;
    let taken = chains.len();
    let count = u16::try_from(taken).unwrap_or(u16::MAX);
    header[BUFFERS_AT..].copy_from_slice(&count.to_le_bytes());
    let mut header = &header[..];
    let mut data = match room < wanted {
        true => {
            header = &[];
            &[][..]
        }
        false => frame.data,
    };
    let used = chains.into_iter().map(|(head, writer)| {
        let written = writer.map_or(0, |mut writer| {
            put(&mut writer, &mut header) + put(&mut writer, &mut data)
        });
        (head, u32::try_from(written).unwrap_or(0))
    });
    // A queue that does not take them is broken, and stays still.
    let _ = use_together(queue, &**memory, used);
    Given::Yes(taken)
}

/// Uses the chains of one frame, of which the driver is told at once: it may not find a part of them
/// (section 5.1.6.4).
fn use_together<M: GuestMemory>(
    queue: &mut Queue,
    memory: &M,
    used: impl ExactSizeIterator<Item = (u16, u32)>,
) -> Option<()> {
    let (first, count) = (queue.next_used(), used.len());
    let at = |index: u16| {
        let place = u64::from(index % queue.size());
        let ring = queue.used_ring().checked_add(4 + 8 * place);
        ring.map(GuestAddress)
    };
    let mut last = None;
    for (number, (head, written)) in (0..).zip(used) {
        let index = first.wrapping_add(number);
        let entry = [u32::from(head).to_le_bytes(), written.to_le_bytes()];
        memory.write_slice(entry.as_flattened(), at(index)?).ok()?;
        last = Some((index, head, written));
    }
    let (index, head, written) = last?;
    for _ in 0..count {
        // It is the last entry each time; that many were added is what the queue has to know for its notifications.
        queue.set_next_used(index);
        queue.add_used(memory, head, written).ok()?;
    }
    Some(())
}

/// Writes as much as there is room for, and takes it off.
fn put(to: &mut impl Write, from: &mut &[u8]) -> usize {
    let written = to.write(from).unwrap_or(0);
    *from = &from[written..];
    written
}

/// Moves frames from the guest to the link; `frame` is where each is meanwhile.
pub(super) fn transmit<S: Space>(
    active: &mut Active<S>,
    link: &mut Link,
    mut limit: Option<&mut Limit>,
    frame: &mut Vec<u8>,
) -> Stop {
    let memory = active.memory.memory();
    let Some(queue) = active
        .queues
        .get_mut(TRANSMIT)
        .filter(|queue| queue.ready())
    else {
        return Stop::Done;
    };
    let mut chains = 0;
    let mut is_promised = false;
    let stop = 'all: loop {
        let before = chains;
        let _ = queue.disable_notification(&*memory);
        while chains < MOST_IN_A_ROW {
            if limit.as_mut().is_some_and(|limit| !limit.allows(TRANSMIT)) {
                break 'all Stop::Done;
            }
            let Some(chain) = queue.pop_descriptor_chain(memory.clone()) else {
                break;
            };
            let head = chain.head_index();
            let sent = match gather(chain.reader(&*memory).ok(), frame) {
                true => link.send(frame),
                // It is no frame, and lost.
                false => Ok(Sent::Yes),
            };
            match sent {
                Ok(Sent::Yes) => {}
                Ok(Sent::Full) => {
                    queue.go_to_previous_position();
                    break 'all Stop::Done;
                }
                Err(lost) => {
                    queue.go_to_previous_position();
                    break 'all Stop::Lost(lost);
                }
            }
            if let Some(limit) = &mut limit {
                limit.charge(TRANSMIT, frame.len());
            }
            if queue.add_used(&*memory, head, 0).is_err() {
                return Stop::Done;
            }
            chains += 1;
        }
        if chains >= MOST_IN_A_ROW {
            break Stop::Done;
        }
        match queue.enable_notification(&*memory) {
            // An index that lies names chains that cannot be taken, for ever.
            Ok(true) if is_promised && chains == before => break Stop::Done,
            Ok(true) => is_promised = true,
            Ok(false) => break Stop::Done,
            Err(_) => return Stop::Done,
        }
    };
    active.count(chains);
    if chains > 0 {
        active.notify(TRANSMIT);
    }
    if chains >= MOST_IN_A_ROW {
        active.kick(TRANSMIT);
    }
    stop
}

/// Fills `frame` with a header and what is behind it; `false` when that is none, or too long.
fn gather<R: Read + Length>(chain: Option<R>, frame: &mut Vec<u8>) -> bool {
    frame.clear();
    let Some(mut chain) = chain.filter(|chain| chain.length() <= HEADER + MOST_FRAME) else {
        return false;
    };
    frame.resize(chain.length(), 0);
    chain.read_exact(frame).is_ok() && frame.len() > HEADER
}

/// What a chain holds.
trait Length {
    /// In bytes.
    fn length(&self) -> usize;
}

impl<B: vm_memory::bitmap::BitmapSlice> Length for virtio_queue::Reader<'_, B> {
    fn length(&self) -> usize {
        self.available_bytes()
    }
}
