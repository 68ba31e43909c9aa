//! Pure: what `kubectl get` shows of one object: the columns of core kinds, and those that a CRD
//! asks for by JSON paths.

use jiff::Timestamp;
use jsonpath_rust::parser::{model::JpQuery, parse_json_path};
use jsonpath_rust::query::js_path_process;
use serde_json::{Value, json};

use crate::object::{list, members, strings, text};

/// One column of a Table.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: String,
    /// 0 is shown always, more only with `-o wide`.
    pub(crate) priority: i64,
    cell: Cell,
}

#[derive(Clone, Debug)]
enum Cell {
    Computed(fn(&Value) -> Value),
    Path(JpQuery),
}

/// The columns of core kinds between name and age, as `Title=what`: a JSON path, or the name of a
/// computation below. A title that ends in `+` is shown by `-o wide` only.
const CORE: [(&str, &str); 8] = [
    ("ConfigMap", "Data=data"),
    ("EndpointSlice", "AddressType=.addressType|Ports=slice ports|Endpoints=endpoints"),
    ("Event", "Type=.type|Reason=.reason|Message=.note"),
    ("Lease", "Holder=.spec.holderIdentity"),
    ("Namespace", "Status=.status.phase"),
    ("Pod", "Status=.status.phase|IP+=.status.podIP"),
    ("Secret", "Type=.type|Data=data"),
    (
        "Service",
        "Type=.spec.type|Cluster-IP=.spec.clusterIP|External-IP=.spec.externalName|\
         Port(s)=service ports|Selector+=selector",
    ),
];

impl Column {
    /// What this column shows of `object` at `now`.
    pub(crate) fn cell(&self, object: &Value, now: Timestamp) -> Value {
        let found = match &self.cell {
            Cell::Computed(compute) => return compute(object),
            // kube-apiserver prints only the first of several, too.
            Cell::Path(path) => js_path_process(path, object).ok(),
        };
        let found = found.and_then(|found| Some(found.first()?.val));
        match (self.kind.as_str(), found) {
            ("core", found) => or_none(found.and_then(Value::as_str).unwrap_or_default()),
            ("date", Some(found)) => since(found.as_str().unwrap_or_default(), now),
            ("string", Some(Value::Null | Value::String(_)))
            | ("boolean", Some(Value::Bool(_)))
            | ("integer" | "number", Some(Value::Number(_))) => json!(found),
            ("string", Some(other)) => json!(other.to_string()),
            _ => Value::Null,
        }
    }

    /// The column as a Table defines it.
    pub(crate) fn definition(&self) -> Value {
        let format = if self.name == "Name" { "name" } else { "" };
        let kind = if self.kind == "core" { "string" } else { &self.kind };
        json!({"name": self.name, "type": kind, "format": format, "description": "",
            "priority": self.priority})
    }
}

/// The columns of a core kind.
pub(crate) fn core(kind: &str) -> Vec<Column> {
    let own = CORE.iter().find(|(known, _)| *known == kind).map_or("", |(_, columns)| columns);
    let own = own.split('|').filter_map(core_column);
    let mut all: Vec<Column> = name().into_iter().chain(own).chain(age()).collect();
    all.sort_by_key(|column| column.priority);
    all
}

/// The columns that a CRD's version asks for, behind the name; the age when it asks for none.
/// Fails with the JSON path that cannot be read.
pub(crate) fn custom(wanted: &[Value]) -> Result<Vec<Column>, String> {
    let mut all: Vec<Column> = name().into_iter().collect();
    if wanted.is_empty() {
        all.extend(age());
    }
    for column in wanted {
        let of = |field| text(column, field);
        let path = of("/jsonPath");
        let made = column_of(of("/name"), of("/type"), path).ok_or(path)?;
        let priority = column["priority"].as_i64().unwrap_or(0);
        all.push(Column { priority, ..made });
    }
    Ok(all)
}

fn name() -> Option<Column> {
    column_of("Name", "string", ".metadata.name")
}

fn age() -> Option<Column> {
    column_of("Age", "date", ".metadata.creationTimestamp")
}

