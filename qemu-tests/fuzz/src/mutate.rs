//! Inputs from seeds: a few changes each, and pieces of other seeds.

/// Bytes that parsers stumble over.
const WORDS: &[&[u8]] = &[
    b"\0",
    b"\xff\xff\xff\xff",
    b"-1",
    b"0",
    b"1e999",
    b"18446744073709551615",
    b"9223372036854775808",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"null",
    b"true",
    b"\\ud800",
    b"..",
    b"/",
    b"\n",
    b"\x7f\xff\xff\xff",
    b"\x80\0\0\0",
    b"\0\0\0\0\0\0\0\x80",
];
/// The most changes that one input gets.
const CHANGES_MOST: usize = 8;
/// No input gets longer.
const LENGTH_MOST: usize = 64 * 1024;

/// Makes inputs; the same for the same number and seeds.
#[derive(Debug)]
pub(crate) struct Mutator {
    state: u64,
    seeds: Vec<Vec<u8>>,
}

impl Mutator {
    pub(crate) fn new(number: u64, seeds: Vec<Vec<u8>>) -> Self {
        // xorshift stays at zero for ever.
        let state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self { state, seeds }
    }

    /// The next input.
    pub(crate) fn next(&mut self) -> Vec<u8> {
        let mut input = self.seed();
        for _ in 0..=self.below(CHANGES_MOST) {
            self.change(&mut input);
        }
        input.truncate(LENGTH_MOST);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        let end = (at + 1 + self.below(16)).min(input.len());
        match self.below(9) {
            0 if at < input.len() => input[at] ^= 1 << self.below(8),
            1 if at < input.len() => input[at] = self.byte(),
            2 => {
                let word = WORDS[self.below(WORDS.len())];
                input.splice(at..at, word.iter().copied());
            }
            3 if at < end => {
                let word = WORDS[self.below(WORDS.len())];
                input.splice(at..end, word.iter().copied());
            }
            4 if at < end => drop(input.drain(at..end)),
            5 if self.below(4) == 0 => input.truncate(at),
            6 if at < end => {
                // Again, as of a list.
                let piece = input[at..end].to_vec();
                input.splice(at..at, piece);
            }
            7 => {
                let other = self.seed();
                let from = self.below(other.len() + 1);
                let to = (from + self.below(64)).min(other.len());
                input.splice(at..at, other[from..to].iter().copied());
            }
            _ => {
                let count = self.below(8);
                let noise: Vec<u8> = (0..count).map(|_| self.byte()).collect();
                input.splice(at..at, noise);
            }
        }
    }

    fn seed(&mut self) -> Vec<u8> {
        let index = self.below(self.seeds.len().max(1));
        self.seeds.get(index).cloned().unwrap_or_default()
    }

    fn byte(&mut self) -> u8 {
        self.random().to_le_bytes()[4]
    }

    fn below(&mut self, most: usize) -> usize {
        let random = usize::try_from(self.random() >> 33).unwrap_or(0);
        random % most.max(1)
    }

    /// xorshift64.
    fn random(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{LENGTH_MOST, Mutator};

    #[test]
    fn inputs_differ_and_come_again() {
        let seeds = vec![b"{\"a\": [1, 2]}".to_vec(), Vec::new()];
        let run = |number| {
            let mut mutator = Mutator::new(number, seeds.clone());
            (0..1000).map(|_| mutator.next()).collect::<Vec<_>>()
        };
        let inputs = run(7);
        assert_eq!(inputs, run(7));
        assert_ne!(inputs, run(8));
        assert!(inputs.iter().all(|input| input.len() <= LENGTH_MOST));
        assert!(inputs.iter().collect::<HashSet<_>>().len() > 800);
    }
}
