//! The two ways of reading a packet read the same.

use proptest::prelude::*;

use super::*;
use crate::fixture::packet;

/// RFC 6891 section 6.2.3: "Values lower than 512 MUST be treated as equal to 512."
#[test]
fn a_plain_question_is_read() {
    let packet = packet("Web.shop.svc AAAA", Some(100));
    let query = plain(&packet).unwrap();
    assert_eq!(
        (query.id, query.record_type, query.class, query.recursion_desired),
        (4711, 28, 1, true)
    );
    assert_eq!(&*query.name, b"\x03Web\x04shop\x03svc\x0aclusterset\x05local\x00");
    assert_eq!(
        query.edns,
        Some(Edns { cookie: Cookie::None, dnssec_ok: false, payload: 512, version: 0 })
    );
}

/// RFC 1035 section 2.3.4: a name has at most 255 octets, a label at most 63.
#[test]
fn names_are_bounded() {
    let mut query = packet(". A", None)[..12].to_vec();
    for length in [63, 63, 63, 61] {
        query.push(length);
        query.extend(std::iter::repeat_n(b'a', usize::from(length)));
    }
    query.extend_from_slice(&[0, 0, 1, 0, 1]);
    assert_eq!(plain(&query).unwrap().name.len(), 255);
    assert_eq!(odd(&query), Odd::Query(plain(&query).unwrap().into_owned()));

    let mut longer = query.clone();
    longer[12 + 3 * 64] = 62;
    longer.insert(12 + 3 * 64 + 1, b'a');
    assert_eq!(plain(&longer), None);
    assert!(matches!(odd(&longer), Odd::Reject { rcode: Rcode::FormErr, .. }));
}

impl Query<'_> {
    fn into_owned(self) -> Query<'static> {
        Query {
            class: self.class,
            edns: self.edns,
            id: self.id,
            name: Cow::Owned(self.name.into_owned()),
            record_type: self.record_type,
            recursion_desired: self.recursion_desired,
        }
    }
}

fn label() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 1..20),
        1 => proptest::collection::vec(any::<u8>(), 60..64),
    ]
}

fn option() -> impl Strategy<Value = Vec<u8>> {
    (0..16_u16, proptest::collection::vec(any::<u8>(), 0..12)).prop_map(|(code, data)| {
        let length = u16::try_from(data.len()).unwrap();
        [code.to_be_bytes().to_vec(), length.to_be_bytes().to_vec(), data].concat()
    })
}

prop_compose! {
    /// Queries that are nearly always good, some of them odd.
    fn query()(
        id in any::<u16>(),
        flags in prop_oneof![Just(0x0100_u16), any::<u16>().prop_map(|flags| flags & 0x01ff)],
        labels in proptest::collection::vec(label(), 0..6),
        record_type in any::<u16>(),
        class in any::<u16>(),
        opt in proptest::option::of((prop_oneof![0..600_u16, any::<u16>()], any::<u32>(), proptest::collection::vec(option(), 0..3))),
        behind in proptest::collection::vec(any::<u8>(), 0..2),
    ) -> Vec<u8> {
        let mut packet = Vec::new();
        for number in [id, flags, 1, 0, 0, u16::from(opt.is_some())] {
            packet.extend_from_slice(&number.to_be_bytes());
        }
        for label in labels {
            packet.push(u8::try_from(label.len()).unwrap());
            packet.extend(label);
        }
        packet.push(0);
        packet.extend_from_slice(&record_type.to_be_bytes());
        packet.extend_from_slice(&class.to_be_bytes());
        if let Some((payload, ttl, options)) = opt {
            let options = options.concat();
            packet.extend_from_slice(&[0, 0, 41]);
            packet.extend_from_slice(&payload.to_be_bytes());
            packet.extend_from_slice(&ttl.to_be_bytes());
            packet.extend_from_slice(&u16::try_from(options.len()).unwrap().to_be_bytes());
            packet.extend(options);
        }
        packet.extend(behind);
        packet
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Design, "DNS": "A test holds all ways to the same answers."
    #[test]
    fn both_ways_read_the_same(packet in query(), cut in 0..4_usize, flip in any::<Option<(u16, u8)>>()) {
        let mut packet = packet;
        packet.truncate(packet.len() - cut.saturating_sub(2).min(packet.len()));
        if let Some((at, bits)) = flip {
            let at = usize::from(at) % packet.len();
            packet[at] ^= bits;
        }
        if let Some(query) = plain(&packet) {
            prop_assert_eq!(odd(&packet), Odd::Query(query.into_owned()));
        }
    }
}
