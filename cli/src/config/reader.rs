//! Merges flags, environment and file, and collects what is wrong with them.
//!
//! The readers of settings call [`Reader::required`], [`Reader::optional`] and so on for each setting, whether or not an
//! earlier one was wrong, so that [`Reader::finish`] tells everything at once.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use super::{
    Surroundings,
    common::CONFIG,
    problem::{Problem, Problems},
    setting::{Kind, Setting},
};

/// Where a text stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Source {
    Default,
    File,
    Flag,
    Variable,
}

/// A text, and where it stands.
#[derive(Clone, Debug)]
struct Given {
    source: Source,
    text: String,
}

/// Reads settings and remembers what was wrong.
pub(crate) struct Reader<'a> {
    table: Vec<&'static Setting>,
    flags: &'a BTreeMap<&'static str, Vec<String>>,
    surroundings: &'a dyn Surroundings,
    path: Option<PathBuf>,
    file: BTreeMap<String, Vec<String>>,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    /// Reads the `--config` file, if one is named, and is ready to be asked.
    pub(super) fn new(
        table: Vec<&'static Setting>,
        flags: &'a BTreeMap<&'static str, Vec<String>>,
        surroundings: &'a dyn Surroundings,
    ) -> Self {
        let mut reader = Self {
            table,
            flags,
            surroundings,
            path: None,
            file: BTreeMap::new(),
            problems: Vec::new(),
        };
        reader.path = reader.optional(&CONFIG, super::value::path);
        if let Some(path) = reader.path.clone() {
            reader.read_file(&path);
        }
        reader
    }

    /// The value of a setting that must be given, or have a default.
    pub(crate) fn required<T, E: fmt::Display>(
        &mut self,
        setting: &Setting,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        if self.given(setting).is_empty() {
            self.missing(setting);
            return None;
        }
        self.optional(setting, parse)
    }

    /// The value of a setting that may be left out. `None` too where it is wrong, which is then a problem.
    pub(crate) fn optional<T, E: fmt::Display>(
        &mut self,
        setting: &Setting,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        let given = self.given(setting);
        if given.len() > 1 {
            let culprit = self.culprit(setting, &given[0]);
            self.push(culprit, "takes one value: leave out the others");
            return None;
        }
        self.parse(setting, given.first()?, &parse)
    }

    /// The values of a setting that may be repeated.
    pub(crate) fn list<T, E: fmt::Display>(
        &mut self,
        setting: &Setting,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Vec<T> {
        self.given(setting).iter().filter_map(|given| self.parse(setting, given, &parse)).collect()
    }

    /// As [`Reader::list`], of a setting that must have at least one value.
    pub(crate) fn some<T, E: fmt::Display>(
        &mut self,
        setting: &Setting,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Vec<T> {
        if self.given(setting).is_empty() {
            self.missing(setting);
        }
        self.list(setting, parse)
    }

    /// The text of a file that a setting names and that must be there.
    pub(crate) fn file(&mut self, setting: &Setting, path: &Path) -> Option<String> {
        match self.surroundings.read(path) {
            Ok(text) => Some(text),
            Err(error) => {
                self.wrong(
                    setting,
                    format!("cannot be read ({error}): name a file that this process may read"),
                );
                None
            }
        }
    }

    /// Whether this machine has IPv6, as Linux tells it.
    pub(crate) fn has_ipv6(&self) -> bool {
        self.surroundings.read(Path::new("/proc/net/if_inet6")).is_ok()
    }

    /// Whether anything was given for a setting that has no default.
    pub(crate) fn is_given(&self, setting: &Setting) -> bool {
        !self.given(setting).is_empty()
    }

    /// Remembers that what was given for `setting` is wrong for a reason that only shows beside other settings.
    pub(crate) fn wrong(&mut self, setting: &Setting, message: impl fmt::Display) {
        let culprit = match self.given(setting).first() {
            Some(given) => self.culprit(setting, given),
            None => format!("--{}", setting.name),
        };
        self.push(culprit, message);
    }

    /// The settings, unless anything was wrong.
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<T, Problems> {
        match value {
            Some(value) if self.problems.is_empty() => Ok(value),
            _ => Err(Problems(self.problems)),
        }
    }

    /// The texts of a setting from the first place that has it. An empty variable counts as not set, since manifests
    /// cannot leave one out conditionally.
    fn given(&self, setting: &Setting) -> Vec<Given> {
        let place = |source, texts: Vec<String>| -> Vec<Given> {
            texts
                .iter()
                .flat_map(|text| split(setting.kind, text))
                .map(|text| Given { source, text })
                .collect()
        };
        if let Some(texts) = self.flags.get(setting.name) {
            return place(Source::Flag, texts.clone());
        }
        match self.surroundings.variable(&setting.variable()) {
            Some(text) if !text.is_empty() => return place(Source::Variable, vec![text]),
            _ => {}
        }
        if let Some(texts) = self.file.get(setting.name) {
            return place(Source::File, texts.clone());
        }
        let default = setting.default.map(str::to_owned);
        place(Source::Default, default.into_iter().collect())
    }

    fn parse<T, E: fmt::Display>(
        &mut self,
        setting: &Setting,
        given: &Given,
        parse: &impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        match parse(&given.text) {
            Ok(value) => Some(value),
            Err(error) => {
                let culprit = self.culprit(setting, given);
                self.push(culprit, error);
                None
            }
        }
    }

    fn missing(&mut self, setting: &Setting) {
        let message = format!(
            "is missing ({}): give the flag, {} or `{}:` in the --config file",
            setting.help,
            setting.variable(),
            setting.name
        );
        self.push(format!("--{}", setting.name), message);
    }

    fn culprit(&self, setting: &Setting, given: &Given) -> String {
        let (name, text) = (setting.name, &given.text);
        match (given.source, &self.path) {
            (Source::File, Some(path)) => format!("{name}: {text:?} in {}", path.display()),
            (Source::Variable, _) => format!("{}={text:?}", setting.variable()),
            _ => format!("--{name} {text:?}"),
        }
    }

    fn push(&mut self, culprit: String, message: impl fmt::Display) {
        let problem = Problem { culprit, message: message.to_string() };
        // Two readings of one wrong text are one problem.
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Reads the file into texts by key. Unknown keys and values that are neither text nor a list of texts are problems.
    fn read_file(&mut self, path: &Path) {
        let Some(text) = self.file(&CONFIG, path) else {
            return;
        };
        let mapping = match serde_norway::from_str::<Option<serde_norway::Mapping>>(&text) {
            Ok(mapping) => mapping.unwrap_or_default(),
            Err(error) => {
                self.push(
                    path.display().to_string(),
                    format!("is not a YAML mapping of settings ({error})"),
                );
                return;
            }
        };
        for (key, value) in mapping {
            let key = scalar(&key).unwrap_or_default();
            let known = self.table.iter().find(|known| known.name == key && key != CONFIG.name);
            match (known, texts(&value)) {
                (Some(_), Some(texts)) => {
                    self.file.insert(key, texts);
                }
                (Some(known), None) => {
                    let message = format!(
                        "must be {}, or a list of them where it may be repeated",
                        known.value
                    );
                    self.push(format!("{key}: in {}", path.display()), message);
                }
                (None, _) => {
                    let mut names: Vec<_> = self.table.iter().map(|known| known.name).collect();
                    names.retain(|name| *name != CONFIG.name);
                    let message = format!("is not a setting: use one of {}", names.join(", "));
                    self.push(format!("{key:?} in {}", path.display()), message);
                }
            }
        }
    }
}

/// Values of a list may also be separated by commas, the only way in an environment variable.
fn split(kind: Kind, text: &str) -> Vec<String> {
    match kind {
        Kind::List => text.split(',').map(|part| part.trim().to_owned()).collect(),
        Kind::One | Kind::Switch => vec![text.to_owned()],
    }
}

fn texts(value: &serde_norway::Value) -> Option<Vec<String>> {
    match value {
        serde_norway::Value::Sequence(items) => items.iter().map(scalar).collect(),
        other => Some(vec![scalar(other)?]),
    }
}

fn scalar(value: &serde_norway::Value) -> Option<String> {
    match value {
        serde_norway::Value::Bool(value) => Some(value.to_string()),
        serde_norway::Value::Number(value) => Some(value.to_string()),
        serde_norway::Value::String(value) => Some(value.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Settings, testing::load_text};

    const COLOUR: Setting = Setting::one("colour", "NAME", "Which colour");
    const PORTS: Setting = Setting::list("numbers", "N", "Which numbers");
    const SIZE: Setting = Setting::one("size", "N", "How large").or("7");
    const LOUD: Setting = Setting::switch("loud", "Whether loud");

    /// A table of its own, so that the rules of merging are tested apart from any component.
    #[derive(Debug)]
    struct Paint(String);

    impl Settings for Paint {
        fn table() -> Vec<&'static Setting> {
            vec![&CONFIG, &COLOUR, &PORTS, &SIZE, &LOUD]
        }

        fn read(reader: &mut Reader<'_>) -> Option<Self> {
            let colour = reader.required(&COLOUR, |text| {
                text.chars()
                    .all(|c| c.is_ascii_lowercase())
                    .then(|| text.to_owned())
                    .ok_or("not a colour: use lower-case letters")
            });
            let numbers = reader.list(&PORTS, str::parse::<u16>);
            let size = reader.required(&SIZE, str::parse::<u32>);
            let loud = reader.required(&LOUD, str::parse::<bool>);
            Some(Self(format!("{} {numbers:?} {} {}", colour?, size?, loud?)))
        }
    }

    fn check(text: &str, expected: &str) {
        let told = match load_text::<Paint>(text) {
            Ok(paint) => paint.0,
            Err(problems) => problems,
        };
        assert_eq!(told, expected, "of {text}");
    }

    #[test]
    fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
        check("--colour red", "red [] 7 false");
        check("--colour red\nLANDBRIDGE_SIZE=8\nsize: 9", "red [] 8 false");
        check(
            "--colour red\n--size 6\nLANDBRIDGE_COLOUR=blue\nLANDBRIDGE_SIZE=8\nsize: 9\ncolour: green",
            "red [] 6 false",
        );
        check("size: 9\ncolour: green", "green [] 9 false");
    }

    #[test]
    fn an_empty_variable_counts_as_not_set() {
        check("LANDBRIDGE_COLOUR=\ncolour: green", "green [] 7 false");
    }

    #[test]
    fn lists_come_from_repeated_flags_commas_and_sequences_and_are_not_mixed() {
        check("--colour a\n--numbers 1\n--numbers 2,3\nnumbers: 9", "a [1, 2, 3] 7 false");
        check("--colour a\nLANDBRIDGE_NUMBERS=4, 5\nnumbers: [9]", "a [4, 5] 7 false");
        check("colour: a\nnumbers: [6, \"7\"]", "a [6, 7] 7 false");
        check("colour: a\nnumbers: []", "a [] 7 false");
    }

    #[test]
    fn a_switch_is_on_by_its_name_alone_and_can_be_put_off() {
        check("--colour a\n--loud", "a [] 7 true");
        check("--colour a\n--loud=false\nloud: true", "a [] 7 false");
        check("colour: a\nloud: true", "a [] 7 true");
        check("colour: a\nLANDBRIDGE_LOUD=true", "a [] 7 true");
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once_and_where() {
        check(
            "--size big\nLANDBRIDGE_COLOUR=RED\nnumbers: [1, x]\nloud: perhaps\nshape: round",
            "5 settings are wrong, nothing was started:\n  \
             \"shape\" in /landbridge.yaml: is not a setting: use one of colour, numbers, size, loud\n  \
             LANDBRIDGE_COLOUR=\"RED\": not a colour: use lower-case letters\n  \
             numbers: \"x\" in /landbridge.yaml: invalid digit found in string\n  \
             --size \"big\": invalid digit found in string\n  \
             loud: \"perhaps\" in /landbridge.yaml: provided string was not `true` or `false`",
        );
    }

    #[test]
    fn what_is_missing_is_told_with_every_way_to_give_it() {
        check(
            "",
            "1 setting is wrong, nothing was started:\n  \
             --colour: is missing (Which colour): give the flag, LANDBRIDGE_COLOUR or `colour:` in the --config file",
        );
    }

    #[test]
    fn a_file_that_is_not_there_or_not_a_mapping_is_a_problem_among_others() {
        check(
            "--config /nowhere.yaml\n--size x\n--colour a",
            "2 settings are wrong, nothing was started:\n  \
             --config \"/nowhere.yaml\": cannot be read (entity not found): name a file that this process may read\n  \
             --size \"x\": invalid digit found in string",
        );
        let told = load_text::<Paint>("- a\n- b").unwrap_err();
        assert!(told.contains("/landbridge.yaml: is not a YAML mapping"), "{told}");
        let told = load_text::<Paint>("colour: {a: b}").unwrap_err();
        assert!(told.contains("colour: in /landbridge.yaml: must be NAME"), "{told}");
        let told = load_text::<Paint>("colour: a\ncolour: b").unwrap_err();
        assert!(told.contains("duplicate"), "{told}");
        let told = load_text::<Paint>("colour: [a, b]").unwrap_err();
        assert!(told.contains("takes one value"), "{told}");
        let told = load_text::<Paint>("colour: a\nconfig: /other").unwrap_err();
        assert!(told.contains("\"config\" in /landbridge.yaml: is not a setting"), "{told}");
    }
}
