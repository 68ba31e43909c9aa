//! Pure: one row of a component's table of settings, and what it is called in each of its three places.

use clap::{Arg, ArgAction};

/// How often a setting may be given, and whether it needs a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// Any number of values: the flag repeated, values separated by commas, or a list in the file.
    List,
    /// One value.
    One,
    /// `true` or `false`; the flag alone means `true`.
    Switch,
}

/// One thing that can be set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// Its name in lower-case words joined by `-`: the flag and the key in the file.
    pub(crate) name: &'static str,
    /// What kind of value, for the help text, such as `IP:PORT`.
    pub(crate) value: &'static str,
    /// What it does, one sentence without its full stop.
    pub(crate) help: &'static str,
    /// The text that counts where none is given.
    pub(crate) default: Option<&'static str>,
    /// How often.
    pub(crate) kind: Kind,
}

impl Setting {
    /// A setting with one value and no default.
    pub(crate) const fn one(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self { name, value, help, default: None, kind: Kind::One }
    }

    /// A setting with any number of values.
    pub(crate) const fn list(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self { kind: Kind::List, ..Self::one(name, value, help) }
    }

    /// A setting that is on or off, and off where not given.
    pub(crate) const fn switch(name: &'static str, help: &'static str) -> Self {
        Self { kind: Kind::Switch, default: Some("false"), ..Self::one(name, "true|false", help) }
    }

    /// The same with a default.
    pub(crate) const fn or(self, default: &'static str) -> Self {
        Self { default: Some(default), ..self }
    }

    /// The environment variable, such as `LANDBRIDGE_ADMIN_LISTEN`.
    pub(crate) fn variable(&self) -> String {
        format!("LANDBRIDGE_{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }

    /// The flag, for the command line parser, which only collects text.
    pub(crate) fn flag(&self) -> Arg {
        let arg = Arg::new(self.name).long(self.name).value_name(self.value);
        match self.kind {
            Kind::List => arg.action(ArgAction::Append).help(self.help_text()),
            Kind::One => arg.action(ArgAction::Set).help(self.help_text()),
            Kind::Switch => arg
                .action(ArgAction::Set)
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .help(self.help_text()),
        }
    }

    fn help_text(&self) -> String {
        let repeat = if self.kind == Kind::List { "; may be repeated" } else { "" };
        let default = match (self.kind, self.default) {
            (Kind::List | Kind::One, Some(text)) => format!(" [default: {text}]"),
            _ => String::new(),
        };
        format!("{}{repeat}{default} [env: {}]", self.help, self.variable())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Settings, controller, dns, gateway};

    #[test]
    fn one_name_makes_flag_variable_and_key() {
        let setting = Setting::one("admin-listen", "IP:PORT", "Where");
        assert_eq!(setting.variable(), "LANDBRIDGE_ADMIN_LISTEN");
        assert_eq!(setting.flag().get_long(), Some("admin-listen"));
    }

    /// Kubernetes gives every container variables for each Service of its namespace: a Service `landbridge-dns` makes
    /// `LANDBRIDGE_DNS_PORT`, `LANDBRIDGE_DNS_PORT_53_UDP…` and `LANDBRIDGE_DNS_SERVICE_HOST`. No setting may be called so.
    #[test]
    fn no_setting_has_a_name_that_kubernetes_sets_for_services() {
        let tables =
            [controller::Settings::table(), dns::Settings::table(), gateway::Settings::table()];
        for setting in tables.iter().flatten() {
            let words: Vec<_> = setting.name.split('-').collect();
            assert!(!words.contains(&"port") && !words.contains(&"service"), "{}", setting.name);
        }
    }
}
