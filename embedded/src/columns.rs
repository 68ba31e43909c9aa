//! Pure: what `kubectl get` shows of one object: the columns of core kinds, and those that a CRD
//! asks for by simple JSON paths.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::object::{list, members, name, strings, text};

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

/// The columns of core kinds, as `Title=what`: a JSON path, or the name of a computation below.
/// A title that ends in `+` is shown by `-o wide` only.
const CORE: [(&str, &str); 9] = [
    ("ConfigMap", "Name=name|Data=data|Age=age"),
    ("CustomResourceDefinition", "Name=name|Created At=.metadata.creationTimestamp"),
    (
        "EndpointSlice",
        "Name=name|AddressType=.addressType|Ports=slice ports|Endpoints=endpoints|Age=age",
    ),
    (
        "Event",
        "Last Seen=last seen|Type=.type|Reason=.reason|Object=regarding|Message=.note|Name+=name",
    ),
    ("Lease", "Name=name|Holder=.spec.holderIdentity|Age=age"),
    ("Namespace", "Name=name|Status=.status.phase|Age=age"),
    (
        "Pod",
        "Name=name|Ready=ready|Status=pod status|Restarts=restarts|Age=age|IP+=.status.podIP|\
         Node+=.spec.nodeName|Nominated Node+=.status.nominatedNodeName|Readiness Gates+=none",
    ),
    ("Secret", "Name=name|Type=.type|Data=data|Age=age"),
    (
        "Service",
        "Name=name|Type=.spec.type|Cluster-IP=.spec.clusterIP|External-IP=external address|\
         Port(s)=service ports|Age=age|Selector+=selector",
    ),
];

impl Column {
    /// What this column shows of `object` at `now`.
    pub(crate) fn cell(&self, object: &Value, now: Timestamp) -> Value {
        let found = match &self.cell {
            Cell::Computed(compute) => return compute(object, now),
            Cell::Path(steps) => walk(steps, object),
        };
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
    let columns = CORE.iter().find(|(known, _)| *known == kind).map_or("", |(_, columns)| columns);
    columns.split('|').filter_map(core_column).collect()
}

/// The columns that a CRD's version asks for, behind the name; the age when it asks for none.
/// Fails with the JSON path that cannot be read.
pub(crate) fn custom(wanted: &[Value]) -> Result<Vec<Column>, String> {
    let mut all: Vec<Column> = core_column("Name=name").into_iter().collect();
    if wanted.is_empty() {
        all.extend(core_column("Age=age"));
    }
    for column in wanted {
        let path = text(column, "/jsonPath");
        let cell = Cell::Path(parse(path).ok_or(path)?);
        let priority = column["priority"].as_i64().unwrap_or(0);
        let (name, kind) = (text(column, "/name").to_owned(), text(column, "/type").to_owned());
        all.push(Column { name, kind, priority, cell });
    }
    Ok(all)
}

fn core_column(column: &str) -> Option<Column> {
    let (title, what) = column.split_once('=')?;
    let cell = parse(what).map(Cell::Path).or_else(|| computation(what).map(Cell::Computed))?;
    let name = title.trim_end_matches('+').to_owned();
    Some(Column { name, kind: "core".into(), priority: i64::from(title.ends_with('+')), cell })
}

fn computation(what: &str) -> Option<fn(&Value, Timestamp) -> Value> {
    Some(match what {
        "age" => |object, now| since(text(object, "/metadata/creationTimestamp"), now),
        "data" => |o, _| json!(members(o, "/data").chain(members(o, "/binaryData")).count()),
        "endpoints" => |slice, _| {
            let endpoints = list(slice, "/endpoints").iter();
            let addresses = endpoints.filter_map(|one| strings(one, "/addresses").next());
            first_three(addresses.map(str::to_owned).collect())
        },
        "external address" => external_address,
        "last seen" => last_seen,
        "name" => |object, _| json!(name(object)),
        "none" => |_, _| or_none(""),
        "pod status" => |pod, _| match text(pod, "/metadata/deletionTimestamp") {
            "" => or_none(text(pod, "/status/phase")),
            _ => json!("Terminating"),
        },
        "ready" => |pod, _| {
            let ready =
                list(pod, "/status/containerStatuses").iter().filter(|one| one["ready"] == true);
            json!(format!("{}/{}", ready.count(), list(pod, "/spec/containers").len()))
        },
        "regarding" => |event, _| {
            let kind = text(event, "/regarding/kind").to_lowercase();
            json!(format!("{kind}/{}", text(event, "/regarding/name")))
        },
        "restarts" => |pod, _| {
            let statuses = list(pod, "/status/containerStatuses").iter();
            let restarts: i64 = statuses.filter_map(|one| one["restartCount"].as_i64()).sum();
            json!(restarts.to_string())
        },
        "selector" => |service, _| {
            let pairs = members(service, "/spec/selector");
            joined(pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or(""))))
        },
        "service ports" => |service, _| {
            let ports = list(service, "/spec/ports").iter();
            joined(ports.map(|port| format!("{}/{}", port["port"], text(port, "/protocol"))))
        },
        "slice ports" => |slice, _| {
            first_three(list(slice, "/ports").iter().map(|port| port["port"].to_string()).collect())
        },
        _ => return None,
    })
}

