//! Pure: how exports and imports are.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};

use super::{Check, Facts, Finding, condition, counted, running::allotted};
use crate::seen::known;

/// How many ports of each protocol gateways have for imports.
const PORTS: usize = 20_000;
/// A fifth that is left is time enough to split a set.
const NEARLY: usize = PORTS / 5 * 4;

/// As kubectl and people write it.
pub(crate) fn place(metadata: &ObjectMeta) -> String {
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{}/{}", part(&metadata.namespace), part(&metadata.name))
}

/// A condition that is not as it should be, as a sentence.
pub(crate) fn why(condition: &Condition) -> String {
    let message = condition.message.trim_end_matches('.');
    if message.is_empty() {
        condition.reason.clone()
    } else {
        format!("{message} ({})", condition.reason)
    }
}

fn all_ready(number: usize, what: &str) -> String {
    if number == 0 {
        format!("there is no {what}")
    } else {
        format!("{} ready", counted(number, what))
    }
}

/// What is to be done about an export, by the reason of its condition.
pub(crate) fn export_remedy(reason: &str) -> &'static str {
    match reason {
        "NoService" => "create the Service of this name, or delete the ServiceExport",
        "InvalidServiceType" => {
            "export a Service that selects pods: one of type ExternalName has none"
        }
        "NamespaceNotAllowed" => {
            "have an administrator of the set add the namespace to the Member's spec, on the hub"
        }
        "DuplicateClusterId" => "give one of the two clusters another id",
        "Failed" => "see what the hub refuses in the message: a policy, a quota, a right",
        "Malformed" => "correct the object",
        _ => "see `hub`, `leader` and `members`",
    }
}

pub(super) fn exports(facts: &Facts) -> Vec<Finding> {
    let check = Check::Exports;
    let exports = match check.of(&facts.exports) {
        Ok(exports) => exports,
        Err(found) => return found,
    };
    let mut found = Vec::new();
    for export in exports {
        let (name, conditions) = (place(&export.metadata), export.conditions());
        let is = |type_: &str, status: &str| {
            condition(conditions, type_).filter(|one| one.status == status)
        };
        if let Some(one) = is("Valid", "False").or_else(|| is("Ready", "False")) {
            found.push(check.wrong(format!("{name}: {}", why(one)), export_remedy(&one.reason)));
        } else if conditions.is_empty() {
            found
                .push(check.wrong(format!("{name}: no controller has told of it"), "see `leader`"));
        }
        if let Some(one) = is("Conflict", "True") {
            let remedy = "make the Services alike in all clusters that export it; until then the oldest export counts";
            found.push(check.note(format!("{name}: {}", why(one)), remedy));
        }
        if let Some(one) = is("Degraded", "True") {
            found.push(check.note(format!("{name}: {}", why(one)), "the rest of it is exported"));
        }
    }
    check.found(found, all_ready(exports.len(), "export"))
}

/// What is to be done about an import, by the reason of its condition.
pub(crate) fn import_remedy(reason: &str) -> &'static str {
    match reason {
        "PortsExhausted" => {
            "import fewer services here: --import-namespaces of the controller names those that are wanted"
        }
        "AddressesExhausted" => {
            "enlarge the cluster's range of Service addresses, or split the headless service"
        }
        "IPFamilyNotSupported" => "export the service in a family that this cluster has",
        _ => "see `gateways` and `leader`",
    }
}

pub(super) fn imports(facts: &Facts) -> Vec<Finding> {
    let check = Check::Imports;
    let imports = match check.of(&facts.imports) {
        Ok(imports) => imports,
        Err(found) => return found,
    };
    let mut found = Vec::new();
    for import in imports {
        let ready = condition(import.conditions(), "Ready").filter(|one| one.status == "False");
        if let Some(one) = ready {
            let says = format!("{}: {}", place(&import.metadata), why(one));
            found.push(check.wrong(says, import_remedy(&one.reason)));
        }
    }
    check.found(found, all_ready(imports.len(), "import"))
}

