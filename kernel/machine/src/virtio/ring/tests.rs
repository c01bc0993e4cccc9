//! The ring against a device that does what the specification says, and against one that writes noise.

use std::collections::BTreeSet;
use std::vec::Vec;

use super::super::queue::{Notify, RequestQueue};
use super::*;

/// Repeatable noise (xorshift).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % limit
    }
}

/// Address, length and flags.
type Buffer = (u64, u32, u16);

/// The device's side of a ring.
#[derive(Default)]
struct Peer {
    seen: u16,
    used: u16,
}

impl Peer {
    /// The next request: its head and its buffers.
    fn take(&mut self, ring: &SplitRing) -> Option<(u16, Vec<Buffer>)> {
        if ring.available_index().load(Ordering::Acquire) == self.seen {
            return None;
        }
        let place = usize::from(self.seen % ring.size);
        self.seen = self.seen.wrapping_add(1);
        let head = ring.rings.u16(4 + 2 * place).load(Ordering::Relaxed);
        let (address, len, flags, _) = descriptor(&ring.descriptors, usize::from(head) * 16);
        let mut buffers = Vec::new();
        let (table, start, mut at) = if flags & INDIRECT == 0 {
            (&ring.descriptors, 0, head)
        } else {
            let table = ring.tables[usize::from(head)].as_ref().unwrap();
            assert_eq!(table.words.0.phys().0 + table.start as u64, address);
            assert!(len > 16 && usize::try_from(len).unwrap() <= PAGE_SIZE / 2);
            (&table.words, table.start, 0)
        };
        loop {
            let (address, len, flags, next) = descriptor(table, start + usize::from(at) * 16);
            buffers.push((address, len, flags & WRITE));
            if flags & NEXT == 0 {
                return Some((head, buffers));
            }
            assert!(
                buffers.len() <= usize::from(ring.size),
                "a chain that loops"
            );
            at = next;
        }
    }

    fn complete(&mut self, ring: &SplitRing, head: u32, written: u32) {
        let at = ring.used_at + 4 + 8 * usize::from(self.used % ring.size);
        ring.rings.u32(at).store(head, Ordering::Relaxed);
        ring.rings.u32(at + 4).store(written, Ordering::Relaxed);
        self.used = self.used.wrapping_add(1);
        ring.used_index().store(self.used, Ordering::Release);
    }
}

fn descriptor(words: &Words, at: usize) -> (u64, u32, u16, u16) {
    let mut bytes = [0; 16];
    words.0.read(at, &mut bytes);
    (
        u64::from_le_bytes(bytes[..8].try_into().unwrap()),
        u32::from_le_bytes(bytes[8..12].try_into().unwrap()),
        u16::from_le_bytes(bytes[12..14].try_into().unwrap()),
        u16::from_le_bytes(bytes[14..].try_into().unwrap()),
    )
}

fn segments(count: usize, noise: &mut Noise) -> Vec<Segment> {
    let frame = Frame::alloc_zeroed().unwrap();
    segments_of(&frame, count, noise)
}

fn segments_of(frame: &Frame, count: usize, noise: &mut Noise) -> Vec<Segment> {
    (0..count)
        .map(|_| {
            let offset = noise.below(4000);
            Segment::new(frame.clone(), offset, 1 + noise.below(96)).unwrap()
        })
        .collect()
}

const ALL: [Features; 4] = [
    Features {
        indirect: false,
        event_index: false,
    },
    Features {
        indirect: true,
        event_index: false,
    },
    Features {
        indirect: false,
        event_index: true,
    },
    Features {
        indirect: true,
        event_index: true,
    },
];

#[test]
fn sizes_are_powers_of_two_that_both_sides_take() {
    let cases = [
        ((1024, 128), Some(128)),
        ((100, 128), Some(64)),
        ((u32::MAX, 1000), Some(256)),
        ((5, 128), Some(4)),
        ((3, 128), None),
        ((0, 4), None),
    ];
    for ((offered, wanted), size) in cases {
        assert_eq!(size_for(offered, wanted), size, "{offered} {wanted}");
    }
}

#[test]
fn requests_of_every_shape_reach_the_device_and_give_their_descriptors_back() {
    let mut noise = Noise(0x0123_4567_89ab_cdef);
    let frame = Frame::alloc_zeroed().unwrap();
    for features in ALL {
        let mut ring = SplitRing::new(16, features).unwrap();
        let (mut peer, mut waiting) = (Peer::default(), Vec::new());
        // The 16-bit indices wrap on the way, once.
        let rounds = if features.indirect && features.event_index {
            70_000
        } else {
            3_000
        };
        for _ in 0..rounds {
            let (readable, writable) = (noise.below(6), noise.below(6));
            let (readable, writable) = (
                segments_of(&frame, readable, &mut noise),
                segments_of(&frame, writable, &mut noise),
            );
            if let Some(head) = ring.add(&readable, &writable) {
                let wanted: Vec<_> = in_order(&readable, &writable)
                    .map(|(segment, flags)| {
                        (segment.phys(), u32::try_from(segment.len()).unwrap(), flags)
                    })
                    .collect();
                assert_eq!(peer.take(&ring), Some((head, wanted)));
                waiting.push(head);
            }
            while !waiting.is_empty() && noise.below(3) > 0 {
                let head = waiting.swap_remove(noise.below(waiting.len()));
                peer.complete(&ring, head.into(), 7);
                let used = ring.next_used().unwrap();
                assert_eq!((used.head, used.written), (head.into(), 7));
                ring.release(head);
            }
            assert!(ring.next_used().is_none());
        }
        waiting.iter().for_each(|head| ring.release(*head));
        assert_eq!(ring.free_len, 16);
        let tables = ring.spare_tables.len();
        assert!(tables <= 17 && features.indirect == (tables > 0));
    }
}

