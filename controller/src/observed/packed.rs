//! Pure: the endpoints of a slice in as few bytes as they take, since a cluster may have hundreds of thousands.
//!
//! ```text
//!   endpoint = form, texts there, address, uid, text …
//!   text     = how much it shares with the begin of the same text of the endpoint before, and with its end,
//!              length of what is between, what is between
//! ```
//!
//! The pods of a service differ in the last letters of their names, and their nodes in a few in the middle: some 40 bytes
//! an endpoint, where its Kubernetes type takes a kilobyte. What has no room in this form is kept as JSON, so that nothing is ever lost; so is what a slice says besides.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use k8s_openapi::api::{
    core::v1::ObjectReference,
    discovery::v1::{Endpoint, EndpointConditions, EndpointSlice},
};
use uuid::Uuid;

// Bits of the form.
/// What the endpoint takes calls for, as [`conditions`] counts it.
const CONDITIONS: u8 = 0b0001_1111;
/// In place of conditions: the endpoint follows as JSON.
const JSON: u8 = CONDITIONS;
/// The address has 16 bytes, not 4.
const V6: u8 = 1 << 5;
/// There is a target.
const TARGET: u8 = 1 << 6;
/// The target is a Pod.
const POD: u8 = 1 << 7;

// The texts, by place.
const ADDRESS: usize = 0;
const HOSTNAME: usize = 1;
const NAME: usize = 2;
const NAMESPACE: usize = 3;
const NODE: usize = 4;
const UID: usize = 5;
const ZONE: usize = 6;
const TEXTS: usize = 7;
/// Beside the bits of the texts: the uid of the target is a UUID and has 16 bytes.
const UUID: u8 = 1 << 7;

/// The texts of the endpoint before, by place.
type Last = [Vec<u8>; TEXTS];

/// A slice.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct PackedSlice {
    /// All but its endpoints, as JSON.
    rest: Box<[u8]>,
    endpoints: Packed,
}

impl PackedSlice {
    pub(crate) fn new(mut slice: EndpointSlice) -> Self {
        let endpoints = Packed::new(&std::mem::take(&mut slice.endpoints));
        // What was read from JSON can be written as such.
        let rest = serde_json::to_vec(&slice).unwrap_or_default();
        Self { rest: rest.into_boxed_slice(), endpoints }
    }

    /// The slice as it was.
    pub(crate) fn whole(&self) -> EndpointSlice {
        let mut slice = self.without_endpoints();
        slice.endpoints = self.endpoints.iter().collect();
        slice
    }

    /// What it says besides.
    pub(crate) fn without_endpoints(&self) -> EndpointSlice {
        serde_json::from_slice(&self.rest).unwrap_or_default()
    }
}

/// The endpoints of a slice, in order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Packed(Box<[u8]>);

impl Packed {
    fn new(endpoints: &[Endpoint]) -> Self {
        let (mut bytes, mut last) = (Vec::new(), Last::default());
        for endpoint in endpoints {
            match Form::of(endpoint) {
                Some(form) => form.write(&mut last, &mut bytes),
                None => {
                    // What was read from JSON can be written as such.
                    let json = serde_json::to_vec(endpoint).unwrap_or_default();
                    bytes.push(JSON);
                    write_length(json.len(), &mut bytes);
                    bytes.extend(json);
                }
            }
        }
        Self(bytes.into_boxed_slice())
    }

    fn iter(&self) -> impl Iterator<Item = Endpoint> {
        let (mut bytes, mut last) = (&*self.0, Last::default());
        std::iter::from_fn(move || read(&mut bytes, &mut last))
    }
}

/// An endpoint that has a form.
struct Form<'a> {
    first: u8,
    ip: Option<IpAddr>,
    texts: [Option<&'a str>; TEXTS],
    uuid: Option<Uuid>,
}

