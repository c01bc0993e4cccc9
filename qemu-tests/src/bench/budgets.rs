//! What our kernel may cost: `qemu-tests/budgets.toml`, one line a row. A row fails when it takes
//! 3% more than its budget; one that takes 5% less is named, so that its budget follows.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::Context;

use super::{Cost, Figures};
use crate::{Report, programs};

/// How much of a budget may be exceeded.
const SLACK: f64 = 1.03;
/// From which part of its budget on a cost says that the budget is too large.
const LOWER: f64 = 0.95;

/// What a row, or the start, may cost.
#[derive(Debug, Clone, Copy, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Budget {
    instructions: f64,
    locked: f64,
}

/// The file.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budgets {
    boot_instructions: f64,
    used_bytes: f64,
    reserved_bytes: f64,
    rows: BTreeMap<String, Budget>,
}

/// Where the budgets are.
#[must_use]
pub fn path() -> PathBuf {
    programs::source_dir().join("budgets.toml")
}

impl Budgets {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read or is not what it should be.
    pub fn read() -> anyhow::Result<Self> {
        let path = path();
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| path.display().to_string())
    }

    /// Notes for each row whether it keeps its budget.
    pub fn judge(&self, figures: &Figures, report: &mut Report) {
        for (what, cost, budget) in [
            (
                "instructions to PID 1",
                figures.boot,
                self.boot_instructions,
            ),
            ("bytes used at PID 1", figures.used, self.used_bytes),
            (
                "bytes reserved at PID 1",
                figures.reserved,
                self.reserved_bytes,
            ),
        ] {
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            let result = excess(what, cost as f64, budget);
            report.note(format!("budget/{what}"), result);
        }
        for (name, cost) in &figures.rows {
            report.note(format!("budget/{name}"), self.judge_row(name, *cost));
        }
        let costs = figures.by_name();
        for name in self
            .rows
            .keys()
            .filter(|name| !costs.contains_key(name.as_str()))
        {
            report.fail(format!("budget/{name}"), "the benchmark has no such row");
        }
    }

    fn judge_row(&self, name: &str, cost: Cost) -> Result<(), String> {
        let budget = self
            .rows
            .get(name)
            .ok_or_else(|| format!("{} has no such row", path().display()))?;
        let excesses: Vec<String> = [
            excess("instructions", cost.instructions, budget.instructions),
            excess("locked instructions", cost.locked, budget.locked),
        ]
        .into_iter()
        .filter_map(Result::err)
        .collect();
        if excesses.is_empty() {
            Ok(())
        } else {
            Err(excesses.join("\n"))
        }
    }

    /// The rows whose budgets are too large by now.
    #[must_use]
    pub fn too_large(&self, figures: &Figures) -> Vec<String> {
        let mut names = Vec::new();
        for (name, cost) in &figures.rows {
            let Some(budget) = self.rows.get(name) else {
                continue;
            };
            if cost.instructions < budget.instructions * LOWER
                || cost.locked < budget.locked * LOWER
            {
                names.push(format!(
                    "{name} (now {:.0} instructions, {:.1} locked; budget {:.0}, {:.1})",
                    cost.instructions, cost.locked, budget.instructions, budget.locked
                ));
            }
        }
        names
    }
}

/// By how much `cost` exceeds `budget`, if it does.
fn excess(what: &str, cost: f64, budget: f64) -> Result<(), String> {
    if cost <= budget * SLACK {
        return Ok(());
    }
    let percent = if budget > 0.0 {
        format!(", {:.1}% more", (cost / budget - 1.0) * 100.0)
    } else {
        String::new()
    };
    Err(format!("{cost:.1} {what} of at most {budget:.1}{percent}"))
}

/// The file that makes `figures` the budgets.
#[must_use]
pub fn text(figures: &Figures) -> String {
    let mut text = format!(
        "# What the kernel may cost: `cargo xtask test budgets` fails what takes 3% more. Instructions of\n\
         # one operation, of the kernel and its caller, and those of the kernel that lock the bus; counted by\n\
         # `cargo xtask bench kernel`, and written by it with `--write-budgets`. Lower them when the code gets\n\
         # better, and say why in the commit when one goes up.\n\n\
         boot_instructions = {}\nused_bytes = {}\nreserved_bytes = {}\n\n[rows]\n",
        figures.boot, figures.used, figures.reserved
    );
    for (name, cost) in &figures.rows {
        let _ = writeln!(
            text,
            "{:<22} = {{ instructions = {:.0}, locked = {:.1} }}",
            format!("\"{name}\""),
            cost.instructions,
            cost.locked
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::{Cost, Figures};
    use super::{Budgets, text};
    use crate::Report;

    fn figures(instructions: f64, locked: f64) -> Figures {
        let cost = Cost {
            instructions,
            locked,
        };
        Figures {
            boot: 1000,
            used: 4096,
            reserved: 4096,
            rows: vec![("open+close".to_owned(), cost)],
        }
    }

    #[test]
    fn allows_three_percent() {
        let budgets: Budgets = toml::from_str(&text(&figures(1000.0, 10.0))).expect("a file");
        let failed = |figures: &Figures| {
            let mut report = Report::default();
            budgets.judge(figures, &mut report);
            report.failed
        };
        assert!(failed(&figures(1029.0, 10.0)).is_empty());
        assert_eq!(failed(&figures(1031.0, 10.0)), ["budget/open+close"]);
        assert_eq!(failed(&figures(900.0, 11.0)), ["budget/open+close"]);
        assert_eq!(
            budgets.too_large(&figures(960.0, 10.0)),
            Vec::<String>::new()
        );
        assert_eq!(budgets.too_large(&figures(940.0, 10.0)).len(), 1);
    }

    #[test]
    fn every_row_has_a_budget_and_every_budget_a_row() {
        let budgets: Budgets = toml::from_str(&text(&figures(1000.0, 10.0))).expect("a file");
        let mut other = figures(1.0, 0.0);
        other.rows[0].0 = "new".to_owned();
        let mut report = Report::default();
        budgets.judge(&other, &mut report);
        assert_eq!(report.failed, ["budget/new", "budget/open+close"]);
    }
}
