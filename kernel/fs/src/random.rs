//! The random number generator behind getrandom(2), /dev/random and AT_RANDOM: ChaCha20, keyed with what the CPU and
//! virtio-rng give.
//!
//! The key is replaced with output of the generator, mixed with fresh CPU entropy, after every 64 KiB, and
//! whenever entropy arrives. Locking: one leaf spin lock, never held over a copy to user memory.

use abi::{Errno, Result};
use machine::PAGE_SIZE;
use machine::sync::SpinLock;
use memory::io::{IoReader, IoWriter};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::ioctl;

const KEY_LEN: usize = 32;
/// Bytes made with one key at most.
const KEY_LIFE: usize = 64 * 1024;
/// Entropy samples taken for a key when the CPU does not vouch for each.
const JITTER_SAMPLES: usize = 256;
/// `RNDGETENTCNT` of random(4).
const RNDGETENTCNT: u32 = 0x8004_5200;
/// `RNDADDTOENTCNT`, `RNDADDENTROPY`, `RNDZAPENTCNT`, `RNDCLEARPOOL`, `RNDRESEEDCRNG`.
const RND_PRIVILEGED: [u32; 5] = [0x4004_5201, 0x4008_5203, 0x5204, 0x5206, 0x5207];

struct Generator {
    rng: ChaCha20Rng,
    made: usize,
}

static GENERATOR: SpinLock<Option<Generator>> = SpinLock::new(None);

impl Generator {
    fn new() -> Self {
        let (samples, all_vouched) = cpu_samples();
        let mut this = Self {
            // Whoever knows neither the key nor what it was made of cannot tell what comes out from random bytes.
            rng: ChaCha20Rng::from_seed(samples),
            made: 0,
        };
        if !all_vouched {
            this.mix_jitter(samples);
        }
        this
    }

    /// Replaces the key with output of the generator under the old key, with `entropy` mixed in.
    fn mix(&mut self, entropy: &[u8]) {
        let mut key = [0; KEY_LEN];
        self.rng.fill_bytes(&mut key);
        self.rng = ChaCha20Rng::from_seed(stirred(key, entropy));
        self.made = 0;
    }

    fn mix_cpu_entropy(&mut self) {
        let (samples, all_vouched) = cpu_samples();
        self.mix(&samples);
        if !all_vouched {
            self.mix_jitter(samples);
        }
    }

    /// Mixes in what the CPU does not vouch for, from many samples.
    fn mix_jitter(&mut self, mut samples: [u8; KEY_LEN]) {
        // A little of it in each of many samples, folded together before mixing.
        for at in 0..JITTER_SAMPLES {
            let (value, _) = machine::random::cpu_entropy();
            for (byte, fresh) in samples[at % 4 * 8..].iter_mut().zip(value.to_ne_bytes()) {
                *byte = byte.rotate_left(3) ^ fresh;
            }
        }
        self.mix(&samples);
    }

    fn fill(&mut self, to: &mut [u8]) {
        if self.made >= KEY_LIFE {
            self.mix_cpu_entropy();
        }
        self.rng.fill_bytes(to);
        self.made += to.len();
    }
}

/// A key's worth of the CPU's entropy, and whether the CPU vouches for all of it.
fn cpu_samples() -> ([u8; KEY_LEN], bool) {
    let mut samples = [0; KEY_LEN];
    let mut all_vouched = true;
    for chunk in samples.chunks_exact_mut(8) {
        let (value, vouched) = machine::random::cpu_entropy();
        chunk.copy_from_slice(&value.to_ne_bytes());
        all_vouched &= vouched;
    }
    (samples, all_vouched)
}

/// The key that `key`, which nobody knows, becomes with `entropy` mixed in. All of it is folded together first: the
/// pass through the cipher costs as much as a hundred system calls, and one is enough to part what comes out from what
/// went in.
fn stirred(mut key: [u8; KEY_LEN], entropy: &[u8]) -> [u8; KEY_LEN] {
    for chunk in entropy.chunks(KEY_LEN) {
        for (byte, fresh) in key.iter_mut().zip(chunk) {
            *byte = byte.rotate_left(3) ^ fresh;
        }
    }
    ChaCha20Rng::from_seed(key).fill_bytes(&mut key);
    key
}

/// Fills `to` with random bytes.
pub fn fill(to: &mut [u8]) {
    for part in to.chunks_mut(4096) {
        GENERATOR
            .lock()
            .get_or_insert_with(Generator::new)
            .fill(part);
    }
}

/// Adds entropy from a device or a user; it can only help.
pub fn add_entropy(bytes: &[u8]) {
    GENERATOR
        .lock()
        .get_or_insert_with(Generator::new)
        .mix(bytes);
}

/// Fills all of `to`, or as much as there is time for before a signal.
///
/// # Errors
/// `EFAULT` when not one byte could be put.
pub fn read(to: &mut IoWriter<'_>) -> Result<usize> {
    let mut done = 0;
    let mut part = [0; 256];
    while to.remaining() > 0 {
        let len = part.len().min(to.remaining());
        fill(&mut part[..len]);
        match to.write(&part[..len]) {
            Ok(count) => done += count,
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        }
        if done.is_multiple_of(PAGE_SIZE) && sched::is_to_stop() {
            break;
        }
    }
    Ok(done)
}

/// Mixes in what is written to the device.
pub(crate) fn write(from: &mut IoReader<'_>) -> Result<usize> {
    let mut done = 0;
    let mut part = [0; 256];
    while from.remaining() > 0 {
        match from.read(&mut part) {
            Ok(count) => {
                add_entropy(&part[..count]);
                done += count;
            }
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        }
        if done.is_multiple_of(PAGE_SIZE) && sched::is_to_stop() {
            break;
        }
    }
    Ok(done)
}

/// random(4)'s ioctls: the entropy count; the rest are the administrator's, and refused.
pub(crate) fn ioctl(command: u32, arg: u64) -> Result<u64> {
    match command {
        RNDGETENTCNT => ioctl::put_int(arg, 256),
        _ if RND_PRIVILEGED.contains(&command) => Err(Errno::EPERM),
        _ => Err(Errno::ENOTTY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_does_not_repeat_and_keys_change() {
        let (mut a, mut b) = ([0; 64], [0; 64]);
        fill(&mut a);
        fill(&mut b);
        assert_ne!(a, b);
        let mut generator = Generator {
            rng: ChaCha20Rng::from_seed([1; KEY_LEN]),
            made: 0,
        };
        generator.mix(b"x");
        generator.rng.fill_bytes(&mut a);
        let mut other = Generator {
            rng: ChaCha20Rng::from_seed([1; KEY_LEN]),
            made: 0,
        };
        other.mix(b"y");
        other.rng.fill_bytes(&mut b);
        assert_ne!(a, b, "entropy changes what comes out");
    }

    #[test]
    fn a_read_fills_everything() {
        let mut bytes = [0; 1000];
        assert_eq!(read(&mut IoWriter::kernel(&mut bytes)), Ok(1000));
        assert!(
            bytes
                .chunks(100)
                .all(|part| part.iter().any(|byte| *byte != 0))
        );
    }
}
