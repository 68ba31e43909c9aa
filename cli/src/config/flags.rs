//! The flags of a component, collected as text: checking them is the reader's work, together with everything else.

use std::{collections::BTreeMap, marker::PhantomData};

use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::Settings;

/// What was given on the command line for the settings `S`.
#[derive(Clone, Debug)]
pub(crate) struct Flags<S> {
    texts: BTreeMap<&'static str, Vec<String>>,
    of: PhantomData<fn() -> S>,
}

impl<S: Settings> Flags<S> {
    /// The texts by setting; a flag that was not given is absent.
    pub(crate) fn texts(&self) -> &BTreeMap<&'static str, Vec<String>> {
        &self.texts
    }

    #[cfg(test)]
    pub(crate) fn parse(arguments: Vec<String>) -> Result<Self, clap::Error> {
        let command = Self::augment_args(Command::new("test"));
        Self::from_arg_matches(&command.try_get_matches_from(arguments)?)
    }
}

impl<S: Settings> Args for Flags<S> {
    fn augment_args(command: Command) -> Command {
        S::table().into_iter().fold(command, |command, setting| command.arg(setting.flag()))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<S: Settings> FromArgMatches for Flags<S> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let texts = S::table()
            .into_iter()
            .filter_map(|setting| {
                let texts = matches.get_many::<String>(setting.name)?;
                Some((setting.name, texts.cloned().collect()))
            })
            .collect();
        Ok(Self { texts, of: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
