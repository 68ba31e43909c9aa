//! Configuration of the long-running commands: raw text in, validated settings out, before anything is bound.
//!
//! Each component has one table of [`Setting`]s. A setting has one name and three places: the flag `--name`, the
//! environment variable `LANDBRIDGE_NAME` and the key `name` of the `--config` file, in this order of precedence. All that is
//! wrong in any of them is told at once. It lives here and not in the components' crates, which take validated values only.

pub(crate) mod authority;
pub(crate) mod common;
pub(crate) mod controller;
pub(crate) mod dns;
mod flags;
pub(crate) mod gateway;
mod hub;
mod problem;
mod reader;
mod setting;
mod surroundings;
pub(crate) mod value;

pub(crate) use flags::Flags;
pub(crate) use problem::Problems;
pub(crate) use surroundings::{Process, Surroundings};

use reader::Reader;
use setting::Setting;

/// What a component reads of its surroundings. Implemented by the settings of each, such as [`gateway::Settings`].
pub(crate) trait Settings: Sized {
    /// Every setting that it knows: flags, variables and keys beside these are not its own.
    fn table() -> Vec<&'static Setting>;

    /// Reads and checks them all. `None` where something was wrong; the reader then knows what.
    fn read(reader: &mut Reader<'_>) -> Option<Self>;
}

/// Merges flags, environment and file into validated settings.
///
/// # Errors
/// [`Problems`]: everything that is wrong, each with its culprit and remedy.
pub(crate) fn load<S: Settings>(
    flags: &Flags<S>,
    surroundings: &dyn Surroundings,
) -> Result<S, Problems> {
    let mut reader = Reader::new(S::table(), flags.texts(), surroundings);
    let settings = S::read(&mut reader);
    reader.finish(settings)
}

#[cfg(test)]
pub(crate) mod testing {
    //! Surroundings made of text, so that no test touches the process's own.

    use std::{collections::BTreeMap, io, path::Path};

    use super::{Flags, Settings, Surroundings, load};

    /// Variables and files, as maps.
    #[derive(Default)]
    pub(crate) struct Given {
        pub(crate) files: BTreeMap<String, String>,
        pub(crate) variables: BTreeMap<String, String>,
    }

    impl Surroundings for Given {
        fn variable(&self, name: &str) -> Option<String> {
            self.variables.get(name).cloned()
        }

        fn read(&self, path: &Path) -> io::Result<String> {
            self.files
                .get(path.to_str().unwrap())
                .cloned()
                .ok_or_else(|| io::ErrorKind::NotFound.into())
        }
    }

    /// One case, as text. Each line is a flag (`--name web`), a variable (`LANDBRIDGE_NAME=web`), an empty file
    /// (`touch /path`), or a line of the `--config` file `/landbridge.yaml`, which exists if there is one.
    pub(crate) fn load_text<S: Settings>(text: &str) -> Result<S, String> {
        let mut given = Given::default();
        let mut arguments = vec!["test".to_owned()];
        let mut file = String::new();
        for line in text.lines().map(str::trim_end) {
            let trimmed = line.trim_start();
            if trimmed.starts_with("--") {
                arguments.extend(trimmed.splitn(2, ' ').map(str::to_owned));
            } else if let Some((name, value)) =
                trimmed.starts_with("LANDBRIDGE_").then(|| trimmed.split_once('=')).flatten()
            {
                given.variables.insert(name.into(), value.into());
            } else if let Some(path) = trimmed.strip_prefix("touch ") {
                given.files.insert(path.into(), String::new());
            } else if !trimmed.is_empty() {
                file.push_str(line);
                file.push('\n');
            }
        }
        if !file.is_empty() {
            given.files.insert("/landbridge.yaml".into(), file);
            given.variables.insert("LANDBRIDGE_CONFIG".into(), "/landbridge.yaml".into());
        }
        let flags = Flags::<S>::parse(arguments).map_err(|error| error.to_string())?;
        load(&flags, &given).map_err(|problems| problems.to_string())
    }
}
