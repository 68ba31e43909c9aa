//! A program that does not outlive who started it, however that one ends.
//!
//! Each has a keeper, a shell that waits for the end of its standard input. That end comes when our process stops the
//! program, and also when it exits, panics or is killed; then the keeper kills the program by its id. A keeper is in a
//! process group of its own, so that an interrupt from a terminal reaches our process only.

use std::{
    fs, io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// First the log, then a folder to remove at the end or nothing, then the program and its arguments.
const KEEPER: &str = r#"
log=$1 folder=$2
shift 2
"$@" >>"$log" 2>&1 </dev/null &
pid=$!
read -r _
kill -KILL "$pid"
wait "$pid"
if [ -n "$folder" ]; then
    # Others that write there are being killed as well.
    sleep 1
    rm -rf "$folder"
fi
"#;
/// How much of a log is shown.
const SHOWN: usize = 4_000;

/// A running program.
#[derive(Debug)]
pub struct Program {
    keeper: Child,
    log: PathBuf,
}

impl Program {
    /// Starts `command`, whose output goes to `log`; with its end goes the folder `remove`.
    ///
    /// # Errors
    /// Where there is no `sh`. What becomes of the command itself is in the log.
    pub fn start(command: &[String], log: &Path, remove: Option<&Path>) -> io::Result<Self> {
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .args([log, remove.unwrap_or_else(|| Path::new(""))])
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Self { keeper, log: log.to_owned() })
    }

    /// Kills it and waits until it is gone.
    pub fn stop(mut self) {
        drop(self.keeper.stdin.take());
        // It fails only where somebody else has waited for it already: then it is gone.
        let _ = self.keeper.wait();
    }

    /// The end of what it has said.
    #[must_use]
    pub fn said(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let from = log.len().saturating_sub(SHOWN);
        String::from_utf8_lossy(&log[from..]).into_owned()
    }
}

#[test]
fn a_program_ends_when_it_is_let_go_and_its_folder_goes_with_it() {
    let folder = std::env::temp_dir().join(format!("landbridge-keeper-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let log = folder.join("log");
    let command = ["sh", "-c", "echo $$; exec sleep 600"].map(String::from);
    let program = Program::start(&command, &log, Some(&folder)).unwrap();
    let pid = loop {
        match program.said().trim().parse::<u32>() {
            Ok(pid) => break pid,
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(5)),
        }
    };
    let lives = || {
        let probe = Command::new("kill").args(["-0", &pid.to_string()]).output();
        probe.unwrap().status.success()
    };
    assert!(lives());
    program.stop();
    assert!(!lives());
    assert!(!folder.exists());
}
