//! [`Output`]: bytes on their way from a terminal to its line, bounded and grown fallibly.

use abi::Result;
use collections::VecDeque;

/// Processed output and echo that the line has not taken. What is echoed while it is full is lost, as on
/// Linux; what is written waits, because [`Output::reserve`] comes first.
#[derive(Debug)]
pub(super) struct Output {
    bytes: VecDeque<u8>,
    limit: usize,
}

impl Output {
    /// Holds up to `limit` bytes.
    pub(super) const fn new(limit: usize) -> Output {
        Output {
            bytes: VecDeque::new(),
            limit,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Makes room for `count` bytes, so that pushing them loses none (up to the limit).
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn reserve(&mut self, count: usize) -> Result<()> {
        Ok(self.bytes.try_reserve(count)?)
    }

    /// Appends `byte`, or loses it.
    pub(super) fn push(&mut self, byte: u8) {
        if self.bytes.len() < self.limit {
            // Without memory it is lost.
            let _ = self.bytes.try_push_back(byte);
        }
    }

    /// As [`Output::push`], in order.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.push(*byte));
    }

    /// Throws everything away.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Offers all of it to `send`, which says how much it took.
    pub(super) fn pass_to(&mut self, mut send: impl FnMut(&[u8]) -> usize) {
        while !self.bytes.is_empty() {
            let (first, _) = self.bytes.as_slices();
            let sent = send(first).min(first.len());
            if sent == 0 {
                return;
            }
            self.bytes.drain(..sent);
        }
    }

    #[cfg(test)]
    pub(super) fn to_vec(&self) -> Vec<u8> {
        Vec::from_iter(self.bytes.iter().copied())
    }
}