impl<'a> Form<'a> {
    /// None where the endpoint says something that there is no room for. A field that Kubernetes adds does not
    /// compile here until it is thought about.
    fn of(endpoint: &'a Endpoint) -> Option<Self> {
        let Endpoint {
            addresses,
            conditions,
            deprecated_topology: None,
            hints: None,
            hostname,
            node_name,
            target_ref,
            zone,
        } = endpoint
        else {
            return None;
        };
        let [address] = &addresses[..] else {
            return None;
        };
        let ip = address.parse::<IpAddr>().ok().filter(|ip| ip.to_string() == *address);
        let mut form = Self {
            first: condition_bits(conditions.as_ref()),
            ip,
            texts: [None; TEXTS],
            uuid: None,
        };
        if ip.is_some_and(|ip| ip.is_ipv6()) {
            form.first |= V6;
        }
        form.texts[ADDRESS] = ip.is_none().then_some(address);
        form.texts[HOSTNAME] = hostname.as_deref();
        form.texts[NODE] = node_name.as_deref();
        form.texts[ZONE] = zone.as_deref();
        if let Some(target) = target_ref {
            form.aim(target)?;
        }
        Some(form)
    }

    fn aim(&mut self, target: &'a ObjectReference) -> Option<()> {
        let ObjectReference {
            api_version: None,
            field_path: None,
            kind,
            name,
            namespace,
            resource_version: None,
            uid,
        } = target
        else {
            return None;
        };
        self.first |= match kind.as_deref() {
            None => TARGET,
            Some("Pod") => TARGET | POD,
            Some(_) => return None,
        };
        self.texts[NAME] = name.as_deref();
        self.texts[NAMESPACE] = namespace.as_deref();
        let uid = uid.as_deref();
        self.uuid = uid.and_then(|uid| {
            let parsed = Uuid::try_parse(uid).ok()?;
            (parsed.hyphenated().to_string() == uid).then_some(parsed)
        });
        self.texts[UID] = uid.filter(|_| self.uuid.is_none());
        Some(())
    }

    fn write(&self, last: &mut Last, bytes: &mut Vec<u8>) {
        let there = self.texts.iter().enumerate();
        let there = there.filter(|(_, text)| text.is_some()).map(|(at, _)| 1 << at);
        let there = there.fold(self.uuid.map_or(0, |_| UUID), |there: u8, bit: u8| there | bit);
        bytes.extend([self.first, there]);
        match self.ip {
            Some(IpAddr::V4(ip)) => bytes.extend(ip.octets()),
            Some(IpAddr::V6(ip)) => bytes.extend(ip.octets()),
            None => {}
        }
        if let Some(uuid) = &self.uuid {
            bytes.extend(uuid.as_bytes());
        }
        for (text, last) in self.texts.iter().zip(last) {
            let Some(text) = text.map(str::as_bytes) else {
                continue;
            };
            let begin = text.iter().zip(&*last).take_while(|(a, b)| a == b).count();
            let ends = text[begin..].iter().rev().zip(last[begin..].iter().rev());
            let end = ends.take_while(|(a, b)| a == b).count();
            let between = &text[begin..text.len() - end];
            write_length(begin, bytes);
            write_length(end, bytes);
            write_length(between.len(), bytes);
            bytes.extend(between);
            last.clear();
            last.extend(text);
        }
    }
}

