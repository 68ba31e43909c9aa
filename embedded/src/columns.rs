//! Pure: what `kubectl get` shows of one object: the columns of core kinds, and those that a CRD
//! asks for by simple JSON paths.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::object::{list, name, size, text};

/// One column of a Table.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) format: String,
    pub(crate) description: String,
    /// 0 is shown always, more only with `-o wide`.
    pub(crate) priority: i64,
    cell: Cell,
}

#[derive(Clone, Debug)]
enum Cell {
    Computed(fn(&Value, Timestamp) -> Value),
    Path(Vec<Step>),
}

/// One step of a JSON path.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    All,
    Field(String),
    Index(usize),
    Where { path: Vec<String>, equals: String },
}

impl Column {
    /// What this column shows of `object` at `now`.
    pub(crate) fn cell(&self, object: &Value, now: Timestamp) -> Value {
        match &self.cell {
            Cell::Computed(compute) => compute(object, now),
            Cell::Path(steps) => {
                walk(steps, object).map_or(Value::Null, |found| self.shown(found, now))
            }
        }
    }

    fn shown(&self, found: &Value, now: Timestamp) -> Value {
        match (self.kind.as_str(), found) {
            ("date", found) => since(found.as_str().unwrap_or_default(), now),
            ("string", Value::Null | Value::String(_)) => found.clone(),
            ("string", other) => Value::from(other.to_string()),
            ("boolean", Value::Bool(_)) | ("integer" | "number", Value::Number(_)) => found.clone(),
            _ => Value::Null,
        }
    }

    fn computed(name: &str, priority: i64, compute: fn(&Value, Timestamp) -> Value) -> Self {
        Self {
            name: name.to_owned(),
            kind: "string".into(),
            format: if name == "Name" {
                "name".into()
            } else {
                String::new()
            },
            description: String::new(),
            priority,
            cell: Cell::Computed(compute),
        }
    }
}

/// The columns of a core kind; name and age for one that has none of its own.
pub(crate) fn core(kind: &str) -> Vec<Column> {
    let column = Column::computed;
    let name = column("Name", 0, |object, _| Value::from(name(object)));
    let age = column("Age", 0, age);
    let of = |pointer: fn(&Value, Timestamp) -> Value, title: &str| column(title, 0, pointer);
    let mut all = match kind {
        "ConfigMap" => vec![of(
            |o, _| json!(size(o, "/data") + size(o, "/binaryData")),
            "Data",
        )],
        "CustomResourceDefinition" => {
            return vec![
                name,
                of(
                    |o, _| json!(text(o, "/metadata/creationTimestamp")),
                    "Created At",
                ),
            ];
        }
        "EndpointSlice" => vec![
            of(|o, _| json!(text(o, "/addressType")), "AddressType"),
            of(slice_ports, "Ports"),
            of(slice_endpoints, "Endpoints"),
        ],
        "Event" => return event_columns(),
        "Lease" => vec![of(|o, _| json!(text(o, "/spec/holderIdentity")), "Holder")],
        "Namespace" => vec![of(|o, _| json!(text(o, "/status/phase")), "Status")],
        "Pod" => vec![
            of(pod_ready, "Ready"),
            of(pod_status, "Status"),
            of(pod_restarts, "Restarts"),
        ],
        "Secret" => vec![
            of(|o, _| json!(text(o, "/type")), "Type"),
            of(|o, _| json!(size(o, "/data")), "Data"),
        ],
        "Service" => vec![
            of(|o, _| json!(text(o, "/spec/type")), "Type"),
            of(|o, _| or_none(text(o, "/spec/clusterIP")), "Cluster-IP"),
            of(external_address, "External-IP"),
            of(service_ports, "Port(s)"),
        ],
        _ => Vec::new(),
    };
    all.insert(0, name);
    all.push(age);
    match kind {
        "Pod" => all.extend([
            column("IP", 1, |o, _| or_none(text(o, "/status/podIP"))),
            column("Node", 1, |o, _| or_none(text(o, "/spec/nodeName"))),
            column("Nominated Node", 1, |o, _| {
                or_none(text(o, "/status/nominatedNodeName"))
            }),
            column("Readiness Gates", 1, |_, _| or_none("")),
        ]),
        "Service" => all.push(column("Selector", 1, service_selector)),
        _ => {}
    }
    all
}

