//! Pure: a Corefile with our stanza, and without it. What is not ours stays as it is, byte for byte.
//!
//! Ours stands at the top, between two remarks. Whoever names the zone elsewhere answers for it already: then nothing is
//! changed, since a stanza of ours would take the names from it.

use std::{fmt, net::SocketAddr};

use thiserror::Error;

const BEGIN: &str =
    "# Made by `landbridge dns enable`, and taken out by `landbridge dns disable`.\n";
const END: &str = "# The end of what `landbridge dns enable` has made.\n";
/// What DNS servers listen on unless another port is written.
const PORT: u16 = 53;

/// Why a Corefile is left as it is.
#[derive(Debug, Eq, Error, PartialEq)]
pub(crate) enum Refusal {
    /// Half of our stanza is gone.
    #[error(
        "line {line} of the Corefile begins what `landbridge dns enable` has made, and its end is missing: take the rest of it out by hand"
    )]
    Half {
        /// Where it begins.
        line: usize,
    },
    /// Somebody else answers for the zone.
    #[error(
        "line {line} of the Corefile names {zone} already ({text:?}): take that out first, or leave it if it shall go on answering"
    )]
    Foreign {
        /// Which zone.
        zone: String,
        /// Where.
        line: usize,
        /// What stands there.
        text: String,
    },
}

/// What is asked where for a zone.
#[derive(Clone, Debug)]
pub(crate) struct Stanza<'a> {
    pub(crate) zone: &'a str,
    pub(crate) servers: &'a [SocketAddr],
}

impl fmt::Display for Stanza<'_> {
    /// Without a cache: answers say themselves how long they may be kept, and what came just now is asked for at once.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{PORT} {{\n    errors\n    forward .", self.zone)?;
        for server in self.servers {
            match server.port() {
                PORT => write!(f, " {}", server.ip())?,
                _ => write!(f, " {server}")?,
            }
        }
        f.write_str("\n}\n")
    }
}

/// The Corefile with the stanza. One that has it already is the same; one that has an older one of ours has this one.
///
/// # Errors
/// [`Refusal`]: where somebody else answers for the zone.
pub(crate) fn enabled(corefile: &str, stanza: &Stanza<'_>) -> Result<String, Refusal> {
    let rest = disabled(corefile)?;
    if let Some((line, text)) = names(corefile, &rest, stanza.zone) {
        return Err(Refusal::Foreign { zone: stanza.zone.into(), line, text });
    }
    Ok(format!("{BEGIN}{stanza}{END}{rest}"))
}

/// The Corefile without a stanza of ours: what it was before, whatever was changed in the rest of it since.
///
/// # Errors
/// [`Refusal::Half`], where it cannot be told what is ours.
pub(crate) fn disabled(corefile: &str) -> Result<String, Refusal> {
    let Some((before, ours)) = corefile.split_once(BEGIN) else {
        return Ok(corefile.to_owned());
    };
    match ours.split_once(END) {
        Some((_, after)) => Ok(format!("{before}{after}")),
        None => Err(Refusal::Half { line: before.lines().count() + 1 }),
    }
}

/// The first line of what is not ours that names the zone, as it is numbered in the whole.
fn names(whole: &str, rest: &str, zone: &str) -> Option<(usize, String)> {
    let ours = whole.lines().count() - rest.lines().count();
    let named = |line: &str| {
        // A remark goes from a word that begins with # to the end of its line.
        let words = line.split_whitespace().take_while(|word| !word.starts_with('#'));
        words.flat_map(|word| word.split(',')).any(|word| is_zone(word, zone))
    };
    let (at, line) = rest.lines().enumerate().find(|(_, line)| named(line))?;
    Some((at + 1 + ours, line.trim().to_owned()))
}

