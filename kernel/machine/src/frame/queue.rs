//! A queue of pages of files, linked through the frames' metadata so that to be in one costs no memory: Linux's LRU lists.
//!
//! A [`Queue`] does not own frames. Its members carry its flags, so that one cannot be in two queues, nor leave one
//! that it is not in. The list itself is in [`super::links`].
//!
//! Locking: the caller's; a frame is taken out before its last handle goes.

/// Where a page of a file belongs, as its owner says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The number of the file.
    pub file: u32,
    /// The page in it.
    pub index: u64,
    /// The frame.
    pub phys: crate::addr::PhysAddr,
}

#[cfg(target_os = "none")]
pub use bare::Queue;
#[cfg(not(target_os = "none"))]
pub use host::Queue;

#[cfg(target_os = "none")]
mod bare {
    use core::sync::atomic::Ordering;

    use super::super::bare::Frame;
    use super::super::links::Links;
    use super::super::meta::FrameFlags;
    use super::super::vmemmap::{self, Vmemmap};
    use super::Place;
    use crate::addr::{PAGE_SIZE, PhysAddr};

    /// A queue of pages of files.
    #[derive(Debug)]
    pub struct Queue {
        links: Links,
        flags: FrameFlags,
    }

    impl Queue {
        /// An empty queue whose members carry `flags`, of those that tell queues apart.
        #[must_use]
        pub const fn new(flags: FrameFlags) -> Self {
            Self {
                links: Links::new(),
                flags,
            }
        }

        /// How many frames are in it.
        #[must_use]
        pub const fn len(&self) -> usize {
            self.links.len()
        }

        /// Whether it has none.
        #[must_use]
        pub const fn is_empty(&self) -> bool {
            self.links.len() == 0
        }

        /// Adds a frame that is in no queue as the youngest. Boot memory stays outside.
        pub fn push(&mut self, frame: &Frame, file: u32, index: u64) {
            if let Some(meta) = frame.meta()
                && !meta.flags().intersects(FrameFlags::QUEUES)
            {
                meta.number.store(file, Ordering::Relaxed);
                meta.index.store(index, Ordering::Relaxed);
                meta.set(self.flags);
                self.links.push(&Vmemmap, number_of(frame.phys()));
            }
        }

        /// Takes a frame out. Whether it was in.
        pub fn remove(&mut self, frame: &Frame) -> bool {
            let is_in = frame.flags() & FrameFlags::QUEUES == self.flags;
            if is_in {
                frame.clear_flags(FrameFlags::QUEUES);
                self.links.remove(&Vmemmap, number_of(frame.phys()));
            }
            is_in
        }

        /// Makes the oldest frame the youngest, and tells where it belongs.
        pub fn rotate(&mut self) -> Option<Place> {
            let number = self.links.oldest()?;
            self.links.remove(&Vmemmap, number);
            self.links.push(&Vmemmap, number);
            Some(place(number))
        }

        /// Moves the oldest frame to another queue, as its youngest.
        pub fn move_oldest(&mut self, to: &mut Queue) {
            if let Some(number) = self.links.oldest() {
                self.links.remove(&Vmemmap, number);
                to.links.push(&Vmemmap, number);
                let meta = vmemmap::meta(number);
                meta.clear(FrameFlags::QUEUES);
                meta.set(to.flags);
            }
        }
    }

    fn place(number: usize) -> Place {
        let meta = vmemmap::meta(number);
        Place {
            file: meta.number.load(Ordering::Relaxed),
            index: meta.index.load(Ordering::Relaxed),
            phys: PhysAddr((number * PAGE_SIZE) as u64),
        }
    }

    fn number_of(phys: PhysAddr) -> usize {
        (phys.0 / PAGE_SIZE as u64) as usize
    }
}

#[cfg(not(target_os = "none"))]
mod host {
    use alloc::sync::{Arc, Weak};
    use std::collections::VecDeque;

    use super::super::host::{Counted, Frame};
    use super::super::meta::FrameFlags;
    use super::Place;

    /// A queue of pages of files.
    #[derive(Debug)]
    pub struct Queue {
        /// The oldest first.
        places: VecDeque<(Place, Weak<Counted>)>,
        flags: FrameFlags,
    }

    impl Queue {
        /// An empty queue whose members carry `flags`, of those that tell queues apart.
        #[must_use]
        pub const fn new(flags: FrameFlags) -> Self {
            Self {
                places: VecDeque::new(),
                flags,
            }
        }

        /// How many frames are in it.
        #[must_use]
        pub fn len(&self) -> usize {
            self.places.len()
        }

        /// Whether it has none.
        #[must_use]
        pub fn is_empty(&self) -> bool {
            self.places.is_empty()
        }

        /// Adds a frame that is in no queue as the youngest.
        pub fn push(&mut self, frame: &Frame, file: u32, index: u64) {
            if !frame.flags().intersects(FrameFlags::QUEUES) {
                frame.set_flags(self.flags);
                let phys = frame.phys();
                let place = Place { file, index, phys };
                self.places.push_back((place, Arc::downgrade(&frame.0)));
            }
        }

        /// Takes a frame out. Whether it was in.
        pub fn remove(&mut self, frame: &Frame) -> bool {
            let is_in = frame.flags() & FrameFlags::QUEUES == self.flags;
            if is_in {
                frame.clear_flags(FrameFlags::QUEUES);
                self.places.retain(|(place, _)| place.phys != frame.phys());
            }
            is_in
        }

        /// Makes the oldest frame the youngest, and tells where it belongs.
        pub fn rotate(&mut self) -> Option<Place> {
            let oldest = self.places.pop_front()?;
            let place = oldest.0;
            self.places.push_back(oldest);
            Some(place)
        }

        /// Moves the oldest frame to another queue, as its youngest.
        pub fn move_oldest(&mut self, to: &mut Queue) {
            if let Some(oldest) = self.places.pop_front() {
                if let Some(counted) = oldest.1.upgrade() {
                    counted.meta.clear(FrameFlags::QUEUES);
                    counted.meta.set(to.flags);
                }
                to.places.push_back(oldest);
            }
        }
    }
}