fn read(bytes: &mut &[u8], last: &mut Last) -> Option<Endpoint> {
    let [first] = read_array(bytes)?;
    if first & CONDITIONS == JSON {
        let json = read_bytes(bytes)?;
        return serde_json::from_slice(json).ok();
    }
    let [there] = read_array(bytes)?;
    let is_there = |at: usize| there & (1 << at) != 0;
    let mut address = None;
    if !is_there(ADDRESS) {
        address = Some(if first & V6 == 0 {
            Ipv4Addr::from(read_array::<4>(bytes)?).to_string()
        } else {
            Ipv6Addr::from(read_array::<16>(bytes)?).to_string()
        });
    }
    let mut uid = None;
    if there & UUID != 0 {
        uid = Some(Uuid::from_bytes(read_array(bytes)?).hyphenated().to_string());
    }
    let mut texts: [Option<String>; TEXTS] = Default::default();
    for (at, (text, last)) in texts.iter_mut().zip(last).enumerate() {
        if is_there(at) {
            let begin = read_length(bytes)?;
            let end = read_length(bytes)?;
            let between = read_bytes(bytes)?;
            let end = last.split_off(last.len().checked_sub(end)?);
            last.truncate(begin);
            last.extend(between);
            last.extend(end);
            *text = String::from_utf8(last.clone()).ok();
        }
    }
    let [text_address, hostname, name, namespace, node_name, text_uid, zone] = texts;
    let target = || ObjectReference {
        kind: (first & POD != 0).then(|| "Pod".to_owned()),
        name,
        namespace,
        uid: uid.or(text_uid),
        ..ObjectReference::default()
    };
    Some(Endpoint {
        addresses: vec![address.or(text_address)?],
        conditions: conditions(first & CONDITIONS),
        hostname,
        node_name,
        target_ref: (first & TARGET != 0).then(target),
        zone,
        ..Endpoint::default()
    })
}

/// A number below [`JSON`]: 0 where there are none, else three answers of "unknown, no, yes" after 1.
fn condition_bits(conditions: Option<&EndpointConditions>) -> u8 {
    let answer = |known: Option<bool>| known.map_or(0, |yes| 1 + u8::from(yes));
    conditions.map_or(0, |all| {
        1 + answer(all.ready) + 3 * answer(all.serving) + 9 * answer(all.terminating)
    })
}

fn conditions(bits: u8) -> Option<EndpointConditions> {
    let bits = bits.checked_sub(1)?;
    let answer = |number: u8| (number % 3).checked_sub(1).map(|yes| yes == 1);
    Some(EndpointConditions {
        ready: answer(bits),
        serving: answer(bits / 3),
        terminating: answer(bits / 9),
    })
}

/// Seven bits a byte, the last one without the eighth.
fn write_length(mut length: usize, bytes: &mut Vec<u8>) {
    loop {
        let low = length.to_le_bytes()[0] & 0x7f;
        length >>= 7;
        if length == 0 {
            bytes.push(low);
            return;
        }
        bytes.push(low | 0x80);
    }
}

fn read_length(bytes: &mut &[u8]) -> Option<usize> {
    let mut length = 0_usize;
    for shift in (0..usize::BITS).step_by(7) {
        let [byte] = read_array(bytes)?;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(length);
        }
    }
    None
}

fn read_array<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = bytes.split_first_chunk()?;
    *bytes = tail;
    Some(*head)
}

fn read_bytes<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = read_length(bytes)?;
    let (head, tail) = bytes.split_at_checked(length)?;
    *bytes = tail;
    Some(head)
}

#[cfg(test)]
mod tests {
    use proptest::{option, prelude::*};
    use serde_json::json;

    use super::*;

    fn pods(count: usize) -> Vec<Endpoint> {
        let pod = |at: usize| {
            serde_json::from_value(json!({
                "addresses": [format!("10.244.{}.{}", at / 256, at % 256)],
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "nodeName": format!("ip-10-0-{}-{}.eu-central-1.compute.internal", at % 7, at % 250),
                "zone": format!("eu-central-1{}", ["a", "b", "c"][at % 3]),
                "targetRef": {"kind": "Pod", "namespace": "shop",
                    "name": format!("web-7d4b9c6f5d-{:05x}", at * 7919 % 0xf_ffff),
                    "uid": Uuid::from_u128(at as u128 * 0x9e37_79b9_7f4a_7c15).to_string()},
            }))
            .unwrap()
        };
        (0..count).map(pod).collect()
    }

