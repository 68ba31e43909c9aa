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
        (option::of(any::<([u8; 16], [u8; 8])>()), option::of(any::<FlowName>())),
    )
        .prop_map(
            |(
                (namespace, name, endpoint),
                (protocol, number),
                (workload, address),
                (trace, flow),
            )| {
                Header {
                    service: ServiceKey::parse(&namespace, &name).unwrap(),
                    endpoint: endpoint.map(|text| Hostname::parse(&text).unwrap()),
                    port: PortKey { protocol, number: number.try_into().unwrap() },
                    source: Source { workload, address },
                    trace: trace.map(|(trace, span)| TraceParent { trace, span }),
                    flow,
                }
            },
        )
}

/// What a span's ids take, and a flow's name with its length.
const TRACE: usize = 24;
const FLOW: usize = 17;

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
    fn a_span_of_another_length_is_ignored(header in header(), span in proptest::collection::vec(any::<u8>(), 0..64)) {
        let header = Header { trace: None, flow: None, ..header };
        let mut bytes = encode_header(&header)[PREFIX..].to_vec();
        bytes.pop();
        bytes.push(u8::try_from(span.len()).unwrap());
        bytes.extend(&span);
        let decoded = decode_header(&bytes).unwrap();
        prop_assert_eq!(decoded.trace.is_some(), span.len() == TRACE);
        prop_assert_eq!(Header { trace: None, ..decoded }, header);
    }

    #[test]
    fn fields_of_later_versions_are_ignored(header in header(), flow in any::<FlowName>(), more in proptest::collection::vec(any::<u8>(), 0..64)) {
        let header = Header { flow: Some(flow), ..header };
        let mut bytes = encode_header(&header)[PREFIX..].to_vec();
        bytes.extend(more);
        prop_assert_eq!(decode_header(&bytes), Ok(header));
    }

    #[test]
    fn a_header_that_was_cut_is_told(header in header(), keep in 0.0..1.0) {
        let bytes = &encode_header(&header)[PREFIX..];
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let keep = (bytes.len() as f64 * keep) as usize;
        let decoded = decode_header(&bytes[..keep]);
        let flow = header.flow.map_or(0, |_| FLOW);
        if keep == bytes.len() - flow - 1 - header.trace.map_or(0, |_| TRACE) {
            let older = Header { trace: None, flow: None, ..header };
            prop_assert_eq!(decoded, Ok(older), "as an older gateway writes it");
        } else if keep == bytes.len() - flow {
            prop_assert_eq!(decoded, Ok(Header { flow: None, ..header }), "of a flow without a name");
        } else {
            let truncated = matches!(decoded, Err(WireError::Truncated { .. }));
            prop_assert!(truncated);
        }
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
        trace: Some(TraceParent { trace: [0xff; 16], span: [0xff; 8] }),
        flow: Some([0xff; 16]),
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

proptest! {
    #[test]
    fn a_datagram_reads_as_it_was_written(flow in 0..1_u64 << 62, payload in proptest::collection::vec(any::<u8>(), 0..64)) {
        let whole = encode_datagram(flow, &payload);
        prop_assert_eq!(decode_datagram(whole), Some((flow, payload.into())));
    }

    #[test]
    fn noise_is_no_datagram_or_one_of_some_flow(bytes in proptest::collection::vec(any::<u8>(), 0..16)) {
        let whole = ::bytes::Bytes::from(bytes);
        if let Some((flow, payload)) = decode_datagram(whole.clone()) {
            prop_assert!(flow < 1 << 62 && payload.len() < whole.len());
        }
    }
}

/// RFC 9000, appendix A.1: "the eight-byte sequence 0xc2197c5eff14e88c decodes to the decimal value
/// 151,288,809,941,952,652; the four-byte sequence 0x9d7f3e7d decodes to 494,878,333; the two-byte sequence 0x7bbd
/// decodes to 15,293; and the single byte 0x25 decodes to 37".
#[test]
fn flows_are_named_as_quic_writes_numbers() {
    let examples: [(u64, &[u8]); 4] = [
        (151_288_809_941_952_652, &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c]),
        (494_878_333, &[0x9d, 0x7f, 0x3e, 0x7d]),
        (15_293, &[0x7b, 0xbd]),
        (37, &[0x25]),
    ];
    for (flow, bytes) in examples {
        assert_eq!(encode_datagram(flow, b"")[..], *bytes);
        assert_eq!(
            decode_datagram(::bytes::Bytes::copy_from_slice(bytes)),
            Some((flow, ::bytes::Bytes::new()))
        );
        assert_eq!(
            decode_datagram(::bytes::Bytes::copy_from_slice(&bytes[..bytes.len() - 1])),
            None
        );
    }
}

/// Design, "Gateway": unknown versions "are told which are spoken": an older peer goes on reading headers of TCP
/// connections, and says of others that it does not.
#[test]
fn headers_of_flows_have_a_version_of_their_own() {
    let header = |protocol| Header {
        service: ServiceKey::parse("shop", "web").unwrap(),
        endpoint: None,
        port: PortKey { protocol, number: 53.try_into().unwrap() },
        source: Source::default(),
        trace: None,
        flow: None,
    };
    assert_eq!(encode_header(&header(Protocol::Tcp))[0], 1);
    assert_eq!(encode_header(&header(Protocol::Udp))[0], 2);
}
