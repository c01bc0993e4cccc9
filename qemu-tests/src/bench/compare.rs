//! Our kernel's figures beside Linux's, as a table and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Cost, Figures};

/// One row of the comparison.
#[derive(Debug, Clone)]
pub struct Row<'f> {
    /// The operation.
    pub name: &'f str,
    /// What it costs on our kernel.
    pub ours: Cost,
    /// What it costs on Linux, if that was measured.
    pub linux: Option<Cost>,
}

impl Row<'_> {
    /// Our instructions for each of Linux's.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        self.linux
            .map(|linux| self.ours.instructions / linux.instructions)
    }
}

/// Two kernels' figures, row by row.
#[derive(Debug)]
pub struct Comparison<'f> {
    ours: &'f Figures,
    linux: Option<&'f Figures>,
    /// The rows in the order in which they ran.
    pub rows: Vec<Row<'f>>,
}

impl<'f> Comparison<'f> {
    /// Puts `linux` beside `ours`.
    #[must_use]
    pub fn new(ours: &'f Figures, linux: Option<&'f Figures>) -> Self {
        let theirs = linux.map(Figures::by_name).unwrap_or_default();
        let rows = ours.rows.iter().map(|(name, cost)| Row {
            name,
            ours: *cost,
            linux: theirs.get(name.as_str()).copied(),
        });
        Self {
            ours,
            linux,
            rows: rows.collect(),
        }
    }

    /// The geometric mean of all rows' ratios.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        let logarithms: Vec<f64> = self
            .rows
            .iter()
            .filter_map(Row::ratio)
            .map(f64::ln)
            .collect();
        let count = u32::try_from(logarithms.len())
            .ok()
            .filter(|count| *count > 0)?;
        Some((logarithms.iter().sum::<f64>() / f64::from(count)).exp())
    }

    /// The table that a person reads.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = format!(
            "{:<22}{:>13}{:>13}{:>8}{:>10}{:>10}\n",
            "instructions for one", "ours", "Linux", "ratio", "locked", "Linux"
        );
        for row in &self.rows {
            let (instructions, locked) = match row.linux {
                Some(cost) => (
                    format!("{:.0}", cost.instructions),
                    format!("{:.1}", cost.locked),
                ),
                None => ("-".to_owned(), "-".to_owned()),
            };
            let ratio = row
                .ratio()
                .map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
            let _ = writeln!(
                table,
                "{:<22}{:>13.0}{instructions:>13}{ratio:>8}{:>10.1}{locked:>10}",
                row.name, row.ours.instructions, row.ours.locked
            );
        }
        if let Some(mean) = self.mean() {
            let _ = writeln!(
                table,
                "geometric mean of {} ratios: {mean:.3}",
                self.rows.len()
            );
        }
        for (what, figures) in [("ours", Some(self.ours)), ("Linux", self.linux)] {
            let Some(figures) = figures else { continue };
            let _ = writeln!(
                table,
                "{what}: {} instructions to PID 1; {} KiB used there, {} KiB reserved",
                figures.boot,
                figures.used / 1024,
                figures.reserved / 1024
            );
        }
        table
    }

    /// The same for programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let cost = |cost: Cost| json!({ "instructions": cost.instructions, "locked": cost.locked });
        let rows = self.rows.iter().map(|row| {
            json!({
                "name": row.name,
                "ours": cost(row.ours),
                "linux": row.linux.map(cost),
                "ratio": row.ratio(),
            })
        });
        let start = |figures: &Figures| {
            json!({
                "boot_instructions": figures.boot,
                "used_bytes": figures.used,
                "reserved_bytes": figures.reserved,
            })
        };
        json!({
            "rows": rows.collect::<Vec<_>>(),
            "geometric_mean": self.mean(),
            "ours": start(self.ours),
            "linux": self.linux.map(start),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Cost, Figures};
    use super::Comparison;

    fn figures(costs: &[(&str, f64)]) -> Figures {
        let rows = costs.iter().map(|(name, instructions)| {
            let cost = Cost {
                instructions: *instructions,
                locked: 1.0,
            };
            ((*name).to_owned(), cost)
        });
        Figures {
            boot: 5,
            used: 2048,
            reserved: 0,
            rows: rows.collect(),
        }
    }

    #[test]
    fn takes_the_geometric_mean() {
        let (ours, linux) = (
            figures(&[("a", 100.0), ("b", 400.0)]),
            figures(&[("b", 100.0), ("a", 400.0)]),
        );
        let comparison = Comparison::new(&ours, Some(&linux));
        assert!(
            comparison
                .mean()
                .is_some_and(|mean| (mean - 1.0).abs() < 1e-9)
        );
        assert_eq!(comparison.json()["rows"][1]["ratio"], 4.0);
        assert!(
            comparison
                .table()
                .contains("ours: 5 instructions to PID 1; 2 KiB")
        );
    }

    #[test]
    fn does_without_linux() {
        let ours = figures(&[("a", 100.0)]);
        let comparison = Comparison::new(&ours, None);
        assert_eq!(comparison.mean(), None);
        assert!(comparison.json()["linux"].is_null());
    }
}
