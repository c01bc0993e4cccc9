//! What one kernel came to: the program's list of rows and the plugin's list of batches, put
//! together.

use std::collections::BTreeMap;

/// How many batches a row has; `BATCHES` in `qemu-tests/bench/bench.h`.
const BATCHES: usize = 5;

/// What one operation costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Instructions, of the kernel and of the program that calls it.
    pub instructions: f64,
    /// Of these, the kernel's that lock the bus.
    pub locked: f64,
}

/// What a kernel came to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// Instructions from the kernel's first to PID 1's first.
    pub boot: u64,
    /// Bytes that are not free when PID 1 starts: `MemTotal` less `MemFree`.
    pub used: u64,
    /// Bytes of the machine that are not in `MemTotal`: the kernel's image, its tables, the archive of ours.
    pub reserved: u64,
    /// The rows in the order in which they ran.
    pub rows: Vec<(String, Cost)>,
}

impl Figures {
    /// Puts together what the program printed on the `console` of a machine with `memory` bytes and what the plugin
    /// `counted`.
    pub(super) fn read(console: &str, counted: &str, memory: u64) -> Result<Self, String> {
        let mut figures = Self::default();
        let mut batches = Vec::new();
        for line in counted.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["boot", count] => figures.boot = number(count)?,
                ["batch", all, _, locked] => batches.push((number(all)?, number(locked)?)),
                _ => return Err(format!("the plugin wrote `{line}`")),
            }
        }
        let mut batches = batches.chunks_exact(BATCHES);
        let mut is_done = false;
        for line in console.lines() {
            let words: Vec<&str> = line.trim_end().split(' ').collect();
            match words[..] {
                ["failed", ..] => return Err(line.to_owned()),
                ["memory", total, free] => {
                    let (total, free) = (number(total)?, number(free)?);
                    figures.used = total.saturating_sub(free);
                    figures.reserved = memory.saturating_sub(total);
                }
                ["row", name, operations] => {
                    let batches = batches.next().ok_or("there are fewer batches than rows")?;
                    let cost = median(batches).per(number(operations)?);
                    figures.rows.push((name.to_owned(), cost));
                }
                ["done"] => is_done = true,
                _ => {}
            }
        }
        match (is_done, batches.next()) {
            (true, None) => Ok(figures),
            (true, Some(_)) => Err("there are more batches than rows".to_owned()),
            (false, _) => Err("the benchmark did not end".to_owned()),
        }
    }

    /// The rows by name.
    #[must_use]
    pub fn by_name(&self) -> BTreeMap<&str, Cost> {
        self.rows
            .iter()
            .map(|(name, cost)| (name.as_str(), *cost))
            .collect()
    }
}

/// A batch's instructions and locked instructions.
#[derive(Clone, Copy)]
struct Batch(u64, u64);

impl Batch {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a batch has fewer than 2^52 instructions"
    )]
    fn per(self, operations: u64) -> Cost {
        Cost {
            instructions: self.0 as f64 / operations as f64,
            locked: self.1 as f64 / operations as f64,
        }
    }
}

/// The batch in the middle: a timer's interrupt falls into a few of them only.
fn median(batches: &[(u64, u64)]) -> Batch {
    let mut batches = batches.to_vec();
    batches.sort_unstable();
    let (all, locked) = batches[batches.len() / 2];
    Batch(all, locked)
}

fn number(word: &str) -> Result<u64, String> {
    word.parse()
        .map_err(|_| format!("`{word}` is not a number"))
}

#[cfg(test)]
mod tests {
    use super::{Cost, Figures};

    const COUNTED: &str =
        "boot 1000\nbatch 50 40 5\nbatch 90 40 5\nbatch 60 40 10\nbatch 70 40 5\nbatch 30 20 5\n";

    #[test]
    fn takes_each_rows_median() {
        let figures = Figures::read(
            "[0.1] log\r\nmemory 300 100\r\nrow a 10\r\ndone\r\n",
            COUNTED,
            400,
        );
        let cost = Cost {
            instructions: 6.0,
            locked: 1.0,
        };
        let wanted = Figures {
            boot: 1000,
            used: 200,
            reserved: 100,
            rows: vec![("a".to_owned(), cost)],
        };
        assert_eq!(figures, Ok(wanted));
    }

    #[test]
    fn refuses_half_a_run() {
        let refused = |console| Figures::read(console, COUNTED, 0).expect_err(console);
        assert_eq!(refused("row a 10\n"), "the benchmark did not end");
        assert_eq!(refused("done\n"), "there are more batches than rows");
        assert_eq!(
            refused("row a 1\nrow b 1\ndone\n"),
            "there are fewer batches than rows"
        );
        assert_eq!(refused("failed fork: ENOMEM\n"), "failed fork: ENOMEM");
    }
}