/// The columns that a CRD's version asks for, behind the name; the age when it asks for none.
/// Fails with the JSON path that cannot be read.
pub(crate) fn custom(wanted: &[Value]) -> Result<Vec<Column>, String> {
    let mut all = vec![Column::computed("Name", 0, |object, _| {
        Value::from(name(object))
    })];
    if wanted.is_empty() {
        all.push(Column::computed("Age", 0, age));
    }
    for column in wanted {
        let path = text(column, "/jsonPath");
        let steps = parse(path).ok_or_else(|| {
            format!("additionalPrinterColumns: only simple JSON paths are read, not {path}")
        })?;
        all.push(Column {
            name: text(column, "/name").to_owned(),
            kind: text(column, "/type").to_owned(),
            format: text(column, "/format").to_owned(),
            description: text(column, "/description").to_owned(),
            priority: column.get("priority").and_then(Value::as_i64).unwrap_or(0),
            cell: Cell::Path(steps),
        });
    }
    Ok(all)
}

fn event_columns() -> Vec<Column> {
    let column = Column::computed;
    vec![
        column("Last Seen", 0, last_seen),
        column("Type", 0, |o, _| json!(text(o, "/type"))),
        column("Reason", 0, |o, _| json!(text(o, "/reason"))),
        column("Object", 0, |o, _| {
            let kind = text(o, "/regarding/kind").to_lowercase();
            json!(format!("{kind}/{}", text(o, "/regarding/name")))
        }),
        column("Subobject", 1, |o, _| {
            json!(text(o, "/regarding/fieldPath"))
        }),
        column("Source", 1, |o, _| json!(text(o, "/reportingController"))),
        column("Message", 0, |o, _| json!(text(o, "/note").trim())),
        column("First Seen", 1, |o, now| {
            since(text(o, "/metadata/creationTimestamp"), now)
        }),
        column("Count", 1, |o, _| {
            let counts = ["/series/count", "/deprecatedCount"].into_iter();
            json!(
                counts
                    .filter_map(|at| o.pointer(at)?.as_i64())
                    .next()
                    .unwrap_or(1)
            )
        }),
        column("Name", 1, |o, _| json!(name(o))),
    ]
}

fn last_seen(event: &Value, now: Timestamp) -> Value {
    let times = [
        "/series/lastObservedTime",
        "/deprecatedLastTimestamp",
        "/eventTime",
    ];
    let created = text(event, "/metadata/creationTimestamp");
    let seen = times
        .iter()
        .map(|at| text(event, at))
        .find(|time| !time.is_empty());
    since(seen.unwrap_or(created), now)
}

fn age(object: &Value, now: Timestamp) -> Value {
    since(text(object, "/metadata/creationTimestamp"), now)
}

fn or_none(value: &str) -> Value {
    Value::from(if value.is_empty() { "<none>" } else { value })
}

fn joined(parts: &[String]) -> Value {
    Value::from(if parts.is_empty() {
        "<none>".to_owned()
    } else {
        parts.join(",")
    })
}

fn external_address(service: &Value, _: Timestamp) -> Value {
    if text(service, "/spec/type") == "ExternalName" {
        return json!(text(service, "/spec/externalName"));
    }
    let strings = |pointer| list(service, pointer).iter().filter_map(Value::as_str);
    let mut found: Vec<String> = strings("/spec/externalIPs").map(str::to_owned).collect();
    let ingress = list(service, "/status/loadBalancer/ingress").iter();
    found.extend(ingress.map(|one| format!("{}{}", text(one, "/ip"), text(one, "/hostname"))));
    match (found.is_empty(), text(service, "/spec/type")) {
        (true, "LoadBalancer") => json!("<pending>"),
        _ => joined(&found),
    }
}

