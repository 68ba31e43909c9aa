//! What the demo says while it runs: a story for people, or nothing where the measurements are asked for.

use std::io::{self, IsTerminal, Write};

/// Tells the story on standard output.
#[derive(Debug)]
pub(super) struct Narrator {
    tells: bool,
    terminal: bool,
    waiting: bool,
}

impl Narrator {
    /// One that tells, or keeps silent.
    pub(super) fn new(tells: bool) -> Self {
        Self { tells, terminal: io::stdout().is_terminal(), waiting: false }
    }

    /// A new chapter.
    pub(super) fn step(&mut self, title: &str) {
        let title = if self.terminal { format!("\x1b[1m{title}\x1b[0m") } else { title.to_owned() };
        self.line("");
        self.line(&title);
    }

    /// A line of the story.
    pub(super) fn say(&mut self, text: &str) {
        for line in text.lines() {
            self.line(&format!("  {line}"));
        }
    }

    /// What is being waited for; shown on a terminal only, until the next line replaces it.
    pub(super) fn wait(&mut self, what: &str) {
        if self.tells && self.terminal {
            self.write(&format!("\r\x1b[K  … {what}"));
            self.waiting = true;
        }
    }

    fn line(&mut self, text: &str) {
        if !self.tells {
            return;
        }
        let clear = if std::mem::take(&mut self.waiting) { "\r\x1b[K" } else { "" };
        self.write(&format!("{clear}{text}\n"));
    }

    /// A reader that has gone away (`demo | head`) is no reason to stop half-way through a measurement.
    fn write(&mut self, text: &str) {
        let mut out = io::stdout().lock();
        if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
            self.tells = false;
        }
    }
}
