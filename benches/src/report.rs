//! What a benchmark has found: a table for people, and JSON that every published figure comes from.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    figures::{Goal, Measured, median},
    rounds::Rounds,
};

/// One promise, and what was measured of it.
#[derive(Clone, Debug, Serialize)]
pub struct Promise {
    /// What it is about, and in which unit.
    pub name: String,
    /// What is promised.
    pub goal: String,
    /// The median of the rounds; none where there was nothing to compare with.
    pub median: Option<f64>,
    /// The worst round.
    pub worst: Option<f64>,
    /// Whether the median is as promised; none where there was nothing to compare with.
    pub holds: Option<bool>,
}

/// Everything that a benchmark has found.
#[derive(Debug, Serialize)]
pub struct Report {
    bench: String,
    promises: Vec<Promise>,
    rows: Vec<Map<String, Value>>,
    /// What rows say, in the order in which they say it.
    #[serde(skip)]
    columns: Vec<&'static str>,
    missing: Vec<String>,
    machine: Value,
}

impl Report {
    /// Nothing yet, of the benchmark `bench`.
    #[must_use]
    pub fn new(bench: &str, rounds: Rounds) -> Self {
        Self {
            bench: bench.to_owned(),
            promises: Vec::new(),
            rows: Vec::new(),
            columns: Vec::new(),
            missing: Vec::new(),
            machine: machine(rounds),
        }
    }

    /// What the rounds have given for a promise.
    pub fn promise(&mut self, name: &str, goal: Goal, figures: &[f64]) {
        let median = median(figures);
        self.promises.push(Promise {
            name: name.to_owned(),
            goal: goal.to_string(),
            median,
            worst: goal.worst(figures),
            holds: median.map(|median| goal.holds(median)),
        });
    }

    /// The same of a system's figures as parts of its peer's. Where the peer has none, it is told to be missing and the
    /// promise is not compared.
    pub fn compare(&mut self, name: &str, goal: Goal, measured: &Measured, ours: &str, peer: &str) {
        let ratios = measured.ratios(ours, peer);
        if ratios.is_empty() {
            self.missing(peer);
        }
        self.promise(name, goal, &ratios);
    }

    /// A line of the table: what was measured, of whom, in which round. It is printed at once, for those who wait.
    pub fn row<const N: usize>(&mut self, cells: [(&'static str, Value); N]) {
        let said: Vec<String> =
            cells.iter().map(|(name, value)| format!("{name} {}", cell(value))).collect();
        print(&said.join(", "));
        for (name, _) in &cells {
            if !self.columns.contains(name) {
                self.columns.push(name);
            }
        }
        self.rows.push(cells.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());
    }

    /// A peer that was not there to compare with.
    pub fn missing(&mut self, peer: &str) {
        if !self.missing.iter().any(|known| known == peer) {
            self.missing.push(peer.to_owned());
        }
    }

    /// Prints the tables and writes the JSON; returns where it is.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn finish(mut self) -> io::Result<PathBuf> {
        self.machine["loadAfter"] = json!(load());
        print(&self.table());
        let folder = target().join("bench");
        fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{}.json", self.bench));
        fs::write(&path, serde_json::to_string_pretty(&self)? + "\n")?;
        print(&format!("written: {}", path.display()));
        Ok(path)
    }

    fn table(&self) -> String {
        let line = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
        let mut lines = vec![format!("\n## {}\n", self.bench)];
        if !self.rows.is_empty() {
            lines.push(line(self.columns.iter().map(ToString::to_string).collect()));
            lines.push(line(vec!["---".to_owned(); self.columns.len()]));
            lines.extend(self.rows.iter().map(|row| {
                line(
                    self.columns
                        .iter()
                        .map(|name| row.get(*name).map_or_else(String::new, cell))
                        .collect(),
                )
            }));
            lines.push(String::new());
        }
        lines.extend([
            "| promise | goal | median | worst | |".to_owned(),
            "| --- | --- | --- | --- | --- |".to_owned(),
        ]);
        let figure =
            |figure: Option<f64>| figure.map_or_else(|| "–".to_owned(), |f| format!("{f:.3}"));
        lines.extend(self.promises.iter().map(|promise| {
            let holds = match promise.holds {
                Some(true) => "holds",
                Some(false) => "MISSED",
                None => "not compared",
            };
            let (median, worst) = (figure(promise.median), figure(promise.worst));
            format!("| {} | {} | {median} | {worst} | {holds} |", promise.name, promise.goal)
        }));
        lines.extend(self.missing.iter().map(|peer| format!("\nnot compared with {peer}")));
        lines.join("\n")
    }
}

/// A value as a person reads it.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::Number(number) if number.is_f64() => {
            format!("{:.3}", number.as_f64().unwrap_or_default())
        }
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