fn service_ports(service: &Value, _: Timestamp) -> Value {
    let shown = list(service, "/spec/ports").iter().map(|port| {
        let node = port
            .get("nodePort")
            .map(|node| format!(":{node}"))
            .unwrap_or_default();
        format!("{}{node}/{}", port["port"], text(port, "/protocol"))
    });
    joined(&shown.collect::<Vec<_>>())
}

fn service_selector(service: &Value, _: Timestamp) -> Value {
    let selector = service.pointer("/spec/selector").and_then(Value::as_object);
    let pairs = selector.into_iter().flatten();
    let shown = pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("")));
    joined(&shown.collect::<Vec<_>>())
}

/// kubectl's own rule: no ports is `<unset>`, more than three are told by their number.
fn slice_ports(slice: &Value, _: Timestamp) -> Value {
    let ports = list(slice, "/ports");
    let shown: Vec<String> = ports
        .iter()
        .take(3)
        .map(|port| port["port"].to_string())
        .collect();
    match ports.len() {
        0 => json!("<unset>"),
        many => more(&shown, many),
    }
}

fn slice_endpoints(slice: &Value, _: Timestamp) -> Value {
    let endpoints = list(slice, "/endpoints").iter();
    let first = endpoints.flat_map(|endpoint| list(endpoint, "/addresses").first());
    let all: Vec<String> = first.filter_map(Value::as_str).map(str::to_owned).collect();
    match all.len() {
        0 => json!("<unset>"),
        many => more(&all[..many.min(3)], many),
    }
}

fn more(shown: &[String], all: usize) -> Value {
    match all.saturating_sub(shown.len()) {
        0 => joined(shown),
        rest => json!(format!("{} + {rest} more...", shown.join(","))),
    }
}

fn pod_ready(pod: &Value, _: Timestamp) -> Value {
    let ready = list(pod, "/status/containerStatuses")
        .iter()
        .filter(|one| one["ready"] == true);
    json!(format!(
        "{}/{}",
        ready.count(),
        list(pod, "/spec/containers").len()
    ))
}

fn pod_status(pod: &Value, _: Timestamp) -> Value {
    if !text(pod, "/metadata/deletionTimestamp").is_empty() {
        return json!("Terminating");
    }
    let reason = Some(text(pod, "/status/reason")).filter(|reason| !reason.is_empty());
    json!(reason.unwrap_or_else(|| text(pod, "/status/phase")))
}

fn pod_restarts(pod: &Value, _: Timestamp) -> Value {
    let statuses = list(pod, "/status/containerStatuses").iter();
    json!(
        statuses
            .filter_map(|one| one["restartCount"].as_i64())
            .sum::<i64>()
            .to_string()
    )
}

/// How long ago `time` was, in the words of kubectl; `<unknown>` without a time.
pub(crate) fn since(time: &str, now: Timestamp) -> Value {
    let Ok(time) = time.parse::<Timestamp>() else {
        return json!("<unknown>");
    };
    json!(human(now.as_second() - time.as_second()))
}

/// A duration as kubectl shortens it.
fn human(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let two = |first: i64, unit: &str, second: i64, small: &str| match second {
        0 => format!("{first}{unit}"),
        _ => format!("{first}{unit}{second}{small}"),
    };
    match (seconds, minutes, hours) {
        (..-1, _, _) => "<invalid>".into(),
        (-1..0, _, _) => "0s".into(),
        (0..120, _, _) => format!("{seconds}s"),
        (_, 0..10, _) => two(minutes, "m", seconds % 60, "s"),
        (_, 10..180, _) => format!("{minutes}m"),
        (_, _, 0..8) => two(hours, "h", minutes % 60, "m"),
        (_, _, 8..48) => format!("{hours}h"),
        (_, _, 48..192) => two(hours / 24, "d", hours % 24, "h"),
        (_, _, 192..17_520) => format!("{}d", hours / 24),
        (_, _, 17_520..70_080) => two(hours / 8760, "y", (hours / 24) % 365, "d"),
        _ => format!("{}y", hours / 8760),
    }
}

