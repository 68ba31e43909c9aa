//! Pure: a name and its answers as one piece of memory.
//!
//! Whoever looks a name up compares it first and then copies an answer: side by side they are in one or two lines of the
//! processor's cache, where boxes in boxes are in ten. And of 100,000 names each saves several hundred octets.
//!
//! ```text
//! name's length, number of answers │ name │ a head for each answer │ its ends, its records │ those of the next one …
//! ```

use std::{fmt, sync::Arc};

use crate::name::{Name, Shown};

/// What is known of an answer beforehand: its type, then the number of records and their octets, of both sections.
const HEAD: usize = 5 * 2;
/// The length of the name, which is at most 255, and the number of answers.
const START: usize = 2;
/// What a processor fetches at once, in octets.
const LINE: usize = 64;

/// A name that exists, and its answer for each type of record that it has. One without any has names below it.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct Entry(Arc<[u8]>);

impl Entry {
    /// Puts together what `name` has: by type of record the answer section and the additional one.
    pub(crate) fn new(name: &Name, answers: &[(u16, [Section; 2])]) -> Self {
        let mut packed = vec![small(name.wire().len()), small(answers.len())];
        packed.extend_from_slice(name.wire());
        for (record_type, sections) in answers {
            packed.extend_from_slice(&record_type.to_be_bytes());
            for section in sections {
                for number in [section.ends.len(), section.bytes.len()] {
                    packed.extend_from_slice(&short(number).to_be_bytes());
                }
            }
        }
        for section in answers.iter().flat_map(|(_, sections)| sections) {
            packed.extend(section.ends.iter().flat_map(|end| end.to_be_bytes()));
            packed.extend_from_slice(&section.bytes);
        }
        Self(packed.into())
    }

    /// Its lower-cased name in wire form.
    pub(crate) fn name(&self) -> &[u8] {
        &self.0[START..START + usize::from(self.0[0])]
    }

    /// An octet of each of its first lines of the processor's cache, which are all that most answers are read from.
    pub(crate) fn foresee(&self) -> u8 {
        self.0[0] ^ self.0.get(LINE).copied().unwrap_or(0)
    }

    /// The answer to a question for this type of record.
    pub(crate) fn answer(&self, record_type: u16) -> Option<Answer<'_>> {
        self.answers().find(|(own, _)| *own == record_type).map(|(_, answer)| answer)
    }

    /// The types of record that the name has.
    pub(crate) fn types(&self) -> impl Iterator<Item = u16> {
        self.answers().map(|(record_type, _)| record_type)
    }

    fn answers(&self) -> impl Iterator<Item = (u16, Answer<'_>)> {
        let packed = &self.0[START + usize::from(self.0[0])..];
        let (heads, mut rest) = packed.split_at(HEAD * usize::from(self.0[1]));
        heads.as_chunks::<HEAD>().0.iter().map(move |head| {
            let [record_type, numbers @ ..] = numbers(head);
            let mut sections = numbers.as_chunks::<2>().0.iter().map(|[records, octets]| {
                let (ends, behind) = rest.split_at(2 * usize::from(*records));
                let (bytes, behind) = behind.split_at(usize::from(*octets));
                rest = behind;
                Records { bytes, ends: ends.as_chunks().0 }
            });
            let mut section = || sections.next().unwrap_or_default();
            (record_type, Answer { records: section(), additional: section() })
        })
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Shown(self.name()))?;
        f.debug_list().entries(self.types()).finish()
    }
}

/// Names and the kinds of records that they have are bounded by the DNS far below this.
fn small(number: usize) -> u8 {
    u8::try_from(number).expect("a name has at most 255 octets, and records of a few types")
}

/// Sections are bounded where they are gathered.
fn short(number: usize) -> u16 {
    u16::try_from(number).expect("a section is gathered up to what 16 bits can tell")
}

