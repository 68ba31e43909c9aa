//! Pure: the checks by name: what is wrong with a cluster, and what is to be done. Each has an anchor in `docs/checks.md` that
//! stays.

mod cluster;
mod network;
mod running;
mod services;
mod set;

use std::cmp::Reverse;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

pub(crate) use self::{
    network::in_the_way,
    running::{listening, version},
    services::{export_remedy, import_remedy, why},
    set::remedy as link_remedy,
};
use super::{Asked, Facts, Unread};
pub(crate) use crate::init::checks::Level;

/// How many findings of one check are told one by one: what is wrong a hundred times has one cause.
const MOST: usize = 10;

/// What is looked at; the name stays.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Check {
    Addresses,
    Callers,
    Certificates,
    Components,
    Dns,
    Exports,
    Gateways,
    Hub,
    Identity,
    Imports,
    Kinds,
    Leader,
    Links,
    Listeners,
    Members,
    NetworkPolicies,
    Objects,
    Permissions,
    Ports,
    Server,
    Versions,
}

impl Check {
    /// In the order in which people would look.
    pub(crate) const ALL: [Self; 21] = [
        Self::Server,
        Self::Permissions,
        Self::Kinds,
        Self::Identity,
        Self::Components,
        Self::Versions,
        Self::Leader,
        Self::Hub,
        Self::Members,
        Self::Addresses,
        Self::Gateways,
        Self::Links,
        Self::Certificates,
        Self::Exports,
        Self::Imports,
        Self::Ports,
        Self::Listeners,
        Self::Dns,
        Self::Callers,
        Self::NetworkPolicies,
        Self::Objects,
    ];

    /// Its name, which is its anchor too.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Addresses => "addresses",
            Self::Callers => "callers",
            Self::Certificates => "certificates",
            Self::Components => "components",
            Self::Dns => "dns",
            Self::Exports => "exports",
            Self::Gateways => "gateways",
            Self::Hub => "hub",
            Self::Identity => "identity",
            Self::Imports => "imports",
            Self::Kinds => "kinds",
            Self::Leader => "leader",
            Self::Links => "links",
            Self::Listeners => "listeners",
            Self::Members => "members",
            Self::NetworkPolicies => "network-policies",
            Self::Objects => "objects",
            Self::Permissions => "permissions",
            Self::Ports => "ports",
            Self::Server => "server",
            Self::Versions => "versions",
        }
    }

    /// Where people read more of it.
    pub(crate) fn page(self) -> String {
        format!("docs/checks.md#{}", self.name())
    }

    fn look(self, facts: &Facts) -> Vec<Finding> {
        match self {
            Self::Addresses => set::addresses(facts),
            Self::Callers => network::callers(facts),
            Self::Certificates => set::certificates(facts),
            Self::Components => running::components(facts),
            Self::Dns => network::dns(facts),
            Self::Exports => services::exports(facts),
            Self::Gateways => running::gateways(facts),
            Self::Hub => running::hub(facts),
            Self::Identity => cluster::identity(facts),
            Self::Imports => services::imports(facts),
            Self::Kinds => cluster::kinds(facts),
            Self::Leader => running::leader(facts),
            Self::Links => set::links(facts),
            Self::Listeners => running::listeners(facts),
            Self::Members => set::members(facts),
            Self::NetworkPolicies => network::policies(facts),
            Self::Objects => running::objects(facts),
            Self::Permissions => cluster::permissions(facts),
            Self::Ports => services::ports(facts),
            Self::Server => cluster::server(facts),
            Self::Versions => running::versions(facts),
        }
    }

    /// Whether it says something of a cluster where nothing of Landbridge runs.
    const fn is_before(self) -> bool {
        matches!(self, Self::Dns | Self::Identity | Self::Kinds | Self::Permissions | Self::Server)
    }

    fn good(self, says: impl Into<String>) -> Finding {
        Finding { check: self, level: Level::Good, says: says.into(), remedy: String::new() }
    }

    fn note(self, says: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { check: self, level: Level::Note, says: says.into(), remedy: remedy.into() }
    }

    fn wrong(self, says: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { check: self, level: Level::Wrong, says: says.into(), remedy: remedy.into() }
    }

    /// What is known of something, or that it could not be looked at.
    fn of<T>(self, asked: &Asked<T>) -> Result<&T, Vec<Finding>> {
        let unread = |says: String, remedy: &str| {
            Err(vec![self.note(format!("not looked at: {says}"), remedy)])
        };
        match asked {
            Ok(known) => Ok(known),
            // What is not served is told by `kinds`.
            Err(Unread::NotAsked | Unread::NoKind) => Err(Vec::new()),
            Err(Unread::Denied(what)) => {
                unread(format!("you may not {what}"), "ask somebody who may")
            }
            Err(Unread::Trouble(what)) => unread(what.clone(), "ask again"),
        }
    }

    /// All that is wrong, at most [`MOST`] one by one; or that all is good.
    fn found(self, mut found: Vec<Finding>, good: impl Into<String>) -> Vec<Finding> {
        if found.is_empty() {
            return vec![self.good(good)];
        }
        // What is wrong comes first, so that it is not what is left out.
        found.sort_by_key(|one| Reverse(one.level));
        let rest = found.split_off(found.len().min(MOST));
        if let Some(worst) = rest.iter().map(|one| one.level).max() {
            let says = format!("and {} more", rest.len());
            found.push(Finding { check: self, level: worst, says, remedy: String::new() });
        }
        found
    }
}

