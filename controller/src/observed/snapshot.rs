//! Pure: what was seen and what came of it, for people who debug: sorted, and without secrets.

use serde_json::{Map, Value, json};

use super::{Observed, Table, object_key};
use crate::plan::gateways;

impl Observed {
    /// Everything that helps to understand what the controller does, in an order that does not change.
    #[must_use]
    pub fn snapshot(&self) -> Value {
        let gateways = gateways(self);
        let gateways: Vec<String> = gateways.addresses().map(|ip| ip.to_string()).collect();
        json!({
            "cluster": self.config.cluster.as_str(),
            "set": self.config.set.as_str(),
            "network": self.config.network.as_str(),
            "local": {"synced": self.is_local_synced()},
            "hub": {"synced": self.is_hub_synced(), "trouble": self.hub_trouble()},
            "gateways": gateways,
            "silentGateways": self.silent_gateways,
            "muteGateways": self.mute_gateways.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "silentMembers": self.silent_members,
            "members": self.member_names(),
            "mergeRevision": self.merge_revision(),
            "duplicateClusterUid": self.duplicate(),
            "exports": self.export_states(),
            "imports": self.import_states(),
            "malformed": self.malformed(),
        })
    }

    fn member_names(&self) -> Vec<&str> {
        self.members.rows().map(|(key, _)| key.name.as_str()).collect()
    }

    fn export_states(&self) -> Map<String, Value> {
        let rows = self.service_exports.rows();
        rows.map(|(key, row)| {
            let conditions = row.kept.conditions.iter();
            let conditions: Map<String, Value> = conditions
                .map(|c| (c.type_.clone(), json!(format!("{}/{}", c.status, c.reason))))
                .collect();
            (key.to_string(), Value::Object(conditions))
        })
        .collect()
    }

    fn import_states(&self) -> Map<String, Value> {
        let services = self.known_services();
        let services = services.iter().filter_map(|service| {
            let key = object_key(service, service.name.as_str());
            let exporters: Vec<&str> =
                self.exports_of(service).map(|view| view.export.cluster.as_str()).collect();
            if exporters.is_empty() {
                return None;
            }
            let ips = self.service_imports.find(&key).map(|import| &import.spec.ips);
            let numbers = self.ports.of(service).into_iter().flatten();
            let numbers: Map<String, Value> =
                numbers.map(|(port, number)| (port.to_string(), json!(number.number()))).collect();
            let slices = self.our_slices(service);
            let slices: Vec<&str> = slices.map(|(key, _)| key.name.as_str()).collect();
            let mut state =
                json!({"exporters": exporters, "ips": ips, "ports": numbers, "slices": slices});
            if let Some(withheld) = self.withheld(&service.namespace) {
                state["withheld"] = json!(format!("{withheld:?}"));
            }
            Some((service.to_string(), state))
        });
        services.collect()
    }

    fn malformed(&self) -> Map<String, Value> {
        fn add<T>(kind: &str, table: &Table<T>, all: &mut Map<String, Value>) {
            for (key, error) in table.malformed() {
                let short: String = error.chars().take(200).collect();
                all.insert(format!("{kind} {key}"), json!(short));
            }
        }
        let mut all = Map::new();
        add("ClusterExport", &self.cluster_exports, &mut all);
        add("EndpointSlice", &self.slices, &mut all);
        add("Member", &self.members, &mut all);
        add("Peer", &self.peers, &mut all);
        add("Service", &self.services, &mut all);
        add("ServiceExport", &self.service_exports, &mut all);
        add("ServiceImport", &self.service_imports, &mut all);
        all
    }
}
