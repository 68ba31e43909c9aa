//! What configuration is read from beside the flags: the environment and files. A trait, so that tests hand in maps and
//! never change the variables of their own process.

use std::{env, fs, io, path::Path};

/// Variables and files.
pub(crate) trait Surroundings {
    /// The value of an environment variable, if it is set.
    fn variable(&self, name: &str) -> Option<String>;

    /// The text of a file.
    ///
    /// # Errors
    /// As the operating system has it; also where the file is not UTF-8.
    fn read(&self, path: &Path) -> io::Result<String>;
}

/// Those of this process.
pub(crate) struct Process;

impl Surroundings for Process {
    fn variable(&self, name: &str) -> Option<String> {
        // What is not UTF-8 becomes replacement characters, which no setting allows: it is told as any wrong text is.
        env::var_os(name).map(|value| value.to_string_lossy().into_owned())
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        fs::read_to_string(path)
    }
}
