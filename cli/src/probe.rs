//! Pure: what the two ends of `landbridge verify` say to each other, and what the calling end reports: whether names resolve,
//! and whether the right cluster answers over TCP and UDP.
//!
//! | module | holds |
//! | --- | --- |
//! | [`serve`] | the end that answers |
//! | [`call`] | the end that calls, as any pod does |

pub(crate) mod call;
pub(crate) mod serve;

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Where the answering end listens, over TCP and UDP.
pub(crate) const PORT: u16 = 8080;
/// How much a question may be: it names the caller's attempt.
const MAX_QUESTION: usize = 64;
/// How much an answer may be: a question and a cluster id with it.
const MAX_ANSWER: usize = 160;
/// What an answer begins with, so that nobody else's is taken for one.
const MARK: &str = "landbridge-probe";

/// What one pod has found out.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Called {
    /// Whether the cluster's own DNS gives the zone to our server.
    pub(crate) zone: Step,
    pub(crate) calls: Vec<Call>,
}

/// How the calls of one cluster went.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Call {
    /// The cluster that was called.
    pub(crate) to: String,
    /// How long it took until its name resolved.
    pub(crate) name: Step,
    /// How long a call took over every address of the name.
    pub(crate) tcp: Step,
    pub(crate) udp: Step,
}

/// How one step went.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Step {
    Failed { says: String },
    Held { micros: u64 },
    Untried,
}

impl Step {
    pub(crate) fn held(after: Duration) -> Self {
        Self::Held { micros: u64::try_from(after.as_micros()).unwrap_or(u64::MAX) }
    }

    pub(crate) const fn holds(&self) -> bool {
        matches!(self, Self::Held { .. })
    }
}

impl Call {
    fn untried(to: &str) -> Self {
        let [name, tcp, udp] = [Step::Untried, Step::Untried, Step::Untried];
        Self { to: to.to_owned(), name, tcp, udp }
    }

    pub(crate) const fn holds(&self) -> bool {
        self.name.holds() && self.tcp.holds() && self.udp.holds()
    }
}

/// What is answered to a question; none to what is no question.
fn answer(cluster: &str, question: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(question).ok()?.strip_suffix('\n')?;
    let is_question = !text.is_empty()
        && text.len() < MAX_QUESTION
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    is_question.then(|| format!("{MARK} {cluster} {text}\n"))
}

/// Whether an answer is this cluster's, to this question.
///
/// # Errors
/// A sentence for people.
fn check(cluster: &str, question: &str, answer: &[u8]) -> Result<(), String> {
    if answer.is_empty() {
        return Err("closed without an answer".into());
    }
    let text = String::from_utf8_lossy(answer);
    let words: Vec<&str> = text.split_whitespace().collect();
    match words[..] {
        [MARK, by, to] if by == cluster && to == question.trim_end() => Ok(()),
        [MARK, by, _] if by != cluster => Err(format!("{by} answered, which is another cluster")),
        _ => Err("something else than the probe answered".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_answered_with_the_name_of_the_cluster_and_the_question() {
        assert_eq!(answer("berlin", b"paris-1\n").unwrap(), "landbridge-probe berlin paris-1\n");
        for odd in [&b""[..], b"\n", b"paris-1", b"a b\n", b"\xff\n", &[b'a'; 65]] {
            assert_eq!(answer("berlin", odd), None, "{odd:?}");
        }
        let longest = format!("{}\n", "q".repeat(MAX_QUESTION - 1));
        let cluster = "c".repeat(55);
        assert!(answer(&cluster, longest.as_bytes()).unwrap().len() <= MAX_ANSWER);
    }

    #[test]
    fn another_clusters_answer_is_no_answer() {
        let answered = |text: &[u8]| check("berlin", "paris-1\n", text);
        assert_eq!(answered(b"landbridge-probe berlin paris-1\n"), Ok(()));
        for (text, says) in [
            (&b"landbridge-probe tokyo paris-1\n"[..], "tokyo answered, which is another cluster"),
            (b"landbridge-probe berlin paris-2\n", "something else than the probe answered"),
            (b"HTTP/1.1 400 Bad Request\r\n", "something else than the probe answered"),
            (b"", "closed without an answer"),
        ] {
            assert_eq!(answered(text).unwrap_err(), says);
        }
    }
}
