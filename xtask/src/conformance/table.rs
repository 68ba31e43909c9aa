//! Pure: the report of how the cases went, as Markdown.

use std::fmt::{self, Display, Formatter};

use serde::Deserialize;

/// The cases that the upstream suite has.
const UPSTREAM: usize = 27;

/// How one case went, as the test binary writes it down.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Line {
    case: String,
    name: String,
    labels: String,
    result: String,
    why: Option<String>,
    seconds: f64,
}

/// One arrangement.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) arrangement: String,
    pub(super) seconds: u64,
    pub(super) cases: Vec<Line>,
    /// Why it was not played, or not to its end.
    pub(super) trouble: Option<String>,
}

/// All of it.
#[derive(Clone, Debug)]
pub(super) struct Report {
    /// What wrote it.
    pub(super) command: String,
    pub(super) commit: String,
    /// How many arrangements there are to be, of which `runs` are those that are done.
    pub(super) planned: usize,
    pub(super) runs: Vec<Run>,
    pub(super) versions: Vec<(&'static str, String)>,
}

impl Line {
    fn is_upstream(&self) -> bool {
        !self.labels.starts_with("Beyond")
    }

    /// Where it stands in the table: required ones first, each by its number.
    fn order(&self) -> (usize, usize, &str) {
        let group = ["Required", "Optional"].iter().position(|one| self.labels.starts_with(one));
        let number = self.case.trim_start_matches(char::is_alphabetic).parse();
        (group.unwrap_or(2), number.unwrap_or_default(), &self.case)
    }

    fn is_good(&self) -> bool {
        matches!(self.result.as_str(), "expected" | "passed" | "skipped")
    }
}

impl Run {
    /// Cases that failed, that passed although they were to fail, or of which nothing is known.
    pub(super) fn failed(&self) -> usize {
        let bad = self.cases.iter().filter(|line| !line.is_good()).count();
        let upstream = self.cases.iter().filter(|line| line.is_upstream()).count();
        let cut_off = usize::from(self.trouble.is_some() && upstream >= UPSTREAM);
        bad + UPSTREAM.saturating_sub(upstream) + cut_off
    }

    /// How many of the upstream suite's cases passed.
    fn passed(&self) -> usize {
        let upstream = self.cases.iter().filter(|line| line.is_upstream());
        upstream.filter(|line| line.result == "passed").count()
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# Conformance\n\n\
             The cases of the upstream conformance suite of the Multi-Cluster Services API, written anew in\n\
             `tests/cluster/conformance`, and those beyond it, in `tests/cluster/beyond`, on whole clusters of a lab.\n\
             Written by `{}` at {}.",
            self.command, self.commit
        )?;
        let (done, planned) = (self.runs.len(), self.planned);
        if done < planned {
            writeln!(f, "**Not finished**: {done} of {planned} arrangements.")?;
        }
        writeln!(f, "\n| what | version |\n| --- | --- |")?;
        for (what, version) in &self.versions {
            writeln!(f, "| {what} | {version} |")?;
        }
        for run in &self.runs {
            write!(f, "\n{run}")?;
        }
        Ok(())
    }
}

impl Display for Run {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "## {}\n\n{} of {UPSTREAM} passed, in {} s with the lab.",
            self.arrangement,
            self.passed(),
            self.seconds
        )?;
        if let Some(trouble) = &self.trouble {
            let first = trouble.lines().next().unwrap_or_default();
            writeln!(f, "\n**Not played to its end**: {first}")?;
        }
        if self.cases.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\n| case | asks for | labels | result | seconds |\n| --- | --- | --- | --- | --- |"
        )?;
        let mut cases: Vec<&Line> = self.cases.iter().collect();
        cases.sort_by_key(|line| line.order());
        for line in cases {
            let Line { case, name, labels, result, seconds, .. } = line;
            let why = match (&line.why, result.as_str()) {
                (Some(why), "expected") => format!("fails, as is known: {why}"),
                (Some(why), "skipped") => format!("not played: {why}"),
                (Some(why), "mended") => format!("**passed**, and was to fail: {why}"),
                (Some(why), _) => format!("**failed**: {}", why.lines().next().unwrap_or_default()),
                (None, result) => result.to_owned(),
            };
            writeln!(f, "| {case} | {name} | {labels} | {} | {seconds:.1} |", cell(&why))?;
        }
        Ok(())
    }
}

/// Text that cannot end a cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(case: &str, labels: &str, result: &str, why: Option<&str>) -> Line {
        Line {
            case: case.into(),
            name: format!("{case} asks"),
            labels: labels.into(),
            result: result.into(),
            why: why.map(str::to_owned),
            seconds: 1.25,
        }
    }

    fn run(cases: Vec<Line>) -> Run {
        Run { arrangement: "2 clusters, shared".into(), seconds: 7, cases, trouble: None }
    }

    fn report(runs: Vec<Run>) -> String {
        let [command, commit] = ["cargo xtask conformance", "abc"].map(str::to_owned);
        Report { command, commit, planned: 2, runs, versions: vec![("Linux", "6".into())] }
            .to_string()
    }

    #[test]
    fn a_report_of_which_arrangements_are_missing_says_so() {
        let one = || run(vec![line("R1", "Required", "passed", None)]);
        let half = report(vec![one()]);
        assert!(half.contains("**Not finished**: 1 of 2 arrangements."), "{half}");
        let whole = report(vec![one(), one()]);
        assert!(!whole.contains("Not finished"), "{whole}");
        assert!(whole.contains("at abc.\n\n| what | version |\n| --- | --- |\n| Linux | 6 |"));
        assert!(whole.contains("with the lab.\n\n| case |"), "{whole}");
    }

    #[test]
    fn an_arrangement_that_did_not_come_up_says_why_and_counts_as_failed() {
        let away = Run { trouble: Some("etcd: away\nmore".into()), ..run(Vec::new()) };
        assert_eq!(away.failed(), 27);
        let text = report(vec![away]);
        assert!(text.contains("**Not played to its end**: etcd: away\n"), "{text}");
        assert!(!text.contains("| case |"), "{text}");
    }

    #[test]
    fn cases_stand_in_order_and_say_why_they_failed() {
        let run = run(vec![
            line("UDP", "Beyond", "passed", None),
            line("O7", "Optional, DNS", "expected", Some("other pods")),
            line("R10", "Required", "failed", Some("a | b\nmore")),
            line("R2", "Required", "passed", None),
        ]);
        let text = run.to_string();
        let rows: Vec<&str> = text.lines().filter(|row| row.contains("asks |")).collect();
        assert_eq!(
            rows,
            [
                "| R2 | R2 asks | Required | passed | 1.2 |",
                "| R10 | R10 asks | Required | **failed**: a \\| b | 1.2 |",
                "| O7 | O7 asks | Optional, DNS | fails, as is known: other pods | 1.2 |",
                "| UDP | UDP asks | Beyond | passed | 1.2 |",
            ]
        );
        assert!(text.contains("1 of 27 passed"), "{text}");
    }

    #[test]
    fn a_case_of_which_nothing_is_known_counts_as_failed() {
        let all = |result: &'static str| {
            (1..=27).map(move |n| line(&format!("R{n}"), "Required", result, None))
        };
        assert_eq!(run(all("passed").collect()).failed(), 0);
        assert_eq!(run(all("passed").skip(2).collect()).failed(), 2);
        assert_eq!(run(all("mended").collect()).failed(), 27);
    }
}
