//! Counting tests: each is printed as it ends, failures are kept with their details.

use std::fmt::{Display, Write};

/// What a run of tests came to.
#[derive(Debug, Default)]
pub struct Report {
    /// Tests that did what they should.
    pub passed: usize,
    /// Names of the tests that did not.
    pub failed: Vec<String>,
    /// Tests that could not run here.
    pub skipped: usize,
}

impl Report {
    /// Notes a test that passed.
    pub fn pass(&mut self, name: impl Display) {
        println!("ok      {name}");
        self.passed += 1;
    }

    /// Notes a test that failed; `detail` may have several lines.
    pub fn fail(&mut self, name: impl Display, detail: &str) {
        // In one piece: other tests may print at the same time.
        let mut text = format!("FAILED  {name}\n");
        for line in detail.lines() {
            let _ = writeln!(text, "        {line}");
        }
        print!("{text}");
        self.failed.push(name.to_string());
    }

    /// Notes a test that cannot run here.
    pub fn skip(&mut self, name: impl Display, reason: impl Display) {
        println!("SKIPPED {name}: {reason}");
        self.skipped += 1;
    }

    /// Notes a test by its result.
    pub fn note(&mut self, name: impl Display, result: Result<(), String>) {
        match result {
            Ok(()) => self.pass(name),
            Err(detail) => self.fail(name, &detail),
        }
    }

    /// Adds another report's numbers to this one.
    pub fn merge(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed.extend(other.failed);
        self.skipped += other.skipped;
    }

    /// The one line that sums it up.
    #[must_use]
    pub fn totals(&self) -> String {
        format!(
            "{} passed, {} failed, {} skipped",
            self.passed,
            self.failed.len(),
            self.skipped
        )
    }
}
