//! Pure: domain names in wire form (RFC 1035 section 3.1), lower-cased.
//!
//! A name is kept as the bytes that a question holds, so that looking one up is comparing bytes. Only names that
//! fit the limits of the DNS can be made; Kubernetes allows services, clusters and hostnames whose names together
//! do not fit.

use std::{borrow::Borrow, fmt, sync::Arc};

/// The most octets of a name in wire form (RFC 1035 section 2.3.4).
pub(crate) const MAX_NAME: usize = 255;
/// The most octets of a label (RFC 1035 section 2.3.4).
pub(crate) const MAX_LABEL: usize = 63;
/// Where the name of the only question begins in a message: behind the header (RFC 1035 section 4.1).
pub(crate) const QUESTION_AT: usize = 12;

/// A lower-cased name, with the root's empty label at its end.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Name(Arc<[u8]>);

impl Name {
    /// The root.
    pub(crate) fn root() -> Self {
        Self(Arc::from([0]))
    }

    /// The name `label` below this one; none where it is longer than the DNS allows, or the label empty.
    pub(crate) fn child(&self, label: &str) -> Option<Self> {
        let length = u8::try_from(label.len()).ok()?;
        let fits =
            (1..=MAX_LABEL).contains(&label.len()) && 1 + label.len() + self.0.len() <= MAX_NAME;
        fits.then(|| {
            let mut wire = Vec::with_capacity(1 + label.len() + self.0.len());
            wire.push(length);
            wire.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
            wire.extend_from_slice(&self.0);
            Self(wire.into())
        })
    }

    /// The bytes.
    pub(crate) fn wire(&self) -> &[u8] {
        &self.0
    }

    /// The name as it is written in a message whose question is `question`: as far as the two end alike, a pointer
    /// to the question (RFC 1035 section 4.1.4).
    pub(crate) fn compressed(&self, question: &Self) -> Vec<u8> {
        let (own, asked) = (self.wire(), question.wire());
        for start in label_starts(own) {
            let shared = &own[start..];
            let Some(at) = asked.len().checked_sub(shared.len()) else {
                continue;
            };
            if asked[at..] == *shared && label_starts(asked).any(|label| label == at) {
                let mut written = own[..start].to_vec();
                written.extend_from_slice(&pointer(at));
                return written;
            }
        }
        own.to_vec()
    }
}

/// A pointer to the byte `at` of the question's name.
pub(crate) fn pointer(at: usize) -> [u8; 2] {
    // A name has at most 255 octets, so the sum never reaches the two bits that make it a pointer.
    let target = u16::try_from(QUESTION_AT + at.min(MAX_NAME)).unwrap_or(0);
    (0xc000 | target).to_be_bytes()
}

/// Where the labels of an uncompressed name begin, without the root's. Ends early where the bytes are no name.
pub(crate) fn label_starts(wire: &[u8]) -> impl Iterator<Item = usize> {
    let mut next = 0;
    std::iter::from_fn(move || {
        let start = next;
        let length = usize::from(*wire.get(start)?);
        if length == 0 || length > MAX_LABEL {
            return None;
        }
        next = start + 1 + length;
        Some(start)
    })
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Shown(&self.0))
    }
}

/// A name in wire form, from whomever, as text: with a dot at the end, and what is no plain character as its number
/// (RFC 1035 section 5.1), so that nobody writes lines of his own into a log.
pub(crate) struct Shown<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut labels = label_starts(self.0).peekable();
        if labels.peek().is_none() {
            return f.write_str(".");
        }
        for start in labels {
            let end = start + 1 + usize::from(self.0[start]);
            for &byte in self.0.get(start + 1..end).unwrap_or_default() {
                match byte {
                    b'.' | b'\\' => write!(f, "\\{}", char::from(byte))?,
                    b'!'..=b'~' => write!(f, "{}", char::from(byte))?,
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
            f.write_str(".")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.trim_end_matches('.')
            .rsplit('.')
            .try_fold(Name::root(), |parent, label| parent.child(label))
            .unwrap()
    }

    #[test]
    fn a_name_is_what_a_question_holds_in_lower_case() {
        assert_eq!(name("Web.shop.").wire(), b"\x03web\x04shop\x00");
        assert_eq!(name("Web.shop.").to_string(), "web.shop.");
        assert_eq!(Name::root().to_string(), ".");
    }

    /// RFC 1035 section 5.1: "\\DDD where each D is a digit is the octet corresponding to the decimal number".
    #[test]
    fn a_shown_name_has_no_octet_of_its_own_in_a_log() {
        assert_eq!(Shown(b"\x04a\nb.\x02\xff\\\x00").to_string(), r"a\010b\..\255\\.");
        assert_eq!(Shown(b"\x09cut").to_string(), ".", "what is not there is not shown");
    }

    /// RFC 1035 section 2.3.4: "labels: 63 octets or less; names: 255 octets or less".
    #[test]
    fn what_the_dns_cannot_hold_is_no_name() {
        let long = "a".repeat(63);
        assert!(Name::root().child(&"a".repeat(64)).is_none());
        assert!(Name::root().child("").is_none());
        let three = name(&[long.as_str(); 3].join("."));
        assert_eq!(three.wire().len(), 193);
        assert_eq!(three.child(&"a".repeat(61)).unwrap().wire().len(), 255);
        assert!(three.child(&"a".repeat(62)).is_none());
    }

    /// RFC 1035 section 4.1.4: "an entire domain name or a list of labels at the end of a domain name is replaced
    /// with a pointer to a prior occurrence of the same name".
    #[test]
    fn a_shared_ending_becomes_a_pointer_into_the_question() {
        let question = name("_pg._tcp.db.shop.svc.zone");
        let written = |text: &str| name(text).compressed(&question);
        assert_eq!(written("db-0.paris.db.shop.svc.zone"), b"\x04db-0\x05paris\xc0\x15");
        assert_eq!(written("_pg._tcp.db.shop.svc.zone"), b"\xc0\x0c");
        assert_eq!(written("zone"), [0xc0, 12 + 4 + 5 + 3 + 5 + 4]);
        assert_eq!(written("elsewhere"), b"\x09elsewhere\x00");
        // The length of a label, 49, is also the digit 1: an ending is of whole labels.
        let label = "a".repeat(49);
        let question = name(&format!("x1{label}.zone"));
        let compressed = name(&format!("{label}.zone")).compressed(&question);
        assert_eq!(compressed.len(), 1 + 49 + 2);
    }
}