fn column_of(name: &str, kind: &str, path: &str) -> Option<Column> {
    let cell = Cell::Path(parse_json_path(&format!("${path}")).ok()?);
    Some(Column { name: name.to_owned(), kind: kind.to_owned(), priority: 0, cell })
}

fn core_column(column: &str) -> Option<Column> {
    let (title, what) = column.split_once('=')?;
    let (name, priority) = (title.trim_end_matches('+'), i64::from(title.ends_with('+')));
    if let Some(made) = column_of(name, "core", what) {
        return Some(Column { priority, ..made });
    }
    let cell = Cell::Computed(computation(what)?);
    Some(Column { name: name.to_owned(), kind: "core".into(), priority, cell })
}

fn computation(what: &str) -> Option<fn(&Value) -> Value> {
    Some(match what {
        "data" => |o| json!(members(o, "/data").chain(members(o, "/binaryData")).count()),
        "endpoints" => |slice| {
            let endpoints = list(slice, "/endpoints").iter();
            let addresses = endpoints.filter_map(|one| strings(one, "/addresses").next());
            joined(addresses.map(str::to_owned))
        },
        "selector" => |service| {
            let pairs = members(service, "/spec/selector");
            joined(pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or(""))))
        },
        "service ports" => |service| {
            let ports = list(service, "/spec/ports").iter();
            joined(ports.map(|port| format!("{}/{}", port["port"], text(port, "/protocol"))))
        },
        "slice ports" => {
            |slice| joined(list(slice, "/ports").iter().map(|port| port["port"].to_string()))
        }
        _ => return None,
    })
}

fn or_none(value: &str) -> Value {
    json!(if value.is_empty() { "<none>" } else { value })
}

fn joined(parts: impl Iterator<Item = String>) -> Value {
    or_none(&parts.collect::<Vec<_>>().join(","))
}

/// How long ago `time` was, roughly as kubectl says it; `<unknown>` without a time.
fn since(time: &str, now: Timestamp) -> Value {
    let ago = |time: Timestamp| human(now.as_second() - time.as_second());
    json!(time.parse().map_or_else(|_| "<unknown>".to_owned(), ago))
}

fn human(seconds: i64) -> String {
    match seconds.max(0) {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..10_800 => format!("{}m", seconds / 60),
        seconds @ 10_800..172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, kind: &str, expected: Value) {
        let object = json!({"metadata": {"name": "n", "annotations": {"a.b/c": "x"}},
            "spec": {"ips": ["10.0.0.1"], "n": 3, "ports": [{"port": 80}, {"port": 81}]},
            "status": {"conditions": [{"type": "Valid", "status": "True"}, {"type": "Ready", "status": "False"}]}});
        let columns = custom(&[json!({"name": "C", "type": kind, "jsonPath": path})]).unwrap();
        assert_eq!(columns[1].cell(&object, Timestamp::UNIX_EPOCH), expected, "{path}");
    }

    #[test]
    fn simple_paths() {
        check(".spec.ips", "string", json!("[\"10.0.0.1\"]"));
        check(".spec.n", "integer", json!(3));
        check(".spec.ports[*].port", "integer", json!(80));
        check(".spec.ports[1].port", "integer", json!(81));
        check(".status.conditions[?(@.type==\"Ready\")].status", "string", json!("False"));
        check(".status.conditions[?(@.type=='Gone')].status", "string", Value::Null);
        check(".metadata.annotations['a.b/c']", "string", json!("x"));
        assert!(custom(&[json!({"name": "C", "type": "string", "jsonPath": "spec..x"})]).is_err());
    }

    #[test]
    fn core_columns_are_all_known() {
        for (kind, columns) in CORE {
            assert_eq!(core(kind).len(), columns.split('|').count() + 2, "{kind}");
        }
        assert_eq!(core("CustomResourceDefinition").len(), 2);
    }

    #[test]
    fn durations_are_told_in_their_unit() {
        for (seconds, expected) in [
            (-1, "0s"),
            (119, "119s"),
            (120, "2m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (47 * 3600, "47h"),
            (300 * 86_400, "300d"),
        ] {
            assert_eq!(human(seconds), expected);
        }
    }
}