    /// "250k endpoints in ≤ 0.1 × the memory of kube's reflector", which keeps 0.8 to 1.4 kB an endpoint.
    #[test]
    fn a_usual_endpoint_takes_less_than_50_bytes() {
        let pods = pods(1_000);
        let packed = Packed::new(&pods);
        assert!(packed.0.len() < 50 * pods.len(), "{} bytes each", packed.0.len() / pods.len());
        assert_eq!(packed.iter().collect::<Vec<_>>(), pods);
        assert_eq!(packed, Packed::new(&pods), "what says the same is the same");
    }

    #[test]
    fn a_slice_is_whole_again_with_all_that_it_says() {
        for slice in [
            json!({"addressType": "IPv4", "endpoints": []}),
            json!({"addressType": "IPv6", "endpoints": [{"addresses": ["fd00::1", "fd00::2"], "hints": {"forZones": [{"name": "a"}]}}], "ports": []}),
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}],
                "metadata": {"namespace": "shop", "name": "web-paris-v4", "labels": {"a": "b"}, "annotations": {},
                    "creationTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x"], "uid": "1"},
                "ports": [{"name": "", "protocol": "TCP", "port": 80, "appProtocol": "kubernetes.io/h2c"}, {}]}),
        ] {
            let slice: EndpointSlice = serde_json::from_value(slice).unwrap();
            let packed = PackedSlice::new(slice.clone());
            assert_eq!(packed.whole(), slice);
            assert_eq!(packed, PackedSlice::new(slice), "what says the same is the same");
        }
    }

    #[test]
    fn what_is_cut_off_ends_and_does_not_panic() {
        let whole = Packed::new(&pods(3));
        for length in 0..whole.0.len() {
            let cut = Packed(whole.0[..length].into());
            assert!(cut.iter().count() < 3);
        }
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof!["", "[a-c]{1,3}", "pod-[a-f0-9]{5}", "[äöé→]{0,3}", "x{200,300}"]
    }

    fn address() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<Ipv4Addr>().prop_map(|ip| ip.to_string()),
            any::<Ipv6Addr>().prop_map(|ip| ip.to_string()),
            Just("FD00::1".to_owned()),
            text(),
        ]
    }

    fn target() -> impl Strategy<Value = ObjectReference> {
        let uid = prop_oneof![
            any::<u128>().prop_map(|bits| Uuid::from_u128(bits).to_string()),
            any::<u128>().prop_map(|bits| Uuid::from_u128(bits).to_string().to_uppercase()),
            text(),
        ];
        let kind = prop_oneof![Just("Pod".to_owned()), text()];
        let fields = (option::of(kind), option::of(text()), option::of(text()), option::of(uid));
        (fields, option::weighted(0.1, text())).prop_map(
            |((kind, name, namespace, uid), field_path)| ObjectReference {
                field_path,
                kind,
                name,
                namespace,
                uid,
                ..ObjectReference::default()
            },
        )
    }

    prop_compose! {
        fn endpoint()(
            addresses in prop::collection::vec(address(), 0..3),
            conditions in option::of((any::<Option<bool>>(), any::<Option<bool>>(), any::<Option<bool>>())),
            topology in option::weighted(0.1, prop::collection::btree_map(text(), text(), 0..2)),
            (hostname, node_name, zone) in (option::of(text()), option::of(text()), option::of(text())),
            target_ref in option::of(target()),
        ) -> Endpoint {
            Endpoint {
                addresses,
                conditions: conditions.map(|(ready, serving, terminating)| EndpointConditions {
                    ready, serving, terminating,
                }),
                deprecated_topology: topology,
                hints: None,
                hostname,
                node_name,
                target_ref,
                zone,
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost(endpoints in prop::collection::vec(endpoint(), 0..6)) {
            let packed = Packed::new(&endpoints);
            prop_assert_eq!(packed.iter().collect::<Vec<_>>(), endpoints);
        }
    }
}