/// `dns://clusterset.local.:53` is the zone as well.
fn is_zone(word: &str, zone: &str) -> bool {
    let name = word.split_once("://").map_or(word, |(_, name)| name);
    let name = name.split_once(':').map_or(name, |(name, _)| name);
    name.trim_end_matches('.').eq_ignore_ascii_case(zone)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KUBEADM: &str = ".:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
    cache 30
    loop
    reload
    loadbalance
}
";

    fn with(corefile: &str, servers: &[&str]) -> Result<String, Refusal> {
        let servers: Vec<SocketAddr> = servers.iter().map(|text| text.parse().unwrap()).collect();
        enabled(corefile, &Stanza { zone: "clusterset.local", servers: &servers })
    }

    #[test]
    fn the_stanza_asks_our_servers_and_caches_nothing() {
        let text = with(KUBEADM, &["10.96.0.53:53", "[fd00::35]:53", "192.0.2.1:5300"]).unwrap();
        let stanza = "clusterset.local:53 {\n    errors\n    forward . 10.96.0.53 fd00::35 192.0.2.1:5300\n}\n";
        assert_eq!(text, format!("{BEGIN}{stanza}{END}{KUBEADM}"));
    }

    /// "put in and taken out touching nothing else".
    #[test]
    fn what_was_there_is_there_again_byte_for_byte() {
        for corefile in [
            KUBEADM,
            "",
            "\n\n",
            ".:53 {\n}",
            "\t# no end of line",
            ".:53 {\r\n}\r\n",
            "# é\n.:53 {\n}\n",
        ] {
            let once = with(corefile, &["10.96.0.53:53"]).unwrap();
            assert_eq!(with(&once, &["10.96.0.53:53"]).unwrap(), once, "it is idempotent");
            let moved = with(&once, &["10.96.0.54:53"]).unwrap();
            assert_eq!(moved.matches("clusterset.local:53").count(), 1);
            assert_eq!(disabled(&moved).unwrap(), corefile);
            assert_eq!(disabled(corefile).unwrap(), corefile);
        }
    }

    #[test]
    fn what_others_have_changed_meanwhile_stays() {
        let text = with(KUBEADM, &["10.96.0.53:53"]).unwrap();
        let text = format!("# mine\n{}", text.replace("cache 30", "cache 60"));
        let changed = format!("# mine\n{}", KUBEADM.replace("cache 30", "cache 60"));
        assert_eq!(disabled(&text).unwrap(), changed);
    }

    #[test]
    fn a_corefile_in_which_somebody_else_answers_is_left_as_it_is() {
        for (line, place) in [
            ("clusterset.local:53 {\n    forward . 10.0.0.1\n}\n", 1),
            ("# other\nDNS://ClusterSet.Local. {\n}\n", 2),
            (".:53,clusterset.local {\n}\n", 1),
            (
                ".:53 {\n    kubernetes cluster.local clusterset.local {\n        multicluster clusterset.local\n    }\n}\n",
                2,
            ),
            (".:53 {\n    multicluster clusterset.local\n}\n", 2),
        ] {
            let Err(Refusal::Foreign { line, .. }) = with(line, &["10.96.0.53:53"]) else {
                panic!("{line}");
            };
            assert_eq!(line, place);
        }
        // Beside ours its line is told as it stands in the whole.
        let ours = with(KUBEADM, &["10.96.0.53:53"]).unwrap();
        let both = format!("{ours}clusterset.local {{\n}}\n");
        let told = with(&both, &["10.96.0.53:53"]).unwrap_err().to_string();
        assert!(told.contains(&format!("line {} of", ours.lines().count() + 1)), "{told}");
        assert!(told.contains("\"clusterset.local {\""), "{told}");
        for other in [
            "# clusterset.local",
            ".:53 {\n    log a.clusterset.local\n} # clusterset.local\n",
            "myclusterset.local {\n}\n",
        ] {
            assert!(with(other, &["10.96.0.53:53"]).is_ok(), "{other}");
        }
    }

    #[test]
    fn half_a_stanza_is_not_guessed_at() {
        let text = with(KUBEADM, &["10.96.0.53:53"]).unwrap().replace(END, "");
        let refusal = Refusal::Half { line: 1 };
        assert_eq!(disabled(&text), Err(refusal));
        assert_eq!(with(&text, &["10.96.0.53:53"]), Err(Refusal::Half { line: 1 }));
    }
}