fn last_seen(event: &Value, now: Timestamp) -> Value {
    let times = ["/series/lastObservedTime", "/deprecatedLastTimestamp", "/eventTime"];
    let seen = times.iter().map(|at| text(event, at)).find(|time| !time.is_empty());
    since(seen.unwrap_or_else(|| text(event, "/metadata/creationTimestamp")), now)
}

fn external_address(service: &Value, _: Timestamp) -> Value {
    if text(service, "/spec/type") == "ExternalName" {
        return json!(text(service, "/spec/externalName"));
    }
    let ingress = list(service, "/status/loadBalancer/ingress").iter();
    let ingress = ingress.map(|one| format!("{}{}", text(one, "/ip"), text(one, "/hostname")));
    joined(strings(service, "/spec/externalIPs").map(str::to_owned).chain(ingress))
}

fn or_none(value: &str) -> Value {
    json!(if value.is_empty() { "<none>" } else { value })
}

fn joined(parts: impl Iterator<Item = String>) -> Value {
    or_none(&parts.collect::<Vec<_>>().join(","))
}

/// kubectl's own rule for slices: nothing is `<unset>`, more than three are told by their number.
fn first_three(mut parts: Vec<String>) -> Value {
    let rest = parts.len().saturating_sub(3);
    parts.truncate(3);
    match (parts.is_empty(), rest) {
        (true, _) => json!("<unset>"),
        (false, 0) => json!(parts.join(",")),
        (false, rest) => json!(format!("{} + {rest} more...", parts.join(","))),
    }
}

/// How long ago `time` was, in the words of kubectl; `<unknown>` without a time.
fn since(time: &str, now: Timestamp) -> Value {
    let ago = |time: Timestamp| human(now.as_second() - time.as_second());
    json!(time.parse().map_or_else(|_| "<unknown>".to_owned(), ago))
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
    if let Some(filter) = inner.strip_prefix("?(").and_then(|filter| filter.strip_suffix(')')) {
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
    ['"', '\''].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote))
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
        check(r".metadata.annotations.a\.b/c", "string", json!("x"));
        check(".metadata.annotations['a.b/c']", "string", json!("x"));
        assert!(custom(&[json!({"name": "C", "type": "string", "jsonPath": "spec..x"})]).is_err());
    }

    #[test]
    fn core_columns_are_all_known() {
        for (kind, columns) in CORE {
            assert_eq!(core(kind).len(), columns.split('|').count(), "{kind}");
        }
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