#[expect(clippy::print_stdout, reason = "a benchmark is a program that people run")]
fn print(line: &str) {
    println!("{line}");
}

/// Where cargo puts what it builds: a benchmark runs from `<target>/<profile>/deps`.
fn target() -> PathBuf {
    let own = env::current_exe().unwrap_or_default();
    let target =
        own.ancestors().nth(3).filter(|_| own.parent().is_some_and(|f| f.ends_with("deps")));
    target.map_or_else(|| PathBuf::from("target"), Path::to_path_buf)
}

/// How many programs want to run here, on average of the last minute: figures of a busy machine are worse than its own.
fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// Where and when it was measured.
fn machine(rounds: Rounds) -> Value {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory.lines().next().and_then(|line| line.split_whitespace().nth(1));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    json!({
        "cores": std::thread::available_parallelism().map(usize::from).unwrap_or(0),
        "cpu": model.map(|(_, model)| model),
        "kernel": kernel.trim(),
        "loadBefore": load(),
        "memoryKiB": memory.and_then(|memory| memory.parse::<u64>().ok()),
        "quick": rounds.quick,
        "rounds": rounds.count,
        "unixSeconds": now.as_secs(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_is_missing_is_named_and_its_promise_is_not_compared() {
        let mut report = Report::new("dns", Rounds { count: 3, quick: false });
        report.promise("CPU per query", Goal::AtMost(1.0), &[1.2, 0.9, 0.8]);
        report.compare(
            "CPU per query / NSD",
            Goal::AtMost(1.0),
            &Measured::default(),
            "ours",
            "NSD",
        );
        report.promise("rate", Goal::AtLeast(2.0), &[1.0]);
        report.row([("system", json!("ours")), ("p99", json!(0.5))]);
        report.row([("system", json!("Knot")), ("p50", json!(1)), ("p99", json!(null))]);
        report.missing("NSD");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(
            json["promises"],
            json!([
                {"name": "CPU per query", "goal": "≤ 1", "median": 0.9, "worst": 1.2, "holds": true},
                {"name": "CPU per query / NSD", "goal": "≤ 1", "median": null, "worst": null, "holds": null},
                {"name": "rate", "goal": "≥ 2", "median": 1.0, "worst": 1.0, "holds": false},
            ])
        );
        assert_eq!(json["missing"], json!(["NSD"]));
        let rows =
            json!([{"system": "ours", "p99": 0.5}, {"system": "Knot", "p50": 1, "p99": null}]);
        assert_eq!((&json["bench"], &json["rows"]), (&json!("dns"), &rows));
        let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["bench", "machine", "missing", "promises", "rows"]);
        let table = report.table();
        assert!(table.contains("| rate | ≥ 2 | 1.000 | 1.000 | MISSED |"), "{table}");
        assert!(table.contains("| system | p99 | p50 |"), "{table}");
        assert!(table.contains("| Knot | – | 1 |"), "{table}");
        assert!(table.contains("not compared with NSD"), "{table}");
    }
}
