//! Lines of the log on their way to standard error, which a thread of their own brings there.
//!
//! Whoever logs does not wait for whoever reads: where standard error takes nothing, because a disk is full or the
//! reader of a pipe has stopped, lines are lost and counted, and calls and questions go on. Once it takes lines again
//! the log says how many are missing.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;
use tracing::warn;
use tracing_subscriber::fmt::MakeWriter;

/// What may wait: five seconds of the most that a gateway's access log writes.
const MOST: usize = 4 << 20;
/// How long the end of the process waits for what is still to be written: a reader that lives takes it in a moment.
const FAREWELL: Duration = Duration::from_secs(1);

/// Those of this process, which has one standard error.
pub(super) static LINES: LazyLock<Lines> = LazyLock::new(Lines::default);

/// A queue of lines. Cloning shares.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines {
    shared: Arc<Shared>,
    /// Those that were not written.
    pub(super) lost: Counter,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    /// What has not been written yet: those that wait, and the one that is being written.
    bytes: usize,
}

impl Lines {
    /// Writes what comes, for the rest of the process.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub(super) fn start(&self, to: impl Write + Send + 'static) -> io::Result<()> {
        let lines = self.clone();
        thread::Builder::new().name("log".into()).spawn(move || lines.write(to))?;
        Ok(())
    }

    /// Waits until everything is written, or for as long as a reader deserves.
    pub(super) fn flush(&self) {
        let waits = |queue: &mut Queue| queue.bytes > 0;
        let waited = self.shared.changed.wait_timeout_while(self.queue(), FAREWELL, waits);
        // Whether it was written in time or not, the process ends.
        drop(waited);
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let mut queue = self.queue();
        if queue.bytes + line.len() > MOST {
            self.lost.inc();
            return;
        }
        queue.bytes += line.len();
        queue.lines.push_back(line.to_vec());
        drop(queue);
        self.shared.changed.notify_all();
    }

    fn next(&self) -> Vec<u8> {
        let mut queue = self.queue();
        loop {
            if let Some(line) = queue.lines.pop_front() {
                return line;
            }
            queue = self.shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn write(&self, mut to: impl Write) {
        let mut told = 0;
        loop {
            let line = self.next();
            let written = to.write_all(&line);
            self.queue().bytes -= line.len();
            self.shared.changed.notify_all();
            if written.is_err() {
                self.lost.inc();
                continue;
            }
            let lost = self.lost.get();
            if lost > told {
                warn!(
                    lines = lost - told,
                    "lines of the log were lost: standard error did not take them"
                );
                told = lost;
            }
        }
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Line(self)
    }
}

/// Takes one line, which is written at once, whole.
#[derive(Debug)]
pub(super) struct Line<'a>(&'a Lines);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Tells what it is given, once it is let, and fails where it is told to.
    struct Reader {
        heard: mpsc::Sender<String>,
        lets: mpsc::Receiver<bool>,
    }

    impl Write for Reader {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            match self.lets.recv() {
                Ok(true) => {
                    let _ = self.heard.send(String::from_utf8_lossy(line).into_owned());
                    Ok(line.len())
                }
                _ => Err(io::ErrorKind::StorageFull.into()),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn reader(lines: &Lines) -> (mpsc::Receiver<String>, mpsc::Sender<bool>) {
        let (heard, hears) = mpsc::channel();
        let (lets, let_in) = mpsc::channel();
        lines.start(Reader { heard, lets: let_in }).unwrap();
        (hears, lets)
    }

    #[test]
    fn lines_come_whole_and_in_order() {
        let lines = Lines::default();
        let (hears, lets) = reader(&lines);
        for line in ["one\n", "two\n"] {
            lines.make_writer().write_all(line.as_bytes()).unwrap();
            lets.send(true).unwrap();
        }
        lines.flush();
        assert_eq!(hears.try_iter().collect::<Vec<_>>(), ["one\n", "two\n"]);
    }

    #[test]
    fn a_full_disk_loses_lines_which_are_counted_and_holds_nobody_up() {
        let lines = Lines::default();
        let (hears, lets) = reader(&lines);
        for goes in [false, false, true] {
            lines.make_writer().write_all(b"line\n").unwrap();
            lets.send(goes).unwrap();
        }
        lines.flush();
        assert_eq!(lines.lost.get(), 2);
        assert_eq!(hears.recv().unwrap(), "line\n");
    }

    #[test]
    fn a_reader_that_has_stopped_holds_nobody_up_and_costs_no_memory_without_end() {
        let lines = Lines::default();
        let (_hears, _lets) = reader(&lines);
        let line = vec![b'x'; MOST / 4];
        for _ in 0..10 {
            lines.make_writer().write_all(&line).unwrap();
        }
        assert_eq!(lines.lost.get(), 6);
        lines.flush();
        assert_eq!(lines.queue().bytes, MOST);
    }
}
