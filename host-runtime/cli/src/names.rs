//! Names for pods that were not given one: a quality and a sea creature.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use pod::state::StateError;

/// Where pods of the command line are.
pub(super) const NAMESPACE: &str = "default";

const QUALITIES: [&str; 32] = [
    "amber", "bold", "brisk", "calm", "clear", "cool", "deep", "early", "fair", "fleet", "fond",
    "free", "glad", "gold", "green", "keen", "kind", "light", "mild", "neat", "pale", "plain",
    "proud", "quick", "quiet", "round", "sharp", "silver", "still", "swift", "warm", "wide",
];
const CREATURES: [&str; 32] = [
    "abalone", "barnacle", "clam", "cockle", "conch", "coral", "cowrie", "crab", "cuttle", "eel",
    "gull", "heron", "krill", "limpet", "lobster", "mussel", "nautilus", "otter", "oyster",
    "pearl", "plover", "prawn", "scallop", "seal", "shrimp", "snail", "sponge", "squid",
    "starfish", "tern", "urchin", "whelk",
];
/// Attempts with two words; after that a number makes the name longer.
const SHORT: u64 = 8;
const MOST: u64 = 64;

/// Tries names until one is free.
pub(super) fn any<T>(claim: impl Fn(&str) -> Result<T, StateError>) -> Result<T, StateError> {
    let mut attempt = 0;
    loop {
        let claimed = claim(&name(attempt, random()));
        match claimed {
            Err(StateError::Taken { .. }) if attempt < MOST => attempt += 1,
            claimed => return claimed,
        }
    }
}

fn name(attempt: u64, number: u64) -> String {
    let pick =
        |words: [&'static str; 32], number: u64| words[usize::from(number.to_le_bytes()[0] % 32)];
    let (quality, creature) = (pick(QUALITIES, number), pick(CREATURES, number >> 8));
    match attempt < SHORT {
        true => format!("{quality}-{creature}"),
        false => format!("{quality}-{creature}-{}", number >> 16),
    }
}

/// Enough for a name, without a crate for it: the standard library keys its hash tables at random.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn taken_names_are_not_the_end() {
        let tries = Cell::new(0);
        let claim = |name: &str| {
            tries.set(tries.get() + 1);
            match tries.get() < 20 {
                true => Err(StateError::Taken {
                    namespace: NAMESPACE.to_owned(),
                    name: name.to_owned(),
                    pid: 1,
                }),
                false => Ok(name.to_owned()),
            }
        };
        let name = any(claim).expect("the twentieth is free");
        assert_eq!(name.split('-').count(), 3, "{name}");
        let words = super::name(0, 0x1f21);
        assert_eq!(words, "bold-whelk");
    }
}