/// Whether ports are left for imports.
pub(super) fn ports(facts: &Facts) -> Vec<Finding> {
    let check = Check::Ports;
    if let Err(found) = check.of(&facts.allotments) {
        return found;
    }
    let all = allotted(facts);
    let used = ["TCP", "UDP"].map(|protocol| all.iter().filter(|(of, _)| of == protocol).count());
    let says = format!("{} of {PORTS} TCP and {} of {PORTS} UDP are used", used[0], used[1]);
    let is_out = known(&facts.imports).iter().any(|import| {
        condition(import.conditions(), "Ready").is_some_and(|one| one.reason == "PortsExhausted")
    });
    let most = used.into_iter().max().unwrap_or_default();
    let remedy = import_remedy("PortsExhausted");
    vec![match most {
        _ if is_out => check.wrong(says, remedy),
        most if most >= NEARLY => check.note(says, remedy),
        _ => check.good(says),
    }]
}

#[cfg(test)]
mod tests {
    use landbridge_model::AllottedPort;
    use serde_json::json;

    use super::*;
    use crate::seen::testing::{conditions, export, healthy, import, told};

    #[test]
    fn an_export_says_what_is_wrong_and_what_to_do() {
        let of = |all: &[(&str, &str, &str, &str)]| {
            told(&exports(&Facts {
                exports: Ok(vec![export("shop", "web", &conditions(all))]),
                ..healthy()
            }))
        };
        assert_eq!(
            of(&[("Valid", "False", "NoService", "There is no Service \"web\".")]),
            [
                "WRONG shop/web: There is no Service \"web\" (NoService) → create the Service of this name, or delete the ServiceExport",
            ]
        );
        assert_eq!(of(&[]), ["WRONG shop/web: no controller has told of it → see `leader`"]);
        assert_eq!(
            of(&[
                ("Valid", "True", "Valid", ""),
                ("Conflict", "True", "PortConflict", "A differs.")
            ]),
            [
                "note shop/web: A differs (PortConflict) → make the Services alike in all clusters that export it; until then the oldest export counts",
            ]
        );
    }

    #[test]
    fn an_import_that_is_not_ready_says_why() {
        let not = conditions(&[(
            "Ready",
            "False",
            "PortsExhausted",
            "No gateway port is left for TCP/80.",
        )]);
        let facts = Facts {
            imports: Ok(vec![import("shop", "web", &["10.96.0.9"], &["tokyo"], &not)]),
            ..healthy()
        };
        assert_eq!(
            told(&imports(&facts)),
            [
                "WRONG shop/web: No gateway port is left for TCP/80 (PortsExhausted) → import fewer services here: --import-namespaces of the controller names those that are wanted",
            ]
        );
        assert!(
            told(&ports(&facts))[0]
                .starts_with("WRONG 2 of 20000 TCP and 0 of 20000 UDP are used → ")
        );
    }

    #[test]
    fn there_are_as_many_ports_as_gateways_have() {
        let [first, last] = [AllottedPort::FIRST, AllottedPort::LAST].map(AllottedPort::number);
        assert_eq!(usize::from(last - first) + 1, PORTS);
    }

    #[test]
    fn ports_that_run_out_are_told_before_they_have() {
        let slice = |first: u32| {
            let ports: Vec<_> =
                (first..first + 100).map(|port| json!({"port": port, "protocol": "UDP"})).collect();
            serde_json::from_value(
                json!({"metadata": {}, "addressType": "IPv4", "endpoints": [], "ports": ports}),
            )
            .unwrap()
        };
        let of = |slices: u32| {
            let all = (0..slices).map(|at| slice(10_000 + at * 100)).collect();
            told(&ports(&Facts { allotments: Ok(all), ..healthy() }))[0].clone()
        };
        assert_eq!(of(159), "ok 0 of 20000 TCP and 15900 of 20000 UDP are used");
        assert!(
            of(160)
                .starts_with("note 0 of 20000 TCP and 16000 of 20000 UDP are used → import fewer")
        );
    }
}