#[test]
fn a_full_ring_takes_no_more_and_a_longer_chain_than_the_ring_is_refused() {
    let mut noise = Noise(3);
    for features in ALL {
        let mut ring = SplitRing::new(4, features).unwrap();
        assert!(ring.add(&segments(5, &mut noise), &[]).is_none());
        assert!(ring.add(&[], &[]).is_none());
        let taken = (0..9).filter(|_| ring.add(&segments(2, &mut noise), &[]).is_some());
        assert_eq!(taken.count(), if features.indirect { 3 } else { 2 });
        ring.add(&segments(1, &mut noise), &[]);
        assert_eq!(ring.free_len, 0);
    }
}

#[test]
fn a_batch_is_told_once_and_only_where_the_device_wants_it() {
    let mut noise = Noise(5);
    let mut ring = SplitRing::new(16, ALL[2]).unwrap();
    let mut add = |ring: &mut SplitRing| ring.add(&segments(1, &mut noise), &[]).unwrap();
    // The device has seen nothing and wants to hear of the first.
    (0..3).for_each(|_| _ = add(&mut ring));
    assert!(ring.needs_notify() && !ring.needs_notify());
    // It has not come further, and will look by itself.
    add(&mut ring);
    assert!(!ring.needs_notify());
    ring.available_event().store(5, Ordering::Relaxed);
    add(&mut ring);
    assert!(!ring.needs_notify(), "that was the fifth, not the sixth");
    add(&mut ring);
    assert!(ring.needs_notify());
    let mut plain = SplitRing::new(16, ALL[0]).unwrap();
    plain
        .rings
        .u16(plain.used_at)
        .store(NO_NOTIFY, Ordering::Relaxed);
    add(&mut plain);
    assert!(!plain.needs_notify());
    plain.rings.u16(plain.used_at).store(0, Ordering::Relaxed);
    add(&mut plain);
    assert!(plain.needs_notify());
}

/// A handle to the ring's frames, as the device has it.
struct Outside {
    frames: [Frame; 2],
    used_at: usize,
}

impl Outside {
    fn scribble(&self, noise: &mut Noise) {
        let frame = &self.frames[noise.below(2)];
        let len = 1 + noise.below(64);
        let bytes: Vec<u8> = (0..len).map(|_| noise.next().to_le_bytes()[0]).collect();
        frame.write(noise.below(PAGE_SIZE - len), &bytes);
    }

    /// A completion that may or may not be of a request that there is.
    fn claim(&self, noise: &mut Noise, used: &mut u16) {
        let entry = [
            u32::try_from(noise.below(20)).unwrap(),
            u32::try_from(noise.below(300)).unwrap(),
        ];
        let at = self.used_at + 4 + 8 * usize::from(*used % 16);
        self.frames[1].write(
            at,
            &[entry[0].to_le_bytes(), entry[1].to_le_bytes()].concat(),
        );
        *used = used.wrapping_add(1);
        self.frames[1].write(self.used_at + 2, &used.to_le_bytes());
    }
}

#[test]
fn noise_from_the_device_gives_no_request_back_twice_and_no_length_beyond_its_buffers() {
    let mut noise = Noise(0xdead_beef_1234_5678);
    let mut given_up = 0;
    for round in 0..500 {
        let ring = SplitRing::new(16, ALL[round % 4]).unwrap();
        let outside = Outside {
            frames: [ring.descriptors.0.clone(), ring.rings.0.clone()],
            used_at: ring.used_at,
        };
        let notify = Notify::Call(Box::new(|| {}));
        let queue = RequestQueue::<usize>::new(Box::new(ring), notify, None).unwrap();
        let (mut sent, mut used) = (BTreeSet::new(), 0);
        for context in 0..60 {
            let (readable, writable) = (noise.below(4), noise.below(4));
            let writable = segments(writable, &mut noise);
            if queue
                .submit(
                    crate::heap::Vec::from_std(segments(readable, &mut noise)),
                    crate::heap::Vec::from_std(writable),
                    context,
                )
                .is_ok()
            {
                sent.insert(context);
            }
            if round % 3 > 0 || noise.below(4) == 0 {
                outside.claim(&mut noise, &mut used);
            }
            if round % 3 == 0 {
                outside.scribble(&mut noise);
            }
            while let Some(done) = queue.completed() {
                assert!(sent.remove(&done.context), "given back twice");
                let room: usize = done.writable.iter().map(Segment::len).sum();
                assert!(done.written <= room);
            }
        }
        given_up += usize::from(queue.is_broken());
    }
    assert!(given_up > 250, "{given_up}");
}
