//! What has happened, for people who read why a rule was broken.

use std::fmt::Write;

/// How many lines are shown.
const SHOWN: usize = 60;

/// What has happened, in order.
#[derive(Debug, Default)]
pub(crate) struct Trace(Vec<(u64, String)>);

impl Trace {
    pub(crate) fn note(&mut self, now: u64, line: String) {
        self.0.push((now, line));
    }

    /// The last lines that name any of `words`, or that name no service at all.
    pub(crate) fn about(&self, words: &[String]) -> String {
        let is_about =
            |line: &str| words.is_empty() || words.iter().any(|word| line.contains(word));
        let about: Vec<&(u64, String)> =
            self.0.iter().filter(|(_, line)| is_about(line) || !line.contains('/')).collect();
        let mut text = String::new();
        let skipped = about.len().saturating_sub(SHOWN);
        for (at, line) in &about[skipped..] {
            writeln!(text, "{:>7}.{:03} {line}", at / 1000, at % 1000).unwrap();
        }
        text
    }

    /// Everything, to compare two runs by.
    pub(crate) fn lines(&self) -> &[(u64, String)] {
        &self.0
    }
}
