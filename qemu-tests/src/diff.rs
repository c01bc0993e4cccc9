//! A line diff, for showing how a guest's output differs from the host's.

/// The lines of `expected` and `actual` that differ, with a line of context: `-` is expected and
/// missing, `+` is there and not expected. Empty when the two are equal.
#[must_use]
pub fn lines(expected: &[String], actual: &[String]) -> String {
    let common = common_lengths(expected, actual);
    let mut shown = Vec::new();
    let (mut e, mut a) = (0, 0);
    while e < expected.len() || a < actual.len() {
        let both = e < expected.len() && a < actual.len();
        if both && expected[e] == actual[a] {
            shown.push((' ', expected[e].as_str()));
            (e, a) = (e + 1, a + 1);
        } else if a == actual.len() || (both && common[e + 1][a] >= common[e][a + 1]) {
            shown.push(('-', expected[e].as_str()));
            e += 1;
        } else {
            shown.push(('+', actual[a].as_str()));
            a += 1;
        }
    }
    with_context(&shown)
}

/// `result[e][a]`: length of the longest common subsequence of the lines from `e` and `a` on.
fn common_lengths(expected: &[String], actual: &[String]) -> Vec<Vec<usize>> {
    let mut common = vec![vec![0; actual.len() + 1]; expected.len() + 1];
    for e in (0..expected.len()).rev() {
        for a in (0..actual.len()).rev() {
            common[e][a] = if expected[e] == actual[a] {
                common[e + 1][a + 1] + 1
            } else {
                common[e + 1][a].max(common[e][a + 1])
            };
        }
    }
    common
}

/// Keeps changed lines and the line before each run of them.
fn with_context(lines: &[(char, &str)]) -> String {
    let is_changed = |at: usize| lines.get(at).is_some_and(|(mark, _)| *mark != ' ');
    let mut text = String::new();
    for (at, (mark, line)) in lines.iter().enumerate() {
        if is_changed(at) || is_changed(at + 1) {
            text.push_str(&format!("{mark} {line}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::lines;

    fn split(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn shows_what_differs() {
        assert_eq!(lines(&split("a b c"), &split("a b c")), "");
        assert_eq!(
            lines(&split("a b c d"), &split("a b x d")),
            "  b\n- c\n+ x\n"
        );
        assert_eq!(lines(&split("a b"), &split("a b c")), "  b\n+ c\n");
        assert_eq!(lines(&split("a b"), &split("b")), "- a\n");
    }
}
