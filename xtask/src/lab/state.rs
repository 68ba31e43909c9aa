//! Which processes are ours: a line for each in a file of the lab, written when it is started.
//!
//! A line holds when the process began as well, so that a number that was given again is never taken for ours.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Write as _},
};

use anyhow::{Context as _, Result};

use super::{host, plan::Places};

/// The processes of a lab, by name: `c1/kubelet`.
#[derive(Debug)]
pub(crate) struct Processes {
    known: BTreeMap<String, Process>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Process {
    pid: u32,
    began: u64,
}

impl Processes {
    pub(crate) fn read(places: &Places) -> Result<Self> {
        match fs::read_to_string(places.processes()) {
            Ok(text) => Ok(Self { known: parse(&text) }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Self { known: BTreeMap::new() })
            }
            Err(error) => Err(error).context("the record of a lab's processes"),
        }
    }

    /// Writes down a process that was just started.
    pub(crate) fn record(&mut self, places: &Places, name: &str, pid: u32) -> Result<()> {
        let began = host::running_since(pid)
            .with_context(|| format!("{name} ended when it was started"))?;
        let mut file = OpenOptions::new().create(true).append(true).open(places.processes())?;
        writeln!(file, "{pid} {began} {name}")?;
        self.known.insert(name.into(), Process { pid, began });
        Ok(())
    }

    /// Takes processes out of the record.
    pub(crate) fn forget(&mut self, places: &Places, names: &[String]) -> Result<()> {
        self.known.retain(|name, _| !names.contains(name));
        let line =
            |(name, Process { pid, began }): (&String, &Process)| format!("{pid} {began} {name}\n");
        let text: String = self.known.iter().map(line).collect();
        let half = places.processes().with_extension("half");
        fs::write(&half, text)?;
        Ok(fs::rename(half, places.processes())?)
    }

    /// The id of a process, if it runs.
    pub(crate) fn running(&self, name: &str) -> Option<u32> {
        self.known.get(name).filter(|process| process.runs()).map(|process| process.pid)
    }

    /// The ids of all that run.
    pub(crate) fn all_running(&self) -> Vec<u32> {
        self.known.values().filter(|process| process.runs()).map(|process| process.pid).collect()
    }

    /// A line for each.
    pub(crate) fn describe(&self) -> Vec<String> {
        let line = |(name, process): (&String, &Process)| {
            let state = if process.runs() { "runs" } else { "does not run" };
            format!("{name:<28} {state} ({})", process.pid)
        };
        self.known.iter().map(line).collect()
    }
}

impl Process {
    fn runs(self) -> bool {
        host::running_since(self.pid) == Some(self.began)
    }
}

/// The last line of a name counts: a process that ended was started again.
fn parse(text: &str) -> BTreeMap<String, Process> {
    let line = |line: &str| {
        let mut words = line.split(' ');
        let process =
            Process { pid: words.next()?.parse().ok()?, began: words.next()?.parse().ok()? };
        Some((words.next()?.to_owned(), process))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_a_name_counts_and_half_a_line_does_not() {
        let known = parse("7 100 c1/etcd\n8 101 c1/kubelet\n9 200 c1/etcd\n10 2");
        assert_eq!(known.len(), 2);
        assert_eq!(known["c1/etcd"], Process { pid: 9, began: 200 });
    }

    #[test]
    fn a_number_that_was_given_again_is_not_ours() {
        let pid = std::process::id();
        let began = host::running_since(pid).unwrap();
        assert!(Process { pid, began }.runs());
        assert!(!Process { pid, began: began + 1 }.runs());
    }
}