/// What one check has found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Finding {
    pub(crate) check: Check,
    pub(crate) level: Level,
    pub(crate) says: String,
    /// What to do; empty where that is nothing.
    pub(crate) remedy: String,
}

/// Looks at everything.
pub(crate) fn all(facts: &Facts) -> Vec<Finding> {
    let is_installed = facts.is_installed();
    let asked = Check::ALL.into_iter().filter(|check| is_installed || check.is_before());
    asked.flat_map(|check| check.look(facts)).collect()
}

/// Looks at one thing.
pub(crate) fn one(check: Check, facts: &Facts) -> Vec<Finding> {
    check.look(facts)
}

/// What of it somebody should know.
pub(crate) fn problems(facts: &Facts) -> Vec<Finding> {
    all(facts).into_iter().filter(|finding| finding.level != Level::Good).collect()
}

/// `1 gateway`, `2 gateways`.
pub(super) fn counted(number: usize, what: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {what}{s}")
}

/// A condition, by its type.
pub(super) fn condition<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::seen::testing::{bare, healthy};

    /// "named checks, each with a stable anchor to a documentation page": every check has its anchor there, and the page
    /// has none of another.
    #[test]
    fn every_check_has_its_place_in_the_documentation_and_no_other_has() {
        let page = include_str!("../../../docs/checks.md");
        let anchors: BTreeSet<&str> =
            page.lines().filter_map(|line| line.strip_prefix("### ")).collect();
        let names: BTreeSet<&str> = Check::ALL.iter().map(|check| check.name()).collect();
        assert_eq!(anchors, names);
        assert_eq!(names.len(), Check::ALL.len());
        // GitHub makes of a heading of lower-case letters and hyphens an anchor that is the same.
        assert!(names.iter().all(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '-')));
    }

    #[test]
    fn a_cluster_that_is_well_has_nothing_wrong() {
        let problems = problems(&healthy());
        assert_eq!(problems, Vec::new());
        let looked: BTreeSet<Check> = all(&healthy()).iter().map(|one| one.check).collect();
        let missing: Vec<&Check> = Check::ALL.iter().filter(|one| !looked.contains(one)).collect();
        // It is installed already.
        assert_eq!(missing, [&Check::Permissions]);
    }

    #[test]
    fn before_anything_is_there_it_is_told_whether_it_may_come() {
        let found = all(&bare());
        let levels: Vec<(&str, Level)> =
            found.iter().map(|one| (one.check.name(), one.level)).collect();
        let names = ["server", "permissions", "kinds", "identity", "dns"];
        assert_eq!(levels, names.map(|name| (name, Level::Good)));
    }

    #[test]
    fn what_is_wrong_a_hundred_times_is_told_a_few_times() {
        let many = (0..30).map(|at| Check::Links.note(at.to_string(), "")).collect();
        let told = Check::Links.found(many, "");
        assert_eq!((told.len(), told[MOST].says.as_str()), (MOST + 1, "and 20 more"));
    }

    #[test]
    fn what_may_not_be_read_is_told_as_that() {
        let denied =
            Facts { peers: Err(Unread::Denied("list peers.landbridge.dev".into())), ..healthy() };
        let found = problems(&denied);
        assert_eq!(
            found,
            [Check::Links.note(
                "not looked at: you may not list peers.landbridge.dev",
                "ask somebody who may",
            )]
        );
    }
}