fn numbers(head: &[u8; HEAD]) -> [u16; HEAD / 2] {
    let mut numbers = [0; HEAD / 2];
    for (number, bytes) in numbers.iter_mut().zip(head.as_chunks().0) {
        *number = u16::from_be_bytes(*bytes);
    }
    numbers
}

/// Records of one section, as they are put together.
#[derive(Debug, Default)]
pub(crate) struct Section {
    bytes: Vec<u8>,
    ends: Vec<u16>,
}

impl Section {
    /// Gathers records, as many as 16 bits can tell the ends of; a message holds no more.
    pub(crate) fn gather(records: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut section = Self::default();
        for record in records {
            let Ok(end) = u16::try_from(section.bytes.len() + record.len()) else {
                break;
            };
            section.bytes.extend_from_slice(&record);
            section.ends.push(end);
        }
        section
    }

    /// How many records.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// How many octets.
    pub(crate) fn octets(&self) -> usize {
        self.bytes.len()
    }
}

/// Records of one section, ready to be copied behind a question.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Records<'a> {
    /// One behind the other.
    pub(crate) bytes: &'a [u8],
    /// Where each ends.
    ends: &'a [[u8; 2]],
}

impl<'a> Records<'a> {
    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The bytes of record `index`; empty where there is none.
    pub(crate) fn record(&self, index: usize) -> &'a [u8] {
        let end = |index: usize| self.ends.get(index).map(|end| u16::from_be_bytes(*end).into());
        let start = index.checked_sub(1).map_or(Some(0), end);
        let bytes = start.zip(end(index)).and_then(|(start, end)| self.bytes.get(start..end));
        bytes.unwrap_or_default()
    }
}

/// What is answered to a question for one type of record.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Answer<'a> {
    /// The answer section.
    pub(crate) records: Records<'a>,
    /// The additional section: left out where it does not fit.
    pub(crate) additional: Records<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(records: &[&[u8]]) -> Section {
        Section::gather(records.iter().map(|record| record.to_vec()))
    }

    fn read<'a>(records: &Records<'a>) -> Vec<&'a [u8]> {
        (0..records.len()).map(|index| records.record(index)).collect()
    }

    #[test]
    fn what_is_put_together_is_read_again() {
        let name = Name::root().child("Web").unwrap();
        let entry = Entry::new(
            &name,
            &[
                (1, [section(&[b"one"]), section(&[])]),
                (33, [section(&[b"seven", b"", b"six"]), section(&[b"more"])]),
            ],
        );
        assert_eq!(entry.name(), b"\x03web\x00");
        assert_eq!(entry.types().collect::<Vec<_>>(), [1, 33]);
        let plain = entry.answer(1).unwrap();
        assert_eq!((read(&plain.records), plain.additional.len()), (vec![&b"one"[..]], 0));
        let ports = entry.answer(33).unwrap();
        assert_eq!(read(&ports.records), [&b"seven"[..], b"", b"six"]);
        assert_eq!((ports.records.bytes, ports.additional.bytes), (&b"sevensix"[..], &b"more"[..]));
        assert_eq!(ports.records.record(3), b"", "there is no fourth one");
        assert!(entry.answer(28).is_none());
        assert_eq!(format!("{entry:?}"), "web.[1, 33]");

        let longest = ["a", "b", "c", "d"].iter().fold(Name::root(), |name, label| {
            name.child(&label.repeat(if *label == "d" { 61 } else { 63 })).unwrap()
        });
        let entry = Entry::new(&longest, &[]);
        assert_eq!((entry.name().len(), entry.types().count()), (255, 0));
    }

    #[test]
    fn a_section_ends_before_its_ends_cannot_be_told() {
        let all = Section::gather(std::iter::repeat_n(vec![7; 28], 3_000));
        assert_eq!((all.len(), all.octets()), (2_340, 65_520));
        let entry = Entry::new(&Name::root(), &[(28, [all, Section::default()])]);
        assert_eq!(entry.answer(28).unwrap().records.record(2_339), [7; 28]);
    }
}
