//! One case on a lab: it runs in a namespace of its own, says how it went, and leaves a folder where it went wrong.

use std::{
    any::Any,
    env,
    fs::OpenOptions,
    io::{self, Write as _},
    panic::{self, AssertUnwindSafe},
    time::Instant,
};

use landbridge_xtask::lab::{Lab, install::RunAs, options::Network};
use serde_json::json;

use crate::{
    gate,
    stage::{Stage, folder},
};

/// Names a file to which each case adds a line: `cargo xtask conformance` makes its table from them.
const REPORT: &str = "LANDBRIDGE_REPORT";

/// A case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// Short, and never given again: `R1`.
    pub(crate) id: &'static str,
    /// What it asks for, as those name it who have asked for it.
    pub(crate) name: &'static str,
    /// What it is about.
    pub(crate) labels: &'static str,
}

/// A case that must fail, so that whoever mends it hears of it and takes it off.
struct Expected {
    id: &'static str,
    network: Network,
    /// Whether it fails each time. What passes by chance is not mended yet.
    always: bool,
    why: &'static str,
}

/// Of a lab, all clusters share a machine's processors.
const STARVED: &str = "gateways' pods that get no processor for more than two seconds, or fail their probes, lose links, and with them calls whose payload was out";

const EXPECTED: &[Expected] = &[
    Expected { id: "API", network: Network::Overlapping, always: false, why: STARVED },
    Expected { id: "Pods", network: Network::Overlapping, always: false, why: STARVED },
    Expected { id: "Roll", network: Network::Overlapping, always: false, why: STARVED },
    Expected {
        id: "O7",
        network: Network::Overlapping,
        always: true,
        why: "the case compares names with the exporter's own addresses, which mean other pods here",
    },
];

/// How a case went.
enum Outcome {
    Passed,
    Failed(String),
    /// It failed, as it had to.
    Expected(&'static str),
    /// It passed, and had to fail.
    Mended(&'static str),
    /// It asks for what is not there in this arrangement.
    Skipped(&'static str),
}

impl Case {
    /// Plays it beside others.
    pub(crate) fn run(&self, body: impl AsyncFnOnce(&Stage<'_>) + Send) {
        let _others = gate::beside_others();
        self.play(body);
    }

    /// Plays it while nobody else is there.
    pub(crate) fn run_alone(&self, body: impl AsyncFnOnce(&Stage<'_>) + Send) {
        let _nobody = gate::alone();
        self.play(body);
    }

    /// The same where the components run as this.
    pub(crate) fn run_alone_as(
        &self,
        run_as: RunAs,
        otherwise: &'static str,
        body: impl AsyncFnOnce(&Stage<'_>) + Send,
    ) {
        let nobody = gate::alone();
        if gate::the_set().installed() == Some(run_as) {
            self.play(body);
        } else {
            self.report(&Outcome::Skipped(otherwise), 0.0);
        }
        drop(nobody);
    }

    fn play(&self, body: impl AsyncFnOnce(&Stage<'_>) + Send) {
        let lab = gate::the_set();
        let namespace = format!("mcs-conformance-{}", rand::random::<u32>());
        let begun = Instant::now();
        let played = panic::catch_unwind(AssertUnwindSafe(|| {
            lab.run(async || {
                let stage = Stage::at(&lab, &namespace).await;
                stage.set().await;
                body(&stage).await;
                Ok(())
            })
            .unwrap();
        }));
        let seconds = begun.elapsed().as_secs_f64();
        let outcome = self.judge(&lab, played);
        let failed = matches!(outcome, Outcome::Failed(_));
        let ended = lab.run(async || {
            let stage = Stage::at(&lab, &namespace).await;
            if failed {
                stage.gather(&folder(&format!("{}-{namespace}", self.id)));
            }
            stage.strike().await;
            Ok(())
        });
        self.report(&outcome, seconds);
        match outcome {
            Outcome::Passed | Outcome::Skipped(_) => {}
            Outcome::Expected(why) => say(&format!("{} fails, as is known: {why}", self.id)),
            Outcome::Mended(why) => {
                panic!("{} passes and must not be expected to fail any more: {why}", self.id)
            }
            Outcome::Failed(why) => {
                let folder = folder(&format!("{}-{namespace}", self.id));
                panic!("{} {}\n{why}\ngathered in {}", self.id, self.name, folder.display())
            }
        }
        ended.unwrap();
    }

    fn judge(&self, lab: &Lab, played: Result<(), Box<dyn Any + Send>>) -> Outcome {
        let network = lab.options().network;
        let mut expected = EXPECTED.iter();
        let expected = expected.find(|one| one.id == self.id && one.network == network);
        match (played, expected) {
            (Ok(()), None) => Outcome::Passed,
            (Ok(()), Some(expected)) if expected.always => Outcome::Mended(expected.why),
            (Ok(()), Some(_)) => Outcome::Passed,
            (Err(_), Some(expected)) => Outcome::Expected(expected.why),
            (Err(panic), None) => Outcome::Failed(words(panic.as_ref())),
        }
    }

    fn report(&self, outcome: &Outcome, seconds: f64) {
        let Some(file) = env::var_os(REPORT) else { return };
        let (result, why) = match outcome {
            Outcome::Passed => ("passed", None),
            Outcome::Failed(why) => ("failed", Some(why.as_str())),
            Outcome::Expected(why) => ("expected", Some(*why)),
            Outcome::Mended(why) => ("mended", Some(*why)),
            Outcome::Skipped(why) => ("skipped", Some(*why)),
        };
        let line = json!({"case": self.id, "name": self.name, "labels": self.labels,
            "result": result, "why": why, "seconds": seconds});
        let file = OpenOptions::new().create(true).append(true).open(file);
        // One write, so that lines of cases that end together stay whole.
        file.unwrap().write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
}

fn say(line: &str) {
    // Where standard error is closed, nobody listens.
    let _ = writeln!(io::stderr(), "{line}");
}
