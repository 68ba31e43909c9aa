//! What is written is read again, and no noise is taken for a header.

use std::net::{IpAddr, SocketAddr};

use proptest::{option, prelude::*};

use super::*;

fn label() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?").unwrap()
}

fn subdomain() -> impl Strategy<Value = String> {
    proptest::collection::vec(label(), 1..4).prop_map(|labels| labels.join("."))
}

fn workload() -> impl Strategy<Value = Workload> {
    (label(), subdomain(), subdomain()).prop_map(|(namespace, account, pod)| Workload {
        namespace: Namespace::parse(&namespace).unwrap(),
        account: ObjectName::parse(&account).unwrap(),
        pod: ObjectName::parse(&pod).unwrap(),
    })
}

fn address() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

fn header() -> impl Strategy<Value = Header> {
    let protocol = prop_oneof![Just(Protocol::Sctp), Just(Protocol::Tcp), Just(Protocol::Udp)];
    (
        (label(), label(), option::of(label())),
        (protocol, 1..=u16::MAX),
        (option::of(workload()), option::of(address())),
    )
        .prop_map(|((namespace, name, endpoint), (protocol, number), (workload, address))| {
            Header {
                service: ServiceKey::parse(&namespace, &name).unwrap(),
                endpoint: endpoint.map(|text| Hostname::parse(&text).unwrap()),
                port: PortKey { protocol, number: number.try_into().unwrap() },
                source: Source { workload, address },
            }
        })
}

fn decode(bytes: &[u8]) -> Result<Header, WireError> {
    let (prefix, rest) = bytes.split_first_chunk().unwrap();
    let length = decode_prefix(*prefix)?;
    assert_eq!(length, rest.len());
    decode_header(rest)
}

proptest! {
    #[test]
    fn a_header_reads_as_it_was_written(header in header()) {
        prop_assert_eq!(decode(&encode_header(&header)), Ok(header));
    }

    #[test]
    fn fields_of_later_versions_are_ignored(header in header(), more in proptest::collection::vec(any::<u8>(), 0..64)) {
        let mut bytes = encode_header(&header)[PREFIX..].to_vec();
        bytes.extend(more);
        prop_assert_eq!(decode_header(&bytes), Ok(header));
    }

    #[test]
    fn a_header_that_was_cut_is_told(header in header(), keep in 0.0..1.0) {
        let bytes = &encode_header(&header)[PREFIX..];
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let keep = (bytes.len() as f64 * keep) as usize;
        let truncated = matches!(decode_header(&bytes[..keep]), Err(WireError::Truncated { .. }));
        prop_assert!(truncated);
    }

    #[test]
    fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..512), code in any::<u8>()) {
        let _ = decode_header(&bytes);
        let _ = decode_control(code, &bytes);
        let _ = decode_answer(code, &bytes);
    }
}

#[test]
fn answers_read_as_they_were_written() {
    for answer in [
        Answer::Connected,
        Answer::Refused(Refusal::ConnectFailed),
        Answer::Refused(Refusal::Denied),
        Answer::Refused(Refusal::Draining),
        Answer::Refused(Refusal::Malformed),
        Answer::Refused(Refusal::NoEndpoint),
        Answer::Refused(Refusal::NotExported),
        Answer::Refused(Refusal::Overloaded),
        Answer::Refused(Refusal::UnsupportedVersion(vec![1, 2])),
    ] {
        let bytes = encode_answer(&answer);
        let (prefix, rest) = bytes.split_first_chunk().unwrap();
        let (code, length) = answer_prefix(*prefix);
        assert_eq!(length, rest.len());
        assert_eq!(decode_answer(code, rest), answer);
    }
    assert_eq!(
        decode_answer(200, b"?"),
        Answer::Refused(Refusal::Denied),
        "only what is known to say so is connected"
    );
}

/// Design, "Gateway": unknown versions "are told which are spoken".
#[test]
fn a_version_that_is_not_spoken_is_told_apart_from_noise() {
    assert_eq!(decode_prefix([9, 0, 40]), Err(WireError::Version(9)));
    assert_eq!(decode_prefix([9, 0xff, 0xff]), Err(WireError::TooLong(0xffff)));
    assert_eq!(decode_prefix([VERSION, 0, 40]), Ok(40));
}

#[test]
fn the_longest_names_fit() {
    let subdomain = vec!["a".repeat(63); 4].join(".")[..253].to_owned();
    let header = Header {
        service: ServiceKey::parse(&"n".repeat(63), &"s".repeat(63)).unwrap(),
        endpoint: Some(Hostname::parse(&"e".repeat(63)).unwrap()),
        port: PortKey { protocol: Protocol::Tcp, number: 65535.try_into().unwrap() },
        source: Source {
            workload: Some(Workload {
                namespace: Namespace::parse(&"n".repeat(63)).unwrap(),
                account: ObjectName::parse(&subdomain).unwrap(),
                pod: ObjectName::parse(&subdomain).unwrap(),
            }),
            address: Some("[2001:db8::1]:1".parse().unwrap()),
        },
    };
    let bytes = encode_header(&header);
    assert!(bytes.len() < MAX_HEADER / 2, "{}", bytes.len());
    assert_eq!(decode(&bytes), Ok(header));
}

#[test]
fn control_messages_read_as_they_were_written() {
    for message in
        [Control::Draining, Control::Hello { spoken: vec![1, 2, 3] }, Control::Unknown(77)]
    {
        let bytes = encode_control(&message);
        assert_eq!(decode_control(bytes[0], &bytes[3..]), Ok(message));
    }
    assert_eq!(decode_control(1, &[4, 1]), Err(WireError::Truncated { field: "versions" }));
}
