//! What `guest/init.c` prints, read line by line: which program is running, what it printed, how
//! it ended. Lines that are not init's are the kernel's log.

/// One program's run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Run {
    /// The program.
    pub name: String,
    /// What it printed, and as the last line how it ended: `exit 0`, `signal 11`, `timeout`.
    pub lines: Vec<String>,
    /// Whether it ended.
    pub is_complete: bool,
}

/// A console's output so far.
#[derive(Debug, Default)]
pub struct Transcript {
    /// The programs that were started, in order; the last one may be running.
    pub runs: Vec<Run>,
    /// Everything else that was printed.
    pub log: Vec<String>,
    /// Whether init said that it is done.
    pub is_done: bool,
}

impl Transcript {
    /// Takes the next line of the console.
    pub fn take(&mut self, line: &str) {
        let line = line.trim_end_matches(['\r', '\n']);
        if line.contains("[done]") {
            self.is_done = true;
        } else if let Some(name) = bracketed(line, "[begin ") {
            self.runs.push(Run {
                name: name.to_owned(),
                ..Run::default()
            });
        } else if !self.take_from_program(line) && !line.is_empty() {
            self.log.push(line.to_owned());
        }
    }

    /// The program that is running, if one is.
    #[must_use]
    pub fn running(&self) -> Option<&str> {
        self.runs
            .last()
            .filter(|run| !run.is_complete)
            .map(|run| run.name.as_str())
    }

    /// The last `count` lines of the log.
    #[must_use]
    pub fn log_tail(&self, count: usize) -> String {
        self.log[self.log.len().saturating_sub(count)..].join("\n")
    }

    /// Takes a line of the running program or about its end; false when it is neither.
    fn take_from_program(&mut self, line: &str) -> bool {
        let Some(run) = self.runs.last_mut().filter(|run| !run.is_complete) else {
            return false;
        };
        if let Some(text) = line
            .strip_prefix(&run.name)
            .and_then(|rest| rest.strip_prefix("| "))
        {
            run.lines.push(text.to_owned());
        } else if let Some(end) = bracketed(line, "[end ") {
            let how = end.strip_prefix(&run.name).unwrap_or(end).trim();
            run.lines.push(how.to_owned());
            run.is_complete = true;
        } else {
            return false;
        }
        true
    }
}

/// What stands in `line` between `start` and a closing bracket. The kernel's log may have left
/// something before it in the line.
fn bracketed<'l>(line: &'l str, start: &str) -> Option<&'l str> {
    line[line.find(start)? + start.len()..].strip_suffix(']')
}

#[cfg(test)]
mod tests {
    use super::Transcript;

    #[test]
    fn tells_programs_from_the_log() {
        let mut transcript = Transcript::default();
        let text = "boot\r\n[begin a]\na| x\n[0.1] b| no\na| \n[end a exit 3]\n[begin b]\nb| y\n";
        text.lines().for_each(|line| transcript.take(line));
        assert_eq!(transcript.runs[0].lines, ["x", "", "exit 3"]);
        assert_eq!(transcript.running(), Some("b"));
        assert_eq!(transcript.log, ["boot", "[0.1] b| no"]);
        transcript.take("[end b signal 9]");
        transcript.take("[done]");
        assert!(transcript.is_done && transcript.running().is_none());
    }
}
