//! A process that ends with the benchmark: a peer, or the benchmark itself in another role.
//!
//! What is measured has a process to itself, so that its memory and its CPU time are its own. A benchmark runs itself
//! again for that ([`Child::own`]), and both talk in lines.

use std::{
    env,
    ffi::OsStr,
    io::{self, BufRead as _, BufReader, Write as _},
    process::{self, ChildStdin, ChildStdout, Command, Stdio},
};

/// Comes first among the arguments of a benchmark that was started by [`Child::own`].
const ROLE: &str = "--role";

/// A process that is killed when this is dropped.
#[derive(Debug)]
pub struct Child {
    process: process::Child,
    said: BufReader<ChildStdout>,
    told: ChildStdin,
}

impl Child {
    /// Runs this benchmark again, in a role that [`role`] tells it. It should end when its standard input does: then
    /// it ends with us, however that comes.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn own(role: &[impl AsRef<OsStr>]) -> io::Result<Self> {
        Self::own_by(Command::new(env::current_exe()?), role)
    }

    /// The same, where `command` runs this benchmark in some place, such as a network namespace.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn own_by(mut command: Command, role: &[impl AsRef<OsStr>]) -> io::Result<Self> {
        Self::start(command.arg(ROLE).args(role))
    }

    /// Runs a program; what it says on standard output is read as lines, and errors go where ours go.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(told), Some(said)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(io::Error::other("a process without pipes"));
        };
        Ok(Self { process, said: BufReader::new(said), told })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// Where that cannot be told.
    pub fn ended(&mut self) -> io::Result<process::ExitStatus> {
        self.process.wait()
    }

    /// Waits for the next line that it says.
    ///
    /// # Errors
    /// Where it ends without one.
    pub fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.said.read_line(&mut line)? == 0 {
            let ended = format!("{:?} has ended early", self.process);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, ended));
        }
        line.truncate(line.trim_end().len());
        Ok(line)
    }

    /// Tells it a line.
    ///
    /// # Errors
    /// Where it does not listen any more.
    pub fn tell(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.told, "{line}")?;
        self.told.flush()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The role that this process was started in by [`Child::own`]; none where a person has started it.
#[must_use]
pub fn role() -> Option<Vec<String>> {
    role_of(env::args())
}

fn role_of(args: impl Iterator<Item = String>) -> Option<Vec<String>> {
    let mut args = args.skip(1).skip_while(|arg| arg != ROLE);
    args.next().map(|_| args.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_talks_in_lines_and_ends_when_it_is_dropped() {
        let mut child = Child::start(
            Command::new("sh").args(["-c", "read line; echo \"heard $line\"; exec sleep 600"]),
        )
        .unwrap();
        child.tell("something").unwrap();
        assert_eq!(child.line().unwrap(), "heard something");
        let id = child.id();
        drop(child);
        let probe = Command::new("kill").args(["-0", &id.to_string()]).output().unwrap();
        assert!(!probe.status.success());
    }

    #[test]
    fn a_child_that_ends_without_a_word_is_an_error_and_no_empty_line() {
        let mut child = Child::start(&mut Command::new("true")).unwrap();
        assert_eq!(child.line().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_role_is_what_follows_its_flag() {
        let role = |args: &[&str]| role_of(args.iter().map(ToString::to_string));
        assert_eq!(role(&["bench", "--bench", "--quick"]), None);
        let ours = role(&["bench", "--role", "ours", "http://127.0.0.1:1"]).unwrap();
        assert_eq!(ours, ["ours", "http://127.0.0.1:1"]);
    }
}
