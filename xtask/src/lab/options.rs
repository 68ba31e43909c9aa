//! Pure: what a lab looks like: how many clusters, and in which arrangement.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// More share no machine that people have, and addresses are made of one digit.
const MOST: i64 = 9;
/// Names of interfaces and folders are made of it.
const LONGEST_NAME: usize = 16;

/// What a lab is made from.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, clap::Args)]
pub struct Options {
    /// How many clusters.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=MOST))]
    pub clusters: u8,
    /// What it is called: labs with different names stand beside one another.
    #[arg(long, default_value_t)]
    pub name: Name,
    /// Whether clusters reach each other's pods.
    #[arg(long, value_enum, default_value_t)]
    pub network: Network,
    /// How kube-proxy makes Services work.
    #[arg(long, value_enum, default_value_t)]
    pub proxy: Proxy,
    /// Which addresses pods and Services have.
    #[arg(long, value_enum, default_value_t)]
    pub stack: Stack,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            clusters: 2,
            name: Name::default(),
            network: Network::default(),
            proxy: Proxy::default(),
            stack: Stack::default(),
        }
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { clusters, network, proxy, stack, .. } = self;
        let [network, proxy, stack] = [word(network), word(proxy), word(stack)];
        write!(f, "{clusters} clusters, {network}, {stack}, {proxy}")
    }
}

/// The word for a choice on the command line.
fn word<T: clap::ValueEnum>(choice: &T) -> String {
    choice.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// Whether clusters reach each other's pods.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// All have the same pod range, and reach each other's nodes only.
    #[default]
    Overlapping,
    /// Pod ranges differ, and nodes route to them.
    Shared,
}

/// How kube-proxy makes Services work.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Proxy {
    /// Its older mode, and still the default of most clusters.
    #[default]
    Iptables,
    /// Its newer one.
    Nftables,
}

/// Which addresses pods and Services have.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Stack {
    /// IPv4 and IPv6.
    #[default]
    Dual,
    /// IPv4 alone.
    V4,
}

/// What a lab is called: a short label.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String")]
pub struct Name(String);

impl Name {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Name {
    fn default() -> Self {
        Self("lab".into())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let letters = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if letters && !text.is_empty() && text.len() <= LONGEST_NAME {
            Ok(Self(text.into()))
        } else {
            Err(format!("at most {LONGEST_NAME} small letters and digits"))
        }
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_short_label() {
        for (text, is) in [("lab", true), ("ci2", true), ("", false), ("a/b", false), ("A", false)]
        {
            assert_eq!(text.parse::<Name>().is_ok(), is, "{text}");
        }
        assert!("a".repeat(LONGEST_NAME + 1).parse::<Name>().is_err());
    }
}