/// Reads a path such as `.spec.ips`, `.spec.ports[*].port` or
/// `.status.conditions[?(@.type=="Ready")].status`. A dot within a name is written `\.`.
fn parse(path: &str) -> Option<Vec<Step>> {
    let mut rest = path.strip_prefix('$').unwrap_or(path);
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(bracket) = rest.strip_prefix('[') {
            let (inner, after) = bracket.split_once(']')?;
            steps.push(parse_bracket(inner)?);
            rest = after;
        } else {
            let (field, after) = parse_field(rest.strip_prefix('.')?);
            if field.is_empty() {
                return None;
            }
            steps.push(Step::Field(field));
            rest = after;
        }
    }
    Some(steps)
}

fn parse_bracket(inner: &str) -> Option<Step> {
    if inner == "*" {
        return Some(Step::All);
    }
    if let Some(filter) = inner
        .strip_prefix("?(")
        .and_then(|filter| filter.strip_suffix(')'))
    {
        let (path, equals) = filter.split_once("==")?;
        let path = path.trim().strip_prefix("@.")?;
        return Some(Step::Where {
            path: path.split('.').map(str::to_owned).collect(),
            equals: unquoted(equals.trim())?.to_owned(),
        });
    }
    match unquoted(inner) {
        Some(field) => Some(Step::Field(field.to_owned())),
        None => inner.parse().ok().map(Step::Index),
    }
}

fn unquoted(text: &str) -> Option<&str> {
    ['"', '\'']
        .iter()
        .find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote))
}

fn parse_field(rest: &str) -> (String, &str) {
    let mut field = String::new();
    let mut letters = rest.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => field.extend(letters.next().map(|(_, escaped)| escaped)),
            '.' | '[' => return (field, &rest[at..]),
            _ => field.push(letter),
        }
    }
    (field, "")
}

/// The first value that the steps lead to, as kube-apiserver prints only that one.
fn walk<'a>(steps: &[Step], value: &'a Value) -> Option<&'a Value> {
    let Some((step, rest)) = steps.split_first() else {
        return Some(value);
    };
    match step {
        Step::All => value.as_array()?.iter().find_map(|item| walk(rest, item)),
        Step::Field(field) => walk(rest, value.get(field)?),
        Step::Index(index) => walk(rest, value.get(*index)?),
        Step::Where { path, equals } => value
            .as_array()?
            .iter()
            .filter(|item| {
                let found = path.iter().try_fold(*item, |item, field| item.get(field));
                found.and_then(Value::as_str) == Some(equals)
            })
            .find_map(|item| walk(rest, item)),
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
        assert_eq!(
            columns[1].cell(&object, Timestamp::UNIX_EPOCH),
            expected,
            "{path}"
        );
    }

    #[test]
    fn simple_paths() {
        check(".spec.ips", "string", json!("[\"10.0.0.1\"]"));
        check(".spec.n", "integer", json!(3));
        check(".spec.ports[*].port", "integer", json!(80));
        check(".spec.ports[1].port", "integer", json!(81));
        check(
            ".status.conditions[?(@.type==\"Ready\")].status",
            "string",
            json!("False"),
        );
        check(
            ".status.conditions[?(@.type=='Gone')].status",
            "string",
            Value::Null,
        );
        check(r".metadata.annotations.a\.b/c", "string", json!("x"));
        check(".metadata.annotations['a.b/c']", "string", json!("x"));
        assert!(custom(&[json!({"name": "C", "type": "string", "jsonPath": "spec..x"})]).is_err());
    }

    #[test]
    fn durations_read_as_kubectl_writes_them() {
        for (seconds, expected) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (119, "119s"),
            (120, "2m"),
            (150, "2m30s"),
            (700, "11m"),
            (3 * 3600, "3h"),
            (3 * 3600 + 60, "3h1m"),
            (47 * 3600, "47h"),
            (50 * 3600, "2d2h"),
            (300 * 86400, "300d"),
            (3 * 365 * 86400 + 86400, "3y1d"),
            (9 * 365 * 86400, "9y"),
        ] {
            assert_eq!(human(seconds), expected);
        }
    }
}
